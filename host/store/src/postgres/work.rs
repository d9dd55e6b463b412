//! A batch as a transaction. Where hosts got into each other's way, it is run again as a whole.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use tower_domain::clock::Timestamp;

use super::tx::PgTx;
use super::writers::answered;
use super::{PostgresStore, Seen, tx_queue};
use crate::StoreError;
use crate::apply::ClaimOrder;
use crate::fault::{self, Point};
use crate::work::{Batch, Committed, WorkStore};

/// How often a transaction is run at the most.
const RUNS_MAX: u32 = 10;

/// Longest pause after the first run that was undone; twice as long after each further one, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(4);

/// Longest pause of all.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// How long a host that claims nothing goes by what it knows of the order of claims.
const ORDER_KNOWN: Duration = Duration::from_secs(1);

/// For how many batches after one that came to gates their lock is taken beforehand: to begin anew costs a host more than to wait its turn.
const GATES_AHEAD: u32 = 16;

/// Indexes that two hosts may fill at once with what each has found missing. One of them finds it when it runs again.
const FILLED: [&str; 6] = ["idempotency_keys_pkey", "events_outside", "cron_fires_pkey", "definitions_pkey", "definition_versions_pkey", "schedules_pkey"];

#[async_trait]
impl WorkStore for PostgresStore {
    #[tracing::instrument(name = "store.commit", level = "debug", skip_all, fields(commands = batch.commands.len()))]
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        fault::point(Point::Committing).await?;
        let mut runs = Runs::default();
        loop {
            match self.run(&batch).await {
                Err(error) if runs.once_more(&error).await => {}
                Err(error @ StoreError::Silent(_)) => {
                    self.writers.give_up();
                    return Err(error);
                }
                ended => return ended,
            }
        }
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        fault::point(Point::Committing).await?;
        let patience = self.writers.patience;
        let mut tx = self.begin().await?;
        // A record of the log that says nothing, and has to go to the disk like any other.
        answered(patience, sqlx::query("SELECT pg_logical_emit_message(true, 'tower', '')").execute(&mut *tx)).await?;
        answered(patience, tx.commit()).await
    }
}

impl PostgresStore {
    /// Runs a batch once; twice where it comes to gates and did not expect so.
    async fn run(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let expected = self.order.lock().gates_ahead > 0;
        let (ended, came) = self.run_with(batch, expected).await;
        let ended = if came && !expected { self.run_with(batch, true).await.0 } else { ended };
        {
            let ahead = &mut self.order.lock().gates_ahead;
            *ahead = if came { GATES_AHEAD } else { ahead.saturating_sub(1) };
        }
        let committed = ended?;
        self.tell(&batch.host, &committed.news).await;
        Ok(committed)
    }

    /// Also answers whether the batch came to gates.
    async fn run_with(&self, batch: &Batch, holds_gates: bool) -> (Result<Committed, StoreError>, bool) {
        let mut seen = self.order.lock().seen;
        // Whoever has nothing else to do was told that there is something.
        if let Some(seen) = seen.as_mut().filter(|_| batch.commands.is_empty()) {
            seen.ready = true;
        }
        let (order, conn) = match (self.claim_order(batch.now).await, self.begin().await) {
            (Ok(order), Ok(conn)) => (order, conn),
            (Err(error), _) | (_, Err(error)) => return (Err(error), false),
        };
        let mut tx = PgTx::new(conn, self.time, self.writers.patience, holds_gates, seen);
        let applied = crate::apply::run(&mut tx, batch.clone(), order).await;
        let came = tx.comes_to_gates;
        let ended = match applied {
            Ok((mut committed, after)) => {
                // What others held back just now can be claimed in a moment.
                committed.statements = tx.statements;
                committed.more_ready |= tx.seen.is_some_and(|seen| seen.ready) && batch.claim.as_ref().is_some_and(|claim| claim.limit > 0);
                // Nobody looked there, and something has come.
                committed.more_elsewhere |= tx.skipped_elsewhere && tx.seen.is_some_and(|seen| seen.elsewhere);
                let seen = tx.seen;
                tx.commit().await.map(|()| {
                    self.move_on(order, after, seen);
                    committed
                })
            }
            // Nobody would hear it.
            Err(error @ StoreError::Silent(_)) => Err(error),
            Err(error) => {
                // It is undone in any case; this one waits for it, so that nobody is held up meanwhile.
                if let Err(error) = tx.rollback().await {
                    tracing::debug!(%error, "the connection of an undone transaction is lost");
                }
                Err(error)
            }
        };
        (ended, came)
    }

    /// Where the order of claims stands. Other hosts move virtual time on as well.
    async fn claim_order(&self, now: Timestamp) -> Result<ClaimOrder, StoreError> {
        {
            let mut order = self.order.lock();
            if now < order.asked_at.plus(ORDER_KNOWN) && now >= order.asked_at {
                return Ok(order.claims);
            }
            order.asked_at = now;
        }
        let mut reader = self.reader().await?;
        let asked = answered(self.writers.patience, tx_queue::claimed_up_to(&mut reader)).await?;
        let claims = &mut self.order.lock().claims;
        claims.virtual_time = claims.virtual_time.max(asked);
        Ok(*claims)
    }

    /// A batch that began at `before` ended at `after`; others of this host may have done so meanwhile.
    fn move_on(&self, before: ClaimOrder, after: ClaimOrder, seen: Option<Seen>) {
        let order = &mut *self.order.lock();
        order.seen = seen;
        let claims = &mut order.claims;
        claims.virtual_time = claims.virtual_time.max(after.virtual_time);
        claims.claims += after.claims.saturating_sub(before.claims);
        claims.passes += after.passes.saturating_sub(before.passes);
    }
}

/// Runs of one transaction.
#[derive(Default)]
pub(super) struct Runs {
    undone: u32,
}

impl Runs {
    /// Whether to run it once more, after a pause that differs from host to host. The last error is the answer, if it stays.
    pub(super) async fn once_more(&mut self, error: &StoreError) -> bool {
        self.undone += 1;
        if !passes(error) || self.undone >= RUNS_MAX {
            return false;
        }
        tracing::debug!(%error, undone = self.undone, "hosts got into each other's way");
        let longest = PAUSE.saturating_mul(1 << self.undone.min(16)).min(PAUSE_MAX);
        // Each hasher has another key, and that is all the chance that is needed.
        let chance = RandomState::new().hash_one(self.undone) % 1024;
        tokio::time::sleep(longest.mul_f64(chance as f64 / 1024.0)).await;
        true
    }
}

/// Whether an error is one of two transactions in each other's way, so that the same goes well in a moment.
fn passes(error: &StoreError) -> bool {
    let error = match error {
        StoreError::Raced => return true,
        StoreError::Database(error) | StoreError::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => error,
        _ => return false,
    };
    match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        // serialization_failure, deadlock_detected
        Some(error) if matches!(error.code(), "40001" | "40P01") => true,
        // lock_not_available: at once, and not after waiting for long.
        Some(error) if error.code() == "55P03" => error.routine() != Some("ProcessInterrupts"),
        Some(error) => error.code() == "23505" && error.constraint().is_some_and(|index| FILLED.contains(&index)),
        None => false,
    }
}
