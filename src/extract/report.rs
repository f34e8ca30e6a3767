//! What a run did, what it could not keep, and what failed, counted from many threads.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Error, Result};
use crate::monitor::Monitor;
use crate::{chunk, fs, image, tree};

/// What was copied; of a run that only plans, what would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Regular files, each once.
    pub files: u64,
    /// Directories made, and those merged unless they are counted below.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Devices, named pipes and sockets.
    pub specials: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Names whose file was as in the backup, with all attributes; only where the target is brought up to date.
    pub unchanged: u64,
    /// Names whose file was as in the backup but for attributes.
    pub mended: u64,
    /// Names removed because the backup does not have them.
    pub removed: u64,
    /// What could not be kept, by kind, with the number of files it concerns: `owners`, `security attributes`.
    pub not_kept: BTreeMap<String, u64>,
    /// What was not copied.
    pub failures: Failures,
}

/// Files that were not copied, by what is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    /// The backup is damaged there.
    pub damaged: u64,
    /// The vault did not answer.
    pub unreachable: u64,
    /// Anything else.
    pub other: u64,
}

/// A report in the making.
#[derive(Default)]
pub(super) struct Tally {
    report: Mutex<Report>,
    /// Why the run must end early.
    fatal: Mutex<Option<Error>>,
    over: AtomicBool,
}

/// The vault did not answer so often: it will not for the rest either.
const UNREACHABLE_LIMIT: u64 = 8;
/// Files between two words on progress.
const COUNT_EVERY: u64 = 64;

impl Tally {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Counts something that was copied.
    pub(super) fn add(&self, monitor: &dyn Monitor, count: impl FnOnce(&mut Report)) {
        let mut report = self.report.lock();
        count(&mut report);
        let files = report.files;
        drop(report);
        if files.is_multiple_of(COUNT_EVERY) {
            monitor.count(&format!("{files} files"));
        }
    }

    /// Counts something that is not kept, and says why the first time.
    pub(super) fn not_kept(&self, kind: &str, monitor: &dyn Monitor, why: impl FnOnce() -> String) {
        let mut report = self.report.lock();
        let count = report.not_kept.entry(kind.to_owned()).or_default();
        *count = count.saturating_add(1);
        let first = *count == 1;
        drop(report);
        if first {
            monitor.warn(&format!("{kind} are not kept: {}", why()));
        }
    }

    /// Tells of something that was not copied; the run ends if nothing more can be.
    pub(super) fn fail(&self, error: Error, monitor: &dyn Monitor) {
        if matches!(error, Error::Interrupted) {
            return;
        }
        let class = class(&error);
        let mut report = self.report.lock();
        let count = match class {
            Class::Damaged => &mut report.failures.damaged,
            Class::Unreachable => &mut report.failures.unreachable,
            Class::Other | Class::Fatal => &mut report.failures.other,
        };
        *count = count.saturating_add(1);
        let fatal = class == Class::Fatal || report.failures.unreachable >= UNREACHABLE_LIMIT;
        drop(report);
        if fatal {
            self.fatal.lock().get_or_insert(error);
            self.over.store(true, Ordering::Relaxed);
        } else {
            monitor.fail(&chain(&error));
        }
    }

    pub(super) fn end(self) -> Result<Report> {
        match self.fatal.into_inner() {
            Some(error) => Err(error),
            None => Ok(self.report.into_inner()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Damaged,
    Unreachable,
    Other,
    /// Every other file would fail alike.
    Fatal,
}

fn class(error: &Error) -> Class {
    match error {
        Error::Read { source, .. } => match source {
            tree::Error::File(fs::Error::Image(error)) | tree::Error::Image(error) => of_image(error),
            tree::Error::File(fs::Error::Stored { source, .. }) => of_chunk(source),
            tree::Error::File(fs::Error::Corrupt { .. } | fs::Error::NoInode { .. }) => Class::Damaged,
            _ => Class::Other,
        },
        Error::Write { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => Class::Fatal,
            _ => Class::Other,
        },
        _ => Class::Other,
    }
}

fn of_chunk(error: &chunk::Error) -> Class {
    match error {
        chunk::Error::Corrupt { .. } | chunk::Error::Missing { .. } => Class::Damaged,
        _ => Class::Unreachable,
    }
}

fn of_image(error: &image::Error) -> Class {
    match error {
        image::Error::Corrupt { .. } | image::Error::Missing { .. } => Class::Damaged,
        image::Error::Unavailable { .. } => Class::Unreachable,
        _ => Class::Other,
    }
}

/// An error with its causes, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
