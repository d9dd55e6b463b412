//! A host keeps its claims, and hears what is wanted of them; and what the other hosts hear.

use std::collections::BTreeSet;
use std::time::Duration;

use tower_domain::control::Control;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::step::Signal;

use super::unit::Unit;
use crate::StoreError;
use crate::news::News;
use crate::work::Answer;

/// Traces that are told of by name in one batch.
const TRACES_MAX: usize = 200;

impl Unit<'_> {
    pub(super) async fn renew(&mut self, host: &str, held: Vec<TaskId>, lease: Option<Duration>) -> Result<Answer, StoreError> {
        if let Some(lease) = lease {
            self.tx.renew(host, &held, self.now.plus(lease)).await?;
        }
        let mut lost: BTreeSet<TaskId> = held.iter().copied().collect();
        for (id, control, reason) in self.tx.held(host, &held).await? {
            lost.remove(&id);
            let signal = match control {
                Control::Cancel => Signal::Cancel(reason.unwrap_or_default().into()),
                Control::Pause => Signal::Pause,
                Control::Run => Signal::GoOn,
            };
            self.out.to_tell.push((id, signal));
        }
        self.out.lost.extend(lost);
        Ok(Answer::Done)
    }

    /// What others may want to know of this batch.
    pub(super) fn news(&self, has_claimed: bool) -> Vec<News> {
        let mut news = Vec::new();
        // Who has room in another lane is not known here.
        if self.readied_elsewhere || self.readied && (!has_claimed || self.out.more_ready) {
            news.push(News::Work);
        }
        if !self.out.to_tell.is_empty() {
            news.push(News::Orders);
        }
        let traces: BTreeSet<TraceId> = self.out.events.iter().map(|event| event.trace_id).collect();
        match traces.len() {
            0 => {}
            1..=TRACES_MAX => news.push(News::Traces(traces.into_iter().collect())),
            _ => news.push(News::Anything),
        }
        news
    }
}
