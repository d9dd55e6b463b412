//! Native images that are kept from one start to the next, and refusals that were dear to come by.
//!
//! `<folder>/key` is this host's key; `<folder>/<settings>/<64 hexadecimal digits>.image` a module's machine code for an engine of these
//! settings, and `….json` beside it what is known of it, with a code that only who has the key can make. Machine code is believed
//! without looking at it, so it is never used without that code: what comes from outside can lie here, and is not taken.
//!
//! A cache: nothing is made durable, and what a crash left half-written has no valid code.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tempfile::NamedTempFile;
use tower_domain::code_ref::Digest;
use tower_domain::module::Inspection;
use wasmtime::Engine;

use super::compile::{CompileLimits, Compiled};
use super::inspect::InspectError;

/// Length of the key, in bytes: a block of the hash.
const KEY_BYTES: usize = 64;
/// Longest entry that is read, in bytes.
const ENTRY_BYTES_MAX: u64 = 64 << 20;

/// Modules that are kept at the most, those that were refused included.
const ENTRIES_MAX: usize = 10_000;
/// The files of an entry. Without the first, the second is nothing.
const KINDS: [&str; 2] = ["json", "image"];

/// The folder.
pub(crate) struct Images {
    root: PathBuf,
    /// Of images for this engine.
    folder: PathBuf,
    settings: u64,
    key: [u8; KEY_BYTES],
    bytes_max: u64,
    limits: CompileLimits,
}

/// What is known of one module.
#[derive(Serialize, Deserialize)]
enum Entry {
    Image(Inspection),
    /// With what it was allowed: with more, it may be another answer.
    Refused(InspectError, CompileLimits),
}

/// What was found.
pub(crate) enum Found {
    /// An image that this host made.
    Image(PathBuf, Inspection),
    /// A refusal that still holds.
    Refused(InspectError),
}

