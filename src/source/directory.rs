//! What a backup reads a directory tree from: directories as open descriptors, and everything in them by its name there.
//!
//! No path is ever put together: each step is one name in an open directory, never through a link, so that whoever may
//! rename things in the tree cannot lead a backup out of it or to another file than the one it looked at.

pub mod attributes;
pub mod file;
pub mod listing;
pub mod users;
pub mod xattrs;

use crate::bytes::to_usize;
use attributes::{Attributes, FileId};
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::process::Resource;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Directories kept open at a time, beside those that are being read.
const KEPT_OPEN: usize = 256;
/// Of the descriptors a process may have, the part that directories may take.
const SHARE_OF_LIMIT: u64 = 4;

/// How a directory is opened.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Descriptors of directories, the least recently used of which are closed.
#[derive(Debug)]
struct Descriptors {
    /// The root stays open.
    root: Arc<OwnedFd>,
    /// Held only to look up and insert, never across a system call.
    open: Mutex<LruCache<u64, Arc<OwnedFd>>>,
    limit: usize,
    next: AtomicU64,
}

impl Descriptors {
    fn insert(&self, serial: u64, fd: &Arc<OwnedFd>) {
        let mut closing = Vec::new();
        let mut open = self.open.lock();
        closing.extend(open.push(serial, Arc::clone(fd)));
        while open.len() > self.limit {
            closing.extend(open.pop_lru());
        }
        drop(open);
    }
}

/// A directory of the source. It can be used at any time; its descriptor is opened again when it had to be closed.
#[derive(Debug)]
pub struct Directory {
    /// The directory it lies in, and its name there; `None` for the root.
    above: Option<(Arc<Directory>, Box<CStr>)>,
    id: FileId,
    serial: u64,
    descriptors: Arc<Descriptors>,
}

impl Directory {
    /// Opens the root of a tree; links in `path` are followed, they are the user's own.
    ///
    /// # Errors
    /// As the system reports.
    pub fn open_root(path: &Path) -> io::Result<(Arc<Self>, Attributes)> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let attributes = attributes_of_open(fd.as_fd())?;
        let root = Self {
            above: None,
            id: attributes.id,
            serial: 0,
            descriptors: Arc::new(Descriptors {
                root: Arc::new(fd),
                open: Mutex::new(LruCache::unbounded()),
                limit: descriptor_limit(),
                next: AtomicU64::new(1),
            }),
        };
        Ok((Arc::new(root), attributes))
    }

    /// Opens a directory in this one that was seen to be `expected`.
    ///
    /// # Errors
    /// `ESTALE` if another directory has that name now; otherwise as the system reports.
    pub fn open_child(self: &Arc<Self>, name: &CStr, expected: FileId) -> io::Result<(Arc<Self>, Attributes)> {
        let fd = open_at(self.descriptor()?.as_fd(), name, DIRECTORY)?;
        let attributes = attributes_of_open(fd.as_fd())?;
        if attributes.id != expected {
            return Err(Errno::STALE.into());
        }
        let serial = self.descriptors.next.fetch_add(1, Ordering::Relaxed);
        self.descriptors.insert(serial, &Arc::new(fd));
        let child = Self {
            above: Some((Arc::clone(self), name.into())),
            id: expected,
            serial,
            descriptors: Arc::clone(&self.descriptors),
        };
        Ok((Arc::new(child), attributes))
    }

    /// What the directory is, whatever its name.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Attributes of what has `name` here, which is not followed if it is a link.
    ///
    /// # Errors
    /// As the system reports.
    pub fn attributes(&self, name: &CStr) -> io::Result<Attributes> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = rustix::fs::statx(self.descriptor()?, name, flags, asked_for())?;
        Ok(Attributes::from_statx(&found)?)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// As the system reports.
    pub fn read_link(&self, name: &CStr) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(self.descriptor()?, name, Vec::with_capacity(256))?;
        Ok(target.into_bytes())
    }

    /// Says whether there is something called `name` here, and, if `header` is not empty, a regular file that begins with it.
    #[must_use]
    pub fn holds(&self, name: &CStr, header: &[u8]) -> bool {
        let Ok(found) = self.attributes(name) else { return false };
        if header.is_empty() {
            return true;
        }
        let mut begin = vec![0; header.len()];
        found.kind == attributes::Kind::Regular
            && file::File::open(self, name, &found)
                .and_then(|(file, _)| file.read_at(0, &mut begin))
                .is_ok_and(|len| begin.get(..len) == Some(header))
    }

    /// The path of a name in this directory, from the root of the tree: for people.
    #[must_use]
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut parts = vec![name];
        let mut at = self;
        while let Some((parent, name)) = &at.above {
            parts.push(name.to_bytes());
            at = parent;
        }
        parts.reverse();
        let mut path = parts.join(&b'/');
        if name.is_empty() {
            path.pop();
        }
        path
    }

    /// The descriptor; opens it, and on the way those of the directories above, if it had to be closed.
    ///
    /// # Errors
    /// `ESTALE` if the directory is not where it was; otherwise as the system reports.
    pub fn descriptor(&self) -> io::Result<Arc<OwnedFd>> {
        // From here up to the first directory that is open; a loop, because a tree may be deeper than the stack.
        let mut closed = Vec::new();
        let mut at = self;
        let mut fd = loop {
            let Some((parent, name)) = &at.above else {
                break Arc::clone(&self.descriptors.root);
            };
            if let Some(fd) = self.descriptors.open.lock().get(&at.serial) {
                break Arc::clone(fd);
            }
            closed.push((at.serial, at.id, name));
            at = parent;
        };
        for (serial, id, name) in closed.into_iter().rev() {
            let child = open_at(fd.as_fd(), name, DIRECTORY)?;
            if attributes_of_open(child.as_fd())?.id != id {
                return Err(Errno::STALE.into());
            }
            fd = Arc::new(child);
            self.descriptors.insert(serial, &fd);
        }
        Ok(fd)
    }
}

impl Directory {
    fn close(&self) {
        let closing = self.descriptors.open.lock().pop(&self.serial);
        drop(closing);
    }
}

impl Drop for Directory {
    /// Drops the directories above one after the other, not each inside the drop of the one below it: a tree may be deep.
    fn drop(&mut self) {
        self.close();
        let mut above = self.above.take();
        while let Some((parent, _)) = above {
            above = Arc::into_inner(parent).and_then(|mut parent| {
                parent.close();
                parent.above.take()
            });
        }
    }
}

/// What is asked of `statx(2)`.
fn asked_for() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

fn attributes_of_open(fd: BorrowedFd<'_>) -> io::Result<Attributes> {
    let found = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, asked_for())?;
    Ok(Attributes::from_statx(&found)?)
}

/// Opens a name without touching its access time, where that is allowed: to the owner, and to root.
fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    match rustix::fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?),
        other => Ok(other?),
    }
}

/// How many descriptors directories may take; asks the system for as many as it allows.
fn descriptor_limit() -> usize {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it there are fewer, and directories are opened again more often.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    let allowed = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    KEPT_OPEN.min(to_usize(allowed / SHARE_OF_LIMIT)).max(1)
}

#[cfg(test)]
mod tests;
