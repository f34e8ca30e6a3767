//! The cache of plain chunks: least recently used goes first, bounded in bytes, each missing chunk loaded once.
//!
//! Chunks being loaded count against the same limit as chunks that are kept: before a load the room for it is made.
//! Memory of evicted chunks is used again for the next load, so that reading does not make the kernel clear new pages.

use super::{Error, Result};
use crate::vault::ChunkId;
use lru::LruCache;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Plain bytes that matched their id.
pub type Chunk = Arc<Vec<u8>>;

/// Locks the cache is divided into, so that readers of different chunks do not wait for each other.
const SHARDS: usize = 16;
/// Evicted buffers kept for the next loads.
const SPARE_BUFFERS: usize = 8;
/// How long one thread waits for another one's load of the same chunk.
const PATIENCE: Duration = Duration::from_secs(30);

/// A load under way: `None` until it ended.
#[derive(Default)]
struct Flight {
    outcome: Mutex<Option<Result<Chunk>>>,
    ended: Condvar,
}

#[derive(Default)]
struct Shard {
    ready: Option<LruCache<ChunkId, Chunk>>,
    flights: HashMap<ChunkId, Arc<Flight>>,
}

impl Shard {
    fn ready(&mut self) -> &mut LruCache<ChunkId, Chunk> {
        self.ready.get_or_insert_with(LruCache::unbounded)
    }
}

/// What the cache did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chunks found in memory, or waited for while another thread loaded them.
    pub hits: u64,
    /// Chunks loaded.
    pub loads: u64,
}

/// A byte-bounded cache of chunks, shared by all threads. See the module's text.
///
/// Lock order: one shard at a time, never with `spare` held, never across a load.
pub struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    spare: Mutex<Vec<Vec<u8>>>,
    limit: usize,
    /// Bytes of chunks kept and being loaded.
    used: AtomicUsize,
    next_victim: AtomicUsize,
    hits: AtomicUsize,
    loads: AtomicUsize,
}

enum Found {
    Ready(Chunk),
    Wait(Arc<Flight>),
    Mine(Arc<Flight>),
}

