//! Keys, on systems whose terminals are not those of Unix: nothing is offered there, and the command line has an order for each of them.

use tokio::sync::watch;
use tower_domain::id::TraceId;

use crate::cli::client::Client;
use crate::cli::term::Term;

/// Why the keys are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Whoever watches wants to leave.
    Leave,
    /// The process is asked to end.
    End,
}

/// There are none.
pub(crate) enum Keys {}

impl Keys {
    /// Hears nothing.
    pub(crate) fn listen(_client: Client, _trace: TraceId, _term: Term) -> Option<(Self, watch::Receiver<String>)> {
        None
    }

    /// Cannot be called.
    pub(crate) async fn hear(self) -> Over {
        match self {}
    }
}
