//! The log: finds its newest record by the cycle numbers, tells whether the file system was left in order, walks its records.

mod buffer_item;
mod inode_item;
mod record;
mod replay;
mod transaction;

use super::disk::Disk;
use crate::bytes::{be_u32, to_u64, to_usize};
use crate::fs::{Error, Result};
use record::{BASIC_BLOCK, MAGIC, MAX_LEN, Record};
pub(super) use replay::{Replayed, replay};

/// Fewest blocks of a log.
const MIN_BLOCKS: u64 = 512;
/// Blocks before the newest among which the header of its record is: a record and its headers.
const MAX_BACK: u64 = 256 * 2 + 8;
/// Most blocks of records that are replayed: 256 MiB.
const MAX_ACTIVE: u64 = 512 << 10;
/// Most records at the head that are torn.
const MAX_TORN: usize = 8;
/// Blocks at the head of which some may be missing while others are there: eight records that were under way at once.
const MAX_UNDER_WAY: u64 = 8 * MAX_BACK;

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

/// Why the log is not replayed.
#[derive(Debug)]
enum Stop {
    /// The volume cannot be read.
    Read(Error),
    /// The log has something that is not understood, in words.
    Odd(&'static str),
}

/// The result of a step of a replay.
type Step<T> = std::result::Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Corrupt { .. } => Self::Odd("it names a place outside the volume"),
            error => Self::Read(error),
        }
    }
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
        Err(Error::Corrupt { .. }) => Ok(State::Damaged),
        state => state,
    }
}

/// The log of a volume, in basic blocks.
struct Log<'a> {
    disk: &'a Disk,
    at: u64,
    blocks: u64,
}

/// A stretch of records that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// Place of the first.
    first: u64,
    /// Place after the last.
    end: u64,
}

impl<'a> Log<'a> {
    /// `None` if the log does not lie inside one allocation group, or is smaller than any log.
    fn new(disk: &'a Disk) -> Option<Self> {
        let superblock = &disk.superblock;
        let len = u64::from(superblock.log_blocks);
        let inside = len >= MIN_BLOCKS && superblock.holds(superblock.log_start, len);
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
        let body = header.saturating_add(record.header_blocks());
        let after = body.saturating_add(record.body_blocks());
        if after % self.blocks == head % self.blocks && record.operations == 1 {
            let operation = self.read(body % self.blocks, 1)?;
            if operation.get(9).is_some_and(|flags| flags & transaction::UNMOUNT != 0) {
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

    /// As [`read`](Self::read), going on at the beginning of the log; `first` may lie one round ahead.
    fn read_around(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let first = first % self.blocks;
        let mut bytes = self.read(first, count)?;
        let rest = count.saturating_sub(self.blocks - first);
        if rest > 0 {
            bytes.extend(self.read(0, rest)?);
        }
        Ok(bytes)
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

    /// The records that are needed: from the oldest whose changes are not all in place to the newest that is whole.
    ///
    /// # Errors
    /// `Odd` if they cannot be told with certainty.
    fn active(&self) -> Step<Stretch> {
        let odd = Stop::Odd("its newest record was not found");
        let Some(head) = self.head()? else { return Err(odd) };
        let Some((_, record)) = self.record_before(head)? else {
            return Err(odd);
        };
        let mut tail = record.tail_lsn;
        for _ in 0..MAX_TORN {
            let mut last = None;
            let end = self.walk(tail, None, &mut |record, _| {
                last = Some(record.tail_lsn);
                Ok(())
            })?;
            let behind = (head % self.blocks + self.blocks - block_of(end) % self.blocks) % self.blocks;
            match last {
                Some(_) if behind.min(self.blocks - behind) > MAX_UNDER_WAY => break,
                // The newest record was torn, and the one before it needs older ones.
                Some(last) if last < tail => tail = last,
                Some(_) => return Ok(Stretch { first: tail, end }),
                None => break,
            }
        }
        Err(Stop::Odd("its records do not follow each other"))
    }

    /// Gives the records from place `first` on, each with its body, until one is not whole or the place `end` is reached.
    ///
    /// Gives the place where it ended.
    fn walk(&self, first: u64, end: Option<u64>, visit: &mut dyn FnMut(&Record, &[u8]) -> Step<()>) -> Step<u64> {
        let mut place = first;
        let mut walked = 0;
        while Some(place) != end {
            let Some((record, body)) = self.record_at(place)? else {
                break;
            };
            let len = record.header_blocks().saturating_add(record.body_blocks());
            walked += len;
            if walked > self.blocks {
                break;
            }
            if walked > MAX_ACTIVE {
                return Err(Stop::Odd("more of it is needed than fits in memory"));
            }
            visit(&record, &body)?;
            place = self.advance(place, len);
        }
        Ok(place)
    }

    /// The record at a place with its body, if it is whole.
    fn record_at(&self, place: u64) -> Result<Option<(Record, Vec<u8>)>> {
        let block = block_of(place);
        if block >= self.blocks {
            return Ok(None);
        }
        let header = self.read(block, 1)?;
        let record = Record::parse(&header, &self.disk.superblock.uuid);
        let Some(record) = record.filter(|record| record.lsn == place && record.len <= MAX_LEN) else {
            return Ok(None);
        };
        let header_blocks = record.header_blocks();
        let header = self.read_around(block, header_blocks)?;
        let body_at = block.saturating_add(header_blocks);
        let mut body = self.read_around(body_at, record.body_blocks())?;
        if !record.is_intact(&header, &body) {
            return Ok(None);
        }
        let wrapped = to_usize(self.blocks.saturating_sub(body_at));
        Ok(record.unpack(&header, &mut body, wrapped).map(|()| (record, body)))
    }

    /// The place `len` blocks on; at the end of the log a new cycle begins.
    fn advance(&self, place: u64, len: u64) -> u64 {
        let block = block_of(place).saturating_add(len);
        if block < self.blocks {
            return place.saturating_add(len);
        }
        let cycle = (place >> 32).saturating_add(1) & u64::from(u32::MAX);
        let cycle = if cycle == u64::from(MAGIC) { cycle + 1 } else { cycle };
        (cycle << 32) | (block - self.blocks)
    }
}

/// The block of a place in the log: its lower half.
fn block_of(place: u64) -> u64 {
    place & u64::from(u32::MAX)
}
