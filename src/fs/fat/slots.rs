//! The 32-byte slots of a directory in order, wherever its clusters lie. Shared by FAT and exFAT.

use super::super::{Extent, Place, Result};
use super::chain::Clusters;
use super::corrupt;
use crate::bytes::{field, to_u64, to_usize};

/// Bytes of a slot.
pub(crate) const SLOT: u64 = 32;

/// Where a directory's slots lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    /// From this byte of the volume on.
    Fixed(u64),
    /// In the chain that begins at this cluster.
    Chain(u32),
}

/// How long a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Exactly so many slots, if its area does not end before.
    Exactly(u64),
    /// As long as its area, which the format forbids to hold more than so many slots.
    AtMost(u64),
}

impl Length {
    fn slots(self) -> u64 {
        match self {
            Self::Exactly(slots) | Self::AtMost(slots) => slots,
        }
    }
}

/// A slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// Its number in the directory.
    pub(crate) number: u64,
    /// Byte of the volume where it lies.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) bytes: [u8; 32],
}

/// Slots of a directory, read in pieces that double from 4 KiB to 64 KiB.
pub(crate) struct Slots<'a> {
    clusters: &'a Clusters,
    area: Area,
    length: Length,
    /// Number of the slot that comes next.
    next: u64,
    /// The last run of bytes that was asked for.
    extent: Option<Extent>,
    piece: Vec<u8>,
    /// Byte of the directory and byte of the volume at which `piece` begins.
    piece_at: (u64, u64),
}

const FIRST_PIECE: u64 = 4 << 10;
const LONGEST_PIECE: u64 = 64 << 10;

impl<'a> Slots<'a> {
    /// The slots from number `from` on.
    pub(crate) fn new(clusters: &'a Clusters, area: Area, length: Length, from: u64) -> Self {
        Self {
            clusters,
            area,
            length,
            next: from,
            extent: None,
            piece: Vec::new(),
            piece_at: (0, 0),
        }
    }

    /// The next slot; `None` at the end of the directory's space.
    ///
    /// # Errors
    /// `Corrupt` if the directory's chain is broken there or is longer than the format allows.
    pub(crate) fn next(&mut self) -> Result<Option<Slot>> {
        let at = self.next.saturating_mul(SLOT);
        if !self.holds(at) && !self.load(at)? {
            return Ok(None);
        }
        let (start, offset) = self.piece_at;
        let into = at.saturating_sub(start);
        let Some(bytes) = field(&self.piece, to_usize(into)) else {
            return Ok(None);
        };
        let slot = Slot {
            number: self.next,
            offset: offset.saturating_add(into),
            bytes,
        };
        self.next = self.next.saturating_add(1);
        Ok(Some(slot))
    }

    /// Goes on with slot `number`.
    pub(crate) fn seek(&mut self, number: u64) {
        self.next = number;
    }

    fn holds(&self, at: u64) -> bool {
        let end = self.piece_at.0.saturating_add(to_u64(self.piece.len()));
        self.piece_at.0 <= at && at < end
    }

    /// Reads the piece with byte `at` of the directory; `false` if there is no such byte.
    fn load(&mut self, at: u64) -> Result<bool> {
        if self.next >= self.length.slots() {
            return self.end(at);
        }
        let Some((offset, rest)) = self.place(at)? else {
            return match self.length {
                Length::AtMost(_) => Ok(false),
                Length::Exactly(_) => Err(corrupt(
                    "a directory (its cluster chain ends too early)",
                    self.piece_at.1,
                )),
            };
        };
        let len = to_u64(self.piece.len()).saturating_mul(2);
        let len = len.clamp(FIRST_PIECE, LONGEST_PIECE).min(rest);
        self.piece.clear();
        self.piece.resize(to_usize(len), 0);
        self.piece_at = (at, offset);
        if let Err(error) = self.clusters.volume.read_at(offset, &mut self.piece) {
            self.piece.clear();
            return Err(error.into());
        }
        Ok(true)
    }

    /// What comes after the last slot that may be there.
    fn end(&mut self, at: u64) -> Result<bool> {
        if let (Length::AtMost(slots), Area::Chain(_)) = (self.length, self.area)
            && self.next == slots
            && let Some((offset, _)) = self.place(at)?
        {
            return Err(corrupt("a directory (it is longer than the format allows)", offset));
        }
        Ok(false)
    }

    /// Byte of the volume where byte `at` of the directory lies, and how many bytes follow it there.
    fn place(&mut self, at: u64) -> Result<Option<(u64, u64)>> {
        let size = self.length.slots().saturating_mul(SLOT);
        let first = match self.area {
            Area::Fixed(offset) => return Ok(Some((offset.saturating_add(at), size.saturating_sub(at)))),
            Area::Chain(first) => first,
        };
        let inside = |extent: &Extent| extent.start <= at && at < extent.start.saturating_add(extent.len);
        if !self.extent.as_ref().is_some_and(inside) {
            // A megabyte at a time: a directory is rarely read to its end by one request.
            let until = at.saturating_add(1 << 20);
            let size = self.clusters.size().saturating_add(size);
            let extents = self.clusters.chained(first, at..until, size)?;
            self.extent = extents.into_iter().find(inside);
        }
        Ok(self.extent.as_ref().and_then(|extent| {
            let Place::Volume(offset) = extent.place else {
                return None;
            };
            let into = at.checked_sub(extent.start)?;
            let most = size.saturating_sub(at).max(SLOT);
            Some((offset.checked_add(into)?, extent.len.checked_sub(into)?.min(most)))
        }))
    }
}
