//! The whole table of (stage, command), and random histories.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::definition::AggregationPolicy;
use crate::step::{FailureClass, StepFailure};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn at(stage: Stage) -> TaskState {
    let mut state = TaskState::new(1, RunOn::Success, None);
    state.stage = stage;
    match stage {
        Stage::WaitingDeps => state.open_deps = 2,
        Stage::Scheduled | Stage::Backoff => state.run_after = Some(NOW.plus(Duration::from_secs(9))),
        Stage::Claimed => (state.fence, state.attempt) = (1, 1),
        Stage::WaitingChildren => (state.fence, state.children.split) = (1, 2),
        Stage::Paused => state.control = Control::Pause,
        Stage::Queued | Stage::Ended(_) => {}
    }
    state
}

const STAGES: [Stage; 13] = [
    Stage::Scheduled,
    Stage::WaitingDeps,
    Stage::Backoff,
    Stage::Paused,
    Stage::Queued,
    Stage::Claimed,
    Stage::WaitingChildren,
    Stage::Ended(End::Success { cached: false }),
    Stage::Ended(End::Success { cached: true }),
    Stage::Ended(End::Failed { dead_letter: false }),
    Stage::Ended(End::Failed { dead_letter: true }),
    Stage::Ended(End::Cancelled),
    Stage::Ended(End::Skipped),
];

#[derive(Debug, Clone, Copy)]
enum Cmd {
    DependencySucceeded,
    DependencyFailed,
    ComeDue,
    Claim,
    Finish,
    FinishRound,
    Split,
    Suspend,
    Retryable,
    Fatal,
    Release,
    Expire,
    ConfirmCancel,
    ChildSucceeded,
    ChildFailed,
    Cancel,
    Pause,
    Resume,
}

const CMDS: [Cmd; 18] = [
    Cmd::DependencySucceeded,
    Cmd::DependencyFailed,
    Cmd::ComeDue,
    Cmd::Claim,
    Cmd::Finish,
    Cmd::FinishRound,
    Cmd::Split,
    Cmd::Suspend,
    Cmd::Retryable,
    Cmd::Fatal,
    Cmd::Release,
    Cmd::Expire,
    Cmd::ConfirmCancel,
    Cmd::ChildSucceeded,
    Cmd::ChildFailed,
    Cmd::Cancel,
    Cmd::Pause,
    Cmd::Resume,
];

/// What only the holder of a claim may say.
const CLAIMS: [Cmd; 9] = [Cmd::Finish, Cmd::FinishRound, Cmd::Split, Cmd::Suspend, Cmd::Retryable, Cmd::Fatal, Cmd::Release, Cmd::Expire, Cmd::ConfirmCancel];

fn run(cmd: Cmd, state: &TaskState, fence: u64) -> Result<Transition, Refusal> {
    let failure = |class| StepFailure { class, error: TaskError::new("X", "x"), after: None };
    let retry_at = NOW.plus(Duration::from_secs(1));
    let policy = AggregationPolicy::Partial { min_success: 1 };
    match cmd {
        Cmd::DependencySucceeded => DependencyEnded { ended: 1, failed: false, now: NOW }.decide(state),
        Cmd::DependencyFailed => DependencyEnded { ended: 1, failed: true, now: NOW }.decide(state),
        Cmd::ComeDue => ComeDue.decide(state),
        Cmd::Claim => Claim.decide(state),
        Cmd::Finish => Finish { fence, children: 0, next_round: None }.decide(state),
        Cmd::FinishRound => Finish { fence, children: 0, next_round: Some(NextRound { at: retry_at, now: NOW }) }.decide(state),
        Cmd::Split => Finish { fence, children: 2, next_round: None }.decide(state),
        Cmd::Suspend => Suspend { fence }.decide(state),
        Cmd::Retryable => Fail { fence, failure: &failure(FailureClass::Retryable), retry_at }.decide(state),
        Cmd::Fatal => Fail { fence, failure: &failure(FailureClass::Fatal), retry_at }.decide(state),
        Cmd::Release => Release { fence }.decide(state),
        Cmd::Expire => Expire { fence, suspect: true }.decide(state),
        Cmd::ConfirmCancel => ConfirmCancel { fence }.decide(state),
        Cmd::ChildSucceeded => ChildrenEnded { ended: 1, succeeded: 1, policy }.decide(state),
        Cmd::ChildFailed => ChildrenEnded { ended: 1, succeeded: 0, policy }.decide(state),
        Cmd::Cancel => Cancel.decide(state),
        Cmd::Pause => Pause.decide(state),
        Cmd::Resume => Resume.decide(state),
    }
}

