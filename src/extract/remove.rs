//! Removes what the backup does not have: never through a symbolic link, never on another file system.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Dir as Names, FileType};
use rustix::io::Errno;

use super::place::{Dir, Original, open_directory_here};
use super::walk::MAX_DEPTH;
use super::{Action, Error, Job, Result, shown};

/// What mkfs(8) puts at the top of a file system; it belongs to that one, not to its content.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// A directory that is being emptied.
struct Level {
    fd: OwnedFd,
    names: Names,
    name: Vec<u8>,
    /// Path below the target.
    below: Vec<u8>,
    /// Something in it stays, so that it stays.
    kept: bool,
}

/// Removes the names of a complete directory of the target that its original does not have.
pub(super) fn extras(job: &Job<'_>, dir: &Dir<'_>, original: &Original<'_>) {
    if !dir.was_there() || dir.names_lost.load(Ordering::Relaxed) {
        return;
    }
    let failed = |path: &[u8], error: Errno| job.fail(write_error(path, "listing what is there", error));
    let names = match Names::read_from(dir.fd()) {
        Ok(names) => names,
        Err(error) => return failed(&original.below, error),
    };
    for listed in names {
        if job.stopped() {
            return;
        }
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return failed(&original.below, error),
        };
        let name = listed.file_name().to_bytes();
        if matches!(name, b"." | b"..") || dir.parent.is_none() && name == LOST_AND_FOUND {
            continue;
        }
        match original.held.lookup(name) {
            Ok(Some(_)) => {}
            Ok(None) => {
                if let Err(error) = tree(job, dir.fd(), name, super::joined(&original.below, name)) {
                    job.fail(error);
                }
            }
            Err(source) => {
                let path = shown(&super::joined(&original.path, name));
                job.fail(Error::Read { path, source });
            }
        }
    }
}

/// Removes a file, or a directory with everything in it.
pub(super) fn tree(job: &Job<'_>, dir: BorrowedFd<'_>, name: &[u8], below: Vec<u8>) -> Result<()> {
    let mut levels: Vec<Level> = Vec::new();
    step(job, dir, name, below, &mut levels)?;
    while let Some(level) = levels.last_mut() {
        if job.stopped() {
            return Err(Error::Interrupted);
        }
        let failed = match level.names.next() {
            Some(Ok(listed)) => {
                let name = listed.file_name().to_bytes().to_vec();
                if matches!(name.as_slice(), b"." | b"..") {
                    continue;
                }
                let below = super::joined(&level.below, &name);
                match level.fd.try_clone() {
                    Ok(fd) => step(job, fd.as_fd(), &name, below, &mut levels).err(),
                    Err(source) => Some(Error::Write {
                        path: shown(&below),
                        doing: "removing it",
                        source,
                    }),
                }
            }
            Some(Err(error)) => Some(write_error(&level.below, "listing it", error)),
            None => {
                let Some(done) = levels.pop() else { break };
                let parent = levels.last().map_or(dir, |level| level.fd.as_fd());
                emptied(job, parent, &done).err()
            }
        };
        if let Some(error) = failed {
            job.fail(error);
            levels.last_mut().into_iter().for_each(|level| level.kept = true);
        }
    }
    Ok(())
}

/// Removes one name; of a directory, what is in it comes first.
fn step(job: &Job<'_>, dir: BorrowedFd<'_>, name: &[u8], below: Vec<u8>, levels: &mut Vec<Level>) -> Result<()> {
    let failed = |error| write_error(&below, "removing it", error);
    let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        if !job.plans() {
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).map_err(failed)?;
        }
        removed(job, &below);
        return Ok(());
    }
    if levels.len() >= MAX_DEPTH {
        return Err(Error::Refused {
            path: shown(&below),
            why: "it lies too deep to be removed",
        });
    }
    let fd = match open_directory_here(dir, name) {
        Err(Errno::XDEV) => {
            return Err(Error::Refused {
                path: shown(&below),
                why: "it is another file system, which is not removed",
            });
        }
        opened => opened.map_err(failed)?,
    };
    let names = Names::read_from(&fd).map_err(failed)?;
    levels.push(Level {
        fd,
        names,
        name: name.to_vec(),
        below,
        kept: false,
    });
    Ok(())
}

/// Removes a directory in which nothing is left.
fn emptied(job: &Job<'_>, parent: BorrowedFd<'_>, done: &Level) -> Result<()> {
    if done.kept {
        return Err(Error::Refused {
            path: shown(&done.below),
            why: "something in it could not be removed",
        });
    }
    if !job.plans() {
        let gone = rustix::fs::unlinkat(parent, &done.name, AtFlags::REMOVEDIR);
        gone.map_err(|error| write_error(&done.below, "removing it", error))?;
    }
    removed(job, &done.below);
    Ok(())
}

fn removed(job: &Job<'_>, below: &[u8]) {
    job.step(Action::Remove, below);
    job.tally.add(job.environment.monitor, |report| {
        report.removed = report.removed.saturating_add(1);
    });
}

/// Makes way for a file where the target has a directory: an empty one goes, any other one only if what the backup does not have goes.
pub(super) fn directory_in_the_way(job: &Job<'_>, dir: BorrowedFd<'_>, name: &[u8], below: &[u8]) -> Result<()> {
    if job.options.extra == super::Extra::Remove {
        return tree(job, dir, name, below.to_vec());
    }
    let refused = || Error::Refused {
        path: shown(below),
        why: "a directory that is not empty is in its place; add --delete to remove it",
    };
    if job.plans() {
        let empty = open_directory_here(dir, name).and_then(|fd| is_empty(fd.as_fd(), &[]));
        return if empty == Ok(true) { Ok(()) } else { Err(refused()) };
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(refused()),
        other => other.map_err(|error| write_error(below, "removing the directory in its place", error)),
    }
}

/// Says whether a directory has no names but these.
pub(super) fn is_empty(dir: BorrowedFd<'_>, but: &[&[u8]]) -> Result<bool, Errno> {
    for listed in Names::read_from(dir)? {
        let listed = listed?;
        let name = listed.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && !but.contains(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says whether a directory has nothing in it but what its file system was made with.
pub(super) fn is_as_new(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    is_empty(dir, &[LOST_AND_FOUND])
}

fn write_error(path: &[u8], doing: &'static str, error: Errno) -> Error {
    Error::Write {
        path: shown(path),
        doing,
        source: error.into(),
    }
}
