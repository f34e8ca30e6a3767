//! The requests of the kernel, one method each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::advice::Advice;
use super::attr::{attr_of, bare_attr, ttl};
use super::directory;
use super::errno::{self, Complaints};
use super::handles::Handles;
use super::open_files::OpenFiles;
use super::push::{Pusher, SMALL_BYTES};
use super::{MAX_REQUEST_BYTES, Permissions};
use crate::bytes::{to_u64, to_usize};
use crate::fs::FileType;
use crate::image::disk::Slice;
use crate::tree::{Directory, Entry, Error, Found, Ino, Lasting, Node, OpenFile, Tree};

/// The file system of one mount.
pub(super) struct Operations {
    tree: Arc<Tree>,
    files: OpenFiles,
    directories: Handles<Directory>,
    complaints: Complaints,
    permissions: Permissions,
    advice: Advice,
    pusher: Pusher,
}

/// Reads in flight at once; the kernel holds further ones back.
const MAX_BACKGROUND: u16 = 64;
const CONGESTION_THRESHOLD: u16 = 48;
const STATFS_BLOCK_BYTES: u32 = 4096;
const MAX_NAME_BYTES: u32 = 255;

impl Operations {
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
    fn answer<T>(&self, what: impl Fn() -> String, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Errno> {
        let Ok(answer) = catch_unwind(AssertUnwindSafe(work)) else {
            log::error!("{}: a request panicked", what());
            return Err(Errno::EIO);
        };
        answer.map_err(|error| {
            let errno = errno::of(&error);
            if errno == Errno::EIO {
                self.complaints.log(&what(), &error);
            }
            errno
        })
    }

    fn at_inode<T>(&self, ino: INodeNo, work: impl FnOnce(Ino) -> Result<T, Error>) -> Result<T, Errno> {
        self.answer(|| self.tree.path(Ino(ino.0)), || work(Ino(ino.0)))
    }

    fn enter(&self, node: &Node) -> Result<Entry, Errno> {
        self.answer(|| node.path(), || self.tree.enter(node))
    }

    fn file(&self, ino: INodeNo) -> Result<Arc<OpenFile>, Errno> {
        self.at_inode(ino, |ino| self.files.get(&self.tree, ino))
    }

    fn read_file(&self, ino: INodeNo, offset: u64, len: usize) -> Result<Slice, Errno> {
        let file = self.file(ino)?;
        self.answer(
            || format!("{} at byte {offset}, {len} bytes", file.path),
            || file.read(offset, len),
        )
    }

    fn seek(&self, ino: INodeNo, offset: u64, whence: i32) -> Result<u64, Errno> {
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
}

/// Answers a request for an extended attribute: size 0 asks how long it is.
fn reply_xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// Requests that would change something; they come only if root remounts the file system as writable.
macro_rules! refuse_changes {
    ($($name:ident($($argument:ty),*) $reply:ty;)*) => {
        $(fn $name(&self, _: &Request, $(_: $argument,)* reply: $reply) {
            reply.error(Errno::EROFS);
        })*
    };
}

impl Filesystem for Operations {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let checked = match self.permissions {
            Permissions::Checked => InitFlags::FUSE_POSIX_ACL,
            Permissions::Unchecked => InitFlags::empty(),
        };
        let wanted = [
            checked,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                log::debug!("the kernel does not offer {flag:?}");
            }
        }
        let limits = [
            config.set_max_write(MAX_REQUEST_BYTES).map(drop),
            config.set_max_background(MAX_BACKGROUND).map(drop).map_err(u32::from),
            config
                .set_congestion_threshold(CONGESTION_THRESHOLD)
                .map(drop)
                .map_err(u32::from),
        ];
        for nearest in limits.into_iter().filter_map(Result::err) {
            log::warn!("a limit of the connection was refused; the nearest is {nearest}");
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.at_inode(parent, |parent| self.tree.lookup(parent, name.as_bytes()));
        match found {
            Ok(Found::Here(entry)) => {
                if entry.attributes.file_type != FileType::Directory {
                    self.advice.looked_up();
                }
                let (content, name) = (ttl(entry.content_lasts), ttl(entry.name_lasts));
                reply.entry_with_ttls(&content, &name, &attr_of(&entry.attributes), Generation(0));
            }
            Ok(Found::Missing(lasting)) => reply.entry(&ttl(lasting), &bare_attr(Ino(0)), Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.tree.forget(Ino(ino.0), nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.at_inode(ino, |ino| self.tree.attributes(ino)) {
            Ok((attributes, lasting)) => reply.attr(&ttl(lasting), &attr_of(&attributes)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.at_inode(ino, |ino| self.tree.link_target(ino)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            reply.error(Errno::EROFS);
            return;
        }
        // Every open succeeds from now on, without a request, and what the kernel has cached stays.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_file(ino, offset, to_usize(u64::from(size))) {
            Ok(slice) => {
                reply.data(&slice);
                if offset == 0 && to_u64(slice.len()) <= SMALL_BYTES {
                    self.pusher.read(Ino(ino.0));
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The kernel asks once, and never again.
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let found = u64::try_from(offset)
            .map_err(|_| Errno::EINVAL)
            .and_then(|offset| self.seek(ino, offset, whence))
            .and_then(|found| i64::try_from(found).map_err(|_| Errno::EOVERFLOW));
        match found {
            Ok(found) => reply.offset(found),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.at_inode(ino, |ino| self.tree.open_directory(ino)) {
            Ok(directory) => {
                let flags = match directory.lasts {
                    Lasting::Forever => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
                    Lasting::Shortly => FopenFlags::empty(),
                };
                reply.opened(self.directories.add(directory), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        match self.directories.get(handle) {
            Some(directory) => {
                let filled = self.answer(
                    || self.tree.path(directory.own),
                    || directory::fill(&self.tree, &directory, offset, &mut reply),
                );
                match filled {
                    Ok(()) => reply.ok(),
                    Err(errno) => reply.error(errno),
                }
            }
            None => reply.error(Errno::EBADF),
        }
    }

    fn readdirplus(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let Some(directory) = self.directories.get(handle) else {
            reply.error(Errno::EBADF);
            return;
        };
        let names_only = offset == 0 && directory.is_inside() && !self.advice.wants_attributes();
        if names_only && !directory::holds_directories(&self.tree, &directory) {
            directory::fill_dots(&directory, &mut reply);
            reply.ok();
            return;
        }
        let filled = self.answer(
            || self.tree.path(directory.own),
            || directory::fill_plus(&self.tree, &directory, offset, &mut reply, |node| self.enter(node)),
        );
        match filled {
            Ok(filled) => {
                self.advice.listed(filled.names);
                reply.ok();
                self.pusher.listed(directory.own, offset, filled.small);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.directories.remove(handle);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.answer(|| "statfs".into(), || Ok(self.tree.space())) {
            Ok(space) => {
                let blocks = space.logical_bytes.div_ceil(u64::from(STATFS_BLOCK_BYTES));
                reply.statfs(
                    blocks,
                    0,
                    0,
                    space.backups,
                    0,
                    STATFS_BLOCK_BYTES,
                    MAX_NAME_BYTES,
                    STATFS_BLOCK_BYTES,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.at_inode(ino, |ino| self.tree.xattr(ino, name.as_bytes()));
        match value {
            Ok(value) => reply_xattr(&value, size, reply),
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.at_inode(ino, |ino| self.tree.xattr_names(ino)) {
            Ok(names) => {
                let list: Vec<u8> = names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect();
                reply_xattr(&list, size, reply);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn access(&self, _: &Request, _: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if mask.contains(AccessFlags::W_OK) {
            reply.error(Errno::EROFS);
        } else {
            reply.ok();
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel takes this for "always ready" and never asks again.
        reply.error(Errno::ENOSYS);
    }

    refuse_changes! {
        setattr(INodeNo, Option<u32>, Option<u32>, Option<u32>, Option<u64>, Option<TimeOrNow>, Option<TimeOrNow>, Option<SystemTime>,
            Option<FileHandle>, Option<SystemTime>, Option<SystemTime>, Option<SystemTime>, Option<BsdFileFlags>) ReplyAttr;
        mknod(INodeNo, &OsStr, u32, u32, u32) ReplyEntry;
        mkdir(INodeNo, &OsStr, u32, u32) ReplyEntry;
        unlink(INodeNo, &OsStr) ReplyEmpty;
        rmdir(INodeNo, &OsStr) ReplyEmpty;
        symlink(INodeNo, &OsStr, &Path) ReplyEntry;
        rename(INodeNo, &OsStr, INodeNo, &OsStr, RenameFlags) ReplyEmpty;
        link(INodeNo, INodeNo, &OsStr) ReplyEntry;
        write(INodeNo, FileHandle, u64, &[u8], WriteFlags, OpenFlags, Option<LockOwner>) ReplyWrite;
        create(INodeNo, &OsStr, u32, u32, i32) ReplyCreate;
        fallocate(INodeNo, FileHandle, u64, u64, i32) ReplyEmpty;
        setxattr(INodeNo, &OsStr, &[u8], i32, u32) ReplyEmpty;
        removexattr(INodeNo, &OsStr) ReplyEmpty;
        copy_file_range(INodeNo, FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags) ReplyWrite;
    }
}
