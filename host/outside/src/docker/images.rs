//! The image of a container: there, or fetched, or why not.

use tower_domain::code_ref::ImageRef;
use tower_domain::codes;
use tower_domain::container::Pull;
use tower_domain::step::StepEnd;

use super::engine::{Engine, EngineError};
use super::unavailable;
use crate::ends::{fatal, retryable};

/// An image that is there.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// What the definition calls it.
    pub(crate) name: String,
    /// Its content, exactly: a tag may point elsewhere a moment later.
    pub(crate) id: String,
    /// What it is called where it was fetched from.
    pub(crate) digest: Option<String>,
}

/// Name and tag, as a pull has them. Without a tag the engine would fetch all that there are.
fn name_and_tag(image: &str) -> (&str, &str) {
    if image.contains('@') {
        return (image, "");
    }
    let last = image.rfind('/').map_or(0, |at| at + 1);
    match image[last..].find(':') {
        Some(colon) => (&image[..last + colon], &image[last + colon + 1..]),
        None => (image, "latest"),
    }
}

async fn find(engine: &Engine, image: &ImageRef) -> Result<Option<Image>, StepEnd> {
    let found = engine.image(image.as_str()).await.map_err(|error| unavailable(&error))?;
    Ok(found.and_then(|found| {
        let digest = found.repo_digests.unwrap_or_default().into_iter().next();
        Some(Image { name: image.to_string(), id: found.id?, digest })
    }))
}

/// The image, fetched if the policy says so. How long that may take is the caller's to say.
pub(crate) async fn ready(engine: &Engine, image: &ImageRef, pull: Pull) -> Result<Image, StepEnd> {
    let there = match pull {
        Pull::Missing | Pull::Never => find(engine, image).await?,
        Pull::Always => None,
    };
    match (there, pull) {
        (Some(there), _) => Ok(there),
        (None, Pull::Never) => Err(missing(image, "it is not on this machine, and the definition says that it is never fetched")),
        (None, Pull::Missing | Pull::Always) => {
            let (name, tag) = name_and_tag(image.as_str());
            engine.pull(name, tag).await.map_err(|error| refused(image, &error))?;
            find(engine, image).await?.ok_or_else(|| missing(image, "it was fetched, and is gone"))
        }
    }
}

pub(crate) fn missing(image: &ImageRef, why: &str) -> StepEnd {
    fatal(codes::IMAGE_MISSING.name, format!("the image {image} is missing: {why}"))
}

/// What a pull that failed is: registries say in words whether there is such an image at all.
fn refused(image: &ImageRef, error: &EngineError) -> StepEnd {
    match error {
        EngineError::Away { .. } | EngineError::NoNetwork(_) => unavailable(error),
        EngineError::Missing(why) => missing(image, why),
        EngineError::Refused(why) if ["manifest unknown", "not found", "access denied", "does not exist"].iter().any(|said| why.contains(said)) => {
            missing(image, why)
        }
        EngineError::Refused(why) => retryable(codes::IMAGE_PULL_FAILED.name, format!("the image {image} could not be fetched: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_always_names_one_image() {
        for (image, name, tag) in [
            ("tool", "tool", "latest"),
            ("tool:1.2", "tool", "1.2"),
            ("registry.example:5000/team/tool", "registry.example:5000/team/tool", "latest"),
            ("registry.example:5000/team/tool:1", "registry.example:5000/team/tool", "1"),
            ("tool@sha256:00", "tool@sha256:00", ""),
        ] {
            assert_eq!(name_and_tag(image), (name, tag));
        }
    }
}
