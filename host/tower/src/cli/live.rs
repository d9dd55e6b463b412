//! Watching a trace: a tree that is drawn again in place, or a line for each change.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tower_domain::clock::{Clock, SystemClock};
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_engine::Engine;
use tower_engine::feed::Follow;
use tower_store::artifacts;
use tower_store::read::{PageRequest, TaskFilter};

use super::client::Client;
use super::failure::Failure;
use super::term::{Term, cut, one_line, pad};
use super::tree::{self, Window};
use crate::api::problem::{Problem, codes};
use crate::api::types::{EventBody, EventType, List, Status, TaskBody, TraceBody};

/// How often a live tree is drawn at the most.
const REDRAW: Duration = Duration::from_millis(120);
/// How often it is drawn when nothing has changed: durations grow all the same.
const TICK: Duration = Duration::from_secs(1);
/// Tasks that are read for a tree.
const TREE_TASKS_MAX: u32 = 500;

/// Where a trace runs.
#[derive(Clone)]
pub(crate) enum Source {
    /// On a server.
    Remote(Client),
    /// In this process.
    Local(Engine),
}

impl Source {
    /// The trace as it is now.
    pub(crate) async fn trace(&self, id: TraceId) -> Result<TraceBody, Failure> {
        match self {
            Self::Remote(client) => client.get(&format!("/traces/{id}"), &[]).await?.read(),
            Self::Local(engine) => {
                let found = engine.stores().read.trace(id).await.map_err(crate::api::problem::Problem::from)?;
                found.map(Into::into).ok_or_else(|| Failure::from(Problem::new(&codes::NO_SUCH_TRACE, format!("there is no trace {id}"))))
            }
        }
    }

    /// A page of its tasks, in the order in which they were made.
    async fn tasks(&self, id: TraceId, cursor: Option<String>) -> Result<List<TaskBody>, Failure> {
        match self {
            Self::Remote(client) => {
                let mut query = vec![("limit", TREE_TASKS_MAX.to_string())];
                query.extend(cursor.map(|cursor| ("cursor", cursor)));
                client.get(&format!("/traces/{id}/tasks"), &query).await?.read()
            }
            Self::Local(engine) => {
                let page = PageRequest { after: cursor.and_then(|cursor| cursor.parse().ok()), limit: TREE_TASKS_MAX };
                let found = engine.stores().read.tasks(id, &TaskFilter::default(), &page).await;
                Ok(List::of(found.map_err(crate::api::problem::Problem::from)?))
            }
        }
    }

    /// The output of an ended trace, fetched if it is kept apart.
    pub(crate) async fn output(&self, trace: &TraceBody) -> Result<Option<Json>, Failure> {
        let Some(url) = &trace.output_ref else { return Ok(trace.output.clone()) };
        let lost = || Failure::from(Problem::new(&codes::NO_SUCH_ARTIFACT, format!("the output {url} cannot be read")));
        let digest = url.strip_prefix(tower_engine::ARTIFACT_URL).ok_or_else(lost)?;
        let bytes = match self {
            Self::Remote(client) => client.get(&format!("/artifacts/{digest}"), &[]).await?.body.to_vec(),
            Self::Local(engine) => {
                let digest = digest.parse().map_err(|_| lost())?;
                artifacts::get(&*engine.stores().blobs, &digest).await.map_err(crate::api::problem::Problem::from)?.ok_or_else(lost)?
            }
        };
        String::from_utf8(bytes).map(|text| Some(Json::trusted(text))).map_err(|_| lost())
    }

    /// Its events from the beginning to the end.
    fn follow(&self, id: TraceId) -> BoxStream<'static, Result<EventBody, Failure>> {
        match self {
            Self::Remote(client) => client.follow(id, 0),
            Self::Local(engine) => futures::stream::unfold(engine.follow(id, 0), local_events).flat_map(futures::stream::iter).boxed(),
        }
    }
}

async fn local_events(mut follow: Follow) -> Option<(Vec<Result<EventBody, Failure>>, Follow)> {
    let events = match follow.next().await? {
        Ok(events) => events.into_iter().map(|event| Ok(event.into())).collect(),
        Err(failure) => vec![Err(crate::api::problem::Problem::from(failure).into())],
    };
    Some((events, follow))
}

