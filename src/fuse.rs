//! Speaks FUSE: a request in, a call of the tree, a reply or an errno out. Only this file and its parts name fuser.
//!
//! The session gets a connection that was mounted by `mount` and never unmounts anything itself: fuser 0.18 unmounts
//! whatever lies on the path, even if somebody else has mounted there since.

mod advice;
mod answers;
mod attr;
mod directory;
mod errno;
mod handles;
mod open_files;
mod operations;
mod push;
mod waiters;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::tree::{Change, Tree};

/// The most that one read asks for, and with it the memory of one reply.
pub const MAX_REQUEST_BYTES: u32 = 1 << 20;

/// Fewest event loops: while one waits for the store, others answer from memory.
const MIN_THREADS: usize = 8;

/// Who holds readers to the modes and ACLs that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permissions {
    /// Nobody: whoever may enter the mount may read all of it.
    Unchecked,
    /// The kernel.
    Checked,
}

/// A connection to the kernel that is ready to answer requests.
pub struct Session(fuser::Session<operations::Operations>);

/// Tells the kernel what it must forget; may be cloned and used from any thread that serves no request.
#[derive(Debug, Clone)]
pub struct Notifier(fuser::Notifier);

impl Session {
    /// Greets the kernel on a mounted connection; `threads` event loops will answer, by default two for each core.
    ///
    /// # Errors
    /// If the kernel speaks another protocol or the mount is gone already.
    pub fn open(
        tree: Arc<Tree>,
        connection: OwnedFd,
        permissions: Permissions,
        threads: Option<usize>,
    ) -> io::Result<Self> {
        let mut config = fuser::Config::default();
        config.n_threads = Some(threads.unwrap_or_else(default_threads));
        config.clone_fd = can_clone();
        // The kernel has checked who may enter; a second check here would refuse kernel threads, such as loop devices.
        let acl = fuser::SessionACL::All;
        let (pusher, windows) = push::Pusher::new();
        let waiters = tree.is_remote().then(waiters::Waiters::start).transpose()?;
        let answers = answers::Answers::new(Arc::clone(&tree), permissions, pusher);
        let operations = operations::Operations::new(answers, waiters);
        let session = fuser::Session::from_fd(operations, connection, acl, config)?;
        let notifier = Notifier(session.notifier());
        // Ends with the session, which drops the other end.
        std::thread::Builder::new()
            .name("push".into())
            .spawn(move || push::run(&tree, &notifier, &windows))?;
        Ok(Self(session))
    }

    /// Something to tell the kernel of changes with.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        Notifier(self.0.notifier())
    }

    /// Answers requests until the file system is unmounted and its last file closed.
    ///
    /// # Errors
    /// If the connection fails in any other way than by an unmount.
    pub fn run(self) -> io::Result<()> {
        self.0.run()
    }
}

impl Notifier {
    /// Makes the kernel forget what is no longer true.
    pub fn tell(&self, changes: &[Change]) {
        for change in changes {
            let told = match change {
                Change::Name { parent, name } => self.0.inval_entry(fuser::INodeNo(parent.0), OsStr::new(name)),
                Change::Node(ino) => self.0.inval_inode(fuser::INodeNo(ino.0), 0, 0),
            };
            if let Err(error) = told {
                // Short lifetimes bring the kernel up to date a second later.
                log::debug!("the kernel was not told of {change:?}: {error}");
            }
        }
    }
}

fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_mul(2).max(MIN_THREADS)
}

/// Says whether each event loop can have a descriptor of its own: that needs leave to open the device, which an ordinary
/// user who mounts through fusermount3 may lack.
fn can_clone() -> bool {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_ok()
}
