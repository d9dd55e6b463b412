//! Claims whose host is gone are taken back.

use std::collections::HashSet;

use tower_domain::id::TaskId;
use tower_domain::lifecycle;

use super::settle::payload_of;
use super::unit::Unit;
use crate::StoreError;
use crate::fault::Point;
use crate::work::{Answer, Expire};

/// Claims that are taken back with one set of statements.
const EXPIRE_CHUNK: u32 = 1_000;

impl Unit<'_> {
    pub(super) async fn expire(&mut self, expire: Expire) -> Result<Answer, StoreError> {
        loop {
            self.propagate().await?;
            self.flush().await?;
            let (claims, suspects) = match &expire {
                Expire::Host { host, suspects } => {
                    let claims = self.tx.claimed_by(host, EXPIRE_CHUNK).await?.into_iter().map(|id| (id, host.clone())).collect();
                    (claims, suspects.iter().copied().collect::<HashSet<TaskId>>())
                }
                Expire::Overdue => (self.tx.overdue(self.now, EXPIRE_CHUNK).await?, HashSet::new()),
            };
            if claims.is_empty() {
                self.find_unswept().await?;
                return Ok(Answer::Done);
            }
            self.load_tasks(claims.iter().map(|(id, _)| *id).collect()).await?;
            for (id, owner) in claims {
                let row = self.task(id).ok_or_else(|| StoreError::inconsistent("queue", format!("task {id} is missing")))?.clone();
                let transition = lifecycle::Expire { fence: row.state.fence, suspect: suspects.contains(&id) }
                    .decide(&row.state)
                    .map_err(|refusal| StoreError::inconsistent("queue", format!("claim of {id}: {refusal}")))?;
                self.remember_attempt(&row, row.state.fence, row.started_at.unwrap_or(self.now), &transition, None);
                if let Some((_, attempt)) = self.attempts.last_mut() {
                    attempt.result = "LEASE_EXPIRED".to_owned();
                    attempt.host = owner;
                }
                let payload = payload_of(&transition, 0);
                self.apply(id, transition, payload)?;
            }
            self.between(Point::ClaimsTakenBack).await?;
        }
    }
}
