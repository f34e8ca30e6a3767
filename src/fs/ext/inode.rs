//! Inodes: what one says of its file, with its checksum checked.

use super::disk::{Disk, corrupt};
use super::features::RoCompat;
use super::group::inode_at;
use crate::bytes::{le_u16, le_u32, to_usize};
use crate::checksum::crc32c;
use crate::fs::{Attr, DeviceNumber, Error, FileType, Inode, Result, Timestamp};

/// Length of the part that every inode has.
pub(super) const GOOD_OLD_SIZE: usize = 128;
/// Place and length of `i_block`: block map, extent tree, inline data, target or device number.
pub(super) const I_BLOCK: std::ops::Range<usize> = 0x28..0x64;
/// The root directory.
pub(super) const ROOT: u64 = 2;

/// `EXT4_ENCRYPT_FL`: names or content are encrypted.
pub(super) const ENCRYPT_FL: u32 = 0x800;
/// `EXT4_INDEX_FL`: the directory has a tree of hashes.
pub(super) const INDEX_FL: u32 = 0x1000;
/// `EXT4_HUGE_FILE_FL`: `i_blocks` counts blocks, not sectors.
const HUGE_FILE_FL: u32 = 0x4_0000;
/// `EXT4_EXTENTS_FL`: `i_block` holds an extent tree.
pub(super) const EXTENTS_FL: u32 = 0x8_0000;
/// `EXT4_EA_INODE_FL`: the content is the value of an extended attribute.
pub(super) const EA_INODE_FL: u32 = 0x20_0000;
/// `EXT4_INLINE_DATA_FL`: the content is in the inode.
pub(super) const INLINE_DATA_FL: u32 = 0x1000_0000;
/// `EXT4_CASEFOLD_FL`: names in the directory are compared without case.
pub(super) const CASEFOLD_FL: u32 = 0x4000_0000;

/// An inode as the table has it.
///
/// # Source
/// Linux Documentation/filesystems/ext4/inodes.rst, `struct ext4_inode`.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its number.
    pub(super) number: u64,
    /// Byte of the volume at which it begins.
    pub(super) at: u64,
    /// Its bytes, `s_inode_size` of them.
    pub(super) raw: Vec<u8>,
    /// `i_mode`.
    pub(super) mode: u16,
    /// Type of the file.
    pub(super) file_type: FileType,
    /// `i_flags`.
    pub(super) flags: u32,
    /// `i_size`, below 2^63.
    pub(super) size: u64,
    /// Where the checksums of what belongs to the file begin.
    pub(super) csum_seed: u32,
    /// Bytes of fields behind the first 128.
    extra: usize,
}

impl Node {
    /// Reads an inode, with one read of its size.
    ///
    /// # Errors
    /// `NoInode` for numbers out of range and for free inodes; `Corrupt`.
    pub(super) fn load(disk: &Disk, number: u64) -> Result<Self> {
        if number == 0 || number > disk.sb.inodes_count {
            return Err(Error::NoInode { inode: Inode(number) });
        }
        let at = inode_at(disk, number)?;
        if let Some(raw) = disk.fast.inode(number) {
            return Self::decode(disk, number, at, raw.clone());
        }
        let mut raw = vec![0; to_usize(disk.sb.inode_size)];
        disk.read(at, &mut raw)?;
        Self::decode(disk, number, at, raw)
    }

    fn decode(disk: &Disk, number: u64, at: u64, raw: Vec<u8>) -> Result<Self> {
        let bad = |what: &str| corrupt(format!("inode {number} ({what})"), at);
        let mode = le_u16(&raw, 0x0).unwrap_or_default();
        let links = le_u16(&raw, 0x1a).unwrap_or_default();
        let seed = crc32c(
            disk.sb.csum_seed,
            &u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes(),
        );
        let csum_seed = crc32c(seed, raw.get(0x64..0x68).unwrap_or_default());
        let extra = extra_size(&raw).ok_or_else(|| bad("the size of its fields"))?;
        // What fast commits put together has no sum of its own; theirs was checked.
        let is_summed = disk.sb.has_metadata_csum() && disk.fast.inode(number).is_none();
        if is_summed && !sum_holds(&raw, csum_seed, extra) {
            return Err(bad("its checksum"));
        }
        if mode == 0 || links == 0 {
            return Err(Error::NoInode { inode: Inode(number) });
        }
        let file_type = FileType::from_mode(mode).ok_or_else(|| bad("its mode"))?;
        let high = le_u32(&raw, 0x6c).map_or(0, u64::from);
        // Only files and, with large_dir, directories have more than 32 bits of size; the field meant something else for others.
        let is_wide = match file_type {
            FileType::File => true,
            FileType::Directory => disk.sb.features.incompat(super::features::Incompat::LargeDir),
            _ => false,
        };
        let size = le_u32(&raw, 0x4).map_or(0, u64::from) | if is_wide { high << 32 } else { 0 };
        if i64::try_from(size).is_err() {
            return Err(bad("its size"));
        }
        Ok(Self {
            number,
            at,
            mode,
            file_type,
            flags: le_u32(&raw, 0x20).unwrap_or_default(),
            size,
            csum_seed,
            extra,
            raw,
        })
    }

    /// An error that says what of this inode is damaged.
    pub(super) fn corrupt(&self, what: &str) -> Error {
        corrupt(format!("inode {} ({what})", self.number), self.at)
    }

    /// Says whether a flag of `i_flags` is set.
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Says whether the content is in the inode itself.
    pub(super) fn has_inline_data(&self) -> bool {
        self.has(INLINE_DATA_FL)
    }

