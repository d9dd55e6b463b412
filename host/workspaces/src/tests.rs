use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tower_domain::id::SessionId;
use ulid::Ulid;

use crate::path::user_folder;
use crate::{EntryKind, Quota, Settings, Workspace, WorkspaceError, WorkspacePath, Workspaces};

struct Bench {
    folder: tempfile::TempDir,
    all: Workspaces,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let all = Workspaces::open(&folder.path().join("workspaces"), Settings::default()).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        Self { folder, all }
    }

    fn workspace(&self, quota: Option<Quota>) -> Workspace {
        let workspace = self.all.of("ada", SessionId(Ulid::from_parts(7, 7)), quota);
        workspace.ensure().unwrap();
        workspace
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }
}

fn path(text: &str) -> WorkspacePath {
    text.parse().unwrap()
}

fn put(workspace: &Workspace, at: &str, text: &str) -> Result<(), WorkspaceError> {
    let mut incoming = workspace.begin(&path(at))?;
    incoming.write(text.as_bytes())?;
    incoming.finish().map(drop)
}

fn get(workspace: &Workspace, at: &str) -> Result<String, WorkspaceError> {
    let mut text = String::new();
    workspace.read(&path(at))?.0.read_to_string(&mut text).unwrap();
    Ok(text)
}

fn paths(workspace: &Workspace) -> Vec<String> {
    workspace.list(None, 1_000).unwrap().into_iter().map(|entry| entry.path).collect()
}

#[test]
fn what_is_put_is_read_listed_and_deleted() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    put(&workspace, "input/deep/er/a.txt", "first").unwrap();
    put(&workspace, "input/deep/er/a.txt", "second").unwrap();
    assert_eq!(get(&workspace, "input/deep/er/a.txt").unwrap(), "second");
    assert_eq!(paths(&workspace), [".skills", "input", "input/deep", "input/deep/er", "input/deep/er/a.txt", "output"]);
    let rest = workspace.list(Some("input/deep/er"), 1).unwrap();
    assert_eq!((rest[0].path.as_str(), rest[0].kind, rest[0].bytes), ("input/deep/er/a.txt", EntryKind::File, 6));
    assert_eq!((workspace.measure().unwrap().bytes, workspace.measure().unwrap().files), (6, 3));
    workspace.delete(&path("input/deep")).unwrap();
    assert!(matches!(workspace.delete(&path("input/deep")), Err(WorkspaceError::NotFound(_))));
    assert_eq!(paths(&workspace), [".skills", "input", "output"]);
}

#[test]
fn names_that_lead_out_are_no_paths() {
    for bad in ["", "/etc/passwd", "..", "../x", "a/../b", "a//b", "a/", ".", "a/./b", "a\0b", "a\nb", &"x".repeat(256), &"a/".repeat(600)] {
        assert!(matches!(bad.parse::<WorkspacePath>(), Err(WorkspaceError::BadPath { .. })), "{bad:?}");
    }
    for good in ["a", ".skills/x", "input/…/ü", "a b", "..."] {
        assert!(good.parse::<WorkspacePath>().is_ok(), "{good}");
    }
}

#[test]
fn users_whose_ids_are_paths_or_differ_in_case_have_folders_of_their_own() {
    assert_eq!(user_folder("ada"), "u-ada");
    assert_eq!(user_folder("../Eve@x"), "u-%2e%2e%2f%45ve%40x");
    assert_eq!(user_folder(""), "u-");
    let (long, longer) = (user_folder(&"x".repeat(500)), user_folder(&"x".repeat(501)));
    assert!(long.len() <= 120 && longer.len() <= 120 && long != longer, "{long}");
}

#[test]
fn links_are_never_followed_wherever_they_stand() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    symlink(bench.secret(), workspace.path().join("absolute")).unwrap();
    symlink("../../../secret", workspace.path().join("relative")).unwrap();
    symlink(bench.folder.path(), workspace.path().join("up")).unwrap();
    fs::remove_dir(workspace.path().join("output")).unwrap();
    symlink(bench.folder.path(), workspace.path().join("output")).unwrap();
    for at in ["absolute", "relative", "up/secret", "output/secret"] {
        assert!(matches!(get(&workspace, at), Err(WorkspaceError::Refused { .. })), "{at}");
    }
    for at in ["up/new", "output/new"] {
        assert!(matches!(put(&workspace, at, "x"), Err(WorkspaceError::Refused { .. })), "{at}");
    }
    assert!(matches!(workspace.delete(&path("up/secret")), Err(WorkspaceError::Refused { .. })));
    // Who writes where a link stands replaces the link.
    put(&workspace, "absolute", "mine").unwrap();
    workspace.delete(&path("up")).unwrap();
    assert_eq!((fs::read_to_string(bench.secret()).unwrap().as_str(), get(&workspace, "absolute").unwrap().as_str()), ("secret", "mine"));
    // Not even if the whole workspace is one.
    workspace.remove().unwrap();
    symlink(bench.folder.path(), workspace.path()).unwrap();
    assert!(workspace.ensure().is_err() && workspace.measure().is_err() && get(&workspace, "secret").is_err());
    workspace.remove().unwrap();
    assert!(bench.secret().exists());
}

#[test]
fn hard_links_pipes_and_folders_are_not_read() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    fs::hard_link(bench.secret(), workspace.path().join("hard")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(workspace.path().join("pipe")).status().unwrap().success());
    for at in ["hard", "pipe", "input"] {
        assert!(matches!(get(&workspace, at), Err(WorkspaceError::Refused { .. })), "{at}");
    }
    assert!(workspace.pack(std::io::sink()).is_err(), "what would not come back is not archived");
    workspace.delete(&path("hard")).unwrap();
    assert!(bench.secret().exists());
}

