//! Which tasks' code is running, noted in a file, so that after a crash those are suspects and no others.
//!
//! One record of 16 bytes a slot, written in place and never synced: the file must outlive the process, not the machine, and the page
//! cache does.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tower_domain::id::TaskId;

const RECORD_BYTES: usize = 16;

/// The file, and which of its records are free.
pub(crate) struct Journal {
    file: File,
    free: Mutex<Vec<u32>>,
    /// Whether it still tells of the process before.
    of_the_dead: AtomicBool,
}

impl Journal {
    /// Reads what the process before left. It stays there until [`Self::dead_are_known`].
    pub(crate) fn open(path: &Path, slots: u32) -> std::io::Result<(Self, Vec<TaskId>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let suspects = bytes
            .chunks_exact(RECORD_BYTES)
            .filter(|record| record.iter().any(|byte| *byte != 0))
            .filter_map(|record| record.try_into().ok().map(TaskId::from_bytes))
            .collect();
        Ok((Self { file, free: Mutex::new((0..slots).rev().collect()), of_the_dead: AtomicBool::new(true) }, suspects))
    }

    /// The suspects are in the database: the file is free for new notes. To be called before the first.
    pub(crate) fn dead_are_known(&self) {
        if self.of_the_dead.swap(false, Ordering::SeqCst) {
            self.clear();
        }
    }

    /// Notes that a task's code begins. The note goes when the guard does.
    pub(crate) fn note(&self, task: TaskId) -> Note<'_> {
        let slot = self.free.lock().pop();
        if let Some(slot) = slot {
            self.write(slot, task.to_bytes());
        }
        Note { journal: self, slot }
    }

    /// The process ends by order: nothing that runs is to blame for it.
    pub(crate) fn clear(&self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "crash journal: it was not cleared");
        }
    }

    fn write(&self, slot: u32, record: [u8; RECORD_BYTES]) {
        let offset = u64::from(slot) * RECORD_BYTES as u64;
        // A note that cannot be written makes one suspect less; that is no reason to stop work.
        #[cfg(unix)]
        let written = std::os::unix::fs::FileExt::write_all_at(&self.file, &record, offset);
        #[cfg(windows)]
        let written = std::os::windows::fs::FileExt::seek_write(&self.file, &record, offset).map(|_| ());
        if let Err(error) = written {
            tracing::debug!(%error, "crash journal: a note was not written");
        }
    }
}

/// A task's code is running.
pub(crate) struct Note<'a> {
    journal: &'a Journal,
    slot: Option<u32>,
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.journal.write(slot, [0; RECORD_BYTES]);
            self.journal.free.lock().push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_when_the_process_died_is_suspect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("running");
        let task = |n: u128| TaskId(ulid_of(n));
        let (journal, suspects) = Journal::open(&path, 4).unwrap();
        assert!(suspects.is_empty());
        journal.dead_are_known();
        let done = journal.note(task(1));
        let running = journal.note(task(2));
        drop(done);
        std::mem::forget(running);
        let (journal, suspects) = Journal::open(&path, 4).unwrap();
        assert_eq!(suspects, [task(2)]);
        let (again, suspects) = Journal::open(&path, 4).unwrap();
        assert_eq!(suspects, [task(2)], "a process that died before it could tell of them leaves them to the next");
        drop(again);
        journal.dead_are_known();
        std::mem::forget(journal.note(task(3)));
        journal.dead_are_known();
        let (_, suspects) = Journal::open(&path, 4).unwrap();
        assert_eq!(suspects, [task(3)]);
        journal.clear();
        let (_, suspects) = Journal::open(&path, 4).unwrap();
        assert!(suspects.is_empty(), "of a process that ends by order nothing is suspect");
    }

    fn ulid_of(n: u128) -> ulid::Ulid {
        ulid::Ulid(n)
    }
}
