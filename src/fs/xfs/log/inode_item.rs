//! Changes of inodes in the log: their fields in the byte order of the machine, their forks as on the volume.

use super::replay::{Cancelled, Target};
use super::transaction::Item;
use super::{Step, Stop};
use crate::bytes::{be_u16, be_u32, be_u64, le_u16, le_u32, le_u64, to_u64, to_usize};
use crate::fs::xfs::disk::seal;
use crate::fs::xfs::overlay::SECTOR;

/// `IN`.
const MAGIC: u16 = 0x494e;
/// The version that has checksums, where its own lies, and where its forks begin.
const VERSION: u8 = 3;
const CRC_AT: usize = 100;
const FORKS_AT: usize = 176;
/// Bytes of the format: as 64-bit machines write it; 32-bit ones leave out the padding before the number.
const FORMAT: (usize, usize) = (56, 52);
/// Parts that were logged: `XFS_ILOG_*`.
const DATA_LOCAL_OR_EXTENTS: u32 = 0x002 | 0x004;
const DATA_ROOT: u32 = 0x008;
const DEVICE: u32 = 0x010;
const ATTRIBUTE_LOCAL_OR_EXTENTS: u32 = 0x040 | 0x080;
const ATTRIBUTE_ROOT: u32 = 0x100;
const OWNER_CHANGE: u32 = 0x200 | 0x400;

/// Fields of an inode: offset, and the length that is turned round. Checksum, pointer of unlinked inodes and place in the log
/// are not taken over.
///
/// # Source
/// fs/xfs/libxfs/xfs_log_format.h, `struct xfs_log_dinode`; fs/xfs/xfs_inode_item_recover.c.
const FIELDS: [(usize, usize); 22] = [
    (0, 2),
    (2, 2),
    (4, 1),
    (5, 1),
    (8, 4),
    (12, 4),
    (16, 4),
    (20, 2),
    (22, 2),
    (56, 8),
    (64, 8),
    (72, 4),
    (76, 4),
    (80, 2),
    (82, 1),
    (83, 1),
    (90, 2),
    (92, 4),
    (104, 8),
    (120, 8),
    (128, 4),
    (152, 8),
];
const TIMES: [usize; 4] = [32, 40, 48, 144];

/// What an inode's change says of itself.
struct Format {
    size: u16,
    fields: u32,
    number: u64,
    device: u32,
    /// Sector, number of sectors of the buffer, offset in it.
    buffer: (u64, u64),
    offset: u64,
}

impl Format {
    fn parse(format: &[u8]) -> Option<Self> {
        // What follows the number is at the same distance from it in both.
        let number_at = match format.len() {
            len if len == FORMAT.0 => 16,
            len if len == FORMAT.1 => 12,
            _ => return None,
        };
        Some(Self {
            size: le_u16(format, 2)?,
            fields: le_u32(format, 4)?,
            number: le_u64(format, number_at)?,
            device: le_u32(format, number_at + 8)?,
            buffer: (
                le_u64(format, number_at + 24)?,
                u64::from(le_u32(format, number_at + 32)?),
            ),
            offset: u64::from(le_u32(format, number_at + 36)?),
        })
    }
}

/// Replays a change of an inode, unless it is newer or its blocks were freed later.
///
/// # Errors
/// `Odd` if the item is damaged, or changes the owner of a tree.
pub(super) fn replay(target: &mut Target<'_>, cancelled: &Cancelled, item: &Item, lsn: u64) -> Step<()> {
    let odd = || Stop::Odd("a change of an inode is damaged");
    let format = item.region(0).and_then(Format::parse).ok_or_else(odd)?;
    if cancelled.has(format.buffer) {
        return Ok(());
    }
    if format.fields & OWNER_CHANGE != 0 {
        return Err(Stop::Odd("two files exchanged their blocks"));
    }
    let at = target.disk.superblock.inode_offset(format.number).ok_or_else(odd)?;
    let told = format
        .buffer
        .0
        .checked_mul(to_u64(SECTOR))
        .and_then(|at| at.checked_add(format.offset));
    if told != Some(at) {
        return Err(odd());
    }
    let len = 1_usize << target.disk.superblock.inode_log;
    let (sector, skip) = (at / to_u64(SECTOR), to_usize(at % to_u64(SECTOR)));
    let mut sectors = target.read(sector, to_u64(len.div_ceil(SECTOR)))?;
    let inode = sectors.get_mut(skip..skip.saturating_add(len)).ok_or_else(odd)?;
    let core = item.region(1).ok_or_else(odd)?;
    if be_u16(inode, 0) != Some(MAGIC) || le_u16(core, 0) != Some(MAGIC) {
        return Err(odd());
    }
    let written = be_u64(inode, 112).unwrap_or(0);
    if written != 0 && written != u64::MAX && written > lsn {
        return Ok(());
    }
    change(inode, core, lsn).ok_or_else(odd)?;
    forks(inode, item, &format).ok_or_else(odd)?;
    seal(inode, CRC_AT);
    target.write(sector, &sectors)
}

/// Takes over the fields.
fn change(inode: &mut [u8], core: &[u8], lsn: u64) -> Option<()> {
    if *core.get(4)? != VERSION || core.len() < FORKS_AT {
        return None;
    }
    let flags_2 = le_u64(core, 120)?;
    let (bigtime, wide) = (flags_2 & 1 << 3 != 0, flags_2 & 1 << 4 != 0);
    for (at, len) in FIELDS {
        turn(inode, core, at, len)?;
    }
    inode.get_mut(6..8)?.fill(0);
    for at in TIMES {
        turn_time(inode, core, at, bigtime)?;
    }
    inode.get_mut(24..32)?.fill(0);
    if wide {
        turn(inode, core, 24, 8)?;
    }
    inode.get_mut(112..120)?.copy_from_slice(&lsn.to_be_bytes());
    inode.get_mut(132..144)?.fill(0);
    inode.get_mut(160..176)?.copy_from_slice(core.get(160..176)?);
    Some(())
}

