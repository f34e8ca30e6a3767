//! Block groups: where a group's inode table lies. Descriptors are read a block at a time, when first needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Disk, corrupt};
use super::features::{Incompat, RoCompat};
use super::superblock::{SUPERBLOCK_AT, Superblock};
use crate::bytes::{le_u16, le_u32, to_u64, to_usize};
use crate::checksum::crc32c;
use crate::fs::Result;

/// Most descriptor blocks kept; with 4 KiB blocks that is 8 TiB of file system.
const MOST_KEPT: usize = 1024;
/// Most damaged groups that are remembered for the notes.
const MOST_DAMAGED: usize = 1000;

/// Where the inode table of each group of one descriptor block begins.
type Tables = Arc<[u64]>;

/// Descriptors met so far.
#[derive(Default)]
pub(super) struct Groups {
    known: Mutex<BTreeMap<u64, Tables>>,
    damaged: Mutex<BTreeSet<u64>>,
}

impl Groups {
    /// Number of descriptors met whose checksum is wrong.
    pub(super) fn damaged(&self) -> usize {
        self.damaged.lock().len()
    }
}

impl Disk {
    /// Block at which the inode table of a group begins.
    ///
    /// A descriptor with a wrong checksum is noted and used: each inode has a sum of its own that tells whether the place was right.
    ///
    /// # Errors
    /// `Corrupt` if the descriptor cannot lie or point where it does.
    pub(super) fn inode_table(&self, group: u64) -> Result<u64> {
        let per_block = (self.sb.block_size / self.sb.desc_size).max(1);
        let (number, index) = (group / per_block, to_usize(group % per_block));
        let known = self.groups.known.lock().get(&number).cloned();
        let tables = match known {
            Some(tables) => tables,
            None => self.load_tables(number, per_block)?,
        };
        let table = tables.get(index).copied().unwrap_or_default();
        let blocks = self
            .sb
            .inodes_per_group
            .saturating_mul(self.sb.inode_size)
            .div_ceil(self.sb.block_size);
        if table == 0 || table.saturating_add(blocks) > self.sb.blocks_count {
            let what = format!("the inode table of block group {group}");
            return Err(corrupt(
                what,
                descriptor_block(&self.sb, number).saturating_mul(self.sb.block_size),
            ));
        }
        Ok(table)
    }

    fn load_tables(&self, number: u64, per_block: u64) -> Result<Tables> {
        let block = self.block(descriptor_block(&self.sb, number))?;
        let first = number.saturating_mul(per_block);
        let wide = self.sb.desc_size >= 64;
        let mut tables = Vec::new();
        for (raw, index) in block.chunks_exact(to_usize(self.sb.desc_size)).zip(0_u64..) {
            let group = first.saturating_add(index);
            if group >= self.sb.groups_count() {
                break;
            }
            let low = le_u32(raw, 0x8).map_or(0, u64::from);
            let high = if wide {
                le_u32(raw, 0x28).map_or(0, u64::from)
            } else {
                0
            };
            tables.push(low | high << 32);
            if !sum_holds(&self.sb, group, raw) {
                let mut damaged = self.groups.damaged.lock();
                if damaged.len() < MOST_DAMAGED {
                    damaged.insert(group);
                }
            }
        }
        let tables: Tables = tables.into();
        let mut known = self.groups.known.lock();
        if known.len() >= MOST_KEPT {
            known.clear();
        }
        known.insert(number, Arc::clone(&tables));
        Ok(tables)
    }
}

/// Block of the volume that holds the descriptor block of this number.
///
/// # Source
/// Linux Documentation/filesystems/ext4/blockgroup.rst, "Meta Block Groups".
fn descriptor_block(sb: &Superblock, number: u64) -> u64 {
    if !sb.features.incompat(Incompat::MetaBg) || number < sb.first_meta_bg {
        return (SUPERBLOCK_AT / sb.block_size).saturating_add(1).saturating_add(number);
    }
    let group = number.saturating_mul((sb.block_size / sb.desc_size).max(1));
    let first = group
        .saturating_mul(sb.blocks_per_group)
        .saturating_add(sb.first_data_block);
    let behind_boot_block = sb.block_size == 1024 && number == 0 && sb.first_data_block == 0;
    first
        .saturating_add(u64::from(sb.group_has_super(group)))
        .saturating_add(u64::from(behind_boot_block))
}

/// Checks `bg_checksum`, by whichever sum the features ask for.
///
/// # Source
/// Linux Documentation/filesystems/ext4/group_descr.rst, `struct ext4_group_desc`.
fn sum_holds(sb: &Superblock, group: u64, raw: &[u8]) -> bool {
    const CHECKSUM_AT: usize = 0x1e;
    let (Some(before), Some(after), Some(found)) = (
        raw.get(..CHECKSUM_AT),
        raw.get(CHECKSUM_AT.saturating_add(2)..),
        le_u16(raw, CHECKSUM_AT),
    ) else {
        return false;
    };
    let number = u32::try_from(group).unwrap_or(u32::MAX).to_le_bytes();
    if sb.has_metadata_csum() {
        let sum = crc32c(crc32c(sb.csum_seed, &number), before);
        let [low, high, ..] = crc32c(crc32c(sum, &[0, 0]), after).to_le_bytes();
        return found == u16::from_le_bytes([low, high]);
    }
    if sb.features.ro_compat(RoCompat::GdtCsum) {
        let sum = crc16(crc16(crc16(!0, &sb.uuid), &number), before);
        return found == crc16(sum, after);
    }
    true
}

/// Goes on with the CRC-16 of polynomial 0x8005, bits reversed, as the kernel's `crc16()`.
fn crc16(seed: u16, data: &[u8]) -> u16 {
    data.iter().fold(seed, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xa001 } else { sum >> 1 }
        })
    })
}

/// Byte of the volume at which the inode of a number begins.
///
/// # Errors
/// As [`Disk::inode_table`].
pub(super) fn inode_at(disk: &Disk, number: u64) -> Result<u64> {
    let index = number.saturating_sub(1);
    let table = disk.inode_table(index / disk.sb.inodes_per_group)?;
    let into = (index % disk.sb.inodes_per_group).saturating_mul(disk.sb.inode_size);
    let at = disk.byte_of(table).saturating_add(into);
    let end = at.saturating_add(disk.sb.inode_size);
    if end > disk.volume().len() || to_u64(disk.block_size()) == 0 {
        return Err(corrupt(format!("the place of inode {number}"), at));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_is_the_one_of_the_catalogues() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
