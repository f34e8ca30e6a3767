//! The part of a prune that removes: backups first, then packs, then what names them, the mark and the intent last.
//!
//! Whatever it is interrupted by, the next run finds the intent and goes on: all that was removed was needed by nobody.

use super::{Error, Facts, Prune, Report, Result, writers};
use crate::bytes::to_u64;
use crate::store::{self, Key};
use crate::vault::index::{self, Index, MAX_INDEX};
use crate::vault::lifecycle::{LOCKS, PINS, deleted_key};
use crate::vault::mark::{MarkId, mark_key, sweep_key};
use crate::vault::object::{FRAME_LEN, ObjectId, ObjectType};
use crate::vault::quarantine;
use crate::vault::{self, Address, index_key, manifest_key, pack_key, random_id};
use std::collections::HashSet;
use std::time::Duration;

/// How long a look at the own lease is believed.
const BELIEVED: Duration = Duration::from_secs(10);

/// Removes objects, and looks at the lease of this prune in between.
struct Remover<'a> {
    prune: &'a Prune<'a>,
    looked: Option<Duration>,
}

impl Remover<'_> {
    /// Goes on only while no other prune can have taken this one for dead.
    fn check(&mut self) -> Result<()> {
        let now = self.prune.environment.clock.uptime();
        if self.looked.is_none_or(|looked| now.saturating_sub(looked) >= BELIEVED) {
            self.prune.check()?;
            self.looked = Some(now);
        }
        Ok(())
    }

    /// Removes an object, whether it is there or not.
    fn remove(&mut self, key: &Key) -> Result<bool> {
        self.check()?;
        match self.prune.vault.store().delete(key) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(vault::Error::from(error).into()),
        }
    }
}

/// Acts upon the marks that are due, and stores the new one.
pub(super) fn run(prune: &Prune<'_>, facts: &Facts, mut report: Report) -> Result<Report> {
    let mut remover = Remover { prune, looked: None };
    for address in &report.purged {
        purge(&mut remover, address)?;
    }
    prune.environment.monitor.begin("removing packs", report.packs.bytes);
    let mut removed = removed_before(facts);
    for (object_type, pack) in facts.sweeps.iter().flat_map(|sweep| &sweep.packs) {
        remover.remove(&pack_key(*object_type, pack)?)?;
        if *object_type == ObjectType::Pack {
            removed.insert(*pack);
        }
    }
    prune.environment.monitor.end();
    report.indexes = rewrite_indexes(&mut remover, facts, &removed)?;
    forget(&mut remover, facts, &removed)?;
    for address in &report.purged {
        forget_backup(&mut remover, address)?;
    }
    for sweep in &facts.sweeps {
        end(&mut remover, &sweep.mark)?;
    }
    report.litter = tidy(&mut remover, facts)?;
    if !facts.mark.is_empty() {
        prune.check()?;
        prune.vault.put_mark(&random_id()?, &facts.mark)?;
    }
    Ok(report)
}

/// Packs that an earlier run has removed by a mark that is acted upon now: it may have been stopped before it looked at what names them.
fn removed_before(facts: &Facts) -> HashSet<ObjectId> {
    let marks = facts
        .sweeps
        .iter()
        .filter_map(|sweep| facts.marks.good.get(&sweep.mark));
    let listed = marks.flat_map(|mark| mark.packs_of(ObjectType::Pack));
    let is_gone = |pack: &&ObjectId| !facts.listing.packs.contains(*pack);
    listed.filter(is_gone).copied().collect()
}

/// Removes the manifest of a deleted backup, if it still is deleted and nobody has protected it meanwhile.
fn purge(remover: &mut Remover<'_>, address: &Address) -> Result<()> {
    let prune = remover.prune;
    let now = prune.environment.clock.now();
    let protections = prune.vault.protections_of_resource(&address.resource)?;
    if prune.vault.tombstone(address)?.is_none() || protections.why(address, now).is_some() {
        return Err(Error::Changed {
            address: address.clone(),
        });
    }
    remover.remove(&manifest_key(address)?)?;
    Ok(())
}

/// Removes what is left of a backup whose manifest and packs are gone.
fn forget_backup(remover: &mut Remover<'_>, address: &Address) -> Result<()> {
    let vault = remover.prune.vault;
    let mut keys = vec![Key::new(format!("{PINS}{address}")).map_err(vault::Error::from)?];
    keys.extend(
        vault
            .store()
            .list(&format!("{LOCKS}{address}/"))
            .map_err(vault::Error::from)?,
    );
    // The tombstone last: until then the address names a deleted backup.
    keys.push(deleted_key(address)?);
    for key in keys {
        remover.remove(&key)?;
    }
    Ok(())
}

