//! The block map of a fork: from blocks of a file to runs of blocks on the volume, in lists and in trees.

use super::disk::{Disk, Header, corrupt};
use super::inode::{Dinode, Fork, Format};
use crate::bytes::{be_u16, be_u32, be_u64, to_u64, to_usize};
use crate::fs::Result;

/// Bytes of one record of an extent.
const RECORD: usize = 16;
/// Bytes of one key or pointer of a tree.
const KEY: usize = 8;
/// Bytes before the keys of the root in an inode.
const ROOT_HEADER: usize = 4;
/// Bytes before the keys of a block: version 4, version 5.
const BLOCK_HEADER: (usize, usize) = (24, 72);
/// `BMAP` and `BMA3`.
const MAGIC: (u32, u32) = (0x424d_4150, 0x424d_4133);
/// Deepest tree: with the smallest blocks, 2^48 extents need fewer levels.
const MAX_LEVEL: u16 = 16;

/// A run of a file's blocks that lie one after the other on the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block in the file.
    pub(super) start: u64,
    /// Number of blocks; never 0.
    pub(super) len: u64,
    /// Byte of the volume at which the first begins; all of the run lies inside the file system.
    pub(super) at: u64,
    /// Space that was reserved and not written: reads as zeros.
    pub(super) unwritten: bool,
}

impl Run {
    /// First block in the file after the run.
    pub(super) fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Walks the runs of a fork in order, from the last one that begins at or before a block of the file.
///
/// A run begins where the one before ended, or later; anything else is damage, so that no walk goes in circles.
pub(super) struct Runs<'a> {
    disk: &'a Disk,
    inode: &'a Dinode,
    /// Records of the leaf, with `next` the first that was not given.
    records: Vec<u8>,
    next: usize,
    /// Byte of the volume at which the leaf lies.
    leaf_at: u64,
    /// The leaf after it, as a block.
    right: Option<u64>,
    /// End of the last run that was given.
    end: u64,
}

/// Opens the map of a fork at block `from` of the file.
///
/// # Errors
/// `Corrupt` if the fork is no map or the tree is damaged on the way.
pub(super) fn runs<'a>(disk: &'a Disk, inode: &'a Dinode, fork: Fork, from: u64) -> Result<Runs<'a>> {
    let mut runs = Runs {
        disk,
        inode,
        records: Vec::new(),
        next: 0,
        leaf_at: inode.at,
        right: None,
        end: 0,
    };
    match inode.format(fork)? {
        None => {}
        Some(Format::Extents) => {
            let len = inode.extent_count(fork).saturating_mul(RECORD);
            let records = inode.fork(fork).get(..len);
            runs.records = records.ok_or_else(|| inode.corrupt("more extents than fit"))?.to_vec();
        }
        Some(Format::Btree) => runs.descend(inode.fork(fork), from)?,
        Some(Format::Local | Format::Device) => return Err(inode.corrupt("it has no block map")),
    }
    runs.skip_to(from)?;
    Ok(runs)
}

