//! What becomes of backups: deleted and brought back, pinned, locked. Nothing here removes a byte of a backup; only a prune does.
//!
//! There is no lock between two programs. Whoever changes something writes its record first and then looks for records of the others:
//! of a `delete` and a `pin` in the same moment, at least one sees the other and takes back what it did.
//!
//! # Source
//! `docs/format.md`, section "Records".

use super::{Address, BACKUPS, Error, ResourceName, Result, Vault};
use crate::clock::{Point, Seconds, rfc3339};
use crate::store::{self, Key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// What the keys of tombstones start with.
pub const DELETED: &str = "deleted/";
/// What the keys of pins start with.
pub const PINS: &str = "pins/";
/// What the keys of locks start with.
pub const LOCKS: &str = "locks/";
/// What the keys of the intents of a prune start with.
const SWEEPS: &str = "sweeps/";

/// The record `deleted/<address>`: hides a backup until a prune removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// When it was deleted.
    pub at: Seconds,
    /// By whom, in words.
    pub by: String,
}

/// The record `pins/<address>`: keeps a backup until it is taken away, or until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// When it was pinned.
    pub at: Seconds,
    /// By whom, in words.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Seconds>,
}

impl Pin {
    fn holds(&self, now: Seconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The record `locks/<address>/<until>`: keeps a backup until that time, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// When it was locked.
    pub at: Seconds,
    /// By whom, in words.
    pub by: String,
}

/// Whether something had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was done.
    Done,
    /// It was so already.
    Already,
}

/// Where a backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    There,
    Deleted,
    Absent,
}

/// What protects backups from being deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protections {
    pins: BTreeMap<Address, Pin>,
    locks: BTreeMap<Address, Point>,
}

impl Protections {
    /// The pin of a backup, if it holds.
    #[must_use]
    pub fn pin(&self, address: &Address, now: Seconds) -> Option<&Pin> {
        self.pins.get(address).filter(|pin| pin.holds(now))
    }

    /// Until when a backup is locked, if it is.
    #[must_use]
    pub fn lock(&self, address: &Address, now: Seconds) -> Option<Point> {
        self.locks.get(address).copied().filter(|until| now < until.seconds())
    }

    /// What protects a backup, and how to end it, as what comes after its address in a sentence.
    #[must_use]
    pub fn why(&self, address: &Address, now: Seconds) -> Option<String> {
        if let Some(until) = self.lock(address, now) {
            let until = rfc3339(until.seconds());
            return Some(format!("is locked until {until} and cannot be deleted before"));
        }
        let pin = self.pin(address, now)?;
        let until = pin.until.map(|until| format!(" until {}", rfc3339(until)));
        Some(format!(
            "is pinned{} by {} ({}); `vaultfs unpin` frees it",
            until.unwrap_or_default(),
            pin.by,
            pin.reason
        ))
    }

    /// The error for a backup that may not be deleted.
    ///
    /// # Errors
    /// `Held` if something protects it.
    pub fn check(&self, address: &Address, now: Seconds) -> Result<()> {
        match self.why(address, now) {
            Some(why) => Err(held(address, why)),
            None => Ok(()),
        }
    }
}

impl Vault {
    /// Deletes a backup: hides it, until it is brought back or removed by a prune.
    ///
    /// # Errors
    /// `NoBackup`; `Held` if it is pinned or locked, also in the same moment; `Corrupt` if a record about that cannot be read; `Store`.
    pub fn delete(&self, address: &Address, tombstone: &Tombstone) -> Result<Change> {
        if self.may_delete(address, tombstone.at)? == Change::Already {
            return Ok(Change::Already);
        }
        let key = deleted_key(address)?;
        let put = match self.put_record(&key, tombstone) {
            // On a full disk deleting is the way out, and the reserve is for that.
            Err(Error::Store(store::Error::Io { source, .. }))
                if source.kind() == ErrorKind::StorageFull && self.release_reserve()? =>
            {
                let put = self.put_record(&key, tombstone);
                // All of it but this record goes on being kept for the prune.
                if let Err(error) = self.store().keep_reserve() {
                    log::debug!("less space than before is kept back: {error}");
                }
                put
            }
            other => other,
        };
        match put {
            Err(Error::Store(store::Error::AlreadyExists { .. })) => return Ok(Change::Already),
            other => other?,
        }
        let still_free = self
            .protections_of(address)
            .and_then(|found| found.check(address, tombstone.at));
        if let Err(error) = still_free {
            self.remove_record(&key)?;
            return Err(error);
        }
        Ok(Change::Done)
    }

