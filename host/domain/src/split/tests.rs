use proptest::prelude::*;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::definition::DefinitionSpec;
use crate::id::MonotonicIds;

struct Known;

impl Definitions for Known {
    fn find(&self, name: &Name) -> Option<Arc<Definition>> {
        let actor = match name.as_str() {
            "work" => "AGENT",
            "exec" => "EXECUTION",
            "group" => "GROUP_AGG",
            "single" => "SINGLE_AGG",
            _ => return None,
        };
        let spec: DefinitionSpec =
            serde_json::from_str(&format!(r#"{{"actor_type":"{actor}","code_ref":"wasm://m","default_params":{{"a":1}},"max_layers":2}}"#)).unwrap();
        let at = Timestamp::from_micros(0);
        Some(Arc::new(Definition { id: name.clone(), version: 1, spec, created_at: at, updated_at: at }))
    }

    fn check_params(&self, _: &Definition, params: &Json) -> Result<(), String> {
        if params.as_str().contains("forbidden") { Err("forbidden".to_owned()) } else { Ok(()) }
    }
}

fn splitter() -> Splitter {
    Splitter { actor_type: ActorType::Agent, layer: 0, depth: 0, max_layers: 8, max_children: 5, trace_room: 100 }
}

fn child(key: &str, definition: &str, depends_on: &[&str]) -> ChildRequest {
    ChildRequest {
        key: key.to_owned(),
        definition: definition.to_owned(),
        params: "{}".to_owned(),
        depends_on: depends_on.iter().map(|key| (*key).to_owned()).collect(),
        ..ChildRequest::default()
    }
}

fn ids() -> MonotonicIds<ManualClock> {
    MonotonicIds::new(ManualClock::at_micros(1_000_000))
}

fn refused(splitter: &Splitter, requests: &[ChildRequest]) -> SplitRefusal {
    let mut staging = Staging::default();
    let refusal = staging.split(splitter, requests, &Known, &ids()).unwrap_err();
    assert!(staging.planned().is_empty(), "nothing of a refused call is staged");
    refusal.reason
}

#[test]
fn each_way_to_ask_wrongly_has_its_refusal() {
    let with = |change: fn(&mut Splitter)| {
        let mut splitter = splitter();
        change(&mut splitter);
        splitter
    };
    let ok = [child("a", "work", &[])];
    assert_eq!(refused(&with(|s| s.actor_type = ActorType::Execution), &ok), SplitRefusal::NotAllowed);
    assert_eq!(refused(&with(|s| s.layer = 8), &ok), SplitRefusal::NotAllowed);
    assert_eq!(refused(&with(|s| s.max_children = 0), &ok), SplitRefusal::NotAllowed);
    assert_eq!(refused(&with(|s| s.trace_room = 0), &ok), SplitRefusal::TraceTooLarge);
    let six: Vec<_> = (0..6).map(|n| child(&format!("k{n}"), "work", &[])).collect();
    assert_eq!(refused(&splitter(), &six), SplitRefusal::TooManyChildren);
    assert_eq!(refused(&splitter(), &[child("a", "nobody", &[])]), SplitRefusal::UnknownDefinition);
    assert_eq!(refused(&splitter(), &[child("../a", "work", &[])]), SplitRefusal::InvalidChild);
    assert_eq!(refused(&splitter(), &[child("a", "work", &["a"])]), SplitRefusal::Cycle);
    assert_eq!(refused(&splitter(), &[child("a", "work", &["b"]), child("b", "work", &["c"]), child("c", "work", &["a"])]), SplitRefusal::Cycle);
    assert_eq!(refused(&splitter(), &[child("a", "work", &["ghost"])]), SplitRefusal::UnknownDependency);
    assert_eq!(refused(&splitter(), &[child("a", "work", &[]), child("a", "exec", &[])]), SplitRefusal::DuplicateKey);
    assert_eq!(refused(&splitter(), &[child("a", "single", &[])]), SplitRefusal::InvalidChild);
    for params in ["{", r#"{"a":1,"a":2}"#, r#""\u0000""#, r#"{"x":"forbidden"}"#] {
        assert_eq!(refused(&splitter(), &[ChildRequest { params: params.to_owned(), ..child("a", "work", &[]) }]), SplitRefusal::InvalidChild, "{params}");
    }
    for bad in [
        ChildRequest { priority: Some(11), ..child("a", "work", &[]) },
        ChildRequest { timeout_sec: Some(0), ..child("a", "work", &[]) },
        ChildRequest { max_retries: Some(101), ..child("a", "work", &[]) },
    ] {
        assert_eq!(refused(&splitter(), &[bad]), SplitRefusal::InvalidChild);
    }
}

#[test]
fn nobody_waits_for_an_aggregator_that_waits_for_everybody() {
    assert_eq!(refused(&splitter(), &[child("g", "group", &[]), child("x", "work", &["g"])]), SplitRefusal::Cycle);
    let through_another = [child("x", "work", &["s"]), child("s", "single", &["g"]), child("g", "group", &[])];
    assert_eq!(refused(&splitter(), &through_another), SplitRefusal::Cycle);
    // Over several calls as well; what only aggregators wait for is fine, and so is a group that names what it waits for.
    let mut staging = Staging::default();
    let ids = ids();
    staging.split(&splitter(), &[child("a", "work", &[]), child("g", "group", &[]), child("s", "single", &["g"])], &Known, &ids).unwrap();
    assert_eq!(staging.split(&splitter(), &[child("x", "work", &["s"])], &Known, &ids).unwrap_err().reason, SplitRefusal::Cycle);
    staging.split(&splitter(), &[child("named", "group", &["a"]), child("x", "work", &["named"])], &Known, &ids).unwrap();
}

#[test]
fn dependencies_are_bounded_as_a_whole() {
    let wide = Splitter { max_children: 10_000, trace_room: 100_000, ..splitter() };
    let many = |groups: usize| {
        let workers = (0..2_000).map(|n| child(&format!("w{n}"), "work", &[]));
        workers.chain((0..groups).map(|n| child(&format!("g{n}"), "group", &[]))).collect::<Vec<_>>()
    };
    assert_eq!(refused(&wide, &many(501)), SplitRefusal::TooManyChildren);
    let mut staging = Staging::default();
    let ids = ids();
    staging.split(&wide, &many(500), &Known, &ids).unwrap();
    assert_eq!(staging.split(&wide, &[child("one-more", "work", &[])], &Known, &ids).unwrap_err().reason, SplitRefusal::TooManyChildren);
}

#[test]
fn the_same_child_twice_is_one_child() {
    let mut staging = Staging::default();
    let ids = ids();
    let first = staging.split(&splitter(), &[child("a", "work", &[])], &Known, &ids).unwrap();
    let again = staging.split(&splitter(), &[child("a", "work", &[]), child("b", "exec", &["a"])], &Known, &ids).unwrap();
    assert_eq!(first[0], again[0]);
    assert_eq!(staging.planned().len(), 2);
    let planned = staging.into_plan();
    let mut later = Staging::beside(
        planned
            .iter()
            .map(|child| ExistingChild { id: child.id, key: child.key.clone(), definition: child.definition.id.clone(), params: child.params.clone() })
            .collect(),
    );
    assert_eq!(later.split(&splitter(), &[child("a", "work", &[])], &Known, &ids).unwrap(), first);
    assert!(later.planned().is_empty());
    assert_eq!(later.split(&splitter(), &[child("a", "exec", &[])], &Known, &ids).unwrap_err().reason, SplitRefusal::DuplicateKey);
    later.split(&splitter(), &[child("c", "work", &["b"])], &Known, &ids).unwrap();
}

#[test]
fn defaults_are_laid_under_and_aggregators_wait_for_everybody() {
    let mut staging = Staging::default();
    let group = ChildRequest { params: r#"{"b":2}"#.to_owned(), ..child("sum", "group", &[]) };
    staging.split(&splitter(), &[child("a", "work", &[]), group], &Known, &ids()).unwrap();
    let [work, sum] = staging.planned() else { panic!("two were planned") };
    assert_eq!(sum.params.as_str(), r#"{"a":1,"b":2}"#);
    assert!(sum.on_all_siblings && sum.run_on == RunOn::Finished);
    assert!(!work.on_all_siblings && work.run_on == RunOn::Success);
    assert_eq!((work.layer, work.depth, work.is_leaf_agent), (1, 1, false));
}

proptest! {
    /// Any call is taken whole or refused whole; what is taken can be run in some order.
    #[test]
    fn a_plan_is_acyclic_and_whole(edges in prop::collection::vec((0..5usize, 0..6usize), 0..12), twice: bool) {
        let requests: Vec<ChildRequest> = (0..5)
            .map(|n| {
                let depends_on: Vec<String> = edges.iter().filter(|(from, _)| *from == n).map(|(_, to)| format!("k{to}")).collect();
                ChildRequest { depends_on, ..child(&format!("k{n}"), "work", &[]) }
            })
            .collect();
        let mut staging = Staging::default();
        let ids = ids();
        match staging.split(&splitter(), &requests, &Known, &ids) {
            Err(_) => prop_assert!(staging.planned().is_empty()),
            Ok(answer) => {
                prop_assert_eq!(answer.len(), 5);
                let mut done: HashSet<Key> = HashSet::new();
                while done.len() < 5 {
                    let next = staging.planned().iter().find(|child| !done.contains(&child.key) && child.depends_on.iter().all(|key| done.contains(key)));
                    prop_assert!(next.is_some(), "a cycle was planned");
                    done.extend(next.map(|child| child.key.clone()));
                }
                if twice {
                    prop_assert_eq!(staging.split(&splitter(), &requests, &Known, &ids).unwrap(), answer);
                    prop_assert_eq!(staging.planned().len(), 5);
                }
            }
        }
    }
}
