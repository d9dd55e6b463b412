//! A Docker Engine of its own for each test process: started in a temporary folder when the first test asks, gone with the process and
//! with all its containers, whatever ends that.
//!
//! ```no_run
//! let engine = tower_test_docker::Engine::shared();
//! println!("--docker unix://{}", engine.socket().display());
//! ```
//!
//! A small shell stands between the tests and the engine. It takes orders on its standard input; when that ends, because the test process
//! has ended, was killed or has died, it ends the engine and removes the folder. `dockerd` needs root; tests of another user name the
//! socket of an engine that they may use in `TOWER_TEST_DOCKER`, which is then left as it is.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The socket of an engine to use instead of one of its own.
const VARIABLE: &str = "TOWER_TEST_DOCKER";

/// How long the engine may take to start.
const START_MAX: Duration = Duration::from_secs(180);

/// Networks of towers that tests have killed stay until the engine ends, and the engine's own pools are 31 at the most, less what the machine's
/// routes cover.
const POOLS: [&str; 3] = ["base=10.201.0.0/16,size=26", "base=172.30.0.0/16,size=26", "base=192.168.224.0/20,size=26"];

/// The image of `examples/container-step`.
pub const IMAGE: &str = "tower-example/container-step:latest";

/// The image of `tests/probe`: the example `probe` as a container.
pub const PROBE: &str = "tower-test/probe:latest";

/// What the shell does: `start`, `stop <signal>` and `kill <signal>` (which does not wait), and at the end of its input the end of all. `$1`
/// is the folder, the rest starts the engine.
const SUPERVISOR: &str = r#"
folder=$1; shift
pid=
lives() { [ -n "$pid" ] && [ -r "/proc/$pid/stat" ] && [ "$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat")" != Z ]; }
while read -r order signal; do
    case $order in
        start) if ! lives; then rm -f "$folder/pid"; "$@" >>"$folder/log" 2>&1 </dev/null & pid=$!; fi ;;
        stop) kill "-$signal" "$pid"; wait "$pid"; pid= ;;
        kill) kill "-$signal" "$pid" ;;
    esac
    echo "$order"
done
if [ -n "$pid" ]; then
    kill -CONT "$pid" 2>/dev/null
    docker -H "unix://$folder/docker.sock" ps -aq 2>/dev/null | xargs -r docker -H "unix://$folder/docker.sock" rm -f >/dev/null 2>&1
    docker -H "unix://$folder/docker.sock" network prune -f >/dev/null 2>&1
    kill -TERM "$pid" 2>/dev/null; wait "$pid"
fi
cd /
awk -v "folder=$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | xargs -r umount -l 2>/dev/null
rm -rf "$folder"
"#;

