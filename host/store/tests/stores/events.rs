//! What happened, and what is reported.

use std::time::Duration;

use tower_domain::event::EventType;
use tower_domain::id::TaskId;
use tower_domain::step::{LogLevel, LogLine, LogStream, StepFailure};
use tower_domain::task::{Leg, Status};
use tower_store::work::{Answer, Claimed, Command, Observe, OutsideEvent};

use crate::world::{HOST, World, json};

pub(crate) async fn a_tasks_history_is_in_order_and_without_gaps(world: World) {
    let (trace_id, root) = world.submit().await;
    let claimed = world.claim_one().await;
    world.split(&claimed, vec![world.child(&claimed, "a")]).await;
    world.run_dry().await;
    let events = world.events(trace_id).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    assert_eq!((events[0].from, events[0].to), (None, Some(Status::Pending)));
    assert_eq!((events[1].from, events[1].to, events[1].task_id, events[1].parent_id), (Some(Status::Pending), Some(Status::Running), root, None));
    let child = events.iter().find(|event| event.task_id != root).unwrap();
    assert_eq!(child.parent_id, Some(root));
    let page = world.stores.read.events(trace_id, 3, 2).await.unwrap();
    assert_eq!(page, events[3..5]);
    assert_eq!(world.trace(trace_id).await.last_seq, 9);
}

fn line(message: &str) -> LogLine {
    LogLine { stream: LogStream::Log, level: LogLevel::Info, message: message.to_owned(), fields: Some(json(r#"{"a":1}"#)) }
}

fn observe(world: &World, claimed: &Claimed, lines: &[&str]) -> Command {
    Command::Observe(Observe {
        task_id: claimed.task_id,
        fence: claimed.fence,
        progress: Some((40, "almost".to_owned())),
        logs: lines.iter().map(|text| (world.now(), line(text))).collect(),
        partials: vec![(world.now(), json("[1]"))],
    })
}

pub(crate) async fn reports_of_a_running_step_are_kept(world: World) {
    let (trace_id, root) = world.submit().await;
    let claimed = world.claim_one().await;
    let command = observe(&world, &claimed, &["one", "two"]);
    assert_eq!(world.answer(command).await, Answer::Done);
    let task = world.task(root).await;
    assert_eq!((task.progress, task.progress_message.as_str(), task.status), (40, "almost", Status::Running));
    assert_eq!(
        world.history(trace_id, root).await,
        [EventType::Queued, EventType::Started, EventType::Log, EventType::Log, EventType::PartialOutput, EventType::Progress]
    );
    world.finish(&claimed, "1").await;
    let command = observe(&world, &claimed, &["late"]);
    assert_eq!(world.answer(command).await, Answer::LeaseLost);
    let nobody = Claimed { task_id: world.task_id(), ..claimed };
    let command = observe(&world, &nobody, &["lost"]);
    assert_eq!(world.answer(command).await, Answer::NotFound);
}

pub(crate) async fn logs_are_read_by_subtree(world: World) {
    let (trace_id, root_id) = world.submit().await;
    let root = world.claim_one().await;
    world.split(&root, vec![world.child(&root, "a"), world.child(&root, "b")]).await;
    let claimed = world.claim(10).await;
    world.split(&claimed[0], vec![world.child(&claimed[0], "x")]).await;
    let grandchild = world.claim_one().await;
    world.commit(vec![observe(&world, &grandchild, &["x1", "x2"]), observe(&world, &claimed[1], &["b1"])]).await;
    world.commit(vec![observe(&world, &grandchild, &["x3"])]).await;
    let messages = |subtree: Option<TaskId>, after, limit| {
        let read = world.stores.read.clone();
        async move {
            let lines = read.logs(trace_id, subtree, after, limit).await.unwrap();
            assert!(lines.iter().all(|line| line.event_type == EventType::Log));
            lines.into_iter().map(|line| (line.seq, line.payload.unwrap().as_str().to_owned())).collect::<Vec<_>>()
        }
    };
    let all = messages(None, 0, 100).await;
    assert_eq!(all.len(), 4);
    assert!(all[0].1.contains("x1") && all[2].1.contains("b1"));
    assert_eq!(messages(Some(root_id), 0, 100).await, all);
    assert_eq!(messages(Some(grandchild.task_id), 0, 100).await.len(), 3);
    assert_eq!(messages(Some(claimed[0].task_id), 0, 2).await, all[..2]);
    assert_eq!(messages(Some(claimed[0].task_id), all[1].0, 100).await, all[3..]);
    assert_eq!(messages(None, all[1].0, 1).await, all[2..3]);
    assert!(messages(Some(world.task_id()), 0, 100).await.is_empty());
}

pub(crate) async fn an_outside_event_is_kept_once(world: World) {
    let (trace_id, root) = world.submit().await;
    let claimed = world.claim_one().await;
    let event = |id: &str, payload: &str| OutsideEvent {
        event_id: id.to_owned(),
        trace_id: Some(trace_id),
        task_id: root,
        event_type: EventType::Progress,
        progress: Some((70, "outside".to_owned())),
        payload: Some(json(payload)),
    };
    assert_eq!(world.answer(Command::PostEvent(event("e\"1", "{}"))).await, Answer::Done);
    assert_eq!(world.answer(Command::PostEvent(event("e\"1", "{}"))).await, Answer::Duplicate);
    assert_eq!(world.answer(Command::PostEvent(event("e\"1", "[]"))).await, Answer::EventIdTaken);
    let twice = world.commit(vec![Command::PostEvent(event("e2", "{}")), Command::PostEvent(event("e2", "{}"))]).await;
    assert_eq!(twice.answers, [Answer::Done, Answer::Duplicate]);
    let elsewhere = OutsideEvent { trace_id: Some(world.trace_id()), ..event("e3", "{}") };
    assert_eq!(world.answer(Command::PostEvent(elsewhere)).await, Answer::NotFound);
    assert_eq!(world.task(root).await.progress, 70);
    let kept: Vec<_> = world.events(trace_id).await.into_iter().filter_map(|event| event.event_id).collect();
    assert_eq!(kept, ["e\"1", "e2"]);
    world.finish(&claimed, "1").await;
    assert_eq!(world.answer(Command::PostEvent(event("e4", "{}"))).await, Answer::Stale { status: Status::Success });
}

pub(crate) async fn attempts_are_kept_with_their_errors(world: World) {
    let (_, root) = world.submit().await;
    let claimed = world.claim_one().await;
    world.fail(&claimed, StepFailure::retryable("SLOW", "first"), Duration::ZERO).await;
    let claimed = world.claim_one().await;
    world.finish(&claimed, "1").await;
    let attempts = world.stores.read.attempts(root).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| (attempt.fence, attempt.attempt, attempt.leg)).collect::<Vec<_>>(), [(1, 1, Leg::Run), (2, 2, Leg::Run)]);
    assert_eq!((attempts[0].result.as_str(), attempts[1].result.as_str()), ("RETRYABLE", "SUCCESS"));
    assert_eq!((attempts[0].error.as_ref().unwrap().message.as_str(), attempts[0].host.as_str(), attempts[1].error.is_none()), ("first", HOST, true));
    assert_eq!(world.task(root).await.error, None);
}
