//! What running steps and outside callers report.

use tower_domain::event::{EventType, TaskEvent};
use tower_domain::json::Json;
use tower_domain::lifecycle::Stage;
use tower_domain::step::LogLine;

use super::unit::Unit;
use crate::fault::{self, Guard};
use crate::work::{Answer, Observe, OutsideEvent};

impl Unit<'_> {
    pub(super) fn observe(&mut self, observe: Observe) -> Answer {
        let Observe { task_id, fence, progress, logs, partials } = observe;
        match self.task(task_id) {
            Some(row) if row.state.stage == Stage::Claimed && (row.state.fence == fence || !fault::is_on(Guard::Fence)) => {}
            Some(_) => return Answer::LeaseLost,
            None => return Answer::NotFound,
        }
        let mut events = Vec::with_capacity(logs.len() + partials.len() + 1);
        for (at, line) in logs {
            events.push((at, EventType::Log, log_payload(&line)));
        }
        for (at, value) in partials {
            events.push((at, EventType::PartialOutput, Some(value)));
        }
        if let Some((percent, message)) = progress {
            events.push((self.now, EventType::Progress, progress_payload(percent, &message)));
            self.set_progress(task_id, percent, message);
        }
        for (at, event_type, payload) in events {
            if self.note(task_id, event_type, None, payload).is_ok()
                && let Some(event) = self.out.events.last_mut()
            {
                event.at = at;
            }
        }
        Answer::Done
    }

    pub(super) fn post_event(&mut self, posted: OutsideEvent) -> Answer {
        let Some(row) = self.task(posted.task_id) else { return Answer::NotFound };
        if posted.trace_id.is_some_and(|trace_id| trace_id != row.trace_id) {
            return Answer::NotFound;
        }
        if let Some(known) = self.known_events.get(&posted.event_id) {
            let same = known.task_id == posted.task_id && known.event_type == posted.event_type && known.payload == posted.payload;
            return if same { Answer::Duplicate } else { Answer::EventIdTaken };
        }
        if row.state.is_ended() {
            return Answer::Stale { status: row.state.status() };
        }
        let event = TaskEvent {
            event_id: Some(posted.event_id.clone()),
            seq: 0,
            trace_id: row.trace_id,
            task_id: posted.task_id,
            parent_id: row.parent_id,
            actor_type: row.actor_type,
            event_type: posted.event_type,
            from: None,
            to: None,
            payload: posted.payload,
            at: self.now,
        };
        self.known_events.insert(posted.event_id, event.clone());
        if self.push_event(event).is_err() {
            return Answer::NotFound;
        }
        if let Some((percent, message)) = posted.progress {
            self.set_progress(posted.task_id, percent, message);
        }
        Answer::Done
    }

    fn set_progress(&mut self, id: tower_domain::id::TaskId, percent: u8, message: String) {
        if let Ok(entry) = self.task_mut(id) {
            entry.row.progress = percent.min(100);
            entry.row.progress_message = message;
        }
    }
}

fn progress_payload(percent: u8, message: &str) -> Option<Json> {
    #[derive(serde::Serialize)]
    struct Progress<'a> {
        percent: u8,
        message: &'a str,
    }
    Json::of(&Progress { percent: percent.min(100), message }).ok()
}

fn log_payload(line: &LogLine) -> Option<Json> {
    #[derive(serde::Serialize)]
    struct Log<'a> {
        stream: &'a str,
        level: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        fields: Option<&'a Json>,
    }
    Json::of(&Log { stream: line.stream.as_str(), level: line.level.as_str(), message: &line.message, fields: line.fields.as_ref() }).ok()
}
