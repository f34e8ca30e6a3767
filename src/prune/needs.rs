//! Which packs backups need, and what of them. What cannot be read is an error: nothing becomes garbage because of it.

use super::listing::{Listing, untrue};
use super::plan::{Classes, Needs, SKEW};
use super::{Error, Prune, Result, repack};
use crate::chunk::Reader;
use crate::reach::{self, Doubt, Object, Uses, Walk};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, Address, manifest_key, pack_key};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Memory for pages.
const READER_CACHE: u64 = 32 << 20;

/// What is needed of each pack; `None` if a deleted backup is damaged, so that not everything is known that it would need if it were
/// brought back and repaired.
pub(super) type Used = Option<HashMap<Object, Uses>>;

impl Prune<'_> {
    /// Walks through every backup that is not removed in this run.
    pub(super) fn needs(&self, listing: &Listing, classes: &Classes) -> Result<(Needs, Used)> {
        let monitor = self.environment.monitor;
        let reader = Reader::new(self.vault.clone(), READER_CACHE);
        let walk = Walk::new(&reader).following(repack::moves(listing));
        let damaged = listing.quarantine.iter().copied().collect();
        let mut walk = walk.avoiding(damaged).until(self.environment.cancel);
        monitor.begin("looking at backups", 0);
        let (deleted, there): (Vec<&Address>, Vec<&Address>) = classes
            .kept
            .iter()
            .partition(|address| listing.deleted.contains(*address));
        for (number, address) in (1u64..).zip(&there) {
            self.walk(&mut walk, &reader, address, Doubt::KeepPacks)?;
            monitor.count(&format!("{number} backups"));
        }
        self.check_packs(listing, walk.objects().keys())?;
        // What is damaged in a deleted backup is no reason to stop: deleting is what one does with it. The rest of it stays.
        let mut is_exact = true;
        for address in deleted {
            is_exact &= self.walk(&mut walk, &reader, address, Doubt::KeepWhatIsThere)?;
        }
        let kept = with_moved(walk.objects().keys(), listing);
        for address in classes.waiting.iter().chain(&classes.expired) {
            is_exact &= self.walk(&mut walk, &reader, address, Doubt::KeepWhatIsThere)?;
        }
        monitor.end();
        let expired = with_moved(walk.objects().keys(), listing);
        let (objects, named) = walk.into_parts();
        let needs = Needs { kept, expired, named };
        Ok((needs, is_exact.then_some(objects)))
    }

    /// Adds what a backup needs; says whether nothing was passed over.
    fn walk(&self, walk: &mut Walk<'_>, reader: &Arc<Reader>, address: &Address, doubt: Doubt) -> Result<bool> {
        let damaged = |error: &dyn std::fmt::Display| {
            self.environment.monitor.warn(&format!(
                "deleted backup {address} is damaged: {error}; what is there of it stays, and nothing is repacked, until it is removed"
            ));
            Ok(false)
        };
        let manifest = match reader.vault().load(address) {
            Err(error @ (vault::Error::Corrupt { .. } | vault::Error::NoBackup { .. }))
                if doubt == Doubt::KeepWhatIsThere =>
            {
                return damaged(&error);
            }
            Err(vault::Error::NoBackup { .. }) => {
                let address = address.clone();
                return Err(Error::Vanished { address });
            }
            other => other.map_err(|source| Error::Manifest {
                address: address.clone(),
                source,
            })?,
        };
        let now = self.environment.clock.now();
        if manifest.finished > now.saturating_add(SKEW) {
            return Err(Error::Skew {
                object: manifest_key(address)?.to_string(),
                at: manifest.finished,
                now,
            });
        }
        match walk.backup(address, &manifest, doubt) {
            Ok(None) => Ok(true),
            Ok(Some(error)) => damaged(&error),
            Err(reach::Error::Unreadable { address, source }) => Err(Error::Unreadable { address, source }),
            Err(reach::Error::Interrupted) => Err(Error::Interrupted),
        }
    }

    /// Makes sure that every pack is listed that a backup needs.
    fn check_packs<'n>(&self, listing: &Listing, needed: impl Iterator<Item = &'n Object>) -> Result<()> {
        for (object_type, pack) in needed {
            if listing.packs_of(*object_type).contains(pack) || listing.moved_from(pack).next().is_some() {
                continue;
            }
            let key = pack_key(*object_type, pack)?;
            return match self.vault.store().head(&key) {
                Ok(_) => Err(untrue(key.to_string(), "is there, and is not listed")),
                Err(error) if error.is_not_found() => Err(Error::Missing { key: key.to_string() }),
                Err(error) => Err(vault::Error::from(error).into()),
            };
        }
        Ok(())
    }
}

/// Packs, and those in which chunks of them were stored again.
fn with_moved<'n>(packs: impl Iterator<Item = &'n Object>, listing: &Listing) -> HashSet<Object> {
    let mut all: HashSet<Object> = packs.copied().collect();
    let mut waiting: Vec<ObjectId> = all.iter().map(|(_, pack)| *pack).collect();
    while let Some(old) = waiting.pop() {
        for new in listing.moved_from(&old) {
            // Records do not say of which type the new one is; at most one of the two is there.
            let is_new = all.insert((ObjectType::Pack, new)) | all.insert((ObjectType::MetaPack, new));
            if is_new {
                waiting.push(new);
            }
        }
    }
    all
}
