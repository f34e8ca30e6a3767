//! The superblock: geometry, features, and the arithmetic from numbers to bytes of the volume.

use super::disk::{checksum_matches, corrupt};
use crate::bytes::{be_u16, be_u32, be_u64, field, to_u64};
use crate::fs::{Error, Result};

/// Most bytes that a superblock takes: the largest sector.
pub(super) const MAX_LEN: usize = 32 << 10;

/// `XFSB`.
const MAGIC: u32 = 0x5846_5342;

/// Byte offset of the checksum in the superblock.
const CRC_AT: usize = 224;

/// Fewest blocks of an allocation group.
const MIN_AG_BLOCKS: u32 = 64;

/// Bits of `sb_versionnum` that change how files are read.
mod version {
    pub(super) const NUMBER: u16 = 0x000f;
    pub(super) const DIRECTORY_2: u16 = 0x2000;
    pub(super) const ASCII_CI: u16 = 0x4000;
    pub(super) const MORE_BITS: u16 = 0x8000;
    /// Every bit that versions up to 5 have given a meaning.
    pub(super) const KNOWN: u16 = !SHARED;
    /// Read-only superblocks that were never finished; the kernel refuses them too.
    pub(super) const SHARED: u16 = 0x0200;
}

/// Bits of `sb_features2`.
mod features_2 {
    pub(super) const FTYPE: u32 = 0x200;
    /// Lazy counters, second attribute format, parent pointers (never used), 32-bit project ids, checksums, file types.
    pub(super) const KNOWN: u32 = 0x2 | 0x8 | 0x10 | 0x80 | 0x100 | FTYPE;
}

/// Bits of `sb_features_incompat`, lowest first: its name, and whether this reader understands it.
const INCOMPAT: [(&str, bool); 11] = [
    ("ftype", true),
    ("sparse inodes", true),
    ("meta_uuid", true),
    ("bigtime", true),
    ("needsrepair", true),
    ("nrext64", true),
    ("exchange-range", true),
    ("parent pointers", true),
    ("metadata directories", true),
    ("zoned", false),
    ("zone gaps", false),
];

const INCOMPAT_FTYPE: u32 = 1 << 0;
const INCOMPAT_META_UUID: u32 = 1 << 2;
const INCOMPAT_NEEDS_REPAIR: u32 = 1 << 4;

/// What the superblock says, checked so that all arithmetic on it holds.
///
/// # Source
/// XFS Algorithms & Data Structures, "Superblocks"; fs/xfs/libxfs/xfs_format.h, `struct xfs_dsb`.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// Binary logarithm of the block size: 9 to 16.
    pub(super) block_log: u32,
    /// Binary logarithm of the size of a directory's blocks: `block_log` to 16.
    pub(super) directory_log: u32,
    /// Binary logarithm of the size of an inode: 8 to 11, at most `block_log`.
    pub(super) inode_log: u32,
    /// Bits that hold a block's number within its allocation group.
    pub(super) ag_block_log: u32,
    /// Blocks of an allocation group; the last may have fewer.
    pub(super) ag_blocks: u32,
    /// Number of allocation groups.
    pub(super) ag_count: u32,
    /// Blocks of the data device.
    pub(super) blocks: u64,
    /// The root directory.
    pub(super) root: u64,
    /// First block of the log as a file system block; 0 if it lies on another device.
    pub(super) log_start: u64,
    /// Blocks of the log.
    pub(super) log_blocks: u32,
    /// Version 5: metadata has checksums and says where it lies and whose it is.
    pub(super) checksums: bool,
    /// Directory entries have the type of their file.
    pub(super) file_types: bool,
    /// Directories ignore case in ASCII.
    pub(super) ascii_ci: bool,
    /// Features of the log that must be known to replay it.
    pub(super) log_incompat: u32,
    /// The mark "needs repair" is set: the kernel would not mount it.
    pub(super) needs_repair: bool,
    /// The id that metadata carries.
    pub(super) meta_uuid: [u8; 16],
    /// The id of the file system, which the log carries.
    pub(super) uuid: [u8; 16],
    /// Blocks of the data device that are free.
    pub(super) free: u64,
    /// Inodes in use.
    pub(super) files: u64,
}

