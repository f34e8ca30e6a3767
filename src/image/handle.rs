//! An open image: its reads, watched for streams that are then read ahead.

use super::disk::{DiskImage, Slice};
use super::stream::Streams;
use super::{ReadAt, Result};
use crate::bytes::scratch::Scratch;
use crate::bytes::{to_u64, to_usize};
use crate::chunk::Reader;
use crate::chunk::prefetch::Pool;
use crate::vault::access::Local;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A request of this many bytes shows that the kernel's own read-ahead is wide, so that ours would only add a copy.
pub const LARGE_READ: usize = 512 << 10;

/// Threads that read ahead over a network: most of them wait.
const REMOTE_THREADS: usize = 16;
/// How far a stream is read ahead at most, where the way to the bytes is short.
const NEAR_WINDOW: u64 = 8 << 20;
/// Bytes that come while one waits for an answer, for each microsecond of it: about 500 MB/s, more than most ways carry.
const BYTES_FOR_MICROSECOND: u64 = 512;
/// What one thread reads ahead at a time over a network, with one request if it lies side by side: what a request costs the server
/// is little beside that, and a reader that comes too early does not wait for much more than it wants.
const REMOTE_STEP: u64 = 2 << 20;

/// Threads that read ahead, and how far; one for all open images of a mount.
pub struct ReadAhead {
    pool: Pool,
    /// Most bytes that wait or are under way, for all streams together.
    budget: u64,
    under_way: Arc<AtomicU64>,
    /// Whose round trips widen the windows; `None` for a vault that is near.
    far: Option<Arc<Local>>,
}

/// Takes bytes off what is under way when a job is done, dropped or panics.
struct UnderWay {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl ReadAhead {
    /// Starts threads that together stay within a quarter of the reader's cache: one for each core, or more where they wait for a
    /// network.
    ///
    /// # Errors
    /// As the system reports if a thread cannot be started.
    pub fn of(reader: &Reader) -> std::io::Result<Self> {
        let far = reader.vault().local().filter(|_| reader.is_remote());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            pool: Pool::new(if reader.is_remote() { REMOTE_THREADS } else { cores })?,
            budget: to_u64(reader.cache().limit() / 4),
            under_way: Arc::default(),
            far: far.map(Arc::clone),
        })
    }

    /// How far to read ahead of a stream, in bytes.
    #[must_use]
    pub fn max_window(&self) -> u64 {
        let round_trip = self.far.as_ref().map(|far| far.traffic.round_trip());
        window(self.budget, round_trip.unwrap_or_default())
    }

    /// Says whether the kernel's own read-ahead, as a read of `len` bytes shows it, is all that is needed: ours would only add a copy.
    #[must_use]
    pub fn leaves_to_the_kernel(&self, len: usize) -> bool {
        len >= LARGE_READ && self.far.is_none()
    }

    /// How many bytes make one job: `near` where each chunk is fetched by itself.
    #[must_use]
    pub fn step(&self, near: u64) -> u64 {
        if self.far.is_some() { REMOTE_STEP } else { near }
    }

    /// Has `job`, which reads about `bytes`, done by one of the threads; `false` if they have enough to do.
    pub fn offer(&self, bytes: u64, job: impl FnOnce() + Send + 'static) -> bool {
        let under_way = UnderWay {
            bytes,
            of: Arc::clone(&self.under_way),
        };
        let before = self.under_way.fetch_add(bytes, Ordering::Relaxed);
        before < self.budget
            && self.pool.offer(move || {
                let _until_done = under_way;
                job();
            })
    }
}

/// The farther the bytes, the more of them are asked for before they are needed; one stream gets at most half of the budget.
fn window(budget: u64, round_trip: Duration) -> u64 {
    let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    micros
        .saturating_mul(BYTES_FOR_MICROSECOND)
        .max(NEAR_WINDOW)
        .min(budget / 2)
}

/// One open image. Reads come from any thread.
pub struct Handle {
    image: Arc<DiskImage>,
    read_ahead: Arc<ReadAhead>,
    streams: Mutex<Streams>,
}

impl Handle {
    /// Opens `image`.
    #[must_use]
    pub fn new(image: Arc<DiskImage>, read_ahead: Arc<ReadAhead>) -> Self {
        Self {
            image,
            read_ahead,
            streams: Mutex::new(Streams::default()),
        }
    }

    /// The image.
    #[must_use]
    pub fn image(&self) -> &Arc<DiskImage> {
        &self.image
    }

    /// Reads up to `len` bytes at `offset`; less only where the image ends.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`]; never partial data.
    pub fn read(&self, offset: u64, len: usize) -> Result<Slice> {
        let rest = self.image.len().saturating_sub(offset);
        let len = len.min(to_usize(rest));
        if len == 0 {
            return Ok(Slice::Owned(Scratch::take(0)));
        }
        let due = self
            .streams
            .lock()
            .note(offset, to_u64(len), self.read_ahead.max_window());
        if let Some(range) = due.filter(|_| !self.read_ahead.leaves_to_the_kernel(len)) {
            self.warm(range);
        }
        self.image.read(offset, len)
    }

    /// Has bytes read by other threads, in whole chunks.
    fn warm(&self, range: Range<u64>) {
        let chunk_size = u64::from(self.image.layout().chunk_size);
        let step = self.read_ahead.step(chunk_size).max(chunk_size);
        let mut at = range.start.saturating_sub(range.start % chunk_size);
        while at < range.end {
            let image = Arc::clone(&self.image);
            let len = step.min(range.end.saturating_sub(at));
            // A failure is met again, and reported, by the reader that needs the bytes.
            if !self.read_ahead.offer(len, move || image.warm(at, len)) {
                break;
            }
            at = at.saturating_add(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_the_round_trip_within_the_budget() {
        let millis = |millis| window(64 << 20, Duration::from_millis(millis));
        assert_eq!(millis(0), 8 << 20);
        assert_eq!(millis(30), 15_360_000);
        assert_eq!(millis(1000), 32 << 20);
        assert_eq!(window(2 << 20, Duration::ZERO), 1 << 20);
    }
}
