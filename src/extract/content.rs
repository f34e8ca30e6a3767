//! The content of one file: data is written, holes stay holes, and the copy gets its name when nothing is missing.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{self, Copied};
use super::place::{Dir, Fresh};
use super::{Error, Job, Result, shown};
use crate::bytes::{to_u64, to_usize};
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
    /// Its path in the target, if other names of it may follow.
    pub(super) first_name: Option<Vec<u8>>,
}

/// Copies one file with all its attributes; after any error nothing of it is left.
pub(super) fn copy(job: &Job<'_>, copy: &Copy<'_>) -> Result<()> {
    let failed = |doing| {
        move |source| Error::Write {
            path: shown(&copy.path),
            doing,
            source,
        }
    };
    copy.dir.check_free(&copy.name, job.options.existing, &copy.path)?;
    let opened = copy.held.file().map_err(|source| Error::Read {
        path: shown(&copy.path),
        source,
    })?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |name: &[u8]| rustix::fs::openat(copy.dir.fd(), name, flags, Mode::RUSR | Mode::WUSR);
    let made = Fresh::make(copy.dir.fd(), &copy.name, open);
    let (fresh, fd) = made.map_err(failed("making the file"))?;
    let file = File::from(fd);
    file.set_len(opened.size_bytes()).map_err(failed("setting the size"))?;
    let bytes = write(job, &opened, &file, &copy.path)?;
    attributes::apply(job, &copy.held, Copied::Open(file.as_fd()), &copy.path)?;
    match fresh.publish(&copy.name, job.options.existing) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            return Err(Error::Exists {
                path: shown(&copy.path),
            });
        }
        Err(error) => return Err(failed("naming the file")(error.into())),
    }
    job.tally.add(job.environment.monitor, |report| {
        report.files = report.files.saturating_add(1);
        report.bytes = report.bytes.saturating_add(bytes);
    });
    Ok(())
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
