//! Directories of the target, and new files in them: every step is one name in an open directory, and never through a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Resource;

use super::found::Now;
use super::{Act, Error, Existing, Job, Options, Result, flags, remove, shown};
use crate::bytes::temporary::temporary_name;
use crate::tree::held::Held;

/// A directory of the target, open.
pub(super) struct Dir<'a> {
    /// `None` if it would only be made by the run that is planned.
    fd: Option<OwnedFd>,
    /// The one it lies in; `None` for the target itself.
    pub(super) parent: Option<Arc<Dir<'a>>>,
    /// What it is a copy of; `None` for the directory that copies are put into, which stays as it is.
    pub(super) original: Option<Original<'a>>,
    pub(super) origin: Origin,
    /// Names of the backup's directory could not be read: what is not known to be there cannot be known to be missing.
    pub(super) names_lost: AtomicBool,
}

/// What a directory of the target is a copy of.
pub(super) struct Original<'a> {
    pub(super) held: Held<'a>,
    /// Path in the backup, for messages.
    pub(super) path: Vec<u8>,
    /// Path below the target.
    pub(super) below: Vec<u8>,
    pub(super) wanted: Wanted,
}

/// How much of a directory is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// It only lies on the way to what is: where it is there it stays as it is.
    Way,
}

/// Where a directory of the target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From this run: no name is there that it has not made.
    Made,
    /// It was there, and was this.
    Found(Now),
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
        let opened = open(target).and_then(Dir::target);
        let dir = opened.map_err(|error| refuse(format!("it cannot be opened: {}", text(error))))?;
        return Ok((dir, None));
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
    let opened = open(parent).and_then(Dir::target);
    let dir = opened.map_err(|error| refuse(format!("{}: {}", parent.display(), text(error))))?;
    Ok((dir, Some(name.as_bytes().to_vec())))
}

