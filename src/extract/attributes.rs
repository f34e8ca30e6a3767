//! Owner, mode, extended attributes, flags and times of a copy: kept as far as the user may, counted where not.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::found::{Found, Now, path_of_handle};
use super::place::path_of;
use super::{Error, Job, Owners, Result, acl, flags, shown};
use crate::fs::{FileType, Timestamp, Xattr};
use crate::tree::held::{Held, Part};
use crate::tree::{Attributes, Owner};

/// Who runs the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub(super) uid: u32,
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
    /// Anything that was there before, by a handle of it.
    Handle(BorrowedFd<'c>),
}

/// What came of bringing attributes up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mended {
    /// They were right.
    Nothing,
    /// Some were not.
    Something,
}

/// Whether a copy belongs to whom the original belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owned {
    Alike,
    ByUser,
}

pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";
/// Set-user-ID and set-group-ID.
const SET_ID: u16 = 0o6000;
/// Most that one file's list of names, or one value, can have.
const XATTR_MAX: usize = 64 << 10;

/// Gives a copy everything of its original but content and flags; times last.
pub(super) fn apply(job: &Job<'_>, held: &Held<'_>, copied: Copied<'_>, path: &[u8]) -> Result<()> {
    let attributes = &held.attributes;
    let owned = match wanted_owner(job, held) {
        Some(owner) => set_owner(job, copied, owner),
        None => Owned::ByUser,
    };
    let xattrs = wanted_xattrs(job, held, owned, path)?;
    // After the owner: changing that takes capabilities and set-user-ID bits away.
    for (name, value) in &xattrs {
        set_xattr(job, copied, name, value);
    }
    if attributes.file_type != FileType::Symlink {
        if !xattrs.iter().any(|(name, _)| name == ACCESS_ACL) {
            // What the target's directory hands down is not of the original.
            copied.remove_xattr(ACCESS_ACL);
        }
        if attributes.file_type == FileType::Directory && !xattrs.iter().any(|(name, _)| name == DEFAULT_ACL) {
            copied.remove_xattr(DEFAULT_ACL);
        }
        set_mode(job, copied, wanted_mode(job, attributes, owned));
    }
    set_times(job, copied, attributes);
    Ok(())
}

/// Brings the attributes of a file that was there up to date, flags aside; a run that only plans says whether it would.
///
/// The time of the last access alone is no difference: whoever looked at the file has changed it.
pub(super) fn mend(job: &Job<'_>, held: &Held<'_>, copied: Copied<'_>, now: &Now, path: &[u8]) -> Result<Mended> {
    let attributes = &held.attributes;
    let owner = wanted_owner(job, held);
    let mut owned = if owner.is_some() { Owned::Alike } else { Owned::ByUser };
    let give = owner.filter(|owner| *owner != now.owner);
    if let Some(owner) = give.filter(|_| !job.plans()) {
        owned = set_owner(job, copied, owner);
    }
    let mut mended = give.is_some() && owned == Owned::Alike;
    let wanted = wanted_xattrs(job, held, owned, path)?;
    mended |= mend_xattrs(job, copied, &wanted);
    if attributes.file_type != FileType::Symlink {
        let mode = wanted_mode(job, attributes, owned);
        let differs = mode != now.mode;
        // Also where an owner or an ACL that was just set has changed it.
        if (differs || mended) && !job.plans() {
            set_mode(job, copied, mode);
        }
        mended |= differs;
    }
    mended |= now.modified != attributes.modified;
    if mended && !job.plans() {
        set_times(job, copied, attributes);
    }
    Ok(if mended { Mended::Something } else { Mended::Nothing })
}

/// Flags and all other attributes of a file that was there.
pub(super) fn mend_found(
    job: &Job<'_>,
    held: &Held<'_>,
    found: &Found,
    path: &[u8],
    part: flags::Part,
) -> Result<Mended> {
    let copied = Copied::Handle(found.handle());
    let takes_flags = matches!(found.now.file_type, FileType::File | FileType::Directory);
    if !takes_flags {
        return mend(job, held, copied, &found.now, path);
    }
    let wanted = wanted_flags(held, path)?;
    // Nothing can be changed under a lock; whether it goes or stays, the flags are set again below.
    if !job.plans() && found.now.locked && (part != flags::Part::All || differs(job, held, found, path)?) {
        flags::unlock(found).map_err(|error| Error::Write {
            path: shown(path),
            doing: "taking its flags away",
            source: error.into(),
        })?;
    }
    let mended = mend(job, held, copied, &found.now, path)?;
    let set = match found.open() {
        Ok(file) => flags::set(job, std::os::fd::AsFd::as_fd(&file), wanted, part),
        // Whoever may not read it may not ask for its flags.
        Err(_) => flags::Set::Same,
    };
    Ok(match (mended, set) {
        (Mended::Nothing, flags::Set::Same) => Mended::Nothing,
        _ => Mended::Something,
    })
}

