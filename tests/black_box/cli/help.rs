//! `tower help`.

use serde_json::Value;

use super::{ok, run};

#[test]
fn a_code_is_explained_with_its_remedy() {
    let said = ok(None, &["help", "GUEST_TIMEOUT"]);
    assert!(said.contains("timeout_sec") && said.contains("retried"), "{said}");
    assert_eq!(ok(None, &["help", "guest-timeout"]), said, "in whatever case");
    let api: Value = serde_json::from_str(&ok(None, &["help", "NO_SUCH_TRACE", "--json"])).unwrap();
    assert_eq!((&api["code"], &api["http_status"], &api["exit_code"]), (&"NO_SUCH_TRACE".into(), &404.into(), &3.into()));
    for code in ["NOT_A_COMPONENT", "PORT_TAKEN", "SPLIT_CYCLE", "EVENT_ID_TAKEN", "HOST_CRASHED"] {
        ok(None, &["help", code]);
    }
}

#[test]
fn a_code_that_is_not_there_is_told_from_one_that_is_nearly() {
    let near = run(None, &["help", "GUEST_TIMEOT"]);
    assert_eq!(near.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&near.stderr).contains("did you mean GUEST_TIMEOUT"), "{near:?}");
    let far = run(None, &["help", "XYZZY"]);
    assert_eq!(far.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&far.stderr).contains("docs/errors.md"), "{far:?}");
}

#[test]
fn help_of_commands_is_what_it_was() {
    for words in [&["run"][..], &["dlq", "replay"], &["help"]] {
        let asked: Vec<&str> = std::iter::once("help").chain(words.iter().copied()).collect();
        let flag: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
        assert_eq!(ok(None, &asked), ok(None, &flag));
    }
    assert!(ok(None, &["help"]).contains("First steps"));
}

#[test]
fn a_component_that_is_refused_says_what_to_do() {
    let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    std::fs::write(file.path(), b"no component").unwrap();
    let refused = run(None, &["inspect", file.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("NOT_A_COMPONENT") && said.contains("wasm32-wasip2"), "{said}");
}
