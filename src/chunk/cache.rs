//! The cache of plain chunks: least recently used goes first, bounded in bytes, each missing chunk loaded once.
//!
//! Chunks being loaded count against the same limit as chunks that are kept: before a load the room for it is made.
//! Memory of evicted chunks is used again for the next load, so that reading does not make the kernel clear new pages.

use super::{Error, Result};
use crate::store::wait;
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
        match wait_for(id, &found, Instant::now() + wait::left(PATIENCE)) {
            Err(error) if error.is_of_its_thread() => Ok(None),
            other => noted(other).map(Some),
        }
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
        let deadline = Instant::now() + wait::left(PATIENCE);
        loop {
            match self.find(id) {
                Found::Ready(chunk) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Ok(chunk);
                }
                Found::Wait(flight) => match wait_for(id, &flight, deadline) {
                    // Who loaded it had less time than this thread, or none.
                    Err(error) if error.is_of_its_thread() && Instant::now() < deadline => {}
                    other => {
                        self.hits.fetch_add(1, Ordering::Relaxed);
                        return noted(other);
                    }
                },
                Found::Mine(flight) => {
                    let landing = self.depart(id, flight, expected_len);
                    let mut buffer = self.buffer();
                    let outcome = load(&mut buffer);
                    return landing.land(outcome.map(|()| buffer));
                }
            }
        }
    }

    /// Announces that the caller loads a chunk; `None` if it is in memory or somebody else loads it.
    #[must_use]
    pub fn claim(&self, id: &ChunkId, expected_len: usize) -> Option<Landing<'_>> {
        match self.find(id) {
            Found::Mine(flight) => Some(self.depart(id, flight, expected_len)),
            Found::Ready(_) | Found::Wait(_) => None,
        }
    }

    /// Memory to load into: of unspecified content.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn depart(&self, id: &ChunkId, flight: Arc<Flight>, expected_len: usize) -> Landing<'_> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.used.fetch_add(expected_len, Ordering::Relaxed);
        self.make_room();
        Landing {
            cache: self,
            id: *id,
            flight,
            reserved: expected_len,
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

fn wait_for(id: &ChunkId, flight: &Flight, deadline: Instant) -> Result<Chunk> {
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

/// Notes for this thread what failed for another one.
fn noted(outcome: Result<Chunk>) -> Result<Chunk> {
    if matches!(outcome, Err(Error::Unavailable { .. } | Error::Timeout { .. })) {
        wait::note_failure();
    }
    outcome
}

/// A chunk that is being loaded. It ends whatever happens: a load that panics must not leave others waiting.
pub struct Landing<'a> {
    cache: &'a Cache,
    id: ChunkId,
    flight: Arc<Flight>,
    reserved: usize,
}

impl Landing<'_> {
    /// Ends the load with the plain bytes, or with the reason why there are none, for all who wait.
    ///
    /// # Errors
    /// As the outcome.
    pub fn land(mut self, outcome: Result<Vec<u8>>) -> Result<Chunk> {
        let outcome = outcome.map(|mut buffer| {
            // A buffer used again may be much larger than this chunk (the last of a disk, a page).
            buffer.shrink_to(buffer.len().saturating_mul(2));
            Arc::new(buffer)
        });
        self.settle(outcome.clone());
        outcome
    }

    fn settle(&mut self, outcome: Result<Chunk>) {
        let kept = outcome.as_ref().map_or(0, |chunk| chunk.capacity());
        self.cache.used.fetch_add(kept, Ordering::Relaxed);
        self.cache
            .used
            .fetch_sub(std::mem::take(&mut self.reserved), Ordering::Relaxed);
        let mut shard = self.cache.shard(&self.id).lock();
        if let Ok(chunk) = &outcome {
            shard.ready().push(self.id, Arc::clone(chunk));
        }
        shard.flights.remove(&self.id);
        drop(shard);
        *self.flight.outcome.lock() = Some(outcome);
        self.flight.ended.notify_all();
        self.cache.make_room();
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if self.flight.outcome.lock().is_none() {
            self.settle(Err(Error::Timeout { id: self.id }));
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
