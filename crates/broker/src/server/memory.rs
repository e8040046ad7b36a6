//! Memory that requests may take, all connections together. Invariant: bytes are paid for before they are read, as they
//! arrive: a frame that is announced and not sent costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit's worth.
const UNIT_BYTES: usize = 1024;
/// Up to this cost, a request is paid from the pool of small ones.
pub(super) const SMALL_BYTES_MAX: usize = 64 << 10;

/// The pools.
#[derive(Debug)]
pub(crate) struct Memory {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    large_units: u32,
}

/// The pool has nothing left, for too long.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("no memory for {bytes} more bytes of requests within {waited:?}")]
pub(crate) struct Exhausted {
    bytes: usize,
    waited: Duration,
}

/// What was paid; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pool: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
    units_max: u32,
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Memory {
    pub(crate) fn new(total_bytes: usize, small_bytes: usize) -> Self {
        let small = small_bytes.min(total_bytes / 2).max(SMALL_BYTES_MAX * 4);
        let large_units = units(total_bytes.saturating_sub(small)).max(1);
        Self {
            small: Arc::new(Semaphore::new(units(small) as usize)),
            large: Arc::new(Semaphore::new(large_units as usize)),
            large_units,
        }
    }

    /// An empty reservation for a request that will cost up to `cost` bytes.
    pub(crate) async fn begin(&self, cost: usize, wait: Duration) -> Result<Reservation, Exhausted> {
        let small = cost <= SMALL_BYTES_MAX;
        let pool = if small { &self.small } else { &self.large };
        // A small request is paid whole; a large one as it arrives.
        let bytes = if small { cost } else { 0 };
        let permit = acquire(pool, units(bytes), bytes, wait).await?;
        Ok(Reservation {
            pool: pool.clone(),
            permit,
            units_max: if small { units(cost) } else { self.large_units },
        })
    }
}

async fn acquire(
    pool: &Arc<Semaphore>,
    units: u32,
    bytes: usize,
    wait: Duration,
) -> Result<OwnedSemaphorePermit, Exhausted> {
    match tokio::time::timeout(wait, pool.clone().acquire_many_owned(units)).await {
        Ok(Ok(permit)) => Ok(permit),
        // The pool is never closed; were it, nothing could be had from it.
        Ok(Err(_)) | Err(_) => Err(Exhausted { bytes, waited: wait }),
    }
}

impl Reservation {
    /// Pays up to `bytes` in total. What is larger than the whole pool pays the whole pool.
    pub(crate) async fn pay_up_to(&mut self, bytes: usize, wait: Duration) -> Result<(), Exhausted> {
        let wanted = units(bytes).min(self.units_max);
        let have = u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX);
        if wanted > have {
            let more = acquire(&self.pool, wanted - have, bytes, wait).await?;
            self.permit.merge(more);
        }
        Ok(())
    }
}

/// Memory for fetched records, all connections together.
#[derive(Debug)]
pub(crate) struct FetchMemory {
    pool: Arc<Semaphore>,
    units: u32,
    waiting: AtomicUsize,
}

impl FetchMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        let units = units(bytes).max(1);
        Self { pool: Arc::new(Semaphore::new(units as usize)), units, waiting: AtomicUsize::new(0) }
    }

    /// Waits until `bytes` may be read. `None` when the pool is closed, which it never is.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = units(bytes).min(self.units);
        if let Ok(permit) = self.pool.clone().try_acquire_many_owned(units) {
            return Some(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.pool.clone().acquire_many_owned(units).await.ok()
    }

    /// Whether somebody waits for what others hold.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Gives back what `bytes` do not need.
    pub(crate) fn shrink(permit: &mut OwnedSemaphorePermit, bytes: usize) {
        let spare = permit.num_permits().saturating_sub(units(bytes) as usize);
        drop(permit.split(spare));
    }
}

/// Counts one who waits, for as long as it is waited.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn a_full_pool_refuses_after_the_wait_and_small_requests_have_their_own() {
        let memory = Memory::new(4 << 20, 1 << 20);
        let mut first = memory.begin(10 << 20, WAIT).await.unwrap();
        first.pay_up_to(2 << 20, WAIT).await.unwrap();
        let mut second = memory.begin(10 << 20, WAIT).await.unwrap();
        assert!(second.pay_up_to(2 << 20, WAIT).await.is_err());
        memory.begin(SMALL_BYTES_MAX, WAIT).await.unwrap();
        drop(first);
        second.pay_up_to(2 << 20, WAIT).await.unwrap();
        // Larger than all there is: it pays all there is, alone.
        second.pay_up_to(100 << 20, WAIT).await.unwrap();
    }
}
