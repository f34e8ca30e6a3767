//! Owner, mode, extended attributes and times of a copy: kept as far as the user may, counted where not.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::place::path_of;
use super::{Error, Job, Owners, Result, shown};
use crate::fs::{FileType, Timestamp, Xattr};
use crate::tree::Attributes;
use crate::tree::held::{Held, Part};

/// Who runs the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    pub(super) fn current() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

/// A copy whose attributes are to be set.
#[derive(Clone, Copy)]
pub(super) enum Copied<'c> {
    /// A file or directory, open.
    Open(BorrowedFd<'c>),
    /// Anything else, by its name in an open directory.
    Named(BorrowedFd<'c>, &'c [u8]),
}

/// Whether a copy belongs to whom the original belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owned {
    Alike,
    ByUser,
}

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";
/// Set-user-ID and set-group-ID.
const SET_ID: u16 = 0o6000;

/// Gives a copy everything of its original but the content; times last.
pub(super) fn apply(job: &Job<'_>, held: &Held<'_>, copied: Copied<'_>, path: &[u8]) -> Result<()> {
    let attributes = &held.attributes;
    let read = |source| Error::Read {
        path: shown(path),
        source,
    };
    let xattrs = match held.part() {
        Part::Inside => held.xattrs().map_err(read)?,
        Part::Catalogue | Part::Image => Vec::new(),
    };
    let owned = own(job, attributes, copied);
    // After the owner: changing that takes capabilities and set-user-ID bits away.
    set_xattrs(job, copied, &xattrs, owned);
    if attributes.file_type != FileType::Symlink {
        if !xattrs.iter().any(|(name, _)| name == ACCESS_ACL) {
            // What the target's directory hands down is not of the original.
            copied.remove_xattr(ACCESS_ACL);
        }
        if attributes.file_type == FileType::Directory && !xattrs.iter().any(|(name, _)| name == DEFAULT_ACL) {
            copied.remove_xattr(DEFAULT_ACL);
        }
        set_mode(job, attributes, copied, owned);
    }
    let times = Timestamps {
        last_access: timespec(attributes.accessed),
        last_modification: timespec(attributes.modified),
    };
    if let Err(error) = copied.set_times(&times) {
        not_kept(job, "times", error);
    }
    Ok(())
}

fn own(job: &Job<'_>, attributes: &Attributes, copied: Copied<'_>) -> Owned {
    if job.options.owners == Owners::Own {
        return Owned::ByUser;
    }
    let owner = attributes.owner;
    let is_user = (owner.uid, owner.gid) == (job.user.uid, job.user.gid);
    if job.user.uid != 0 && !is_user {
        job.tally.not_kept("owners", job.environment.monitor, || {
            "only root can give files to others; the copies are yours, and --no-owner says that this is meant".into()
        });
        return Owned::ByUser;
    }
    match copied.set_owner(owner.uid, owner.gid) {
        Ok(()) => Owned::Alike,
        Err(error) => {
            not_kept(job, "owners", error);
            Owned::ByUser
        }
    }
}

fn set_xattrs(job: &Job<'_>, copied: Copied<'_>, xattrs: &[Xattr], owned: Owned) {
    for (name, value) in xattrs {
        if name == CAPABILITY && owned == Owned::ByUser {
            job.tally.not_kept("capabilities", job.environment.monitor, || {
                "they go with the owner, who is not kept".into()
            });
            continue;
        }
        if let Err(error) = copied.set_xattr(name, value) {
            let kind = match name.split(|byte| *byte == b'.').next() {
                _ if name.starts_with(b"system.posix_acl_") => "ACLs",
                Some(b"user") => "user attributes",
                Some(b"security") => "security attributes",
                Some(b"trusted") => "trusted attributes",
                _ => "other extended attributes",
            };
            not_kept(job, kind, error);
        }
    }
}

fn set_mode(job: &Job<'_>, attributes: &Attributes, copied: Copied<'_>, owned: Owned) {
    let mut mode = attributes.mode;
    if owned == Owned::ByUser && mode & SET_ID != 0 {
        mode &= !SET_ID;
        job.tally.not_kept("set-user-ID bits", job.environment.monitor, || {
            "they go with the owner, who is not kept".into()
        });
    }
    if let Err(error) = copied.set_mode(Mode::from_raw_mode(u32::from(mode))) {
        not_kept(job, "modes", error);
    }
}

fn not_kept(job: &Job<'_>, kind: &str, error: Errno) {
    let why = || format!("the target says: {}", std::io::Error::from(error));
    job.tally.not_kept(kind, job.environment.monitor, why);
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        // Larger numbers mean something else to the kernel.
        tv_nsec: time.nanos.min(999_999_999).into(),
    }
}

impl Copied<'_> {
    fn set_owner(self, uid: u32, gid: u32) -> Result<(), Errno> {
        // All ones means "leave it" to the kernel.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Named(dir, name) => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            // Only of devices and pipes that this run has just made.
            Self::Named(dir, name) => rustix::fs::chmodat(dir, name, mode, AtFlags::empty()),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named(dir, file) => rustix::fs::lsetxattr(path_of(dir, file), name, value, XattrFlags::empty()),
        }
    }

    /// Removes an attribute if it is there; a target without any has none.
    fn remove_xattr(self, name: &[u8]) {
        let _ = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Named(dir, file) => rustix::fs::lremovexattr(path_of(dir, file), name),
        };
    }

    fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times),
            Self::Named(dir, name) => rustix::fs::utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }
}
