//! What the target has under a name already, and whether the backup's file would be the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::Compare;
use crate::fs::{DeviceNumber, FileType, Timestamp};
use crate::tree::{Attributes, Owner};

/// A file of the target; held by descriptor, so that whatever is done to it is done to this file, whatever its name becomes.
pub(super) struct Found {
    /// Good for asking and for changing attributes, not for reading.
    handle: OwnedFd,
    pub(super) now: Now,
}

/// What stat(2) tells of a file of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) file_type: FileType,
    pub(super) mode: u16,
    pub(super) owner: Owner,
    pub(super) size_bytes: u64,
    pub(super) modified: Timestamp,
    pub(super) device: DeviceNumber,
    pub(super) links: u32,
    pub(super) identity: Identity,
    /// Immutable or append-only: it cannot be replaced, linked or changed before that is taken away.
    pub(super) locked: bool,
}

/// Device and inode number: the same for all names of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
}

/// Whether a file of the target is what the backup has, attributes aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Differs,
    /// Only its content, or the text of a link, can tell.
    Unclear,
}

impl Found {
    /// Looks at a name; a symbolic link there is looked at itself.
    pub(super) fn look(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Self>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        let now = Now::of(handle.as_fd())?;
        Ok(Some(Self { handle, now }))
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Opens a regular file or directory for reading, without leaving a trace in its times where that is allowed.
    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        let path = path_of_handle(self.handle());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::open(&path, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::open(&path, flags, Mode::empty()),
            opened => opened,
        }
    }

    /// The text of a symbolic link.
    pub(super) fn link_target(&self) -> Result<Vec<u8>, Errno> {
        Ok(rustix::fs::readlinkat(&self.handle, "", Vec::new())?.into_bytes())
    }
}

impl Now {
    pub(super) fn of(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let told = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let locks = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        Ok(Self {
            file_type: FileType::from_mode(told.stx_mode).ok_or(Errno::INVAL)?,
            mode: told.stx_mode & 0o7777,
            owner: Owner {
                uid: told.stx_uid,
                gid: told.stx_gid,
            },
            size_bytes: told.stx_size,
            modified: Timestamp {
                seconds: told.stx_mtime.tv_sec,
                nanos: told.stx_mtime.tv_nsec,
            },
            device: DeviceNumber {
                major: told.stx_rdev_major,
                minor: told.stx_rdev_minor,
            },
            links: told.stx_nlink,
            identity: Identity {
                device: (told.stx_dev_major, told.stx_dev_minor),
                inode: told.stx_ino,
            },
            locked: told.stx_attributes.intersects(locks),
        })
    }

    /// Says whether this is the file that the backup describes, as far as stat(2) can tell.
    pub(super) fn verdict(&self, wanted: &Attributes, compare: Compare) -> Verdict {
        // Other names of it, inside the target or outside, would change with it.
        if self.file_type != wanted.file_type || wanted.links < 2 && self.links > 1 {
            return Verdict::Differs;
        }
        let same = match self.file_type {
            FileType::Symlink => return Verdict::Unclear,
            FileType::File if self.size_bytes != wanted.size_bytes => false,
            FileType::File if compare == Compare::Content => return Verdict::Unclear,
            FileType::File => self.modified == wanted.modified,
            FileType::CharDevice | FileType::BlockDevice => self.device == wanted.device,
            FileType::Directory | FileType::Fifo | FileType::Socket => true,
        };
        if same { Verdict::Same } else { Verdict::Differs }
    }
}

/// A path that leads to an open file itself, also where it is a symbolic link: for calls that take no descriptor.
pub(super) fn path_of_handle(file: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Ino;

    fn now(file_type: FileType, links: u32) -> Now {
        Now {
            file_type,
            mode: 0o644,
            owner: Owner { uid: 0, gid: 0 },
            size_bytes: 5,
            modified: Timestamp { seconds: 7, nanos: 9 },
            device: DeviceNumber { major: 1, minor: 3 },
            links,
            identity: Identity {
                device: (8, 1),
                inode: 11,
            },
            locked: false,
        }
    }

    fn wanted(file_type: FileType, links: u32) -> Attributes {
        let time = Timestamp { seconds: 7, nanos: 9 };
        Attributes {
            ino: Ino(5),
            file_type,
            size_bytes: 5,
            blocks: 8,
            accessed: time,
            modified: time,
            changed: time,
            created: time,
            mode: 0o600,
            links,
            owner: Owner { uid: 1, gid: 1 },
            device: DeviceNumber { major: 1, minor: 3 },
            block_bytes: 4096,
        }
    }

    #[test]
    fn a_file_is_the_same_by_type_size_and_time_to_the_nanosecond() {
        use FileType::{BlockDevice, CharDevice, Fifo, File, Symlink};
        let by = |now: Now, wanted: &Attributes| now.verdict(wanted, Compare::Times);
        for kind in [File, CharDevice, Fifo] {
            assert_eq!(by(now(kind, 1), &wanted(kind, 1)), Verdict::Same, "{kind}");
        }
        assert_eq!(by(now(Symlink, 1), &wanted(Symlink, 1)), Verdict::Unclear);
        assert_eq!(by(now(CharDevice, 1), &wanted(BlockDevice, 1)), Verdict::Differs);
        let mut other = wanted(File, 1);
        other.modified.nanos = 8;
        assert_eq!(by(now(File, 1), &other), Verdict::Differs);
        assert_eq!(now(File, 1).verdict(&other, Compare::Content), Verdict::Unclear);
        other.size_bytes = 6;
        assert_eq!(now(File, 1).verdict(&other, Compare::Content), Verdict::Differs);
        let mut other = wanted(CharDevice, 1);
        other.device.minor = 4;
        assert_eq!(by(now(CharDevice, 1), &other), Verdict::Differs);
    }

    #[test]
    fn a_file_with_names_that_the_backup_does_not_know_is_never_the_same() {
        let kind = FileType::File;
        assert_eq!(now(kind, 2).verdict(&wanted(kind, 1), Compare::Times), Verdict::Differs);
        assert_eq!(now(kind, 1).verdict(&wanted(kind, 2), Compare::Times), Verdict::Same);
        assert_eq!(now(kind, 3).verdict(&wanted(kind, 2), Compare::Times), Verdict::Same);
    }
}
