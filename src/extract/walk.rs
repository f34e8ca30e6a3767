//! Goes through what is to be copied: makes directories, links and devices itself and sends files to the crew.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::attributes::{self, Copied};
use super::content::Copy;
use super::crew::release;
use super::links::Turn;
use super::place::{Dir, Fresh, is_one_step};
use super::{Depth, Error, Job, Result, Source, shown};
use crate::fs::FileType;
use crate::tree::held::Held;
use crate::tree::{Directory, Ino, Node};

/// Deepest directory that is copied, counted from the source.
const MAX_DEPTH: usize = 4096;
/// Names of a directory that are asked for at a time.
const BATCH: usize = 256;

/// The one thread that walks.
pub(super) struct Walker<'j, 'a> {
    job: &'j Job<'a>,
    queue: Sender<Copy<'a>>,
    base: Arc<Dir<'a>>,
    /// Directories of this source. Two names of one are damage, and without an end if one is inside the other.
    seen: HashSet<Ino>,
}

/// Something to be copied: from where, to where.
struct Entry<'a> {
    held: Held<'a>,
    /// Path in the backup, for messages.
    path: Vec<u8>,
    dir: Arc<Dir<'a>>,
    name: Vec<u8>,
    /// Path below the target.
    below: Vec<u8>,
}

/// A directory that is being gone through.
struct Frame<'a> {
    dir: Arc<Dir<'a>>,
    opened: Directory,
    cookie: u64,
    exhausted: bool,
    waiting: VecDeque<(Vec<u8>, Node)>,
    path: Vec<u8>,
    below: Vec<u8>,
}

