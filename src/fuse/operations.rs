//! The requests of the kernel, one method each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::answers::Answers;
use super::attr::{attr_of, bare_attr, ttl};
use super::waiters::{self, Waiters};
use super::{MAX_REQUEST_BYTES, Permissions};
use crate::bytes::to_usize;
use crate::fs::FileType;
use crate::tree::{Found, Ino, Lasting};

/// The file system of one mount.
pub(super) struct Operations {
    answers: Arc<Answers>,
    /// Where the store is reached over a network.
    waiters: Option<Waiters>,
}

/// Reads in flight at once; the kernel holds further ones back.
const MAX_BACKGROUND: u16 = 64;
const CONGESTION_THRESHOLD: u16 = 48;
/// The same over a network: what is cached must not stand behind what waits.
const REMOTE_BACKGROUND: u16 = 1024;
const STATFS_BLOCK_BYTES: u32 = 4096;
const MAX_NAME_BYTES: u32 = 255;

impl Operations {
    pub(super) fn new(answers: Answers, waiters: Option<Waiters>) -> Self {
        Self {
            answers: Arc::new(answers),
            waiters,
        }
    }

    /// Finds an answer by `find` and sends it by `send`: at once, or from a thread that may wait for the store.
    fn give<T, R: Send + 'static>(
        &self,
        reply: R,
        find: impl Fn(&Answers) -> Result<T, Errno> + Send + 'static,
        send: impl FnOnce(&Answers, Result<T, Errno>, R) + Send + 'static,
    ) {
        let answers = &self.answers;
        let Some(waiters) = &self.waiters else {
            return send(answers, find(answers), reply);
        };
        match waiters::in_place(|| find(answers)) {
            Ok(found) => send(answers, found, reply),
            Err(_) => {
                let (here, there) = (Arc::clone(answers), Arc::clone(answers));
                waiters.give(move || find(&here), move |found| send(&there, found, reply));
            }
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
        let checked = match self.answers.permissions {
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
            // For the status file alone: nothing else changes its time, or is there where no network is.
            if self.waiters.is_some() {
                InitFlags::FUSE_AUTO_INVAL_DATA
            } else {
                InitFlags::empty()
            },
        ];
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                log::debug!("the kernel does not offer {flag:?}");
            }
        }
        let (background, threshold) = match self.waiters {
            Some(_) => (REMOTE_BACKGROUND, REMOTE_BACKGROUND),
            None => (MAX_BACKGROUND, CONGESTION_THRESHOLD),
        };
        let limits = [
            config.set_max_write(MAX_REQUEST_BYTES).map(drop),
            config.set_max_background(background).map(drop).map_err(u32::from),
            config.set_congestion_threshold(threshold).map(drop).map_err(u32::from),
        ];
        for nearest in limits.into_iter().filter_map(Result::err) {
            log::warn!("a limit of the connection was refused; the nearest is {nearest}");
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        let find = move |answers: &Answers| answers.lookup(parent, name.as_bytes());
        self.give(reply, find, |answers, found, reply| match found {
            Ok(Found::Here(entry)) => {
                if entry.attributes.file_type != FileType::Directory {
                    answers.advice.looked_up();
                }
                let (content, name) = (ttl(entry.content_lasts), ttl(entry.name_lasts));
                reply.entry_with_ttls(&content, &name, &attr_of(&entry.attributes), Generation(0));
            }
            Ok(Found::Missing(lasting)) => reply.entry(&ttl(lasting), &bare_attr(Ino(0)), Generation(0)),
            Err(errno) => reply.error(errno),
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.answers.tree.forget(Ino(ino.0), nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let find = move |answers: &Answers| answers.at_inode(ino, |ino| answers.tree.attributes(ino));
        self.give(reply, find, |_, found, reply| match found {
            Ok((attributes, lasting)) => reply.attr(&ttl(lasting), &attr_of(&attributes)),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        let find = move |answers: &Answers| answers.at_inode(ino, |ino| answers.tree.link_target(ino));
        self.give(reply, find, |_, found, reply| match found {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        });
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
        let find = move |answers: &Answers| answers.read(ino, offset, to_usize(u64::from(size)));
        self.give(reply, find, move |answers, read, reply| {
            answers.send_read(ino, offset, read, reply);
        });
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
        let find = move |answers: &Answers| {
            let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
            let found = answers.seek(ino, offset, whence)?;
            i64::try_from(found).map_err(|_| Errno::EOVERFLOW)
        };
        self.give(reply, find, |_, found, reply| match found {
            Ok(found) => reply.offset(found),
            Err(errno) => reply.error(errno),
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let find = move |answers: &Answers| answers.at_inode(ino, |ino| answers.tree.open_directory(ino));
        self.give(reply, find, |answers, opened, reply| match opened {
            Ok(directory) => {
                let flags = match directory.lasts {
                    Lasting::Forever => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
                    Lasting::Shortly => FopenFlags::empty(),
                };
                reply.opened(answers.directories.add(directory), flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(directory) = self.answers.directories.get(handle) else {
            reply.error(Errno::EBADF);
            return;
        };
        let send = |listed: Result<(), Errno>, reply: ReplyDirectory| match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        };
        let answers = &self.answers;
        let Some(waiters) = &self.waiters else {
            let listed = answers.list(&directory, offset, &mut reply);
            return send(listed, reply);
        };
        match waiters::in_place(|| answers.list(&directory, offset, &mut reply)) {
            // What came before a gap is sent; the kernel asks for the rest.
            Ok(listed) | Err(listed @ Ok(())) => send(listed, reply),
            Err(Err(_)) => {
                let answers = Arc::clone(answers);
                let find = move || (answers.list(&directory, offset, &mut reply), reply);
                waiters.give(find, move |(listed, reply)| send(listed, reply));
            }
        }
    }

    fn readdirplus(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let Some(directory) = self.answers.directories.get(handle) else {
            reply.error(Errno::EBADF);
            return;
        };
        let answers = &self.answers;
        let Some(waiters) = &self.waiters else {
            let listed = answers.list_plus(&directory, offset, &mut reply);
            return answers.send_listed(&directory, offset, listed, reply);
        };
        match waiters::in_place(|| answers.list_plus(&directory, offset, &mut reply)) {
            Ok(listed) | Err(listed @ Ok(_)) => answers.send_listed(&directory, offset, listed, reply),
            Err(Err(_)) => {
                let (here, there) = (Arc::clone(answers), Arc::clone(answers));
                let find = move || {
                    let listed = here.list_plus(&directory, offset, &mut reply);
                    (directory, listed, reply)
                };
                waiters.give(find, move |(directory, listed, reply)| {
                    there.send_listed(&directory, offset, listed, reply);
                });
            }
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.answers.directories.remove(handle);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let find = |answers: &Answers| answers.answer(|| "statfs".into(), || Ok(answers.tree.space()));
        self.give(reply, find, |_, space, reply| match space {
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
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        let find = move |answers: &Answers| answers.at_inode(ino, |ino| answers.tree.xattr(ino, name.as_bytes()));
        self.give(reply, find, move |_, value, reply| match value {
            Ok(value) => reply_xattr(&value, size, reply),
            Err(errno) => reply.error(errno),
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let find = move |answers: &Answers| answers.at_inode(ino, |ino| answers.tree.xattr_names(ino));
        self.give(reply, find, move |_, names, reply| match names {
            Ok(names) => {
                let list: Vec<u8> = names.into_iter().flat_map(|name| name.into_iter().chain([0])).collect();
                reply_xattr(&list, size, reply);
            }
            Err(errno) => reply.error(errno),
        });
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
