//! The codes of the command line's own errors, each with its exit code: the one table. Those of the API are in `api::codes`, those of
//! tasks and modules in `tower_domain::codes`; `super::catalogue` joins the three.

use super::failure::Exit;

/// A kind of error that the command line finds itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnCode {
    /// Stable word.
    pub(crate) name: &'static str,
    /// How the command ends.
    pub(crate) exit: Exit,
    /// What it means.
    pub(crate) when: &'static str,
    /// What to do.
    pub(crate) remedy: &'static str,
}

macro_rules! codes {
    ($($(#[doc = $when:literal])+ $name:ident = $exit:ident $remedy:literal;)+) => {
        $($(#[doc = $when])+ pub(crate) const $name: OwnCode = OwnCode { name: stringify!($name), exit: Exit::$exit, when: concat!($($when),+), remedy: $remedy };)+

        /// All of them.
        pub(crate) static ALL: &[&OwnCode] = &[$(&$name),+];
    };
}

codes! {
    /// The command line is not one that the tower understands.
    USAGE = Usage "`tower help VERB` shows what it takes.";
    /// Something failed that no other code names.
    FAILED = Failed "The message names the cause; `--log debug` says more.";
    /// A file that was named is not there, or cannot be read.
    NO_SUCH_FILE = NotFound "Look at the path; it counts from the folder that the command runs in.";
    /// There is no project at the path: no folder with a tower.toml, no tower.toml, no .wasm.
    NO_PROJECT = NotFound "Name a folder with a tower.toml, a .wasm file, or example:NAME.";
    /// The project's file cannot be read, or does not fit together.
    BAD_PROJECT = Usage "The message names the place; docs/cli.md shows a tower.toml.";
    /// A module of the project has neither a component nor a crate to build it from.
    NO_COMPONENT = NotFound "Build it and put the .wasm there, or let `path` name a cargo project.";
    /// There is no example of that name inside the tower.
    NO_SUCH_EXAMPLE = NotFound "The message lists those that there are.";
    /// A module of the project does not build.
    BUILD_FAILED = Failed "See what cargo printed; `tower doctor --fix` installs the Rust target that is needed.";
    /// A setting is wrong, in a flag, in the environment or in a file.
    BAD_CONFIG = Usage "The message names it; `tower config show --origin` shows where each setting comes from.";
    /// Another tower works on this database.
    IN_USE = Conflict "Stop the other tower, or name another folder with --data-dir.";
    /// The data folder or the database cannot be used.
    UNUSABLE = Usage "Name a folder that can be written to with --data-dir, and a database that a tower made.";
    /// The database that was named does not answer.
    NO_DATABASE = Unreachable "Is it up, and does --database name it rightly? A tower that runs already waits for it by itself.";
    /// The database was written by another version of the tower.
    OTHER_SCHEMA = Conflict "Run the version that the message names, or, for an older one, start this tower on it once: it brings it up to date.";
    /// Another program listens at the address.
    PORT_TAKEN = Conflict "Stop what listens there, or take a free port with --listen 127.0.0.1:0.";
    /// No tower answers at the URL.
    UNREACHABLE = Unreachable "Start one with `tower serve`, or name another with --url or TOWER_URL.";
    /// Something answers at the URL, and not as a tower of this version does.
    BAD_ANSWER = Failed "Is it a tower? `tower doctor` compares the versions.";
    /// There is nothing of this name or id.
    NO_SUCH_THING = NotFound "`tower traces` lists traces, `tower tasks TRACE` a trace's tasks.";
    /// No error has this code, and no command this name.
    NO_SUCH_CODE = NotFound "docs/errors.md lists all codes, `tower help` all commands. A code that is in neither is the guest's own: its author knows.";
    /// Some definitions of a project were not put, since the server does not mount their workspace.
    LEFT_OUT = Conflict "Start the server with `tower serve --mount NAME=DIR`, and apply again.";
    /// Some of what was asked for was done, and some was refused.
    PARTLY_DONE = Failed "The answer says what became of each.";
    /// Nothing of what was asked for was done.
    NOT_DONE = Conflict "The answer says why, for each.";
    /// The command would change much, and nobody said that it may.
    NOT_CONFIRMED = Usage "Look with --dry-run, then say --yes.";
    /// Results cannot be written to standard output.
    NOT_WRITTEN = Failed "Is the disk full?";
    /// The program was stopped before it had stopped in order.
    INTERRUPTED = Interrupted "What was running begins again at the next start.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_once() {
        for (index, code) in ALL.iter().enumerate() {
            assert!(!ALL[..index].iter().any(|other| other.name == code.name), "{}", code.name);
            assert!(code.when.trim().ends_with('.') && code.remedy.ends_with(['.', '?']), "{}", code.name);
        }
    }
}
