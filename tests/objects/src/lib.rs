//! An S3-compatible server of its own for each test process (moto, by `.ci/moto`): started when the first test asks, gone with the process,
//! whatever ends that.
//!
//! ```no_run
//! let server = tower_test_objects::Server::shared();
//! println!("{} with {:?}", server.bucket("mine"), server.environment());
//! ```

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Ends the server when its own input ends, because the test process has ended or died. `$1` is the server.
const SUPERVISOR: &str = r#"
"$1" -H 127.0.0.1 -p 0 2>&1 </dev/null & pid=$!
cat >/dev/null
kill "$pid"; wait "$pid" 2>/dev/null
"#;

/// Who changes what others have written; the signature is not looked at.
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=key-of-tests/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// A running server. What it keeps, it keeps in memory.
#[derive(Debug)]
pub struct Server {
    _shell: Child,
    address: String,
}

impl Server {
    /// The one of this process.
    ///
    /// # Panics
    /// If it is not there and cannot be installed, or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/moto");
        let found = Command::new("bash").arg(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(found.status.success(), "there is no S3-compatible server for these tests, and .ci/moto cannot install one: see above");
        let program = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SUPERVISOR, "sh", &program]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut shell = shell.spawn().unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        let mut all = String::new();
        let address = loop {
            let begin = all.len();
            assert!(said.read_line(&mut all).unwrap() > 0, "{program} does not start:\n{all}");
            if let Some((_, address)) = all[begin..].split_once("Running on http://") {
                break address.trim().to_owned();
            }
        };
        // It says a line for each request, which somebody has to take.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { _shell: shell, address }
    }

    /// Makes a bucket, unless there is one, and answers its address.
    ///
    /// # Panics
    /// If the server does not make it.
    pub fn bucket(&self, name: &str) -> String {
        self.ask("PUT", &format!("/{name}"), "");
        format!("s3://{name}")
    }

    /// Sends a request, and answers the body of its answer.
    ///
    /// # Panics
    /// If the answer is not a good one.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {}\r\n{SIGNED}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}", self.address)
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What clients need to know.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        environment_at(&self.address)
    }
}

/// What clients need to know of a server at another address, such as one that stands between.
pub fn environment_at(address: &str) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "key-of-tests".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret-of-tests".to_owned()),
    ]
}
