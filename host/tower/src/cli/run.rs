//! `tower run`: a project on an engine in this process.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tower_domain::clock::{Clock, SystemClock};
use tower_domain::code_ref::LATEST;
use tower_domain::id::TraceId;
use tower_domain::json::Json;
use tower_domain::module::Module;
use tower_domain::name::Name;
use tower_domain::schedule::check::SHORTEST;
use tower_domain::schedule::{NightWindow, Window};
use tower_domain::trace::TriggerType;
use tower_engine::orders::{Control, ControlRequest, Trigger};

use super::failure::{Exit, Failure};
use super::live::{Canvas, Source, outcome, watch};
use super::output::err_line;
use super::params::ParamArgs;
use super::project::{Project, spec_of};
use super::serve::Signals;
use super::{Context, Output};
use crate::api::ModuleGate;
use crate::api::problem::{Problem, codes};
use crate::api::types::TraceBody;
use crate::app::Host;
use crate::config::{CompileArgs, HostConfig, LEASE_DEFAULT, Mount, parse_duration};

/// Runs a component and everything it splits off.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A folder with a tower.toml, a .wasm file, or example:NAME
    #[arg(add = super::complete::projects())]
    project: String,
    #[command(flatten)]
    params: ParamArgs,
    /// The definition to trigger, where the project has several
    #[arg(long, value_name = "ID")]
    definition: Option<Name>,
    /// A folder that definitions may be granted by this name, read-only (repeatable)
    #[arg(long = "mount", value_name = "NAME=DIR")]
    mounts: Vec<Mount>,
    #[command(flatten)]
    compile: CompileArgs,
    /// Cancel it after DURATION, such as 2s, to see how it takes that
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    cancel_after: Option<Duration>,
    /// How long a cancelled step may go on
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    cancel_grace: Duration,
}

pub(crate) async fn run(args: RunArgs, context: &Context) -> Result<(), Failure> {
    let project = Project::named(&args.project)?;
    let definition = definition(&args, &project)?;
    let params = project.params.overlaid(&args.params.read()?);
    let host = Host::in_memory(&host_config(args.cancel_grace, args.mounts, args.compile)).await?;
    let ended = run_on(&host, &project, definition, params, args.cancel_after, context).await;
    // Fetched before the host goes, and with it everything that it kept.
    let shown = match ended {
        Ok(trace) => Source::Local(host.engine.clone()).output(&trace).await.map(|output| TraceBody { output, output_ref: None, ..trace }),
        Err(failure) => Err(failure),
    };
    host.stop(Duration::ZERO).await;
    let trace = shown?;
    print(&context.out, &trace, trace.output.as_ref())?;
    outcome(&trace)
}

/// What one thing is run with: at any hour, and without what the project schedules.
fn host_config(cancel_grace: Duration, mounts: Vec<Mount>, compile: CompileArgs) -> HostConfig {
    HostConfig {
        slots: 256,
        cancel_grace,
        lease: LEASE_DEFAULT,
        mounts,
        compile,
        night: NightWindow::ALWAYS,
        schedules: false,
        schedule_interval_min: SHORTEST,
        retention: None,
        user_max_concurrent: None,
    }
}

fn definition(args: &RunArgs, project: &Project) -> Result<Name, Failure> {
    let ids = || project.definitions.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ");
    let wanted = args.definition.clone().or_else(|| project.trigger.clone());
    let wanted = wanted.ok_or_else(|| Failure::usage("which definition is to be triggered?").help(format!("--definition with one of: {}", ids())))?;
    if project.definitions.iter().any(|(id, _)| *id == wanted) {
        Ok(wanted)
    } else {
        Err(Failure::usage(format!("the project has no definition `{wanted}`")).help(format!("it has: {}", ids())))
    }
}

async fn run_on(
    host: &Host,
    project: &Project,
    definition: Name,
    params: Json,
    cancel_after: Option<Duration>,
    context: &Context,
) -> Result<TraceBody, Failure> {
    install(host, project, &definition).await?;
    let trigger = Trigger {
        definition_id: definition,
        params,
        priority: None,
        run_at: None,
        // Whoever runs it means now, whatever it waits for on a server.
        window: Some(Window::Immediate),
        user_id: None,
        labels: std::collections::BTreeMap::new(),
        trigger_type: TriggerType::Manual,
        triggered_by: "tower run".to_owned(),
        idempotency_key: None,
        session_id: None,
    };
    let id = host.engine.trigger(trigger).await.map_err(Problem::from)?.trace_id;
    let source = Source::Local(host.engine.clone());
    let watching = watch(&source, id, Canvas::Stderr(context.err), false);
    tokio::select! {
        trace = watching => trace,
        failure = cancel_in_time(host, id, cancel_after) => Err(failure),
    }
}

