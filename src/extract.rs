//! Copies files and trees out of a backup, without a mount: as `cp -a` does, as far as the user may.
//!
//! Names, links and devices come from the machine that was backed up and may be hostile: nothing here follows a path of
//! theirs. Below the target every step is one name in an open directory (`place`), and no symbolic link is ever gone
//! through. A file has a temporary name until it is complete with owner, mode and times; a directory gets its own when
//! everything in it is done. One thread walks the tree and makes all but the contents; a crew copies these.

mod acl;
mod attributes;
mod content;
mod crew;
mod flags;
mod found;
mod leaf;
mod links;
mod owners;
mod parts;
mod place;
mod remove;
mod report;
mod walk;

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

pub use parts::Parts;
pub use report::{Failures, Report};

use crate::fs::FileType;
use crate::monitor::Monitor;
use crate::tree::held::Held;
use crate::tree::{self, Attributes, Tree};
use attributes::Mended;
use content::Names;
use found::{Found, Verdict};
use place::Dir;

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
    /// Those of the backup by number, where the user is root.
    Keep,
    /// Those of the backup by name, where this machine knows the name, else by number; where the user is root.
    Names,
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
    /// Leave it if it is the same but for attributes, and mend these; else as `Replace`. What is no directory also gives way to one.
    Update(Compare),
}

/// When a regular file of the target is taken for that of the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Size and time of the last change, to the nanosecond, are equal.
    Times,
    /// The content is equal: both are read.
    Content,
}

/// What to do with names in the target that the backup does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Leave them.
    Leave,
    /// Remove them with everything below, when the rest of their directory is done.
    Remove,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The work is done.
    Perform,
    /// It is only told what would be done.
    Plan,
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
    /// What is there besides.
    pub extra: Extra,
    /// Whether it is done.
    pub act: Act,
    /// Threads that copy contents; two for each core if not given.
    pub workers: Option<NonZeroUsize>,
}

/// Something done to a name in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It was not there.
    Make,
    /// Another file had the name.
    Replace,
    /// The file was there, and some of its attributes were others.
    Mend,
    /// The backup does not have it.
    Remove,
}

/// Is told of each action with the path below the target; called from many threads.
pub type Steps<'a> = &'a (dyn Fn(Action, &[u8]) + Sync);

/// What a copy needs from outside.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Is told of progress and of all that fails.
    pub monitor: &'a dyn Monitor,
    /// Ends the work soon when it becomes true.
    pub cancel: &'a AtomicBool,
    /// Is told what is done, if anybody wants to know.
    pub steps: Option<Steps<'a>>,
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

/// A directory that is put back as a whole, or parts of it.
pub struct Whole<'a> {
    /// The directory.
    pub held: Held<'a>,
    /// Its path, for messages.
    pub path: Vec<u8>,
    /// What of it.
    pub parts: Parts,
    /// Bytes to go through, for the progress; 0 if nobody knows.
    pub total_bytes: u64,
}

/// Everything the parts of one run share.
struct Job<'a> {
    tree: &'a Tree,
    options: Options,
    environment: Environment<'a>,
    user: attributes::User,
    tally: report::Tally,
    links: links::Links,
    names: owners::Names,
    /// Flags that are set at the end.
    late: Mutex<Vec<flags::Late>>,
}

impl<'a> Job<'a> {
    fn new(tree: &'a Tree, options: Options, environment: Environment<'a>) -> Self {
        Self {
            tree,
            options,
            environment,
            user: attributes::User::current(),
            tally: report::Tally::default(),
            links: links::Links::default(),
            names: owners::Names::default(),
            late: Mutex::default(),
        }
    }

    /// Says whether nothing more should be begun.
    fn stopped(&self) -> bool {
        self.environment.cancel.load(Ordering::Relaxed) || self.tally.is_over()
    }

    /// Says whether nothing may be changed.
    fn plans(&self) -> bool {
        self.options.act == Act::Plan
    }

    fn fail(&self, error: Error) {
        self.tally.fail(error, self.environment.monitor);
    }

    fn step(&self, action: Action, below: &[u8]) {
        if let Some(steps) = self.environment.steps {
            steps(action, below);
        }
    }

    /// Says whether what the target has stays; `unclear` is asked where content must tell.
    fn stays(
        &self,
        found: &Found,
        wanted: &Attributes,
        names: Names,
        unclear: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let Existing::Update(compare) = self.options.existing else {
            return Ok(false);
        };
        let same = match found.now.verdict(wanted, compare) {
            Verdict::Same => true,
            Verdict::Differs => false,
            Verdict::Unclear => unclear()?,
        };
        Ok(same && (names == Names::One || self.links.claim(found.now.identity)))
    }

