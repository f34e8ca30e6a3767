//! Directories of the target, and new files in them: every step is one name in an open directory, and never through a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Resource;

use super::{Error, Existing, Result, shown};
use crate::bytes::temporary::temporary_name;
use crate::tree::held::Held;

/// A directory of the target, open.
pub(super) struct Dir<'a> {
    fd: OwnedFd,
    /// The one it lies in; `None` for the target itself.
    pub(super) parent: Option<Arc<Dir<'a>>>,
    /// What it is a copy of, for its attributes; `None` for the target itself, which stays as it is.
    pub(super) copy_of: Option<(Held<'a>, Vec<u8>)>,
    /// Whether names may be there that this run has not made.
    origin: Origin,
}

/// Where a directory of the target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Made,
    Found,
}

/// Names tried before giving up; each is random, so a second try is next to never needed.
const TRIES: usize = 8;

/// Opens the target and says which name the only source gets, if the target is not a directory that takes it.
pub(super) fn open_target<'a>(target: &Path, sources: usize) -> Result<(Dir<'a>, Option<Vec<u8>>)> {
    let refuse = |why: String| Error::Target {
        path: target.display().to_string(),
        why,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The user's own path: links in it are his.
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty());
    let found = std::fs::metadata(target);
    if found.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
        let fd = open(target).map_err(|error| refuse(format!("it cannot be opened: {}", text(error))))?;
        return Ok((Dir::target(fd), None));
    }
    if sources > 1 {
        return Err(refuse("it is no directory; several files need one to go to".into()));
    }
    if found.is_ok_and(|found| found.file_type().is_block_device() || found.file_type().is_char_device()) {
        return Err(refuse("it is a device; write to it with vaultfs restore or dd".into()));
    }
    let name = target
        .file_name()
        .filter(|_| !target.as_os_str().as_bytes().ends_with(b"/"));
    let name = name.ok_or_else(|| refuse("there is no such directory; make it first".into()))?;
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fd = open(parent).map_err(|error| refuse(format!("{}: {}", parent.display(), text(error))))?;
    Ok((Dir::target(fd), Some(name.as_bytes().to_vec())))
}

fn text(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}

/// A tree as deep as [`walk`](super::walk) goes keeps a descriptor for each level.
pub(super) fn allow_many_open_files() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it, what lies very deep fails and is told.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

impl<'a> Dir<'a> {
    fn target(fd: OwnedFd) -> Self {
        Self {
            fd,
            parent: None,
            copy_of: None,
            origin: Origin::Found,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Makes a directory for its owner alone, or opens the one that is there.
    pub(super) fn enter(self: &Arc<Self>, name: &[u8], held: Held<'a>, path: &[u8]) -> Result<Self> {
        let failed = |doing, error: Errno| Error::Write {
            path: shown(path),
            doing,
            source: error.into(),
        };
        let origin = match rustix::fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => Origin::Made,
            Err(Errno::EXIST) => Origin::Found,
            Err(error) => return Err(failed("making the directory", error)),
        };
        let fd = match open_directory(self.fd(), name) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::Refused {
                    path: shown(path),
                    why: "the target has something of this name that is no directory",
                });
            }
            opened => opened.map_err(|error| failed("opening the directory", error))?,
        };
        Ok(Self {
            fd,
            parent: Some(Arc::clone(self)),
            copy_of: Some((held, path.to_vec())),
            origin,
        })
    }

    /// Refuses a name that is taken before the work on it is done, unless it may be replaced.
    pub(super) fn check_free(&self, name: &[u8], existing: Existing, path: &[u8]) -> Result<()> {
        if self.origin == Origin::Made || existing == Existing::Replace {
            return Ok(());
        }
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Error::Exists { path: shown(path) }),
            // Whatever else is wrong with the name comes up when it is made.
            Err(_) => Ok(()),
        }
    }

    /// Makes the copy durable, with all that was written before.
    pub(super) fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|error| Error::Write {
            path: "the target".into(),
            doing: "flushing",
            source: error.into(),
        })
    }

    /// The directory below this one that these names lead to.
    pub(super) fn descend<'n>(&self, names: impl Iterator<Item = &'n [u8]>) -> Result<OwnedFd, Errno> {
        let mut fd = self.fd.try_clone().map_err(|_| Errno::MFILE)?;
        for name in names {
            fd = open_directory(fd.as_fd(), name)?;
        }
        Ok(fd)
    }
}

/// Opens a directory by its name in another one; a symbolic link there is refused.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
        // Linux before 5.6, and containers that do not know the call. The name has no slash and is not `..`, so that
        // O_NOFOLLOW says the same.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(parent, name, flags, Mode::empty()),
        other => other,
    }
}

/// Says whether a name is one step down and nothing else. The tree escapes names that are not; this holds it to that.
pub(super) fn is_one_step(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

/// Something new under a temporary name; dropped unpublished, it is removed.
pub(super) struct Fresh<'d> {
    dir: BorrowedFd<'d>,
    pub(super) temporary: Vec<u8>,
    published: bool,
}

impl<'d> Fresh<'d> {
    /// Has `make` make it, under another name if one is taken.
    pub(super) fn make<T>(
        dir: BorrowedFd<'d>,
        name: &[u8],
        make: impl Fn(&[u8]) -> Result<T, Errno>,
    ) -> std::io::Result<(Self, T)> {
        let mut tries = 0;
        loop {
            let temporary = temporary_name(name)?;
            match make(&temporary) {
                Ok(made) => {
                    let published = false;
                    return Ok((
                        Self {
                            dir,
                            temporary,
                            published,
                        },
                        made,
                    ));
                }
                Err(Errno::EXIST) if tries < TRIES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives it its name.
    pub(super) fn publish(mut self, name: &[u8], existing: Existing) -> Result<(), Errno> {
        let renamed = match existing {
            Existing::Replace => {
                let renamed = rustix::fs::renameat(self.dir, &self.temporary, self.dir, name);
                // Two names of one file are left alone by rename(2), and ours is then one too many.
                let _ = rustix::fs::unlinkat(self.dir, &self.temporary, AtFlags::empty());
                renamed
            }
            Existing::Refuse => {
                let flags = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(self.dir, &self.temporary, self.dir, name, flags) {
                    // Some network file systems cannot, but can link, which never overwrites.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                        let linked = rustix::fs::linkat(self.dir, &self.temporary, self.dir, name, AtFlags::empty());
                        return linked;
                    }
                    other => other,
                }
            }
        };
        self.published = renamed.is_ok();
        renamed
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        match rustix::fs::unlinkat(self.dir, &self.temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => log::warn!("{} is left over and may be deleted: {error}", shown(&self.temporary)),
        }
    }
}

/// The same file by a path, for calls that take no directory: the directory is the open one, whatever it is called now.
pub(super) fn path_of(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend(name);
    path
}
