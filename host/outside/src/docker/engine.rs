//! The Docker Engine: the calls that are made of it, each within a time, and what became of them.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ImageInspect, NetworkCreateRequest};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt;
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

/// How long the engine may take for a call that is not a pull.
const CALL_MAX: Duration = Duration::from_secs(30);

/// How long it may take to say that it is there.
const PING_MAX: Duration = Duration::from_secs(5);

/// How long it may be away before what it ran counts as lost: one that hangs may come back.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// How long a pull may say nothing at its beginning.
const PULL_MAX: Duration = Duration::from_secs(600);

/// Oldest version of its API that is spoken: 1.41, of Docker 20.10.
const API_MINOR_MIN: usize = 41;

/// Why a call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// It is not there, or does not answer.
    #[error("the Docker Engine at {socket} does not answer: {why}")]
    Away {
        /// Where it should be.
        socket: String,
        /// In its words, or the system's.
        why: String,
    },
    /// It has no such thing.
    #[error("the Docker Engine has no such thing: {0}")]
    Missing(String),
    /// It says no.
    #[error("the Docker Engine refuses: {0}")]
    Refused(String),
    /// It makes no network for the tower's containers.
    #[error(
        "the Docker Engine makes no network for this tower's containers: {0}; if it has no addresses left, `docker network prune` removes networks that \
         nothing uses, and `default-address-pools` in its daemon.json gives it more"
    )]
    NoNetwork(String),
}

/// The engine at a socket, whether it is there just now or not.
#[derive(Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
    docker: RwLock<Option<Docker>>,
    up: watch::Sender<bool>,
    doubt: Notify,
}

