//! The write-ahead log, moved into the file beside the writer.
//!
//! SQLite does so by itself at the end of the commit that finds the log long, and then whoever comes next waits for as long as thousands of rows
//! take. Here a thread copies what there is while batches go on, and the writer no more than what came up meanwhile. Once all of it
//! is moved and nobody reads of it, the log begins anew.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use crate::StoreError;

/// Pages in the log after which they are moved: 16 MiB.
pub(super) const MOVE_AT: u32 = 4_096;

/// Pages in the log at which the writer waits until those before are moved: 64 MiB.
const WAIT_AT: u32 = 4 * MOVE_AT;

/// Where the log did not begin anew, because somebody reads of it: after so many pages more the next are moved.
const NEXT_AFTER: u32 = 1_024;

thread_local! {
    /// Pages in the log at the end of the last commit on this thread; 0 where it is not known.
    static PAGES: Cell<u32> = const { Cell::new(0) };
}

/// What the writer knows of it.
pub(super) struct Log {
    /// None: the thread is to end.
    begin: Option<SyncSender<()>>,
    moved: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    moving: bool,
    next_at: u32,
}

impl Log {
    /// Takes it over from SQLite. `writer` is the connection that commits, `mover` another to the same file.
    pub(super) fn take_over(writer: &Connection, mover: Connection) -> Result<Self, StoreError> {
        writer.wal_hook(Some(|_, pages| {
            PAGES.set(pages.try_into().unwrap_or(0));
            Ok(())
        }));
        let (begin, begun) = sync_channel(1);
        let (done, moved) = sync_channel(1);
        let work = move || {
            while begun.recv().is_ok() {
                to_the_file(&mover);
                if done.send(()).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("tower-log".to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Unusable(format!("no thread can be started that moves the write-ahead log ({error})")))?;
        Ok(Self { begin: Some(begin), moved, thread: Some(thread), moving: false, next_at: MOVE_AT })
    }

    /// Is told after each commit of the writer, on its thread.
    pub(super) fn committed(&mut self, writer: &Connection) {
        let pages = PAGES.take();
        if self.moving {
            let moved = if pages >= WAIT_AT { self.moved.recv().map_err(|_| TryRecvError::Disconnected) } else { self.moved.try_recv() };
            if moved != Err(TryRecvError::Empty) {
                self.moving = false;
                to_the_file(writer);
                self.next_at = pages.saturating_add(NEXT_AFTER);
            }
        } else if (1..MOVE_AT).contains(&pages) {
            self.next_at = MOVE_AT;
        } else if pages >= self.next_at {
            // A thread that is gone has nobody wait for it.
            self.moving = true;
            let _ = self.begin.as_ref().map(|begin| begin.try_send(()));
        }
    }

    /// Waits until nobody moves anything: whoever moves the log as a whole is refused meanwhile, and not told to wait.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.moving) {
            // A thread that is gone moves nothing.
            let _ = self.moved.recv();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.begin = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that moves the write-ahead log panicked");
        }
    }
}

/// Moves what there is and no reader needs. What could not be moved is tried again later, and lost in no case.
fn to_the_file(conn: &Connection) {
    let moved = conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)").and_then(|mut statement| statement.query_row([], |_| Ok(())));
    if let Err(error) = moved {
        tracing::warn!(%error, "the write-ahead log was not moved into the file; it grows meanwhile");
    }
}
