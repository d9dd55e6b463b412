//! `tower demo`: a server in this process, and this process as its client.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;
use tower_domain::id::TraceId;
use tower_domain::name::Name;
use tower_domain::schedule::NightWindow;
use tower_domain::schedule::check::SHORTEST;

use super::Context;
use super::apply::apply;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::live::{Canvas, Source, outcome, watch};
use super::output::err_line;
use super::project::Project;
use super::run::print;
use super::serve::{Signals, not_started, until_stopped};
use crate::api::types::{TraceBody, TraceStarted};
use crate::app::App;
use crate::config::{CompileArgs, ConnectionLimits, HostConfig, LEASE_DEFAULT, Mount, OutsideConfig, ServeConfig, SessionArgs};

/// What is shown.
const EXAMPLES: [&str; 2] = ["financial-analysis", "code-survey"];
/// The mount that the survey reads.
const SOURCE: &str = "source";
const GRACE: Duration = Duration::from_secs(5);

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder that is surveyed
    #[arg(long, default_value = ".")]
    source: PathBuf,
    /// Where to keep what the server keeps; default: a folder that is gone afterwards
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Port to serve on; default: a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Go on serving afterwards
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: DemoArgs, context: &Context) -> Result<(), Failure> {
    let folder = DataFolder::choose(args.data_dir.clone())?;
    let mut signals = Signals::listen()?;
    let app = App::start(config(&args, folder.path())?).await.map_err(not_started)?;
    let client = Client::new(&app.url())?;
    err_line(&format!("tower at {}  (API: {}/docs)", app.url(), app.url()));
    let shown = tokio::select! {
        shown = show(&client, context) => shown,
        () = signals.next() => Err(Failure::silent(Exit::Interrupted)),
    };
    if args.keep && shown.is_ok() {
        err_line(&format!("\nserving on; try: TOWER_URL={} tower traces   (Ctrl-C ends it)", app.url()));
        until_stopped(app, &mut signals, GRACE).await?;
    } else {
        app.stop(GRACE).await;
    }
    shown
}

fn config(args: &DemoArgs, data_dir: PathBuf) -> Result<ServeConfig, Failure> {
    if !args.source.is_dir() {
        return Err(Failure::usage(format!("--source {}: there is no such folder", args.source.display())));
    }
    let name = Name::new(SOURCE).map_err(|error| Failure::usage(error.to_string()))?;
    let mounts = vec![Mount { name, dir: args.source.clone() }];
    Ok(ServeConfig {
        listen: ([127, 0, 0, 1], args.port).into(),
        data_dir,
        database: None,
        database_wait: Duration::ZERO,
        artifacts: None,
        host_id: None,
        url: None,
        outside: OutsideConfig::default(),
        host: HostConfig {
            slots: 256,
            cancel_grace: GRACE,
            lease: LEASE_DEFAULT,
            mounts,
            compile: CompileArgs::default(),
            night: NightWindow::ALWAYS,
            user_max_concurrent: None,
            // What a folder that was named has scheduled is for a server that stays.
            schedules: args.keep,
            schedule_interval_min: SHORTEST,
            retention: None,
        },
        module_bytes_max: 64 << 20,
        task_definition: None,
        limits: ConnectionLimits::default(),
        sessions: SessionArgs::default(),
    })
}

async fn show(client: &Client, context: &Context) -> Result<(), Failure> {
    let mut begun = Vec::new();
    for name in EXAMPLES {
        let project = Project::example(name)?;
        for change in apply(client, &project).await? {
            err_line(&format!("  {}", change.line()));
        }
        begun.push(begin(client, &project).await?);
    }
    let source = Source::Remote(client.clone());
    let mut traces: Vec<TraceBody> = Vec::new();
    for id in begun {
        err_line("");
        let trace = watch(&source, id, Canvas::Stderr(context.err), false).await?;
        err_line(&format!("  {}/api/v1/traces/{id}", client.url()));
        print(&context.out, &trace, source.output(&trace).await?.as_ref())?;
        traces.push(trace);
    }
    traces.iter().try_for_each(outcome)
}

async fn begin(client: &Client, project: &Project) -> Result<TraceId, Failure> {
    let definition = project.trigger.as_ref().ok_or_else(|| Failure::own(&super::codes::BAD_PROJECT, "the example does not say what to trigger"))?;
    let body = json!({ "definition": definition, "params": project.params, "trigger_type": "MANUAL", "labels": { "example": definition } });
    let started: TraceStarted = client.json(Method::POST, "/traces", &[], &body, None).await?.read()?;
    Ok(started.trace_id)
}

/// A folder that was named, or one that is removed in the end.
enum DataFolder {
    Named(PathBuf),
    Temporary(PathBuf),
}

impl DataFolder {
    fn choose(named: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = named {
            return Ok(Self::Named(path));
        }
        let path = std::env::temp_dir().join(format!("tower-demo-{:016x}", rand::random::<u64>()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self::Temporary(path))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Named(path) | Self::Temporary(path) => path.clone(),
        }
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if let Self::Temporary(path) = self {
            // What is left of it, the system's own cleaning takes.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}