/// Puts the project into the host's stores, past the API and with the same checks.
async fn install(host: &Host, project: &Project, asked_for: &Name) -> Result<(), Failure> {
    let stores = host.engine.stores();
    let latest = Name::new(LATEST).map_err(|error| Failure::usage(error.to_string()))?;
    for (name, wasm) in &project.modules {
        let module = admitted(host, name, wasm.clone()).await?;
        stores.blobs.put(wasm.to_vec()).await.map_err(Problem::from)?;
        stores.modules.add(&module, name, std::slice::from_ref(&latest), SystemClock.now()).await.map_err(Problem::from)?;
    }
    for (id, spec) in &project.definitions {
        match host.engine.put_definition(id, spec_of(id, spec)?.into(), None).await.map_err(Problem::from) {
            Ok(_) => {}
            // One that is not asked for may want a folder that was not given.
            Err(problem) if problem.code() == codes::WORKSPACE_UNKNOWN.name && asked_for != id => {}
            Err(problem) => return Err(Failure::from(problem).about(&format!("definition `{id}`"))),
        }
    }
    Ok(())
}

async fn admitted(host: &Host, name: &Name, wasm: Bytes) -> Result<Module, Failure> {
    let inspection = host.executor.admit(wasm).await;
    let inspection = inspection.map_err(|refused| Problem::executor(refused.code, &format!("module `{name}`: {}", refused.message), &codes::MODULE_REFUSED))?;
    Ok(Module { inspection, created_by: "tower run".to_owned(), created_at: SystemClock.now() })
}

/// Cancels when the time is up or at Ctrl-C, and then only waits: the trace's end is seen by who watches. Ends at a second Ctrl-C.
async fn cancel_in_time(host: &Host, id: TraceId, after: Option<Duration>) -> Failure {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(failure) => return failure,
    };
    let time_is_up = async {
        match after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let reason = tokio::select! {
        () = time_is_up => "--cancel-after",
        () = signals.next() => "Ctrl-C",
    };
    err_line(&format!("cancelling ({reason})"));
    let request = ControlRequest { control: Control::Cancel, trace_id: id, task_id: None, triggered_by: "tower run".to_owned(), reason: reason.to_owned() };
    if let Err(error) = host.engine.control(request).await {
        return Problem::from(error).into();
    }
    signals.next().await;
    Failure::silent(Exit::Interrupted)
}

/// The output alone, for people and pipes; the trace, for programs.
pub(crate) fn print(out: &Output, trace: &TraceBody, output: Option<&Json>) -> Result<(), Failure> {
    out.made(trace, &trace.trace_id.to_string(), |_| output.map_or_else(String::new, |output| format!("{}\n", pretty(output))))
}

/// Indented; text alone without its quotes.
pub(crate) fn pretty(json: &Json) -> String {
    match json.read::<serde_json::Value>() {
        Ok(serde_json::Value::String(text)) => tower_domain::task::clean(&text, usize::MAX),
        // Through a value, numbers beyond 64 bits would lose digits: those documents are shown as they are.
        Ok(value) if serde_json::to_string(&value).is_ok_and(|again| again.len() == json.as_str().len()) => {
            serde_json::to_string_pretty(&value).unwrap_or_else(|_| json.to_string())
        }
        _ => json.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tower_store::read::{PageRequest, TraceFilter};

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        run: RunArgs,
        #[command(flatten)]
        global: super::super::GlobalArgs,
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_project_schedules_does_not_fire_beside_the_run() {
        let mut project = Project::example("probe").unwrap();
        for (_, spec) in &mut project.definitions {
            let mut fields: serde_json::Map<String, serde_json::Value> = spec.read().unwrap();
            let scheduled =
                [("run_at", "2020-01-01T00:00:00Z".into()), ("window", "SCHEDULED".into()), ("default_params", serde_json::json!({ "do": "echo" }))];
            fields.extend(scheduled.map(|(field, value): (&str, serde_json::Value)| (field.to_owned(), value)));
            *spec = Json::of(&fields).unwrap();
        }
        let program = Program::try_parse_from(["tower", "example:probe"]).unwrap();
        let host = Host::in_memory(&host_config(program.run.cancel_grace, program.run.mounts, program.run.compile)).await.unwrap();
        let wanted = Name::new("probe").unwrap();
        let context = Context::new(program.global);
        let trace = run_on(&host, &project, wanted, Json::empty_object(), None, &context).await.unwrap();
        let stores = host.engine.stores();
        let traces = stores.read.traces(&TraceFilter::default(), &PageRequest { after: None, limit: 500 }).await.unwrap();
        assert_eq!(traces.items.iter().map(|trace| trace.trace_id).collect::<Vec<_>>(), [trace.trace_id]);
        host.stop(Duration::ZERO).await;
    }
}
