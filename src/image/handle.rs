//! An open image: its reads, watched for streams that are then read ahead.

use super::disk::{DiskImage, Slice};
use super::stream::Streams;
use super::{ReadAt, Result};
use crate::bytes::scratch::Scratch;
use crate::bytes::{to_u64, to_usize};
use crate::chunk::prefetch::Pool;
use parking_lot::Mutex;
use std::sync::Arc;

/// A request of this many bytes shows that the kernel's own read-ahead is wide, so that ours would only add a copy.
pub const LARGE_READ: usize = 512 << 10;

/// Threads that read ahead, and how far; one for all open images of a mount.
pub struct ReadAhead {
    pool: Pool,
    max_window: u64,
}

impl ReadAhead {
    /// Starts `threads` threads that together stay within a quarter of a cache of `cache_bytes`.
    ///
    /// # Errors
    /// As the system reports if a thread cannot be started.
    pub fn new(threads: usize, cache_bytes: usize) -> std::io::Result<Self> {
        let max_window = to_u64(cache_bytes / 8).min(8 << 20);
        Ok(Self {
            pool: Pool::new(threads)?,
            max_window,
        })
    }

    /// How far to read ahead of a stream, in bytes.
    #[must_use]
    pub fn max_window(&self) -> u64 {
        self.max_window
    }

    /// Has `job` done by one of the threads; `false` if they have enough to do.
    pub fn offer(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.pool.offer(job)
    }
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
            .note(offset, to_u64(len), self.read_ahead.max_window);
        // Large requests come from a kernel that reads far ahead itself, several at a time; theirs are decoded in place.
        if let Some(range) = due.filter(|_| len < LARGE_READ) {
            let size = u64::from(self.image.layout().chunk_size);
            for number in range.start / size..range.end.div_ceil(size) {
                let image = Arc::clone(&self.image);
                // A failure is met again, and reported, by the reader that needs the bytes.
                let job = move || drop(image.warm_chunk(number));
                if !self.read_ahead.offer(job) {
                    break;
                }
            }
        }
        self.image.read(offset, len)
    }
}
