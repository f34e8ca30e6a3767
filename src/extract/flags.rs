//! File flags as chattr(1) sets them: those that say how a file is stored come before its content, those that lock it last.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use super::found::{Found, Now};
use super::{Existing, Job};

/// Flags that may be set at all. The others tell what a file is, or are made from something else.
const SETTABLE: IFlags = IFlags::APPEND
    .union(IFlags::COMPRESSED)
    .union(IFlags::DIRSYNC)
    .union(IFlags::IMMUTABLE)
    .union(IFlags::JOURNALING)
    .union(IFlags::NOATIME)
    .union(IFlags::NOCOW)
    .union(IFlags::NODUMP)
    .union(IFlags::NOTAIL)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::SYNC)
    .union(IFlags::TOPDIR)
    .union(IFlags::UNRM);
/// How the bytes are stored: must be there before they are. What the target itself hands down is left.
const STORAGE: IFlags = IFlags::COMPRESSED.union(IFlags::NOCOW);
/// With one of these nothing else can be done to a file.
const LOCKS: IFlags = IFlags::APPEND.union(IFlags::IMMUTABLE);

/// Which of a file's flags to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Before there is content.
    Storage,
    /// When all but locks can be set.
    Plain,
    /// When nothing follows.
    All,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// They were so.
    Same,
    /// They differ; they were set unless this run only plans.
    Changed,
}

/// Says whether flags of the backup lock a file.
pub(super) fn lock(wanted: u32) -> bool {
    IFlags::from_bits_retain(wanted).intersects(LOCKS)
}

/// Gives a file or directory its flags, as far as the target has them.
pub(super) fn set(job: &Job<'_>, file: BorrowedFd<'_>, wanted: u32, part: Part) -> Set {
    let wanted = IFlags::from_bits_retain(wanted).intersection(SETTABLE);
    let whole = matches!(job.options.existing, Existing::Update(_));
    let wanted = match part {
        Part::Storage => wanted.intersection(STORAGE),
        Part::Plain => wanted.difference(LOCKS),
        Part::All => wanted,
    };
    // Readers of images tell no flags, and what was found is then the better guess.
    if wanted.is_empty() && (!whole || part == Part::Storage) {
        return Set::Same;
    }
    let now = match ioctl_getflags(file) {
        Ok(now) => now,
        Err(_) if wanted.is_empty() => return Set::Same,
        Err(error) => {
            super::attributes::not_kept(job, "file flags", error);
            return Set::Same;
        }
    };
    let taken = match part {
        Part::Storage => IFlags::empty(),
        Part::Plain | Part::All => SETTABLE.difference(STORAGE).difference(wanted),
    };
    let new = now.difference(taken).union(wanted);
    if new == now {
        return Set::Same;
    }
    if job.plans() {
        return Set::Changed;
    }
    if ioctl_setflags(file, new).is_err() {
        one_by_one(job, file, now, new);
    }
    Set::Changed
}

/// Sets what can be set where the target does not know them all.
fn one_by_one(job: &Job<'_>, file: BorrowedFd<'_>, now: IFlags, new: IFlags) {
    let mut reached = now;
    let mut failed = None;
    for flag in now.symmetric_difference(new).iter() {
        let tried = reached.symmetric_difference(flag);
        match ioctl_setflags(file, tried) {
            Ok(()) => reached = tried,
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        super::attributes::not_kept(job, "file flags", error);
    }
}

/// Takes the locks off a file that is to be changed or replaced.
pub(super) fn unlock(found: &Found) -> Result<(), Errno> {
    unlock_open(&found.now, || found.open())
}

/// As [`unlock`], of a file that is open or can be opened.
pub(super) fn unlock_open<F: AsFd>(now: &Now, open: impl FnOnce() -> Result<F, Errno>) -> Result<(), Errno> {
    if !now.locked {
        return Ok(());
    }
    let file = open()?;
    let flags = ioctl_getflags(&file)?;
    ioctl_setflags(&file, flags.difference(LOCKS))
}

/// Locks of a file with several names, which are set when the run is over: a locked file takes no further ones.
pub(super) struct Late {
    /// Its path below the target.
    pub(super) below: Vec<u8>,
    /// Its flags.
    pub(super) wanted: u32,
}

/// Sets the locks that had to wait.
pub(super) fn set_late(job: &Job<'_>, base: BorrowedFd<'_>) {
    let late = std::mem::take(&mut *job.late.lock());
    for Late { below, wanted } in late {
        let opened = super::place::open_below(base, &below).and_then(|(dir, name)| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::empty())
        });
        match opened {
            Ok(file) => drop(set(job, file.as_fd(), wanted, Part::All)),
            Err(error) => super::attributes::not_kept(job, "file flags", error),
        }
    }
}
