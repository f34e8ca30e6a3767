//! One chunk of a stored file: read in part through the cache, or whole straight into the memory where it is wanted.

use super::disk::Slice;
use super::{Error, ReadAt, Result, check_range};
use crate::bytes::{to_u64, to_usize};
use crate::chunk::run::Wanted;
use crate::chunk::{Reader, cache};
use crate::vault::map::Entry;
use std::fmt;
use std::sync::Arc;

/// Where the pieces of a backup's files come from.
pub struct Source {
    /// The vault's chunks.
    pub reader: Arc<Reader>,
    /// Whose files they are, for messages.
    pub label: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// A chunk that is a run of a file's bytes.
#[derive(Debug)]
pub struct Piece {
    source: Arc<Source>,
    chunk: Entry,
    len: usize,
    /// Where the run begins in the file, for messages.
    start: u64,
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        (&self.chunk, self.len, self.start) == (&other.chunk, other.len, other.start)
    }
}

impl Eq for Piece {}

impl Piece {
    /// The chunk of `len` bytes that lies at byte `start` of its file; reads nothing.
    #[must_use]
    pub fn new(source: &Arc<Source>, chunk: Entry, len: usize, start: u64) -> Self {
        let source = Arc::clone(source);
        Self {
            source,
            chunk,
            len,
            start,
        }
    }

    /// The chunk.
    #[must_use]
    pub fn chunk(&self) -> &Entry {
        &self.chunk
    }

    /// Says whether the chunk is in memory or being loaded.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.source.reader.cache().knows(&self.chunk.id)
    }

    /// Reads `len` bytes at `offset` of the piece through the cache, without a copy.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    pub fn slice(&self, offset: usize, len: usize) -> Result<Slice> {
        check_range(to_u64(offset), len, self.len())?;
        let chunk = self.load()?;
        let end = offset.saturating_add(len);
        self.note_end(end);
        Ok(Slice::Chunk(chunk, offset..end))
    }

    /// Fills `part` from byte `offset` of the piece on, from the cache; gives it back if it is the whole piece and no cache has it,
    /// for [`fetch`].
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    pub fn fill<'a>(&self, offset: usize, part: &'a mut [u8]) -> Result<Option<&'a mut [u8]>> {
        check_range(to_u64(offset), part.len(), self.len())?;
        let cached = self.source.reader.cache().get(&self.chunk.id);
        let chunk = match cached.map_err(|error| self.error(error))? {
            Some(chunk) => chunk,
            None if part.len() == self.len => return Ok(Some(part)),
            None => self.load()?,
        };
        let end = offset.saturating_add(part.len());
        let bytes = chunk.get(offset..end).ok_or_else(|| self.wrong_length())?;
        part.copy_from_slice(bytes);
        self.note_end(end);
        Ok(None)
    }

    fn load(&self) -> Result<cache::Chunk> {
        let chunk = self.source.reader.chunk(&self.chunk, self.len);
        let chunk = chunk.map_err(|error| self.error(error))?;
        // It may be in the cache because of another file that tells its true length.
        if chunk.len() == self.len {
            Ok(chunk)
        } else {
            Err(self.wrong_length())
        }
    }

    /// Who reads to the end of a chunk reads on, and the kernel keeps what it read: this one goes first.
    fn note_end(&self, end: usize) {
        if end == self.len {
            self.source.reader.cache().demote(&self.chunk.id);
        }
    }

    fn wrong_length(&self) -> Error {
        Error::Corrupt {
            what: format!("the length of chunk {} ({})", self.chunk.id, self.source.label),
            at: self.start,
        }
    }

    fn error(&self, error: crate::chunk::Error) -> Error {
        Error::of_chunk(error, &self.source.label, self.start)
    }
}

/// Reads whole pieces of one backup, each into memory of exactly its length, past the cache. Chunks that lie side by side in a pack
/// are read as one.
///
/// # Errors
/// As [`ReadAt::read_at`].
pub fn fetch(pieces: Vec<(Arc<Piece>, &mut [u8])>) -> Result<()> {
    let (pieces, mut wanted): (Vec<_>, Vec<_>) = pieces
        .into_iter()
        .map(|(piece, plain)| {
            let entry = piece.chunk;
            (piece, Wanted { entry, plain })
        })
        .unzip();
    let Some(first) = pieces.first() else {
        return Ok(());
    };
    let fetched = first.source.reader.fetch_many(&mut wanted);
    fetched.map_err(|(at, error)| pieces.get(at).unwrap_or(first).error(error))
}

impl ReadAt for Piece {
    fn len(&self) -> u64 {
        to_u64(self.len)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        let Some(whole) = self.fill(to_usize(offset), buf)? else {
            return Ok(());
        };
        let (entry, plain) = (self.chunk, whole);
        let fetched = self.source.reader.fetch_many(&mut [Wanted { entry, plain }]);
        fetched.map_err(|(_, error)| self.error(error))
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        Ok((offset < self.len()).then_some(offset))
    }

    fn next_hole(&self, _: u64) -> Result<u64> {
        Ok(self.len())
    }

    fn warm(&self, _: u64, _: u64) {
        if !self.is_known() {
            // The read that needs the bytes meets the failure again, and reports it.
            drop(self.load());
        }
    }
}
