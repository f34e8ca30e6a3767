//! Chunks that are known to be damaged in their pack: writers store them again, readers need not know.
//!
//! The record `quarantine/<pack>/<chunk id>` is written by who found the same bad bytes twice, never because a store failed. A chunk id of
//! zeros stands for a whole pack: it is gone, or its footer is damaged. Nothing is ever deleted for the sake of a record.
//!
//! # Source
//! `docs/format.md`, section "Moved and quarantined chunks".

use super::object::ObjectId;
use super::{ChunkId, Error, Result, Vault};
use crate::bytes::{hex, unhex};
use crate::clock::Seconds;
use crate::store::{self, Key};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the keys of these records start with.
pub const QUARANTINE: &str = "quarantine/";
/// Stands for all chunks of a pack.
pub const WHOLE: ChunkId = ChunkId([0; 32]);

/// What was found, when, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// When it was found.
    pub at: Seconds,
    /// By whom, in words.
    pub by: String,
    /// What is wrong.
    pub what: String,
}

/// All chunks of a vault that are known to be damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quarantined(BTreeMap<ObjectId, BTreeSet<ChunkId>>);

impl Quarantined {
    /// Says whether a chunk in a pack is known to be damaged.
    #[must_use]
    pub fn has(&self, pack: &ObjectId, id: &ChunkId) -> bool {
        let chunks = self.0.get(pack);
        chunks.is_some_and(|chunks| chunks.contains(id) || chunks.contains(&WHOLE))
    }

    /// The packs, each with its damaged chunks; [`WHOLE`] among them for all.
    pub fn packs(&self) -> impl Iterator<Item = (&ObjectId, &BTreeSet<ChunkId>)> {
        self.0.iter()
    }
}

impl FromIterator<(ObjectId, ChunkId)> for Quarantined {
    fn from_iter<T: IntoIterator<Item = (ObjectId, ChunkId)>>(chunks: T) -> Self {
        let mut all = Self::default();
        for (pack, id) in chunks {
            all.0.entry(pack).or_default().insert(id);
        }
        all
    }
}

/// The pack and the chunk that a key is about; `None` if it is no such key.
#[must_use]
pub fn chunk_of(key: &Key) -> Option<(ObjectId, ChunkId)> {
    let (pack, id) = key.as_str().strip_prefix(QUARANTINE)?.split_once('/')?;
    Some((unhex(pack)?, ChunkId(unhex(id)?)))
}

/// The key of the record about a chunk in a pack.
///
/// # Errors
/// `Store` if it were no key, which it is.
pub fn key(pack: &ObjectId, id: &ChunkId) -> Result<Key> {
    Ok(Key::new(format!("{QUARANTINE}{}/{}", hex(pack), hex(&id.0)))?)
}

impl Vault {
    /// Records that a chunk is damaged in its pack; says whether that is news.
    ///
    /// # Errors
    /// `Store`.
    pub fn put_quarantine(&self, pack: &ObjectId, id: &ChunkId, found: &Quarantine) -> Result<bool> {
        match self.put_record(&key(pack, id)?, found) {
            Err(Error::Store(store::Error::AlreadyExists { .. })) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// What is recorded of a chunk in a pack.
    ///
    /// # Errors
    /// `Store` with `NotFound` if nothing is, `Corrupt`, `Store`.
    pub fn quarantine(&self, pack: &ObjectId, id: &ChunkId) -> Result<Quarantine> {
        self.record(&key(pack, id)?)
    }

    /// Forgets what is recorded of a chunk in a pack; says whether anything was.
    ///
    /// # Errors
    /// `Store`.
    pub fn remove_quarantine(&self, pack: &ObjectId, id: &ChunkId) -> Result<bool> {
        self.remove_record(&key(pack, id)?)
    }

    /// Lists what is known to be damaged; reads no record.
    ///
    /// # Errors
    /// `Store` if the listing is not complete.
    pub fn quarantined(&self) -> Result<Quarantined> {
        Ok(self.store().list(QUARANTINE)?.iter().filter_map(chunk_of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::vault;

    fn found(what: &str) -> Quarantine {
        Quarantine {
            at: 1_795_143_600,
            by: "verify".to_owned(),
            what: what.to_owned(),
        }
    }

    #[test]
    fn what_is_quarantined_is_listed_by_pack_and_chunk() {
        let vault = vault();
        let (pack, other, id) = ([1; 16], [2; 16], ChunkId([3; 32]));
        assert!(vault.put_quarantine(&pack, &id, &found("bad")).unwrap());
        assert!(!vault.put_quarantine(&pack, &id, &found("worse")).unwrap());
        assert!(vault.put_quarantine(&other, &WHOLE, &found("gone")).unwrap());
        assert_eq!(vault.quarantine(&pack, &id).unwrap(), found("bad"));
        let all = vault.quarantined().unwrap();
        assert!(all.has(&pack, &id) && !all.has(&pack, &ChunkId([4; 32])));
        assert!(all.has(&other, &id));
        assert_eq!(all.packs().count(), 2);
        assert!(vault.remove_quarantine(&pack, &id).unwrap());
        assert!(!vault.quarantined().unwrap().has(&pack, &id));
    }

    #[test]
    fn names_that_are_none_of_ours_are_passed_over() {
        for name in ["quarantine/00", "quarantine/00/00", "moved/00/00", "quarantine/x/y"] {
            assert_eq!(chunk_of(&Key::new(name).unwrap()), None, "{name}");
        }
    }
}
