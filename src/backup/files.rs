//! One directory tree of a backup: walk, read, cut, hash, deduplicate, sort, and build the tree of pages.
//!
//! Threads walk the tree and add items as they find them; each visit of a file ends with its record, so that a visit that broke
//! off leaves nothing. When all have ended, the items are sorted and become the tree.

mod cutter;
mod exclude;
mod numbers;
mod pages;
mod previous;
mod problems;
mod queue;
mod read;
mod record;
mod settle;
mod sorter;
mod walk;

pub use exclude::{Excludes, Tag};

use super::{Context, Error, Result};
use crate::bytes::to_u64;
use crate::chunk::Reader;
use crate::clock::{Clock, Seconds};
use crate::source::directory::attributes::Attributes;
use crate::source::directory::{Directory, users};
use crate::vault::item::{Kind, owner_key};
use crate::vault::manifest::MAX_PROBLEM_BYTES;
use crate::vault::{Address, Tree};
use numbers::Numbers;
use parking_lot::Mutex;
use previous::Previous;
use problems::Problems;
use sorter::Sorter;
use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use walk::{Queue, Task, Worker};

/// Which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehash {
    /// Those that are not as they were in the parent backup.
    Changed,
    /// All.
    All,
}

/// Where a walk stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// Other file systems mounted in the tree are empty directories.
    Keep,
    /// Other file systems are walked, too.
    Cross,
}

/// A directory tree to back up.
#[derive(Debug, Clone)]
pub struct TreeInput {
    /// The directory.
    pub path: PathBuf,
    /// What is left out.
    pub excludes: Excludes,
    /// Which files are read.
    pub rehash: Rehash,
    /// Whether other file systems belong to the tree.
    pub mounts: Mounts,
}

/// What the threads share.
struct Shared<'a> {
    context: &'a Context<'a>,
    clock: &'a dyn Clock,
    input: &'a TreeInput,
    device: u64,
    queue: Queue,
    numbers: Numbers,
    sorter: Sorter,
    previous: Option<Previous>,
    problems: Problems,
    /// Numbers of files that could not be read; their names are not stored.
    failed: Mutex<HashSet<u64>>,
    failure: Mutex<Option<Error>>,
    visits: AtomicU64,
    root: AtomicU64,
    names: AtomicU64,
    excluded: AtomicU64,
    new: AtomicU64,
    stored: AtomicU64,
}

impl Shared<'_> {
    fn now(&self) -> Seconds {
        self.clock.now()
    }

    fn advance(&self, bytes: usize) {
        self.context.monitor.advance(to_u64(bytes));
    }

    /// Counts names that were dealt with.
    fn count(&self, names: usize) {
        let all = self
            .names
            .fetch_add(to_u64(names), Ordering::Relaxed)
            .saturating_add(to_u64(names));
        self.context.monitor.count(&format!("{all} files"));
    }

    /// Says whether a directory belongs to another file system that is not to be walked.
    fn crosses(&self, found: &Attributes) -> bool {
        self.input.mounts == Mounts::Keep && found.id.device != self.device
    }
}

/// A stored tree, and what was left out of it.
pub(super) struct Stored {
    pub(super) tree: Tree,
    pub(super) excluded: u64,
}

/// The parent backup, if it has a tree.
pub(super) type Parent<'p> = Option<(&'p Address, &'p Tree)>;

/// Stores a directory tree.
pub(super) fn store(
    context: &Context<'_>,
    clock: &dyn Clock,
    input: &TreeInput,
    parent: (Parent<'_>, &Arc<Reader>),
) -> Result<Stored> {
    let (directory, attributes) = Directory::open_root(&input.path).map_err(|source| Error::Tree {
        path: input.path.display().to_string(),
        source,
    })?;
    let (old, reader) = parent;
    let monitor = context.monitor;
    let device = attributes.id.device;
    let shared = Shared {
        context,
        clock,
        input,
        device,
        numbers: Numbers::new(attributes.id),
        queue: Queue::new(Task::Root(directory, attributes), context.jobs.saturating_mul(2)),
        sorter: Sorter::new(context.jobs),
        previous: old.map(|(address, tree)| Previous::open(reader, address, tree, monitor)),
        problems: Problems::default(),
        failed: Mutex::default(),
        failure: Mutex::default(),
        // Number 0 is that of the items of the tree itself.
        visits: AtomicU64::new(1),
        root: AtomicU64::new(0),
        names: AtomicU64::new(0),
        excluded: AtomicU64::new(0),
        new: AtomicU64::new(0),
        stored: AtomicU64::new(0),
    };
    monitor.begin("backup", 0);
    walk_all(&shared);
    monitor.end();
    if let Some(failure) = shared.failure.lock().take() {
        return Err(failure);
    }
    finish(shared, old)
}

/// Walks the tree with all threads.
fn walk_all(shared: &Shared<'_>) {
    let owners = Mutex::new((HashSet::new(), HashSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..shared.context.jobs {
            scope.spawn(|| {
                let mut worker = Worker::new(shared, shared.sorter.batch());
                worker.work();
                let Worker { batch, uids, gids, .. } = worker;
                shared.sorter.keep(batch);
                let mut owners = owners.lock();
                owners.0.extend(uids);
                owners.1.extend(gids);
            });
        }
    });
    let (uids, gids) = owners.into_inner();
    let mut batch = shared.sorter.batch();
    for (kind, ids, names) in [(Kind::User, uids, users::users()), (Kind::Group, gids, users::groups())] {
        for id in ids {
            if let Some(name) = names.get(&id) {
                // Names are short: there is room for them.
                let _ = batch.push(&owner_key(kind, id), 0, name);
            }
        }
    }
    shared.sorter.keep(batch);
}

/// Makes the tree of what was found.
fn finish(mut shared: Shared<'_>, old: Parent<'_>) -> Result<Stored> {
    let sorter = std::mem::replace(&mut shared.sorter, Sorter::new(1));
    let failed = std::mem::take(&mut *shared.failed.lock());
    let (root, mut statistics) = settle::settle(&shared, sorter, &failed)?;
    statistics.new = shared.new.load(Ordering::Relaxed);
    statistics.stored = statistics.stored.saturating_add(shared.stored.load(Ordering::Relaxed));
    let monitor = shared.context.monitor;
    let names = shared.names.load(Ordering::Relaxed);
    if let Some((address, old)) = old.filter(|(_, old)| names == 0 && old.statistics.files > 0) {
        let path = shared.input.path.display();
        let files = old.statistics.files;
        monitor.warn(&format!(
            "{path} is empty, but {address} has {files} files; is the file system mounted?"
        ));
    }
    let (unread, problems) = shared.problems.finish(monitor);
    let mut source = shared.input.path.as_os_str().as_bytes().to_vec();
    source.truncate(MAX_PROBLEM_BYTES);
    Ok(Stored {
        tree: Tree {
            root: root.page,
            height: root.height,
            items: root.items,
            root_inode: shared.root.into_inner(),
            source,
            statistics,
            unread,
            problems,
        },
        excluded: shared.excluded.into_inner(),
    })
}

/// The error for a failing temporary file.
fn fatal(source: io::Error) -> Error {
    Error::Sort { source }
}