impl Engine {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket, docker: RwLock::new(None), up: watch::Sender::new(false), doubt: Notify::new() }
    }

    /// Whether it answered when it was last asked.
    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Ends when it has been away for [`AWAY_MAX`].
    async fn fell(&self) {
        let mut up = self.up.subscribe();
        loop {
            // The sender is here, so that neither can fail before.
            let _ = up.wait_for(|up| !up).await;
            if tokio::time::timeout(AWAY_MAX, up.wait_for(|up| *up)).await.is_err() {
                return;
            }
        }
    }

    /// Ends when a call has come to nothing, so that it should be looked whether it is there.
    pub(crate) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    fn away(&self, why: impl ToString) -> EngineError {
        self.doubt.notify_one();
        EngineError::Away { socket: self.socket.display().to_string(), why: why.to_string() }
    }

    fn down(&self, why: impl ToString) -> EngineError {
        self.up.send_replace(false);
        EngineError::Away { socket: self.socket.display().to_string(), why: why.to_string() }
    }

    /// Asks whether it is there. Answers whether it was not before.
    pub(crate) async fn look(&self) -> Result<bool, EngineError> {
        let known = self.docker.read().clone();
        let asked = tokio::time::timeout(PING_MAX, async {
            match known {
                Some(docker) => docker.ping().await.map(|_| docker),
                None => Docker::connect_with_unix(&self.socket.display().to_string(), CALL_MAX.as_secs(), API_DEFAULT_VERSION)?.negotiate_version().await,
            }
        });
        let docker = match asked.await {
            Ok(Ok(docker)) => docker,
            Ok(Err(error)) => return Err(self.down(crate::answer::chain(&error))),
            Err(_) => return Err(self.down(format!("nothing within {PING_MAX:?}"))),
        };
        let version = docker.client_version();
        if (version.major_version, version.minor_version) < (1, API_MINOR_MIN) {
            let spoken = format!("{}.{}", version.major_version, version.minor_version);
            return Err(self.down(format!("it speaks version {spoken} of its API, and 1.{API_MINOR_MIN} (Docker 20.10) is the oldest that will do")));
        }
        *self.docker.write() = Some(docker);
        Ok(!self.up.send_replace(true))
    }

    async fn call<'a, T, F>(&self, what: impl FnOnce(Docker) -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>> + 'a,
    {
        let docker = self.docker.read().clone().ok_or_else(|| self.away("it has not answered yet"))?;
        match tokio::time::timeout(CALL_MAX, what(docker)).await {
            Ok(answer) => answer.map_err(|error| self.error(error)),
            Err(_) => Err(self.away(format!("no answer within {CALL_MAX:?}"))),
        }
    }

    fn error(&self, error: Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => EngineError::Missing(message),
            Error::DockerResponseServerError { message, .. } => EngineError::Refused(message),
            Error::DockerStreamError { error } => EngineError::Refused(error),
            Error::JsonDataError { message, .. } => EngineError::Refused(message),
            error => self.away(crate::answer::chain(&error)),
        }
    }

    pub(crate) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<(), EngineError> {
        let options = query::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        self.call(|docker| async move { docker.create_container(Some(options), body).await }).await.map(drop)
    }

    /// What it writes from now on, and where its input goes.
    pub(crate) async fn attach(&self, name: &str, stdin: bool) -> Result<AttachContainerResults, EngineError> {
        let options = query::AttachContainerOptions { stream: true, stdin, stdout: true, stderr: true, ..Default::default() };
        self.call(|docker| async move { docker.attach_container(name, Some(options)).await }).await
    }

    pub(crate) async fn start(&self, name: &str) -> Result<(), EngineError> {
        self.call(|docker| async move { docker.start_container(name, None).await }).await
    }

    /// Sends a signal. A container that has ended is none to send one to.
    pub(crate) async fn signal(&self, name: &str, signal: &str) -> Result<(), EngineError> {
        let options = query::KillContainerOptions { signal: signal.to_owned() };
        match self.call(|docker| async move { docker.kill_container(name, Some(options)).await }).await {
            Err(EngineError::Missing(_) | EngineError::Refused(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends when the container has ended, or the engine goes away. How it ended is for [`Self::inspect`] to say.
    pub(crate) async fn ended(&self, name: &str) -> Result<(), EngineError> {
        let docker = self.docker.read().clone().ok_or_else(|| self.away("it has not answered yet"))?;
        let waited = async {
            let mut waited = std::pin::pin!(docker.wait_container(name, None));
            waited.next().await
        };
        let answer = tokio::select! {
            answer = waited => answer,
            // An engine that hangs keeps the connection open; whoever asks it regularly finds out.
            () = self.fell() => return Err(self.away("it went away while the container ran")),
        };
        match answer {
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(self.error(error)),
            None => Err(self.away("it broke off while the container ran")),
        }
    }

    pub(crate) async fn inspect(&self, name: &str) -> Result<ContainerInspectResponse, EngineError> {
        self.call(|docker| async move { docker.inspect_container(name, None).await }).await
    }

    /// Ends it if it runs, and takes it away with all that was its.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = query::RemoveContainerOptions { force: true, v: true, link: false };
        match self.call(|docker| async move { docker.remove_container(name, Some(options)).await }).await {
            Err(EngineError::Missing(_)) | Ok(()) => Ok(()),
            // Somebody else is at it.
            Err(EngineError::Refused(why)) if why.contains("already in progress") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Containers with a label, whether they run or not.
    pub(crate) async fn list(&self, label: String) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = query::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        self.call(|docker| async move { docker.list_containers(Some(options)).await }).await
    }

    pub(crate) async fn image(&self, name: &str) -> Result<Option<ImageInspect>, EngineError> {
        match self.call(|docker| async move { docker.inspect_image(name).await }).await {
            Ok(image) => Ok(Some(image)),
            Err(EngineError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches an image, for as long as the caller waits.
    pub(crate) async fn pull(&self, name: &str, tag: &str) -> Result<(), EngineError> {
        let docker = self.docker.read().clone().ok_or_else(|| self.away("it has not answered yet"))?;
        let options = query::CreateImageOptions { from_image: Some(name.to_owned()), tag: Some(tag.to_owned()), ..Default::default() };
        // A registry may take its time before the first word.
        let docker = docker.with_timeout(PULL_MAX);
        let mut progress = std::pin::pin!(docker.create_image(Some(options), None, None));
        while let Some(line) = progress.next().await {
            line.map_err(|error| self.error(error))?;
        }
        Ok(())
    }

    /// Makes a network unless it is there.
    pub(crate) async fn network(&self, request: NetworkCreateRequest) -> Result<(), EngineError> {
        let name = request.name.clone();
        match self.call(|docker| async move { docker.inspect_network(&name, None).await }).await {
            Err(EngineError::Missing(_)) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        match self.call(|docker| async move { docker.create_network(request).await }).await {
            // Engines of different versions say so with different statuses, "not found" among them.
            Err(EngineError::Missing(why) | EngineError::Refused(why)) => Err(EngineError::NoNetwork(why)),
            made => made.map(drop),
        }
    }

    pub(crate) async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.call(|docker| async move { docker.remove_network(name).await }).await
    }
}
