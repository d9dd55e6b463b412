//! What the system grants this process; none where it does not say.

use std::path::Path;

/// Bytes that may still be written to the disk of a folder.
#[cfg(unix)]
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Files and sockets that may be open at a time.
#[cfg(unix)]
pub(super) fn descriptors() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Bytes of address space.
#[cfg(unix)]
pub(super) fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// Memory maps of a process.
pub(super) fn memory_maps() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(not(unix))]
pub(super) fn descriptors() -> Option<u64> {
    None
}

#[cfg(not(unix))]
pub(super) fn address_space() -> Option<u64> {
    None
}
