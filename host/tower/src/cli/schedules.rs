//! `tower schedules`.

use clap::{Args, Subcommand};
use reqwest::Method;
use tower_domain::clock::{Clock, SystemClock, Timestamp};
use tower_domain::name::Name;

use super::client::Reply;
use super::failure::Failure;
use super::output::{PageArgs, ago, fields};
use super::term::{Term, seconds};
use super::{Context, complete};
use crate::api::types::{Firings, List, PreviewSchedule, Reason, ScheduleBody, ScheduleState, ScheduleType, TraceStarted};

/// Schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum SchedulesVerb {
    /// List them
    Ls(LsArgs),
    /// Say when a definition fires next, or when an expression would
    Next(NextArgs),
    /// Hold one: nothing fires until it is resumed
    Pause(OrderArgs),
    /// Have one go on, from now
    Resume(OrderArgs),
    /// End one for good
    Cancel(OrderArgs),
    /// Trigger a definition now, besides its schedule
    Fire {
        /// The definition
        #[arg(add = complete::definitions())]
        definition: Name,
    },
}

/// Which schedules.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// In this state
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

/// Firings of what.
#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// A definition with a schedule
    #[arg(required_unless_present_any = ["cron", "every"], conflicts_with_all = ["cron", "every", "tz"], add = complete::definitions())]
    definition: Option<Name>,
    /// A cron expression, such as '30 8 * * MON-FRI'
    #[arg(long, value_name = "EXPR", conflicts_with = "every")]
    cron: Option<String>,
    /// Seconds between firings
    #[arg(long, value_name = "SECONDS")]
    every: Option<u32>,
    /// The time zone of the expression, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// How many
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
}

/// Whose schedule, and why.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// The definition
    #[arg(add = complete::definitions())]
    definition: Name,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

pub(crate) async fn run(verb: SchedulesVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        SchedulesVerb::Ls(args) => list(args, context).await,
        SchedulesVerb::Next(args) => next(args, context).await,
        SchedulesVerb::Pause(args) => order(&args.definition, &args.reason, "pause", context).await,
        SchedulesVerb::Resume(args) => order(&args.definition, &args.reason, "resume", context).await,
        SchedulesVerb::Cancel(args) => order(&args.definition, &args.reason, "cancel", context).await,
        SchedulesVerb::Fire { definition } => fire(&definition, context).await,
    }
}

async fn list(args: LsArgs, context: &Context) -> Result<(), Failure> {
    let mut query = args.page.query();
    query.extend(args.state.map(|state| ("state", state.to_ascii_uppercase())));
    let reply = context.client()?.get("/schedules", &query).await?;
    let schedules: List<ScheduleBody> = reply.read()?;
    let ids: Vec<String> = schedules.items.iter().map(|schedule| schedule.definition_id.to_string()).collect();
    let rows: Vec<Vec<String>> = schedules.items.iter().map(row).collect();
    context.out.list(&reply, &["DEFINITION", "STATE", "NEXT", "LAST", "FIRED", "MISSED", "SKIPPED"], &rows, &ids)
}

fn row(schedule: &ScheduleBody) -> Vec<String> {
    vec![
        schedule.definition_id.to_string(),
        schedule.state.to_string(),
        upcoming(schedule),
        schedule.last_at.map_or_else(String::new, ago),
        schedule.fired.to_string(),
        schedule.missed.to_string(),
        schedule.skipped.to_string(),
    ]
}

fn upcoming(schedule: &ScheduleBody) -> String {
    match (schedule.next_at, schedule.waiting_trace_id) {
        (_, Some(trace)) => format!("after {trace}"),
        (Some(at), None) => moment(at),
        (None, None) if schedule.state == ScheduleState::Active => "switched off".to_owned(),
        (None, None) => String::new(),
    }
}

/// An instant to come, and how long it is until then.
pub(super) fn moment(at: Timestamp) -> String {
    format!("{} ({})", short(at), until(at))
}

/// Without what is zero.
fn short(at: Timestamp) -> String {
    at.to_string().replace(".000000Z", "Z")
}

fn until(at: Timestamp) -> String {
    let now = SystemClock.now();
    if at > now { format!("in {}", seconds(at.since(now))) } else { "now".to_owned() }
}

async fn next(args: NextArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let reply = match args.definition {
        Some(id) => client.get(&format!("/definitions/{id}/next"), &[("n", args.count.to_string())]).await?,
        None => {
            let wanted = PreviewSchedule {
                schedule_type: ScheduleType::Cron,
                run_at: None,
                cron_expr: args.cron,
                interval_sec: args.every,
                timezone: args.tz,
                starts_at: None,
                ends_at: None,
                from: None,
                n: args.count,
            };
            client.json(Method::POST, "/schedules/preview", &[], &wanted, None).await?
        }
    };
    let firings: Firings = reply.read()?;
    let instants: Vec<String> = firings.items.iter().map(|firing| firing.at.to_string()).collect();
    context.out.one(&reply, &instants.join("\n"), |term| shown(term, &firings));
    Ok(())
}

fn shown(term: &Term, firings: &Firings) -> String {
    let mut text = format!("{}\n", firings.words);
    for firing in &firings.items {
        let utc = if firings.timezone == "UTC" { String::new() } else { format!("{}  ", firing.local) };
        text.push_str(&format!("{utc}{}  {}\n", short(firing.at), term.faint(&until(firing.at))));
    }
    if firings.items.is_empty() {
        text.push_str("there is none\n");
    }
    text
}

/// `tower pause`, `resume` and `cancel` of a definition are the same.
pub(crate) async fn order(definition: &Name, reason: &str, what: &str, context: &Context) -> Result<(), Failure> {
    let path = format!("/definitions/{definition}/{what}");
    let reply: Reply = context.client()?.json(Method::POST, &path, &[], &Reason { reason: reason.to_owned() }, None).await?;
    let schedule: ScheduleBody = reply.read()?;
    context.out.one(&reply, definition.as_str(), |term| fields(term, &[("state", schedule.state.to_string()), ("next", upcoming(&schedule))]));
    Ok(())
}

async fn fire(definition: &Name, context: &Context) -> Result<(), Failure> {
    let path = format!("/definitions/{definition}/trigger");
    let reply = context.client()?.json(Method::POST, &path, &[], &serde_json::json!({ "trigger_type": "MANUAL" }), None).await?;
    let started: TraceStarted = reply.read()?;
    context.out.one(&reply, &started.trace_id.to_string(), |_| format!("{}\n", started.trace_id));
    Ok(())
}
