//! The content of one file: data is written, holes stay holes, and the copy gets its name when nothing is missing.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::attributes::{self, Copied};
use super::flags::{self, Part};
use super::found::{Found, Identity};
use super::place::{Dir, Fresh};
use super::{Action, Error, Job, Result, shown};
use crate::bytes::{is_zero, to_u64, to_usize};
use crate::image::handle::LARGE_READ;
use crate::tree::OpenFile;
use crate::tree::held::Held;

/// Bytes of one read: below what counts as large, so that a long file is read ahead by other threads.
const STEP: usize = LARGE_READ / 2;

/// A file whose content is to be copied.
pub(super) struct Copy<'a> {
    /// Where to.
    pub(super) dir: Arc<Dir<'a>>,
    pub(super) name: Vec<u8>,
    /// What.
    pub(super) held: Held<'a>,
    /// Its path, for messages.
    pub(super) path: Vec<u8>,
    /// Its path below the target.
    pub(super) below: Vec<u8>,
    /// Whether other names of it may follow.
    pub(super) names: Names,
    /// What has its name in the target, where that may stay.
    pub(super) found: Option<Found>,
}

/// Whether a file may have other names in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    One,
    FirstOfSeveral,
}

/// Copies one file with all its attributes, or leaves the one that is there if it is the same; after any error nothing of it is
/// left. Gives the identity of a file that stayed.
pub(super) fn copy(job: &Job<'_>, copy: &Copy<'_>) -> Result<Option<Identity>> {
    copy.dir.check_free(&copy.name, job.options.existing, &copy.path)?;
    let opened = || {
        copy.held.file().map_err(|source| Error::Read {
            path: shown(&copy.path),
            source,
        })
    };
    if let Some(found) = &copy.found {
        let unclear = || is_same(job, &opened()?, found, &copy.path);
        if job.stays(found, &copy.held.attributes, copy.names, unclear)? {
            job.mend(&copy.held, found, &copy.path, &copy.below, copy.names)?;
            job.environment.monitor.advance(copy.held.attributes.size_bytes);
            return Ok(Some(found.now.identity));
        }
    }
    let action = if copy.found.is_some() {
        Action::Replace
    } else {
        Action::Make
    };
    job.step(action, &copy.below);
    let bytes = if job.plans() {
        job.environment.monitor.advance(copy.held.attributes.size_bytes);
        copy.held
            .attributes
            .blocks
            .saturating_mul(512)
            .min(copy.held.attributes.size_bytes)
    } else {
        make(job, copy, &opened()?)?
    };
    job.tally.add(job.environment.monitor, |report| {
        report.files = report.files.saturating_add(1);
        report.bytes = report.bytes.saturating_add(bytes);
    });
    Ok(None)
}

/// Makes the file; gives the number of bytes written.
fn make(job: &Job<'_>, copy: &Copy<'_>, opened: &OpenFile) -> Result<u64> {
    let failed = |doing| {
        move |source| Error::Write {
            path: shown(&copy.path),
            doing,
            source,
        }
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |name: &[u8]| rustix::fs::openat(copy.dir.fd(), name, flags, Mode::RUSR | Mode::WUSR);
    let made = Fresh::make(copy.dir.fd(), &copy.name, open);
    let (fresh, fd) = made.map_err(failed("making the file"))?;
    let file = File::from(fd);
    let flags = attributes::wanted_flags(&copy.held, &copy.path)?;
    flags::set(job, file.as_fd(), flags, Part::Storage);
    file.set_len(opened.size_bytes()).map_err(failed("setting the size"))?;
    let bytes = write(job, opened, &file, &copy.path)?;
    attributes::apply(job, &copy.held, Copied::Open(file.as_fd()), &copy.path)?;
    flags::set(job, file.as_fd(), flags, Part::Plain);
    job.make_way(copy.found.as_ref(), &copy.path)?;
    match fresh.publish(&copy.name, job.options.existing) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            return Err(Error::Exists {
                path: shown(&copy.path),
            });
        }
        Err(error) => return Err(failed("naming the file")(error.into())),
    }
    // A locked file could not have been given its name, and takes no other ones.
    match copy.names {
        _ if !flags::lock(flags) => {}
        Names::One => drop(flags::set(job, file.as_fd(), flags, Part::All)),
        Names::FirstOfSeveral => job.lock_late(&copy.below, flags),
    }
    Ok(bytes)
}

