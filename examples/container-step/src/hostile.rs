//! What a hostile step would try. Each says how far it came.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::acts::End;

/// Tries this often before it believes that nothing holds it.
const ENOUGH: usize = 10_000;

/// How long a connection is waited for.
const CONNECT: Duration = Duration::from_secs(2);

/// Starts itself again and again.
pub(crate) fn fork_bomb() -> Value {
    let mut children: Vec<Child> = Vec::new();
    let mut refused = None;
    while children.len() < ENOUGH && refused.is_none() {
        match Command::new("/proc/self/exe").arg("sleep").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(error) => refused = Some(error.to_string()),
        }
    }
    let started = children.len();
    for mut child in children {
        let _ = child.kill();
        let _ = child.wait();
    }
    json!({"started": started, "refused": refused})
}

/// Takes memory until somebody stops it.
pub(crate) fn memory_bomb() -> End {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        // Not zeroes, which cost nothing.
        taken.push(vec![7; 1 << 20]);
        if taken.len() > ENOUGH {
            return End::Output(json!({"mib": taken.len()}));
        }
    }
}

fn fill(path: &str) -> Value {
    let mut file = match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => return json!({"refused": error.to_string(), "bytes": 0}),
    };
    let piece = vec![7; 64 << 10];
    for number in 0..ENOUGH {
        if let Err(error) = file.write_all(&piece) {
            let _ = std::fs::remove_file(path);
            return json!({"refused": error.to_string(), "bytes": number * piece.len()});
        }
    }
    json!({"refused": null})
}

/// Fills every place that may be one to write to.
pub(crate) fn disk_bomb() -> Value {
    json!({"tmp": fill("/tmp/fill"), "root": fill("/fill"), "socket_dir": fill("/run/tower/fill"), "shm": fill("/dev/shm/fill")})
}

unsafe extern "C" {
    fn setuid(uid: u32) -> i32;
    fn mount(source: *const u8, target: *const u8, kind: *const u8, flags: u64, data: *const u8) -> i32;
    fn unshare(flags: i32) -> i32;
}

/// Tries to be more than it is.
pub(crate) fn become_root() -> Value {
    const NEW_USER_NAMESPACE: i32 = 0x1000_0000;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
    // SAFETY: none of these touches memory of this program; all strings end with NUL.
    let (root, mounted, unshared) = unsafe {
        (setuid(0), mount(c"none".as_ptr().cast(), c"/tmp".as_ptr().cast(), c"tmpfs".as_ptr().cast(), 0, std::ptr::null()), unshare(NEW_USER_NAMESPACE))
    };
    let executed = std::fs::copy("/proc/self/exe", "/tmp/again")
        .map_err(|error| error.to_string())
        .and_then(|_| Command::new("/tmp/again").arg("sleep").spawn().map_err(|error| error.to_string()));
    json!({
        "uid": line("Uid:"),
        "capabilities": line("CapEff:"),
        "no_new_privileges": line("NoNewPrivs:"),
        "seccomp": line("Seccomp:"),
        "became_root": root == 0,
        "mounted": mounted == 0,
        "unshared": unshared == 0,
        "executed_what_it_wrote": executed.is_ok(),
        "kernel_settings_written": std::fs::write("/proc/sys/kernel/core_pattern", "|/tmp/again").is_ok(),
        "memory_of_the_machine": OpenOptions::new().read(true).open("/dev/mem").is_ok(),
        "engine": std::path::Path::new("/var/run/docker.sock").exists(),
    })
}

/// Tries to reach what it should not.
pub(crate) fn reach_out(params: &Value) -> Value {
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let interfaces: Vec<String> = interfaces.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    let reached = |target: &Value| {
        let target = target.as_str().unwrap_or_default();
        let address = target.to_socket_addrs().ok().and_then(|mut found| found.next());
        address.is_some_and(|address| TcpStream::connect_timeout(&address, CONNECT).is_ok())
    };
    let targets = params["targets"].as_array().cloned().unwrap_or_default();
    json!({"interfaces": interfaces, "reached": targets.iter().filter(|target| reached(target)).collect::<Vec<_>>()})
}
