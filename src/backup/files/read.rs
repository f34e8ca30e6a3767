//! The content of a regular file: its runs of data, cut, hashed, looked up, compressed and stored.
//!
//! A large file is cut by one thread; others that have nothing better to do hash and compress its chunks.

use super::cutter::{MAX, first_chunk};
use super::problems::reason;
use super::walk::Worker;
use crate::backup::{Error, Result};
use crate::bytes::{to_u64, to_usize};
use crate::checksum::{Digest, Hasher};
use crate::source::directory::attributes::Attributes;
use crate::source::directory::file::File;
use crate::vault::ChunkId;
use crate::vault::item::{self, ChunkRef, Kind, MAX_INLINE};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of a file read at a time.
pub(super) const WINDOW: usize = 4 * MAX;
/// A file from this size on gives its chunks to other threads, too.
const SHARED_FROM: u64 = 4 << 20;
/// A file this small is seen to have no holes by its number of blocks alone.
const ONE_PAGE: u64 = 4096;

/// Which file a chunk belongs to, and which visit of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) visit: u64,
}

/// A chunk to be stored by whoever has time.
#[derive(Debug)]
pub(super) struct Job {
    place: Place,
    offset: u64,
    plain: Vec<u8>,
    pending: Arc<Pending>,
}

/// Chunks of a file that others work on.
#[derive(Debug, Default)]
struct Pending {
    count: Mutex<usize>,
    changed: Condvar,
}

/// What was read of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    /// Of all bytes that are not holes.
    pub(super) digest: Digest,
    /// Its size; smaller than it was said to be if it was cut off while it was read.
    pub(super) size: u64,
}

/// Why a file was not read to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The source failed: this file is not in the backup.
    Source(io::Error),
    /// The backup fails.
    Fatal(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl Failure {
    /// Turns a failure of the source into words.
    pub(super) fn into_reason(self) -> Result<String> {
        match self {
            Self::Source(error) => Ok(reason("reading it", &error)),
            Self::Fatal(error) => Err(error),
        }
    }
}

impl Worker<'_> {
    /// Stores the content of a file of these attributes.
    pub(super) fn content(&mut self, file: &File, found: &Attributes, place: Place) -> Result<Content, Failure> {
        let size = found.size_bytes;
        let dense = size <= ONE_PAGE && found.blocks.saturating_mul(512) >= size;
        let first = if dense {
            Some(0..size).filter(|run| !run.is_empty())
        } else {
            file.next_data(0, size)?
        };
        let Some(first) = first else {
            let digest = Digest::of(&[]);
            return Ok(Content { digest, size });
        };
        if first == (0..size) && size <= to_u64(MAX) {
            self.small(file, size, place)
        } else {
            self.large(file, size, first, place)
        }
    }

    /// A file without holes that fits into the buffer.
    fn small(&mut self, file: &File, size: u64, place: Place) -> Result<Content, Failure> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let stored = self.small_in(&mut buffer, file, size, place);
        self.buffer = buffer;
        stored
    }

    fn small_in(&mut self, buffer: &mut Vec<u8>, file: &File, size: u64, place: Place) -> Result<Content, Failure> {
        let wanted = to_usize(size);
        if buffer.len() < wanted {
            buffer.resize(wanted.next_power_of_two(), 0);
        }
        let window = buffer.get_mut(..wanted).unwrap_or_default();
        let read = file.read_at(0, window)?;
        let plain = window.get(..read).unwrap_or_default();
        self.shared.advance(read);
        let size = to_u64(read);
        if read == 0 {
            return Ok(Content {
                digest: Digest::of(&[]),
                size,
            });
        }
        if read <= MAX_INLINE {
            self.push(&item::first_key(place.number, Kind::Data), place.visit, plain)?;
            return Ok(Content {
                digest: Digest::of(plain),
                size,
            });
        }
        let cut = first_chunk(plain);
        if cut == read {
            let id = ChunkId::of(plain);
            self.chunk(place, 0, id, plain)?;
            return Ok(Content {
                digest: Digest(id.0),
                size,
            });
        }
        let digest = Digest::of(plain);
        let (mut rest, mut offset) = (plain, 0);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at_checked(first_chunk(rest)).unwrap_or((rest, &[]));
            self.chunk(place, offset, ChunkId::of(chunk), chunk)?;
            offset = offset.saturating_add(to_u64(chunk.len()));
            rest = after;
        }
        Ok(Content { digest, size })
    }

    /// A file of any size, run by run.
    fn large(&mut self, file: &File, size: u64, first: Range<u64>, place: Place) -> Result<Content, Failure> {
        file.will_read(size);
        let mut reading = Reading {
            file,
            place,
            hasher: Hasher::default(),
            pending: (size >= SHARED_FROM).then(Arc::default),
            window: Window::new(std::mem::take(&mut self.buffer)),
        };
        let read = self.runs(&mut reading, size, first);
        self.buffer = reading.window.bytes;
        // Also after a failure: the jobs push items, and must have ended before the threads give their items away.
        if let Some(pending) = &reading.pending {
            self.wait_for(pending)?;
        }
        Ok(Content {
            size: read?,
            digest: reading.hasher.digest(),
        })
    }

    /// Reads all runs of data; returns the size of the file.
    fn runs(&mut self, reading: &mut Reading<'_>, size: u64, first: Range<u64>) -> Result<u64, Failure> {
        let mut run = first;
        loop {
            let end = self.run(reading, &run)?;
            if end < run.end {
                return Ok(end);
            }
            match reading.file.next_data(run.end, size)? {
                Some(next) => run = next,
                None => return Ok(size),
            }
        }
    }

    /// Reads one run of data; returns where it ended, which is earlier if the file was cut off.
    fn run(&mut self, reading: &mut Reading<'_>, run: &Range<u64>) -> Result<u64, Failure> {
        let (mut at, mut end) = (run.start, run.end);
        reading.window.clear();
        while at < end {
            let have = reading.window.len();
            let unread = end.saturating_sub(at).saturating_sub(to_u64(have));
            if have < MAX && unread > 0 {
                self.check_stop()?;
                let room = reading.window.room(unread);
                let read = reading.file.read_at(at.saturating_add(to_u64(have)), room)?;
                if read < room.len() {
                    end = at.saturating_add(to_u64(have)).saturating_add(to_u64(read));
                }
                reading.hasher.update(room.get(..read).unwrap_or_default());
                reading.window.filled = reading.window.filled.saturating_add(read);
                self.shared.advance(read);
                continue;
            }
            let chunk = reading.window.first(first_chunk(reading.window.rest()));
            self.hand_over(reading, at, chunk)?;
            let len = chunk.len();
            reading.window.start = reading.window.start.saturating_add(len);
            at = at.saturating_add(to_u64(len));
        }
        Ok(end)
    }

    /// Leaves a chunk of a large file to others, unless they have enough to do.
    fn hand_over(&mut self, reading: &Reading<'_>, offset: u64, chunk: &[u8]) -> Result<()> {
        if let Some(pending) = &reading.pending {
            let job = Job {
                place: reading.place,
                offset,
                plain: chunk.to_vec(),
                pending: Arc::clone(pending),
            };
            pending.more();
            return match self.shared.queue.add_urgent(job) {
                Ok(()) => Ok(()),
                Err(job) => self.job(&job),
            };
        }
        self.chunk(reading.place, offset, ChunkId::of(chunk), chunk)
    }

    /// Stores a chunk of a large file for whoever cut it.
    pub(super) fn job(&mut self, job: &Job) -> Result<()> {
        let stored = self.chunk(job.place, job.offset, ChunkId::of(&job.plain), &job.plain);
        // Also after a failure: then whoever waits sees that the backup has failed.
        job.pending.done();
        stored
    }

    /// Works until all chunks of a file are stored.
    fn wait_for(&mut self, pending: &Pending) -> Result<()> {
        loop {
            while let Some(job) = self.shared.queue.take_urgent() {
                self.job(&job)?;
            }
            if pending.wait() {
                return Ok(());
            }
            self.check_stop()?;
        }
    }

    /// Stores a chunk, unless the vault has it, and adds its item.
    fn chunk(&mut self, place: Place, offset: u64, id: ChunkId, plain: &[u8]) -> Result<()> {
        let context = self.shared.context;
        let (pack, added) = context.store_chunk(id, plain, &mut self.scratch)?;
        if added > 0 {
            self.shared.new.fetch_add(to_u64(plain.len()), Ordering::Relaxed);
            self.shared.stored.fetch_add(added, Ordering::Relaxed);
        }
        let len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        let value = ChunkRef { id, pack, len }.encode();
        self.push(&item::chunk_key(place.number, offset), place.visit, &value)
    }
}

