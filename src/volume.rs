//! Finds the volumes on the disks of a backup: partitions, logical volumes, arrays, file systems on whole disks.
//!
//! Parsers are pure: bounded bytes in, a description out. What a volume holds is told by its signature; a volume that is not
//! understood is described all the same, never left out.

mod crc;
mod gpt;
mod lvm;
pub mod mapped;
mod mbr;
mod md;
pub mod parity;
mod partition;
pub mod rebuilt;
mod scan;
pub mod signature;
mod text;

use std::sync::Arc;

use crate::image::ReadAt;

/// A disk of a backup.
#[derive(Clone)]
pub struct Disk {
    /// Its name on the server: `vda`, `nvme0n1`.
    pub name: String,
    /// Its bytes.
    pub image: Arc<dyn ReadAt>,
}

/// What a signature says that a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holds {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// exFAT.
    Exfat,
    /// btrfs.
    Btrfs,
    /// NTFS.
    Ntfs,
    /// Swap space.
    Swap,
    /// LUKS: encrypted.
    Luks,
    /// A physical volume of LVM2.
    LvmMember,
    /// A member of a Linux md array.
    RaidMember,
    /// A table of partitions.
    PartitionTable,
    /// Another known signature, by its usual name (`squashfs`, `bcache`); not readable here.
    Other(&'static str),
    /// Nothing but zeros where signatures lie.
    Nothing,
    /// No signature that is known.
    Unknown,
}

impl Holds {
    /// The word of blkid(8) where there is one: `ext4` is told by the reader, here it is `ext`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ext => "ext",
            Self::Xfs => "xfs",
            Self::Fat => "vfat",
            Self::Exfat => "exfat",
            Self::Btrfs => "btrfs",
            Self::Ntfs => "ntfs",
            Self::Swap => "swap",
            Self::Luks => "crypto_LUKS",
            Self::LvmMember => "LVM2_member",
            Self::RaidMember => "linux_raid_member",
            Self::PartitionTable => "partition table",
            Self::Other(word) => word,
            Self::Nothing => "nothing",
            Self::Unknown => "unknown",
        }
    }
}

/// The first bytes of a volume, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What it says.
    pub holds: Holds,
    /// UUID as `/etc/fstab` writes it: `6f0c…` with dashes, `ABCD-1234` for FAT.
    pub uuid: Option<String>,
    /// Label of the file system.
    pub label: Option<Vec<u8>>,
}

/// A byte range that may hold a file system.
#[derive(Clone)]
pub struct Volume {
    /// Linux's name: `vda1`, `vda`, `vg0-root`, `md0`.
    pub name: String,
    /// Its bytes; `None` when parts are missing or its layout is not supported, and `problem` says so.
    pub data: Option<Arc<dyn ReadAt>>,
    /// Size in bytes; 0 where unknown.
    pub size: u64,
    /// What it holds.
    pub signature: Signature,
    /// UUID of the partition as `PARTUUID=` writes it.
    pub part_uuid: Option<String>,
    /// Name of the partition, `PARTLABEL=`.
    pub part_label: Option<String>,
    /// Other names under `/dev` that fstab may use: `/dev/mapper/vg0-root`, `/dev/vg0/root`, `/dev/md/data`.
    pub aliases: Vec<String>,
    /// Why it cannot be read, in a sentence.
    pub problem: Option<String>,
}

/// What the disks of one backup hold.
#[derive(Clone, Default)]
pub struct Discovery {
    /// Volumes with unique names, sorted by name; also those that cannot be read.
    pub volumes: Vec<Volume>,
    /// Damage and oddities that are no volume, in sentences: a bad backup table, an overlap.
    pub problems: Vec<String>,
}

/// Finds the volumes on the disks of one backup.
///
/// Reads some tens of KiB of each disk and of each volume. What cannot be read or understood is told in the result, and hides nothing else.
#[must_use]
pub fn discover(disks: &[Disk]) -> Discovery {
    scan::Scan::run(disks)
}
