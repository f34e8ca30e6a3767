//! The feature flags of a superblock, by their kernel names, and which of them a reader must know.
//!
//! # Source
//! Linux Documentation/filesystems/ext4/super.rst, `s_feature_compat`, `s_feature_incompat`, `s_feature_ro_compat`.

use crate::fs::{Error, Result};

/// Feature sets of one superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    /// Features that may be ignored.
    pub(super) compat: u32,
    /// Features without which nothing can be read.
    pub(super) incompat: u32,
    /// Features without which nothing may be written.
    pub(super) ro_compat: u32,
}

/// A feature whose ignorance does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compat {
    HasJournal,
    DirIndex,
    SparseSuper2,
    OrphanFile,
}

impl Compat {
    const fn bit(self) -> u32 {
        match self {
            Self::HasJournal => 0x4,
            Self::DirIndex => 0x20,
            Self::SparseSuper2 => 0x200,
            Self::OrphanFile => 0x1000,
        }
    }
}

/// A feature that changes how the volume is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incompat {
    FileType,
    Recover,
    JournalDev,
    MetaBg,
    SixtyFourBit,
    EaInode,
    CsumSeed,
    LargeDir,
    CaseFold,
}

impl Incompat {
    const fn bit(self) -> u32 {
        match self {
            Self::FileType => 0x2,
            Self::Recover => 0x4,
            Self::JournalDev => 0x8,
            Self::MetaBg => 0x10,
            Self::SixtyFourBit => 0x80,
            Self::EaInode => 0x400,
            Self::CsumSeed => 0x2000,
            Self::LargeDir => 0x4000,
            Self::CaseFold => 0x2_0000,
        }
    }
}

/// A feature that changes what a writer must keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoCompat {
    SparseSuper,
    HugeFile,
    GdtCsum,
    BigAlloc,
    MetadataCsum,
    OrphanPresent,
}

impl RoCompat {
    const fn bit(self) -> u32 {
        match self {
            Self::SparseSuper => 0x1,
            Self::HugeFile => 0x8,
            Self::GdtCsum => 0x10,
            Self::BigAlloc => 0x200,
            Self::MetadataCsum => 0x400,
            Self::OrphanPresent => 0x1_0000,
        }
    }
}

/// Incompatible features that this reader knows: filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, csum_seed,
/// large_dir, inline_data, encrypt, casefold.
const KNOWN_INCOMPAT: u32 =
    0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000;

impl Features {
    /// Says whether a compatible feature is set.
    pub(super) fn compat(self, feature: Compat) -> bool {
        self.compat & feature.bit() != 0
    }

    /// Says whether an incompatible feature is set.
    pub(super) fn incompat(self, feature: Incompat) -> bool {
        self.incompat & feature.bit() != 0
    }

    /// Says whether a read-only compatible feature is set.
    pub(super) fn ro_compat(self, feature: RoCompat) -> bool {
        self.ro_compat & feature.bit() != 0
    }

    /// Refuses a volume that uses what this reader does not know.
    ///
    /// # Errors
    /// `Unsupported`, naming the features.
    pub(super) fn check(self) -> Result<()> {
        if self.incompat(Incompat::JournalDev) {
            return Err(Error::Unsupported {
                feature: "a journal of an ext4 file system that lies on another volume".to_owned(),
            });
        }
        let unknown = self.incompat & !KNOWN_INCOMPAT;
        if unknown == 0 {
            return Ok(());
        }
        let names: Vec<String> = (0..32)
            .map(|bit| 1_u32 << bit)
            .filter(|flag| unknown & flag != 0)
            .map(|flag| match flag {
                0x1 => "compression".to_owned(),
                0x1000 => "dirdata".to_owned(),
                other => format!("incompatible feature {other:#x}"),
            })
            .collect();
        Err(Error::Unsupported {
            feature: format!("ext4 with {}", names.join(" and ")),
        })
    }
}