impl<'j, 'a> Walker<'j, 'a> {
    pub(super) fn new(job: &'j Job<'a>, queue: Sender<Copy<'a>>, base: Arc<Dir<'a>>) -> Self {
        let seen = HashSet::new();
        Self { job, queue, base, seen }
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
        };
        self.entry(top, &mut frames);
        while let Some(frame) = frames.last_mut() {
            if self.job.stopped() {
                return;
            }
            let Some((name, node)) = self.next_name(frame) else {
                if let Some(done) = frames.pop() {
                    release(self.job, done.dir);
                }
                continue;
            };
            let path = [frame.path.as_slice(), &name].join(&b'/');
            let below = [frame.below.as_slice(), &name].join(&b'/');
            let dir = Arc::clone(&frame.dir);
            match self.job.tree.hold(&node) {
                Ok(held) => {
                    let entry = Entry {
                        held,
                        path,
                        dir,
                        name,
                        below,
                    };
                    self.entry(entry, &mut frames);
                }
                Err(source) => self.job.fail(Error::Read {
                    path: shown(&path),
                    source,
                }),
            }
        }
    }

    /// The next name of a directory; what is lost to damage is told.
    fn next_name(&self, frame: &mut Frame<'a>) -> Option<(Vec<u8>, Node)> {
        if frame.waiting.is_empty() && !frame.exhausted {
            let (waiting, cookie) = (&mut frame.waiting, &mut frame.cookie);
            let visited = self.job.tree.visit(&frame.opened, *cookie, &mut |listed| {
                waiting.push_back((listed.name.to_vec(), listed.node));
                // A cookie that stands still would give the same names for ever.
                let grows = listed.next > *cookie;
                *cookie = listed.next;
                grows && waiting.len() < BATCH
            });
            frame.exhausted = frame.waiting.len() < BATCH;
            if let Err(source) = visited {
                frame.exhausted = true;
                let path = shown(&frame.path);
                self.job.fail(Error::Read { path, source });
            }
        }
        frame.waiting.pop_front()
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
        let dir = entry.dir.enter(&entry.name, entry.held, &entry.path)?;
        Ok(Frame {
            dir: Arc::new(dir),
            opened,
            cookie: 0,
            exhausted: false,
            waiting: VecDeque::new(),
            path: entry.path,
            below: entry.below,
        })
    }

    /// Anything but a directory: a link to a copy that is there, or a copy.
    fn leaf(&self, entry: Entry<'a>) -> Result<()> {
        let job = self.job;
        let first_name = match job.links.turn(&entry.held.attributes, || job.stopped()) {
            Turn::LinkTo(path) => return self.link(&entry, &path),
            Turn::First => Some(entry.below.clone()),
            Turn::Alone => None,
        };
        if entry.held.attributes.file_type != FileType::File {
            let made = self.special(&entry);
            if let Some(path) = first_name {
                job.links.settle(entry.held.ino(), made.is_ok().then_some(path));
            }
            return made;
        }
        let copy = Copy {
            dir: entry.dir,
            name: entry.name,
            held: entry.held,
            path: entry.path,
            first_name,
        };
        // The crew is there until the queue is dropped.
        self.queue.send(copy).map_err(|_| Error::Interrupted)
    }

    /// Another name of a file that is copied already.
    fn link(&self, entry: &Entry<'a>, first: &[u8]) -> Result<()> {
        let failed = |error: std::io::Error| Error::Write {
            path: shown(&entry.path),
            doing: "linking it to its other name",
            source: error,
        };
        entry
            .dir
            .check_free(&entry.name, self.job.options.existing, &entry.path)?;
        let mut names: Vec<&[u8]> = first.split(|byte| *byte == b'/').collect();
        let last = names.pop().unwrap_or_default();
        let from = self
            .base
            .descend(names.into_iter())
            .map_err(|error| failed(error.into()))?;
        let dir = entry.dir.fd();
        let made = Fresh::make(dir, &entry.name, |name| {
            rustix::fs::linkat(&from, last, dir, name, AtFlags::empty())
        });
        let (fresh, ()) = made.map_err(failed)?;
        self.publish(fresh, entry)?;
        self.job.tally.add(self.job.environment.monitor, |report| {
            report.hard_links = report.hard_links.saturating_add(1);
        });
        Ok(())
    }

    /// A symbolic link with its raw text, a device, a pipe or a socket.
    fn special(&self, entry: &Entry<'a>) -> Result<()> {
        let failed = |source| Error::Write {
            path: shown(&entry.path),
            doing: "making it",
            source,
        };
        entry
            .dir
            .check_free(&entry.name, self.job.options.existing, &entry.path)?;
        let attributes = &entry.held.attributes;
        let dir = entry.dir.fd();
        let fresh = if let Some(kind) = node_kind(attributes.file_type) {
            let number = attributes.device;
            let device = match attributes.file_type {
                FileType::CharDevice | FileType::BlockDevice => rustix::fs::makedev(number.major, number.minor),
                _ => 0,
            };
            let make = |name: &[u8]| rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device);
            Fresh::make(dir, &entry.name, make).map_err(failed)?.0
        } else {
            let target = entry.held.link_target().map_err(|source| Error::Read {
                path: shown(&entry.path),
                source,
            })?;
            let make = |name: &[u8]| rustix::fs::symlinkat(target.as_slice(), dir, name);
            Fresh::make(dir, &entry.name, make).map_err(failed)?.0
        };
        let copied = Copied::Named(dir, &fresh.temporary);
        attributes::apply(self.job, &entry.held, copied, &entry.path)?;
        self.publish(fresh, entry)?;
        self.job.tally.add(self.job.environment.monitor, |report| {
            let count = match attributes.file_type {
                FileType::Symlink => &mut report.symlinks,
                _ => &mut report.specials,
            };
            *count = count.saturating_add(1);
        });
        Ok(())
    }

    fn publish(&self, fresh: Fresh<'_>, entry: &Entry<'a>) -> Result<()> {
        match fresh.publish(&entry.name, self.job.options.existing) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Error::Exists {
                path: shown(&entry.path),
            }),
            Err(error) => Err(Error::Write {
                path: shown(&entry.path),
                doing: "naming it",
                source: error.into(),
            }),
        }
    }
}

/// What mknod(2) makes; `None` for symbolic links.
fn node_kind(file_type: FileType) -> Option<rustix::fs::FileType> {
    match file_type {
        FileType::CharDevice => Some(rustix::fs::FileType::CharacterDevice),
        FileType::BlockDevice => Some(rustix::fs::FileType::BlockDevice),
        FileType::Fifo => Some(rustix::fs::FileType::Fifo),
        FileType::Socket => Some(rustix::fs::FileType::Socket),
        FileType::File | FileType::Directory | FileType::Symlink => None,
    }
}
