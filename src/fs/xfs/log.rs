//! The log: finds its newest record by the cycle numbers, and tells whether the file system was left in order.

use super::disk::Disk;
use crate::bytes::{be_u32, be_u64, field, to_u64, to_usize};
use crate::fs::Result;

/// Bytes of the unit in which the log counts.
const BASIC_BLOCK: usize = 512;
/// First word of the header of a record, and of no other block.
const MAGIC: u32 = 0xfeed_babe;
/// Bytes of a record that one block of header can describe.
const HEADER_CYCLE_SIZE: u32 = 32 << 10;
/// Largest record, and how many may be on their way to the disk at once.
const MAX_RECORD: u64 = 256 << 10;
/// Blocks before the newest among which the header of its record is: a record and its headers.
const MAX_BACK: u64 = MAX_RECORD / 512 + 8;
/// Mark of the operation that a clean unmount writes.
const UNMOUNT_TRANS: u8 = 0x20;

/// How the file system was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was unmounted.
    Clean,
    /// It was in use: the log may hold changes that are nowhere else.
    Dirty,
    /// The log is on a device that is not at hand.
    External,
    /// The log breaks its format.
    Damaged,
}

/// Reads the ends of the log.
///
/// # Errors
/// `Image` if the volume cannot be read; damage of the log is a [`State`].
///
/// # Source
/// XFS Algorithms & Data Structures, "Journaling Log"; fs/xfs/xfs_log_recover.c.
pub(super) fn state(disk: &Disk) -> Result<State> {
    if disk.superblock.log_start == 0 {
        return Ok(State::External);
    }
    let Some(log) = Log::new(disk) else {
        return Ok(State::Damaged);
    };
    match log.state() {
        Err(crate::fs::Error::Corrupt { .. }) => Ok(State::Damaged),
        state => state,
    }
}

/// The log of a volume, in basic blocks.
struct Log<'a> {
    disk: &'a Disk,
    at: u64,
    blocks: u64,
}

impl<'a> Log<'a> {
    /// `None` if the log does not lie inside one allocation group, or holds nothing.
    fn new(disk: &'a Disk) -> Option<Self> {
        let superblock = &disk.superblock;
        let len = u64::from(superblock.log_blocks);
        let inside = len > 0 && superblock.holds(superblock.log_start, len);
        let at = superblock.block_offset(superblock.log_start).filter(|_| inside)?;
        let blocks = len << superblock.block_log >> BASIC_BLOCK.ilog2();
        Some(Self { disk, at, blocks })
    }

    fn state(&self) -> Result<State> {
        let Some(head) = self.head()? else {
            return Ok(State::Clean);
        };
        let Some((header, record)) = self.record_before(head)? else {
            return Ok(State::Damaged);
        };
        // The record of an unmount is one operation, and nothing came after it.
        let after = header
            .saturating_add(record.header_blocks())
            .saturating_add(record.body_blocks());
        if after % self.blocks == head % self.blocks && record.operations == 1 {
            let operation = self.read(header.saturating_add(record.header_blocks()) % self.blocks, 1)?;
            if operation.get(9).is_some_and(|flags| flags & UNMOUNT_TRANS != 0) {
                return Ok(State::Clean);
            }
        }
        Ok(State::Dirty)
    }

    /// Reads `count` blocks from `first` on, not beyond the end of the log.
    fn read(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let count = count.min(self.blocks.saturating_sub(first));
        let at = self.at.saturating_add(first.saturating_mul(to_u64(BASIC_BLOCK)));
        self.disk.read(at, to_usize(count).saturating_mul(BASIC_BLOCK))
    }

    /// The number of times that the log had been filled when a block was written; 0 for one that never was.
    fn cycle(&self, block: u64) -> Result<u32> {
        let block = self.read(block, 1)?;
        let word = |at| be_u32(&block, at).unwrap_or(0);
        Ok(if word(0) == MAGIC { word(4) } else { word(0) })
    }

    /// The block after the newest one; `None` if the log was never written.
    ///
    /// Cycle numbers fall once on the way through the log, by one: there the newest block is.
    fn head(&self) -> Result<Option<u64>> {
        let (first, last) = (self.cycle(0)?, self.cycle(self.blocks.saturating_sub(1))?);
        if first == 0 {
            return Ok(None);
        }
        if first == last {
            return Ok(Some(self.blocks));
        }
        let (mut newest, mut oldest) = (0, self.blocks.saturating_sub(1));
        while oldest - newest > 1 {
            let middle = newest.midpoint(oldest);
            if self.cycle(middle)? == first {
                newest = middle;
            } else {
                oldest = middle;
            }
        }
        Ok(Some(oldest))
    }

    /// The last header of a record before block `head`, with the block where it is.
    fn record_before(&self, head: u64) -> Result<Option<(u64, Record)>> {
        // The record may have begun before the end of the log and gone on at its beginning.
        for (end, before) in [
            (head, MAX_BACK.min(head)),
            (self.blocks, MAX_BACK.min(self.blocks - head)),
        ] {
            let first = end.saturating_sub(before);
            let blocks = self.read(first, before)?;
            let (blocks, _) = blocks.as_chunks::<BASIC_BLOCK>();
            let found = blocks.iter().rposition(|block| be_u32(block, 0) == Some(MAGIC));
            if let Some((index, block)) = found.and_then(|index| Some((index, blocks.get(index)?))) {
                let record = Record::parse(block, &self.disk.superblock.uuid);
                return Ok(record.map(|record| (first.saturating_add(to_u64(index)), record)));
            }
        }
        Ok(None)
    }
}

/// The header of a record.
///
/// # Source
/// fs/xfs/libxfs/xfs_log_format.h, `struct xlog_rec_header`.
struct Record {
    version: u32,
    len: u32,
    operations: u32,
    size: u32,
}

impl Record {
    /// Parses a header; `None` if it is none of this file system.
    fn parse(block: &[u8], uuid: &[u8; 16]) -> Option<Self> {
        let record = Self {
            version: be_u32(block, 8)?,
            len: be_u32(block, 12)?,
            operations: be_u32(block, 40)?,
            size: be_u32(block, 320)?,
        };
        let _lsn = be_u64(block, 16)?;
        let sound = field(block, 304) == Some(*uuid) && u64::from(record.len) <= MAX_RECORD;
        (sound && matches!(record.version, 1 | 2)).then_some(record)
    }

    /// Blocks that the header takes: one for each 32 KiB that a record of this log can have.
    fn header_blocks(&self) -> u64 {
        match self.version {
            2 => u64::from(self.size.div_ceil(HEADER_CYCLE_SIZE).clamp(1, 8)),
            _ => 1,
        }
    }

    fn body_blocks(&self) -> u64 {
        u64::from(self.len).div_ceil(to_u64(BASIC_BLOCK))
    }
}
