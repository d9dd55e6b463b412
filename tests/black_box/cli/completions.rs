//! `tower completions`, with the shells that are there.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::ok;
use crate::host::Host;

/// What bash would offer for the last of these words.
fn offered(url: &str, words: &[&str]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_BIN_EXE_tower")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    // The word that is completed is the last one, and the function is told it once more.
    let script = "source <(tower completions bash); COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; \
                  COMP_WORDBREAKS=\" =:\"; _tower tower \"${COMP_WORDS[COMP_CWORD]}\" \"\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", script, "bash", "tower"]).args(words).env("PATH", path).env("TOWER_URL", url).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_verbs_and_what_the_server_has() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "echo" })).await;
    let root = host.ended(&trace).await["root_task_id"].as_str().unwrap().to_owned();
    let offered = |words: &[&str]| offered(&host.url, words);
    assert_eq!(offered(&["doct"]), ["doctor"]);
    assert!(offered(&["dlq", ""]).contains(&"replay".to_owned()));
    let ids = offered(&["watch", ""]);
    assert_eq!(ids.iter().filter(|word| !word.starts_with('-')).collect::<Vec<_>>(), [&trace]);
    assert_eq!(offered(&["task", &root[..10]]), [root]);
    assert_eq!(offered(&["trigger", "probe-ex"]), ["probe-exec"]);
    assert_eq!(offered(&["modules", "show", ""])[0], "probe");
    // Words with a colon come in pieces, and only the last piece is put in.
    assert_eq!(offered(&["inspect", "probe", ":", "l"]), ["latest"]);
    let examples = command_tower_examples::all().len();
    assert_eq!(offered(&["run", "example", ":"]).len(), examples);
    assert_eq!(offered(&["run", "example", ":", "fin"]), ["financial-analysis"]);
    assert_eq!(offered(&["run", "exam"]).len(), examples);
    assert_eq!(offered(&["help", "GUEST_TIME"]), ["GUEST_TIMEOUT"]);
}

#[test]
fn without_a_server_nothing_is_offered_and_nothing_is_said() {
    let begin = std::time::Instant::now();
    assert!(offered("http://127.0.0.1:1", &["watch", ""]).iter().all(|word| word.starts_with('-')));
    assert!(begin.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn every_script_is_one_that_its_shell_reads() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = ok(None, &["completions", shell]);
        assert!(script.contains("TOWER_COMPLETE"), "{script}");
        let there = Command::new(shell).arg("--version").output().is_ok_and(|output| output.status.success());
        if !there || shell == "powershell" {
            continue;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        let read = Command::new(shell).arg("-n").arg(file.path()).output().unwrap();
        assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {read:?}");
    }
}