/// Where each command leads from each stage, as text: the diagram of the module, spelt out.
#[test]
fn every_stage_answers_every_command() {
    let word = |cmd, state: &TaskState| match run(cmd, state, 1) {
        Ok(transition) => format!(
            "{}/{}{}",
            transition.next.status(),
            transition.next.phase(),
            match transition.next.control {
                _ if transition.next.is_ended() => "",
                Control::Cancel => "+cancel",
                Control::Pause => "+pause",
                Control::Run => "",
            }
        ),
        Err(refusal) => format!("refused: {refusal:?}"),
    };
    let expected = |cmd, stage| -> &'static str {
        use Cmd as C;
        use Stage as S;
        match (cmd, stage) {
            (C::DependencySucceeded, S::WaitingDeps) => "PENDING/WAITING_DEPS",
            (C::DependencyFailed, S::WaitingDeps) => "SKIPPED/DONE",
            (C::ComeDue, S::Scheduled | S::Backoff) => "PENDING/QUEUED",
            (C::Claim, S::Queued) => "RUNNING/EXECUTING",
            (C::Finish, S::Claimed) => "SUCCESS/DONE",
            (C::FinishRound, S::Claimed) => "PENDING/SCHEDULED",
            (C::Suspend, S::Claimed) => "PENDING/QUEUED",
            (C::Split, S::Claimed) => "RUNNING/WAITING_CHILDREN",
            (C::Retryable, S::Claimed) => "PENDING/BACKOFF",
            (C::Fatal, S::Claimed) => "FAILED/DONE",
            (C::Release | C::Expire, S::Claimed) => "PENDING/QUEUED",
            (C::ConfirmCancel, S::Claimed) => "refused: WrongStage",
            (C::ChildSucceeded | C::ChildFailed, S::WaitingChildren) => "RUNNING/WAITING_CHILDREN",
            (C::ChildSucceeded | C::ChildFailed, _) => "refused: WrongStage",
            (C::Cancel, S::Scheduled | S::WaitingDeps | S::Backoff | S::Paused | S::Queued) => "CANCELLED/DONE",
            (C::Pause, S::Scheduled) => "PENDING/SCHEDULED+pause",
            (C::Pause, S::WaitingDeps) => "PENDING/WAITING_DEPS+pause",
            (C::Pause, S::Backoff) => "PENDING/BACKOFF+pause",
            (C::Pause, S::Queued) => "PENDING/PAUSED+pause",
            (C::Pause, S::Claimed) => "RUNNING/EXECUTING+pause",
            (C::Pause, S::WaitingChildren) => "RUNNING/WAITING_CHILDREN+pause",
            (C::Pause, S::Paused) => "refused: AlreadyPaused",
            (C::Resume, S::Paused) => "PENDING/QUEUED",
            (C::Resume, S::Scheduled | S::WaitingDeps | S::Backoff | S::Queued | S::Claimed | S::WaitingChildren) => "refused: NotPaused",
            (C::Cancel, S::Claimed) => "RUNNING/EXECUTING+cancel",
            (C::Cancel, S::WaitingChildren) => "RUNNING/WAITING_CHILDREN+cancel",
            (C::Finish | C::FinishRound | C::Split | C::Suspend | C::Retryable | C::Fatal | C::Release | C::Expire | C::ConfirmCancel, _) => {
                "refused: LeaseLost"
            }
            (_, S::Ended(_)) => "refused: AlreadyEnded",
            _ => "refused: WrongStage",
        }
    };
    for stage in STAGES {
        for cmd in CMDS {
            assert_eq!(word(cmd, &at(stage)), expected(cmd, stage), "{cmd:?} at {stage:?}");
        }
    }
}

#[test]
fn words_read_back_as_the_stage_that_they_stand_for() {
    for stage in STAGES {
        let state = at(stage);
        assert_eq!(TaskState::stage_of(state.phase(), state.status()), Some(stage));
    }
    assert_eq!(TaskState::stage_of(Phase::Queued, Status::Success), None);
    assert_eq!(TaskState::stage_of(Phase::Done, Status::Pending), None);
}

#[test]
fn a_stale_fence_changes_nothing() {
    let state = at(Stage::Claimed);
    for cmd in CLAIMS {
        assert_eq!(run(cmd, &state, 0), Err(Refusal::LeaseLost), "{cmd:?}");
    }
}

#[test]
fn retries_are_spent_and_then_the_task_is_a_dead_letter() {
    let mut state = at(Stage::Queued);
    state.max_retries = 2;
    let mut attempts = 0;
    loop {
        state = Claim.decide(&state).unwrap().next;
        attempts += 1;
        let failed = run(Cmd::Retryable, &state, state.fence).unwrap();
        if failed.next.is_ended() {
            assert_eq!(failed.next.phase(), Phase::DeadLetter);
            break;
        }
        assert_eq!(failed.event, Some(EventType::Retrying));
        state = ComeDue.decide(&failed.next).unwrap().next;
    }
    assert_eq!(attempts, 3);
}

