//! The threads that walk a tree: list directories, look at every name, and store what has changed.

use super::problems::{is_gone, reason};
use super::queue::Work;
use super::read::{Job, Place};
use super::sorter::Batch;
use super::{Shared, fatal, record};
use crate::backup::{Error, Result};
use crate::source::directory::Directory;
use crate::source::directory::attributes::{Attributes, Kind};
use crate::source::directory::file::{File, flags};
use crate::source::directory::listing::{Hint, Listing, Names};
use crate::source::directory::xattrs::{self, Owner};
use crate::vault::item::{self, ChunkRef, InodeRecord, Key, MAX_TARGET, NameTarget};
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::numbers::Met;

/// Names looked at by one thread before others may take over.
const PORTION: usize = 32;
/// Times a file is read that changes meanwhile.
const TRIES: u32 = 3;
/// A file larger than this is read once only: the next try would not find it at rest either.
const MAX_READ_AGAIN: u64 = 256 << 20;

/// A directory being stored.
#[derive(Debug)]
pub(super) struct Node {
    directory: Arc<Directory>,
    place: Place,
    /// Its path in the tree, kept only if there are patterns to hold against it.
    path: Vec<u8>,
    /// The file that excludes everything else here.
    tag: Option<CString>,
}

/// Work that may bring more.
#[derive(Debug)]
pub(super) enum Task {
    /// The root of the tree.
    Root(Arc<Directory>, Attributes),
    /// A directory, by its name in another one.
    Enter(Arc<Node>, CString, Attributes, u64),
    /// More names of a directory.
    List(Arc<Node>, Box<Listing>),
    /// Some names of a directory.
    Look(Arc<Node>, Arc<Names>, Range<usize>),
}

