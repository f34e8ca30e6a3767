//! Changes of blocks in the log: regions of 128 bytes that are copied over a block.

use super::replay::{Cancelled, Target};
use super::transaction::Item;
use super::{Step, Stop};
use crate::bytes::{be_u16, be_u32, be_u64, field, le_u16, le_u32, le_u64, to_usize};
use crate::fs::xfs::disk::seal;

/// Bytes of a region that one bit of the map stands for.
const CHUNK: usize = 128;
/// Byte offset of the map in the format.
const MAP_AT: usize = 20;
/// Flags: inodes of which only the lists of unlinked ones are changed; the block was freed; a quota's block.
const INODE_BUFFER: u16 = 1 << 0;
const CANCEL: u16 = 1 << 1;
const QUOTA: u16 = 1 << 2 | 1 << 3 | 1 << 4;
/// Types in the upper bits of the flags, `XFS_BLFT_*`, that hold nothing that is read here: quotas, heads of groups,
/// superblock, maps of the realtime device.
const IRRELEVANT: [u16; 9] = [1, 2, 3, 5, 6, 7, 18, 19, 20];
/// Most sectors of a buffer: 64 KiB.
const MAX_SECTORS: u64 = 128;

/// Format of a change of a block.
///
/// # Source
/// fs/xfs/libxfs/xfs_log_format.h, `struct xfs_buf_log_format`.
struct Format<'a> {
    flags: u16,
    /// First sector and number of sectors.
    buffer: (u64, u64),
    map: &'a [u8],
}

impl<'a> Format<'a> {
    fn parse(item: &'a Item) -> Option<Self> {
        let format = item.region(0)?;
        let words = to_usize(u64::from(le_u32(format, 16)?));
        Some(Self {
            flags: le_u16(format, 4)?,
            buffer: (le_u64(format, 8)?, u64::from(le_u16(format, 6)?)),
            map: format.get(MAP_AT..words.checked_mul(4)?.checked_add(MAP_AT)?)?,
        })
    }

    /// Says whether a region of the block was changed: bits of little-endian words.
    fn is_changed(&self, chunk: usize) -> bool {
        let byte = self.map.get(chunk / 8).copied().unwrap_or(0);
        byte >> (chunk % 8) & 1 != 0
    }
}

/// The buffer that an item frees; `None` if it does not.
pub(super) fn cancelled(item: &Item) -> Option<(u64, u64)> {
    Format::parse(item)
        .filter(|format| format.flags & CANCEL != 0)
        .map(|format| format.buffer)
}

/// Copies the regions of an item over its block, unless the block is newer or was freed later.
///
/// # Errors
/// `Odd` if the item is damaged.
pub(super) fn replay(target: &mut Target<'_>, cancelled: &Cancelled, item: &Item, lsn: u64) -> Step<()> {
    let odd = || Stop::Odd("a change of a block is damaged");
    let format = Format::parse(item).ok_or_else(odd)?;
    let is_irrelevant =
        format.flags & (CANCEL | INODE_BUFFER | QUOTA) != 0 || IRRELEVANT.contains(&(format.flags >> 11));
    if is_irrelevant || cancelled.has(format.buffer) {
        return Ok(());
    }
    let (sector, count) = format.buffer;
    if count == 0 || count > MAX_SECTORS {
        return Err(odd());
    }
    let mut block = target.read(sector, count)?;
    if is_newer(&block, &target.disk.superblock.meta_uuid, lsn) {
        return Ok(());
    }
    copy(&format, item, &mut block).ok_or_else(odd)?;
    seal_block(&mut block, target.disk.superblock.inode_log);
    target.write(sector, &block)
}

/// Copies the regions, each to where the next set bits of the map are.
fn copy(format: &Format<'_>, item: &Item, block: &mut [u8]) -> Option<()> {
    let mut chunk = 0;
    for region in item.regions.iter().skip(1) {
        while !format.is_changed(chunk) {
            chunk += 1;
            if chunk * CHUNK >= block.len() {
                return None;
            }
        }
        let chunks = region.len() / CHUNK;
        // A run of set bits may be several regions, and a region never reaches over a gap.
        let is_run = (chunk..chunk + chunks).all(|chunk| format.is_changed(chunk));
        if !region.len().is_multiple_of(CHUNK) || region.is_empty() || !is_run {
            return None;
        }
        let from = chunk * CHUNK;
        block.get_mut(from..from + region.len())?.copy_from_slice(region);
        chunk += chunks;
    }
    Some(())
}

/// Says whether a block was written after the transaction at `lsn`; blocks that do not say are not.
///
/// # Source
/// fs/xfs/xfs_buf_item_recover.c.
fn is_newer(block: &[u8], uuid: &[u8; 16], lsn: u64) -> bool {
    let Some((lsn_at, uuid_at)) = places(block).map(|(_, lsn_at, uuid_at)| (lsn_at, uuid_at)) else {
        return false;
    };
    let written = be_u64(block, lsn_at).unwrap_or(0);
    field(block, uuid_at) == Some(*uuid) && written != 0 && written != u64::MAX && written >= lsn
}

/// Where checksum, place in the log and id are, as the magic tells; `None` for others.
fn places(block: &[u8]) -> Option<(usize, usize, usize)> {
    let magic = field::<4>(block, 0)?;
    Some(match &magic {
        b"XDB3" | b"XDD3" | b"XDF3" => (4, 16, 24),
        b"BMA3" => (64, 32, 40),
        b"AB3B" | b"AB3C" | b"IAB3" | b"FIB3" | b"RMB3" | b"R3FC" => (52, 24, 32),
        b"XSLM" => (12, 48, 16),
        _ if matches!(be_u16(block, 8)?, 0x3df1 | 0x3dff | 0x3ebe | 0x3bee) && be_u32(block, 4).is_some() => {
            (12, 24, 32)
        }
        _ => return None,
    })
}

/// Gives a block the checksums that fit it: its own, or those of the inodes in it.
fn seal_block(block: &mut [u8], inode_log: u32) {
    if let Some((crc_at, _, _)) = places(block) {
        seal(block, crc_at);
    } else if block.starts_with(b"IN") {
        block
            .chunks_exact_mut(1 << inode_log)
            .for_each(|inode| seal(inode, 100));
    }
}