impl Cache {
    /// Makes an empty cache of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            shards: Default::default(),
            spare: Mutex::new(Vec::new()),
            limit,
            used: AtomicUsize::new(0),
            next_victim: AtomicUsize::new(0),
            hits: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
        }
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes of chunks kept and being loaded; above the limit only while more is being loaded at once than the limit holds.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let value = |counter: &AtomicUsize| crate::bytes::to_u64(counter.load(Ordering::Relaxed));
        Counters {
            hits: value(&self.hits),
            loads: value(&self.loads),
        }
    }

    /// Says whether a chunk is in memory or being loaded; does not count as use.
    #[must_use]
    pub fn knows(&self, id: &ChunkId) -> bool {
        let mut shard = self.shard(id).lock();
        shard.ready().contains(id) || shard.flights.contains_key(id)
    }

    /// Returns a chunk that is in memory or being loaded; `None` if it is neither.
    ///
    /// # Errors
    /// As the load under way.
    pub fn get(&self, id: &ChunkId) -> Result<Option<Chunk>> {
        let mut shard = self.shard(id).lock();
        if let Some(chunk) = shard.ready().get(id) {
            return Ok(Some(Arc::clone(chunk)));
        }
        let Some(found) = shard.flights.get(id).map(Arc::clone) else {
            return Ok(None);
        };
        drop(shard);
        wait(id, &found).map(Some)
    }

    /// Returns a chunk from memory, or waits for the load under way, or loads it by `load`, which fills the buffer it is
    /// given with about `expected_len` bytes.
    ///
    /// # Errors
    /// As `load` fails, for all who wait for it (failures are not kept: the next call tries again); `Timeout`.
    pub fn get_or_load(
        &self,
        id: &ChunkId,
        expected_len: usize,
        load: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<Chunk> {
        match self.find(id) {
            Found::Ready(chunk) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Ok(chunk)
            }
            Found::Wait(flight) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                wait(id, &flight)
            }
            Found::Mine(flight) => {
                self.loads.fetch_add(1, Ordering::Relaxed);
                let landing = Landing {
                    cache: self,
                    id,
                    flight: &flight,
                    reserved: expected_len,
                };
                self.used.fetch_add(expected_len, Ordering::Relaxed);
                self.make_room();
                let mut buffer = self.spare.lock().pop().unwrap_or_default();
                let outcome = load(&mut buffer).map(|()| {
                    // A buffer used again may be much larger than this chunk (the last of a disk, a page).
                    buffer.shrink_to(buffer.len().saturating_mul(2));
                    Arc::new(buffer)
                });
                landing.land(outcome)
            }
        }
    }

    /// Marks a chunk as the next to go: a stream has read it to its end, and the kernel keeps what it read.
    pub fn demote(&self, id: &ChunkId) {
        self.shard(id).lock().ready().demote(id);
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<Shard> {
        let [first, ..] = id.0;
        let [zero, ..] = &self.shards;
        self.shards.get(usize::from(first) % SHARDS).unwrap_or(zero)
    }

    fn find(&self, id: &ChunkId) -> Found {
        let mut shard = self.shard(id).lock();
        if let Some(chunk) = shard.ready().get(id) {
            return Found::Ready(Arc::clone(chunk));
        }
        if let Some(flight) = shard.flights.get(id) {
            return Found::Wait(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        shard.flights.insert(*id, Arc::clone(&flight));
        Found::Mine(flight)
    }

    /// Evicts until the limit holds or nothing is left to evict.
    fn make_room(&self) {
        let mut empty = 0;
        while self.used() > self.limit && empty < SHARDS {
            let victim = self.next_victim.fetch_add(1, Ordering::Relaxed) % SHARDS;
            let evicted = self.shards.get(victim).and_then(|shard| shard.lock().ready().pop_lru());
            match evicted {
                Some((_, chunk)) => {
                    empty = 0;
                    self.used.fetch_sub(chunk.capacity(), Ordering::Relaxed);
                    self.recycle(chunk);
                }
                None => empty += 1,
            }
        }
    }

    /// Keeps the memory of a chunk that nobody reads any more.
    fn recycle(&self, chunk: Chunk) {
        if let Some(buffer) = Arc::into_inner(chunk) {
            let mut spare = self.spare.lock();
            if spare.len() < SPARE_BUFFERS {
                spare.push(buffer);
            }
        }
    }
}

fn wait(id: &ChunkId, flight: &Flight) -> Result<Chunk> {
    let deadline = Instant::now() + PATIENCE;
    let mut outcome = flight.outcome.lock();
    loop {
        if let Some(outcome) = outcome.as_ref() {
            return outcome.clone();
        }
        if flight.ended.wait_until(&mut outcome, deadline).timed_out() {
            return Err(Error::Timeout { id: *id });
        }
    }
}

/// Ends a load whatever happens: a load that panics must not leave others waiting.
struct Landing<'a> {
    cache: &'a Cache,
    id: &'a ChunkId,
    flight: &'a Flight,
    reserved: usize,
}

impl Landing<'_> {
    fn land(mut self, outcome: Result<Chunk>) -> Result<Chunk> {
        self.settle(outcome.clone());
        outcome
    }

    fn settle(&mut self, outcome: Result<Chunk>) {
        let kept = outcome.as_ref().map_or(0, |chunk| chunk.capacity());
        self.cache.used.fetch_add(kept, Ordering::Relaxed);
        self.cache
            .used
            .fetch_sub(std::mem::take(&mut self.reserved), Ordering::Relaxed);
        let mut shard = self.cache.shard(self.id).lock();
        if let Ok(chunk) = &outcome {
            shard.ready().push(*self.id, Arc::clone(chunk));
        }
        shard.flights.remove(self.id);
        drop(shard);
        *self.flight.outcome.lock() = Some(outcome);
        self.flight.ended.notify_all();
        self.cache.make_room();
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if self.flight.outcome.lock().is_none() {
            self.settle(Err(Error::Timeout { id: *self.id }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn id(number: usize) -> ChunkId {
        ChunkId::of(&number.to_le_bytes())
    }

    fn fill(len: usize) -> impl FnOnce(&mut Vec<u8>) -> Result<()> {
        move |buffer| {
            buffer.clear();
            buffer.resize(len, 1);
            Ok(())
        }
    }

    #[test]
    fn bytes_kept_stay_below_the_limit_and_the_newest_stay() {
        let cache = Cache::new(100_000);
        for number in 0..1000 {
            cache.get_or_load(&id(number), 1000, fill(1000)).unwrap();
            assert!(cache.used() <= 100_000, "{}", cache.used());
        }
        assert!(cache.knows(&id(999)));
        assert!(!cache.knows(&id(0)));
    }

    #[test]
    fn a_chunk_wanted_by_many_is_loaded_once() {
        let cache = Cache::new(1 << 20);
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    let load = |buffer: &mut Vec<u8>| {
                        std::thread::sleep(Duration::from_millis(50));
                        fill(10)(buffer)
                    };
                    assert_eq!(cache.get_or_load(&id(1), 10, load).unwrap().len(), 10);
                });
            }
        });
        assert_eq!(cache.counters(), Counters { hits: 7, loads: 1 });
    }

    #[test]
    fn a_failure_is_shared_but_not_kept() {
        let cache = Cache::new(1 << 20);
        let fail = |_: &mut Vec<u8>| Err(Error::Timeout { id: id(1) });
        assert!(cache.get_or_load(&id(1), 10, fail).is_err());
        assert!(cache.get_or_load(&id(1), 10, fill(10)).is_ok());
        assert_eq!(cache.used(), 10);
    }

    #[test]
    fn a_panic_while_loading_leaves_nobody_waiting() {
        let cache = Cache::new(1 << 20);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = cache.get_or_load(&id(1), 10, |_| panic!("on purpose"));
        }));
        assert!(panicked.is_err());
        assert!(cache.get_or_load(&id(1), 10, fill(10)).is_ok());
    }
}
