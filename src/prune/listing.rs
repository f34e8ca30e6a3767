//! Everything a vault holds, by name: parsed without mercy, for what is not listed is about to be taken for garbage.

use super::{Error, Result};
use crate::lease::{LEASES, Name};
use crate::store::Key;
use crate::vault::lifecycle::{DELETED, LOCKS, PINS};
use crate::vault::mark::{MARKS, MarkId, SWEEPS};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::quarantine::{self, QUARANTINE};
use crate::vault::{Address, BACKUPS, ChunkId, Vault};
use std::collections::BTreeSet;

/// The names of a vault at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Whether the vault object was among them.
    pub(super) has_vault: bool,
    /// Backups, deleted ones too.
    pub(super) backups: BTreeSet<Address>,
    /// Deleted ones.
    pub(super) deleted: BTreeSet<Address>,
    /// Packs of data.
    pub(super) packs: BTreeSet<ObjectId>,
    /// Packs of pages.
    pub(super) meta_packs: BTreeSet<ObjectId>,
    /// Marks.
    pub(super) marks: BTreeSet<MarkId>,
    /// Intents.
    pub(super) sweeps: BTreeSet<MarkId>,
    /// Leases, all their records.
    pub(super) leases: BTreeSet<Name>,
    /// Where chunks of a pack were stored again: the old pack, the new one.
    pub(super) moved: BTreeSet<(ObjectId, ObjectId)>,
    /// Records of damage, by pack.
    pub(super) quarantine: BTreeSet<(ObjectId, ChunkId)>,
    /// Indexes.
    pub(super) indexes: BTreeSet<Key>,
}

impl Listing {
    /// Lists the whole vault in one go, so that its beginning and its end vouch for what lies between.
    pub(super) fn read(vault: &Vault) -> Result<Self> {
        let keys = vault.store().list("").map_err(crate::vault::Error::from)?;
        let listing = Self::parse(&keys)?;
        if listing.has_vault {
            Ok(listing)
        } else {
            Err(untrue("vault".to_owned(), "is not listed and must be there"))
        }
    }

    /// Understands every key, each once and in order, or none.
    fn parse(keys: &[Key]) -> Result<Self> {
        let mut listing = Self::default();
        let mut last: Option<&Key> = None;
        for key in keys {
            if last.is_some_and(|last| last >= key) {
                return Err(untrue(key.to_string(), "is listed twice, or out of order"));
            }
            last = Some(key);
            listing
                .take(key)
                .ok_or_else(|| Error::Unknown { key: key.to_string() })?;
        }
        Ok(listing)
    }

    fn take(&mut self, key: &Key) -> Option<()> {
        let text = key.as_str();
        if text == "vault" {
            self.has_vault = true;
        } else if let Some(rest) = text.strip_prefix(BACKUPS) {
            self.backups.insert(rest.parse().ok()?);
        } else if let Some(rest) = text.strip_prefix(DELETED) {
            self.deleted.insert(rest.parse().ok()?);
        } else if let Some(rest) = text.strip_prefix("packs/") {
            self.packs.insert(fanned(rest)?);
        } else if let Some(rest) = text.strip_prefix("meta/") {
            self.meta_packs.insert(fanned(rest)?);
        } else if let Some(rest) = text.strip_prefix("index/") {
            crate::bytes::unhex::<16>(rest)?;
            self.indexes.insert(key.clone());
        } else if let Some(rest) = text.strip_prefix(MARKS) {
            self.marks.insert(crate::bytes::unhex(rest)?);
        } else if let Some(rest) = text.strip_prefix(SWEEPS) {
            self.sweeps.insert(crate::bytes::unhex(rest)?);
        } else if text.starts_with(LEASES) {
            self.leases.insert(Name::of(key)?);
        } else if let Some(rest) = text.strip_prefix("moved/") {
            let (old, new) = rest.split_once('/')?;
            self.moved
                .insert((crate::bytes::unhex(old)?, crate::bytes::unhex(new)?));
        } else if text.starts_with(QUARANTINE) {
            self.quarantine.insert(quarantine::chunk_of(key)?);
        } else if let Some(rest) = text.strip_prefix(PINS) {
            rest.parse::<Address>().ok()?;
        } else {
            let (address, _) = text.strip_prefix(LOCKS)?.rsplit_once('/')?;
            address.parse::<Address>().ok()?;
        }
        Some(())
    }

    /// The packs of a type.
    pub(super) fn packs_of(&self, object_type: ObjectType) -> &BTreeSet<ObjectId> {
        match object_type {
            ObjectType::MetaPack => &self.meta_packs,
            _ => &self.packs,
        }
    }

