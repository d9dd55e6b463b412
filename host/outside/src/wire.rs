//! What a step and its code say to each other, as JSON: the same for workers that fetch steps, workers that are called, and containers.

use serde::{Deserialize, Serialize};
use tower_domain::code_ref::CodeRef;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::{Key, Name};
use tower_domain::split::ChildRequest;
use tower_domain::step::{LogLevel, LogLine, LogStream, ResultPage, Signal, Step, StepFailure, Summary};
use tower_domain::task::{ActorType, Leg, Output, RunOn, Status, TaskError, TaskResult};
use tower_domain::word_enum;
use utoipa::ToSchema;

/// A step that was handed to somebody.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = HandedStep)]
pub struct Handed {
    /// How to speak about it.
    pub attempt: AttemptBody,
    /// What there is to do.
    pub step: StepBody,
}

/// How to speak about an attempt.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptBody {
    /// Where its calls are, such as `{url}/split`.
    pub url: String,
    /// Goes with every call as `authorization: Bearer …`; good for this attempt alone.
    pub token: String,
    /// Whoever holds it and says nothing for so long has lost it, in milliseconds; none: only its deadline counts.
    pub lease_ms: Option<u64>,
}

/// One attempt at one task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Step)]
pub struct StepBody {
    /// The task; the same for every attempt.
    #[schema(value_type = String, format = "ulid")]
    pub task_id: TaskId,
    /// Its trace.
    #[schema(value_type = String, format = "ulid")]
    pub trace_id: TraceId,
    /// What it runs.
    #[schema(value_type = String)]
    pub definition: Name,
    /// The version of it.
    pub definition_version: u32,
    /// Where its code is, as the definition says.
    #[schema(value_type = String)]
    pub code_ref: CodeRef,
    /// Its name among its siblings.
    #[schema(value_type = String)]
    pub key: Key,
    /// The part that it plays: `AGENT`, `EXECUTION`, `GROUP_AGG` or `SINGLE_AGG`.
    #[schema(value_type = String)]
    pub actor_type: ActorType,
    /// The definition's `role`.
    pub role: String,
    /// `RUN`; or `AGGREGATE`, for code that `folds`, once the children have ended.
    #[schema(value_type = String)]
    pub leg: Leg,
    /// What it works on.
    #[schema(value_type = Object)]
    pub params: Json,
    /// Results of the siblings that it named, in that order.
    pub upstream: Vec<ResultBody>,
    /// How many results there are to fold; read them with `/results`.
    #[schema(value_type = Option<Object>)]
    pub summary: Option<SummaryBody>,
    /// What the step before left: in `AGGREGATE` the output of the step that split, after a pause what was returned then, in a later
    /// round of a LOOP the output of the round before.
    #[schema(value_type = Option<Object>)]
    pub carried: Option<Json>,
    /// From 1.
    pub attempt: u32,
    /// Attempts that may still follow.
    pub retries_left: u32,
    /// The round of a LOOP, from 0.
    pub round_index: u32,
    /// Agents above.
    pub layer: u32,
    /// Tasks above.
    pub depth: u32,
    /// Whether a split can succeed at all.
    pub may_split: bool,
    /// Of this claim; higher for every later one.
    pub fence: u64,
    /// When the attempt is stopped, in milliseconds since the Unix epoch.
    pub deadline_ms: i64,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// The same for every attempt at this step: for services that must not act twice.
    pub idempotency_key: String,
    /// The session of its trace, if the definition is granted it.
    #[serde(default)]
    pub session: Option<SessionBody>,
}

/// The session of a step's trace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = StepSession)]
pub struct SessionBody {
    /// Which.
    #[schema(value_type = String, format = "ulid")]
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: String,
    /// What the code called it last.
    pub sdk_session_id: Option<String>,
}

/// What the code calls its session from now on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NameSession)]
pub struct NameSessionBody {
    /// Kept for the session, and not read.
    pub sdk_session_id: String,
}