/// A large file being read.
struct Reading<'f> {
    file: &'f File,
    place: Place,
    hasher: Hasher,
    /// Its chunks that others work on, if it is large enough for that.
    pending: Option<Arc<Pending>>,
    window: Window,
}

/// Bytes that were read and not cut yet.
#[derive(Debug)]
struct Window {
    bytes: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Window {
    fn new(mut bytes: Vec<u8>) -> Self {
        bytes.resize(bytes.len().max(WINDOW), 0);
        Self {
            bytes,
            start: 0,
            filled: 0,
        }
    }

    fn clear(&mut self) {
        (self.start, self.filled) = (0, 0);
    }

    fn len(&self) -> usize {
        self.filled.saturating_sub(self.start)
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.filled).unwrap_or_default()
    }

    fn first(&self, len: usize) -> &[u8] {
        self.rest().get(..len).unwrap_or_default()
    }

    /// Makes room for `unread` more bytes, or as many as there is room for.
    fn room(&mut self, unread: u64) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.filled, 0);
        (self.start, self.filled) = (0, self.len());
        let room = to_usize(unread).min(self.bytes.len().saturating_sub(self.filled));
        self.bytes
            .get_mut(self.filled..self.filled.saturating_add(room))
            .unwrap_or_default()
    }
}

impl Pending {
    fn more(&self) {
        let mut count = self.count.lock();
        *count = count.saturating_add(1);
    }

    fn done(&self) {
        let mut count = self.count.lock();
        *count = count.saturating_sub(1);
        drop(count);
        self.changed.notify_all();
    }

    /// Waits a moment; says whether nothing is left.
    fn wait(&self) -> bool {
        let mut count = self.count.lock();
        if *count > 0 {
            self.changed.wait_for(&mut count, Duration::from_millis(20));
        }
        *count == 0
    }
}