impl Runs<'_> {
    /// From the root in the inode down to the leaf that can hold block `from`.
    fn descend(&mut self, root: &[u8], from: u64) -> Result<()> {
        let damaged = |what: &str| self.inode.corrupt(what);
        let level = be_u16(root, 0).filter(|level| (1..=MAX_LEVEL).contains(level));
        let mut level = level.ok_or_else(|| damaged("its extent tree has an impossible height"))?;
        let entries = root.get(ROOT_HEADER..).unwrap_or_default();
        let count = usize::from(be_u16(root, 2).unwrap_or(0));
        let mut child = choose(entries, count, from).ok_or_else(|| damaged("its extent tree has a damaged root"))?;
        loop {
            level = level.saturating_sub(1);
            let block = self.read_block(child, level)?;
            if level == 0 {
                self.take_leaf(&block);
                return Ok(());
            }
            let entries = block.body.as_slice();
            child = choose(entries, block.count, from)
                .ok_or_else(|| corrupt(format!("the extent tree of inode {}", self.inode.number), block.at))?;
        }
    }

    fn read_block(&self, number: u64, level: u16) -> Result<TreeBlock> {
        let what = "the extent tree";
        let superblock = &self.disk.superblock;
        let at = self.disk.block_offset(number, what, self.leaf_at)?;
        let mut bytes = self.disk.read(at, superblock.block_size())?;
        self.disk
            .verify(&bytes, Header::EXTENT_TREE, at, self.inode.number, what)?;
        let (magic, header) = match superblock.checksums {
            true => (MAGIC.1, BLOCK_HEADER.1),
            false => (MAGIC.0, BLOCK_HEADER.0),
        };
        let count = usize::from(be_u16(&bytes, 6).unwrap_or(0));
        let fits = bytes.len().saturating_sub(header) / RECORD;
        let sound = be_u32(&bytes, 0) == Some(magic) && be_u16(&bytes, 4) == Some(level);
        if !sound || count == 0 || count > fits {
            let what = format!(
                "the extent tree of inode {} (a block is none of its level)",
                self.inode.number
            );
            return Err(corrupt(what, at));
        }
        let right = be_u64(&bytes, 16).filter(|right| *right != u64::MAX);
        let body = bytes.split_off(header);
        Ok(TreeBlock { at, count, right, body })
    }

    fn take_leaf(&mut self, block: &TreeBlock) {
        let records = block.body.get(..block.count.saturating_mul(RECORD));
        self.records = records.unwrap_or_default().to_vec();
        self.next = 0;
        self.leaf_at = block.at;
        self.right = block.right;
    }

    /// Passes the records before the last that begins at or before `from`.
    fn skip_to(&mut self, from: u64) -> Result<()> {
        let (records, _) = self.records.as_chunks::<RECORD>();
        let after = records.partition_point(|record| start_of(record) <= from);
        self.next = after.saturating_sub(1);
        // What is skipped is not looked at; what is given must still lie in order.
        self.end = 0;
        Ok(())
    }

    fn next_run(&mut self) -> Result<Option<Run>> {
        let (records, _) = self.records.as_chunks::<RECORD>();
        let record = match records.get(self.next) {
            Some(record) => *record,
            None => {
                let Some(right) = self.right else { return Ok(None) };
                let block = self.read_block(right, 0)?;
                self.take_leaf(&block);
                let (records, _) = self.records.as_chunks::<RECORD>();
                match records.first() {
                    Some(record) => *record,
                    None => return Ok(None),
                }
            }
        };
        self.next = self.next.saturating_add(1);
        let run = self.parse(&record)?;
        self.end = run.end();
        Ok(Some(run))
    }

    fn parse(&self, record: &[u8; RECORD]) -> Result<Run> {
        let (start, block, len, unwritten) = fields_of(record);
        let superblock = &self.disk.superblock;
        let at = superblock.block_offset(block).filter(|_| superblock.holds(block, len));
        match at {
            Some(at) if len > 0 && start >= self.end => Ok(Run {
                start,
                len,
                at,
                unwritten,
            }),
            _ => {
                let what = format!("the block map of inode {} (an extent is impossible)", self.inode.number);
                Err(corrupt(what, self.leaf_at))
            }
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Result<Run>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_run().transpose()
    }
}

/// A block of the tree without its header.
struct TreeBlock {
    at: u64,
    count: usize,
    right: Option<u64>,
    body: Vec<u8>,
}

/// The child below which block `from` is: the last whose key is not above it, or the first of all.
///
/// Pointers follow the room for all keys, however many there are.
fn choose(entries: &[u8], count: usize, from: u64) -> Option<u64> {
    let room = entries.len() / (2 * KEY);
    let keys = entries.get(..count.checked_mul(KEY)?)?;
    if count == 0 || count > room {
        return None;
    }
    let (keys, _) = keys.as_chunks::<KEY>();
    let after = keys.partition_point(|key| u64::from_be_bytes(*key) <= from);
    let pointer = room.checked_add(after.saturating_sub(1))?.checked_mul(KEY)?;
    be_u64(entries, pointer)
}

