//! A workspace in the artifact store: a tar in pieces, so that no more than a few of them are in memory.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tower_domain::code_ref::Digest;
use tower_domain::id::SessionId;
use tower_domain::session::Session;
use tower_store::StoreError;
use tower_workspaces::Workspace;

use super::{SessionError, Sessions, blocking};

/// Bytes of a piece.
const PIECE_BYTES: usize = 8 << 20;
/// What every piece begins with, before its session's id: nothing that is JSON or a module, so that no other path hands it out.
const MARK: &[u8] = b"\0tws2\0";
/// The same of an older tower, whose pieces do not say whose they are.
const MARK_OF_OLD: &[u8] = b"\0tws1\0";
/// Pieces on their way between the disk and the store.
const AHEAD: usize = 2;

/// What a session's pieces begin with. Kept by what they are, they are nobody else's for it, and may be deleted.
fn mark(id: SessionId) -> Vec<u8> {
    [MARK, id.to_string().as_bytes()].concat()
}

impl Sessions {
    /// Puts a workspace into the artifact store. Its pieces, in order.
    pub(super) async fn pack(&self, id: SessionId, workspace: &Workspace) -> Result<Vec<Digest>, SessionError> {
        let (send, mut pieces) = mpsc::channel(AHEAD);
        let workspace = workspace.clone();
        let mark = mark(id);
        let packing = tokio::spawn(blocking(move || workspace.pack(Cutter { send, piece: mark.clone(), mark })));
        let mut digests = Vec::new();
        while let Some(piece) = pieces.recv().await {
            digests.push(self.stores.blobs.put(piece).await?);
        }
        match packing.await {
            Ok(packed) => packed?,
            Err(error) => return Err(tower_workspaces::WorkspaceError::Io { what: "archiving".to_owned(), source: io::Error::other(error) }.into()),
        }
        Ok(digests)
    }

    /// Makes a workspace from its archive.
    pub(super) async fn restore(&self, session: &Session, workspace: &Workspace) -> Result<(), SessionError> {
        let (send, pieces) = mpsc::channel(AHEAD);
        let workspace = workspace.clone();
        let whole = Arc::new(AtomicBool::new(false));
        let all_sent = whole.clone();
        let unpacking = tokio::spawn(blocking(move || workspace.unpack(Joiner { pieces, piece: Vec::new(), at: 0, whole: all_sent })));
        let mark = mark(session.id);
        for digest in &session.archive {
            let piece = self.stores.blobs.get(digest).await?.unwrap_or_default();
            let begins = [mark.as_slice(), MARK_OF_OLD].into_iter().find(|mark| piece.starts_with(mark)).map(<[u8]>::len);
            // Whoever unpacks is told that this is not the end, and leaves what was there.
            let at = begins.ok_or(SessionError::ArchiveLost(session.id))?;
            if send.send((piece, at)).await.is_err() {
                break;
            }
        }
        whole.store(true, Ordering::Release);
        drop(send);
        match unpacking.await {
            Ok(unpacked) => Ok(unpacked?),
            Err(error) => Err(tower_workspaces::WorkspaceError::Io { what: "restoring".to_owned(), source: io::Error::other(error) }.into()),
        }
    }

    /// Deletes pieces of a session's archive, under the lock of its workspace. Pieces that do not say that they are its own are left: they may be
    /// another's as well. So are damaged ones.
    pub(super) async fn discard(&self, id: SessionId, pieces: &[Digest]) -> Result<(), StoreError> {
        let mark = mark(id);
        for digest in pieces {
            match self.stores.blobs.get(digest).await {
                Ok(Some(piece)) if piece.starts_with(&mark) => self.stores.blobs.delete(digest).await?,
                Ok(_) => {}
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => tracing::warn!(session.id = %id, %digest, error = %crate::api::problem::causes(&error), "a piece of an archive is left"),
            }
        }
        Ok(())
    }

    /// The same, where it is of no consequence if they stay.
    pub(super) async fn try_discard(&self, id: SessionId, pieces: &[Digest]) {
        if let Err(error) = self.discard(id, pieces).await {
            tracing::warn!(session.id = %id, error = %crate::api::problem::causes(&error), "pieces of an archive that nobody needs were not deleted");
        }
    }
}

/// Cuts what is written into pieces.
struct Cutter {
    send: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    mark: Vec<u8>,
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = (PIECE_BYTES - self.piece.len()).min(bytes.len());
        self.piece.extend_from_slice(&bytes[..room]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.len() > self.mark.len() {
            let piece = std::mem::replace(&mut self.piece, self.mark.clone());
            self.send.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }
}

/// Puts pieces together again.
struct Joiner {
    /// Each with where its mark ends.
    pieces: mpsc::Receiver<(Vec<u8>, usize)>,
    piece: Vec<u8>,
    at: usize,
    /// Whether no more pieces means that this was all.
    whole: Arc<AtomicBool>,
}

impl Read for Joiner {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.pieces.blocking_recv() {
                Some(next) => (self.piece, self.at) = next,
                None if self.whole.load(Ordering::Acquire) => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = into.len().min(self.piece.len() - self.at);
        into[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