/// Gives a new directory, in which everything is done, what its original has.
pub(super) fn apply_directory(job: &Job<'_>, held: &Held<'_>, dir: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    apply(job, held, Copied::Open(dir), path)?;
    flags::set(job, dir, wanted_flags(held, path)?, flags::Part::All);
    Ok(())
}

/// As [`mend_found`], of a directory that was `now` before anything was done in it.
pub(super) fn mend_directory(
    job: &Job<'_>,
    held: &Held<'_>,
    dir: BorrowedFd<'_>,
    now: &Now,
    path: &[u8],
) -> Result<Mended> {
    let copied = Copied::Open(dir);
    let mended = mend(job, held, copied, now, path)?;
    if !job.plans() && mended == Mended::Nothing {
        // What was done in it, and to get into it.
        let after = Now::of(dir).map_err(|error| Error::Write {
            path: shown(path),
            doing: "looking at the directory",
            source: error.into(),
        })?;
        if after.mode != now.mode {
            set_mode(job, copied, now.mode);
        }
        if after.modified != now.modified {
            set_times(job, copied, &held.attributes);
        }
    }
    let wanted = wanted_flags(held, path)?;
    let set = flags::set(job, dir, wanted, flags::Part::All);
    // Its locks were taken off to work in it, and are on again.
    let relocked = now.locked && flags::lock(wanted) && !job.plans();
    Ok(match set {
        flags::Set::Changed if !relocked => Mended::Something,
        _ => mended,
    })
}

/// Says whether a file would be mended.
fn differs(job: &Job<'_>, held: &Held<'_>, found: &Found, path: &[u8]) -> Result<bool> {
    let attributes = &held.attributes;
    let owner = wanted_owner(job, held);
    let owned = if owner.is_some() { Owned::Alike } else { Owned::ByUser };
    let wanted = wanted_xattrs(job, held, owned, path)?;
    let there = Copied::Handle(found.handle()).xattrs();
    Ok(owner.is_some_and(|owner| owner != found.now.owner)
        || wanted_mode(job, attributes, owned) != found.now.mode
        || attributes.modified != found.now.modified
        || there != wanted)
}

/// The flags of the original.
pub(super) fn wanted_flags(held: &Held<'_>, path: &[u8]) -> Result<u32> {
    held.flags().map_err(|source| Error::Read {
        path: shown(path),
        source,
    })
}

/// To whom the copy is to be given; `None` if it is the user's, which is told.
fn wanted_owner(job: &Job<'_>, held: &Held<'_>) -> Option<Owner> {
    let owner = match job.options.owners {
        Owners::Own => return None,
        Owners::Keep => held.attributes.owner,
        Owners::Names => job.names.owner(job, held),
    };
    let is_user = (owner.uid, owner.gid) == (job.user.uid, job.user.gid);
    if job.user.uid != 0 && !is_user {
        job.tally.not_kept("owners", job.environment.monitor, || {
            "only root can give files to others; the copies are yours, and --no-owner or --owners=mine says that this is \
             meant"
                .into()
        });
        return None;
    }
    Some(owner)
}

fn set_owner(job: &Job<'_>, copied: Copied<'_>, owner: Owner) -> Owned {
    match copied.set_owner(owner.uid, owner.gid) {
        Ok(()) => Owned::Alike,
        Err(error) => {
            not_kept(job, "owners", error);
            Owned::ByUser
        }
    }
}