#[test]
fn the_quota_counts_bytes_and_names_and_a_file_that_is_replaced_once() {
    let bench = Bench::new();
    let workspace = bench.workspace(Some(Quota { bytes: 10, files: 3 }));
    put(&workspace, "input/a", "12345678").unwrap();
    assert!(matches!(put(&workspace, "input/b", "123"), Err(WorkspaceError::Quota { .. })));
    put(&workspace, "input/a", "1234567890").unwrap();
    put(&workspace, "input/empty", "").unwrap();
    put(&workspace, "input/empty-too", "").unwrap();
    assert!(matches!(put(&workspace, "input/one-more", ""), Err(WorkspaceError::Quota { .. })));
    assert!(paths(&workspace).iter().all(|path| !path.contains("one-more") && !path.ends_with("/b")));
    assert_eq!(fs::read_dir(bench.all.root().join(".incoming")).unwrap().count(), 0, "what was refused leaves nothing");
    // Two that come at the same time do not pass it together.
    workspace.delete(&path("input/empty-too")).unwrap();
    put(&workspace, "input/a", "1").unwrap();
    let (mut one, mut two) = (workspace.begin(&path("input/one")).unwrap(), workspace.begin(&path("input/two")).unwrap());
    one.write(b"123456").unwrap();
    two.write(b"123456").unwrap();
    one.finish().unwrap();
    assert!(matches!(two.finish(), Err(WorkspaceError::Quota { .. })));
    // What a step wrote past it is seen, and nothing comes in until it is under again; sparse files count as long as they are.
    fs::File::create(workspace.path().join("output/big")).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(workspace.within_quota(), Err(WorkspaceError::Quota { .. })));
    assert!(matches!(put(&workspace, "input/a", "1"), Err(WorkspaceError::Quota { .. })));
    workspace.delete(&path("output/big")).unwrap();
    put(&workspace, "input/a", "1").unwrap();
}

#[test]
fn folders_in_folders_without_end_are_over_any_quota_and_can_be_deleted() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    let mut folder = rustix::fs::open(workspace.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&folder, "d", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        folder = rustix::fs::openat(&folder, "d", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    assert!(matches!(workspace.within_quota(), Err(WorkspaceError::Quota { .. })));
    assert!(workspace.pack(std::io::sink()).is_err());
    workspace.delete(&path("d")).unwrap();
    workspace.within_quota().unwrap();
}

#[test]
fn an_archive_brings_everything_back_but_what_is_ignored() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    put(&workspace, "input/a.txt", "a").unwrap();
    put(&workspace, "output/build/x.o", "object").unwrap();
    put(&workspace, "output/keep.o", "kept").unwrap();
    put(&workspace, ".towerignore", "# what can be made again\n*.o\n!keep.o\n").unwrap();
    let long = format!("input/{}", "n".repeat(200));
    put(&workspace, &long, "long").unwrap();
    symlink("a.txt", workspace.path().join("input/link")).unwrap();
    let mut bytes = Vec::new();
    workspace.pack(&mut bytes).unwrap();
    workspace.remove().unwrap();
    assert!(!workspace.exists().unwrap());
    workspace.unpack(bytes.as_slice()).unwrap();
    let expected = [".skills", ".towerignore", "input", "input/a.txt", "input/link", long.as_str(), "output", "output/build", "output/keep.o"];
    assert_eq!(paths(&workspace), expected);
    assert_eq!(get(&workspace, &long).unwrap(), "long");
    assert_eq!(fs::read_link(workspace.path().join("input/link")).unwrap().to_str(), Some("a.txt"));
    // A tar that was cut short leaves what was there.
    put(&workspace, "input/new", "new").unwrap();
    assert!(workspace.unpack(&bytes[..700]).is_err());
    assert_eq!(get(&workspace, "input/new").unwrap(), "new");
}

#[test]
fn an_archive_that_leads_out_is_refused() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    let tar = |path: &str, link: Option<&str>| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(if link.is_some() { tar::EntryType::Link } else { tar::EntryType::Regular });
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
        builder.into_inner().unwrap()
    };
    for bad in [tar("../../x", None), tar("input/../../x", None), tar("hard", Some("/etc/passwd"))] {
        assert!(matches!(workspace.unpack(bad.as_slice()), Err(WorkspaceError::Refused { .. })));
    }
    assert!(workspace.exists().unwrap());
}

#[test]
fn one_at_a_time_has_the_lock() {
    let bench = Bench::new();
    let workspace = bench.workspace(None);
    let lock = workspace.lock().unwrap();
    assert!(workspace.try_lock().unwrap().is_none());
    drop(lock);
    assert!(workspace.try_lock().unwrap().is_some());
}

#[test]
fn a_folder_that_somebody_else_filled_is_taken_in_within_the_quota() {
    let bench = Bench::new();
    let workspace = bench.workspace(Some(Quota { bytes: 10, files: 10 }));
    for (text, fits) in [("12345", true), ("1234567", false)] {
        let (folder, name) = bench.all.new_folder().unwrap();
        fs::write(folder.join("a"), text).unwrap();
        let at = path(&format!("input/repo-{}", text.len()));
        assert_eq!(workspace.adopt(&name, &at).is_ok(), fits, "{text}");
        bench.all.drop_folder(&name).unwrap();
    }
    assert_eq!(get(&workspace, "input/repo-5/a").unwrap(), "12345");
}
