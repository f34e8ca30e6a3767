//! What `statx(2)` tells of a file.

use rustix::fs::{FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

/// Which file it is, for as long as it is there: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Number of the device: major and minor number, four bytes each.
    pub device: u64,
    /// Inode number on the device.
    pub inode: u64,
}

/// A time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// The kinds of files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, a socket or a device: nothing but attributes.
    Special,
}

/// Attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Which file it is.
    pub id: FileId,
    /// What kind of file.
    pub kind: Kind,
    /// `st_mode`: type and permissions.
    pub mode: u32,
    /// Number of names.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Major and minor number of a device.
    pub represents: (u32, u32),
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of anything.
    pub changed: Time,
    /// Birth, where the file system keeps it.
    pub born: Option<Time>,
}

impl Attributes {
    /// Takes what the kernel gave.
    pub(super) fn from_statx(found: &Statx) -> Result<Self, Errno> {
        if found.stx_mask & StatxFlags::BASIC_STATS.bits() != StatxFlags::BASIC_STATS.bits() {
            // A file system that does not even tell type and size.
            return Err(Errno::NODATA);
        }
        let mode = u32::from(found.stx_mode);
        let kind = match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Special,
        };
        let born = (found.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(&found.stx_btime));
        Ok(Self {
            id: FileId {
                device: (u64::from(found.stx_dev_major) << 32) | u64::from(found.stx_dev_minor),
                inode: found.stx_ino,
            },
            kind,
            mode,
            links: found.stx_nlink,
            uid: found.stx_uid,
            gid: found.stx_gid,
            size_bytes: found.stx_size,
            blocks: found.stx_blocks,
            represents: (found.stx_rdev_major, found.stx_rdev_minor),
            accessed: time(&found.stx_atime),
            modified: time(&found.stx_mtime),
            changed: time(&found.stx_ctime),
            born,
        })
    }

    /// Says whether the content may have changed between these attributes and later ones.
    #[must_use]
    pub fn content_differs(&self, later: &Self) -> bool {
        let content = |of: &Self| (of.size_bytes, of.modified, of.changed);
        content(self) != content(later)
    }
}

fn time(found: &StatxTimestamp) -> Time {
    Time {
        seconds: found.tv_sec,
        nanoseconds: found.tv_nsec.min(999_999_999),
    }
}
