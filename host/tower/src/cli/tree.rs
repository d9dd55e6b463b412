//! A trace as a tree of lines. One renderer for `run`, `watch` and `demo`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::id::TaskId;
use tower_domain::name::Key;

use super::term::{Term, cut, one_line, pad, seconds, width};
use crate::api::types::{ActorType, CountsBody, Phase, Status, TaskBody, TraceBody};

/// Widest column of names, in cells.
const NAME_CELLS_MAX: usize = 48;
/// Cells of a progress bar.
const BAR_CELLS: usize = 8;

/// How much of a tree is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Siblings that are shown before the rest is counted.
    pub(crate) siblings: usize,
    /// Lines before the rest is counted.
    pub(crate) lines: usize,
}

impl Window {
    /// For a tree that is drawn once.
    pub(crate) const WHOLE: Self = Self { siblings: 30, lines: 300 };

    /// For a tree that is drawn again and again, and must fit the terminal.
    pub(crate) fn live(term: &Term) -> Self {
        Self { siblings: 12, lines: term.height.saturating_sub(3).max(5) }
    }
}

/// The line above the tree.
pub(crate) fn headline(term: &Term, trace: &TraceBody, now: Timestamp) -> String {
    let state = term.tint(trace.status, &format!("{} {}", term.glyph(trace.status), state_words(trace)));
    let bar = if trace.status.is_terminal() { String::new() } else { format!("  {} {:>3}%", term.bar(trace.progress, 10), trace.progress) };
    format!("{state}  {}  {}{bar}  {}", term.bold(trace.definition_id.as_str()), trace.trace_id, elapsed(trace.started_at, trace.finished_at, now))
}

/// The line below the tree.
pub(crate) fn summary(term: &Term, trace: &TraceBody, now: Timestamp) -> String {
    let mut text = term.tint(trace.status, &state_words(trace));
    text.push_str(&format!(
        "  {}  {} task{}",
        elapsed(trace.started_at, trace.finished_at, now),
        trace.counts.total,
        if trace.counts.total == 1 { "" } else { "s" }
    ));
    let CountsBody { pending, running, failed, cancelled, skipped, .. } = trace.counts;
    for (count, word) in [(running, "running"), (pending, "pending"), (failed, "failed"), (cancelled, "cancelled"), (skipped, "skipped")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    if let Some(error) = &trace.error {
        text.push_str(&format!("\n  {}: {}", error.code, one_line(&error.message)));
    }
    text
}

fn state_words(trace: &TraceBody) -> String {
    let more = match trace {
        _ if trace.partial => " (partial)",
        _ if trace.status.is_terminal() => "",
        _ if trace.cancelling => " (cancelling)",
        _ if trace.paused => " (paused)",
        _ => "",
    };
    format!("{}{more}", trace.status)
}

/// The tree, a line a task. `tasks` may be the first of many, in the order in which they were made.
pub(crate) fn lines(term: &Term, window: Window, trace: &TraceBody, tasks: &[TaskBody], now: Timestamp) -> Vec<String> {
    let mut children: HashMap<Option<TaskId>, Vec<&TaskBody>> = HashMap::new();
    let rounds: HashMap<TaskId, u32> = tasks.iter().map(|task| (task.id, task.round_index)).collect();
    // Of a LOOP, the round that it is in.
    let is_of_the_round = |task: &&TaskBody| task.parent_id.and_then(|parent| rounds.get(&parent)).is_none_or(|round| *round == task.round_index);
    for task in tasks.iter().filter(is_of_the_round) {
        children.entry(task.parent_id).or_default().push(task);
    }
    let mut rows = Vec::new();
    if let Some(root) = tasks.iter().find(|task| task.id == trace.root_task_id) {
        grow(&Branch { term, window, children: &children }, (root, &[]), "", "", &mut rows);
    }
    let named = rows.iter().filter(|row| row.task.is_some());
    let name_cells = named.map(|row| width(&row.lead) + 2 + width(&row.name)).max().unwrap_or(0).min(NAME_CELLS_MAX);
    let hidden = rows.len().saturating_sub(window.lines);
    rows.truncate(window.lines);
    let mut lines: Vec<String> = rows.iter().map(|row| row.draw(term, name_cells, now)).collect();
    if hidden > 0 {
        lines.push(term.faint(&format!("{} {hidden} more lines", ellipsis(term))));
    }
    lines
}

fn ellipsis(term: &Term) -> &'static str {
    if term.ascii { "..." } else { "…" }
}