impl From<&Step> for StepBody {
    fn from(step: &Step) -> Self {
        let definition = &step.definition;
        Self {
            task_id: step.task_id,
            trace_id: step.trace_id,
            definition: definition.id.clone(),
            definition_version: definition.version,
            code_ref: definition.spec.code_ref.clone(),
            key: step.key.clone(),
            actor_type: step.actor_type,
            role: definition.spec.role.clone(),
            leg: step.leg,
            params: step.params.clone(),
            upstream: step.upstream.iter().cloned().map(Into::into).collect(),
            summary: step.summary.map(Into::into),
            carried: step.carried.clone(),
            attempt: step.attempt,
            retries_left: step.retries_left,
            round_index: step.round_index,
            layer: step.layer,
            depth: step.depth,
            may_split: step.may_split,
            fence: step.fence,
            deadline_ms: step.deadline.as_millis(),
            timeout_ms: u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX),
            idempotency_key: step.idempotency_key(),
            session: step.session.as_ref().map(|session| SessionBody {
                session_id: session.id,
                user_id: session.user_id.clone(),
                sdk_session_id: session.sdk_session_id.clone(),
            }),
        }
    }
}

/// How many results there are to fold, by how they ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = FoldSummary)]
pub struct SummaryBody {
    /// All of them.
    pub expected: u32,
    /// SUCCESS.
    pub succeeded: u32,
    /// FAILED.
    pub failed: u32,
    /// CANCELLED.
    pub cancelled: u32,
    /// SKIPPED.
    pub skipped: u32,
}

impl From<Summary> for SummaryBody {
    fn from(Summary { expected, succeeded, failed, cancelled, skipped }: Summary) -> Self {
        Self { expected, succeeded, failed, cancelled, skipped }
    }
}

/// The result of another task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = TaskResult)]
pub struct ResultBody {
    /// Which task.
    #[schema(value_type = String, format = "ulid")]
    pub task_id: TaskId,
    /// Its name among its siblings.
    #[schema(value_type = String)]
    pub key: Key,
    /// How it ended: `SUCCESS`, `FAILED`, `CANCELLED` or `SKIPPED`.
    #[schema(value_type = String)]
    pub status: Status,
    /// Its output, if it is small enough to be kept with the task.
    #[schema(value_type = Option<Object>)]
    pub output: Option<Json>,
    /// Where a larger output is.
    pub output_ref: Option<String>,
    /// Why it did not succeed.
    pub error: Option<FaultBody>,
}

impl From<TaskResult> for ResultBody {
    fn from(result: TaskResult) -> Self {
        let (output, output_ref) = match result.output {
            Some(Output::Inline(json)) => (Some(json), None),
            Some(Output::Ref(url)) => (None, Some(url)),
            None => (None, None),
        };
        let error = result.error.map(|error| FaultBody { code: error.code, message: error.message });
        Self { task_id: result.task_id, key: result.key, status: result.status, output, output_ref, error }
    }
}