/// Copies a field, from the lowest byte first to the highest first.
fn turn(inode: &mut [u8], core: &[u8], at: usize, len: usize) -> Option<()> {
    let from = core.get(at..at.checked_add(len)?)?;
    let to = inode.get_mut(at..at.checked_add(len)?)?;
    to.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
    Some(())
}

/// Copies a time: one number, or two of half its length.
fn turn_time(inode: &mut [u8], core: &[u8], at: usize, bigtime: bool) -> Option<()> {
    if bigtime {
        return turn(inode, core, at, 8);
    }
    turn(inode, core, at, 4)?;
    turn(inode, core, at + 4, 4)
}

/// Takes over what was logged of the forks.
fn forks(inode: &mut [u8], item: &Item, format: &Format) -> Option<()> {
    let fork_offset = usize::from(*inode.get(82)?) * 8;
    let attributes_at = if fork_offset == 0 {
        inode.len()
    } else {
        FORKS_AT + fork_offset
    };
    if format.fields & DEVICE != 0 {
        inode
            .get_mut(FORKS_AT..FORKS_AT + 4)?
            .copy_from_slice(&format.device.to_be_bytes());
    }
    let mut region = 2;
    for (local_or_extents, root, range) in [
        (DATA_LOCAL_OR_EXTENTS, DATA_ROOT, FORKS_AT..attributes_at),
        (ATTRIBUTE_LOCAL_OR_EXTENTS, ATTRIBUTE_ROOT, attributes_at..inode.len()),
    ] {
        let logged = format.fields & (local_or_extents | root);
        if logged == 0 || format.size <= 2 {
            continue;
        }
        let from = item.region(region)?;
        region += 1;
        let to = inode.get_mut(range)?;
        if logged == root {
            put_root(from, to)?;
        } else {
            to.get_mut(..from.len())?.copy_from_slice(from);
        }
    }
    Some(())
}

/// Puts the root of a tree, logged as a whole block, into a fork: without most of its header, pointers moved to their place.
fn put_root(from: &[u8], to: &mut [u8]) -> Option<()> {
    let header = 72;
    let count = usize::from(be_u16(from, 6)?);
    let (room_from, room_to) = (from.len().checked_sub(header)? / 16, to.len().checked_sub(4)? / 16);
    if count > room_from || count > room_to {
        return None;
    }
    to.get_mut(..4)?.copy_from_slice(from.get(4..8)?);
    let mut copy = |to_at: usize, from_at: usize| {
        let from = from.get(from_at..from_at + count * 8)?;
        to.get_mut(to_at..to_at + count * 8)?.copy_from_slice(from);
        Some(())
    };
    copy(4, header)?;
    copy(4 + room_to * 8, header + room_from * 8)
}

/// Replays the creation of inodes: all of a chunk as new ones, that no change has touched.
///
/// # Source
/// fs/xfs/libxfs/xfs_log_format.h, `struct xfs_icreate_log`.
pub(super) fn create(target: &mut Target<'_>, cancelled: &Cancelled, item: &Item) -> Step<()> {
    let odd = || Stop::Odd("a creation of inodes is damaged");
    let format = item.region(0).ok_or_else(odd)?;
    let number = |at: usize| be_u32(format, at).map(u64::from).ok_or_else(odd);
    let (ag, block, count, size, blocks) = (number(4)?, number(8)?, number(12)?, number(16)?, number(20)?);
    let generation = be_u32(format, 24).ok_or_else(odd)?;
    let superblock = &target.disk.superblock;
    let first = (ag << superblock.ag_block_log) | block;
    let at = superblock
        .block_offset(first)
        .filter(|_| superblock.holds(first, blocks))
        .ok_or_else(odd)?;
    let fits = size == 1 << superblock.inode_log && count <= 64 && count * size == blocks << superblock.block_log;
    let inside = block < u64::from(superblock.ag_blocks);
    if !fits || !inside {
        return Err(odd());
    }
    let (sector, sectors) = (at / to_u64(SECTOR), count * size / to_u64(SECTOR));
    if cancelled.has_in(sector, sectors) {
        return Ok(());
    }
    let uuid = superblock.meta_uuid;
    let first_number = first << (superblock.block_log - superblock.inode_log);
    let mut chunk = vec![0; to_usize(count * size)];
    for (inode, index) in chunk.chunks_exact_mut(to_usize(size)).zip(0..) {
        fresh(inode, generation, first_number + index, &uuid).ok_or_else(odd)?;
    }
    target.write(sector, &chunk)
}

/// Fills a new inode.
fn fresh(inode: &mut [u8], generation: u32, number: u64, uuid: &[u8; 16]) -> Option<()> {
    inode.get_mut(..2)?.copy_from_slice(&MAGIC.to_be_bytes());
    *inode.get_mut(4)? = VERSION;
    inode.get_mut(92..96)?.copy_from_slice(&generation.to_be_bytes());
    inode.get_mut(96..100)?.fill(0xff);
    inode.get_mut(152..160)?.copy_from_slice(&number.to_be_bytes());
    inode.get_mut(160..176)?.copy_from_slice(uuid);
    seal(inode, CRC_AT);
    Some(())
}
