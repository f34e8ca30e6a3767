//! Goes through what is to be copied: enters directories and has everything else made, files by the crew.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::content::{Copy, Names};
use super::crew::release;
use super::leaf::Leaf;
use super::links::Turn;
use super::parts::Parts;
use super::place::{Dir, Origin, Original, Wanted, is_one_step};
use super::{Action, Depth, Error, Job, Result, Source, joined, shown};
use crate::fs::FileType;
use crate::tree::held::Held;
use crate::tree::{Directory, Ino, Node};

/// Deepest directory that is copied, counted from the source.
pub(super) const MAX_DEPTH: usize = 4096;
/// Names of a directory that are asked for at a time.
const BATCH: usize = 256;

/// The one thread that walks.
pub(super) struct Walker<'j, 'a> {
    job: &'j Job<'a>,
    queue: Sender<Copy<'a>>,
    base: Arc<Dir<'a>>,
    /// Directories of this source. Two names of one are damage, and without an end if one is inside the other.
    seen: HashSet<Ino>,
    leaf: Leaf<'j, 'a>,
}

/// Something to be copied: from where, to where.
pub(super) struct Entry<'a> {
    pub(super) held: Held<'a>,
    /// Path in the backup, for messages.
    pub(super) path: Vec<u8>,
    pub(super) dir: Arc<Dir<'a>>,
    pub(super) name: Vec<u8>,
    /// Path below the target.
    pub(super) below: Vec<u8>,
    parts: Parts,
}

/// A directory that is being gone through.
struct Frame<'a> {
    dir: Arc<Dir<'a>>,
    opened: Directory,
    cookie: u64,
    exhausted: bool,
    waiting: VecDeque<(Vec<u8>, Next)>,
}

/// How a name came to be waiting.
enum Next {
    /// The directory lists it.
    Listed(Node),
    /// It was asked for.
    Wanted(Parts),
}

impl<'a> Frame<'a> {
    fn new(dir: Arc<Dir<'a>>, opened: Directory, parts: Parts) -> Self {
        let mut waiting = VecDeque::new();
        let exhausted = match parts {
            Parts::All => false,
            Parts::Named(names) => {
                waiting.extend(names.into_iter().map(|(name, parts)| (name, Next::Wanted(parts))));
                true
            }
        };
        Self {
            dir,
            opened,
            cookie: 0,
            exhausted,
            waiting,
        }
    }

    /// Paths of a name in the backup and below the target.
    fn paths(&self, name: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let original = self.dir.original.as_ref();
        let of = |path: Option<&Vec<u8>>| joined(path.map(Vec::as_slice).unwrap_or_default(), name);
        (
            of(original.map(|original| &original.path)),
            of(original.map(|original| &original.below)),
        )
    }
}

impl<'j, 'a> Walker<'j, 'a> {
    pub(super) fn new(job: &'j Job<'a>, queue: Sender<Copy<'a>>, base: Arc<Dir<'a>>) -> Self {
        let leaf = Leaf::new(job, Arc::clone(&base));
        let seen = HashSet::new();
        Self {
            job,
            queue,
            base,
            seen,
            leaf,
        }
    }

    /// Copies one source to `name` in the target.
    pub(super) fn copy(&mut self, source: Source<'a>, name: Vec<u8>) {
        self.seen.clear();
        if source.held.is_directory() && self.job.options.depth == Depth::Files {
            let path = shown(&source.path);
            return self.job.fail(Error::IsDirectory { path });
        }
        let mut frames = Vec::new();
        let top = Entry {
            held: source.held,
            path: source.path,
            dir: Arc::clone(&self.base),
            below: name.clone(),
            name,
            parts: Parts::All,
        };
        self.entry(top, &mut frames);
        self.go(frames);
    }

    /// Copies what is in the directory that the target is a copy of.
    pub(super) fn fill(&mut self, parts: Parts) {
        let Some(original) = &self.base.original else { return };
        self.seen.insert(original.held.ino());
        match original.held.directory() {
            Ok(opened) => self.go(vec![Frame::new(Arc::clone(&self.base), opened, parts)]),
            Err(source) => self.lost(&self.base, source),
        }
    }

    fn go(&mut self, mut frames: Vec<Frame<'a>>) {
        while let Some(frame) = frames.last_mut() {
            if self.job.stopped() {
                return;
            }
            let Some((name, next)) = self.next_name(frame) else {
                if let Some(done) = frames.pop() {
                    release(self.job, done.dir);
                }
                continue;
            };
            let (path, below) = frame.paths(&name);
            let dir = Arc::clone(&frame.dir);
            let (held, parts) = match next {
                Next::Listed(node) => (self.job.tree.hold(&node).map(Some), Parts::All),
                Next::Wanted(parts) => {
                    let original = dir.original.as_ref();
                    (original.map_or(Ok(None), |original| original.held.lookup(&name)), parts)
                }
            };
            match held {
                Ok(Some(held)) => {
                    let entry = Entry {
                        held,
                        path,
                        dir,
                        name,
                        below,
                        parts,
                    };
                    self.entry(entry, &mut frames);
                }
                Ok(None) => self.job.fail(Error::Refused {
                    path: shown(&path),
                    why: "the backup has nothing of this name",
                }),
                Err(source) => self.job.fail(Error::Read {
                    path: shown(&path),
                    source,
                }),
            }
        }
    }

