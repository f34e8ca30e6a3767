//! Locks a backup until a time: by a record in the vault, which vaultfs honours, and where the store itself can keep objects, by its
//! own lock on everything that the backup needs, which binds everybody.

use crate::chunk::Reader;
use crate::clock::Point;
use crate::monitor::Monitor;
use crate::reach::{self, Doubt, Walk};
use crate::store::Key;
use crate::vault::{self, Address, Change, Lock, Vault, manifest_key, pack_key};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory for pages.
const CACHE_BYTES: u64 = 32 << 20;
/// Requests at once: each waits for the store.
const JOBS: usize = 16;

/// Why a backup was not locked, or not everything of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The vault could not be read or written.
    #[error(transparent)]
    Vault(#[from] vault::Error),
    /// The backup is locked, but nobody knows everything that it needs.
    #[error("the backup is locked in the vault, but the object lock of the store does not cover it")]
    Reach(#[from] reach::Error),
    /// The backup is locked, but the store did not lock all of its objects.
    #[error(
        "the backup is locked in the vault, but the object lock of the store does not cover all of it; lock it again"
    )]
    Retain(#[source] vault::Error),
}

/// Locks a backup; in a store that keeps objects by itself, everything that it needs as well, also if it was locked before.
///
/// # Errors
/// As [`Vault::lock`]; `Reach` and `Retain` when the record is there and the store does not keep everything.
pub fn run(
    vault: &Vault,
    address: &Address,
    until: Point,
    lock: &Lock,
    monitor: &dyn Monitor,
) -> Result<Change, Error> {
    let change = vault.lock(address, until, lock)?;
    let store = vault.store();
    if !store.can_retain().map_err(|error| Error::Retain(error.into()))? {
        return Ok(change);
    }
    monitor.begin(&format!("lock {address}"), 0);
    let keys = needed(vault, address)?;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
            store.retain(key, until.seconds())?;
            let done = done.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            monitor.count(&format!("{done} of {} objects", keys.len()));
        }
        Ok(())
    };
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..JOBS.min(keys.len())).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<(), crate::store::Error>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // The scope waits for those that are left after a failure.
        threads.into_iter().try_for_each(join)
    });
    monitor.end();
    ended.map_err(|error| Error::Retain(error.into()))?;
    Ok(change)
}

/// The objects without which a backup cannot be read, and its locks.
fn needed(vault: &Vault, address: &Address) -> Result<Vec<Key>, Error> {
    let manifest = vault.load(address)?;
    let mut walk = Walk::new(&Reader::new(vault.clone(), CACHE_BYTES));
    walk.backup(address, &manifest, Doubt::Refuse)?;
    let mut keys = vec![vault::vault_key()?, manifest_key(address)?];
    for (object_type, id) in walk.objects().keys() {
        keys.push(pack_key(*object_type, id)?);
    }
    // Whatever says where chunks are that are not where they were.
    for prefix in [format!("{}{address}/", vault::LOCKS), "moved/".to_owned()] {
        keys.extend(vault.store().list(&prefix).map_err(vault::Error::from)?);
    }
    keys.sort_unstable();
    Ok(keys)
}