/// Says whether a file of the target, of the same size, has the same content; zeros are zeros, stored or not.
fn is_same(job: &Job<'_>, ours: &OpenFile, found: &Found, path: &[u8]) -> Result<bool> {
    let read = |source| Error::Read {
        path: shown(path),
        source,
    };
    // What may not be read cannot be called the same.
    let Ok(theirs) = found.open().map(File::from) else {
        return Ok(false);
    };
    let size = ours.size_bytes();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < size {
        let data = ours.next_data(at).map_err(read)?.unwrap_or(size).clamp(at, size);
        if !is_zero_between(&theirs, at, data, &mut buffer) {
            return Ok(false);
        }
        at = data;
        if at == size {
            break;
        }
        let hole = ours.next_hole(at).map_err(read)?.clamp(at.saturating_add(1), size);
        while at < hole {
            if job.stopped() {
                return Err(Error::Interrupted);
            }
            let bytes = ours
                .read(at, STEP.min(to_usize(hole.saturating_sub(at))))
                .map_err(read)?;
            let there = buffer.get_mut(..bytes.len()).unwrap_or_default();
            if bytes.is_empty() || theirs.read_exact_at(there, at).is_err() || *there != *bytes {
                return Ok(false);
            }
            at = at.saturating_add(to_u64(bytes.len()));
        }
    }
    Ok(true)
}

/// Says whether a range of a file reads as zeros; its holes are passed over.
fn is_zero_between(file: &File, start: u64, end: u64, buffer: &mut [u8]) -> bool {
    let mut at = start;
    while at < end {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.max(at),
            Err(Errno::NXIO) => return true,
            // Where the file system cannot tell, everything is read.
            Err(_) => at,
        };
        let len = to_usize(end.saturating_sub(at)).min(buffer.len());
        let there = buffer.get_mut(..len).unwrap_or_default();
        if file.read_exact_at(there, at).is_err() || !is_zero(there) {
            return false;
        }
        at = at.saturating_add(to_u64(len));
    }
    true
}

/// Writes what is data; gives the number of bytes.
fn write(job: &Job<'_>, from: &OpenFile, to: &File, path: &[u8]) -> Result<u64> {
    let read = |source| Error::Read {
        path: shown(path),
        source,
    };
    let size = from.size_bytes();
    let (mut at, mut written) = (0, 0_u64);
    while let Some(data) = from.next_data(at).map_err(read)?.filter(|data| *data < size) {
        job.environment.monitor.advance(data.saturating_sub(at));
        at = data;
        let hole = from.next_hole(at).map_err(read)?.clamp(at.saturating_add(1), size);
        while at < hole {
            if job.stopped() {
                return Err(Error::Interrupted);
            }
            let bytes = from
                .read(at, STEP.min(to_usize(hole.saturating_sub(at))))
                .map_err(read)?;
            if bytes.is_empty() {
                let why = "it ends before its size";
                return Err(Error::Refused { path: shown(path), why });
            }
            to.write_all_at(&bytes, at).map_err(|source| Error::Write {
                path: shown(path),
                doing: "writing",
                source,
            })?;
            let len = to_u64(bytes.len());
            at = at.saturating_add(len);
            written = written.saturating_add(len);
            job.environment.monitor.advance(len);
        }
    }
    job.environment.monitor.advance(size.saturating_sub(at));
    Ok(written)
}