#[test]
fn what_kills_its_host_three_times_is_not_run_again() {
    let mut state = at(Stage::Queued);
    for _ in 0..CRASHES_MAX {
        state = Claim.decide(&state).unwrap().next;
        state = Expire { fence: state.fence, suspect: true }.decide(&state).unwrap().next;
    }
    assert_eq!(state.phase(), Phase::DeadLetter);
    assert_eq!(state.attempt, CRASHES_MAX.min(1), "no retry was used up by the crashes before");
}

#[test]
fn a_cancelled_claim_ends_as_cancelled_whatever_it_came_to() {
    for cmd in CLAIMS {
        let state = Cancel.decide(&at(Stage::Claimed)).unwrap().next;
        let ended = run(cmd, &state, state.fence).unwrap();
        assert_eq!((ended.next.status(), ended.event), (Status::Cancelled, Some(EventType::Cancelled)), "{cmd:?}");
        assert_eq!(ended.next.children.split, 0, "{cmd:?}: its children never come to be");
    }
}

#[test]
fn a_cancelled_parent_ends_with_its_last_child() {
    let state = Cancel.decide(&at(Stage::WaitingChildren)).unwrap().next;
    assert_eq!(Cancel.decide(&state), Err(Refusal::AlreadyCancelling));
    let first = run(Cmd::ChildSucceeded, &state, 0).unwrap().next;
    assert_eq!(first.stage, Stage::WaitingChildren);
    assert_eq!(run(Cmd::ChildSucceeded, &first, 0).unwrap().next.status(), Status::Cancelled);
}

#[test]
fn whatever_would_be_queued_under_a_pause_is_held_until_it_is_resumed() {
    let paused = |stage| Pause.decide(&at(stage)).unwrap().next;
    let mut waits = paused(Stage::WaitingDeps);
    waits.open_deps = 1;
    let mut folds = paused(Stage::WaitingChildren);
    folds.children.split = 1;
    for (cmd, state) in [
        (Cmd::DependencySucceeded, waits),
        (Cmd::ComeDue, paused(Stage::Scheduled)),
        (Cmd::ComeDue, paused(Stage::Backoff)),
        (Cmd::Release, paused(Stage::Claimed)),
        (Cmd::Expire, paused(Stage::Claimed)),
        (Cmd::Suspend, paused(Stage::Claimed)),
        (Cmd::ChildSucceeded, folds),
    ] {
        let held = run(cmd, &state, state.fence).unwrap();
        assert_eq!((held.next.stage, held.event), (Stage::Paused, Some(EventType::Paused)), "{cmd:?}");
        assert_eq!(held.next.attempt, 0, "{cmd:?}: no attempt is used up");
        assert_eq!(Claim.decide(&held.next), Err(Refusal::WrongStage), "{cmd:?}");
        let free = Resume.decide(&held.next).unwrap();
        assert_eq!((free.next.stage, free.next.leg, free.event), (Stage::Queued, held.next.leg, Some(EventType::Resumed)), "{cmd:?}");
    }
    let marked = paused(Stage::Claimed);
    assert_eq!(Resume.decide(&marked).unwrap().next.control, Control::Run, "what runs goes on, and nobody asks it to pause any more");
    assert_eq!(run(Cmd::Finish, &marked, 1).unwrap().next.status(), Status::Success, "what runs may end");
}

#[test]
fn a_nightly_task_that_is_found_by_day_waits_for_the_night() {
    let until = NOW.plus(Duration::from_secs(3_600));
    assert_eq!(Defer { until }.decide(&at(Stage::Queued)), Err(Refusal::WrongStage), "the others never do");
    let mut state = at(Stage::Queued);
    state.hours = Hours::of(Window::Nightly);
    let waits = Defer { until }.decide(&state).unwrap();
    assert_eq!((waits.next.stage, waits.next.run_after, waits.event), (Stage::Scheduled, Some(until), Some(EventType::Waiting)));
    assert_eq!(waits.next.hours, Hours::Night { waits: true });
    let due = ComeDue.decide(&waits.next).unwrap().next;
    assert_eq!((due.stage, due.hours), (Stage::Queued, Hours::Night { waits: false }));
    let mut running = Claim.decide(&due).unwrap().next;
    assert_eq!(Defer { until }.decide(&running), Err(Refusal::WrongStage), "what runs goes on");
    running.round = 4;
    assert_eq!(run(Cmd::FinishRound, &running, running.fence).unwrap().next.hours, Hours::Night { waits: false }, "each round has the same hours");
}