struct Branch<'a> {
    term: &'a Term,
    window: Window,
    children: &'a HashMap<Option<TaskId>, Vec<&'a TaskBody>>,
}

struct Row<'a> {
    lead: String,
    name: String,
    task: Option<&'a TaskBody>,
    /// Those that were read, itself among them.
    siblings: &'a [&'a TaskBody],
}

fn grow<'a>(branch: &Branch<'a>, (task, siblings): (&'a TaskBody, &'a [&'a TaskBody]), lead: &str, below: &str, rows: &mut Vec<Row<'a>>) {
    let is_root = task.parent_id.is_none();
    let name = if is_root { task.job_id.to_string() } else { task.key.to_string() };
    rows.push(Row { lead: lead.to_owned(), name, task: Some(task), siblings });
    let known = branch.children.get(&Some(task.id)).map_or(&[][..], Vec::as_slice);
    let shown = chosen(known, branch.window.siblings);
    let rest = (task.split_count as usize).max(known.len()) - shown.len();
    let (tee, corner, bar) = if branch.term.ascii { ("|- ", "`- ", "|  ") } else { ("├─ ", "└─ ", "│  ") };
    for (index, child) in shown.iter().enumerate() {
        let last = index + 1 == shown.len() && rest == 0;
        let lead = format!("{below}{}", if last { corner } else { tee });
        grow(branch, (child, known), &lead, &format!("{below}{}", if last { "   " } else { bar }), rows);
    }
    if rest > 0 {
        let name = format!("{} {rest} more{}", ellipsis(branch.term), rest_by_status(known, &shown, rest));
        rows.push(Row { lead: format!("{below}{corner}"), name, task: None, siblings: &[] });
    }
}

/// The siblings to show: what failed or runs before what waits, what waits before what is done; in their order.
fn chosen<'a>(known: &[&'a TaskBody], most: usize) -> Vec<&'a TaskBody> {
    let rank = |task: &TaskBody| match task.status {
        Status::Failed => 0,
        Status::Running => 1,
        Status::Cancelled | Status::Skipped => 2,
        Status::Pending => 3,
        Status::Success => 4,
    };
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by_key(|index| (rank(known[*index]), *index));
    // One line for the rest would take as much room as one sibling.
    order.truncate(if known.len() == most + 1 { most + 1 } else { most });
    order.sort_unstable();
    order.into_iter().map(|index| known[index]).collect()
}

fn rest_by_status(known: &[&TaskBody], shown: &[&TaskBody], rest: usize) -> String {
    let mut counts: Vec<(Status, usize)> = Vec::new();
    for task in known.iter().filter(|task| !shown.iter().any(|other| other.id == task.id)) {
        match counts.iter_mut().find(|(status, _)| *status == task.status) {
            Some((_, count)) => *count += 1,
            None => counts.push((task.status, 1)),
        }
    }
    let mut words: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let unread = rest - counts.iter().map(|(_, count)| count).sum::<usize>();
    if words.is_empty() {
        return String::new();
    }
    words.extend((unread > 0).then(|| format!("{unread} not read")));
    format!(" ({})", words.join(", "))
}

impl Row<'_> {
    fn draw(&self, term: &Term, name_cells: usize, now: Timestamp) -> String {
        let Some(task) = self.task else { return term.faint(&format!("{}{}", self.lead, self.name)) };
        let lead = width(&self.lead);
        let room = NAME_CELLS_MAX.saturating_sub(lead + 2).max(8);
        let name = pad(&cut(&self.name, room, term.ascii), name_cells.saturating_sub(lead + 2));
        let sign = term.tint(task.status, term.glyph(task.status));
        let state = term.tint(task.status, &pad(task.status.into_word(), 9));
        let time = if task.started_at.is_some() { elapsed(task.started_at, task.finished_at, now) } else { String::new() };
        let head_cells = lead + 2 + width(&name) + 2 + 10 + 1 + 9 + 1 + 7 + 2;
        let detail = cut(&detail(term, task, self.siblings, now), term.width.saturating_sub(head_cells).max(20), term.ascii);
        let line = format!("{}{sign} {name}  {:<10} {state} {time:>7}  {detail}", term.faint(&self.lead), task.actor_type);
        line.trim_end().to_owned()
    }
}

