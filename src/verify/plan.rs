//! What is to be checked: pure, from the names of all objects.

use crate::store::Key;
use crate::vault::Vault;
use crate::vault::object::{Frame, ObjectId, ObjectType};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// Most slices that a vault is cut into.
const MAX_SLICES: u64 = 100_000;

/// One of several parts of a vault: which objects belong to it depends on their ids alone, so that all parts together are the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    number: u64,
    of: u64,
}

impl Slice {
    /// The only slice of one.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Says whether it is all there is.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.of == 1
    }

    /// Says whether the object with this id belongs to it.
    #[must_use]
    pub fn has(&self, id: &ObjectId) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *id;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % self.of == self.number
    }
}

impl FromStr for Slice {
    type Err = String;

    /// Reads `3/30`: the third of thirty.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, of)| {
            let (number, of): (u64, u64) = (number.parse().ok()?, of.parse().ok()?);
            ((1..=of).contains(&number) && of <= MAX_SLICES).then_some((number, of))
        });
        let (number, of) = parts
            .ok_or_else(|| "write N/OF, for example 3/30, with N from 1 to OF and OF at most 100000".to_owned())?;
        let number = number.saturating_sub(1);
        Ok(Self { number, of })
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number.saturating_add(1), self.of)
    }
}

/// An object to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) frame: Frame,
}

/// The objects to be checked, in the order in which they are: what much hangs from comes first.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) objects: Vec<Object>,
    /// Names that the format does not know.
    pub(super) foreign: Vec<Key>,
    /// All packs of data that there are, in other slices too.
    pub(super) packs: HashSet<ObjectId>,
}

/// What an object is worth: manifests and pages before the data they lead to.
pub(super) fn rank(object_type: ObjectType) -> u8 {
    match object_type {
        ObjectType::Manifest => 0,
        ObjectType::MetaPack => 1,
        ObjectType::Pack => 2,
        ObjectType::Index => 3,
        _ => 4,
    }
}

/// Makes the plan; `chosen` are the packs and manifests that matter, if not all do.
pub(super) fn plan(
    vault: &Vault,
    keys: Vec<Key>,
    slice: Slice,
    chosen: Option<&HashSet<(ObjectType, ObjectId)>>,
) -> Plan {
    let mut plan = Plan::default();
    for key in keys {
        let Some(frame) = vault.frame_of(&key) else {
            if key.as_str() != "vault" {
                plan.foreign.push(key);
            }
            continue;
        };
        if frame.object_type == ObjectType::Pack {
            plan.packs.insert(frame.object_id);
        }
        let matters = chosen.is_none_or(|chosen| chosen.contains(&(frame.object_type, frame.object_id)));
        if matters && slice.has(&frame.object_id) {
            plan.objects.push(Object { key, frame });
        }
    }
    plan.objects
        .sort_by(|a, b| (rank(a.frame.object_type), &a.key).cmp(&(rank(b.frame.object_type), &b.key)));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::vault;
    use std::sync::Arc;

    #[test]
    fn thirty_slices_are_the_whole_and_share_nothing() {
        let config = vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
        let vault = Vault::create(Arc::new(MemoryStore::new()), config).unwrap();
        let mut keys: Vec<Key> = (0..500u32)
            .map(|number| {
                let id = crate::checksum::Digest::of(&number.to_le_bytes()).0;
                let kind = if number % 3 == 0 {
                    ObjectType::MetaPack
                } else {
                    ObjectType::Pack
                };
                vault::pack_key(kind, &crate::bytes::field(&id, 0).unwrap()).unwrap()
            })
            .collect();
        keys.extend(["vault", "photos/cat.jpeg"].map(|text| Key::new(text).unwrap()));
        let whole = plan(&vault, keys.clone(), Slice::WHOLE, None);
        assert_eq!((whole.objects.len(), whole.foreign.len()), (500, 1));
        let mut sliced = Vec::new();
        for number in 1..=30 {
            let slice: Slice = format!("{number}/30").parse().unwrap();
            let part = plan(&vault, keys.clone(), slice, None).objects;
            assert!(part.len() < 60, "slice {slice} has {}", part.len());
            sliced.extend(part.into_iter().map(|object| object.key));
        }
        sliced.sort_unstable();
        let mut all: Vec<Key> = whole.objects.into_iter().map(|object| object.key).collect();
        all.sort_unstable();
        assert_eq!(sliced, all);
    }

    #[test]
    fn slices_have_one_spelling() {
        assert_eq!("3/30".parse::<Slice>().unwrap().to_string(), "3/30");
        for bad in ["", "3", "0/30", "31/30", "1/0", "x/3", "1/100001", "-1/3", "1/2/3"] {
            assert!(bad.parse::<Slice>().is_err(), "{bad}");
        }
    }
}
