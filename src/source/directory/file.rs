//! A regular file of the source, open: its bytes, its holes, its flags.

use super::attributes::{Attributes, Kind};
use super::{Directory, attributes_of_open, open_at};
use crate::bytes::to_u64;
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A FIFO or a device that took the place of a file must not hold the backup up, so that nothing is waited for.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// An open regular file.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
}

impl File {
    /// Opens the regular file that was seen to have these attributes; returns those it has now.
    ///
    /// # Errors
    /// `ESTALE` if something else has that name now; otherwise as the system reports.
    pub fn open(directory: &Directory, name: &CStr, seen: &Attributes) -> io::Result<(Self, Attributes)> {
        let fd = open_at(directory.descriptor()?.as_fd(), name, FILE)?;
        let file = Self { fd };
        let attributes = file.attributes()?;
        if attributes.id != seen.id || attributes.kind != Kind::Regular {
            return Err(Errno::STALE.into());
        }
        Ok((file, attributes))
    }

    /// The attributes it has now.
    ///
    /// # Errors
    /// As the system reports.
    pub fn attributes(&self) -> io::Result<Attributes> {
        attributes_of_open(self.fd.as_fd())
    }

    /// Reads from byte `offset` until `buf` is full or the file ends; returns the number of bytes.
    ///
    /// # Errors
    /// As the system reports.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(to_u64(filled));
            match retry_on_intr(|| rustix::io::pread(&self.fd, &mut *rest, at))? {
                0 => break,
                read => filled = filled.saturating_add(read),
            }
        }
        Ok(filled)
    }

    /// The next run of bytes at or after `offset` and below `end` that is not a hole.
    ///
    /// A file system that knows no holes has one run.
    ///
    /// # Errors
    /// As the system reports.
    pub fn next_data(&self, offset: u64, end: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= end {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(offset..end)),
            Err(error) => return Err(error.into()),
        };
        if start >= end {
            return Ok(None);
        }
        let stop = match rustix::fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(stop) => stop,
            // Cut off in between.
            Err(Errno::NXIO) => end,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(start..stop.clamp(start.saturating_add(1), end)))
    }

    /// Tells the kernel that bytes up to `len` will be read in order, so that it reads further ahead.
    pub fn will_read(&self, len: u64) {
        let len = std::num::NonZero::new(len);
        // Advice; a file system that does not take it is just slower.
        let _ = rustix::fs::fadvise(&self.fd, 0, len, rustix::fs::Advice::Sequential);
    }

    /// The descriptor, for extended attributes.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Flags of a regular file or directory (`FS_IOC_GETFLAGS`), 0 where the file system has none.
#[must_use]
pub fn flags(fd: BorrowedFd<'_>) -> u32 {
    rustix::fs::ioctl_getflags(fd).map_or(0, |flags| flags.bits())
}
