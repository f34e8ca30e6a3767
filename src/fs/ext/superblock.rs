//! The superblock: geometry and features of the file system, checked once so that all else may rely on them.

use super::features::{Compat, Features, Incompat, RoCompat};
use crate::bytes::{field, le_u16, le_u32, to_u64};
use crate::checksum::crc32c;
use crate::fs::{Error, Result};

/// Byte of the volume at which the primary superblock begins, whatever the block size.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Length of a superblock in bytes.
pub(super) const SUPERBLOCK_LEN: usize = 1024;

/// `s_magic`.
const MAGIC: u16 = 0xef53;
/// Flag in `s_flags`: names are hashed as unsigned characters.
const FLAGS_UNSIGNED_HASH: u32 = 0x2;
/// Flag in `s_state`: unmounted. Without a journal, it is not set while the file system is in use.
const STATE_VALID: u16 = 0x1;
/// Flag in `s_state`: errors were seen, so the kernel leaves orphans alone.
const STATE_ERROR: u16 = 0x2;

/// What the superblock says, within bounds: block size 1 to 64 KiB, inode size 128 bytes to one block, no zero divisors.
///
/// # Source
/// Linux Documentation/filesystems/ext4/super.rst, `struct ext4_super_block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Inodes there are; numbers are 1 to this.
    pub(super) inodes_count: u64,
    /// Blocks there are.
    pub(super) blocks_count: u64,
    /// Blocks not in use (clusters with bigalloc), as last written.
    pub(super) free_blocks: u64,
    /// Inodes not in use, as last written.
    pub(super) free_inodes: u64,
    /// Block where group 0 begins.
    pub(super) first_data_block: u64,
    /// Block size in bytes, a power of two.
    pub(super) block_size: u64,
    /// Bytes of a unit of allocation; the block size without bigalloc.
    pub(super) cluster_size: u64,
    /// Blocks of each group but the last.
    pub(super) blocks_per_group: u64,
    /// Inodes of each group.
    pub(super) inodes_per_group: u64,
    /// First inode that is not reserved.
    pub(super) first_ino: u64,
    /// Bytes of an inode in the table.
    pub(super) inode_size: u64,
    /// Features.
    pub(super) features: Features,
    /// Inode of the journal; 0 if there is none here.
    pub(super) journal_inum: u32,
    /// First inode of the list of orphans.
    pub(super) last_orphan: u32,
    /// Inode that lists orphans.
    pub(super) orphan_file_inum: u32,
    /// Says whether it was unmounted, or has a journal for when it was not.
    pub(super) is_valid: bool,
    /// Says whether the kernel noted errors.
    pub(super) has_errors: bool,
    /// Secret of the directory hashes.
    pub(super) hash_seed: [u32; 4],
    /// Hash of directories that have no tree yet.
    pub(super) hash_version: u8,
    /// Says whether names are hashed as unsigned characters.
    pub(super) unsigned_hash: bool,
    /// Bytes of a group descriptor.
    pub(super) desc_size: u64,
    /// First descriptor block that lies in its own group.
    pub(super) first_meta_bg: u64,
    /// Groups with backups under sparse_super2.
    pub(super) backup_bgs: [u64; 2],
    /// Where the checksums of this file system begin.
    pub(super) csum_seed: u32,
    /// `s_uuid`.
    pub(super) uuid: [u8; 16],
}

fn corrupt(what: &str) -> Error {
    Error::Corrupt {
        what: format!("the superblock of ext4 ({what})"),
        at: SUPERBLOCK_AT,
    }
}