/// The attributes that the copy should have, sorted by name.
fn wanted_xattrs(job: &Job<'_>, held: &Held<'_>, owned: Owned, path: &[u8]) -> Result<Vec<Xattr>> {
    let mut xattrs = match held.part() {
        Part::Inside => held.xattrs().map_err(|source| Error::Read {
            path: shown(path),
            source,
        })?,
        Part::Catalogue | Part::Image => Vec::new(),
    };
    if owned == Owned::ByUser {
        let before = xattrs.len();
        xattrs.retain(|(name, _)| name != CAPABILITY);
        if xattrs.len() != before {
            job.tally.not_kept("capabilities", job.environment.monitor, || {
                "they go with the owner, who is not kept".into()
            });
        }
    }
    if job.options.owners == Owners::Names {
        for (name, value) in &mut xattrs {
            if name == ACCESS_ACL || name == DEFAULT_ACL {
                acl::map(value, |whose| job.names.number(job, held, whose));
            }
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

fn wanted_mode(job: &Job<'_>, attributes: &Attributes, owned: Owned) -> u16 {
    if owned == Owned::Alike || attributes.mode & SET_ID == 0 {
        return attributes.mode;
    }
    job.tally.not_kept("set-user-ID bits", job.environment.monitor, || {
        "they go with the owner, who is not kept".into()
    });
    attributes.mode & !SET_ID
}

/// Sets what is missing or differs and removes what the backup does not have; says whether there was anything to do.
fn mend_xattrs(job: &Job<'_>, copied: Copied<'_>, wanted: &[Xattr]) -> bool {
    let there = copied.xattrs();
    let mut mended = false;
    for (name, value) in wanted {
        if !there.iter().any(|known| (&known.0, &known.1) == (name, value)) {
            mended |= job.plans() || set_xattr(job, copied, name, value);
        }
    }
    for (name, _) in &there {
        let kept = wanted.iter().any(|(known, _)| known == name);
        if !kept && is_ours(name) {
            mended = true;
            if !job.plans() {
                copied.remove_xattr(name);
            }
        }
    }
    mended
}

/// Says whether an attribute comes with the file: labels and checksums of the target's own are not taken away.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"trusted.") || matches!(name, ACCESS_ACL | DEFAULT_ACL | CAPABILITY)
}

fn set_xattr(job: &Job<'_>, copied: Copied<'_>, name: &[u8], value: &[u8]) -> bool {
    let Err(error) = copied.set_xattr(name, value) else {
        return true;
    };
    let kind = match name.split(|byte| *byte == b'.').next() {
        _ if name.starts_with(b"system.posix_acl_") => "ACLs",
        Some(b"user") => "user attributes",
        Some(b"security") => "security attributes",
        Some(b"trusted") => "trusted attributes",
        _ => "other extended attributes",
    };
    not_kept(job, kind, error);
    false
}

fn set_mode(job: &Job<'_>, copied: Copied<'_>, mode: u16) {
    if let Err(error) = copied.set_mode(Mode::from_raw_mode(u32::from(mode))) {
        not_kept(job, "modes", error);
    }
}

fn set_times(job: &Job<'_>, copied: Copied<'_>, attributes: &Attributes) {
    let times = Timestamps {
        last_access: timespec(attributes.accessed),
        last_modification: timespec(attributes.modified),
    };
    if let Err(error) = copied.set_times(&times) {
        not_kept(job, "times", error);
    }
}

pub(super) fn not_kept(job: &Job<'_>, kind: &str, error: Errno) {
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
            Self::Handle(fd) => rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            // Only of devices and pipes that this run has just made.
            Self::Named(dir, name) => rustix::fs::chmodat(dir, name, mode, AtFlags::empty()),
            Self::Handle(fd) => rustix::fs::chmod(path_of_handle(fd), mode),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Self::Named(dir, file) => rustix::fs::lsetxattr(path_of(dir, file), name, value, flags),
            Self::Handle(fd) => rustix::fs::setxattr(path_of_handle(fd), name, value, flags),
        }
    }

    /// Removes an attribute if it is there; a target without any has none.
    fn remove_xattr(self, name: &[u8]) {
        let _ = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Named(dir, file) => rustix::fs::lremovexattr(path_of(dir, file), name),
            Self::Handle(fd) => rustix::fs::removexattr(path_of_handle(fd), name),
        };
    }

    /// All attributes of a file that was there, sorted by name; none where the target has no such thing.
    fn xattrs(self) -> Vec<Xattr> {
        let path = match self {
            Self::Open(fd) | Self::Handle(fd) => path_of_handle(fd).into_bytes(),
            Self::Named(dir, file) => path_of(dir, file),
        };
        // Most files have none, and their list takes no room.
        if rustix::fs::listxattr_query(&*path) == Ok(0) {
            return Vec::new();
        }
        let mut list = vec![0; XATTR_MAX];
        let len = rustix::fs::listxattr(&*path, &mut list[..]).unwrap_or(0);
        list.truncate(len);
        let mut value = vec![0; XATTR_MAX];
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let xattrs = names.filter_map(|name| {
            let len = rustix::fs::getxattr(&*path, name, &mut value[..]).ok()?;
            Some((name.to_vec(), value.get(..len)?.to_vec()))
        });
        let mut xattrs: Vec<Xattr> = xattrs.collect();
        xattrs.sort();
        xattrs
    }

    fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times),
            Self::Named(dir, name) => rustix::fs::utimensat(dir, name, times, AtFlags::SYMLINK_NOFOLLOW),
            Self::Handle(fd) => rustix::fs::utimensat(rustix::fs::CWD, path_of_handle(fd), times, AtFlags::empty()),
        }
    }
}