/// Where to draw.
#[derive(Clone, Copy)]
pub(crate) enum Canvas {
    /// On standard output: the watching is what was asked for.
    Stdout(Term),
    /// On standard error: the result is what was asked for.
    Stderr(Term),
}

impl Canvas {
    fn term(&self) -> &Term {
        match self {
            Self::Stdout(term) | Self::Stderr(term) => term,
        }
    }

    fn write(&self, text: &str) {
        // Whoever closed the stream does not want to see more.
        let _ = match self {
            Self::Stdout(_) => std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()),
            Self::Stderr(_) => std::io::stderr().write_all(text.as_bytes()),
        };
    }

    /// A line.
    pub(crate) fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }
}

/// Shows a trace until its end, then its tree for good, and answers the trace as it ended.
pub(crate) async fn watch(source: &Source, id: TraceId, canvas: Canvas, lines_when_not_live: bool) -> Result<TraceBody, Failure> {
    watch_with(source, id, canvas, lines_when_not_live, None).await
}

/// The same, with a line at the bottom that others write.
pub(crate) async fn watch_with(
    source: &Source,
    id: TraceId,
    canvas: Canvas,
    lines_when_not_live: bool,
    mut bottom: Option<watch::Receiver<String>>,
) -> Result<TraceBody, Failure> {
    let mut events = read_apart(source.follow(id));
    let term = *canvas.term();
    let window = Window::live(&Term { height: term.height - usize::from(bottom.is_some()), ..term });
    let mut drawing = Drawing { canvas, lines: 0, bottom: bottom.is_some() };
    let mut names = Names::default();
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changed = true;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                None => break,
                Some(event) => {
                    let event = event?;
                    changed = true;
                    if !term.live && lines_when_not_live {
                        canvas.line(&names.line(source, id, &term, &event).await?);
                    }
                }
            },
            _ = tick.tick(), if term.live => changed = true,
            _ = redraw.tick(), if term.live && changed => {
                changed = false;
                let mut lines = picture(source, id, &term, window).await?.1;
                lines.extend(bottom.as_mut().map(|bottom| bottom.borrow_and_update().clone()));
                drawing.draw(&lines);
            }
            () = has_changed(&mut bottom) => changed = true,
        }
    }
    drawing.clear();
    let (trace, picture) = picture(source, id, &term, Window::WHOLE).await?;
    // After the lines of the changes, the tree would say the same again.
    if term.live || !lines_when_not_live {
        picture.iter().for_each(|line| canvas.line(line));
    }
    canvas.line(&tree::summary(&term, &trace, SystemClock.now()));
    Ok(trace)
}

async fn has_changed(bottom: &mut Option<watch::Receiver<String>>) {
    let changed = match bottom {
        Some(bottom) => bottom.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

/// Events in flight between the reader and the drawing.
const EVENTS_AHEAD: usize = 256;

/// Reads a stream in a task of its own. In memory all readers share one connection: a reader that has its turn and is not polled,
/// because a tree is being drawn, would keep the drawing from it for ever.
fn read_apart(mut events: BoxStream<'static, Result<EventBody, Failure>>) -> mpsc::Receiver<Result<EventBody, Failure>> {
    let (send, receive) = mpsc::channel(EVENTS_AHEAD);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if send.send(event).await.is_err() {
                return;
            }
        }
    });
    receive
}

/// The tree as it is now.
async fn picture(source: &Source, id: TraceId, term: &Term, window: Window) -> Result<(TraceBody, Vec<String>), Failure> {
    let trace = source.trace(id).await?;
    let tasks = source.tasks(id, None).await?;
    let now = SystemClock.now();
    let mut lines = vec![tree::headline(term, &trace, now)];
    lines.extend(tree::lines(term, window, &trace, &tasks.items, now));
    Ok((trace, lines))
}

/// Lines that are drawn over again.
struct Drawing {
    canvas: Canvas,
    lines: usize,
    /// The last line holds only as long as it is drawn.
    bottom: bool,
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if self.bottom && self.lines > 0 {
            self.canvas.write("\x1b[1A\r\x1b[J");
        }
    }
}

