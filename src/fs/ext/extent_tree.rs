//! Extent trees: runs of blocks by their first block in the file, in the inode or in a tree of blocks.

use std::ops::Range;

use super::disk::{Disk, corrupt};
use super::inode::Node;
use super::mapping::{Flow, Run, Runs};
use crate::bytes::{le_u16, le_u32};
use crate::checksum::crc32c;
use crate::fs::Result;

/// `eh_magic`.
const MAGIC: u16 = 0xf30a;
/// Length of the header and of each entry.
const ENTRY: usize = 12;
/// Deepest tree that the kernel makes.
const MAX_DEPTH: u16 = 5;
/// Longest written extent; a longer one is unwritten and this much shorter.
const INIT_MAX_LEN: u16 = 0x8000;
/// Blocks that a file can have.
const MAX_BLOCKS: u64 = 1 << 32;

/// A node of the tree with its header checked: `entries` are exactly those in use.
///
/// # Source
/// Linux Documentation/filesystems/ext4/ifork.rst, `struct ext4_extent_header`.
struct Header<'a> {
    depth: u16,
    entries: &'a [u8],
    /// Where the checksum is, behind the entries there is room for.
    tail: usize,
}

fn header(bytes: &[u8]) -> Option<Header<'_>> {
    let entries = usize::from(le_u16(bytes, 2)?);
    let max = usize::from(le_u16(bytes, 4)?);
    let depth = le_u16(bytes, 6)?;
    let tail = max.checked_add(1)?.checked_mul(ENTRY)?;
    if le_u16(bytes, 0)? != MAGIC || entries > max || tail > bytes.len() || depth > MAX_DEPTH {
        return None;
    }
    let end = entries.checked_add(1)?.checked_mul(ENTRY)?;
    Some(Header {
        depth,
        entries: bytes.get(ENTRY..end)?,
        tail,
    })
}

/// Collects the runs of a file.
///
/// # Errors
/// `Corrupt` where the tree breaks its order, points outside the volume, or fails a checksum.
pub(super) fn walk(disk: &Disk, node: &Node, runs: &mut Runs) -> Result<Flow> {
    let root = header(node.i_block()).ok_or_else(|| node.corrupt("the root of its extent tree"))?;
    visit(disk, node, &root, node.at, 0..MAX_BLOCKS, runs)
}

/// Visits a tree node that may tell of the file's blocks `window` and lies at byte `at` of the volume.
fn visit(disk: &Disk, node: &Node, header: &Header<'_>, at: u64, window: Range<u64>, runs: &mut Runs) -> Result<Flow> {
    if header.depth == 0 {
        return leaf(disk, node, header.entries, at, window, runs);
    }
    let bad = || corrupt(format!("the extent tree of inode {}", node.number), at);
    let mut entries = header.entries.as_chunks::<ENTRY>().0.iter().peekable();
    let mut first = window.start;
    while let Some(entry) = entries.next() {
        let (block, child) = index(entry).ok_or_else(bad)?;
        let end = match entries.peek() {
            Some(next) => index(*next).ok_or_else(bad)?.0,
            None => window.end,
        };
        // Entries in order, within what the parent gave, so that no tree can be walked for ever.
        if block < first || end <= block || end > window.end {
            return Err(bad());
        }
        first = end;
        if end <= runs.wanted.start {
            runs.pass(end);
            continue;
        }
        if runs.spend(block).is_break() {
            return Ok(Flow::Break(()));
        }
        let bytes = disk.block(child)?;
        let at = disk.byte_of(child);
        let below = checked_node(disk, node, &bytes, header.depth, at)?;
        if visit(disk, node, &below, at, block..end, runs)?.is_break() {
            return Ok(Flow::Break(()));
        }
    }
    Ok(Flow::Continue(()))
}

/// The header of a block of the tree whose parent has the depth `above`, with its checksum checked.
fn checked_node<'a>(disk: &Disk, node: &Node, bytes: &'a [u8], above: u16, at: u64) -> Result<Header<'a>> {
    let bad = |what| {
        corrupt(
            format!("a block of the extent tree of inode {} ({what})", node.number),
            at,
        )
    };
    let header = header(bytes).ok_or_else(|| bad("its header"))?;
    if header.depth.checked_add(1) != Some(above) {
        return Err(bad("its depth"));
    }
    if disk.sb.has_metadata_csum() {
        let summed = bytes.get(..header.tail).unwrap_or_default();
        if le_u32(bytes, header.tail) != Some(crc32c(node.csum_seed, summed)) {
            return Err(bad("its checksum"));
        }
    }
    Ok(header)
}

/// An entry of an inner node: first block in the file, and block of the node below.
///
/// # Source
/// Linux Documentation/filesystems/ext4/ifork.rst, `struct ext4_extent_idx`.
fn index(entry: &[u8]) -> Option<(u64, u64)> {
    let block = u64::from(le_u32(entry, 0)?);
    let low = u64::from(le_u32(entry, 4)?);
    Some((block, low | u64::from(le_u16(entry, 8)?) << 32))
}

/// Entries of a leaf: 12 bytes each, a length above 32768 being that of an unwritten extent, longer by 32768 than it is.
///
/// # Source
/// Linux Documentation/filesystems/ext4/ifork.rst, `struct ext4_extent`.
fn leaf(disk: &Disk, node: &Node, entries: &[u8], at: u64, window: Range<u64>, runs: &mut Runs) -> Result<Flow> {
    let bad = |what| corrupt(format!("the extents of inode {} ({what})", node.number), at);
    let mut least = window.start;
    for entry in entries.as_chunks::<ENTRY>().0 {
        let first = le_u32(entry, 0).map_or(0, u64::from);
        let len = le_u16(entry, 4).unwrap_or_default();
        let start = le_u32(entry, 8).map_or(0, u64::from) | le_u16(entry, 6).map_or(0, u64::from) << 32;
        let is_unwritten = len > INIT_MAX_LEN;
        let len = u64::from(if is_unwritten {
            len.saturating_sub(INIT_MAX_LEN)
        } else {
            len
        });
        let end = first.saturating_add(len);
        if first < least || len == 0 || end > window.end {
            return Err(bad("their order"));
        }
        least = end;
        if end <= runs.wanted.start {
            runs.pass(end);
            continue;
        }
        if !disk.holds(start, len) || start == 0 {
            return Err(bad("a block number"));
        }
        let target = (!is_unwritten).then_some(start);
        if runs.push(Run { first, len, target }).is_break() {
            return Ok(Flow::Break(()));
        }
    }
    Ok(Flow::Continue(()))
}
