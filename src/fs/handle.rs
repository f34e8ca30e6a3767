//! An open file inside an image: its reads, watched for streams whose own extents are then read ahead.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Result;
use super::content::Content;
use crate::bytes::scratch::Scratch;
use crate::bytes::{to_u64, to_usize};
use crate::image::ReadAt;
use crate::image::disk::Slice;
use crate::image::handle::{LARGE_READ, ReadAhead};
use crate::image::stream::Streams;

/// Bytes of the volume that one thread makes ready at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// One open file. Reads come from any thread.
pub struct FileHandle {
    content: Content,
    volume: Arc<dyn ReadAt>,
    read_ahead: Arc<ReadAhead>,
    streams: Mutex<Streams>,
}

impl FileHandle {
    /// Opens `content`, which lies on `volume`.
    #[must_use]
    pub fn new(content: Content, volume: Arc<dyn ReadAt>, read_ahead: Arc<ReadAhead>) -> Self {
        Self {
            content,
            volume,
            read_ahead,
            streams: Mutex::new(Streams::default()),
        }
    }

    /// The file.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Reads up to `len` bytes at `offset`; less only where the file ends.
    ///
    /// # Errors
    /// As [`Content::read`]; never partial data.
    pub fn read(&self, offset: u64, len: usize) -> Result<Slice> {
        let rest = self.content.size().saturating_sub(offset);
        let len = len.min(to_usize(rest));
        let mut bytes = Scratch::take(len);
        if len == 0 {
            return Ok(Slice::Owned(bytes));
        }
        self.note(offset, len);
        self.content.read(offset, &mut bytes)?;
        Ok(Slice::Owned(bytes))
    }

    /// Has the bytes that a stream will want next made ready by other threads.
    fn note(&self, offset: u64, len: usize) {
        let due = self
            .streams
            .lock()
            .note(offset, to_u64(len), self.read_ahead.max_window());
        // Large requests come from a kernel that reads far ahead itself, as in `image::handle`.
        let Some(range) = due.filter(|_| len < LARGE_READ) else {
            return;
        };
        let ahead = range.end.saturating_sub(range.start);
        // A failure is met again, and reported, by the reader that needs the bytes.
        for (mut at, mut len) in self.content.places(range.start, ahead).unwrap_or_default() {
            while len > 0 {
                let step = len.min(PIECE_BYTES);
                let volume = Arc::clone(&self.volume);
                if !self.read_ahead.offer(move || volume.warm(at, step)) {
                    return;
                }
                at = at.saturating_add(step);
                len = len.saturating_sub(step);
            }
        }
    }
}
