//! Chunks that were stored again: what a pack fails to give is looked for in the packs that `moved/` names for it.
//!
//! A pack that is repacked is gone, and pages that were written before go on to name it; a chunk that was damaged is healed by another
//! copy. Both cost one listing, which is remembered for a while.

use super::{Error, Reader, Result, from_vault, id_fits, key_text};
use crate::bytes::hex;
use crate::vault::ChunkId;
use crate::vault::moved::MOVED;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack::Record;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Records are followed this far: each repack of a repacked pack is one step.
const MAX_DEPTH: usize = 16;
/// Most packs that are looked into for one chunk.
const MAX_PACKS: usize = 256;
/// Most packs whose records are remembered.
const MAX_KEPT: NonZero<usize> = NonZero::new(4096).unwrap();
/// How long they are: a chunk may be healed while a vault is mounted.
const KEPT: Duration = Duration::from_secs(60);
/// How long it is remembered that there is none: a pack may be repacked at any moment.
const KEPT_NONE: Duration = Duration::from_secs(5);

/// When it was looked where a pack's chunks are, and what was found.
type Listed = (Instant, Arc<[ObjectId]>);

/// Which packs failed a reader, and where their chunks were stored again.
pub(super) struct Moves {
    kept: Mutex<LruCache<ObjectId, Listed>>,
    /// Whether there is any: most vaults are whole, and their readers need no lock for that.
    any: AtomicBool,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            kept: Mutex::new(LruCache::new(MAX_KEPT)),
            any: AtomicBool::new(false),
        }
    }
}

impl Moves {
    fn known(&self, pack: &ObjectId) -> Option<Arc<[ObjectId]>> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut kept = self.kept.lock();
        let (when, places) = kept.get(pack)?;
        let limit = if places.is_empty() { KEPT_NONE } else { KEPT };
        (when.elapsed() < limit).then(|| Arc::clone(places))
    }

    fn keep(&self, pack: &ObjectId, places: &Arc<[ObjectId]>) {
        self.kept.lock().put(*pack, (Instant::now(), Arc::clone(places)));
        self.any.store(true, Ordering::Relaxed);
    }
}

impl Reader {
    /// Where a chunk is: in the hinted pack, or in one that it was stored in again.
    ///
    /// # Errors
    /// Why the hinted pack does not give the chunk, if no other does; `Unavailable` if that could not be found out.
    pub fn locate(&self, object_type: ObjectType, id: &ChunkId, hint: &ObjectId) -> Result<(ObjectId, Record)> {
        let here = || {
            let footer = self.footer(object_type, hint)?;
            let record = footer.find(id).copied().ok_or_else(|| Error::Missing {
                object: key_text(object_type, hint),
                what: format!("chunk {id}"),
            })?;
            Ok((*hint, record))
        };
        let elsewhere = |error| self.elsewhere(object_type, id, hint, error, |pack, record| Ok((*pack, *record)));
        // Who failed before and has been replaced is asked last: a pack that is gone costs a store over a network many requests.
        let replaced = self.moves.known(hint).is_some_and(|places| !places.is_empty());
        if replaced {
            let unasked = Error::Missing {
                object: key_text(object_type, hint),
                what: format!("chunk {id}"),
            };
            return match elsewhere(unasked) {
                Err(Error::Missing { .. }) => here(),
                other => other,
            };
        }
        here().or_else(elsewhere)
    }

    /// What `take` makes of a chunk in a pack that it was stored in again after the pack `old`; if there is none, `error`, which is why
    /// `old` did not give it.
    ///
    /// # Errors
    /// `error`; `Unavailable` if the store fails before all places have been looked at.
    pub(super) fn elsewhere<T>(
        &self,
        object_type: ObjectType,
        id: &ChunkId,
        old: &ObjectId,
        error: Error,
        mut take: impl FnMut(&ObjectId, &Record) -> Result<T>,
    ) -> Result<T> {
        if !error.is_loss() {
            return Err(error);
        }
        let (mut seen, mut waiting) = (HashSet::from([*old]), vec![*old]);
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for pack in waiting {
                let places = self.places(&pack)?;
                next.extend(places.iter().filter(|place| seen.insert(**place)));
            }
            next.truncate(MAX_PACKS.saturating_sub(seen.len().saturating_sub(next.len())));
            for pack in &next {
                let taken = self.footer(object_type, pack).and_then(|footer| match footer.find(id) {
                    Some(record) => take(pack, record).map(Some),
                    None => Ok(None),
                });
                match taken {
                    Ok(Some(value)) => return Ok(value),
                    Err(other) if !other.is_loss() => return Err(other),
                    Ok(None) | Err(_) => {}
                }
            }
            if next.is_empty() {
                break;
            }
            waiting = next;
        }
        Err(error)
    }

    /// As [`elsewhere`](Self::elsewhere) after the pack `tried` has failed; if that was not `hint` itself, `hint` comes last.
    pub(super) fn elsewhere_or_hint<T>(
        &self,
        object_type: ObjectType,
        (id, hint, tried): (&ChunkId, &ObjectId, &ObjectId),
        error: Error,
        mut take: impl FnMut(&ObjectId, &Record) -> Result<T>,
    ) -> Result<T> {
        match self.elsewhere(object_type, id, hint, error, &mut take) {
            Err(error) if error.is_loss() && tried != hint => {
                let record = self.footer(object_type, hint)?.find(id).copied().ok_or(error)?;
                take(hint, &record)
            }
            other => other,
        }
    }

    /// A pack, other than `old`, that a chunk of `old` was stored in again and can be read from.
    ///
    /// # Errors
    /// `Unavailable` if the store fails before all places have been looked at.
    pub fn whole_copy(&self, object_type: ObjectType, id: &ChunkId, old: &ObjectId) -> Result<Option<ObjectId>> {
        let absent = Error::Missing {
            object: key_text(object_type, old),
            what: format!("chunk {id}"),
        };
        let mut plain = Vec::new();
        let found = self.elsewhere(object_type, id, old, absent, |pack, record| {
            self.decode(object_type, pack, record, &mut plain, fits(object_type, id))?;
            Ok(*pack)
        });
        match found {
            Ok(pack) => Ok(Some(pack)),
            Err(error) if error.is_loss() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says whether a chunk can be read, from the pack `hint` or from where it was stored again.
    ///
    /// # Errors
    /// `Unavailable` if the store fails before that is known.
    pub fn is_whole(&self, object_type: ObjectType, id: &ChunkId, hint: &ObjectId) -> Result<bool> {
        match self.take(object_type, id, hint, &mut Vec::new(), fits(object_type, id)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_loss() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The packs that chunks of `pack` were stored in again.
    fn places(&self, pack: &ObjectId) -> Result<Arc<[ObjectId]>> {
        if let Some(places) = self.moves.known(pack) {
            return Ok(places);
        }
        let listed = self.vault.moved_from(pack);
        let listed = listed.map_err(|error| from_vault(error, format!("{MOVED}{}", hex(pack))))?;
        let places: Arc<[ObjectId]> = listed.into();
        self.moves.keep(pack, &places);
        Ok(places)
    }
}

/// Says of plain bytes whether they are what an id says.
pub(super) fn fits(object_type: ObjectType, id: &ChunkId) -> impl Fn(&[u8]) -> Result<(), String> {
    let id = *id;
    move |plain| {
        if id_fits(object_type, &id, plain) {
            Ok(())
        } else {
            Err(format!("chunk {id} fails its hash"))
        }
    }
}

#[cfg(test)]
mod tests;
