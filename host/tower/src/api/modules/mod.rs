//! `/modules`: uploaded components.

mod find;
mod list;
mod tag;
mod upload;

use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::Module;
use tower_domain::name::Name;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::name;
use super::problem::{Problem, codes};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(upload::upload_module, list::list_modules))
        .routes(routes!(find::find_modules))
        .routes(routes!(find::find_module, tag::move_tag))
        .routes(routes!(find::find_module_wit))
}

fn no_such_module(what: impl std::fmt::Display) -> Problem {
    Problem::new(&codes::NO_SUCH_MODULE, format!("there is no module {what}"))
        .with_hint("GET /api/v1/modules lists them; POST /api/v1/modules?name=… uploads one")
}

/// The module that a tag or a digest stands for, and the tag if it was one.
async fn resolve(api: &Api, module_name: &Name, tag_or_digest: &str) -> Result<(Module, Option<Name>), Problem> {
    let (reference, tag) = if tag_or_digest.starts_with("sha256:") {
        let digest = tag_or_digest.parse::<Digest>().map_err(|error| Problem::new(&codes::BAD_NAME, error.to_string()))?;
        (ModuleRef::Digest(digest), None)
    } else {
        let tag = name(tag_or_digest)?;
        (ModuleRef::Tag { name: module_name.clone(), tag: tag.clone() }, Some(tag))
    };
    let digest = api.stores().modules.resolve(&reference).await?.ok_or_else(|| no_such_module(&reference))?;
    let module = api.stores().modules.find(&digest).await?.ok_or_else(|| no_such_module(digest))?;
    Ok((module, tag))
}
