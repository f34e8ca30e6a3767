//! Serves a mount from its making to its end, whoever ends it: a signal, `umount`, or somebody from outside.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::attach::{self, Place};
use super::mountinfo::{self, Mount};
use super::options::{Access, Links, Options, OwnerShown};
use super::presence::Presence;
use super::refresh::{self, Refresher};
use super::signals::Caught;
use super::sys::{self, Detach};
use super::{Error, daemon, detach, holders, readahead};
use crate::bytes::size_text;
use crate::clock::{Clock, System};
use crate::fuse::{Permissions, Session};
use crate::tree::{Content, LinkTargets, Owner, Owners, Settings, Tree};

/// How long readers may go on after a signal has ended the mount.
const GRACE: Duration = Duration::from_secs(10);

enum Event {
    /// The kernel has let the file system go.
    Ended(io::Result<()>),
    /// Somebody asked for the end.
    Signal,
}

/// Mounts the vault behind `content` and answers until the mount ends; calls `ready` once its root can be looked at.
///
/// # Errors
/// `Fuse` or `System` if the mount cannot be made, `Tree` if the vault cannot be listed, and what `ready` returns; in
/// all these cases nothing stays mounted.
pub fn serve(
    content: Content,
    place: &Place,
    options: &Options,
    ready: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let caught = super::signals::catch().map_err(|error| Error::system("catching signals".into(), error))?;
    let pause = refresh::pause_for(content.reader.vault().store());
    let vault = content.reader.vault().clone();
    let tree = open_tree(content, place, options)?;
    let connection = attach::attach(place, options)?;
    let mounted = Mounted::find(place)?;
    let permissions = match options.access {
        Access::Owner => Permissions::Unchecked,
        Access::Everybody => Permissions::Checked,
    };
    let session = Session::open(Arc::clone(&tree), connection, permissions, options.threads)
        .map_err(|error| Error::system("greeting the kernel".into(), error))?;
    mounted.widen_readahead(options);
    let notifier = session.notifier();
    let (events, inbox) = crossbeam_channel::unbounded();
    let threads = |error| Error::system("starting threads".into(), error);
    spawn_session(session, events.clone()).map_err(threads)?;
    let refresher = Refresher::start(tree, notifier, pause).map_err(threads)?;
    std::fs::metadata(&place.directory).map_err(|error| Error::system("looking at the new mount".into(), error))?;
    ready()?;
    log::info!("{:?} is mounted at {}", place.source, place.directory.display());
    let watch = watch(caught, events).map_err(threads)?;
    let presence = (!vault.store().is_remote()).then(|| Presence::show(vault));
    let ended = wait(&inbox, &mounted);
    drop((watch, refresher, presence));
    ended
}

fn open_tree(content: Content, place: &Place, options: &Options) -> Result<Arc<Tree>, Error> {
    let (uid, gid) = sys::user_and_group();
    let daemon = daemon::Identity::own().map(|own| (daemon::XATTR.to_owned(), own.to_string().into_bytes()));
    let settings = Settings {
        owner: Owner {
            uid: options.uid.unwrap_or(uid),
            gid: options.gid.unwrap_or(gid),
        },
        owners: match options.owner {
            OwnerShown::Image => Owners::Image,
            OwnerShown::Me => Owners::Fixed(Owner { uid, gid }),
            OwnerShown::Ids(uid, gid) => Owners::Fixed(Owner { uid, gid }),
        },
        link_targets: match options.links {
            Links::Stored => LinkTargets::AsStored,
            Links::Inside => LinkTargets::Within(place.directory.as_os_str().as_bytes().to_vec()),
        },
        root_attributes: daemon.into_iter().collect(),
        mounted_at: System.now(),
    };
    let tree = Tree::open(content, settings).map_err(|source| Error::Tree {
        vault: place.source.to_string_lossy().into_owned(),
        source,
    })?;
    Ok(Arc::new(tree))
}

fn spawn_session(session: Session, events: Sender<Event>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("session".into())
        .spawn(move || {
            // Nobody listens any more if a second signal has cut the end short.
            events.send(Event::Ended(session.run())).ok()
        })
        .map(drop)
}

fn watch(caught: Caught, events: Sender<Event>) -> io::Result<super::signals::Watch> {
    caught.watch(move || {
        events.send(Event::Signal).ok();
    })
}

/// Waits for the end; the first signal unmounts, the second ends at once.
fn wait(inbox: &Receiver<Event>, mounted: &Mounted) -> Result<(), Error> {
    let mut deadline = None;
    loop {
        let event = match deadline {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => inbox.recv_deadline(deadline),
        };
        match event {
            Ok(Event::Ended(Ok(()))) => {
                log::info!("{} is unmounted", mounted.path());
                return Ok(());
            }
            Ok(Event::Ended(Err(error))) => return Err(Error::system("talking to the kernel".into(), error)),
            Ok(Event::Signal) if deadline.is_none() => {
                mounted.end();
                deadline = Some(Instant::now() + GRACE);
            }
            Ok(Event::Signal) | Err(_) => {
                log::warn!("{}: ending although files are still open", mounted.path());
                return Ok(());
            }
        }
    }
}

/// Our mount, which is undone when dropped unless somebody has undone it before.
struct Mounted {
    mount: Mount,
}

impl Mounted {
    fn find(place: &Place) -> Result<Self, Error> {
        let mounts = attach::load_mounts()?;
        let mount = mountinfo::at(&mounts, &place.directory).filter(|mount| mount.is_vaultfs());
        let mount = mount.cloned().ok_or_else(|| Error::NotMounted {
            path: place.directory.clone(),
        })?;
        Ok(Self { mount })
    }

    fn path(&self) -> std::path::Display<'_> {
        self.mount.path.display()
    }

    /// Says whether the path still shows our mount, and not one that somebody has put there since.
    fn is_there(&self) -> bool {
        let mounts = attach::load_mounts().unwrap_or_default();
        mountinfo::at(&mounts, &self.mount.path).is_some_and(|top| top.id == self.mount.id)
    }

    fn widen_readahead(&self, options: &Options) {
        if sys::user_and_group().0 == 0
            && let Err(error) = readahead::widen(self.mount.device, options.readahead_bytes)
        {
            let wanted = size_text(options.readahead_bytes);
            log::info!("the kernel's read-ahead stays at its default instead of {wanted}: {error}");
        }
    }

    /// Unmounts, lazily if somebody is still in it.
    fn end(&self) {
        if !self.is_there() {
            return;
        }
        let idle = detach::unmount(&self.mount.path, Detach::IfIdle);
        let Err(Error::Busy { .. }) = idle else {
            self.report(idle);
            return;
        };
        let mounts = attach::load_mounts().unwrap_or_default();
        let users: Vec<String> = holders::find(&self.mount, &mounts)
            .iter()
            .map(ToString::to_string)
            .collect();
        log::warn!("{} was unmounted while in use by {}", self.path(), users.join(", "));
        self.report(detach::unmount(&self.mount.path, Detach::Lazily));
    }

    fn report(&self, done: Result<(), Error>) {
        if let Err(error) = done {
            log::error!("{}: {error}", self.path());
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_there() {
            self.report(detach::unmount(&self.mount.path, Detach::Lazily));
        }
    }
}
