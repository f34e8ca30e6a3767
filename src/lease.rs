//! Leases: how a program that relies on packs keeps a prune from removing them, without a lock and without trust in clocks.
//!
//! Who writes puts its lease first and then looks at the marks; who prunes puts its mark first and looks at the leases before it
//! removes anything. So of a writer and a prune at least one sees the other. A writer takes what is in a mark that it saw for absent;
//! a mark that it did not see waits for its end. A lease may be lost: to a prune that watched it for long without a sign of life
//! (this machine was suspended, or cut off). Its holder finds out before it commits, and looks at everything it relies on again.
//!
//! # Source
//! `docs/format.md`, section "Leases"; `docs/prune.md` says why this is enough.

pub mod process;
mod record;

pub use record::{Kind, Name, Record, Seen, all};

use crate::clock::{Clock, Seconds, uptime};
use crate::store;
use crate::vault::mark::MARKS;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, Address, Manifest, Vault, manifest_key, pack_key};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::{Mutex, RwLock};
use process::Process;
use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What the keys of leases start with.
pub const LEASES: &str = "leases/";
/// How often a lease is renewed.
pub const RENEWAL: Duration = Duration::from_secs(60);
/// A lease that was not renewed for so long may have lost its holder.
pub const TTL: Duration = Duration::from_secs(3600);

/// Why a lease could not be had, or does not protect any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vault could not be read or written.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The lease was removed while its holder gave no sign of life, and something it relied on is gone.
    #[error(
        "this machine gave no sign of life for so long (suspended, or cut off from the vault) that a prune went on without it, and \
         {object}, which backup {address} needs, {what}; nothing was committed, back up again"
    )]
    Lapsed {
        /// The backup that could not be committed.
        address: Address,
        /// What it relied on.
        object: String,
        /// What has become of it.
        what: &'static str,
    },
}

/// The result of an operation under a lease.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the lease is at the moment.
struct State {
    name: Name,
    seen: Vec<String>,
    /// Whether it was gone when it was looked for: then nothing it protected is sure.
    has_lapsed: bool,
}

impl State {
    fn new() -> vault::Result<Self> {
        Ok(Self {
            name: Name::new()?,
            seen: Vec::new(),
            has_lapsed: false,
        })
    }
}

/// What the holder and the thread that renews share.
struct Held {
    vault: Vault,
    kind: Kind,
    process: Process,
    started: Seconds,
    uptime: Duration,
    /// Held across I/O on purpose: the lease changes by one hand at a time.
    state: Mutex<State>,
}

type Pack = (ObjectType, ObjectId);

/// A lease that is held; gives itself back at its end.
pub struct Lease {
    held: Arc<Held>,
    /// Packs of the marks that were seen.
    marked: RwLock<HashSet<Pack>>,
    /// Packs that were relied on, and those written under this lease.
    used: Mutex<HashSet<Pack>>,
    /// All packs of the vault, listed once where looking for each would take long.
    listed: Mutex<Option<HashSet<Pack>>>,
    renewal: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    /// Takes a lease and starts to renew it.
    ///
    /// # Errors
    /// `Vault` if it cannot be stored, or the marks cannot be read.
    pub fn take(vault: &Vault, kind: Kind, clock: &dyn Clock) -> Result<Self> {
        let held = Held {
            vault: vault.clone(),
            kind,
            process: Process::own(),
            started: clock.now(),
            uptime: uptime(),
            state: Mutex::new(State::new()?),
        };
        let marked = held.begin(&mut held.state.lock())?;
        let held = Arc::new(held);
        Ok(Self {
            renewal: start_renewal(&held),
            held,
            marked: RwLock::new(marked),
            used: Mutex::default(),
            listed: Mutex::default(),
        })
    }