impl Superblock {
    /// Parses the first bytes of a volume: at least the sector that the superblock fills.
    ///
    /// # Errors
    /// `Corrupt` if this is no sound superblock, `Unsupported` with the name of a feature that is not known.
    pub(super) fn parse(raw: &[u8]) -> Result<Self> {
        let damaged = |what: &str| corrupt(format!("the XFS superblock ({what})"), 0);
        let fields = Fields::parse(raw).ok_or_else(|| damaged("it is cut off"))?;
        if fields.magic != MAGIC {
            return Err(damaged("it has no magic"));
        }
        let incompat = fields.check_version()?;
        let checksums = fields.version & version::NUMBER == 5;
        let sector = raw.get(..usize::from(fields.sector_size)).unwrap_or_default();
        if checksums && !checksum_matches(sector, CRC_AT) {
            return Err(damaged("its checksum does not match"));
        }
        fields.check_geometry().map_err(damaged)?;
        let more_bits = fields.version & version::MORE_BITS != 0;
        Ok(Self {
            block_log: fields.block_log,
            directory_log: fields.block_log + fields.directory_block_log,
            inode_log: fields.inode_log,
            ag_block_log: fields.ag_block_log,
            ag_blocks: fields.ag_blocks,
            ag_count: fields.ag_count,
            blocks: fields.blocks,
            root: fields.root,
            log_start: fields.log_start,
            log_blocks: fields.log_blocks,
            checksums,
            file_types: incompat & INCOMPAT_FTYPE != 0 || more_bits && fields.features_2 & features_2::FTYPE != 0,
            ascii_ci: fields.version & version::ASCII_CI != 0,
            log_incompat: fields.log_incompat,
            needs_repair: incompat & INCOMPAT_NEEDS_REPAIR != 0,
            meta_uuid: if incompat & INCOMPAT_META_UUID != 0 {
                fields.meta_uuid
            } else {
                fields.uuid
            },
            uuid: fields.uuid,
            free: fields.free,
            files: fields.inodes.saturating_sub(fields.free_inodes),
        })
    }

    /// Bytes of a block.
    pub(super) fn block_size(&self) -> usize {
        1 << self.block_log
    }

    /// Bytes of a directory's block.
    pub(super) fn directory_size(&self) -> usize {
        1 << self.directory_log
    }

    /// Byte of the volume at which a block begins; `None` if no group has such a block.
    ///
    /// Numbers of blocks have gaps: the upper bits are the group, the lower ones the block in it.
    pub(super) fn block_offset(&self, block: u64) -> Option<u64> {
        let (ag, in_ag) = (block >> self.ag_block_log, block & mask(self.ag_block_log));
        let linear = self.linear(ag, in_ag)?;
        linear.checked_shl(self.block_log)
    }

    /// Byte of the volume of an inode; `None` if the number lies outside every group.
    pub(super) fn inode_offset(&self, number: u64) -> Option<u64> {
        let per_block_log = self.block_log - self.inode_log;
        let slot = number & mask(per_block_log);
        let block = number >> per_block_log;
        let (ag, in_ag) = (block >> self.ag_block_log, block & mask(self.ag_block_log));
        let linear = self.linear(ag, in_ag)?;
        (linear << self.block_log).checked_add(slot << self.inode_log)
    }

    /// Says whether `len` blocks from `block` on lie inside one group of the data device.
    pub(super) fn holds(&self, block: u64, len: u64) -> bool {
        let (ag, in_ag) = (block >> self.ag_block_log, block & mask(self.ag_block_log));
        let last = in_ag.saturating_add(len.saturating_sub(1));
        self.linear(ag, in_ag).is_some() && self.linear(ag, last).is_some()
    }

    fn linear(&self, ag: u64, in_ag: u64) -> Option<u64> {
        let inside = ag < u64::from(self.ag_count) && in_ag < u64::from(self.ag_blocks);
        let linear = inside.then(|| ag * u64::from(self.ag_blocks) + in_ag)?;
        (linear < self.blocks).then_some(linear)
    }
}

/// A number whose lowest `bits` bits are set; `bits` is below 64.
fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The fields as they stand on the volume.
struct Fields {
    magic: u32,
    block_size: u32,
    blocks: u64,
    uuid: [u8; 16],
    log_start: u64,
    root: u64,
    ag_blocks: u32,
    ag_count: u32,
    log_blocks: u32,
    version: u16,
    sector_size: u16,
    inode_size: u16,
    block_log: u32,
    sector_log: u32,
    inode_log: u32,
    inodes_per_block_log: u32,
    ag_block_log: u32,
    in_progress: u8,
    inodes: u64,
    free_inodes: u64,
    free: u64,
    directory_block_log: u32,
    features_2: u32,
    incompat: u32,
    log_incompat: u32,
    meta_uuid: [u8; 16],
}

