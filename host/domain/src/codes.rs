//! Every code that the tower itself puts on a task's error, a refused module, a refused split or a refused event. Code elsewhere names a
//! constant of this table, so that no code is without its explanation. Guests have codes of their own; those stand in no table.

/// A stable word for why something did not go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The word.
    pub name: &'static str,
    /// Where it is met.
    pub place: Place,
    /// When it is given.
    pub when: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Where a code is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On a task, retried up to its `max_retries`.
    RetriedTask,
    /// On a task, which ends with it.
    EndedTask,
    /// On a module that is not taken, or on a definition that names it.
    Module,
    /// On a task whose step handed on a refusal of its `split`, as the SDK does. The contract has the same word without `SPLIT_`.
    Split,
    /// On a task, put there by the SDK that its code is built with.
    Sdk,
    /// In the answer to an event from outside.
    Event,
}

/// The code of that name.
pub fn find(name: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.name == name)
}

macro_rules! codes {
    ($($place:ident { $($(#[doc = $when:literal])+ $name:ident => $remedy:literal;)+ })+) => {
        $($($(#[doc = $when])+ pub const $name: Code = Code { name: stringify!($name), place: Place::$place, when: concat!($($when),+), remedy: $remedy };)+)+

        /// All of them.
        pub static ALL: &[&Code] = &[$($(&$name),+),+];
    };
}

codes! {
    RetriedTask {
        /// The step ran longer than `timeout_sec` of its definition, and was stopped.
        GUEST_TIMEOUT => "Raise timeout_sec, or do less in one step: split the work.";
        /// The step's code broke off: a panic, an `unreachable`, an access out of bounds. The message quotes what it printed about that.
        GUEST_TRAP => "The message and the task's log say where. Mend the code, or return an error instead of panicking.";
        /// The program called `exit` instead of returning a result.
        GUEST_NO_RESULT => "Return a result or an error from the step, and call no exit.";
        /// The host could not do its part just now: its database, its disk or its memory. Not the step's fault.
        HOST_TROUBLE => "The message names the cause; `tower doctor` looks at the host.";
        /// The worker that held the step was not heard of for as long as its lease.
        WORKER_LOST => "Look at the worker. One that works long must call /heartbeat in time; the client of the SDK does.";
        /// The worker that the step was to be posted to could not be reached, or its answer broke off.
        WORKER_UNREACHABLE => "The message says how. Start the worker, or mend the address in the definition's code_ref.";
        /// The worker that the step was posted to answered that it failed, with a status that may go away: 408, 409, 425, 429 or 5xx.
        WORKER_FAILED => "The message quotes its answer; the worker's own log says more.";
        /// The container that ran the step ended with a code other than 0. The message quotes the last of what it wrote on its standard error.
        CONTAINER_EXIT => "The task's log has all of its standard error. 64, 65 and 78 say that trying again is of no use.";
        /// The container that serves the step was not up within 30 seconds, or did not answer `GET /health` with 200 within 60.
        CONTAINER_NOT_READY => "The task's log has what it wrote. It must listen on container.port at all of its addresses.";
        /// The Docker Engine is not there, does not answer, went away while the step ran, or has no addresses left for the network that the step needs.
        EXECUTOR_UNAVAILABLE => "Start the engine (`systemctl start docker`), or name its socket: `tower serve --docker unix:///path`. Nothing is claimed until it answers. Where it has no addresses left, `docker network prune` frees some.";
        /// The container's image could not be fetched just now.
        IMAGE_PULL_FAILED => "The message has the engine's words. Look at the registry, or put the image there and set container.pull to NEVER.";
        /// The host itself went wrong while it ran the step or kept its outcome.
        HOST_BUG => "The host's log has the details under the task's id. Please report it.";
    }
    EndedTask {
        /// The worker that the step was posted to refused it: it answered neither 2xx nor a status that may go away.
        WORKER_REFUSED => "The message quotes its answer. A worker that fails should say `{code, message, retryable}`.";
        /// The definition's code is at an address that this tower does not call.
        WORKER_NOT_ALLOWED => "The operator lists what may be called: `tower serve --worker-url http://host:port/path`.";
        /// The container used more memory than it has, and was killed for it.
        CONTAINER_OOM => "Raise container.memory_bytes, or hold less at a time. What is in /tmp counts.";
        /// The container ended with 64, 65 or 78: it says itself that trying again is of no use.
        CONTAINER_REFUSED => "The message quotes what it wrote on its standard error; mend the params, or the definition.";
        /// The engine cannot start the container: most often its program is not in the image.
        CONTAINER_NOT_STARTED => "The message has the engine's words; look at the image, and at container.command and container.user.";
        /// The definition asks for what this tower's operator does not grant containers.
        CONTAINER_NOT_ALLOWED => "The message names what, and the operator's setting for it.";
        /// The container's image is not there, and is not to be fetched or is not known where it should be.
        IMAGE_MISSING => "`docker pull` or `docker build` it where the tower runs, or mend the definition's code_ref.";
        /// The step used more time on the processor than `resource_profile.cpu_ms` grants.
        GUEST_CPU_LIMIT => "Raise resource_profile.cpu_ms, or do less in one step.";
        /// The step's memories and tables together would have grown over `resource_profile.memory_bytes`.
        GUEST_MEMORY_LIMIT => "Raise resource_profile.memory_bytes, or hold less at a time.";
        /// The code recursed until its stack was used up.
        GUEST_STACK_OVERFLOW => "Recurse less deeply, or keep a stack of your own on the heap.";
        /// The step asked its host for too much at once: too many open handles, too long a message, too many bytes in a call.
        GUEST_QUOTA => "The message names the bound. Close what is no longer used, and split large calls.";
        /// The step handed its host text that is not JSON as the contract has it.
        GUEST_BAD_JSON => "Write JSON with a serialiser: UTF-8, no key twice in one object, no NUL, at most 100 levels.";
        /// The step called its host with an argument that means nothing.
        GUEST_BAD_CALL => "The message names the argument; `wit/` says what each call takes.";
        /// What the step returned is not JSON, or cannot be read.
        GUEST_BAD_RESULT => "Return JSON text; the SDK does so for any type that can be serialised.";
        /// The step wrote more into its session's workspace than that may hold, and was stopped if it still ran; or it would have written there while it held too much.
        WORKSPACE_QUOTA => "Delete files (`tower sessions rm`), write less, or give the session a larger quota_bytes.";
        /// The trace's session was closed, or its workspace cannot be brought back.
        SESSION_GONE => "Begin the trace in another session; `tower sessions ls` lists them.";
        /// The step's output is larger than an output may be.
        GUEST_RESULT_TOO_LARGE => "Return less, or split the work so that each child returns a part.";
        /// The step returned an error without a code.
        GUEST_ERROR => "Give errors a code of your own: whoever reads the dead letters sorts by it.";
        /// The step returned `cancelled`, and nobody had cancelled it.
        GUEST_CANCELLED_ITSELF => "To give up, return a fatal error.";
        /// The step returned `paused`, and nobody had paused it.
        NOT_PAUSED => "To try again later, return a retryable error.";
        /// The children that the step split off would have made more tasks than a trace may have.
        TRACE_TOO_LARGE => "Split into fewer children, or begin several traces.";
        /// An aggregator without an `aggregate` export has more results to work on than `run` can be given.
        UPSTREAM_TOO_LARGE => "Export `aggregate`, which reads results page by page.";
        /// Fewer children succeeded than the definition's `aggregation` asks for.
        CHILDREN_FAILED => "Look at the children: `tower tasks TRACE --parent TASK`. Mend them and retry the trace, or ask for less with aggregation.policy and min_success.";
        /// The task was cancelled, by itself or with the tree that it belongs to.
        CANCELLED => "Nothing is wrong. `tower retry TRACE` runs what was not done.";
        /// A sibling that the task depends on did not succeed, so that the task was skipped.
        DEPENDENCY_FAILED => "Mend the sibling and retry the trace. A task that is to run all the same says `run_on: FINISHED`.";
        /// The task's host died each time that it ran this task, three times in a row.
        HOST_CRASHED => "Retry it on a host that you can watch. If it happens again, please report it with the module.";
        /// The definition that the task was made from is not in the database.
        DEFINITION_MISSING => "Nothing deletes definitions: the database was changed by hand, or restored in part. `tower doctor --db FILE` looks at it.";
        /// No executor of this host runs the definition's `code_ref`.
        NO_EXECUTOR => "A server runs all kinds of code, containers if it has a Docker Engine; `tower run` runs components alone.";
    }
    Module {
        /// The bytes are not a WebAssembly component that can be read.
        NOT_A_COMPONENT => "Build for components: `cargo build --target wasm32-wasip2 --release` (a core module of wasm32-unknown-unknown or wasm32-wasip1 is not one).";
        /// The bytes are native code that a Wasmtime compiled already.
        PRECOMPILED => "Upload the .wasm component itself; the tower compiles it.";
        /// The component is made for another host, or for a version of the contract that this tower does not run.
        WORLD_MISMATCH => "Build it against `wit/` of this tower; `tower version` lists the contracts that it runs.";
        /// The component imports what is not there.
        UNKNOWN_IMPORT => "`tower inspect FILE` lists the imports. Build against the SDK of this tower's version.";
        /// The component imports what the tower never gives: network, processes, its environment.
        IMPORT_DENIED => "Do without; `tower inspect FILE` lists the imports, and docs/modules.md what a module gets.";
        /// The component uses a WebAssembly proposal that is off here.
        FEATURE_OFF => "Build without threads, 64-bit memories, garbage collection, exceptions and component-model async.";
        /// The component declares more than the sandbox ever gives: memories, tables, instances, functions.
        STATIC_LIMIT => "The message names what and how much. Make it smaller, or split it in two modules.";
        /// The component takes more time or memory to compile than the tower grants.
        COMPILE_LIMIT => "Build with optimisation and without debug information; split very large functions.";
        /// The definition's `code_ref` names a module or a tag that has not been uploaded.
        MODULE_UNKNOWN => "`tower modules ls` lists what is there; `tower push FILE.wasm --name NAME` uploads one.";
        /// The module is there, and does not run on this host.
        MODULE_INVALID => "`tower inspect NAME` says what it is; build it again and push it.";
        /// The definition is granted a workspace that this host does not declare.
        WORKSPACE_UNKNOWN => "Start the host with `--mount NAME=DIR`, or grant another workspace.";
        /// The definition asks for more memory than this host gives a step.
        MEMORY_TOO_LARGE => "Lower resource_profile.memory_bytes; the message names the bound.";
    }
    Split {
        /// The task may not split: it is an EXECUTION, an aggregator, or an agent at the lowest layer.
        SPLIT_NOT_ALLOWED => "Make it an AGENT, or raise max_layers.";
        /// More children than `max_children` of the definition.
        SPLIT_TOO_MANY_CHILDREN => "Split in two steps: children that split again.";
        /// The trace would have more tasks than one may have.
        SPLIT_TRACE_TOO_LARGE => "Begin several traces.";
        /// A child is malformed or out of bounds; the message names it and the field.
        SPLIT_INVALID_CHILD => "Mend the child that the message names.";
        /// A child's key is taken by a child with other content.
        SPLIT_DUPLICATE_KEY => "Give each child of a parent a key of its own. The same child twice is one child.";
        /// A child depends on a key that no sibling has.
        SPLIT_UNKNOWN_DEPENDENCY => "Split the sibling in the same call or before, under that key.";
        /// A child would wait for itself, in one step or around a circle.
        SPLIT_CYCLE => "Take one of the depends_on of the circle away.";
        /// A child's definition is not there, or is not active.
        SPLIT_UNKNOWN_DEFINITION => "`tower defs ls` lists them; `tower apply` puts them.";
    }
    Sdk {
        /// The params do not fit the type that the code reads them as.
        BAD_PARAMS => "Trigger it with params that fit; a `params_schema` in the definition refuses others before anything runs.";
        /// Something that the code wanted to hand to its host does not become JSON.
        BAD_JSON => "Keep to what JSON has: maps with text as keys, and finite numbers.";
        /// The output does not become JSON; or another task's output is not what the code reads it as.
        BAD_OUTPUT => "The message says whose output it is; make both sides agree on its type.";
        /// What an earlier run of the task carried over is not what the code reads it as.
        BAD_CARRIED => "Read it as what was handed to `Outcome::paused`, or retry the trace from its beginning.";
        /// A file of the workspace could not be read.
        IO_ERROR => "The message names it; look at the folder behind `--mount`.";
        /// The code asks for the result of a sibling that the task does not depend on.
        NO_UPSTREAM => "Name the sibling in depends_on.";
        /// The code asks for the output of a task that has none, as it did not succeed.
        NO_OUTPUT => "Look at that task; `status` of its result says how it ended.";
        /// The output of another task is too large to be handed over.
        OUTPUT_ELSEWHERE => "Let that task return less; its output is at the URL in the message.";
    }
    Event {
        /// Another event was accepted under this `event_id`, with other content.
        EVENT_ID_TAKEN => "Send each event under an id of its own, and the same event under the same id.";
        /// There is no such task in this trace.
        NOT_FOUND => "Look at the ids; `tower tasks TRACE` lists the tasks.";
        /// The event's id is no 1 to 128 visible ASCII characters.
        BAD_EVENT_ID => "Use a UUID or a ULID.";
        /// The event's payload does not fit its type.
        BAD_PAYLOAD => "PROGRESS takes an object with `percent` 0 to 100 and, if wanted, `message`.";
        /// The event says how a task went that the host itself runs.
        NOT_YOURS => "Report PROGRESS alone; outcomes of tasks come from whoever runs them.";
        /// An event of this type does not come from outside.
        BAD_EVENT_TYPE => "From outside come STARTED, PROGRESS, COMPLETED, FAILED and CANCELLED.";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::SplitRefusal;

    #[test]
    fn every_code_is_explained_once() {
        for (index, code) in ALL.iter().enumerate() {
            assert!(!ALL[..index].iter().any(|other| other.name == code.name), "{}", code.name);
            assert!(code.when.trim().ends_with('.') && code.remedy.ends_with('.') || code.remedy.ends_with(')'), "{}", code.name);
        }
    }

    #[test]
    fn every_reason_to_refuse_a_split_is_explained() {
        for reason in SplitRefusal::ALL {
            assert_eq!(find(&format!("SPLIT_{reason}")).map(|code| code.place), Some(Place::Split), "{reason}");
        }
    }
}