/// The engine's program, if this process may start it.
fn program() -> Result<&'static str, String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0);
    let dockerd = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"].into_iter().find(|path| Path::new(path).exists());
    dockerd.filter(|_| is_root).ok_or_else(|| {
        format!(
            "this needs a Docker Engine: run it as root with the package `docker.io` (Debian, Ubuntu) or `docker` (Fedora, Alpine) installed, or name \
             the socket of an engine that you may use in {VARIABLE}"
        )
    })
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    /// None: it is somebody else's.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    folder: PathBuf,
    shell: Mutex<Shell>,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Engine {
    /// The one of this process, with the image of `examples/container-step`.
    ///
    /// # Panics
    /// If Docker is not installed, does not start, or the image cannot be built.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Engine> = OnceLock::new();
        SHARED.get_or_init(|| {
            let engine = match std::env::var_os(VARIABLE) {
                Some(socket) => Self { socket: socket.into(), own: None },
                None => Self::start(),
            };
            engine.build_image();
            engine
        })
    }

    /// The same, with [`PROBE`] as well.
    ///
    /// # Panics
    /// As [`Self::shared`].
    pub fn with_probe() -> &'static Self {
        static BUILT: OnceLock<()> = OnceLock::new();
        let engine = Self::shared();
        BUILT.get_or_init(|| engine.build("examples/image.sh", &["tower-test-probe", "probe-step", PROBE]));
        engine
    }

    /// Whether there can be one here; else what it takes.
    ///
    /// # Errors
    /// There cannot.
    pub fn possible() -> Result<(), String> {
        if std::env::var_os(VARIABLE).is_some() { Ok(()) } else { program().map(drop) }
    }

    /// Starts one. It ends when this is dropped, or with the process.
    ///
    /// # Panics
    /// If Docker is not installed or does not start.
    pub fn start() -> Self {
        Self::start_with(&POOLS)
    }

    /// The same with these address pools, such as `base=10.213.0.0/24,size=30`: each network takes one piece of them.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(pools: &[&str]) -> Self {
        let dockerd = program().unwrap_or_else(|why| panic!("{why}"));
        // The shell removes it. Its name is short, since the path of a socket may not be long.
        let folder = tempfile::Builder::new().prefix("td-").tempdir().unwrap().keep();
        let socket = folder.join("docker.sock");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SUPERVISOR, "sh"]).arg(&folder).arg(dockerd);
        shell.arg("--data-root").arg(folder.join("data")).arg("--exec-root").arg(folder.join("exec")).arg("--pidfile").arg(folder.join("pid"));
        // No default bridge: engines side by side would have the same.
        shell.arg("-H").arg(format!("unix://{}", socket.display())).args(["--bridge", "none", "--log-level", "warn"]);
        for pool in pools {
            shell.args(["--default-address-pool", pool]);
        }
        // In a process group of its own: what is typed at the tests' terminal is not for it.
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let engine = Self { socket, own: Some(Own { folder, shell: Mutex::new(Shell { child, orders, answers }) }) };
        engine.begin();
        engine
    }

    /// Starts it again after [`Self::stop`], and waits until it answers.
    ///
    /// # Panics
    /// If it does not start, or is somebody else's.
    pub fn begin(&self) {
        self.order("start");
        let begun = Instant::now();
        let mut tried = Instant::now();
        while !self.answers() {
            // After a kill it may find that its earlier self has not quite gone, and end.
            let own = self.own.as_ref().unwrap();
            if !own.folder.join("pid").exists() && tried.elapsed() > Duration::from_secs(3) {
                self.order("start");
                tried = Instant::now();
            }
            if begun.elapsed() > START_MAX {
                let folder = &self.own.as_ref().unwrap().folder;
                panic!("the Docker Engine does not start:\n{}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it with this signal, such as `KILL`, and waits until it is gone.
    ///
    /// # Panics
    /// If it is somebody else's.
    pub fn stop(&self, signal: &str) {
        self.order(&format!("stop {signal}"));
    }

    /// Sends it a signal that does not end it, such as `STOP` or `CONT`.
    ///
    /// # Panics
    /// If it is somebody else's.
    pub fn signal(&self, signal: &str) {
        self.order(&format!("kill {signal}"));
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        let mut version = self.docker(&["version"]);
        version.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `docker`, speaking with it.
    pub fn docker(&self, args: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.env("DOCKER_HOST", format!("unix://{}", self.socket.display())).args(args).stdin(Stdio::null());
        docker
    }

    /// What `docker` answers.
    ///
    /// # Panics
    /// If it fails.
    pub fn ask(&self, args: &[&str]) -> String {
        let done = self.docker(args).output().unwrap();
        assert!(done.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Containers of a tower, by name, whether they run or not.
    ///
    /// # Panics
    /// If the engine does not answer.
    pub fn containers(&self, owner: &str) -> Vec<String> {
        let filter = format!("label=command-tower.owner={owner}");
        self.ask(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }

    /// Builds the image of `examples/container-step` on it.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn build_image(&self) {
        self.build("examples/container-step/image.sh", &[IMAGE]);
    }

    /// Builds an image on it, by a script of this repository.
    ///
    /// # Panics
    /// If it cannot be built.
    pub fn build(&self, script: &str, args: &[&str]) {
        let mut build = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(script));
        build.args(args).env("DOCKER_HOST", format!("unix://{}", self.socket.display())).stdin(Stdio::null());
        // Flags of the build that the tests came from are not those of an image.
        build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        let done = build.output().unwrap();
        assert!(done.status.success(), "{script} {args:?}: the image cannot be built: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Makes an image of a tar, with changes such as `["--change", "ENTRYPOINT …"]`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn import(&self, image: &str, changes: &[&str], tar: &[u8]) {
        let mut import = self.docker(&["import"]).args(changes).args(["-", image]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        import.stdin.take().unwrap().write_all(tar).unwrap();
        assert!(import.wait().unwrap().success(), "{image} cannot be imported");
    }

    fn order(&self, order: &str) {
        let own = self.own.as_ref().expect("the engine that TOWER_TEST_DOCKER names is left as it is: leave the variable out for this test");
        let mut shell = own.shell.lock().unwrap();
        let shell = &mut *shell;
        let orders = shell.orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        orders.flush().unwrap();
        shell.answers.read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(shell) = self.own.as_mut().and_then(|own| own.shell.get_mut().ok()) {
            // The end of its input is the order to end.
            shell.orders = None;
            let _ = shell.child.wait();
        }
    }
}
