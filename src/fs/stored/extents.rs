//! Where the bytes of a stored file lie: in its data item, in chunks, or nowhere.

use std::ops::Range;
use std::sync::Arc;

use super::Stored;
use crate::bytes::{to_u64, to_usize};
use crate::fs::{Extent, Inode, MAX_EXTENTS, Place, Result};
use crate::image::piece::{Piece, Source};
use crate::vault::item::{ChunkRef, Key, Kind, MAX_INLINE, chunk_key, first_key};
use crate::vault::map::Entry;

impl Stored {
    /// The extents of a regular file of `size` bytes.
    pub(super) fn extents_of(&self, inode: Inode, size: u64, range: Range<u64>) -> Result<Vec<Extent>> {
        let stop = range.end.min(size);
        if range.start >= stop {
            return Ok(Vec::new());
        }
        if size <= to_u64(MAX_INLINE)
            && let Some(item) = self.get(inode, &first_key(inode.0, Kind::Data))?
        {
            let data = item.value();
            if to_u64(data.len()) != size {
                return Err(self.corrupt(inode, "the length of its data"));
            }
            let (start, len, place) = (0, size, Place::Inline(data.into()));
            return Ok(vec![Extent { start, len, place }]);
        }
        let mut found = Found {
            source: &self.source,
            extents: Vec::new(),
            at: 0,
            range: range.start..stop,
            size,
            broken: None,
        };
        let from = self.first_of(inode, range.start)?;
        self.of_kind(inode, Kind::Chunk, &from, &mut |_, key, value| {
            found.take(key, value).unwrap_or_else(|| {
                found.broken.get_or_insert("where its chunks lie");
                false
            })
        })?;
        let Found {
            mut extents,
            at,
            range,
            broken,
            ..
        } = found;
        if let Some(what) = broken {
            return Err(self.corrupt(inode, what));
        }
        if at < range.end && extents.len() < MAX_EXTENTS {
            let (start, len, place) = (at, size.saturating_sub(at), Place::Zeros);
            extents.push(Extent { start, len, place });
        }
        Ok(extents)
    }

    /// Key of the chunk at `offset`, or of the last one before: where the hole begins that `offset` may lie in.
    fn first_of(&self, inode: Inode, offset: u64) -> Result<Vec<u8>> {
        let at = chunk_key(inode.0, offset);
        if offset == 0 {
            return Ok(at);
        }
        let floor = self.items.floor(&at).map_err(|error| self.lost(inode, error))?;
        let is_chunk =
            |key: &&[u8]| Key::decode(key).is_some_and(|key| (key.inode, key.kind) == (inode.0, Kind::Chunk));
        let floor = floor.as_ref().map(|item| item.key()).filter(is_chunk);
        Ok(floor.map_or_else(|| chunk_key(inode.0, 0), <[u8]>::to_vec))
    }
}

/// Extents in the making.
struct Found<'a> {
    source: &'a Arc<Source>,
    extents: Vec<Extent>,
    /// Where the last chunk ended.
    at: u64,
    range: Range<u64>,
    size: u64,
    broken: Option<&'static str>,
}

impl Found<'_> {
    /// Takes the next chunk; `None` if it does not fit, else whether more are wanted.
    fn take(&mut self, key: &Key<'_>, value: &[u8]) -> Option<bool> {
        let start = key.offset()?;
        let chunk = ChunkRef::decode(value)?;
        let end = start.checked_add(chunk.len_bytes()).filter(|end| *end <= self.size)?;
        let hole = start.checked_sub(self.at)?;
        if hole > 0 && start > self.range.start {
            self.push(self.at, hole, Place::Zeros);
        }
        self.at = start;
        if !self.wants_more() {
            return Some(false);
        }
        if end > self.range.start {
            let entry = Entry {
                id: chunk.id,
                pack: chunk.pack,
            };
            let piece = Piece::new(self.source, entry, to_usize(chunk.len_bytes()), start);
            self.push(start, chunk.len_bytes(), Place::Piece(Arc::new(piece)));
        }
        self.at = end;
        Some(self.wants_more())
    }

    fn push(&mut self, start: u64, len: u64, place: Place) {
        self.extents.push(Extent { start, len, place });
    }

    fn wants_more(&self) -> bool {
        self.at < self.range.end && self.extents.len() < MAX_EXTENTS
    }
}
