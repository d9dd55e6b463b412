//! `tower serve`.

use std::io::ErrorKind;
use std::time::Duration;

use clap::{ArgMatches, Args};
use tower_store::StoreError;

use super::Context;
use super::codes;
use super::failure::Failure;
use super::output::err_line;
use crate::app::App;
use crate::config::SettingsArgs;

/// Serves the REST API.
#[derive(Debug, Args)]
pub(crate) struct ServeVerb {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(crate) async fn run(args: ServeVerb, matches: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let settings = super::settings(&args.settings, matches)?;
    let config = settings.serve.check().map_err(|error| Failure::own(&codes::BAD_CONFIG, format!("{error:#}")))?;
    let grace = config.host.cancel_grace;
    let mut signals = Signals::listen()?;
    let app = App::start(config).await.map_err(not_started)?;
    // The one line that programs wait for.
    context.out.line(&format!("listening on {}", app.url()));
    until_stopped(app, &mut signals, grace).await
}

/// Why a server did not start, with what to do about it.
pub(crate) fn not_started(error: anyhow::Error) -> Failure {
    let store = error.chain().find_map(|cause| cause.downcast_ref::<StoreError>());
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let code = match (store, io) {
        (Some(StoreError::InUse(_)), _) => &codes::IN_USE,
        (Some(StoreError::OtherSchema(_)), _) => &codes::OTHER_SCHEMA,
        (Some(StoreError::Unusable(_)), _) => &codes::UNUSABLE,
        (Some(StoreError::Unreachable(_)), _) => &codes::NO_DATABASE,
        (None, Some(ErrorKind::AddrInUse)) => &codes::PORT_TAKEN,
        (None | Some(StoreError::Blobs { .. }), Some(ErrorKind::PermissionDenied | ErrorKind::NotADirectory | ErrorKind::AlreadyExists)) => {
            return Failure::own(&codes::UNUSABLE, format!("{error:#}"))
                .help("name a folder that can be written to with --data-dir, and a port that may be listened on with --listen");
        }
        _ => return error.into(),
    };
    Failure::own(code, format!("{error:#}"))
}

/// Serves until a signal, then stops in order; a second signal ends it at once.
pub(crate) async fn until_stopped(app: App, signals: &mut Signals, grace: Duration) -> Result<(), Failure> {
    signals.next().await;
    err_line(&format!("stopping: running steps have {}s; again to stop at once", grace.as_secs_f64()));
    let engine = app.engine();
    tokio::select! {
        () = app.stop(grace) => Ok(()),
        () = signals.next() => {
            engine.abandon();
            Err(Failure::own(&codes::INTERRUPTED, "stopped at once; what was running begins again at the next start"))
        }
    }
}

/// The signals that ask a process to end.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes them over.
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Takes them over.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// The next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The next one.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
