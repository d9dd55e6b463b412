//! What may be named within a workspace, and what a user's folder is called.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::WorkspaceError;

/// Longest path, in bytes.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Longest segment: what file systems take.
const SEGMENT_BYTES_MAX: usize = 255;
/// Folders in folders at the most. What is deeper is neither reached nor counted as within the quota.
pub const DEPTH_MAX: usize = 64;
/// A user's folder that would be longer is shortened, and told apart by a hash.
const USER_BYTES_MAX: usize = 120;

/// A path within a workspace: segments between slashes, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspacePath(String);

impl WorkspacePath {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From the top.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &OsStr> {
        self.0.split('/').map(OsStr::new)
    }

    /// The last segment, and those above it.
    pub(crate) fn split(&self) -> (Vec<&OsStr>, &OsStr) {
        let mut above: Vec<&OsStr> = self.segments().collect();
        let last = above.pop().unwrap_or_default();
        (above, last)
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WorkspacePath {
    type Err = WorkspaceError;
    fn from_str(text: &str) -> Result<Self, WorkspaceError> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > PATH_BYTES_MAX {
            "it is longer than 1024 bytes"
        } else if text.chars().any(char::is_control) {
            "it has control characters"
        } else if text.starts_with('/') {
            "it begins with a slash: paths count from the workspace, such as input/data.csv"
        } else if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            "a segment is empty, `.` or `..`"
        } else if text.split('/').any(|segment| segment.len() > SEGMENT_BYTES_MAX) {
            "a segment is longer than 255 bytes"
        } else if text.split('/').count() > DEPTH_MAX {
            "it has more than 64 segments"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(WorkspaceError::BadPath { path: text.chars().take(128).flat_map(char::escape_debug).collect(), why })
    }
}

/// What a user's folder is called: `u-` and the id, in which everything but small letters, digits, `-` and `_` is written as `%` and its
/// bytes in hexadecimal. So no id is a path, hidden, or the same as another's on a file system that knows no case.
pub fn user_folder(user: &str) -> String {
    let mut name = String::from("u-");
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() > USER_BYTES_MAX {
        name.truncate(USER_BYTES_MAX - 66);
        name.push('~');
        name.extend(Sha256::digest(user).iter().map(|byte| format!("{byte:02x}")));
    }
    name
}
