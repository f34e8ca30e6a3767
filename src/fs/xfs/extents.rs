//! Where the bytes of a regular file lie: its block map in bytes, with holes and reserved space as zeros.

use std::ops::Range;

use super::bmap::{self, Run};
use super::disk::Disk;
use super::inode::{Dinode, Fork};
use crate::fs::{Error, Extent, MAX_EXTENTS, Place, Result};

/// Most records of a block map that one answer looks at: runs that join are many records in one extent.
const MAX_RECORDS: usize = 64 << 10;

/// As [`FileSystem::extents`](crate::fs::FileSystem::extents).
///
/// # Errors
/// `Corrupt`, or `Unsupported` for files on the realtime device.
pub(super) fn extents(disk: &Disk, inode: &Dinode, range: Range<u64>) -> Result<Vec<Extent>> {
    let stop = range.end.min(inode.size);
    if range.start >= stop {
        return Ok(Vec::new());
    }
    if inode.is_realtime() {
        return Err(Error::Unsupported {
            feature: "a file on the realtime device of XFS".to_owned(),
        });
    }
    let block_log = disk.superblock.block_log;
    let mut list = List::new(inode.size, range.start);
    // One block of the map past 2^54 is no more than a saturated offset, and ends the walk.
    for run in bmap::runs(disk, inode, Fork::Data, range.start >> block_log)?.take(MAX_RECORDS) {
        list.add(&run?, block_log);
        if list.end >= stop || list.is_full() {
            return Ok(list.finish());
        }
    }
    if list.records < MAX_RECORDS {
        list.fill_to(inode.size);
    }
    Ok(list.finish())
}

/// An answer as it grows: in order, without gaps.
struct List {
    size: u64,
    wanted: u64,
    end: u64,
    records: usize,
    extents: Vec<Extent>,
}

impl List {
    fn new(size: u64, wanted: u64) -> Self {
        Self {
            size,
            wanted,
            end: 0,
            records: 0,
            extents: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.extents.len() >= MAX_EXTENTS
    }

    fn add(&mut self, run: &Run, block_log: u32) {
        let bytes = |blocks: u64| blocks.saturating_mul(1 << block_log);
        if self.records == 0 && bytes(run.start) <= self.wanted {
            // Runs before it were passed over: what lies there is not known, and not asked for.
            self.end = bytes(run.start).min(self.size);
        }
        self.records = self.records.saturating_add(1);
        self.fill_to(bytes(run.start));
        let place = if run.unwritten {
            Place::Zeros
        } else {
            Place::Volume(run.at)
        };
        self.push(bytes(run.end()), place);
    }

    fn fill_to(&mut self, end: u64) {
        self.push(end, Place::Zeros);
    }

    /// Appends what lies between the end so far and `end`, joined to the last extent where it goes on there.
    fn push(&mut self, end: u64, place: Place) {
        let (start, end) = (self.end, end.min(self.size));
        if end <= start || self.is_full() {
            return;
        }
        self.end = end;
        let len = end - start;
        if end <= self.wanted {
            // It lies before the range; a hole that goes on is given from its beginning.
            self.extents.clear();
        }
        match self.extents.last_mut() {
            Some(last) if goes_on(last, &place) => last.len = last.len.saturating_add(len),
            _ => self.extents.push(Extent { start, len, place }),
        }
    }

    fn finish(mut self) -> Vec<Extent> {
        let wanted = self.wanted;
        self.extents
            .retain(|extent| extent.start.saturating_add(extent.len) > wanted);
        self.extents
    }
}

fn goes_on(last: &Extent, place: &Place) -> bool {
    match (&last.place, place) {
        (Place::Zeros, Place::Zeros) => true,
        (Place::Volume(at), Place::Volume(next)) => at.checked_add(last.len) == Some(*next),
        _ => false,
    }
}
