//! The answers to requests, whichever thread gives them: errors and panics become errnos.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::{Errno, INodeNo, ReplyData, ReplyDirectory, ReplyDirectoryPlus};

use super::Permissions;
use super::advice::Advice;
use super::directory::{self, Filled};
use super::errno::{self, Complaints};
use super::handles::Handles;
use super::open_files::OpenFiles;
use super::push::{Pusher, SMALL_BYTES};
use super::waiters;
use crate::bytes::to_u64;
use crate::image::disk::Slice;
use crate::store::wait::{self, Delivery};
use crate::tree::{Directory, Entry, Error, Found, Ino, Node, OpenFile, Tree};

/// What answers are made of.
pub(super) struct Answers {
    pub(super) tree: Arc<Tree>,
    pub(super) files: OpenFiles,
    pub(super) directories: Handles<Directory>,
    pub(super) complaints: Complaints,
    pub(super) permissions: Permissions,
    pub(super) advice: Advice,
    pub(super) pusher: Pusher,
}

impl Answers {
    pub(super) fn new(tree: Arc<Tree>, permissions: Permissions, pusher: Pusher) -> Self {
        Self {
            tree,
            files: OpenFiles::new(),
            directories: Handles::new(),
            complaints: Complaints::new(),
            permissions,
            advice: Advice::default(),
            pusher,
        }
    }

    /// Runs one request: errors and panics become errnos, so that an event loop never ends by a request.
    pub(super) fn answer<T>(
        &self,
        what: impl Fn() -> String,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Errno> {
        let Ok(answer) = catch_unwind(AssertUnwindSafe(work)) else {
            log::error!("{}: a request panicked", what());
            return Err(Errno::EIO);
        };
        answer.map_err(|error| {
            let errno = errno::of(&error);
            if errno == Errno::EIO && !waiters::is_trial() {
                self.complaints.log(&what(), &error);
            }
            errno
        })
    }

    /// What the tree says of an inode. The kernel keeps it for ever, so what was put together around a gap that the store left is not
    /// told.
    pub(super) fn at_inode<T>(&self, ino: INodeNo, work: impl FnOnce(Ino) -> Result<T, Error>) -> Result<T, Errno> {
        let (answer, delivery) = wait::observed(|| self.answer(|| self.tree.path(Ino(ino.0)), || work(Ino(ino.0))));
        match delivery {
            Delivery::Complete => answer,
            Delivery::Failed => answer.and(Err(Errno::EIO)),
        }
    }

    pub(super) fn lookup(&self, parent: INodeNo, name: &[u8]) -> Result<Found, Errno> {
        let (found, delivery) = wait::observed(|| {
            self.answer(
                || self.tree.path(Ino(parent.0)),
                || self.tree.lookup(Ino(parent.0), name),
            )
        });
        if delivery == Delivery::Complete {
            return found;
        }
        if let Ok(Found::Here(entry)) = &found {
            // The kernel is told of an error and holds no reference.
            self.tree.forget(entry.attributes.ino, 1);
        }
        found.and(Err(Errno::EIO))
    }

    pub(super) fn enter(&self, node: &Node) -> Result<Entry, Errno> {
        self.answer(|| node.path(), || self.tree.enter(node))
    }

    fn file(&self, ino: INodeNo) -> Result<Arc<OpenFile>, Errno> {
        self.at_inode(ino, |ino| self.files.get(&self.tree, ino))
    }

    pub(super) fn read(&self, ino: INodeNo, offset: u64, len: usize) -> Result<Slice, Errno> {
        let file = self.file(ino)?;
        self.answer(
            || format!("{} at byte {offset}, {len} bytes", file.path),
            || file.read(offset, len),
        )
    }

    pub(super) fn send_read(&self, ino: INodeNo, offset: u64, read: Result<Slice, Errno>, reply: ReplyData) {
        match read {
            Ok(slice) => {
                reply.data(&slice);
                if offset == 0 && to_u64(slice.len()) <= SMALL_BYTES {
                    self.pusher.read(Ino(ino.0));
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn seek(&self, ino: INodeNo, offset: u64, whence: i32) -> Result<u64, Errno> {
        let file = self.file(ino)?;
        if offset >= file.size_bytes() {
            return Err(Errno::ENXIO);
        }
        let what = || format!("{} at byte {offset}", file.path);
        match whence {
            libc::SEEK_DATA => self.answer(what, || file.next_data(offset))?.ok_or(Errno::ENXIO),
            libc::SEEK_HOLE => self.answer(what, || file.next_hole(offset)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Fills a reply with names.
    pub(super) fn list(&self, directory: &Directory, offset: u64, reply: &mut ReplyDirectory) -> Result<(), Errno> {
        self.answer(
            || self.tree.path(directory.own),
            || directory::fill(&self.tree, directory, offset, reply),
        )
    }

    /// Fills a reply with names and their attributes, or at the beginning with those that need none, if it seems that nobody wants them.
    pub(super) fn list_plus(
        &self,
        directory: &Directory,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<Filled, Errno> {
        let unlikely = offset == 0 && directory.is_inside() && !self.advice.wants_attributes();
        self.answer(
            || self.tree.path(directory.own),
            || {
                if unlikely && !directory::holds_directories(&self.tree, directory)? {
                    directory::fill_dots(directory, reply);
                    return Ok(Filled::default());
                }
                directory::fill_plus(&self.tree, directory, offset, reply, |node| self.enter(node))
            },
        )
    }

    pub(super) fn send_listed(
        &self,
        directory: &Directory,
        offset: u64,
        listed: Result<Filled, Errno>,
        reply: ReplyDirectoryPlus,
    ) {
        match listed {
            Ok(filled) => {
                reply.ok();
                if filled.names > 0 {
                    self.advice.listed(filled.names);
                    self.pusher.listed(directory.own, offset, filled.small);
                }
            }
            Err(errno) => reply.error(errno),
        }
    }
}
