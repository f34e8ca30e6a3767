//! Where chunks of a pack were stored again: because the pack is repacked, or because it was damaged and healed.
//!
//! The record `moved/<old pack>/<new pack>` says all by its key. Readers follow it where the old pack fails them, and check what they
//! find by its hash, so that nothing here needs to be trusted.
//!
//! # Source
//! `docs/format.md`, section "Moved and quarantined chunks".

use super::object::ObjectId;
use super::{Error, Result, Vault};
use crate::bytes::{hex, unhex};
use crate::store::{self, Key};
use serde::{Deserialize, Serialize};

/// What the keys of these records start with.
pub const MOVED: &str = "moved/";
/// Most packs that are looked at for the chunks of one pack.
pub const MAX_PLACES: usize = 64;

/// The record: its key says all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {}

/// The two packs that a key is about, the old one first; `None` if it is no such key.
#[must_use]
pub fn packs_of(key: &Key) -> Option<(ObjectId, ObjectId)> {
    let (old, new) = key.as_str().strip_prefix(MOVED)?.split_once('/')?;
    Some((unhex(old)?, unhex(new)?))
}

fn key(old: &ObjectId, new: &ObjectId) -> Result<Key> {
    Ok(Key::new(format!("{MOVED}{}/{}", hex(old), hex(new)))?)
}

impl Vault {
    /// Records that chunks of the pack `old` are in the pack `new`, too, which is durable; does nothing if that is known.
    ///
    /// # Errors
    /// `Store`.
    pub fn put_moved(&self, old: &ObjectId, new: &ObjectId) -> Result<()> {
        match self.put_record(&key(old, new)?, &Moved {}) {
            Err(Error::Store(store::Error::AlreadyExists { .. })) => Ok(()),
            other => other,
        }
    }

    /// Packs that chunks of the pack `old` were stored in again, in the order of their ids; never more than [`MAX_PLACES`].
    ///
    /// # Errors
    /// `Store` if the listing is not complete.
    pub fn moved_from(&self, old: &ObjectId) -> Result<Vec<ObjectId>> {
        let keys = self.store().list(&format!("{MOVED}{}/", hex(old)))?;
        let new = keys.iter().filter_map(packs_of).map(|(_, new)| new);
        Ok(new.filter(|new| new != old).take(MAX_PLACES).collect())
    }

    /// Forgets that chunks of `old` are in `new`; says whether that was recorded.
    ///
    /// # Errors
    /// `Store`.
    pub fn remove_moved(&self, old: &ObjectId, new: &ObjectId) -> Result<bool> {
        self.remove_record(&key(old, new)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::vault;

    #[test]
    fn what_was_moved_is_found_by_the_old_pack() {
        let vault = vault();
        let (old, new, other) = ([1; 16], [2; 16], [3; 16]);
        assert_eq!(vault.moved_from(&old).unwrap(), Vec::<ObjectId>::new());
        vault.put_moved(&old, &other).unwrap();
        vault.put_moved(&old, &new).unwrap();
        vault.put_moved(&old, &new).unwrap();
        vault.put_moved(&new, &other).unwrap();
        assert_eq!(vault.moved_from(&old).unwrap(), [new, other]);
        let at = key(&old, &new).unwrap();
        assert_eq!(vault.record::<Moved>(&at).unwrap(), Moved {});
        assert_eq!(packs_of(&at), Some((old, new)));
        assert!(vault.remove_moved(&old, &new).unwrap());
        assert_eq!(vault.moved_from(&old).unwrap(), [other]);
    }

    #[test]
    fn strange_names_and_a_pack_that_names_itself_are_passed_over() {
        let vault = vault();
        let old = [1; 16];
        vault.put_moved(&old, &old).unwrap();
        for name in ["x", "00", "moved"] {
            let at = Key::new(format!("{MOVED}{}/{name}", hex(&old))).unwrap();
            vault.put_record(&at, &Moved {}).unwrap();
        }
        assert_eq!(vault.moved_from(&old).unwrap(), Vec::<ObjectId>::new());
    }

    #[test]
    fn a_flood_of_records_is_cut() {
        let vault = vault();
        for number in 0..100u8 {
            vault.put_moved(&[1; 16], &[number.saturating_add(2); 16]).unwrap();
        }
        assert_eq!(vault.moved_from(&[1; 16]).unwrap().len(), MAX_PLACES);
    }
}
