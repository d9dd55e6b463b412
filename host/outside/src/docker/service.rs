//! Containers that serve: they listen on a port, are healthy, and take steps by POST.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use tokio::time::Instant;
use tower_domain::codes;
use tower_domain::step::{Step, StepEnd, StepHost};

use super::command::{cancelled, failed, not_started};
use super::container::Container;
use super::settings::DockerSettings;
use super::unavailable;
use crate::answer::deliver;
use crate::ends::retryable;
use crate::wire::Handed;

/// How long a service may take to answer that it is healthy, each time.
const HEALTH_MAX: Duration = Duration::from_secs(2);

/// How long it is waited before a service is asked again: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A container that serves, up and healthy.
pub(crate) struct Service {
    pub(crate) container: Container,
    url: Url,
}

fn not_ready(container: &Container, what: &str) -> StepEnd {
    let tail = container.logs.tail();
    let said = if tail.is_empty() { String::new() } else { format!("; it wrote: {tail}") };
    retryable(codes::CONTAINER_NOT_READY.name, format!("{what}{said}"))
}

/// Starts a container that was created, and waits until it is healthy.
pub(crate) async fn ready(container: Container, port: u16, client: &Client, settings: &DockerSettings) -> Result<Service, StepEnd> {
    let attached = container.engine.attach(&container.name, false).await.map_err(|error| unavailable(&error))?;
    let logs = container.logs.clone();
    container.spawn(async move { logs.read(attached.output).await });
    container.engine.start(&container.name).await.map_err(|error| not_started(&error))?;
    let healthy = async {
        let address = up(&container, settings.up_within).await?;
        let base = Url::parse(&format!("http://{address}:{port}/")).map_err(|error| not_ready(&container, &format!("its address is {address}: {error}")))?;
        healthy(&container, &base, client, settings.healthy_within).await?;
        Ok(base)
    };
    let url = tokio::select! {
        url = healthy => url?,
        ended = container.ended() => return Err(match ended {
            Ok(exit) => failed(&container, exit),
            Err(error) => unavailable(&error),
        }),
    };
    Ok(Service { container, url })
}

async fn up(container: &Container, within: Duration) -> Result<String, StepEnd> {
    let (until, mut pause) = (Instant::now() + within, AGAIN.0);
    loop {
        if let Some(address) = container.address().await.map_err(|error| unavailable(&error))? {
            return Ok(address);
        }
        if Instant::now() >= until {
            return Err(not_ready(container, &format!("the container is not up after {within:?}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

async fn healthy(container: &Container, base: &Url, client: &Client, within: Duration) -> Result<(), StepEnd> {
    let (until, mut pause) = (Instant::now() + within, AGAIN.0);
    loop {
        let said = match health(client, base).await {
            Ok(StatusCode::OK) => return Ok(()),
            Ok(status) => format!("it answers {status}"),
            Err(error) => crate::answer::chain(&error),
        };
        if Instant::now() >= until {
            return Err(not_ready(container, &format!("GET /health is not answered with 200 after {within:?}: {said}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN.1);
    }
}

async fn health(client: &Client, base: &Url) -> reqwest::Result<StatusCode> {
    let url = base.join("health").unwrap_or_else(|_| base.clone());
    Ok(client.get(url).timeout(HEALTH_MAX).send().await?.status())
}

impl Service {
    /// Whether it is still as one needs it.
    pub(crate) async fn is_healthy(&self, client: &Client) -> bool {
        matches!(health(client, &self.url).await, Ok(StatusCode::OK))
    }

    /// Hands it a step, and waits for its end; never ends if the service ends the step with a call.
    pub(crate) async fn run(&self, step: &Step, handed: &Handed, host: &dyn StepHost, client: &Client) -> StepEnd {
        let url = self.url.join("v1/tasks/execute").unwrap_or_else(|_| self.url.clone());
        let answered = deliver(client, url, step, handed, "container");
        let pass_on = async {
            cancelled(host).await;
            // One that goes on to serve others hears of it by asking.
            if step.definition.spec.container.as_ref().is_none_or(|spec| spec.mode == tower_domain::container::Mode::Ephemeral) {
                let _ = self.container.engine.signal(&self.container.name, "SIGTERM").await;
            }
            std::future::pending::<StepEnd>().await
        };
        let ended = async {
            match self.container.ended().await {
                Ok(_) if matches!(host.signal(), tower_domain::step::Signal::Cancel(_)) => StepEnd::Cancelled,
                Ok(exit) => failed(&self.container, exit),
                Err(error) => unavailable(&error),
            }
        };
        let first = async {
            match answered.await {
                // The connection breaks when the container ends, which says more.
                StepEnd::Failed(failure) if failure.error.code == codes::WORKER_UNREACHABLE.name => {
                    match tokio::time::timeout(HEALTH_MAX, self.container.engine.ended(&self.container.name)).await {
                        Ok(_) => std::future::pending().await,
                        Err(_) => StepEnd::Failed(failure),
                    }
                }
                end => end,
            }
        };
        tokio::select! {
            end = first => end,
            end = ended => end,
            end = pass_on => end,
        }
    }
}
