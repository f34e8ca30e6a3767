//! Copies files and trees out of a backup, without a mount: as `cp -a` does, as far as the user may.
//!
//! Names, links and devices come from the machine that was backed up and may be hostile: nothing here follows a path of
//! theirs. Below the target every step is one name in an open directory (`place`), and no symbolic link is ever gone
//! through. A file has a temporary name until it is complete with owner, mode and times; a directory gets its own when
//! everything in it is done. One thread walks the tree and makes all but the contents; a crew copies these.

mod attributes;
mod content;
mod crew;
mod links;
mod place;
mod report;
mod walk;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub use report::{Failures, Report};

use crate::fs::FileType;
use crate::monitor::Monitor;
use crate::tree::held::Held;
use crate::tree::{self, Tree};

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target has something of this name.
    #[error("{path}: the target has something of this name already; add --force to replace it")]
    Exists {
        /// What was to be copied.
        path: String,
    },
    /// A directory was named, and whole trees were not asked for.
    #[error("{path} is a directory; add -r to copy it with all that is in it")]
    IsDirectory {
        /// The directory.
        path: String,
    },
    /// The place to copy to will not do; nothing was copied.
    #[error("{path} cannot be the target: {why}")]
    Target {
        /// The target.
        path: String,
        /// Why, with the cure.
        why: String,
    },
    /// What the backup holds is not something that can be copied.
    #[error("{path} is not copied: {why}")]
    Refused {
        /// What was to be copied.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The backup does not give it.
    #[error("{path} cannot be read")]
    Read {
        /// What was to be copied.
        path: String,
        /// The tree's own words.
        #[source]
        source: tree::Error,
    },
    /// The system refuses to make it.
    #[error("{path}: {doing} failed in the target")]
    Write {
        /// What was to be copied.
        path: String,
        /// What failed.
        doing: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The caller asked to stop; what is complete stays.
    #[error(
        "interrupted; every file that has its name in the target is complete, directories may lack files and attributes"
    )]
    Interrupted,
}

/// The result of a part of the work.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether whole trees are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Directories are refused.
    Files,
    /// With everything in them.
    Trees,
}

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those of the backup, where the user is root.
    Keep,
    /// The user's own; set-user-ID bits and capabilities are dropped, since they would be of somebody else.
    Own,
}

/// What to do where the target has a file of the same name. Directories are merged in any case, and get the attributes of the
/// backup's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it, and tell.
    Refuse,
    /// Put the copy in its place, at once and when it is complete.
    Replace,
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Files or trees.
    pub depth: Depth,
    /// Whose they are.
    pub owners: Owners,
    /// What is there already.
    pub existing: Existing,
    /// Threads that copy contents; two for each core if not given.
    pub workers: Option<NonZeroUsize>,
}

/// What a copy needs from outside.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Is told of progress and of all that fails.
    pub monitor: &'a dyn Monitor,
    /// Ends the work soon when it becomes true.
    pub cancel: &'a AtomicBool,
}

/// Something to copy.
pub struct Source<'a> {
    /// The file.
    pub held: Held<'a>,
    /// Its path, for messages.
    pub path: Vec<u8>,
    /// Its name in the target, if that is a directory.
    pub name: Vec<u8>,
}

/// Everything the parts of one run share.
struct Job<'a> {
    tree: &'a Tree,
    options: Options,
    environment: Environment<'a>,
    user: attributes::User,
    tally: report::Tally,
    links: links::Links,
}

impl Job<'_> {
    /// Says whether nothing more should be begun.
    fn stopped(&self) -> bool {
        self.environment.cancel.load(Ordering::Relaxed) || self.tally.is_over()
    }

    fn fail(&self, error: Error) {
        self.tally.fail(error, self.environment.monitor);
    }
}

/// Copies `sources` to `target`: into it if it is a directory, else the only source gets its name.
///
/// What cannot be copied is told to the monitor, counted in the report, and does not keep the rest back.
///
/// # Errors
/// `Target` before anything is written; `Interrupted`; `Write` if the target is full or takes no more.
pub fn run(
    tree: &Tree,
    sources: Vec<Source<'_>>,
    target: &Path,
    options: Options,
    environment: Environment<'_>,
) -> Result<Report> {
    let (base, renamed) = place::open_target(target, sources.len())?;
    place::allow_many_open_files();
    let total = match sources.as_slice() {
        [one] if one.held.attributes.file_type == FileType::File => one.held.attributes.size_bytes,
        _ => 0,
    };
    let job = Job {
        tree,
        options,
        environment,
        user: attributes::User::current(),
        tally: report::Tally::default(),
        links: links::Links::default(),
    };
    environment.monitor.begin("cp", total);
    let base = std::sync::Arc::new(base);
    crew::with_crew(&job, |queue| {
        let mut walker = walk::Walker::new(&job, queue, std::sync::Arc::clone(&base));
        for source in sources {
            let name = renamed.clone().unwrap_or_else(|| source.name.clone());
            walker.copy(source, name);
        }
    });
    environment.monitor.end();
    if environment.cancel.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let report = job.tally.end()?;
    base.sync()?;
    Ok(report)
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