    /// The packs in which chunks of `old` were stored again.
    pub(super) fn moved_from(&self, old: &ObjectId) -> impl Iterator<Item = ObjectId> {
        let all = (*old, [0; 16])..=(*old, [0xff; 16]);
        self.moved.range(all).map(|(_, new)| *new)
    }

    /// Makes sure that nothing of an earlier listing is missing that only a prune removes.
    pub(super) fn check_against(&self, earlier: &Self) -> Result<()> {
        let gone = first_missing(&earlier.backups, &self.backups)
            .map(|address| format!("{BACKUPS}{address}"))
            .or_else(|| first_missing(&earlier.packs, &self.packs).map(|id| name("packs", id)))
            .or_else(|| first_missing(&earlier.meta_packs, &self.meta_packs).map(|id| name("meta", id)))
            .or_else(|| {
                first_missing(&earlier.marks, &self.marks).map(|id| format!("{MARKS}{}", crate::bytes::hex(id)))
            });
        match gone {
            Some(key) => Err(untrue(key, "was listed a moment ago, and is not any more")),
            None => Ok(()),
        }
    }
}

fn name(dir: &str, id: &ObjectId) -> String {
    let text = crate::bytes::hex(id);
    format!("{dir}/{}/{text}", text.get(..2).unwrap_or_default())
}

fn first_missing<'a, T: Ord>(wanted: &'a BTreeSet<T>, there: &'a BTreeSet<T>) -> Option<&'a T> {
    wanted.difference(there).next()
}

/// The id in `<2 hex>/<32 hex>`.
fn fanned(rest: &str) -> Option<ObjectId> {
    let (fan, text) = rest.split_once('/')?;
    text.starts_with(fan)
        .then(|| crate::bytes::unhex(text))?
        .filter(|_| fan.len() == 2)
}

/// The error for a listing that cannot be true.
pub(super) fn untrue(key: String, what: &'static str) -> Error {
    Error::Untrue { key, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Key> {
        names.iter().map(|name| Key::new(*name).unwrap()).collect()
    }

    const ID: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

    fn every_kind() -> Vec<String> {
        let address = "servers/web/2026-11-20T03-00-00Z";
        vec![
            format!("backups/{address}"),
            format!("deleted/{address}"),
            format!("index/{ID}"),
            format!("leases/{ID}-00000000"),
            format!("locks/{address}/2027-11-20T03-00-00Z"),
            format!("marks/{ID}"),
            format!("meta/0a/{ID}"),
            format!("moved/{ID}/{ID}"),
            format!("packs/0a/{ID}"),
            format!("pins/{address}"),
            format!("quarantine/{ID}/{ID}{ID}"),
            format!("sweeps/{ID}"),
            "vault".to_owned(),
        ]
    }

    #[test]
    fn every_kind_of_key_is_understood() {
        let names = every_kind();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let listing = Listing::parse(&keys(&names)).unwrap();
        assert!(listing.has_vault);
        assert_eq!(
            (listing.backups.len(), listing.deleted.len(), listing.packs.len()),
            (1, 1, 1)
        );
        assert_eq!(
            (listing.meta_packs.len(), listing.marks.len(), listing.sweeps.len()),
            (1, 1, 1)
        );
        assert_eq!(
            (listing.leases.len(), listing.moved.len(), listing.quarantine.len()),
            (1, 1, 1)
        );
        assert_eq!(listing.indexes.len(), 1);
    }

    #[test]
    fn a_key_that_nobody_knows_stops_everything() {
        for bad in [
            "other",
            "backups/x",
            "backups/servers/web/latest",
            "packs/0b/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            "packs/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            "packs/0a/0a0a",
            "moved/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            "leases/x",
            "marks/0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A",
            "vault/x",
        ] {
            assert!(
                matches!(Listing::parse(&keys(&[bad])), Err(Error::Unknown { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_repeated_page_and_a_key_out_of_order_are_lies() {
        let pack = format!("packs/0a/{ID}");
        for names in [[pack.as_str(), pack.as_str()], ["vault", pack.as_str()]] {
            assert!(matches!(Listing::parse(&keys(&names)), Err(Error::Untrue { .. })));
        }
    }

    #[test]
    fn what_only_a_prune_removes_must_stay_listed() {
        let names = every_kind();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let earlier = Listing::parse(&keys(&all)).unwrap();
        for left_out in &names {
            let others: Vec<&str> = all.iter().copied().filter(|name| name != left_out).collect();
            let later = Listing::parse(&keys(&others)).unwrap();
            let must_stay = ["backups/", "packs/", "meta/", "marks/"]
                .iter()
                .any(|prefix| left_out.starts_with(prefix));
            assert_eq!(later.check_against(&earlier).is_err(), must_stay, "{left_out}");
        }
    }
}
