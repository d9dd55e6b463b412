//! Descriptors: every connection needs one, and so do the database, the modules and the files that steps read.

/// For the database, the log, modules and what else is open.
const OTHERS: usize = 128;
/// Fewer connections than this are no server.
const CONNECTIONS_MIN: usize = 8;

/// How many connections may be open at once: as many as are `wanted`, if the system gives that many descriptors beside one for each of
/// `slots` steps. The process's own limit is raised as far as that takes and the system lets it.
pub(crate) fn room_for(wanted: usize, slots: usize) -> anyhow::Result<usize> {
    let others = OTHERS + slots;
    let Some(limit) = raise(wanted + others) else { return Ok(wanted) };
    let room = limit.saturating_sub(others);
    anyhow::ensure!(
        room >= wanted.min(CONNECTIONS_MIN),
        "this process may open {limit} files (ulimit -n), and {others} of them are for the database and --slots {slots}: nothing is left for connections\n  \
         help: raise the limit, or lower --slots"
    );
    if room < wanted {
        tracing::warn!(limit, wanted, served = room, "fewer connections than --connections-max are served: the limit of open files (ulimit -n) is too low");
    }
    Ok(room.min(wanted))
}

/// The limit after it was raised towards `needed`; none: there is none.
#[cfg(unix)]
fn raise(needed: usize) -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current?;
    if current < needed {
        let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
            return usize::try_from(raised).ok();
        }
    }
    usize::try_from(current).ok()
}

#[cfg(not(unix))]
fn raise(_needed: usize) -> Option<usize> {
    None
}
