//! Children, chains and trees.

use std::time::Duration;

use command_tower::SplitError;
use command_tower::prelude::*;

use crate::params::{ChildSpec, Params, Recipe, Tree};

/// Children handed over in one call: many enough that calls cost little, few enough to hold.
const BATCH_CHILDREN: usize = 1000;

/// Splits by the recipe. Keys are `c0`, `c1` … in the first phase, `p2-c0` … in later ones, and `group` for what folds them.
pub(crate) fn split_recipe(recipe: &Recipe, phase: u64) -> Result<Value> {
    let prefix = if phase == 1 { "c".to_owned() } else { format!("p{phase}-c") };
    let mut batch = Vec::new();
    for index in 0..recipe.n {
        let mut child = Child::new(format!("{prefix}{index}"), &recipe.definition).params(&recipe.params)?;
        if recipe.chain && index > 0 {
            child = child.after([format!("{prefix}{}", index - 1)]);
        }
        batch.push(child);
        if batch.len() == BATCH_CHILDREN {
            split(std::mem::take(&mut batch))?;
        }
    }
    if let Some(group) = &recipe.group {
        let key = if phase == 1 { "group".to_owned() } else { format!("p{phase}-group") };
        batch.push(Child::new(key, group).params(&recipe.group_params)?);
    }
    if !batch.is_empty() {
        split(batch)?;
    }
    Ok(json!({ "phase": phase }))
}

/// Splits into exactly these children, in one call.
pub(crate) fn split_given(children: &[ChildSpec], catch: bool) -> Result<Value> {
    let children = children.iter().map(child).collect::<Result<Vec<Child>>>()?;
    match split(children) {
        Ok(ids) => Ok(json!({ "ids": ids })),
        Err(SplitError { reason, key, message }) if catch => Ok(json!({ "refused": reason.code(), "key": key, "message": message })),
        Err(error) => Err(error.into()),
    }
}

fn child(spec: &ChildSpec) -> Result<Child> {
    let mut child = Child::new(&spec.key, &spec.definition).params(&spec.params)?.after(&spec.after);
    if spec.finished {
        child = child.run_on(RunOn::Finished);
    }
    if let Some(priority) = spec.priority {
        child = child.priority(priority);
    }
    if let Some(seconds) = spec.timeout_sec {
        child = child.timeout(Duration::from_secs(seconds));
    }
    if let Some(retries) = spec.max_retries {
        child = child.max_retries(retries);
    }
    Ok(child)
}

/// A level of the tree. A tree of depth 0 is asked for only at the root: it does the leaf's echo itself.
pub(crate) fn grow_tree(task: &Task<Params>, tree: &Tree) -> Result<Value> {
    if tree.depth == 0 {
        return Ok(tree.leaf.get("value").cloned().unwrap_or_else(|| json!(1)));
    }
    let (definition, params) = if tree.depth == 1 {
        (tree.leaf_definition.as_ref().unwrap_or(&task.definition), tree.leaf.clone())
    } else {
        let Tree { width, depth, leaf, leaf_definition } = tree;
        (&task.definition, json!({ "do": "tree", "width": width, "depth": depth - 1, "leaf": leaf, "leaf_definition": leaf_definition }))
    };
    let recipe = Recipe { n: tree.width, definition: definition.clone(), params, chain: false, group: None, group_params: Value::Null };
    split_recipe(&recipe, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Behaviour;
    use command_tower::testing::{self, Tower};

    fn behaviour(params: Value) -> Task<Params> {
        testing::task(serde::Deserialize::deserialize(params).expect("the params should fit"))
    }

    #[test]
    fn a_chain_depends_link_by_link_and_a_group_on_its_default() {
        let tower = Tower::new();
        let task = behaviour(json!({ "do": "split", "n": 3, "chain": true, "group": "probe-group" }));
        let Behaviour::Split(recipe) = &task.params.behaviour else { panic!("not a split") };
        assert_eq!(split_recipe(recipe, 1), Ok(json!({ "phase": 1 })));
        let children = tower.children();
        let links: Vec<(&str, &[String])> = children.iter().map(|child| (child.key(), child.depends_on())).collect();
        let (c0, c1) = (["c0".to_owned()], ["c1".to_owned()]);
        assert_eq!(links, [("c0", &[][..]), ("c1", &c0[..]), ("c2", &c1[..]), ("group", &[][..])]);
        assert_eq!(children[3].definition(), "probe-group");
    }

    #[test]
    fn a_tree_hands_on_one_level_less_and_ends_in_leaves() {
        let tower = Tower::new();
        let task = behaviour(json!({ "do": "tree", "width": 2, "depth": 2, "leaf_definition": "probe-exec" }));
        let Behaviour::Tree(tree) = &task.params.behaviour else { panic!("not a tree") };
        grow_tree(&task, tree).expect("it should split");
        let inner = tower.children();
        assert_eq!(inner.len(), 2);
        assert_eq!(inner[0].definition(), "test");

        let next = behaviour(inner[0].params_json().parse().expect("the params should be JSON"));
        let Behaviour::Tree(tree) = &next.params.behaviour else { panic!("not a tree") };
        let tower = Tower::new();
        grow_tree(&next, tree).expect("it should split");
        let leaf = &tower.children()[0];
        assert_eq!((leaf.definition(), leaf.params_json()), ("probe-exec", r#"{"do":"echo","value":1}"#));
    }
}
