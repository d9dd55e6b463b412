//! What an ended task means to its parent and to those that depend on it.

use std::collections::HashMap;

use tower_domain::id::TaskId;
use tower_domain::lifecycle::{ChildrenEnded, DependencyEnded, Refusal};
use tower_domain::task::Status;

use super::settle::payload_of;
use super::unit::Unit;
use crate::StoreError;

impl Unit<'_> {
    /// Tells parents and dependents, level by level, until nothing more ends. Each level is one set of everything.
    pub(super) async fn propagate(&mut self) -> Result<(), StoreError> {
        while !self.ended.is_empty() {
            let ended = std::mem::take(&mut self.ended);
            let statuses: HashMap<TaskId, Status> = ended.iter().filter_map(|id| self.task(*id).map(|row| (*id, row.state.status()))).collect();
            self.release_dependents(&ended, &statuses).await?;
            self.tell_parents(&ended, &statuses).await?;
        }
        Ok(())
    }

    async fn release_dependents(&mut self, ended: &[TaskId], statuses: &HashMap<TaskId, Status>) -> Result<(), StoreError> {
        // Tasks that this batch makes are not in the table yet; nothing that ended before they were made is open for them.
        let mut met: HashMap<TaskId, (u32, bool)> = HashMap::new();
        // A root has no siblings that could.
        let siblings: Vec<TaskId> = ended.iter().filter(|id| self.task(**id).is_none_or(|row| row.parent_id.is_some())).copied().collect();
        let pairs = self.dependents_of(&siblings).await?;
        for (dependency, dependent) in pairs {
            let (count, failed) = met.entry(dependent).or_default();
            *count += 1;
            *failed |= statuses.get(&dependency) != Some(&Status::Success);
        }
        let mut dependents: Vec<TaskId> = met.keys().copied().collect();
        dependents.sort_unstable();
        self.load_tasks(dependents.clone()).await?;
        for id in dependents {
            let (ended, failed) = met[&id];
            if self.end_with_its_trace(id)? {
                continue;
            }
            let Some(row) = self.task(id) else { continue };
            match (DependencyEnded { ended, failed, now: self.now }).decide(&row.state) {
                Ok(transition) => {
                    let payload = payload_of(&transition, 0);
                    self.apply(id, transition, payload)?;
                }
                // Skipped or cancelled before.
                Err(Refusal::AlreadyEnded) => {}
                Err(refusal) => return Err(StoreError::inconsistent("tasks", format!("a dependency of {id} ended: {refusal}"))),
            }
        }
        Ok(())
    }

    async fn tell_parents(&mut self, ended: &[TaskId], statuses: &HashMap<TaskId, Status>) -> Result<(), StoreError> {
        let mut told: HashMap<TaskId, (u32, u32)> = HashMap::new();
        for id in ended {
            if let Some(parent) = self.task(*id).and_then(|row| row.parent_id) {
                let (count, succeeded) = told.entry(parent).or_default();
                *count += 1;
                *succeeded += u32::from(statuses.get(id) == Some(&Status::Success));
            }
        }
        let mut parents: Vec<TaskId> = told.keys().copied().collect();
        parents.sort_unstable();
        self.load_tasks(parents.clone()).await?;
        for id in parents {
            let (ended, succeeded) = told[&id];
            let row = self.task(id).ok_or_else(|| StoreError::inconsistent("tasks", format!("parent {id} is missing")))?;
            let transition = ChildrenEnded { ended, succeeded, policy: row.aggregation }
                .decide(&row.state)
                .map_err(|refusal| StoreError::inconsistent("tasks", format!("children of {id} ended: {refusal}")))?;
            let payload = payload_of(&transition, 0);
            self.apply(id, transition, payload)?;
        }
        Ok(())
    }
}
