//! A file allocation table: what follows a cluster, read in pieces of up to 64 KiB. Shared by FAT and exFAT.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::Result;
use super::corrupt;
use crate::bytes::{le_u16, le_u32, to_u64, to_usize};
use crate::image::ReadAt;

/// How a table's entries are packed.
///
/// # Source
/// Microsoft FAT specification, section 4 "FAT"; exFAT specification, section 4.1 "First and Second FAT".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Two entries in three bytes.
    Fat12,
    /// 16 bits.
    Fat16,
    /// 28 bits; the upper four of each entry are reserved and ignored.
    Fat32,
    /// 32 bits.
    Exfat,
}

impl Width {
    /// The mark of a bad cluster; everything above it ends a chain.
    fn bad(self) -> u32 {
        match self {
            Self::Fat12 => 0xff7,
            Self::Fat16 => 0xfff7,
            Self::Fat32 => 0x0fff_fff7,
            Self::Exfat => 0xffff_fff7,
        }
    }

    /// Byte of the table where the entry of `cluster` begins.
    fn position(self, cluster: u32) -> u64 {
        let cluster = u64::from(cluster);
        match self {
            Self::Fat12 => cluster.saturating_add(cluster / 2),
            Self::Fat16 => cluster.saturating_mul(2),
            Self::Fat32 | Self::Exfat => cluster.saturating_mul(4),
        }
    }

    /// Bytes that `entries` entries take.
    pub(crate) fn len(self, entries: u64) -> u64 {
        match self {
            Self::Fat12 => entries.saturating_mul(3).div_ceil(2),
            Self::Fat16 => entries.saturating_mul(2),
            Self::Fat32 | Self::Exfat => entries.saturating_mul(4),
        }
    }
}

/// What the table says of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// The chain goes on at this cluster, which exists.
    Next(u32),
    /// The chain ends here.
    End,
    /// The cluster is not in use, or is marked bad, or the value names no cluster.
    Broken(&'static str),
}

/// The table in use of a volume.
pub(crate) struct Table {
    volume: Arc<dyn ReadAt>,
    /// Byte on the volume where it begins.
    offset: u64,
    width: Width,
    /// Clusters of the volume; their numbers begin at 2.
    clusters: u32,
    /// What was read last, by any request: files next to each other have their entries next to each other.
    recent: Mutex<Arc<Piece>>,
}

/// Bytes of a table.
#[derive(Default)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
}

/// Pieces begin at multiples of this, and the first one of a request has this length.
const FIRST_PIECE: u64 = 4 << 10;

/// The longest piece, read where a chain goes on and on.
const LONGEST_PIECE: u64 = 64 << 10;

/// Most pieces that one request reads. A chain that jumps more than this between its ends is followed over several requests.
const MOST_PIECES: u32 = 1 << 16;

impl Table {
    /// The table at byte `offset` of `volume`, for `clusters` clusters.
    pub(crate) fn new(volume: Arc<dyn ReadAt>, offset: u64, width: Width, clusters: u32) -> Self {
        let recent = Mutex::default();
        Self {
            volume,
            offset,
            width,
            clusters,
            recent,
        }
    }

    /// Says whether a cluster of this number exists.
    pub(crate) fn holds(&self, cluster: u32) -> bool {
        cluster.checked_sub(2).is_some_and(|number| number < self.clusters)
    }

    /// Clusters of the volume.
    pub(crate) fn clusters(&self) -> u32 {
        self.clusters
    }

    /// Byte on the volume of the entry of `cluster`, to say where damage is.
    pub(crate) fn entry_offset(&self, cluster: u32) -> u64 {
        self.offset.saturating_add(self.width.position(cluster))
    }

    /// Reads entries for one request.
    pub(crate) fn links(&self) -> Links<'_> {
        Links {
            table: self,
            piece: Arc::clone(&self.recent.lock()),
            pieces: 0,
        }
    }

    fn len(&self) -> u64 {
        self.width.len(u64::from(self.clusters).saturating_add(2))
    }

    fn link(&self, value: u32) -> Link {
        let bad = self.width.bad();
        match value {
            0 => Link::Broken("it leads into a free cluster"),
            _ if self.holds(value) => Link::Next(value),
            _ if value > bad => Link::End,
            _ if value == bad => Link::Broken("it leads into a bad cluster"),
            _ => Link::Broken("it leads to a cluster that does not exist"),
        }
    }
}

