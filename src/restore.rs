//! Restore: a disk image to a new file, a block device or an existing file, verified after writing.
//!
//! The order is always the same: look at the target, plan, write, flush, read everything back and compare; only then does
//! a new file get its name. What can be refused is refused before the first byte is written. A killed restore leaves at
//! most a file `.NAME.vaultfs-XXXX.partial`, which may be deleted.

mod compare;
mod crew;
mod device;
mod layout;
mod partial;
mod plan;
mod qcow2;
mod raw;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::plan::{Kind, Piece, Pieces, Plan, Range};
use crate::bytes::size_text;
use crate::image::{self, ReadAt};
use crate::monitor::Monitor;
use crate::source::Format;

/// Why a restore failed; unless the message says otherwise the target is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target is there and may not be overwritten.
    #[error("{} exists; choose another path, or add --force to overwrite it", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The device has fewer bytes than the image; nothing was written.
    #[error("{} has {size} bytes and the image {needed}; nothing was written, choose a larger device", path.display())]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Bytes it has.
        size: u64,
        /// Bytes of the image.
        needed: u64,
    },
    /// The device is mounted or held by something; nothing was written.
    #[error("{} is in use: {by}; nothing was written", path.display())]
    Busy {
        /// The device.
        path: PathBuf,
        /// Who uses it, and what to do.
        by: String,
    },
    /// The target cannot take this restore at all; nothing was written.
    #[error("{} cannot be the target: {why}", path.display())]
    Unusable {
        /// The target.
        path: PathBuf,
        /// The reason, with the cure.
        why: String,
    },
    /// The image could not be read.
    #[error("the image could not be read")]
    Image(#[from] image::Error),
    /// The operating system failed on the target; a failed flush is final, since what it lost stays lost.
    #[error("{what} failed")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// What was read back is not what was written.
    #[error("{} differs from the image at byte {at} after writing; do not trust that disk, restore to another one", path.display())]
    Mismatch {
        /// The target.
        path: PathBuf,
        /// First differing byte of the disk.
        at: u64,
    },
}

/// The result of a restore.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do with a target that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse it.
    #[default]
    Refuse,
    /// Write the image onto it: a block device, or a file, which gets the image's exact size.
    Overwrite,
}

/// Where the image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// File or block device.
    pub path: PathBuf,
    /// How the disk is written; qcow2 goes to new files only.
    pub format: Format,
    /// Whether a target that exists may be overwritten.
    pub existing: Existing,
}

/// How the work is done; no option changes the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Chunk size of the image, so that no chunk is read twice; rounded to a power of two from 64 KiB to 4 MiB.
    pub chunk_size: u64,
    /// Threads; as many as there are cores if not given.
    pub workers: Option<NonZeroUsize>,
}

/// What a restore did, in bytes of the disk; the last three add up to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Size of the disk.
    pub bytes: u64,
    /// Written, or made zero on a target that held something else.
    pub written: u64,
    /// Data that the target held already.
    pub unchanged: u64,
    /// Zeros that needed no writing.
    pub holes: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bytes, written, unchanged, holes] = [self.bytes, self.written, self.unchanged, self.holes].map(size_text);
        write!(
            f,
            "{bytes}: {written} written, {unchanged} unchanged, {holes} of holes; verified"
        )
    }
}

/// Everything the steps of one restore share.
struct Job<'a> {
    image: &'a dyn ReadAt,
    plan: &'a Plan,
    workers: NonZeroUsize,
    monitor: &'a dyn Monitor,
}

/// Writes `image` to `to` and verifies it by reading it back.
///
/// A new file appears under its name, mode 0600, only when it is complete, flushed and verified; until then, and after any
/// failure, there is none. A device or an existing file is compared chunk by chunk and only differing chunks are
/// written; after a failure in the middle, which the monitor is told, the same restore may be run again.
///
/// # Errors
/// Every variant of [`Error`]; `Exists`, `TooSmall`, `Busy` and `Unusable` come before anything is written.
pub fn run(image: Arc<dyn ReadAt>, to: &Target, options: &Options, monitor: &dyn Monitor) -> Result<Report> {
    let place = Place::open(to, image.len())?;
    let plan = Plan::of(&*image, options.chunk_size)?;
    log::debug!("restore to {}: {plan}", to.path.display());
    let job = Job {
        image: &*image,
        plan: &plan,
        workers: options
            .workers
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN),
        monitor,
    };
    let mut report = match place {
        Place::New => new_file(&job, to)?,
        Place::There(file) => overwrite(&job, &file, &to.path)?,
    };
    report.bytes = image.len();
    Ok(report)
}

/// The target as it was found.
enum Place {
    /// Nothing there yet.
    New,
    /// A device large enough and free, or a file.
    There(File),
}

impl Place {
    fn open(to: &Target, needed: u64) -> Result<Self> {
        let path = &to.path;
        let found = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return device::refuse_missing(path, partial::directory(path)).map(|()| Self::New);
            }
            Err(error) => Err(error),
            Ok(_) if to.existing == Existing::Refuse => return Err(Error::Exists { path: path.clone() }),
            Ok(_) => std::fs::metadata(path),
        };
        let kind = found.map_err(|error| io("looking at", path, error))?;
        let unusable = |why: &str| {
            let why = why.to_owned();
            Err(Error::Unusable {
                path: path.clone(),
                why,
            })
        };
        match to.format {
            Format::Qcow2 => unusable("a qcow2 is written to a new file only; remove this one or choose another path"),
            Format::Raw if kind.file_type().is_block_device() => device::open(path, needed).map(Self::There),
            Format::Raw if kind.is_file() => existing_file(path).map(Self::There),
            Format::Raw => unusable("it is neither a regular file nor a block device"),
        }
    }
}

fn existing_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|error| io("opening", path, error))
}

fn new_file(job: &Job, to: &Target) -> Result<Report> {
    partial::warn_if_full(&to.path, job.plan.data_bytes(), job.monitor);
    let partial = partial::Partial::create(&to.path)?;
    let report = match to.format {
        Format::Raw => raw::write_new(job, &partial)?,
        Format::Qcow2 => qcow2::write_new(job, &partial)?,
    };
    partial.publish()?;
    Ok(report)
}

fn overwrite(job: &Job, file: &File, path: &Path) -> Result<Report> {
    device::say_if_larger(file, path, job);
    raw::overwrite(job, file, path).inspect_err(|_| {
        job.monitor.warn(&format!(
            "{} is partly overwritten and not usable as it is; run the same restore again once the cause is removed",
            path.display()
        ));
    })
}

fn io(doing: &str, path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        what: format!("{doing} {}", path.display()),
        source,
    }
}

/// Flushes the target to its medium and drops it from the page cache, so that the comparison reads the medium.
fn flush(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|error| io("flushing", path, error))?;
    // Only advice: without it the comparison still reads what was written.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}