impl Superblock {
    /// Decodes and checks the bytes at [`SUPERBLOCK_AT`].
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported` for features that this reader does not know.
    pub(super) fn decode(raw: &[u8; SUPERBLOCK_LEN]) -> Result<Self> {
        let u32_at = |offset| u64::from(le_u32(raw, offset).unwrap_or_default());
        let low32 = |offset| le_u32(raw, offset).unwrap_or_default();
        let u16_at = |offset| le_u16(raw, offset).unwrap_or_default();
        if u16_at(0x38) != MAGIC {
            return Err(corrupt("no magic number"));
        }
        let features = if low32(0x4c) == 0 {
            // Revision 0 has no such fields.
            Features {
                compat: 0,
                incompat: 0,
                ro_compat: 0,
            }
        } else {
            Features {
                compat: low32(0x5c),
                incompat: low32(0x60),
                ro_compat: low32(0x64),
            }
        };
        check_sum(raw, features)?;
        features.check()?;
        let wide = features.incompat(Incompat::SixtyFourBit);
        let with_high = |low: u64, high: usize| if wide { low | u32_at(high) << 32 } else { low };
        let uuid = field::<16>(raw, 0x68).unwrap_or_default();
        let block_size = power(low32(0x18), 6).ok_or_else(|| corrupt("block size"))?;
        let cluster_size = if features.ro_compat(RoCompat::BigAlloc) {
            power(low32(0x1c), 20).ok_or_else(|| corrupt("cluster size"))?
        } else {
            block_size
        };
        let dynamic = low32(0x4c) != 0;
        let csum_seed = if features.incompat(Incompat::CsumSeed) {
            low32(0x270)
        } else {
            crc32c(!0, &uuid)
        };
        Self {
            inodes_count: u32_at(0x0),
            blocks_count: with_high(u32_at(0x4), 0x150),
            free_blocks: with_high(u32_at(0xc), 0x158),
            free_inodes: u32_at(0x10),
            first_data_block: u32_at(0x14),
            block_size,
            cluster_size: cluster_size.max(block_size),
            blocks_per_group: u32_at(0x20),
            inodes_per_group: u32_at(0x28),
            first_ino: if dynamic { u32_at(0x54) } else { 11 },
            inode_size: if dynamic { u64::from(u16_at(0x58)) } else { 128 },
            features,
            journal_inum: low32(0xe0),
            last_orphan: low32(0xe8),
            orphan_file_inum: low32(0x280),
            is_valid: u16_at(0x3a) & STATE_VALID != 0 || features.compat(Compat::HasJournal),
            has_errors: u16_at(0x3a) & STATE_ERROR != 0,
            hash_seed: [low32(0xec), low32(0xf0), low32(0xf4), low32(0xf8)],
            hash_version: raw.get(0xfc).copied().unwrap_or_default(),
            unsigned_hash: low32(0x160) & FLAGS_UNSIGNED_HASH != 0,
            desc_size: if wide { u64::from(u16_at(0xfe)) } else { 32 },
            first_meta_bg: u32_at(0x104),
            backup_bgs: [u32_at(0x24c), u32_at(0x250)],
            csum_seed,
            uuid,
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        let bits_of_a_block = self.block_size.saturating_mul(8);
        let clusters = self.block_size.saturating_mul(self.blocks_per_group) / self.cluster_size;
        let wide = self.features.incompat(Incompat::SixtyFourBit);
        let checks = [
            ("inode size", (128..=self.block_size).contains(&self.inode_size)),
            ("inode size", self.inode_size.is_power_of_two()),
            (
                "inodes per group",
                (1..=bits_of_a_block).contains(&self.inodes_per_group),
            ),
            ("blocks per group", (1..=bits_of_a_block).contains(&clusters)),
            ("first data block", self.first_data_block < self.blocks_count),
            ("block count", self.blocks_count.checked_mul(self.block_size).is_some()),
            ("descriptor size", self.desc_size.is_power_of_two()),
            ("descriptor size", !wide || (64..=1024).contains(&self.desc_size)),
            ("inode count", self.inodes_count >= 1),
            (
                "inode count",
                self.inodes_count.div_ceil(self.inodes_per_group.max(1)) <= self.groups_count(),
            ),
        ];
        match checks.iter().find(|(_, holds)| !holds) {
            Some((what, _)) => Err(corrupt(what)),
            None => Ok(self),
        }
    }

    /// Groups there are.
    pub(super) fn groups_count(&self) -> u64 {
        let blocks = self.blocks_count.saturating_sub(self.first_data_block);
        blocks.div_ceil(self.blocks_per_group.max(1))
    }

    /// Says whether structures carry CRC-32C sums.
    pub(super) fn has_metadata_csum(&self) -> bool {
        self.features.ro_compat(RoCompat::MetadataCsum)
    }

    /// Says whether a group holds a copy of the superblock, so that what else lies in it begins later.
    pub(super) fn group_has_super(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.features.compat(Compat::SparseSuper2) {
            return self.backup_bgs.contains(&group);
        }
        if group == 1 || !self.features.ro_compat(RoCompat::SparseSuper) {
            return true;
        }
        [3_u64, 5, 7].iter().any(|base| {
            std::iter::successors(Some(*base), |power| power.checked_mul(*base))
                .take(41)
                .any(|power| power == group)
        })
    }
}

/// `1024 << log`, if `log` is at most `most`.
fn power(log: u32, most: u32) -> Option<u64> {
    (log <= most).then(|| 1024_u64.checked_shl(log)).flatten()
}

/// Checks the superblock's own sum: the last four bytes, over all before them.
fn check_sum(raw: &[u8; SUPERBLOCK_LEN], features: Features) -> Result<()> {
    if !features.ro_compat(RoCompat::MetadataCsum) {
        return Ok(());
    }
    let (summed, _) = raw.split_at(SUPERBLOCK_LEN.saturating_sub(4));
    if le_u32(raw, summed.len()) == Some(crc32c(!0, summed)) {
        return Ok(());
    }
    Err(corrupt("its checksum"))
}

/// Superblock in `raw`, read from a volume of `len` bytes; says whether the file system fits there.
pub(super) fn fits(superblock: &Superblock, len: u64) -> bool {
    superblock.blocks_count.saturating_mul(superblock.block_size) <= len && to_u64(SUPERBLOCK_LEN) <= len
}