    /// The vault that it is on.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.held.vault
    }

    /// What it is called at the moment.
    #[must_use]
    pub fn name(&self) -> Name {
        self.held.state.lock().name
    }

    /// Says whether a pack can be relied on: it is there, and in no mark that was seen.
    ///
    /// Footers of packs are kept in memory and, of a vault in a bucket, in files of this machine: that one was found says nothing.
    ///
    /// # Errors
    /// `Vault` if the store does not tell.
    pub fn admits(&self, object_type: ObjectType, pack: &ObjectId) -> Result<bool> {
        let name = (object_type, *pack);
        if self.marked.read().contains(&name) {
            return Ok(false);
        }
        if self.used.lock().contains(&name) {
            return Ok(true);
        }
        let is_there = self.is_there(&name)?;
        if is_there {
            self.used.lock().insert(name);
        }
        Ok(is_there)
    }

    /// Says whether a pack of either type is in a mark that was seen.
    #[must_use]
    pub fn is_marked(&self, pack: &ObjectId) -> bool {
        let marked = self.marked.read();
        [ObjectType::Pack, ObjectType::MetaPack]
            .iter()
            .any(|object_type| marked.contains(&(*object_type, *pack)))
    }

    /// Takes note of a pack written under this lease.
    pub fn note(&self, object_type: ObjectType, pack: &ObjectId) {
        self.used.lock().insert((object_type, *pack));
    }

    /// Renews it now.
    ///
    /// # Errors
    /// `Vault`; then it stays as old as it is.
    pub fn renew(&self) -> Result<()> {
        Ok(self.held.renew()?)
    }

    /// Says whether the lease was there all the time.
    ///
    /// # Errors
    /// `Vault` if the store does not tell.
    pub fn is_whole(&self) -> Result<bool> {
        Ok(self.held.is_whole()?)
    }

    /// Commits a backup that relies on packs admitted or noted here.
    ///
    /// # Errors
    /// `Vault` as [`Vault::commit`]; `Lapsed`, then the backup is not there.
    pub fn commit(&self, manifest: &Manifest) -> Result<()> {
        let address = manifest.address()?;
        if !self.is_whole()? {
            self.take_again()?;
            self.verify(&address)?;
        }
        self.vault().commit(manifest)?;
        // The lease may have gone between the look and the commit, and a prune may have listed the backups before it.
        let kept = match self.is_whole() {
            Ok(true) => return Ok(()),
            Ok(false) => self.take_again().and_then(|()| self.verify(&address)),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            self.vault()
                .store()
                .delete(&manifest_key(&address)?)
                .map_err(vault::Error::from)?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes a new lease for one that is lost.
    fn take_again(&self) -> Result<()> {
        log::warn!(
            "the lease on {} was lost; what relies on it is looked at again",
            self.vault().store().describe()
        );
        let marked = {
            let mut state = self.held.state.lock();
            *state = State::new()?;
            self.held.begin(&mut state)?
        };
        *self.marked.write() = marked;
        *self.listed.lock() = None;
        Ok(())
    }

    /// Makes sure that everything relied on is still there and stays there.
    fn verify(&self, address: &Address) -> Result<()> {
        let used: Vec<Pack> = self.used.lock().iter().copied().collect();
        for name in used {
            let what = if self.marked.read().contains(&name) {
                "is about to be removed"
            } else if !self.is_there(&name)? {
                "was removed"
            } else {
                continue;
            };
            let (object_type, pack) = name;
            return Err(Error::Lapsed {
                address: address.clone(),
                object: pack_key(object_type, &pack)?.to_string(),
                what,
            });
        }
        Ok(())
    }

    fn is_there(&self, name: &Pack) -> Result<bool> {
        let store = self.vault().store();
        if store.is_remote() {
            let mut listed = self.listed.lock();
            let packs = match listed.take() {
                Some(packs) => packs,
                None => list_packs(self.vault())?,
            };
            let is_there = packs.contains(name);
            *listed = Some(packs);
            return Ok(is_there);
        }
        let (object_type, pack) = name;
        match store.head(&pack_key(*object_type, pack)?) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(vault::Error::from(error).into()),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.renewal.take() {
            drop(stop);
            // It only waits; a renewal under way ends first, so that none comes after the removal.
            let _ = thread.join();
        }
        let name = self.held.state.lock().name;
        // The lease itself first: what is left of one without it means nothing.
        for name in [name.first(), name] {
            match name.key().map(|key| self.vault().store().delete(&key)) {
                Ok(Err(error)) if !error.is_not_found() => {
                    log::debug!("a lease stays and will be found to be nobody's: {error}");
                }
                _ => {}
            }
        }
    }
}

impl Held {
    /// Puts the lease, then looks at the marks, then says which were seen; returns what is in them.
    fn begin(&self, state: &mut State) -> Result<HashSet<Pack>> {
        self.put(state)?;
        let marked = self.look_at_marks(state)?;
        if !state.seen.is_empty() {
            state.name = state.name.next();
            self.put(state)?;
        }
        Ok(marked)
    }

    fn look_at_marks(&self, state: &mut State) -> Result<HashSet<Pack>> {
        let mut marked = HashSet::new();
        if !self.kind.writes() {
            return Ok(marked);
        }
        for key in self.vault.store().list(MARKS).map_err(vault::Error::from)? {
            let Some(id) = key.as_str().strip_prefix(MARKS).and_then(crate::bytes::unhex) else {
                log::warn!("object {key} is no mark; it is left alone");
                continue;
            };
            let mark = match self.vault.mark(&id) {
                Ok(mark) => mark,
                // Nobody removes by a mark that was not seen while this lease is there, or that is gone.
                Err(error @ vault::Error::Corrupt { .. }) => {
                    log::warn!("{error}; nothing is removed by it while this lease is there");
                    continue;
                }
                Err(vault::Error::Store(store::Error::NotFound { .. })) => continue,
                Err(error) => return Err(error.into()),
            };
            marked.extend(mark.packs.iter().map(|pack| (ObjectType::Pack, *pack)));
            marked.extend(mark.meta_packs.iter().map(|pack| (ObjectType::MetaPack, *pack)));
            state.seen.push(crate::bytes::hex(&id));
        }
        Ok(marked)
    }

    fn put(&self, state: &State) -> vault::Result<()> {
        let passed = uptime().saturating_sub(self.uptime).as_secs();
        let record = Record {
            kind: self.kind,
            process: self.process.clone(),
            started: self.started,
            renewed: self.started.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)),
            seen: state.seen.clone(),
        };
        match self.vault.put_record(&state.name.key()?, &record) {
            // Its id is random: it is the one whose answer was lost.
            Err(vault::Error::Store(store::Error::AlreadyExists { .. })) => Ok(()),
            other => other,
        }
    }

    fn renew(&self) -> vault::Result<()> {
        let mut state = self.state.lock();
        let old = state.name;
        state.name = old.next();
        if let Err(error) = self.put(&state) {
            state.name = old;
            return Err(error);
        }
        if old.renewal > 0
            && let Err(error) = self.vault.store().delete(&old.key()?)
        {
            // It is older than the one beside it, and means nothing.
            log::debug!("an old record of a lease stays: {error}");
        }
        Ok(())
    }

    fn is_whole(&self) -> vault::Result<bool> {
        let mut state = self.state.lock();
        match self.vault.store().head(&state.name.first().key()?) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => state.has_lapsed = true,
            Err(error) => return Err(error.into()),
        }
        Ok(!state.has_lapsed)
    }
}

/// Starts the thread that renews; without one the lease lapses after an hour, and its holder finds out.
fn start_renewal(held: &Arc<Held>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = bounded::<()>(0);
    let held = Arc::clone(held);
    let work = move || {
        while stopped.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = held.renew() {
                log::warn!(
                    "the lease on {} could not be renewed: {error}",
                    held.vault.store().describe()
                );
            }
        }
    };
    let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(work).ok()?;
    Some((stop, thread))
}

fn list_packs(vault: &Vault) -> Result<HashSet<Pack>> {
    let mut packs = HashSet::new();
    for object_type in [ObjectType::Pack, ObjectType::MetaPack] {
        packs.extend(vault.packs(object_type)?.into_iter().map(|id| (object_type, id)));
    }
    Ok(packs)
}

#[cfg(test)]
mod tests;