/// Opens the directory that a whole tree is put back into, or makes it.
pub(super) fn open_top(target: &Path, options: &Options) -> Result<(Option<OwnedFd>, Origin)> {
    let refuse = |why: &str| Error::Target {
        path: target.display().to_string(),
        why: why.to_owned(),
    };
    let failed = |error: Errno| refuse(&text(error));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The user's own path: links in it are his.
    let open = || rustix::fs::open(target, flags, Mode::empty());
    match open() {
        Ok(fd) => {
            let may_differ = matches!(options.existing, Existing::Update(_));
            if !may_differ && !remove::is_as_new(fd.as_fd()).map_err(failed)? {
                return Err(refuse(
                    "it is not empty; with --force the backup is restored into it, and only what differs is written",
                ));
            }
            let now = Now::of(fd.as_fd()).map_err(failed)?;
            Ok((Some(fd), Origin::Found(now)))
        }
        Err(Errno::NOENT) if target.symlink_metadata().is_ok() => {
            Err(refuse("it is a symbolic link that leads nowhere"))
        }
        Err(Errno::NOENT) => {
            let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
            if parent.is_some_and(|parent| !parent.is_dir()) {
                return Err(refuse("the directory it would be in is not there; make that first"));
            }
            if options.act == Act::Plan {
                return Ok((None, Origin::Made));
            }
            rustix::fs::mkdir(target, Mode::RWXU).map_err(failed)?;
            Ok((Some(open().map_err(failed)?), Origin::Made))
        }
        Err(Errno::NOTDIR) => Err(refuse("it is no directory")),
        Err(error) => Err(failed(error)),
    }
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
    fn target(fd: OwnedFd) -> Result<Self, Errno> {
        let now = Now::of(fd.as_fd())?;
        Ok(Self {
            fd: Some(fd),
            parent: None,
            original: None,
            origin: Origin::Found(now),
            names_lost: AtomicBool::new(false),
        })
    }

    /// The target itself as the copy of a directory.
    pub(super) fn top(fd: Option<OwnedFd>, origin: Origin, original: Original<'a>) -> Self {
        Self {
            fd,
            parent: None,
            original: Some(original),
            origin,
            names_lost: AtomicBool::new(false),
        }
    }

    /// The open directory; for one that is only planned, the nearest open one above it, in which nothing may be done.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        let mut here = self;
        loop {
            match (&here.fd, &here.parent) {
                (Some(fd), _) => return fd.as_fd(),
                (None, Some(parent)) => here = parent,
                (None, None) => return rustix::fs::CWD,
            }
        }
    }

    /// Makes a directory for its owner alone, or opens the one that is there.
    pub(super) fn enter(self: &Arc<Self>, job: &Job<'_>, name: &[u8], original: Original<'a>) -> Result<Self> {
        let failed = |doing, error: Errno| Error::Write {
            path: shown(&original.path),
            doing,
            source: error.into(),
        };
        let (fd, origin) = if job.plans() {
            self.look_into(name)
                .map_err(|error| failed("looking at the directory", error))?
        } else {
            self.make_or_open(job, name, &original.path)?
        };
        let mut dir = Self::top(fd, origin, original);
        dir.parent = Some(Arc::clone(self));
        dir.make_writable(job)?;
        Ok(dir)
    }

    /// Takes locks off a directory that is to be worked in, and lets the user in who owns it; both end with its own attributes.
    pub(super) fn make_writable(&self, job: &Job<'_>) -> Result<()> {
        let (Origin::Found(now), Some(fd), Existing::Update(_), false) =
            (self.origin, &self.fd, job.options.existing, job.plans())
        else {
            return Ok(());
        };
        let is_closed = job.user.uid != 0 && job.user.uid == now.owner.uid && now.mode & 0o700 != 0o700;
        let opened = flags::unlock_open(&now, || Ok(fd)).and_then(|()| match is_closed {
            true => rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(now.mode | 0o700))),
            false => Ok(()),
        });
        opened.map_err(|error| Error::Write {
            path: self
                .original
                .as_ref()
                .map(|original| shown(&original.path))
                .unwrap_or_default(),
            doing: "making the directory writable",
            source: error.into(),
        })
    }

    /// The directory as a plan needs it: whatever else has the name would be replaced.
    fn look_into(&self, name: &[u8]) -> Result<(Option<OwnedFd>, Origin), Errno> {
        if self.origin == Origin::Made {
            return Ok((None, Origin::Made));
        }
        match open_directory(self.fd(), name) {
            Ok(fd) => {
                let now = Now::of(fd.as_fd())?;
                Ok((Some(fd), Origin::Found(now)))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok((None, Origin::Made)),
            Err(error) => Err(error),
        }
    }

    fn make_or_open(&self, job: &Job<'_>, name: &[u8], path: &[u8]) -> Result<(Option<OwnedFd>, Origin)> {
        let failed = |doing, error: Errno| Error::Write {
            path: shown(path),
            doing,
            source: error.into(),
        };
        let make = || rustix::fs::mkdirat(self.fd(), name, Mode::RWXU);
        let mut made = make();
        let mut opened = open_directory(self.fd(), name);
        if made == Err(Errno::EXIST) && matches!(opened, Err(Errno::NOTDIR | Errno::LOOP)) {
            if !matches!(job.options.existing, Existing::Update(_)) {
                return Err(Error::Refused {
                    path: shown(path),
                    why: "the target has something of this name that is no directory",
                });
            }
            // What is there is no directory, and unlink(2) removes none.
            let removed = rustix::fs::unlinkat(self.fd(), name, AtFlags::empty());
            removed.map_err(|error| failed("removing what is there", error))?;
            made = make();
            opened = open_directory(self.fd(), name);
        }
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("making the directory", error)),
        }
        let fd = opened.map_err(|error| failed("opening the directory", error))?;
        let origin = match made {
            Ok(()) => Origin::Made,
            Err(_) => Origin::Found(Now::of(fd.as_fd()).map_err(|error| failed("looking at the directory", error))?),
        };
        Ok((Some(fd), origin))
    }

    /// Refuses a name that is taken before the work on it is done, unless it may be replaced.
    pub(super) fn check_free(&self, name: &[u8], existing: Existing, path: &[u8]) -> Result<()> {
        if self.origin == Origin::Made || existing != Existing::Refuse {
            return Ok(());
        }
        match rustix::fs::statat(self.fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Error::Exists { path: shown(path) }),
            // Whatever else is wrong with the name comes up when it is made.
            Err(_) => Ok(()),
        }
    }

    /// Another descriptor of it, for what is done when everything else is.
    pub(super) fn anchor(&self) -> Result<Option<OwnedFd>> {
        let cloned = self.fd.as_ref().map(OwnedFd::try_clone).transpose();
        cloned.map_err(|source| Error::Write {
            path: "the target".into(),
            doing: "opening",
            source,
        })
    }

    /// Says whether any name in it may be one that this run has not made.
    pub(super) fn was_there(&self) -> bool {
        self.origin != Origin::Made
    }
}

/// Makes everything written durable.
pub(super) fn sync(target: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::syncfs(target).map_err(|error| Error::Write {
        path: "the target".into(),
        doing: "flushing",
        source: error.into(),
    })
}

/// The directory that the file at a path below `base` lies in, and the file's name there.
pub(super) fn open_below<'p>(base: BorrowedFd<'_>, path: &'p [u8]) -> Result<(OwnedFd, &'p [u8]), Errno> {
    let mut names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = names.pop().unwrap_or_default();
    let mut fd = base.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    for name in names {
        fd = open_directory(fd.as_fd(), name)?;
    }
    Ok((fd, last))
}

/// Opens a directory by its name in another one; a symbolic link there is refused.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_resolved(parent, name, ResolveFlags::empty())
}

/// As [`open_directory`], of the same file system only: where something is mounted it is `XDEV`.
pub(super) fn open_directory_here(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let fd = open_resolved(parent, name, ResolveFlags::NO_XDEV)?;
    if rustix::fs::fstat(&fd)?.st_dev != rustix::fs::fstat(parent)?.st_dev {
        return Err(Errno::XDEV);
    }
    Ok(fd)
}

fn open_resolved(parent: BorrowedFd<'_>, name: &[u8], also: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve | also) {
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
            Existing::Replace | Existing::Update(_) => {
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