/// One thread, and what it has gathered.
pub(super) struct Worker<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) buffer: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) batch: Batch,
    pub(super) uids: HashSet<u32>,
    pub(super) gids: HashSet<u32>,
    xattrs: xattrs::Buffers,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, batch: Batch) -> Self {
        Self {
            shared,
            buffer: Vec::new(),
            scratch: Vec::new(),
            batch,
            uids: HashSet::new(),
            gids: HashSet::new(),
            xattrs: xattrs::Buffers::default(),
        }
    }

    /// Works until there is nothing left; after a failure, which is kept, nobody goes on.
    pub(super) fn work(&mut self) {
        while let Some(work) = self.shared.queue.take() {
            let done = match work {
                Work::Urgent(job) => self.job(&job),
                Work::Task(task) => {
                    let done = self.task(task);
                    self.shared.queue.done();
                    done
                }
            };
            if let Err(error) = done {
                let mut failure = self.shared.failure.lock();
                if failure.as_ref().is_none_or(Error::is_secondary) {
                    *failure = Some(error);
                }
                drop(failure);
                self.shared.queue.stop();
            }
        }
    }

    /// Fails if there is no reason to go on.
    pub(super) fn check_stop(&self) -> Result<()> {
        if self.shared.context.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        if self.shared.failure.lock().is_some() {
            return Err(Error::Write(crate::writer::Error::Stopped));
        }
        Ok(())
    }

    /// Adds an item.
    pub(super) fn push(&mut self, key: &[u8], visit: u64, value: &[u8]) -> Result<()> {
        if !self.batch.push(key, visit, value) {
            return Err(Error::Invalid {
                what: "an item of the tree is larger than any may be".to_owned(),
            });
        }
        self.shared.sorter.relieve(&mut self.batch).map_err(fatal)
    }

    fn task(&mut self, task: Task) -> Result<()> {
        self.check_stop()?;
        match task {
            Task::Root(directory, attributes) => {
                let (number, _) = self.shared.numbers.assign(&attributes, 0, b"");
                self.shared.root.store(number, Ordering::Relaxed);
                self.begin(directory, &attributes, number, Vec::new())
            }
            Task::Enter(parent, name, seen, number) => self.enter(&parent, &name, &seen, number),
            Task::List(node, listing) => self.list(node, listing),
            Task::Look(node, names, range) => {
                let count = range.len();
                for number in range {
                    if let Some((name, hint)) = names.get(number) {
                        self.look(&node, name, hint)?;
                    }
                }
                self.shared.count(count);
                Ok(())
            }
        }
    }

    fn problem(&self, path: Vec<u8>, why: &str) {
        self.shared.problems.add(self.shared.context.monitor, path, why);
    }

    /// Takes note that a file is not in the backup.
    fn failed(&self, node: &Node, name: &CStr, file: (&Attributes, u64), why: &str) {
        let (found, number) = file;
        self.shared.numbers.forget(found.id);
        self.shared.failed.lock().insert(number);
        self.problem(node.directory.path_of(name.to_bytes()), why);
    }

    fn enter(&mut self, parent: &Node, name: &CStr, seen: &Attributes, number: u64) -> Result<()> {
        match parent.directory.open_child(name, seen.id) {
            Ok((directory, found)) => self.begin(directory, &found, number, parent.path_of(name)),
            Err(error) if is_gone(&error) => {
                self.failed(parent, name, (seen, number), &reason("opening it", &error));
                Ok(())
            }
            Err(error) => {
                let why = format!("{}; it is stored as an empty directory", reason("opening it", &error));
                self.problem(parent.directory.path_of(name.to_bytes()), &why);
                let place = self.visit(number);
                self.finish(place, record::of(seen, self.shared.now()))
            }
        }
    }

    fn visit(&self, number: u64) -> Place {
        let visit = self.shared.visits.fetch_add(1, Ordering::Relaxed);
        Place { number, visit }
    }

    /// Stores a directory itself and begins to list it.
    fn begin(&mut self, directory: Arc<Directory>, found: &Attributes, number: u64, path: Vec<u8>) -> Result<()> {
        let place = match self.keep_old(found, number)? {
            Some(place) => place,
            None => {
                let place = self.visit(number);
                let mut new = record::of(found, self.shared.now());
                let fd = directory.descriptor();
                match fd {
                    Ok(fd) => {
                        let fd = std::os::fd::AsFd::as_fd(&*fd);
                        new.flags = flags(fd);
                        self.xattrs(Owner::Open(fd), place, || directory.path_of(b""))?;
                    }
                    Err(error) => self.problem(directory.path_of(b""), &reason("reading its attributes", &error)),
                }
                self.finish(place, new)?;
                place
            }
        };
        let tag = self
            .shared
            .input
            .excludes
            .tag(&directory)
            .map(|tag| tag.name().to_owned());
        let listing = Listing::new(&directory);
        let node = Arc::new(Node {
            directory,
            place,
            path,
            tag,
        });
        match listing {
            Ok(listing) => self.list(node, Box::new(listing)),
            Err(error) => {
                self.problem(node.directory.path_of(b""), &reason("listing it", &error));
                Ok(())
            }
        }
    }

    fn list(&mut self, node: Arc<Node>, mut listing: Box<Listing>) -> Result<()> {
        let mut names = Names::default();
        let more = listing.read(&mut names).unwrap_or_else(|error| {
            self.problem(node.directory.path_of(b""), &reason("listing it to its end", &error));
            false
        });
        if names.repeated > 0 {
            self.problem(
                node.directory.path_of(b""),
                "names were listed twice: it changed while it was listed",
            );
        }
        let names = Arc::new(names);
        let portions = (0..names.len()).step_by(PORTION);
        let mut tasks: Vec<_> = portions
            .map(|start| {
                Task::Look(
                    Arc::clone(&node),
                    Arc::clone(&names),
                    start..start.saturating_add(PORTION).min(names.len()),
                )
            })
            .collect();
        // The last one is done here and now; the rest of a directory waits below what was found in it.
        let first = tasks.pop();
        if more {
            tasks.insert(0, Task::List(node, listing));
        }
        if !tasks.is_empty() {
            self.shared.queue.add(tasks);
        }
        match first {
            Some(Task::Look(node, names, range)) => self.task(Task::Look(node, names, range)),
            _ => Ok(()),
        }
    }

    /// Stores what has a name, unless it is excluded.
    fn look(&mut self, node: &Arc<Node>, name: &CStr, hint: Hint) -> Result<()> {
        let by_tag = node.tag.as_deref().is_some_and(|tag| tag != name);
        let told = match hint {
            Hint::Unknown => None,
            Hint::Directory => Some(true),
            Hint::Other => Some(false),
        };
        // Before anything is asked of it: what is excluded may well be what does not answer.
        if by_tag || told.is_some_and(|is_directory| self.excludes(node, name, is_directory)) {
            self.shared.excluded.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let found = match node.directory.attributes(name) {
            Ok(found) => found,
            Err(error) => {
                self.problem(
                    node.directory.path_of(name.to_bytes()),
                    &reason("looking at it", &error),
                );
                return Ok(());
            }
        };
        let is_directory = found.kind == Kind::Directory;
        if told != Some(is_directory) && self.excludes(node, name, is_directory) {
            self.shared.excluded.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let (number, met) = self.shared.numbers.assign(&found, node.place.number, name.to_bytes());
        let target = NameTarget {
            inode: number,
            type_code: record::type_code(found.mode),
        };
        let key = Key {
            inode: node.place.number,
            kind: item::Kind::Name,
            rest: name.to_bytes(),
        };
        self.push(&key.encode(), node.place.visit, &target.encode())?;
        if met == Met::Again {
            return Ok(());
        }
        match found.kind {
            Kind::Directory if self.shared.crosses(&found) => {
                let place = self.visit(number);
                self.finish(place, record::of(&found, self.shared.now()))
            }
            Kind::Directory => {
                let task = Task::Enter(Arc::clone(node), name.to_owned(), found, number);
                self.shared.queue.add([task]);
                Ok(())
            }
            Kind::Regular => self.regular(node, name, &found, number),
            Kind::Symlink | Kind::Special => self.other(node, name, &found, number),
        }
    }

    fn excludes(&self, node: &Node, name: &CStr, is_directory: bool) -> bool {
        let excludes = &self.shared.input.excludes;
        excludes.has_patterns() && excludes.matches(&node.path_of(name), is_directory)
    }

    /// Stores a regular file.
    fn regular(&mut self, node: &Node, name: &CStr, seen: &Attributes, number: u64) -> Result<()> {
        if self.keep_old(seen, number)?.is_some() {
            return Ok(());
        }
        let path = || node.directory.path_of(name.to_bytes());
        for number_of_try in 1..=TRIES {
            let now = self.shared.now();
            let (file, found) = match File::open(&node.directory, name, seen) {
                Ok(opened) => opened,
                Err(error) => {
                    self.failed(node, name, (seen, number), &reason("opening it", &error));
                    return Ok(());
                }
            };
            let place = self.visit(number);
            let content = match self.content(&file, &found, place) {
                Ok(content) => content,
                Err(failure) => {
                    let why = failure.into_reason()?;
                    self.failed(node, name, (seen, number), &why);
                    return Ok(());
                }
            };
            let differs = file.attributes().map_or(true, |after| found.content_differs(&after));
            let again = number_of_try < TRIES && found.size_bytes <= MAX_READ_AGAIN;
            if differs && again {
                continue;
            }
            if differs {
                self.problem(path(), "it changed while it was read; what was read of it is stored");
            }
            let mut new = record::of(&found, now);
            new.flags = flags(file.fd());
            self.xattrs(Owner::Open(file.fd()), place, path)?;
            new.state.changed = differs;
            new.size = content.size;
            new.digest = content.digest;
            self.finish(place, new)?;
            break;
        }
        // It may have failed under another of its names.
        if seen.links > 1 {
            self.shared.failed.lock().remove(&number);
        }
        Ok(())
    }

    /// Stores what is neither a regular file nor a directory.
    fn other(&mut self, node: &Node, name: &CStr, found: &Attributes, number: u64) -> Result<()> {
        if self.keep_old(found, number)?.is_some() {
            return Ok(());
        }
        let place = self.visit(number);
        if found.kind == Kind::Symlink {
            let target = node.directory.read_link(name);
            match target {
                Ok(target) if (1..=MAX_TARGET).contains(&target.len()) => {
                    self.push(&item::first_key(number, item::Kind::Data), place.visit, &target)?;
                }
                Ok(_) => {
                    self.failed(node, name, (found, number), "its target is longer than targets may be");
                    return Ok(());
                }
                Err(error) => {
                    self.failed(node, name, (found, number), &reason("reading its target", &error));
                    return Ok(());
                }
            }
        }
        self.xattrs(Owner::Named(&node.directory, name), place, || {
            node.directory.path_of(name.to_bytes())
        })?;
        self.finish(place, record::of(found, self.shared.now()))?;
        if found.links > 1 {
            self.shared.failed.lock().remove(&number);
        }
        Ok(())
    }

    fn xattrs(&mut self, owner: Owner<'_>, place: Place, path: impl Fn() -> Vec<u8>) -> Result<()> {
        let mut pushed = Ok(());
        let mut buffers = std::mem::take(&mut self.xattrs);
        let read = xattrs::read(owner, &mut buffers, |name, value| {
            let key = Key {
                inode: place.number,
                kind: item::Kind::Xattr,
                rest: name,
            };
            if pushed.is_ok() && Key::decode(&key.encode()).is_some() {
                pushed = self.push(&key.encode(), place.visit, value);
            }
        });
        self.xattrs = buffers;
        if let Err(error) = read {
            self.problem(path(), &format!("its extended attributes cannot be read: {error}"));
        }
        pushed
    }

    /// The end of a visit: only now its items count.
    fn finish(&mut self, place: Place, record: InodeRecord) -> Result<()> {
        self.uids.insert(record.uid);
        self.gids.insert(record.gid);
        let key = item::first_key(place.number, item::Kind::Inode);
        self.push(&key, place.visit, &record.encode())
    }

    /// Copies the items of a file that is as it was in the parent backup, if all its chunks are there; names are not copied.
    fn keep_old(&mut self, found: &Attributes, number: u64) -> Result<Option<Place>> {
        let shared = self.shared;
        let Some(previous) = shared
            .previous
            .as_ref()
            .filter(|_| shared.input.rehash == super::Rehash::Changed)
        else {
            return Ok(None);
        };
        let place = self.visit(number);
        let mut copied = Ok(true);
        let old = previous.unchanged(shared.context.monitor, number, found, |key, value| {
            copied = self.copy(place, key, value);
            matches!(copied, Ok(true))
        });
        let (Some(old), true) = (old, copied?) else {
            return Ok(None);
        };
        if found.kind == Kind::Regular {
            shared.context.monitor.advance(old.size);
        }
        self.finish(place, old)?;
        Ok(Some(place))
    }

    /// Copies an item of the parent; `false` if what it refers to is not there.
    fn copy(&mut self, place: Place, key: Key<'_>, value: &[u8]) -> Result<bool> {
        let Some(mut chunk) = ChunkRef::decode(value).filter(|_| key.kind == item::Kind::Chunk) else {
            self.push(&key.encode(), place.visit, value)?;
            return Ok(true);
        };
        let len = crate::bytes::to_usize(chunk.len_bytes());
        match self.shared.context.writer.find(&chunk.id, len, Some(chunk.pack))? {
            None => Ok(false),
            Some(pack) => {
                chunk.pack = pack;
                self.push(&key.encode(), place.visit, &chunk.encode())?;
                Ok(true)
            }
        }
    }
}

impl Node {
    fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        path
    }
}

/// Work of a tree, and the chunks of its large files.
pub(super) type Queue = super::queue::Queue<Task, Job>;