/// Entries of a table as one request reads them.
pub(crate) struct Links<'a> {
    table: &'a Table,
    piece: Arc<Piece>,
    pieces: u32,
}

impl Links<'_> {
    /// What the table says of `cluster`, which exists or is 1.
    ///
    /// # Errors
    /// `Corrupt` if the request has read too many pieces; as the volume's for what it must read.
    pub(crate) fn after(&mut self, cluster: u32) -> Result<Link> {
        let value = match self.value(cluster) {
            Some(value) => value,
            None => {
                self.load(cluster)?;
                let at = self.table.entry_offset(cluster);
                self.value(cluster)
                    .ok_or_else(|| corrupt("the file allocation table (it is too short)", at))?
            }
        };
        Ok(self.table.link(value))
    }

    /// Counts the entries of value 0.
    ///
    /// # Errors
    /// As [`after`](Self::after).
    pub(crate) fn free(&mut self) -> Result<u64> {
        let mut free = 0_u64;
        for number in 0..self.table.clusters {
            let link = self.after(number.saturating_add(2))?;
            free = free.saturating_add(u64::from(link == self.table.link(0)));
        }
        Ok(free)
    }

    /// What the entry of cluster 1, which does not exist, keeps in its upper bits: whether the volume was unmounted, and whether no error
    /// of the disk was met. Both true for FAT12, which keeps neither.
    ///
    /// # Source
    /// Microsoft FAT specification, section 4.2 "FAT volume initialization": `ClnShutBitMask` and `HrdErrBitMask`.
    ///
    /// # Errors
    /// As [`after`](Self::after).
    pub(crate) fn marks(&mut self) -> Result<(bool, bool)> {
        let (clean, sound) = match self.table.width {
            Width::Fat16 => (0x8000, 0x4000),
            Width::Fat32 => (0x0800_0000, 0x0400_0000),
            Width::Fat12 | Width::Exfat => return Ok((true, true)),
        };
        self.after(1)?;
        let value = self.value(1).unwrap_or(u32::MAX);
        Ok((value & clean != 0, value & sound != 0))
    }

    fn value(&self, cluster: u32) -> Option<u32> {
        let position = self.table.width.position(cluster);
        let at = to_usize(position.checked_sub(self.piece.start)?);
        let bytes = &self.piece.bytes;
        match self.table.width {
            Width::Fat12 => {
                let pair = u32::from(le_u16(bytes, at)?);
                Some(if cluster.is_multiple_of(2) {
                    pair & 0xfff
                } else {
                    pair >> 4
                })
            }
            Width::Fat16 => le_u16(bytes, at).map(u32::from),
            Width::Fat32 => le_u32(bytes, at).map(|value| value & 0x0fff_ffff),
            Width::Exfat => le_u32(bytes, at),
        }
    }

    /// Reads the piece with the entry of `cluster`; a piece that follows the last one is twice as long.
    fn load(&mut self, cluster: u32) -> Result<()> {
        self.pieces = self.pieces.saturating_add(1);
        if self.pieces > MOST_PIECES {
            let at = self.table.entry_offset(cluster);
            return Err(corrupt(
                "a cluster chain (it jumps too often to be followed at once)",
                at,
            ));
        }
        let position = self.table.width.position(cluster);
        let (start, len) = if self.table.width == Width::Fat12 {
            // Entries cross the ends of pieces, and the whole table is short.
            (0, self.table.len())
        } else {
            let start = position.saturating_sub(position % FIRST_PIECE);
            let last_len = to_u64(self.piece.bytes.len());
            let follows = last_len > 0 && self.piece.start.saturating_add(last_len) == start;
            let len = if follows {
                last_len.saturating_mul(2)
            } else {
                FIRST_PIECE
            };
            let len = len.clamp(FIRST_PIECE, LONGEST_PIECE);
            (start, len.min(self.table.len().saturating_sub(start)))
        };
        let mut bytes = vec![0; to_usize(len)];
        let offset = self.table.offset.saturating_add(start);
        self.table.volume.read_at(offset, &mut bytes)?;
        self.piece = Arc::new(Piece { start, bytes });
        *self.table.recent.lock() = Arc::clone(&self.piece);
        Ok(())
    }
}