/// Unpacks a record: start in the file, block, count, mark of unwritten space.
///
/// From the highest bit: 1 mark, 54 start, 52 block, 21 count.
///
/// # Source
/// XFS Algorithms & Data Structures, "Extent List"; fs/xfs/libxfs/xfs_format.h, `xfs_bmbt_rec`.
fn fields_of(record: &[u8; RECORD]) -> (u64, u64, u64, bool) {
    let bits = u128::from_be_bytes(*record);
    let part = |shift: u32, width: u32| u64::try_from(bits >> shift & ((1 << width) - 1)).unwrap_or(u64::MAX);
    (part(73, 54), part(21, 52), part(0, 21), part(127, 1) != 0)
}

fn start_of(record: &[u8; RECORD]) -> u64 {
    fields_of(record).0
}

/// Where `count` blocks of a fork from block `start` on lie: byte of the volume and number of blocks of each piece.
///
/// # Errors
/// `Corrupt` if one of them is a hole or was never written.
pub(super) fn pieces(disk: &Disk, inode: &Dinode, fork: Fork, start: u64, count: u64) -> Result<Vec<(u64, u64)>> {
    let block_log = disk.superblock.block_log;
    let (mut next, stop) = (start, start.saturating_add(count));
    let mut pieces = Vec::new();
    for run in runs(disk, inode, fork, start)? {
        let run = run?;
        if next >= stop || run.start > next || run.unwritten {
            break;
        }
        if run.end() > next {
            let end = run.end().min(stop);
            pieces.push((run.at.saturating_add((next - run.start) << block_log), end - next));
            next = end;
        }
    }
    if next < stop {
        return Err(inode.corrupt("a block that it needs is a hole"));
    }
    Ok(pieces)
}

/// Reads `len` bytes of a fork, whole blocks, from block `start` of it on; says also where the first lies.
///
/// Callers bound `len`.
///
/// # Errors
/// As [`pieces`].
pub(super) fn read(disk: &Disk, inode: &Dinode, fork: Fork, start: u64, len: usize) -> Result<(Vec<u8>, u64)> {
    let block_log = disk.superblock.block_log;
    let pieces = pieces(disk, inode, fork, start, to_u64(len) >> block_log)?;
    let mut bytes = Vec::with_capacity(len);
    for (at, count) in &pieces {
        disk.append(*at, to_usize(count << block_log), &mut bytes)?;
    }
    Ok((bytes, pieces.first().map_or(0, |(at, _)| *at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_packs_its_fields_without_gaps() {
        let bits: u128 = 1 << 127 | 0x12_3456 << 73 | 0xabcd_ef01 << 21 | 0x1f_ffff;
        assert_eq!(
            fields_of(&bits.to_be_bytes()),
            (0x12_3456, 0xabcd_ef01, 0x1f_ffff, true)
        );
        assert_eq!(
            fields_of(&[0xff; 16]),
            ((1 << 54) - 1, (1 << 52) - 1, (1 << 21) - 1, true)
        );
    }

    #[test]
    fn the_child_is_the_last_whose_key_is_not_above() {
        let mut entries = Vec::new();
        for value in [10_u64, 20, 30, 0, 100, 200, 300, 0] {
            entries.extend(value.to_be_bytes());
        }
        for (from, child) in [(0, 100), (10, 100), (19, 100), (20, 200), (u64::MAX, 300)] {
            assert_eq!(choose(&entries, 3, from), Some(child), "{from}");
        }
        assert_eq!(choose(&entries, 0, 5), None);
        assert_eq!(choose(&entries, 5, 5), None);
    }
}
