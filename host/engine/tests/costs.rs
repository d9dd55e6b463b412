//! What tasks cost in durable transactions: bounds that hold on any machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tower_engine::EngineConfig;
use tower_store::sqlite::SqliteOptions;
use tower_store::work::{Batch, Command, Committed, WorkStore};
use tower_store::{StoreError, Stores};

/// Counts what goes through it.
struct Counting {
    behind: Arc<dyn WorkStore>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    transactions: AtomicU64,
    statements: AtomicU64,
    /// Transactions that were asked to do nothing but claim, and found nothing.
    in_vain: AtomicU64,
}

#[async_trait]
impl WorkStore for Counting {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        // What a host does for itself, renewals and the like, costs the same however many tasks there are.
        let of_tasks = batch.commands.iter().any(|command| matches!(command, Command::Submit(_) | Command::Settle(_)));
        let only_claims = batch.commands.is_empty();
        let committed = self.behind.commit(batch).await?;
        if of_tasks || !committed.claimed.is_empty() {
            self.counts.transactions.fetch_add(1, Ordering::Relaxed);
            self.counts.statements.fetch_add(committed.statements, Ordering::Relaxed);
        } else if only_claims {
            self.counts.in_vain.fetch_add(1, Ordering::Relaxed);
        }
        Ok(committed)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.behind.check_writable().await
    }
}

async fn counted(config: EngineConfig) -> (scripted::Bench, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let counting = counts.clone();
    let before = |stores: Stores| Stores { work: Arc::new(Counting { behind: stores.work.clone(), counts: counting }), ..stores };
    (scripted::start_on(SqliteOptions::memory(), config, before).await, counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_task_takes_two_transactions() {
    let (bench, counts) = counted(scripted::config()).await;
    for _ in 0..20 {
        bench.run(r#"{"do":"nothing"}"#).await;
    }
    bench.stop().await;
    assert_eq!(counts.transactions.load(Ordering::Relaxed), 2 * 20, "one that begins and claims it, one that ends it");
    let in_vain = counts.in_vain.load(Ordering::Relaxed);
    assert!(in_vain <= 5, "{in_vain} looks for claims where it was known that there are none");
}

/// Leaves that run together, and end together: as many as the host has slots for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_take_few_transactions_and_twelve_statements_each() {
    const SLOTS: u32 = 250;
    let (bench, counts) = counted(EngineConfig { slots: SLOTS, ..scripted::config() }).await;
    let script = bench.script.clone();
    let waves = tokio::spawn(async move {
        for wave in 1..=4 {
            // The root's begin is the first.
            while script.begun.load(Ordering::SeqCst) < 1 + wave * u64::from(SLOTS) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            script.wave.add_permits(SLOTS as usize);
        }
    });
    let trace = bench.run(r#"{"do":"split","n":1000,"of":"wave"}"#).await;
    waves.await.unwrap();
    assert_eq!(trace.counts.success, 1_001);
    bench.stop().await;
    let (transactions, statements) = (counts.transactions.load(Ordering::Relaxed), counts.statements.load(Ordering::Relaxed));
    // Begin, split, four waves, fold. What ends while a transaction is at the disk goes with the next: a wave is one to three of them, where
    // a slot that is free again may be filled before the wave is over.
    assert!((7..=25).contains(&transactions), "{transactions} transactions");
    assert!(statements <= 12 * 1_001 + 20 * transactions, "{statements} statements in {transactions} transactions");
}