impl Status {
    fn into_word(self) -> &'static str {
        tower_domain::task::Status::from(self).as_str()
    }
}

fn elapsed(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> String {
    from.map_or_else(|| seconds(Duration::ZERO), |from| seconds(to.unwrap_or(now).since(from)))
}

/// What else there is to say of a task.
fn detail(term: &Term, task: &TaskBody, siblings: &[&TaskBody], now: Timestamp) -> String {
    let message = one_line(&task.progress_message);
    let attempt = if task.attempt > 1 { format!("attempt {} of {}", task.attempt, task.max_retries + 1) } else { String::new() };
    let error = task.error_code.as_deref().map(|code| format!("{code} {}", one_line(task.error_msg.as_deref().unwrap_or_default())).trim_end().to_owned());
    let mut parts = Vec::new();
    if task.cancelling && !task.status.is_terminal() {
        parts.push("cancelling".to_owned());
    }
    if task.paused && task.phase != Phase::Paused {
        parts.push("to pause".to_owned());
    }
    if task.round_index > 0 && task.parent_id.is_none() {
        parts.push(format!("round {}", task.round_index));
    }
    match task.phase {
        Phase::Executing => {
            if task.progress > 0 || !message.is_empty() {
                parts.push(format!("{} {:>3}%  {message}", term.bar(task.progress, BAR_CELLS), task.progress));
            }
            parts.push(attempt);
        }
        Phase::Aggregating => parts.push("folds".to_owned()),
        Phase::WaitingChildren => {
            parts.push(format!("waits for {} of {} children", task.split_count.saturating_sub(task.completed_children), task.split_count))
        }
        Phase::Backoff => {
            parts.push(format!("retry {} of {} {}", task.attempt, task.max_retries, due(task, now)).trim_end().to_owned());
            parts.extend(error);
        }
        Phase::WaitingDeps => parts.push(format!("waits for {}", awaited(task, siblings))),
        Phase::Scheduled => parts.push(format!("begins {}", due(task, now)).trim_end().to_owned()),
        Phase::Queued => parts.push("waits for a slot".to_owned()),
        Phase::Paused => parts.push("paused".to_owned()),
        Phase::Done | Phase::Cached | Phase::DeadLetter => {
            parts.extend(error);
            if task.split_count > 0 {
                parts.push(format!("{} of {} children", task.succeeded_children, task.split_count));
            }
            if task.status == Status::Success {
                parts.push(message);
            }
            if task.status != Status::Skipped {
                parts.push(attempt);
            }
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts.join("  ")
}

fn due(task: &TaskBody, now: Timestamp) -> String {
    task.run_after.map_or_else(String::new, |at| format!("in {}", seconds(at.since(now))))
}

/// The siblings that are open: by name, where those that were read are all of them.
fn awaited(task: &TaskBody, siblings: &[&TaskBody]) -> String {
    const NAMED_MAX: usize = 4;
    let all = task.open_deps as usize;
    let named: HashSet<&Key> = task.depends_on.iter().collect();
    let is_aggregator = |other: &TaskBody| matches!(other.actor_type, ActorType::GroupAgg | ActorType::SingleAgg);
    // One that names none folds all that are no aggregators themselves.
    let is_needed = |other: &TaskBody| if named.is_empty() { !is_aggregator(other) } else { named.contains(&other.key) };
    let open: Vec<&str> = siblings.iter().filter(|other| !other.status.is_terminal() && is_needed(other)).map(|other| other.key.as_str()).collect();
    match all {
        all if open.len() == all && all > NAMED_MAX => format!("{} and {} more", open[..NAMED_MAX].join(", "), all - NAMED_MAX),
        all if open.len() == all && all > 0 => open.join(", "),
        1 => "1 sibling".to_owned(),
        all => format!("{all} siblings"),
    }
}

#[cfg(test)]
mod tests;
