//! An inode: its fields, its two forks, its times.

use super::disk::{Disk, checksum_matches, corrupt};
use crate::bytes::{be_u16, be_u32, be_u64, to_usize};
use crate::fs::{Attr, DeviceNumber, Error, FileType, Inode, Result, Timestamp};

/// `IN`.
const MAGIC: u16 = 0x494e;
/// Byte offset of the checksum in an inode of version 3.
const CRC_AT: usize = 100;
/// Where the forks begin: after the fields of version 2, and of version 3.
const FORKS_AT: (usize, usize) = (100, 176);

/// File on the realtime device, in `di_flags`.
const FLAG_REALTIME: u16 = 1 << 0;
/// Times of 64 bits, in `di_flags2`.
const FLAG2_BIGTIME: u64 = 1 << 3;
/// Wide counts of extents, in `di_flags2`.
const FLAG2_NREXT64: u64 = 1 << 4;

/// Seconds before 1970 at which the times of 64 bits begin.
const BIGTIME_EPOCH: i64 = 1 << 31;
const NANOS: u64 = 1_000_000_000;

/// Which of an inode's two forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fork {
    /// Content: of a file, a directory, a link.
    Data,
    /// Extended attributes.
    Attributes,
}

/// How a fork keeps what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The number of a device.
    Device,
    /// The content itself.
    Local,
    /// A list of extents.
    Extents,
    /// The root of a tree of extents.
    Btree,
}

impl Format {
    fn parse(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Device,
            1 => Self::Local,
            2 => Self::Extents,
            3 => Self::Btree,
            _ => return None,
        })
    }
}

/// An inode that was read from the volume and holds to its format.
///
/// # Source
/// XFS Algorithms & Data Structures, "On-disk Inode"; fs/xfs/libxfs/xfs_format.h, `struct xfs_dinode`.
pub(super) struct Dinode {
    /// Its number.
    pub(super) number: u64,
    /// Byte of the volume at which it lies.
    pub(super) at: u64,
    /// Type, from `di_mode`.
    pub(super) file_type: FileType,
    /// Size in bytes, below 2^63.
    pub(super) size: u64,
    format: Format,
    attribute_format: Option<Format>,
    extents: u64,
    attribute_extents: u64,
    forks_at: usize,
    attributes_at: Option<usize>,
    raw: Vec<u8>,
}

impl Dinode {
    /// Reads an inode with one read of its size.
    ///
    /// # Errors
    /// `NoInode` if the number is outside the file system or the inode is free; `Corrupt`.
    pub(super) fn read(disk: &Disk, inode: Inode) -> Result<Self> {
        let at = disk.superblock.inode_offset(inode.0).ok_or(Error::NoInode { inode })?;
        let raw = disk.read(at, 1 << disk.superblock.inode_log)?;
        Self::parse(raw, inode, at, disk)
    }

    fn parse(raw: Vec<u8>, inode: Inode, at: u64, disk: &Disk) -> Result<Self> {
        let damaged = |what: &str| corrupt(format!("inode {} ({what})", inode.0), at);
        let cut_off = || damaged("it is cut off");
        if be_u16(&raw, 0) != Some(MAGIC) {
            return Err(damaged("it has no magic"));
        }
        let version = raw.get(4).copied().ok_or_else(cut_off)?;
        match (version, disk.superblock.checksums) {
            (3, true) => Self::check_identity(&raw, inode, disk).map_err(damaged)?,
            (1 | 2, false) => {}
            _ => return Err(damaged("its version does not fit the file system")),
        }
        let mode = be_u16(&raw, 2).ok_or_else(cut_off)?;
        if mode == 0 {
            return Err(Error::NoInode { inode });
        }
        let file_type = FileType::from_mode(mode).ok_or_else(|| damaged("it has no type"))?;
        let size = be_u64(&raw, 56).ok_or_else(cut_off)?;
        if i64::try_from(size).is_err() {
            return Err(damaged("its size is negative"));
        }
        let format = raw.get(5).and_then(|format| Format::parse(*format));
        let format = format.ok_or_else(|| damaged("its data fork has no known format"))?;
        let forks_at = if version == 3 { FORKS_AT.1 } else { FORKS_AT.0 };
        let fork_offset = usize::from(raw.get(82).copied().ok_or_else(cut_off)?) * 8;
        let attributes_at = (fork_offset != 0).then(|| forks_at.saturating_add(fork_offset));
        if attributes_at.is_some_and(|at| at >= raw.len()) {
            return Err(damaged("its attribute fork lies outside it"));
        }
        let wide = version == 3 && flags_2(&raw) & FLAG2_NREXT64 != 0;
        let (extents, attribute_extents) = if wide {
            (be_u64(&raw, 24), be_u32(&raw, 76).map(u64::from))
        } else {
            (be_u32(&raw, 76).map(u64::from), be_u16(&raw, 80).map(u64::from))
        };
        let dinode = Self {
            number: inode.0,
            at,
            file_type,
            size,
            format,
            attribute_format: raw.get(83).and_then(|format| Format::parse(*format)),
            extents: extents.ok_or_else(cut_off)?,
            attribute_extents: attribute_extents.ok_or_else(cut_off)?,
            forks_at,
            attributes_at,
            raw,
        };
        if !dinode.format_fits() {
            return Err(damaged("its data fork has a format that its type cannot have"));
        }
        Ok(dinode)
    }

