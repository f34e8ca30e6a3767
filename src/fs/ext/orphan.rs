//! Orphans: inodes that were being deleted or cut when the machine stopped. Recovery ends what was begun.

use std::collections::HashSet;

use super::disk::{Disk, corrupt};
use super::features::{Compat, RoCompat};
use super::group::inode_at;
use super::inode::{EXTENTS_FL, Node};
use super::{block_map, extent_tree, mapping};
use crate::bytes::{le_u16, le_u32, to_usize};
use crate::fs::{Error, FileType, Result};

/// Most orphans that are looked at.
const MOST: usize = 1 << 16;
/// `EXT4_ORPHAN_BLOCK_MAGIC`, at the end of each block of the orphan file.
const BLOCK_MAGIC: u32 = 0x0b10_ca04;
/// Largest orphan file that the kernel accepts.
const FILE_MAX: u64 = 8 << 20;

/// Inodes that still have names and that recovery would cut to their size.
///
/// # Source
/// Linux Documentation/filesystems/ext4/orphan.rst.
///
/// # Errors
/// `Image`; a list that is damaged ends there, as it does for the kernel.
pub(super) fn list(disk: &Disk) -> Result<HashSet<u64>> {
    let mut found = HashSet::new();
    // After errors the kernel clears the list and leaves the inodes alone.
    if disk.sb.has_errors {
        return Ok(found);
    }
    let mut numbers = Vec::new();
    if disk.sb.features.compat(Compat::OrphanFile) && disk.sb.features.ro_compat(RoCompat::OrphanPresent) {
        keep_sound(in_file(disk, &mut numbers))?;
    }
    keep_sound(in_chain(disk, &mut numbers))?;
    for number in numbers {
        match Node::load(disk, number) {
            Ok(node) if matches!(node.file_type, FileType::File | FileType::Directory | FileType::Symlink) => {
                found.insert(number);
            }
            Err(Error::Image(error)) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(found)
}

/// Lets damage end a list, but not what may pass.
fn keep_sound(read: Result<()>) -> Result<()> {
    match read {
        Err(Error::Image(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Orphans in the list that begins in the superblock and goes on in the inodes' time of deletion.
fn in_chain(disk: &Disk, numbers: &mut Vec<u64>) -> Result<()> {
    let mut seen = HashSet::new();
    let mut next = u64::from(disk.sb.last_orphan);
    while next != 0 && next <= disk.sb.inodes_count && seen.len() < MOST && seen.insert(next) {
        let mut raw = vec![0; to_usize(disk.sb.inode_size)];
        disk.read(inode_at(disk, next)?, &mut raw)?;
        if le_u16(&raw, 0x1a).is_some_and(|links| links > 0) {
            numbers.push(next);
        }
        next = le_u32(&raw, 0x14).map_or(0, u64::from);
    }
    Ok(())
}

/// Orphans in the orphan file: blocks of inode numbers, zero where there is none.
fn in_file(disk: &Disk, numbers: &mut Vec<u64>) -> Result<()> {
    let node = Node::load(disk, u64::from(disk.sb.orphan_file_inum))?;
    let mut block = vec![0; disk.block_size()];
    let entries = disk.block_size().saturating_sub(8);
    for index in 0..node.size.min(FILE_MAX) / disk.sb.block_size {
        mapping::read(disk, &node, index.saturating_mul(disk.sb.block_size), &mut block)?;
        if le_u32(&block, entries) != Some(BLOCK_MAGIC) {
            return Err(corrupt("the orphan file", node.at));
        }
        for raw in block.get(..entries).unwrap_or_default().as_chunks::<4>().0 {
            let number = u32::from_le_bytes(*raw);
            if number != 0 && numbers.len() < MOST {
                numbers.push(u64::from(number));
            }
        }
    }
    Ok(())
}

/// Units of 512 bytes that an orphan takes once it is cut to its size; `None` where that cannot be told.
pub(super) fn sectors_when_cut(disk: &Disk, node: &Node) -> Option<u64> {
    if node.has_inline_data() || disk.sb.cluster_size != disk.sb.block_size {
        return None;
    }
    let wanted = 0..node.size.div_ceil(disk.sb.block_size);
    let mut tally = mapping::Runs::tally(wanted);
    let walked = if node.has(EXTENTS_FL) {
        extent_tree::walk(disk, node, &mut tally)
    } else {
        block_map::walk(disk, node, &mut tally)
    };
    let _: mapping::Flow = walked.ok()?;
    let blocks = tally.counted()?.saturating_add(u64::from(node.file_acl() != 0));
    let sectors = blocks.saturating_mul(disk.sb.block_size / 512);
    Some(sectors.min(node.sectors(disk)))
}
