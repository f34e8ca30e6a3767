//! Extended attributes, POSIX ACLs among them, as `getxattr(2)` gives them.

use super::Directory;
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Sizes of buffers tried: the kernel makes one of the size it is asked for, most attributes are short, and none is longer than
/// the last.
const SIZES: [usize; 2] = [1 << 10, 64 << 10];

/// Whose attributes are read.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// A file or directory, open.
    Open(BorrowedFd<'a>),
    /// Anything else, by its name in an open directory.
    Named(&'a Directory, &'a CStr),
}

/// Buffers that are used again for each file.
#[derive(Debug, Default)]
pub struct Buffers {
    list: Vec<u8>,
    value: Vec<u8>,
}

/// Calls `each` with every attribute, in the order of their names.
///
/// # Errors
/// As the system reports; a file system without attributes has none.
pub fn read(owner: Owner<'_>, buffers: &mut Buffers, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    let place = match owner {
        Owner::Open(fd) => Place::Open(fd),
        // There is no call that takes a directory and a name; this path is the kernel's own, and only its last part can be a link.
        Owner::Named(directory, name) => {
            let fd = directory.descriptor()?;
            let mut path = format!("/proc/self/fd/{}/", fd.as_raw_fd()).into_bytes();
            path.extend_from_slice(name.to_bytes());
            Place::Named(fd, path)
        }
    };
    let len = match grow(&mut buffers.list, |buf| place.list(buf)) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        other => other?,
    };
    let list = buffers.list.get(..len).unwrap_or_default();
    let mut names: Vec<&[u8]> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        match grow(&mut buffers.value, |buf| place.get(name, buf)) {
            Ok(len) => each(name, buffers.value.get(..len).unwrap_or_default()),
            // Taken away in between.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

enum Place<'a> {
    Open(BorrowedFd<'a>),
    /// The directory, which must stay open, and the path through it.
    Named(
        #[expect(dead_code, reason = "held open for the path")] Arc<OwnedFd>,
        Vec<u8>,
    ),
}

impl Place<'_> {
    fn list(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buf),
            Self::Named(_, path) => rustix::fs::llistxattr(path.as_slice(), buf),
        }
    }

    fn get(&self, name: &[u8], buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buf),
            Self::Named(_, path) => rustix::fs::lgetxattr(path.as_slice(), name, buf),
        }
    }
}

/// Calls with a larger buffer while the answer does not fit.
fn grow(buffer: &mut Vec<u8>, mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
    for size in SIZES {
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        let result = call(buffer.get_mut(..size).unwrap_or_default());
        if result != Err(Errno::RANGE) {
            return result;
        }
    }
    Err(Errno::RANGE)
}