    /// Brings the attributes of a file that stays up to date.
    fn mend(&self, held: &Held<'_>, found: &Found, path: &[u8], below: &[u8], names: Names) -> Result<()> {
        let part = match names {
            Names::One => flags::Part::All,
            Names::FirstOfSeveral => flags::Part::Plain,
        };
        let mended = attributes::mend_found(self, held, found, path, part)?;
        if names == Names::FirstOfSeveral {
            let flags = attributes::wanted_flags(held, path)?;
            if flags::lock(flags) {
                self.lock_late(below, flags);
            }
        }
        self.kept(mended, below);
        Ok(())
    }

    /// Counts a name whose file stays.
    fn kept(&self, mended: Mended, below: &[u8]) {
        if mended == Mended::Something {
            self.step(Action::Mend, below);
        }
        self.tally.add(self.environment.monitor, |report| {
            let count = match mended {
                Mended::Nothing => &mut report.unchanged,
                Mended::Something => &mut report.mended,
            };
            *count = count.saturating_add(1);
        });
    }

    /// Makes what has a name ready to lose it.
    fn make_way(&self, found: Option<&Found>, path: &[u8]) -> Result<()> {
        let unlocked = found.map_or(Ok(()), flags::unlock);
        unlocked.map_err(|error| Error::Write {
            path: shown(path),
            doing: "unlocking what is there",
            source: error.into(),
        })
    }

    fn lock_late(&self, below: &[u8], wanted: u32) {
        let below = below.to_vec();
        self.late.lock().push(flags::Late { below, wanted });
    }
}

/// Copies `sources` to `target`: into it if it is a directory, else the only source gets its name.
///
/// What cannot be copied is told to the monitor, counted in the report, and does not keep the rest back.
///
/// # Errors
/// `Target` before anything is written; `Interrupted`; `Write` if the target is full or takes no more.
pub fn run<'a>(
    tree: &'a Tree,
    sources: Vec<Source<'a>>,
    target: &Path,
    options: Options,
    environment: Environment<'a>,
) -> Result<Report> {
    let (base, renamed) = place::open_target(target, sources.len())?;
    let total = match sources.as_slice() {
        [one] if one.held.attributes.file_type == FileType::File => one.held.attributes.size_bytes,
        _ => 0,
    };
    let job = Job::new(tree, options, environment);
    environment.monitor.begin("cp", total);
    perform(job, base, |walker| {
        for source in sources {
            let name = renamed.clone().unwrap_or_else(|| source.name.clone());
            walker.copy(source, name);
        }
    })
}

/// Puts a directory back: what is in it goes into `target`, which is made if it is not there and gets its attributes.
///
/// Unless what is there may be updated, the target must be new or empty. A run that only plans changes nothing and tells the
/// same steps.
///
/// # Errors
/// As [`run`].
pub fn restore<'a>(
    tree: &'a Tree,
    whole: Whole<'a>,
    target: &Path,
    options: Options,
    environment: Environment<'a>,
) -> Result<Report> {
    let (fd, origin) = place::open_top(target, &options)?;
    let original = place::Original {
        held: whole.held,
        path: whole.path,
        below: Vec::new(),
        wanted: match whole.parts {
            Parts::All => place::Wanted::Whole,
            Parts::Named(_) => place::Wanted::Way,
        },
    };
    let base = place::Dir::top(fd, origin, original);
    let job = Job::new(tree, options, environment);
    base.make_writable(&job)?;
    environment.monitor.begin("restore", whole.total_bytes);
    perform(job, base, |walker| walker.fill(whole.parts))
}

/// Walks with a crew, and does what comes last.
fn perform<'a>(job: Job<'a>, base: Dir<'a>, walk: impl FnOnce(&mut walk::Walker<'_, 'a>)) -> Result<Report> {
    place::allow_many_open_files();
    let anchor = base.anchor()?;
    let base = Arc::new(base);
    crew::with_crew(&job, |queue| {
        let mut walker = walk::Walker::new(&job, queue, Arc::clone(&base));
        walk(&mut walker);
    });
    crew::release(&job, base);
    if let Some(anchor) = &anchor {
        flags::set_late(&job, anchor.as_fd());
    }
    job.environment.monitor.end();
    if job.environment.cancel.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    let plans = job.plans();
    let report = job.tally.end()?;
    match anchor {
        Some(anchor) if !plans => place::sync(anchor.as_fd())?,
        _ => {}
    }
    Ok(report)
}

/// A path with one more name; that of the target itself is empty.
fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        name.to_vec()
    } else {
        [path, name].join(&b'/')
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