impl Fields {
    fn parse(raw: &[u8]) -> Option<Self> {
        let byte = |at: usize| raw.get(at).copied();
        let log = |at: usize| byte(at).map(u32::from);
        Some(Self {
            magic: be_u32(raw, 0)?,
            block_size: be_u32(raw, 4)?,
            blocks: be_u64(raw, 8)?,
            uuid: field(raw, 32)?,
            log_start: be_u64(raw, 48)?,
            root: be_u64(raw, 56)?,
            ag_blocks: be_u32(raw, 84)?,
            ag_count: be_u32(raw, 88)?,
            log_blocks: be_u32(raw, 96)?,
            version: be_u16(raw, 100)?,
            sector_size: be_u16(raw, 102)?,
            inode_size: be_u16(raw, 104)?,
            block_log: log(120)?,
            sector_log: log(121)?,
            inode_log: log(122)?,
            inodes_per_block_log: log(123)?,
            ag_block_log: log(124)?,
            in_progress: byte(126)?,
            inodes: be_u64(raw, 128)?,
            free_inodes: be_u64(raw, 136)?,
            free: be_u64(raw, 144)?,
            directory_block_log: log(192)?,
            // Old 64-bit kernels put it four bytes further on; the kernel takes both together.
            features_2: be_u32(raw, 200)? | be_u32(raw, 204)?,
            incompat: be_u32(raw, 216)?,
            log_incompat: be_u32(raw, 220)?,
            meta_uuid: field(raw, 248)?,
        })
    }

    /// Gives the incompatible features, all of which are understood; none before version 5.
    fn check_version(&self) -> Result<u32> {
        let unsupported = |feature: String| Err(Error::Unsupported { feature });
        match self.version & version::NUMBER {
            4 if self.version & version::DIRECTORY_2 == 0 => {
                unsupported("XFS with directories of version 1".to_owned())
            }
            4 if self.version & !version::KNOWN != 0 => unsupported(format!(
                "XFS with unknown version bits {:#x}",
                self.version & !version::KNOWN
            )),
            4 if self.version & version::MORE_BITS != 0 && self.features_2 & !features_2::KNOWN != 0 => {
                let unknown = self.features_2 & !features_2::KNOWN;
                unsupported(format!("XFS with unknown features {unknown:#x}"))
            }
            4 => Ok(0),
            5 => match (0..32).find(|bit| self.incompat >> bit & 1 != 0 && !understood(*bit)) {
                Some(bit) => unsupported(format!("XFS with the incompatible feature {}", feature_name(bit))),
                None => Ok(self.incompat),
            },
            number => unsupported(format!("XFS version {number}")),
        }
    }

    /// Holds the numbers to what mkfs can make, as the kernel does at mount.
    fn check_geometry(&self) -> Result<(), &'static str> {
        let power = |log: u32, size: u64| 1_u64.checked_shl(log).is_some_and(|power| power == size);
        let sizes = (9..=16).contains(&self.block_log)
            && power(self.block_log, u64::from(self.block_size))
            && (9..=15).contains(&self.sector_log)
            && power(self.sector_log, u64::from(self.sector_size))
            && (8..=11).contains(&self.inode_log)
            && power(self.inode_log, u64::from(self.inode_size))
            && self.block_log.checked_sub(self.inode_log) == Some(self.inodes_per_block_log)
            && self.directory_block_log <= 16 - self.block_log;
        if !sizes {
            return Err("its sizes contradict each other");
        }
        // What the lowest bits of a number mean follows from `ag_block_log`: it must be just large enough.
        let ag_bits = 64 - to_u64_bits(self.ag_blocks.saturating_sub(1));
        let groups = u64::from(self.ag_count).saturating_mul(u64::from(self.ag_blocks));
        let before_last = u64::from(self.ag_count.saturating_sub(1)).saturating_mul(u64::from(self.ag_blocks));
        if self.ag_blocks < MIN_AG_BLOCKS
            || self.ag_count == 0
            || self.ag_block_log != ag_bits
            || self.ag_block_log > 31
        {
            return Err("its allocation groups have an impossible size");
        }
        if self.blocks < before_last.saturating_add(u64::from(MIN_AG_BLOCKS))
            || self.blocks > groups
            || self.blocks > u64::MAX >> self.block_log
        {
            return Err("its allocation groups do not add up to its blocks");
        }
        if self.in_progress != 0 {
            return Err("the file system was never finished");
        }
        Ok(())
    }
}

/// Number of zero bits above the highest set bit of a number of 32 bits, seen as one of 64.
fn to_u64_bits(value: u32) -> u32 {
    u64::from(value).leading_zeros()
}

fn known(bit: u32) -> Option<&'static (&'static str, bool)> {
    INCOMPAT
        .iter()
        .zip(0_u32..)
        .find_map(|(feature, index)| (index == bit).then_some(feature))
}

fn understood(bit: u32) -> bool {
    known(bit).is_some_and(|(_, understood)| *understood)
}

fn feature_name(bit: u32) -> String {
    known(bit).map_or_else(|| format!("of bit {bit}"), |(name, _)| format!("\"{name}\""))
}

/// Number of bytes to read for the superblock of a volume of `len` bytes.
pub(super) fn read_len(len: u64) -> u64 {
    len.min(to_u64(MAX_LEN))
}