impl Drawing {
    fn draw(&mut self, lines: &[String]) {
        // Up, and each line cleared behind what is written, so that nothing flickers. Without wrapping: a line is a line, however narrow
        // the terminal.
        let mut text = format!("\x1b[?7l{}", self.up());
        for line in lines {
            text.push_str(&format!("{line}\x1b[K\n"));
        }
        text.push_str("\x1b[J\x1b[?7h");
        self.canvas.write(&text);
        self.lines = lines.len();
    }

    fn clear(&mut self) {
        if self.lines > 0 {
            let text = self.up() + "\x1b[J";
            self.canvas.write(&text);
            self.lines = 0;
        }
    }

    fn up(&self) -> String {
        if self.lines > 0 { format!("\x1b[{}A\r", self.lines) } else { String::new() }
    }
}

/// What tasks are called, read as they appear.
#[derive(Default)]
struct Names {
    known: HashMap<TaskId, String>,
    cursor: Option<String>,
}

impl Names {
    async fn of(&mut self, source: &Source, trace: TraceId, task: TaskId) -> Result<String, Failure> {
        while !self.known.contains_key(&task) {
            let page = source.tasks(trace, self.cursor.clone()).await?;
            self.known
                .extend(page.items.into_iter().map(|task| (task.id, if task.parent_id.is_none() { task.job_id.to_string() } else { task.key.to_string() })));
            match page.next_cursor {
                Some(next) => self.cursor = Some(next),
                None => break,
            }
        }
        Ok(self.known.get(&task).cloned().unwrap_or_else(|| task.to_string()))
    }

    /// One change as one line.
    async fn line(&mut self, source: &Source, trace: TraceId, term: &Term, event: &EventBody) -> Result<String, Failure> {
        let name = self.of(source, trace, event.task_id).await?;
        let at = tower_domain::clock::Timestamp::from_micros(event.timestamp_ms.saturating_mul(1_000)).to_chrono().format("%H:%M:%S%.3f");
        let sign = event.to.map_or(" ", |status| term.glyph(status));
        let word = event.event_type.to_string();
        let word = event.to.map_or_else(|| pad(&word, 14), |status| term.tint(status, &pad(&word, 14)));
        let text = format!("{at} {sign} {word} {}  {}", pad(&name, 20), about(event));
        Ok(cut(text.trim_end(), 400, term.ascii))
    }
}

/// What an event says beside its type.
fn about(event: &EventBody) -> String {
    let Some(payload) = event.payload.as_ref().and_then(|payload| payload.read::<serde_json::Value>().ok()) else { return String::new() };
    let text = |pointer: &str| payload.pointer(pointer).and_then(|value| value.as_str()).map(one_line).unwrap_or_default();
    let number = |pointer: &str| payload.pointer(pointer).and_then(serde_json::Value::as_u64);
    match event.event_type {
        EventType::Progress => format!("{:>3}%  {}", number("/percent").unwrap_or(0), text("/message")),
        EventType::Log => format!("{} {}", text("/level"), text("/message")),
        EventType::PartialOutput => one_line(&payload.to_string()),
        EventType::Split => number("/children").map_or_else(String::new, |children| format!("{children} children")),
        EventType::Waiting => number("/open_deps").map_or_else(String::new, |open| format!("for {open} siblings")),
        EventType::Started => number("/attempt").filter(|attempt| *attempt > 1).map_or_else(String::new, |attempt| format!("attempt {attempt}")),
        EventType::Failed | EventType::Retrying | EventType::Skipped | EventType::Cancelled => format!("{} {}", text("/error/code"), text("/error/message")),
        EventType::Completed | EventType::Queued | EventType::Paused | EventType::Resumed => String::new(),
    }
}

/// How a command ends whose trace ended so.
pub(crate) fn outcome(trace: &TraceBody) -> Result<(), Failure> {
    use super::failure::Exit;
    match trace.status {
        Status::Success => Ok(()),
        Status::Cancelled => Err(Failure::silent(Exit::Cancelled)),
        Status::Failed | Status::Skipped => Err(Failure::silent(Exit::Failed)),
        Status::Pending | Status::Running => Err(Failure::silent(Exit::TimedOut)),
    }
}