impl Images {
    /// Opens the folder, or makes it.
    pub(crate) fn open(root: &Path, engine: &Engine, bytes_max: u64, limits: CompileLimits) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        let folder = root.join(format!("{settings:016x}"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for engine in engines(root)? {
            for left_over in fs::read_dir(engine)?.flatten().filter(|file| file.file_name().to_string_lossy().starts_with("new-")) {
                remove(&left_over.path())?;
            }
        }
        Ok(Self { key: key(&root.join("key"))?, root: root.to_owned(), folder, settings, bytes_max, limits })
    }

    /// Where images may be written before they are kept.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is kept of a module. Reads all of it.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Found> {
        match self.read(digest) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%digest, %error, "a native image that was kept is not used; the module is compiled again");
                // What cannot be read just now may be sound.
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) {
                    self.forget(digest);
                }
                None
            }
        }
    }

    fn read(&self, digest: &Digest) -> io::Result<Option<Found>> {
        let mut text = String::new();
        match File::open(self.path(digest, "json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?.take(ENTRY_BYTES_MAX).read_to_string(&mut text)?,
        };
        let (code, json) = text.split_once('\n').ok_or_else(damaged)?;
        let entry: Entry = serde_json::from_str(json)?;
        let path = self.path(digest, "image");
        let mut mac = self.mac(digest, json);
        let image = if matches!(entry, Entry::Image(_)) { Some(File::open(&path)?) } else { None };
        if let Some(image) = &image {
            io::copy(&mut &*image, &mut Authenticated(&mut mac))?;
        }
        // Compared in constant time.
        mac.verify_slice(&unhex(code).ok_or_else(damaged)?).map_err(|_| damaged())?;
        match entry {
            Entry::Image(inspection) => {
                // What was not used for longest makes room first.
                if let Some(image) = image {
                    let _ = image.set_modified(now());
                }
                Ok(Some(Found::Image(path, inspection)))
            }
            Entry::Refused(refused, limits) if limits == self.limits => Ok(Some(Found::Refused(refused))),
            Entry::Refused(..) => Ok(None),
        }
    }

    /// Keeps an image for the next start.
    pub(crate) fn keep(&self, digest: &Digest, compiled: Compiled) -> io::Result<()> {
        let json = serde_json::to_string(&Entry::Image(compiled.inspection))?;
        let mut mac = self.mac(digest, &json);
        io::copy(&mut compiled.image.reopen()?, &mut Authenticated(&mut mac))?;
        compiled.image.persist(self.path(digest, "image"))?;
        if let Err(error) = self.write(digest, &json, mac) {
            self.forget(digest);
            return Err(error);
        }
        self.make_room(digest)
    }

    /// Keeps a refusal, so that the same bytes do not cost the same again.
    pub(crate) fn keep_refusal(&self, digest: &Digest, refused: &InspectError) -> io::Result<()> {
        let json = serde_json::to_string(&Entry::Refused(refused.clone(), self.limits))?;
        let mac = self.mac(digest, &json);
        self.write(digest, &json, mac)?;
        self.make_room(digest)
    }

    /// Removes what is kept of a module.
    pub(crate) fn forget(&self, digest: &Digest) {
        for kind in KINDS {
            let _ = remove(&self.path(digest, kind));
        }
    }

    fn write(&self, digest: &Digest, json: &str, mac: Hmac<Sha256>) -> io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in("new-", &self.folder)?;
        let code: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        write!(file, "{code}\n{json}")?;
        file.persist(self.path(digest, "json"))?;
        Ok(())
    }

    /// A code over what an entry says and, to be added, the image. It is good for one module and one engine.
    fn mac(&self, digest: &Digest, json: &str) -> Hmac<Sha256> {
        let mac = <Hmac<Sha256> as KeyInit>::new(&self.key.into());
        mac.chain_update(b"tower image 1")
            .chain_update(self.settings.to_le_bytes())
            .chain_update(digest.0)
            .chain_update((json.len() as u64).to_le_bytes())
            .chain_update(json)
    }

    fn path(&self, digest: &Digest, kind: &str) -> PathBuf {
        let text = digest.to_string();
        self.folder.join(format!("{}.{kind}", text.strip_prefix("sha256:").unwrap_or(&text)))
    }

    /// Removes what was not used for longest, that of other engines as well, until both bounds hold.
    fn make_room(&self, keep: &Digest) -> io::Result<()> {
        let keep = self.path(keep, "");
        let mut entries: BTreeMap<PathBuf, (SystemTime, u64)> = BTreeMap::new();
        for engine in engines(&self.root)? {
            for file in fs::read_dir(engine)?.flatten() {
                // Somebody else may just have removed it.
                let Ok(known) = file.metadata() else { continue };
                let entry = entries.entry(file.path().with_extension("")).or_insert((SystemTime::UNIX_EPOCH, 0));
                entry.0 = entry.0.max(known.modified()?);
                entry.1 += known.len();
            }
        }
        let mut bytes: u64 = entries.values().map(|(_, bytes)| bytes).sum();
        let mut count = entries.len();
        entries.retain(|entry, _| *entry != keep.with_extension(""));
        let mut oldest: Vec<_> = entries.into_iter().map(|(entry, (used, bytes))| (used, bytes, entry)).collect();
        oldest.sort();
        for (_, size, entry) in oldest {
            if bytes <= self.bytes_max && count <= ENTRIES_MAX {
                break;
            }
            for kind in KINDS {
                remove(&entry.with_extension(kind))?;
            }
            bytes -= size;
            count -= 1;
        }
        Ok(())
    }
}

/// The folders for engines, this one's and those of others.
fn engines(root: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(fs::read_dir(root)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

/// Removes a file; that it is not there is as good.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The key in the file; a new one where there is none.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match fs::read(path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
            fs::remove_file(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key: [u8; KEY_BYTES] = rand::random();
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&key)?;
    Ok(key)
}

#[expect(clippy::disallowed_methods, reason = "files are compared with the times that the file system gives to others")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not as this host left it")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Bytes that are written here go into the code.
struct Authenticated<'a>(&'a mut Hmac<Sha256>);

impl Write for Authenticated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
