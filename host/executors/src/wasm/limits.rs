//! What one step may hold in memory and use of the processor.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::settings::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};

/// Bytes that an element of a table takes.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Counts all memories and tables of one step together against one bound.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    bytes_max: u64,
    bytes: u64,
    refused: bool,
}

impl MemoryLimit {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, refused: false }
    }

    /// Whether growth was ever refused: the likely cause of a trap that follows.
    pub(crate) fn was_hit(&self) -> bool {
        self.refused
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What was granted is never taken off again, even if the growth then fails for another reason: a guest that could bring the
    /// count down by failing would have no bound.
    fn grow(&mut self, by: usize) -> bool {
        let grown = self.bytes.saturating_add(by as u64);
        if grown > self.bytes_max {
            self.refused = true;
            return false;
        }
        self.bytes = grown;
        true
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

/// CPU time that a step has used, by the clock of the thread that runs it: a busy machine does not count against it.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    /// Of the polls that have ended, in nanoseconds.
    spent_ns: AtomicU64,
    /// Where the thread's clock stood when the present poll began.
    poll_began_ns: AtomicU64,
}

impl CpuMeter {
    /// What was used so far; to be asked on the thread that runs the step, in the midst of a poll.
    pub(crate) fn spent_in_poll(&self) -> Duration {
        let in_poll = thread_cpu_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed));
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed).saturating_add(in_poll))
    }
}

/// Runs a future and charges what its polls use.
pub(crate) async fn metered<F: Future>(mut inner: Pin<&mut F>, meter: &CpuMeter) -> F::Output {
    poll_fn(|cx| {
        // Relaxed: only the thread that polls reads or writes these, and the runtime orders one poll before the next.
        meter.poll_began_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        let polled = inner.as_mut().poll(cx);
        if polled.is_pending() {
            let spent = meter.spent_in_poll();
            meter.spent_ns.store(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        polled
    })
    .await
}

fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn memories_and_tables_count_against_one_bound() {
        let mut limit = MemoryLimit::new(10 * MIB as u64);
        assert!(limit.memory_growing(0, 4 * MIB, None).unwrap());
        assert!(limit.memory_growing(0, 4 * MIB, None).unwrap());
        assert!(limit.table_growing(0, MIB / 8, None).unwrap());
        assert!(!limit.was_hit());
        assert!(!limit.memory_growing(4 * MIB, 6 * MIB, None).unwrap());
        assert!(limit.was_hit());
        assert!(limit.memory_growing(4 * MIB, 5 * MIB, None).unwrap(), "what fits is still granted");
    }

    #[test]
    fn growth_past_the_guests_own_maximum_is_its_own_affair() {
        let mut limit = MemoryLimit::new(10 * MIB as u64);
        assert!(!limit.memory_growing(0, 3 * MIB, Some(2 * MIB)).unwrap());
        assert!(!limit.was_hit());
    }

    #[test]
    fn failing_on_purpose_does_not_bring_the_count_down() {
        let mut limit = MemoryLimit::new(2 * MIB as u64);
        assert!(limit.memory_growing(0, 2 * MIB, None).unwrap());
        limit.memory_grow_failed(wasmtime::Error::msg("past the type's limits")).unwrap();
        assert!(!limit.memory_growing(2 * MIB, 3 * MIB, None).unwrap());
    }
}
