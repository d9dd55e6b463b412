//! Modules and large outputs in a bucket: hosts have nothing but it and the database in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tower_test_objects::{Server, environment_at};

use crate::host::{Host, tower};

/// A way to the bucket that can be cut.
struct Way {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    /// Ends every connection that there is.
    cut: Arc<tokio::sync::Notify>,
}

impl Way {
    async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), server.address().to_owned());
        let (is_cut, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
        let way = Self { address, is_cut: is_cut.clone(), cut: cut.clone() };
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let (to, cut) = (to.clone(), cut.clone());
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = cut.notified() => {}
                    }
                });
            }
        });
        way
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        self.cut.notify_waiters();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_a_bucket_run_what_one_of_them_was_sent_and_wait_out_its_outage() {
    let server = Server::shared();
    let bucket = format!("{}/tower", server.bucket("hosts"));
    let way = Way::to(server).await;
    let mut first = Host::on_postgres_stopped(&["--artifacts", &bucket, "--slots", "4"]);
    first.variables = environment_at(&way.address.to_string());
    first.restart().await;
    let mut second = Host::beside(&first, &["--artifacts", &bucket, "--slots", "4"]).await;
    first.install("probe").await;
    let large = json!({ "do": "big_output", "bytes": 200_000 });
    let ended = second.run("probe", large.clone()).await;
    assert_eq!(ended["status"], "SUCCESS", "{ended}");
    let url = ended["output_ref"].as_str().unwrap_or_else(|| panic!("{ended}"));
    let bytes = first.request(reqwest::Method::GET, url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes.len(), 200_000);
    // The module, an output of each trace, and the mark.
    second.run("probe", large.clone()).await;
    let listed = server.ask("GET", "/hosts?list-type=2", "");
    assert_eq!(listed.matches("<Key>tower/").count(), 4, "{listed}");
    // While the bucket is away, a large output waits for it, and nothing runs twice.
    way.cut(true);
    let trace = first.trigger("probe", json!({ "do": "big_output", "bytes": 300_000 })).await;
    let path = format!("/api/v1/traces/{trace}");
    first.until("the step to have begun", &path, |body| (body["counts"]["running"] == 1).then_some(())).await;
    assert_eq!(first.run("probe", json!({ "do": "echo", "value": 1 })).await["status"], "SUCCESS", "small ones go on");
    way.cut(false);
    let ended = first.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["success"]), (&json!("SUCCESS"), &json!(1)), "{ended}");
    let root = first.get(&format!("/api/v1/tasks/{}", ended["root_task_id"].as_str().unwrap())).await;
    assert_eq!(root["attempt"], 1, "no retry was used up: {root}");
    for host in [&mut first, &mut second] {
        assert!(host.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_used_keeps_the_server_from_starting_and_is_named() {
    let server = Server::shared();
    let folder = tempfile::tempdir().unwrap();
    let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string() };
    for (url, environment) in [("s3://no-such-bucket/tower", server.environment()), ("s3://any", environment_at(&nobody))] {
        let output =
            tower().args(["serve", "--listen", "127.0.0.1:0", "--artifacts", url, "--data-dir"]).arg(folder.path()).envs(environment).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(url) && told.contains("AWS_ENDPOINT_URL"), "{told}");
        assert!(!told.contains("secret-of-tests") && !told.contains("key-of-tests"), "{told}");
    }
}
