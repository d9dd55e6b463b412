//! What the steps of the simulation do, and that they are noted down outside of the database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tower_domain::code_ref::{CodeRef, Lane};
use tower_domain::definition::DefinitionSpec;
use tower_domain::json::Json;
use tower_domain::split::ChildRequest;
use tower_domain::step::{CodeProblem, Executor, Signal, Step, StepEnd, StepFailure, StepHost, Stop};
use tower_domain::task::Leg;

use crate::book::Run;
use crate::life::Life;

/// What a step is to do; its params.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Script {
    /// How long it works.
    pub(crate) ms: u64,
    /// How many attempts fail.
    pub(crate) fail: u32,
    /// Then for good.
    pub(crate) fatal: bool,
    /// It heeds orders itself.
    pub(crate) listens: bool,
    /// Each child waits for the one before.
    pub(crate) chain: bool,
    /// What it splits into, each with its definition.
    pub(crate) kids: Vec<(String, Script)>,
    /// Which claim of the parent asked for it; 0: nobody's.
    pub(crate) by: u64,
    /// Of a key's limit.
    pub(crate) who: u64,
}

/// What a step leaves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    /// By which claim.
    pub(crate) fence: u64,
}

/// Runs scripts.
pub(crate) struct Steps {
    pub(crate) life: Arc<Life>,
}

#[async_trait]
impl Executor for Steps {
    fn runs(&self, _: &CodeRef) -> bool {
        true
    }

    fn slots(&self) -> Vec<(Lane, u32)> {
        vec![(Lane::Queue(crate::load::name(crate::load::QUEUE)), 2)]
    }

    async fn check(&self, _: &DefinitionSpec) -> Result<(), CodeProblem> {
        Ok(())
    }

    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd {
        if self.life.is_dead() {
            std::future::pending::<()>().await;
        }
        let book = &self.life.common.book;
        let at = {
            let mut book = book.lock();
            let (task, trace, life, begun) = (step.task_id, step.trace_id, self.life.number, book.moment(self.life.at()));
            book.runs.push(Run { task, trace, fence: step.fence, leg: step.leg, life, begun, ended: None, finished: false });
            book.runs.len() - 1
        };
        // As an executor does it: whatever the code is at, it is dropped when it must stop.
        let end = tokio::select! {
            biased;
            stop = host.stopped() => match stop {
                Stop::Cancelled => StepEnd::Cancelled,
                Stop::Released => StepEnd::Released,
            },
            end = act(&step, host.as_ref()) => end,
        };
        if self.life.is_dead() {
            std::future::pending::<()>().await;
        }
        let mut book = book.lock();
        let ended = book.moment(self.life.at());
        let run = &mut book.runs[at];
        run.ended = Some(ended);
        run.finished = matches!(end, StepEnd::Finished { .. });
        end
    }
}

async fn act(step: &Step, host: &dyn StepHost) -> StepEnd {
    let left = || Json::of(&Left { fence: step.fence }).expect("a number is JSON");
    let script: Script = step.params.read().unwrap_or_default();
    let work = tokio::time::sleep(Duration::from_millis(script.ms));
    tokio::select! {
        biased;
        () = host.signalled(&Signal::GoOn), if script.listens => return match host.signal() {
            Signal::Cancel(_) => StepEnd::Cancelled,
            Signal::Pause | Signal::GoOn => StepEnd::Paused { carried: left() },
        },
        () = work => {}
    }
    host.progress(50, "half way");
    if step.leg == Leg::Aggregate {
        let mut after = None;
        loop {
            match host.results(after, 2).await {
                Err(trouble) => return StepEnd::Failed(StepFailure::retryable("TROUBLE", trouble.to_string())),
                Ok(page) if page.next.is_none() => break,
                Ok(page) => after = page.next,
            }
        }
        return StepEnd::Finished { output: left(), last: step.round_index >= 2 };
    }
    if step.attempt <= script.fail {
        return StepEnd::Failed(match script.fatal {
            true => StepFailure::fatal("NEVER", "as the script says"),
            false => StepFailure::retryable("AGAIN", "as the script says"),
        });
    }
    if !script.kids.is_empty() && step.may_split {
        let child = |(n, (definition, kid)): (usize, &(String, Script))| ChildRequest {
            key: format!("k{n}"),
            definition: definition.clone(),
            params: serde_json::to_string(&Script { by: step.fence, ..kid.clone() }).expect("a script is JSON"),
            depends_on: if script.chain && n > 0 { vec![format!("k{}", n - 1)] } else { Vec::new() },
            ..ChildRequest::default()
        };
        match host.split(script.kids.iter().enumerate().map(child).collect()).await {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => return StepEnd::Failed(StepFailure::fatal("SPLIT", refused.to_string())),
            Err(trouble) => return StepEnd::Failed(StepFailure::retryable("TROUBLE", trouble.to_string())),
        }
    }
    StepEnd::Finished { output: left(), last: step.round_index >= 2 }
}