    /// The 60 bytes of `i_block`.
    pub(super) fn i_block(&self) -> &[u8] {
        self.raw.get(I_BLOCK).unwrap_or_default()
    }

    /// Bytes behind the fields, where attributes may lie; empty if there are none.
    pub(super) fn body(&self) -> &[u8] {
        // A size of zero means fields that nobody wrote: the kernel then looks for no attributes.
        if le_u16(&self.raw, GOOD_OLD_SIZE).is_none_or(|size| size == 0) {
            return &[];
        }
        self.raw
            .get(GOOD_OLD_SIZE.saturating_add(self.extra)..)
            .unwrap_or_default()
    }

    /// `i_file_acl`: the block of attributes, 0 for none.
    pub(super) fn file_acl(&self) -> u64 {
        let low = le_u32(&self.raw, 0x68).map_or(0, u64::from);
        low | le_u16(&self.raw, 0x76).map_or(0, u64::from) << 32
    }

    /// Space taken in units of 512 bytes, as the inode says.
    pub(super) fn sectors(&self, disk: &Disk) -> u64 {
        let low = le_u32(&self.raw, 0x1c).map_or(0, u64::from);
        if !disk.sb.features.ro_compat(RoCompat::HugeFile) {
            return low;
        }
        let count = low | le_u16(&self.raw, 0x74).map_or(0, u64::from) << 32;
        if self.has(HUGE_FILE_FL) {
            count.saturating_mul(disk.sb.block_size / 512)
        } else {
            count
        }
    }

    /// What stat(2) tells.
    pub(super) fn attr(&self, disk: &Disk) -> Attr {
        let id = |low, high| {
            let part = |at| le_u16(&self.raw, at).map_or(0, u32::from);
            part(low) | part(high) << 16
        };
        let mut blocks = self.sectors(disk);
        if self.has_inline_data() && self.file_type == FileType::File {
            blocks = blocks.saturating_add(self.size.div_ceil(512));
        }
        Attr {
            file_type: self.file_type,
            permissions: self.mode & 0o7777,
            uid: id(0x2, 0x78),
            gid: id(0x18, 0x7a),
            size: self.size,
            blocks,
            links: le_u16(&self.raw, 0x1a).map_or(1, u32::from),
            device: self.device(),
            accessed: self.time(0x8, 0x8c).unwrap_or_default(),
            modified: self.time(0x10, 0x88).unwrap_or_default(),
            changed: self.time(0xc, 0x84).unwrap_or_default(),
            created: self.fits(0x90).then(|| self.time(0x90, 0x94)).flatten(),
        }
    }

    /// Says whether the four bytes at `at` are inside the fields that this inode has.
    fn fits(&self, at: usize) -> bool {
        at.saturating_add(4) <= GOOD_OLD_SIZE.saturating_add(self.extra) && at.saturating_add(4) <= self.raw.len()
    }

    /// A time: signed seconds, and where there is room two more bits of seconds and thirty of nanoseconds.
    fn time(&self, seconds: usize, extra: usize) -> Option<Timestamp> {
        let seconds = i64::from(i32::from_le_bytes(le_u32(&self.raw, seconds)?.to_le_bytes()));
        let extra = if self.fits(extra) { le_u32(&self.raw, extra)? } else { 0 };
        Some(Timestamp {
            seconds: seconds.saturating_add(i64::from(extra & 3) << 32),
            nanos: (extra >> 2).min(999_999_999),
        })
    }

    /// The device, in the old encoding of 16 bits if that is there, else in the new one.
    fn device(&self) -> DeviceNumber {
        if !matches!(self.file_type, FileType::CharDevice | FileType::BlockDevice) {
            return DeviceNumber::default();
        }
        let old = le_u32(self.i_block(), 0).unwrap_or_default();
        if old != 0 {
            return DeviceNumber {
                major: (old >> 8) & 0xff,
                minor: old & 0xff,
            };
        }
        let new = le_u32(self.i_block(), 4).unwrap_or_default();
        DeviceNumber {
            major: (new & 0xf_ff00) >> 8,
            minor: (new & 0xff) | ((new >> 12) & 0xf_ff00),
        }
    }
}

/// Bytes of fields behind the first 128; `None` if that cannot be.
fn extra_size(raw: &[u8]) -> Option<usize> {
    let Some(extra) = le_u16(raw, GOOD_OLD_SIZE) else {
        return Some(0);
    };
    match usize::from(extra) {
        // Never written: all fields of today count as there, and are zero.
        0 => Some(32),
        extra if extra % 4 == 0 && GOOD_OLD_SIZE.saturating_add(extra) <= raw.len() => Some(extra),
        _ => None,
    }
}

/// Checks the sum over the inode with its two halves of the sum taken as zero.
fn sum_holds(raw: &[u8], seed: u32, extra: usize) -> bool {
    const LOW: usize = 0x7c;
    const HIGH: usize = 0x82;
    let has_high = raw.len() > GOOD_OLD_SIZE && extra >= 4;
    let part = |from, to| raw.get(from..to).unwrap_or_default();
    let mut sum = crc32c(crc32c(seed, part(0, LOW)), &[0, 0]);
    if has_high {
        sum = crc32c(crc32c(sum, part(LOW + 2, HIGH)), &[0, 0]);
        sum = crc32c(sum, part(HIGH + 2, raw.len()));
    } else {
        sum = crc32c(sum, part(LOW + 2, raw.len()));
    }
    let low = le_u16(raw, LOW).map_or(0, u32::from);
    if has_high {
        sum == (low | le_u16(raw, HIGH).map_or(0, u32::from) << 16)
    } else {
        sum & 0xffff == low
    }
}