/// Writes indexes anew that name packs which are gone; returns how many.
fn rewrite_indexes(remover: &mut Remover<'_>, facts: &Facts, removed: &HashSet<ObjectId>) -> Result<usize> {
    let vault = remover.prune.vault;
    let mut rewritten = 0usize;
    for key in facts.listing.indexes.iter().filter(|_| !removed.is_empty()) {
        let index = Index::open(vault.store().as_ref(), key);
        // One that is gone was merged by somebody else; one that is damaged is left for verify to find.
        let names_removed = match index {
            Ok(index) => index.is_some_and(|index| index.packs().iter().any(|pack| removed.contains(pack))),
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(vault::Error::from(error).into()),
        };
        if !names_removed {
            continue;
        }
        let Some(mut records) = load_index(vault, key)? else {
            continue;
        };
        records.retain(|record| !removed.contains(&record.pack));
        if !records.is_empty() {
            remover.check()?;
            let id = random_id()?;
            let object = vault.frame(ObjectType::Index, id).seal(&index::encode(records));
            vault
                .store()
                .put_new(&index_key(&id)?, &object)
                .map_err(vault::Error::from)?;
        }
        remover.remove(key)?;
        rewritten = rewritten.saturating_add(1);
    }
    Ok(rewritten)
}

fn load_index(vault: &vault::Vault, key: &Key) -> Result<Option<Vec<index::Record>>> {
    let object = match vault.store().get(key, MAX_INDEX.saturating_add(to_u64(FRAME_LEN))) {
        Err(store::Error::NotFound { .. }) => return Ok(None),
        other => other.map_err(vault::Error::from)?,
    };
    let id = key.as_str().strip_prefix("index/").and_then(crate::bytes::unhex);
    let frame = id.map(|id| vault.frame(ObjectType::Index, id));
    let payload = frame.and_then(|frame| frame.open(&object, key.as_str()).ok());
    Ok(payload.and_then(index::decode))
}

/// Removes records about packs that are gone, and that no backup refers to.
fn forget(remover: &mut Remover<'_>, facts: &Facts, removed: &HashSet<ObjectId>) -> Result<()> {
    let listing = &facts.listing;
    let is_there = |pack: &ObjectId| {
        (listing.packs.contains(pack) || listing.meta_packs.contains(pack)) && !removed.contains(pack)
    };
    let is_needed = |pack: &ObjectId| {
        [ObjectType::Pack, ObjectType::MetaPack]
            .iter()
            .any(|object_type| facts.needs.has(&(*object_type, *pack)))
    };
    for (old, new) in &listing.moved {
        let leads_nowhere = !is_there(new);
        let is_followed = is_there(old) || is_needed(old) || facts.needs.named.contains(old);
        if leads_nowhere || !is_followed {
            let key = format!("moved/{}/{}", crate::bytes::hex(old), crate::bytes::hex(new));
            remover.remove(&Key::new(key).map_err(vault::Error::from)?)?;
        }
    }
    for (pack, id) in &listing.quarantine {
        if !is_there(pack) && !is_needed(pack) {
            remover.remove(&quarantine::key(pack, id)?)?;
        }
    }
    Ok(())
}

/// Removes a mark, and then the intent to act upon it.
fn end(remover: &mut Remover<'_>, id: &MarkId) -> Result<()> {
    remover.remove(&mark_key(id)?)?;
    remover.remove(&sweep_key(id)?)?;
    Ok(())
}

/// Removes what programs left that were killed, and returns how much that was.
fn tidy(remover: &mut Remover<'_>, facts: &Facts) -> Result<u64> {
    let prune = remover.prune;
    let mut litter = writers::tidy(prune.vault)?;
    // A mark that cannot be read: what it listed is marked anew.
    for id in &facts.marks.bad {
        end(remover, id)?;
        litter = litter.saturating_add(1);
    }
    // An intent whose mark is gone had reached its end.
    for id in facts.marks.begun.iter().filter(|id| !facts.listing.marks.contains(*id)) {
        litter = litter.saturating_add(u64::from(remover.remove(&sweep_key(id)?)?));
    }
    // A tombstone whose backup is gone.
    for address in facts.listing.deleted.difference(&facts.listing.backups) {
        match prune.vault.store().head(&manifest_key(address)?) {
            Err(error) if error.is_not_found() => forget_backup(remover, address)?,
            Err(error) => return Err(vault::Error::from(error).into()),
            Ok(_) => continue,
        }
        litter = litter.saturating_add(1);
    }
    let removed = prune.vault.store().remove_litter(prune.settings.grace.max(LITTER_AGE));
    Ok(litter.saturating_add(removed.map_err(vault::Error::from)?))
}

/// A temporary file or an unfinished upload that is younger may belong to a writer.
const LITTER_AGE: Duration = Duration::from_secs(24 * 3600);