#[test]
fn a_round_begins_as_a_new_task_does() {
    let mut state = at(Stage::Claimed);
    (state.leg, state.attempt, state.crashes) = (Leg::Aggregate, 2, 1);
    (state.children.split, state.children.ended, state.children.succeeded) = (3, 3, 2);
    let next = run(Cmd::FinishRound, &state, 1).unwrap().next;
    assert_eq!((next.round, next.leg, next.attempt, next.crashes, next.children), (1, Leg::Run, 0, 0, ChildCounts::default()));
    assert_eq!(next.fence, state.fence, "claims are counted on");
    let at_once = Finish { fence: 1, children: 0, next_round: Some(NextRound { at: NOW, now: NOW }) };
    assert_eq!(at_once.decide(&state).unwrap().next.stage, Stage::Queued);
    assert_eq!(at_once.decide(&Pause.decide(&state).unwrap().next).unwrap().next.stage, Stage::Paused);
    assert_eq!(at_once.decide(&Cancel.decide(&state).unwrap().next).unwrap().next.status(), Status::Cancelled);
}

#[test]
fn a_task_is_admitted_where_it_belongs() {
    let later = Some(NOW.plus(Duration::from_secs(5)));
    let admit = |open_deps, dep_failed, run_on, run_after| {
        let transition = Admit { open_deps, dep_failed, now: NOW }.decide(&TaskState::new(0, run_on, run_after)).unwrap();
        transition.next.phase()
    };
    assert_eq!(admit(0, false, RunOn::Success, None), Phase::Queued);
    assert_eq!(admit(0, false, RunOn::Success, Some(NOW)), Phase::Queued);
    assert_eq!(admit(0, false, RunOn::Success, later), Phase::Scheduled);
    assert_eq!(admit(2, false, RunOn::Success, later), Phase::WaitingDeps);
    assert_eq!(admit(2, true, RunOn::Success, None), Phase::Done);
    assert_eq!(admit(0, true, RunOn::Finished, None), Phase::Queued);
}

proptest! {
    /// Any history: legal commands keep the invariants, illegal ones change nothing.
    #[test]
    fn any_history_keeps_the_invariants(
        max_retries in 0..4u32,
        open_deps in 0..3u32,
        finished_is_enough: bool,
        commands in prop::collection::vec((0..CMDS.len(), prop::bool::weighted(0.85)), 1..80),
    ) {
        let run_on = if finished_is_enough { RunOn::Finished } else { RunOn::Success };
        let mut state = Admit { open_deps, dep_failed: false, now: NOW }.decide(&TaskState::new(max_retries, run_on, None)).unwrap().next;
        let mut terminal_events = 0;
        for (index, holds_the_claim) in commands {
            let cmd = CMDS[index];
            let fence = if holds_the_claim { state.fence } else { state.fence.wrapping_sub(1) };
            // Children end only as often as there are open ones: who counts them is the store, in the same transaction.
            if matches!(cmd, Cmd::ChildSucceeded | Cmd::ChildFailed) && state.children.all_ended() {
                continue;
            }
            let before = state.clone();
            match run(cmd, &state, fence) {
                Err(_) => prop_assert_eq!(&before, &state),
                Ok(transition) => {
                    let next = transition.next;
                    prop_assert!(!before.is_ended(), "terminal is final: {:?} after {:?}", cmd, before);
                    prop_assert!(next.fence >= before.fence);
                    prop_assert_eq!(next.fence > before.fence, matches!(cmd, Cmd::Claim), "a claim, and only a claim, raises the fence");
                    prop_assert!(next.attempt <= next.max_retries + 1, "attempts within the budget");
                    prop_assert!(next.children.ended <= next.children.split && next.children.succeeded <= next.children.ended);
                    prop_assert!(next.open_deps <= before.open_deps);
                    if before.control == Control::Cancel {
                        prop_assert!(next.control == Control::Cancel, "a cancel is never taken back");
                        if next.is_ended() {
                            prop_assert_eq!(next.status(), Status::Cancelled);
                        }
                    }
                    if next.is_ended() {
                        prop_assert!(next.children.all_ended(), "nothing ends above an open child");
                        terminal_events += 1;
                    }
                    if next.status() != before.status() {
                        prop_assert!(transition.event.is_some(), "what readers see of a change is an event");
                    }
                    if matches!(next.stage, Stage::Backoff | Stage::Scheduled) {
                        prop_assert!(next.run_after.is_some());
                    }
                    if next.stage == Stage::Queued {
                        prop_assert_eq!(next.run_after, None);
                        prop_assert_eq!(next.control, Control::Run, "nothing that is held can be claimed");
                    }
                    prop_assert_eq!(next.stage == Stage::Paused, next.stage == Stage::Paused && next.control == Control::Pause);
                    prop_assert!(next.round >= before.round);
                    state = next;
                }
            }
        }
        prop_assert!(terminal_events <= 1);
    }
}