    /// The next name of a directory; what is lost to damage is told.
    fn next_name(&self, frame: &mut Frame<'a>) -> Option<(Vec<u8>, Next)> {
        if frame.waiting.is_empty() && !frame.exhausted {
            let (waiting, cookie) = (&mut frame.waiting, &mut frame.cookie);
            let visited = self.job.tree.visit(&frame.opened, *cookie, &mut |listed| {
                waiting.push_back((listed.name.to_vec(), Next::Listed(listed.node)));
                // A cookie that stands still would give the same names for ever.
                let grows = listed.next > *cookie;
                *cookie = listed.next;
                grows && waiting.len() < BATCH
            });
            frame.exhausted = frame.waiting.len() < BATCH;
            if let Err(source) = visited {
                frame.exhausted = true;
                self.lost(&frame.dir, source);
            }
        }
        frame.waiting.pop_front()
    }

    /// Tells that names of a directory cannot be read.
    fn lost(&self, dir: &Dir<'a>, source: crate::tree::Error) {
        dir.names_lost.store(true, Ordering::Relaxed);
        let path = dir.original.as_ref().map(|original| shown(&original.path));
        self.job.fail(Error::Read {
            path: path.unwrap_or_default(),
            source,
        });
    }

    fn entry(&mut self, entry: Entry<'a>, frames: &mut Vec<Frame<'a>>) {
        if !is_one_step(&entry.name) {
            return self.job.fail(Error::Refused {
                path: shown(&entry.path),
                why: "its name is no name of a file",
            });
        }
        let dir = Arc::clone(&entry.dir);
        let done = if entry.held.is_directory() {
            self.enter(entry, frames.len()).map(|frame| frames.push(frame))
        } else {
            self.leaf(entry)
        };
        if let Err(error) = done {
            self.job.fail(error);
        }
        release(self.job, dir);
    }

    fn enter(&mut self, entry: Entry<'a>, depth: usize) -> Result<Frame<'a>> {
        let refuse = |why| Error::Refused {
            path: shown(&entry.path),
            why,
        };
        if depth >= MAX_DEPTH {
            return Err(refuse("it lies more than 4096 directories deep"));
        }
        if !self.seen.insert(entry.held.ino()) {
            return Err(refuse(
                "the directory has another name and was copied there (the file system is damaged)",
            ));
        }
        let opened = entry.held.directory().map_err(|source| Error::Read {
            path: shown(&entry.path),
            source,
        })?;
        let original = Original {
            held: entry.held,
            path: entry.path,
            below: entry.below.clone(),
            wanted: match entry.parts {
                Parts::All => Wanted::Whole,
                Parts::Named(_) => Wanted::Way,
            },
        };
        let dir = entry.dir.enter(self.job, &entry.name, original)?;
        if dir.origin == Origin::Made {
            self.job.step(Action::Make, &entry.below);
        }
        Ok(Frame::new(Arc::new(dir), opened, entry.parts))
    }

    /// Anything but a directory: a link to a copy that is there, or a copy.
    fn leaf(&mut self, entry: Entry<'a>) -> Result<()> {
        let job = self.job;
        if let Parts::Named(_) = entry.parts {
            return Err(Error::Refused {
                path: shown(&entry.path),
                why: "something below it was asked for, and it is no directory",
            });
        }
        let found = self.leaf.found(&entry)?;
        let turn = job.links.turn(&entry.held.attributes, || job.stopped());
        let names = match turn {
            Turn::LinkTo(first) if self.leaf.link(&entry, found.as_ref(), &first)? => return Ok(()),
            // The other name takes no more links: this one is the first of others.
            Turn::LinkTo(_) => {
                job.links.begin_again(&entry.held.attributes);
                Names::FirstOfSeveral
            }
            Turn::First => Names::FirstOfSeveral,
            Turn::Alone => Names::One,
        };
        if entry.held.attributes.file_type != FileType::File {
            return self.leaf.special(&entry, found.as_ref(), names);
        }
        let copy = Copy {
            dir: entry.dir,
            name: entry.name,
            held: entry.held,
            path: entry.path,
            below: entry.below,
            names,
            found,
        };
        // The crew is there until the queue is dropped.
        self.queue.send(copy).map_err(|_| Error::Interrupted)
    }
}