    /// Says what [`delete`](Self::delete) would do, and does nothing.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn may_delete(&self, address: &Address, now: Seconds) -> Result<Change> {
        match self.standing(address)? {
            Standing::There => {}
            Standing::Deleted => return Ok(Change::Already),
            Standing::Absent => return Err(no_backup(address)),
        }
        self.protections_of(address)?.check(address, now)?;
        Ok(Change::Done)
    }

    /// Gives back the space that the store keeps for a full disk; says whether there was any.
    ///
    /// # Errors
    /// `Store`.
    pub fn release_reserve(&self) -> Result<bool> {
        Ok(self.store().release_reserve()?)
    }

    /// Brings a deleted backup back. `again` is what is written if that comes too late and the old record cannot be read.
    ///
    /// # Errors
    /// `NoBackup` if there is none or its removal has begun to show; `Held` if a prune is removing backups now; `Store`.
    pub fn undelete(&self, address: &Address, again: &Tombstone) -> Result<Change> {
        match self.standing(address)? {
            Standing::There => return Ok(Change::Already),
            Standing::Deleted => {}
            Standing::Absent => return Err(no_backup(address)),
        }
        let key = deleted_key(address)?;
        let before = match self.record(&key) {
            Err(Error::Corrupt { .. }) => again.clone(),
            other => other?,
        };
        if !self.remove_record(&key)? {
            // Somebody else brought it back, or a prune has removed it to the last.
            return match self.standing(address)? {
                Standing::There => Ok(Change::Already),
                Standing::Deleted => Err(deleted(address)),
                Standing::Absent => Err(no_backup(address)),
            };
        }
        // A prune writes what it is about to remove, then looks at the tombstones: it has seen that this one is gone, or is seen here.
        if !self.store().list(SWEEPS)?.is_empty() {
            self.put_record(&key, &before)?;
            let why = "may be removed at this moment, for a prune is removing deleted backups; wait until `vaultfs prune` \
                       has ended and try again";
            return Err(held(address, why.to_owned()));
        }
        match self.standing(address)? {
            Standing::There => Ok(Change::Done),
            Standing::Deleted => Err(deleted(address)),
            Standing::Absent => Err(no_backup(address)),
        }
    }

    /// Pins a backup.
    ///
    /// # Errors
    /// `NoBackup`; `Deleted`, also in the same moment; `Held` if it is pinned for another reason or time; `Store`.
    pub fn pin(&self, address: &Address, pin: &Pin) -> Result<Change> {
        self.check_there(address)?;
        let key = pin_key(address)?;
        if let Some(there) = self.protections_of(address)?.pins.get(address) {
            if there.holds(pin.at) {
                let same = (&there.reason, there.until) == (&pin.reason, pin.until);
                return if same {
                    Ok(Change::Already)
                } else {
                    let why = format!(
                        "is pinned already by {} ({}); `vaultfs unpin` it before it is pinned in another way",
                        there.by, there.reason
                    );
                    Err(held(address, why))
                };
            }
            self.remove_record(&key)?;
        }
        self.put_record(&key, pin)?;
        if self.deleted_of(&address.resource)?.contains(address) {
            self.remove_record(&key)?;
            return Err(deleted(address));
        }
        Ok(Change::Done)
    }

    /// Takes the pin of a backup away, whether it can be read or not.
    ///
    /// # Errors
    /// `Store`.
    pub fn unpin(&self, address: &Address) -> Result<Change> {
        Ok(if self.remove_record(&pin_key(address)?)? {
            Change::Done
        } else {
            Change::Already
        })
    }

    /// Locks a backup until a time; one that is locked until then or longer stays as it is.
    ///
    /// # Errors
    /// `NoBackup`; `Deleted`, also in the same moment: then the lock is there, and holds as soon as the backup is brought back; `Store`.
    pub fn lock(&self, address: &Address, until: Point, lock: &Lock) -> Result<Change> {
        self.check_there(address)?;
        let there = self.protections_of(address)?.locks.get(address).copied();
        if there.is_some_and(|there| there >= until) {
            return Ok(Change::Already);
        }
        match self.put_record(&Key::new(format!("{LOCKS}{address}/{until}"))?, lock) {
            Err(Error::Store(store::Error::AlreadyExists { .. })) => {}
            other => other?,
        }
        self.check_there(address)?;
        Ok(Change::Done)
    }

    /// What protects the backups of the vault.
    ///
    /// # Errors
    /// `Corrupt` if a pin cannot be read or a key under `pins/` or `locks/` names no backup: what cannot be understood may protect
    /// anything. `Store`.
    pub fn protections(&self) -> Result<Protections> {
        self.protections_below("")
    }

    /// What protects backups of one resource.
    ///
    /// # Errors
    /// As [`protections`](Self::protections).
    pub fn protections_of_resource(&self, resource: &ResourceName) -> Result<Protections> {
        self.protections_below(&format!("{resource}/"))
    }

    /// What a tombstone says; `None` if the backup is not deleted.
    ///
    /// # Errors
    /// `Corrupt`, `FromTheFuture`, `Store`.
    pub fn tombstone(&self, address: &Address) -> Result<Option<Tombstone>> {
        match self.record(&deleted_key(address)?) {
            Err(Error::Store(error)) if error.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    fn protections_of(&self, address: &Address) -> Result<Protections> {
        let mut found = Protections::default();
        let pins = format!("{PINS}{}/", address.resource);
        let key = pin_key(address)?;
        if self.store().list(&pins)?.contains(&key) {
            self.read_pin(&key, &mut found)?;
        }
        self.read_locks(&format!("{LOCKS}{address}/"), &mut found)?;
        Ok(found)
    }

    fn protections_below(&self, prefix: &str) -> Result<Protections> {
        let mut found = Protections::default();
        for key in self.store().list(&format!("{PINS}{prefix}"))? {
            self.read_pin(&key, &mut found)?;
        }
        self.read_locks(&format!("{LOCKS}{prefix}"), &mut found)?;
        Ok(found)
    }

    fn read_pin(&self, key: &Key, found: &mut Protections) -> Result<()> {
        let address = key.as_str().strip_prefix(PINS).and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| no_address(key))?;
        match self.record(key) {
            // Taken away since it was listed.
            Err(Error::Store(error)) if error.is_not_found() => {}
            other => {
                found.pins.insert(address, other?);
            }
        }
        Ok(())
    }

    /// A lock is its key: one whose record is damaged holds like any other.
    fn read_locks(&self, prefix: &str, found: &mut Protections) -> Result<()> {
        for key in self.store().list(prefix)? {
            let (address, until) = key
                .as_str()
                .strip_prefix(LOCKS)
                .and_then(|text| text.rsplit_once('/'))
                .and_then(|(address, until)| Some((address.parse().ok()?, until.parse().ok()?)))
                .ok_or_else(|| no_address(&key))?;
            let latest = found.locks.entry(address).or_insert(until);
            *latest = (*latest).max(until);
        }
        Ok(())
    }

    fn standing(&self, address: &Address) -> Result<Standing> {
        // In this order: a purge takes the manifest first and the tombstone last.
        let deleted = self.deleted_of(&address.resource)?.contains(address);
        let prefix = format!("{BACKUPS}{}/", address.resource);
        Ok(if !self.addresses(BACKUPS, &prefix)?.contains(address) {
            Standing::Absent
        } else if deleted {
            Standing::Deleted
        } else {
            Standing::There
        })
    }

    fn check_there(&self, address: &Address) -> Result<()> {
        match self.standing(address)? {
            Standing::There => Ok(()),
            Standing::Deleted => Err(deleted(address)),
            Standing::Absent => Err(no_backup(address)),
        }
    }
}

/// The key of a backup's tombstone.
///
/// # Errors
/// None for any address; the key's check is kept.
pub fn deleted_key(address: &Address) -> Result<Key> {
    Ok(Key::new(format!("{DELETED}{address}"))?)
}

fn pin_key(address: &Address) -> Result<Key> {
    Ok(Key::new(format!("{PINS}{address}"))?)
}

fn held(address: &Address, why: String) -> Error {
    Error::Held {
        address: address.to_string(),
        why,
    }
}

fn deleted(address: &Address) -> Error {
    Error::Deleted {
        address: address.to_string(),
    }
}

fn no_backup(address: &Address) -> Error {
    Error::NoBackup {
        address: address.to_string(),
    }
}

fn no_address(key: &Key) -> Error {
    Error::Corrupt {
        object: key.to_string(),
        what: "its key names no backup, so that nobody can tell what it protects; look at it, and remove it by hand if it does \
               not belong there"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