    /// Version 3 says who it is: a number that does not point to an inode is found out here.
    fn check_identity(raw: &[u8], inode: Inode, disk: &Disk) -> Result<(), &'static str> {
        if !checksum_matches(raw, CRC_AT) {
            return Err("its checksum does not match");
        }
        if be_u64(raw, 152) != Some(inode.0) {
            return Err("it was written for another number");
        }
        if raw.get(160..176) != Some(&disk.superblock.meta_uuid[..]) {
            return Err("it belongs to another file system");
        }
        Ok(())
    }

    fn format_fits(&self) -> bool {
        match self.file_type {
            FileType::File => matches!(self.format, Format::Extents | Format::Btree),
            FileType::Directory => self.format != Format::Device,
            FileType::Symlink => matches!(self.format, Format::Local | Format::Extents),
            _ => self.format == Format::Device,
        }
    }

    /// What stat(2) tells.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn attr(&self, block_log: u32) -> Result<Attr> {
        self.parse_attr(block_log)
            .ok_or_else(|| corrupt(format!("inode {} (a field is out of range)", self.number), self.at))
    }

    fn parse_attr(&self, block_log: u32) -> Option<Attr> {
        let raw = self.raw.as_slice();
        let version = *raw.get(4)?;
        let links = if version == 1 {
            u32::from(be_u16(raw, 6)?)
        } else {
            be_u32(raw, 16)?
        };
        let bigtime = version == 3 && flags_2(raw) & FLAG2_BIGTIME != 0;
        let time = |at| timestamp(be_u64(raw, at)?, bigtime);
        let is_device = matches!(self.file_type, FileType::CharDevice | FileType::BlockDevice);
        Some(Attr {
            file_type: self.file_type,
            permissions: be_u16(raw, 2)? & 0o7777,
            uid: be_u32(raw, 8)?,
            gid: be_u32(raw, 12)?,
            size: self.size,
            blocks: be_u64(raw, 64)?.saturating_mul(1 << (block_log - 9)),
            links: links.max(1),
            device: if is_device {
                device(be_u32(raw, self.forks_at)?)
            } else {
                DeviceNumber::default()
            },
            accessed: time(32)?,
            modified: time(40)?,
            changed: time(48)?,
            created: if version == 3 { Some(time(144)?) } else { None },
        })
    }

    /// How a fork keeps its content; `None` if there is no such fork.
    ///
    /// # Errors
    /// `Corrupt` if an attribute fork has no known format.
    pub(super) fn format(&self, fork: Fork) -> Result<Option<Format>> {
        match (fork, self.attributes_at, self.attribute_format) {
            (Fork::Data, _, _) => Ok(Some(self.format)),
            (Fork::Attributes, None, _) => Ok(None),
            (Fork::Attributes, Some(_), Some(format)) if format != Format::Device => Ok(Some(format)),
            (Fork::Attributes, Some(_), _) => Err(self.corrupt("its attribute fork has no known format")),
        }
    }

    /// The bytes of a fork inside the inode.
    pub(super) fn fork(&self, fork: Fork) -> &[u8] {
        let end = self.raw.len();
        let range = match (fork, self.attributes_at) {
            (Fork::Data, attributes_at) => self.forks_at..attributes_at.unwrap_or(end),
            (Fork::Attributes, Some(attributes_at)) => attributes_at..end,
            (Fork::Attributes, None) => end..end,
        };
        self.raw.get(range).unwrap_or_default()
    }

    /// Number of extents that a fork is said to have.
    pub(super) fn extent_count(&self, fork: Fork) -> usize {
        to_usize(match fork {
            Fork::Data => self.extents,
            Fork::Attributes => self.attribute_extents,
        })
    }

    /// Says whether the content lies on the realtime device.
    pub(super) fn is_realtime(&self) -> bool {
        be_u16(&self.raw, 90).is_some_and(|flags| flags & FLAG_REALTIME != 0)
    }

    /// An error about this inode.
    pub(super) fn corrupt(&self, what: &str) -> Error {
        corrupt(format!("inode {} ({what})", self.number), self.at)
    }

    /// Refuses an operation for another type.
    ///
    /// # Errors
    /// `WrongType`.
    pub(super) fn expect_type(&self, wanted: FileType) -> Result<()> {
        if self.file_type == wanted {
            return Ok(());
        }
        let inode = Inode(self.number);
        Err(Error::WrongType { inode, wanted })
    }
}

fn flags_2(raw: &[u8]) -> u64 {
    be_u64(raw, 120).unwrap_or(0)
}

/// A time: seconds and nanoseconds of 32 bits each, or one count of nanoseconds since 1901.
///
/// The kernel takes nanoseconds that are no fraction of a second as they are; here they are cut, so that a time is a time.
fn timestamp(value: u64, bigtime: bool) -> Option<Timestamp> {
    if bigtime {
        let seconds = i64::try_from(value / NANOS).ok()?.checked_sub(BIGTIME_EPOCH)?;
        let nanos = u32::try_from(value % NANOS).ok()?;
        return Some(Timestamp { seconds, nanos });
    }
    let seconds = i32::from_be_bytes(crate::bytes::field(&value.to_be_bytes(), 0)?);
    let nanos = u32::try_from(value & 0xffff_ffff).ok()?;
    Some(Timestamp {
        seconds: i64::from(seconds),
        nanos: nanos.min(999_999_999),
    })
}

/// The encoding of System V: 14 bits of major number above 18 bits of minor number.
fn device(value: u32) -> DeviceNumber {
    DeviceNumber {
        major: value >> 18 & 0x3fff,
        minor: value & 0x3_ffff,
    }
}
