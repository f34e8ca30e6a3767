//! The bytes of a file on a volume, as a [`ReadAt`]: its extents put together, holes as zeros.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Error, Extent, FileSystem, Inode, Place, Result};
use crate::bytes::{to_u64, to_usize};
use crate::image::disk::Slice;
use crate::image::piece::{self, Piece};
use crate::image::{self, ReadAt, check_range};

/// A regular file, open for reading; its size is the one it has on the volume.
pub struct Content {
    file_system: Arc<dyn FileSystem>,
    volume: Arc<dyn ReadAt>,
    inode: Inode,
    size: u64,
    /// The last answer to [`FileSystem::extents`]: in order, without gaps. Small files are asked about once.
    known: Mutex<Arc<[Extent]>>,
}

/// What holds a part of a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// This range of the volume.
    Volume {
        /// First byte.
        at: u64,
        /// Length in bytes.
        len: u64,
    },
    /// This chunk of the vault.
    Piece(Arc<Piece>),
}

/// How far extents are asked for beyond the bytes that are read, so that a stream asks rarely.
const ASK_BYTES: u64 = 64 << 20;

/// Most answers of [`FileSystem::extents`] that one search for data or a hole takes: a made-up map goes on for 2^30 of them, and a
/// true file with so many pieces in a row is rare.
const MAX_ANSWERS: usize = 256;

/// How a search for data or a hole ended.
enum Found {
    At(u64),
    /// Neither there nor missing up to this byte, after [`MAX_ANSWERS`].
    NotUpTo(u64),
    Nowhere,
}

impl Content {
    /// Opens a regular file; `volume` is what `file_system` lies on.
    ///
    /// # Errors
    /// As [`FileSystem::attr`]; `WrongType` if it is no regular file.
    pub fn open(file_system: Arc<dyn FileSystem>, volume: Arc<dyn ReadAt>, inode: Inode) -> Result<Self> {
        let attr = file_system.attr(inode)?;
        if attr.file_type != super::FileType::File {
            let wanted = super::FileType::File;
            return Err(Error::WrongType { inode, wanted });
        }
        Ok(Self {
            file_system,
            volume,
            inode,
            size: attr.size,
            known: Mutex::new(Arc::new([])),
        })
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// As [`FileSystem::extents`] and [`ReadAt::read_at`]; the content of `buf` is then unspecified.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.size)?;
        let (mut at, mut rest) = (offset, buf);
        let mut whole = Vec::new();
        while !rest.is_empty() {
            let known = self.known(at, ASK_BYTES)?;
            let first = known.partition_point(|extent| end(extent) <= at);
            for extent in known.iter().skip(first) {
                let len = to_usize(end(extent).saturating_sub(at)).min(rest.len());
                let (part, tail) = std::mem::take(&mut rest).split_at_mut(len);
                match &extent.place {
                    Place::Piece(piece) => {
                        let part = piece.fill(to_usize(at.saturating_sub(extent.start)), part)?;
                        whole.extend(part.map(|part| (Arc::clone(piece), part)));
                    }
                    _ => self.read_extent(extent, at, part)?,
                }
                at = at.saturating_add(to_u64(len));
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
        }
        Ok(piece::fetch(whole)?)
    }

    /// Reads `len` bytes at `offset` without a copy, if they lie in one piece that is read in part or that is in memory.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn slice(&self, offset: u64, len: usize) -> Result<Option<Slice>> {
        check_range(offset, len, self.size)?;
        let known = self.known(offset, ASK_BYTES)?;
        let first = known.partition_point(|extent| end(extent) <= offset);
        let Some(Extent { start, len: has, place }) = known.get(first) else {
            return Ok(None);
        };
        let Place::Piece(piece) = place else { return Ok(None) };
        let into = offset.saturating_sub(*start);
        let fits = into.saturating_add(to_u64(len)) <= *has;
        if !fits || to_u64(len) == *has && !piece.is_known() {
            return Ok(None);
        }
        Ok(Some(piece.slice(to_usize(into), len)?))
    }

    /// What holds the file's bytes `offset..+len`; for reading ahead.
    ///
    /// # Errors
    /// As [`FileSystem::extents`].
    pub fn places(&self, offset: u64, len: u64) -> Result<Vec<Held>> {
        let stop = offset.saturating_add(len).min(self.size);
        let mut places = Vec::new();
        let mut at = offset;
        while at < stop {
            let known = self.known(at, ASK_BYTES)?;
            let first = known.partition_point(|extent| end(extent) <= at);
            for extent in known.iter().skip(first).take_while(|extent| extent.start < stop) {
                let part = end(extent).min(stop).saturating_sub(at);
                match &extent.place {
                    Place::Volume(start) => places.push(Held::Volume {
                        at: start.saturating_add(at.saturating_sub(extent.start)),
                        len: part,
                    }),
                    Place::Piece(piece) => places.push(Held::Piece(Arc::clone(piece))),
                    Place::Zeros | Place::Inline(_) => {}
                }
                at = at.saturating_add(part);
            }
        }
        Ok(places)
    }

    /// Extents of which one holds the byte `at`, which lies inside the file; asks for `ahead` bytes from there if it must ask.
    fn known(&self, at: u64, ahead: u64) -> Result<Arc<[Extent]>> {
        let known = Arc::clone(&self.known.lock());
        if known.first().is_some_and(|first| first.start <= at) && known.last().is_some_and(|last| at < end(last)) {
            return Ok(known);
        }
        let stop = at.saturating_add(ahead).min(self.size);
        let asked: Arc<[Extent]> = self.file_system.extents(self.inode, at..stop)?.into();
        self.check(&asked, at)?;
        *self.known.lock() = Arc::clone(&asked);
        Ok(asked)
    }

