//! An open file inside an image: its reads, watched for streams whose own extents are then read ahead.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Result;
use super::content::{Content, Held};
use crate::bytes::scratch::Scratch;
use crate::bytes::{to_u64, to_usize};
use crate::image::ReadAt;
use crate::image::disk::Slice;
use crate::image::handle::ReadAhead;
use crate::image::stream::Streams;

/// Bytes of the volume that one thread makes ready at a time.
const PIECE_BYTES: u64 = 256 << 10;
/// A file of at most this size is read at once, and says nothing of what is read next; its neighbours on the volume do.
const SMALL_BYTES: u64 = 128 << 10;

/// A volume whose files are read, and what small files have been read of it: who copies a directory reads many that lie side by
/// side.
pub struct Neighbourhood {
    volume: Arc<dyn ReadAt>,
    streams: Mutex<Streams>,
}

impl Neighbourhood {
    /// Starts with nothing read.
    #[must_use]
    pub fn new(volume: Arc<dyn ReadAt>) -> Self {
        Self {
            volume,
            streams: Mutex::new(Streams::default()),
        }
    }

    /// The volume.
    #[must_use]
    pub fn volume(&self) -> &Arc<dyn ReadAt> {
        &self.volume
    }
}

/// One open file. Reads come from any thread.
pub struct FileHandle {
    content: Content,
    neighbourhood: Arc<Neighbourhood>,
    read_ahead: Arc<ReadAhead>,
    streams: Mutex<Streams>,
}

impl FileHandle {
    /// Opens `content`, which lies on the volume of `neighbourhood`.
    #[must_use]
    pub fn new(content: Content, neighbourhood: Arc<Neighbourhood>, read_ahead: Arc<ReadAhead>) -> Self {
        Self {
            content,
            neighbourhood,
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
        if len == 0 {
            return Ok(Slice::Owned(Scratch::take(0)));
        }
        self.note(offset, len);
        if let Some(slice) = self.content.slice(offset, len)? {
            return Ok(slice);
        }
        let mut bytes = Scratch::take(len);
        self.content.read(offset, &mut bytes)?;
        Ok(Slice::Owned(bytes))
    }

    /// Has the bytes that a stream will want next made ready by other threads.
    fn note(&self, offset: u64, len: usize) {
        let max_window = self.read_ahead.max_window();
        // A failure is met again, and reported, by the reader that needs the bytes.
        if self.content.size() <= SMALL_BYTES {
            let places = self.content.places(offset, to_u64(len)).unwrap_or_default();
            if let Some(Held::Volume { at, len }) = places.first() {
                let due = self.neighbourhood.streams.lock().note(*at, *len, max_window);
                let ahead = due.map(|range| Held::Volume {
                    at: range.start,
                    len: range.end.saturating_sub(range.start),
                });
                self.make_ready(ahead);
            }
            return;
        }
        let due = self.streams.lock().note(offset, to_u64(len), max_window);
        if let Some(range) = due.filter(|_| !self.read_ahead.leaves_to_the_kernel(len)) {
            let ahead = range.end.saturating_sub(range.start);
            self.make_ready(self.content.places(range.start, ahead).unwrap_or_default());
        }
    }

    /// Has what holds bytes to come made ready, as far as the threads have time.
    fn make_ready(&self, places: impl IntoIterator<Item = Held>) {
        for place in places {
            let taken = match place {
                Held::Volume { at, len } => self.warm_volume(at, len),
                Held::Piece(piece) => self.read_ahead.offer(piece.len(), move || piece.warm(0, piece.len())),
            };
            if !taken {
                return;
            }
        }
    }

    /// `false` if the threads have enough to do.
    fn warm_volume(&self, mut at: u64, mut len: u64) -> bool {
        while len > 0 {
            let step = len.min(self.read_ahead.step(PIECE_BYTES));
            let neighbourhood = Arc::clone(&self.neighbourhood);
            if !self.read_ahead.offer(step, move || neighbourhood.volume.warm(at, step)) {
                return false;
            }
            at = at.saturating_add(step);
            len = len.saturating_sub(step);
        }
        true
    }
}