/// Why something did not succeed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Fault)]
pub struct FaultBody {
    /// An upper-case word.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A page of results to fold.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ResultPage)]
pub struct ResultPageBody {
    /// In the order in which the tasks were split off.
    pub items: Vec<ResultBody>,
    /// Hand this to the next call as `after`; none: this was the last page.
    pub next_cursor: Option<String>,
}

impl From<ResultPage> for ResultPageBody {
    fn from(page: ResultPage) -> Self {
        Self { items: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next.map(|id| id.to_string()) }
    }
}

/// A child to split off.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SplitChild)]
pub struct ChildBody {
    /// Unique among the children of one task. The same key with the same content is the same child.
    #[serde(alias = "client_ref")]
    pub key: String,
    /// The definition to run.
    #[serde(alias = "definition_id")]
    pub definition: String,
    /// Laid over the definition's defaults, key by key.
    #[serde(default = "Json::empty_object")]
    #[schema(value_type = Object)]
    pub params: Json,
    /// Keys of siblings.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// What those must have come to: `SUCCESS` or `FINISHED`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub run_on: Option<RunOn>,
    /// Instead of the definition's.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub actor_type: Option<ActorType>,
    /// Instead of the definition's, 1 to 10.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Instead of the definition's.
    #[serde(default)]
    pub timeout_sec: Option<u32>,
    /// Instead of the definition's.
    #[serde(default)]
    pub max_retries: Option<u32>,
}

impl From<ChildBody> for ChildRequest {
    fn from(body: ChildBody) -> Self {
        let ChildBody { key, definition, params, depends_on, run_on, actor_type, priority, timeout_sec, max_retries } = body;
        Self { key, definition, params: params.as_str().to_owned(), depends_on, run_on, actor_type, priority, timeout_sec, max_retries }
    }
}

/// Children to split off, all or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SplitRequest)]
pub struct SplitBody {
    /// At most as many as the definition's `max_children`.
    pub children: Vec<ChildBody>,
}

/// Children that were staged.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = SplitAnswer)]
pub struct SplitAnswer {
    /// In the order of the request. They begin with the good end of the step, in one transaction.
    #[schema(value_type = Vec<String>)]
    pub task_ids: Vec<TaskId>,
}

/// Something that a step reports: progress, a line of its log, or a piece of its output.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StepReport)]
pub struct ReportBody {
    /// `PROGRESS`, `LOG` or `PARTIAL_OUTPUT`.
    #[schema(value_type = String)]
    pub event_type: ReportType,
    /// Of PROGRESS: how far it has come, 0 to 100; more counts as 100. Coalesced: readers see the latest.
    #[serde(default)]
    pub percent: u8,
    /// Of PROGRESS and LOG: for people.
    #[serde(default)]
    pub message: String,
    /// Of LOG: `DEBUG`, `INFO`, `WARN` or `ERROR`.
    #[serde(default = "info")]
    #[schema(value_type = String)]
    pub level: LogLevel,
    /// Of LOG: an object with more.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub fields: Option<Json>,
    /// Of LOG: `LOG`, or `STDOUT` or `STDERR` of what the code started.
    #[serde(default = "log")]
    #[schema(value_type = String)]
    pub stream: LogStream,
    /// Of PARTIAL_OUTPUT: the piece, for those who watch.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Json>,
}

word_enum! {
    /// What a step reports.
    pub enum ReportType {
        /// How far it has come.
        Progress = "PROGRESS",
        /// A line of its log.
        Log = "LOG",
        /// A piece of its output before the end.
        PartialOutput = "PARTIAL_OUTPUT",
    }
}

fn info() -> LogLevel {
    LogLevel::Info
}

fn log() -> LogStream {
    LogStream::Log
}

impl ReportBody {
    /// Hands it to the step's host.
    pub fn tell(self, host: &dyn tower_domain::step::StepHost) {
        let Self { event_type, percent, message, level, fields, stream, value } = self;
        match event_type {
            ReportType::Progress => host.progress(percent, &message),
            ReportType::Log => host.log(LogLine { stream, level, message, fields }),
            ReportType::PartialOutput => host.partial_output(value.unwrap_or_else(Json::null)),
        }
    }
}

/// What the outside wants of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StepSignal)]
pub struct SignalBody {
    /// `GO_ON`; `PAUSE`: the step may end early with `/pause`; `CANCEL`: it is to end soon, with `/cancelled`.
    pub signal: String,
    /// Why it is cancelled.
    pub reason: Option<String>,
}

impl From<Signal> for SignalBody {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::GoOn => Self { signal: "GO_ON".to_owned(), reason: None },
            Signal::Pause => Self { signal: "PAUSE".to_owned(), reason: None },
            Signal::Cancel(reason) => Self { signal: "CANCEL".to_owned(), reason: Some(reason.to_string()) },
        }
    }
}

/// A step ended well.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CompleteStep)]
pub struct CompleteBody {
    /// The task's output; after a split, what is carried to the fold. At most 1 MiB.
    #[serde(default = "Json::null")]
    #[schema(value_type = Object)]
    pub output: Json,
    /// Whether a LOOP ends with this round.
    #[serde(default)]
    pub last: bool,
}

/// A step ended badly.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FailStep)]
pub struct FailBody {
    /// An upper-case word of your own.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// Whether it may succeed when it is tried again. Default true.
    #[serde(default = "yes")]
    pub retryable: bool,
    /// Not sooner than this, in milliseconds.
    #[serde(default)]
    pub after_ms: Option<u64>,
}

fn yes() -> bool {
    true
}

impl From<FailBody> for StepFailure {
    fn from(body: FailBody) -> Self {
        use tower_domain::step::FailureClass;
        let class = if body.retryable { FailureClass::Retryable } else { FailureClass::Fatal };
        Self { class, error: TaskError::new(&body.code, &body.message), after: body.after_ms.map(std::time::Duration::from_millis) }
    }
}

/// A step ended early, because it was asked to pause.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PauseStep)]
pub struct PauseBody {
    /// Handed to the run that goes on from here. At most 1 MiB.
    #[serde(default = "Json::null")]
    #[schema(value_type = Object)]
    pub carried: Json,
}