    /// Holds a reader to its contract, so that a fault there is an error and never a hang or wrong bytes.
    fn check(&self, extents: &[Extent], at: u64) -> Result<()> {
        let holds_first = extents
            .first()
            .is_some_and(|first| first.start <= at && at < end(first));
        let joined = extents.windows(2).all(|pair| match pair {
            [a, b] => end(a) == b.start,
            _ => true,
        });
        let exact = extents.iter().all(|extent| {
            let fits = match &extent.place {
                Place::Inline(bytes) => to_u64(bytes.len()) == extent.len,
                Place::Piece(piece) => piece.len() == extent.len,
                Place::Volume(_) | Place::Zeros => true,
            };
            extent.len > 0 && end(extent) <= self.size && fits
        });
        if holds_first && joined && exact {
            return Ok(());
        }
        Err(Error::Corrupt {
            what: format!("the block map of inode {} (it overlaps or has gaps)", self.inode.0),
            at: 0,
        })
    }

    fn read_extent(&self, extent: &Extent, at: u64, part: &mut [u8]) -> Result<()> {
        let into = at.saturating_sub(extent.start);
        match &extent.place {
            Place::Volume(start) => Ok(self.volume.read_at(start.saturating_add(into), part)?),
            Place::Piece(piece) => Ok(piece.read_at(into, part)?),
            Place::Zeros => {
                part.fill(0);
                Ok(())
            }
            Place::Inline(bytes) => {
                let from = to_usize(into);
                let bytes = bytes.get(from..from.saturating_add(part.len()));
                part.copy_from_slice(bytes.ok_or_else(|| Error::Corrupt {
                    what: format!("the inline data of inode {}", self.inode.0),
                    at: 0,
                })?);
                Ok(())
            }
        }
    }

    /// First byte at or after `offset` for which `wanted` holds.
    fn seek(&self, offset: u64, wanted: impl Fn(&Place) -> bool) -> Result<Found> {
        let mut at = offset;
        for _ in 0..MAX_ANSWERS {
            if at >= self.size {
                return Ok(Found::Nowhere);
            }
            let known = self.known(at, u64::MAX)?;
            let first = known.partition_point(|extent| end(extent) <= at);
            for extent in known.iter().skip(first) {
                if wanted(&extent.place) {
                    return Ok(Found::At(at.max(extent.start)));
                }
                at = end(extent);
            }
        }
        Ok(if at < self.size {
            Found::NotUpTo(at)
        } else {
            Found::Nowhere
        })
    }

    /// As [`ReadAt::next_data`]. After very many pieces of hole the next byte counts as data.
    ///
    /// # Errors
    /// As [`FileSystem::extents`].
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        Ok(match self.seek(offset, |place| *place != Place::Zeros)? {
            Found::At(at) | Found::NotUpTo(at) => Some(at),
            Found::Nowhere => None,
        })
    }

    /// As [`ReadAt::next_hole`]. After very many pieces of data the rest of the file counts as data.
    ///
    /// # Errors
    /// As [`FileSystem::extents`].
    pub fn next_hole(&self, offset: u64) -> Result<u64> {
        Ok(match self.seek(offset, |place| *place == Place::Zeros)? {
            Found::At(at) => at,
            Found::NotUpTo(_) | Found::Nowhere => self.size,
        })
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

fn end(extent: &Extent) -> u64 {
    extent.start.saturating_add(extent.len)
}

impl From<Error> for image::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Image(error) => error,
            Error::Corrupt { what, at } => Self::Corrupt { what, at },
            Error::Stored { what, source } => Self::of_chunk(source, &what, 0),
            other => Self::Unsupported {
                feature: other.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MAX_EXTENTS;
    use crate::fs::memory::Memory;

    /// A file of more pieces of one byte than a search looks at, all of them `place`; then two more of the other kind.
    fn pieces(place: &Place) -> (Content, u64) {
        let mut memory = Memory::new();
        let inode = memory.file(memory.root(), b"pieces", b"");
        let count = to_u64((MAX_ANSWERS + 1) * MAX_EXTENTS);
        for at in 0..count {
            memory.extent(inode, at, 1, place.clone());
        }
        let other = if *place == Place::Zeros {
            Place::Volume(0)
        } else {
            Place::Zeros
        };
        memory.extent(inode, count, 2, other);
        let volume: Arc<dyn ReadAt> = Arc::new(crate::volume::mapped::Mapped::default());
        (Content::open(Arc::new(memory), volume, inode).unwrap(), count)
    }

    #[test]
    fn a_search_ends_after_so_many_answers_and_calls_the_rest_data() {
        let reached = to_u64(MAX_ANSWERS * MAX_EXTENTS);
        let (holes, count) = pieces(&Place::Zeros);
        assert_eq!(holes.next_data(0).unwrap(), Some(reached));
        assert_eq!(holes.next_data(reached).unwrap(), Some(count));
        let (data, count) = pieces(&Place::Volume(0));
        assert_eq!(data.next_hole(0).unwrap(), data.size());
        assert_eq!(data.next_hole(reached).unwrap(), count);
    }
}
