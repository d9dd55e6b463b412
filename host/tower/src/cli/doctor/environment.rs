//! What modules are built with, and what this machine gives a tower.

use std::path::{Path, PathBuf};
use std::process::Command;

use tower_domain::clock::{Clock, SystemClock, Timestamp};

use super::super::inspect::size;
use super::super::output::err_line;
use super::super::project::{TARGET, target_is_missing};
use super::{Check, limits};

/// Free space on the disk, in bytes, below which to warn, and below which nothing can be kept.
const FREE_BYTES_LOW: u64 = 1 << 30;
const FREE_BYTES_MIN: u64 = 100 << 20;
/// Files that a tower has open beside its connections: database, modules, pipes.
const OTHER_DESCRIPTORS: u64 = 128;
/// Address space that a slot of the sandbox reserves, in bytes; the figure is `WasmConfig::slots`'s.
const SLOT_ADDRESS_BYTES: u64 = 8 << 30;
/// Memory maps that a running step holds, at about.
const SLOT_MAPS: u64 = 6;

/// cargo and the target that modules are built for. A tower that only runs modules needs neither.
pub(super) fn toolchain(fix: bool) -> Vec<Check> {
    let cargo = match Command::new("cargo").arg("--version").output() {
        Ok(output) if output.status.success() => Check::ok("cargo", String::from_utf8_lossy(&output.stdout).trim()),
        _ => Check::warning("cargo", "not found; it is needed to build modules, not to run them", "install Rust with rustup: https://rustup.rs"),
    };
    let command = format!("rustup target add {TARGET}");
    let missing = || {
        Check::warning(
            "target",
            format!("{TARGET} is not installed; it is needed to build modules, not to run them"),
            format!("{command}     (or: tower doctor --fix)"),
        )
    };
    let target = if !target_is_missing() {
        Check::ok("target", TARGET)
    } else if !fix {
        missing()
    } else {
        err_line(&format!("running: {command}"));
        match Command::new("rustup").args(["target", "add", TARGET]).stdout(std::process::Stdio::null()).status() {
            Ok(status) if status.success() => Check::ok("target", format!("{TARGET} was installed by `{command}`")),
            Ok(status) => Check::failed("target", format!("`{command}` ended with {status}"), "see what it printed"),
            Err(error) => Check::failed("target", format!("`{command}` cannot be started: {error}"), "install Rust with rustup: https://rustup.rs"),
        }
    };
    vec![cargo, target]
}

/// Whether the data folder, or the one that it would be made in, can be written to, and how much.
pub(super) fn data_folder(folder: &Path) -> Check {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there: PathBuf = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_owned();
    let shown = folder.display();
    let other = "name another folder with --data-dir";
    let probe = there.join(format!(".tower-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        return Check::failed("data folder", format!("{} cannot be written to: {error}", there.display()), other);
    }
    let Some(free) = limits::free_bytes(&there) else { return Check::ok("data folder", format!("{shown} can be written to")) };
    let message = format!("{shown} can be written to; {} are free", size(free));
    match free {
        0..FREE_BYTES_MIN => Check::failed("data folder", message, format!("free some space, or {other}")),
        FREE_BYTES_MIN..FREE_BYTES_LOW => Check::warning("data folder", message, format!("free some space, or {other}")),
        _ => Check::ok("data folder", message),
    }
}

/// Whether there are descriptors for all connections.
pub(super) fn descriptors(connections_max: u32) -> Check {
    let need = u64::from(connections_max) + OTHER_DESCRIPTORS;
    match limits::descriptors() {
        Some(limit) if limit < need => Check::warning(
            "descriptors",
            format!("{limit} files and connections may be open, and --connections-max {connections_max} needs {need}"),
            format!("ulimit -n {need}, or a smaller --connections-max"),
        ),
        Some(limit) => Check::ok("descriptors", format!("{limit}, for {connections_max} connections")),
        None => Check::ok("descriptors", "without a limit"),
    }
}

/// Whether the sandbox gets the address space and the maps that its slots want.
pub(super) fn sandbox(slots: u32) -> [Check; 2] {
    let slots = u64::from(slots);
    let space = match limits::address_space() {
        Some(limit) if limit < slots * SLOT_ADDRESS_BYTES => Check::warning(
            "address space",
            format!("limited to {}: fewer than {slots} steps run at a time", size(limit)),
            "ulimit -v unlimited; it is address space, and not memory",
        ),
        _ => Check::ok("address space", format!("enough for {slots} slots")),
    };
    let maps = match limits::memory_maps() {
        Some(limit) if limit < slots * SLOT_MAPS => Check::warning(
            "memory maps",
            format!("vm.max_map_count is {limit}, and {slots} slots take about {}", slots * SLOT_MAPS),
            format!("sysctl vm.max_map_count={}, or fewer --slots", slots * SLOT_MAPS * 2),
        ),
        Some(limit) => Check::ok("memory maps", format!("vm.max_map_count is {limit}, for {slots} slots")),
        None => Check::skipped("memory maps", "this system does not say how many there may be"),
    };
    [space, maps]
}

/// Whether the clock stands after this program was made.
pub(super) fn clock() -> Check {
    let now = SystemClock.now();
    let made = std::env::current_exe().and_then(std::fs::metadata).and_then(|metadata| metadata.modified());
    let made = made.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map(|since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    match made {
        Some(made) if now.as_micros() < made => Check::failed(
            "clock",
            format!("it says {now}, and this program was made at {}", Timestamp::from_micros(made)),
            "set the clock: ids, schedules and leases go by it",
        ),
        _ => Check::ok("clock", now.to_string()),
    }
}
