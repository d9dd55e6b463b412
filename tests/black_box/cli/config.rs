//! Settings from flags, environment and files.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::run;
use crate::host::tower;

fn show(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = tower();
    command.current_dir(folder).env("XDG_CONFIG_HOME", folder.join("user")).envs(env.iter().copied());
    command.args(["config", "show", "--json"]).args(args).output().unwrap()
}

fn setting(output: &Output, key: &str) -> (Value, Value) {
    assert!(output.status.success(), "{output:?}");
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = body["items"].as_array().unwrap().iter().find(|item| item["key"] == key).unwrap().clone();
    (found["value"].clone(), found["origin"]["kind"].clone())
}

#[test]
fn the_nearest_source_of_a_setting_counts() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let slots = |args: &[&str], env: &[(&str, &str)]| setting(&show(here, args, env), "host.slots");
    assert_eq!(slots(&[], &[]), (256.into(), "default".into()));
    std::fs::create_dir_all(here.join("user/tower")).unwrap();
    std::fs::write(here.join("user/tower/config.toml"), "[host]\nslots = 11\n[server]\ndata_dir = \"from-user\"\n").unwrap();
    assert_eq!(slots(&[], &[]), (11.into(), "file".into()));
    // A project's file has other things too.
    std::fs::write(here.join("tower.toml"), "[[definition]]\nid = \"x\"\n\n[host]\nslots = 12\nmount = [\"source=.\"]\n").unwrap();
    let both = show(here, &[], &[]);
    assert_eq!(setting(&both, "host.slots"), (12.into(), "file".into()));
    assert_eq!(setting(&both, "server.data_dir").0, "from-user");
    assert_eq!(setting(&both, "host.mount").0, serde_json::json!(["source=."]));
    assert_eq!(slots(&[], &[("TOWER_SLOTS", "13")]), (13.into(), "env".into()));
    assert_eq!(slots(&["--slots", "14"], &[("TOWER_SLOTS", "13")]), (14.into(), "flag".into()));
    // A file that is named is read instead of those that are found.
    std::fs::write(here.join("other.toml"), "[host]\ncancel_grace = \"1s\"\n").unwrap();
    assert_eq!(slots(&["--config", "other.toml"], &[]), (256.into(), "default".into()));
    assert_eq!(slots(&[], &[("TOWER_CONFIG", "other.toml")]), (256.into(), "default".into()));
    let said = String::from_utf8(tower().current_dir(here).args(["config", "show", "--origin"]).output().unwrap().stdout).unwrap();
    assert!(said.contains("host.slots") && said.contains("file: tower.toml"), "{said}");
}

#[test]
fn a_wrong_file_keeps_the_server_from_starting_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let at = file.to_str().unwrap();
    for (text, words) in [("[host]\nslots = 0\n", ["host.slots", "1..=8000"]), ("[host]\nslot = 1\n", ["`slot`", "slots"]), ("[hots]\n", ["[hots]", "host"])] {
        std::fs::write(&file, text).unwrap();
        let refused = run(None, &["serve", "--listen", "127.0.0.1:0", "--config", at]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("BAD_CONFIG") && said.contains(at) && words.iter().all(|word| said.contains(word)), "{said}");
    }
    let missing = run(None, &["serve", "--config", "/no/such/file.toml"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/file.toml"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_with_the_settings_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tower.toml"), "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"kept-here\"\n").unwrap();
    let mut command = tokio::process::Command::from(tower());
    command.current_dir(folder.path()).arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut server = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    assert!(line.starts_with("listening on http://127.0.0.1:"), "{line}");
    assert!(folder.path().join("kept-here/tower.db").is_file());
    server.kill().await.unwrap();
}
