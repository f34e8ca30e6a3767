//! Marks: which packs no backup needs and which deleted backups are to be removed, written down long before anything is removed.
//!
//! # Source
//! `docs/format.md`, section "Marks".

use super::object::{FRAME_LEN, ObjectId, ObjectType};
use super::{Address, Error, Result, Vault, read_checked};
use crate::bytes::{field, le_u16, le_u32, le_u64, to_u64, to_usize};
use crate::clock::Seconds;
use crate::store::Key;

/// What the keys of marks start with.
pub const MARKS: &str = "marks/";
/// What the keys of the intents of a prune start with.
pub const SWEEPS: &str = "sweeps/";

/// Most packs of a kind, and most addresses of a kind, in one mark; the rest is for the next one.
pub const MAX_MARKED: usize = 1 << 20;
/// Largest payload in bytes.
pub const MAX_MARK: usize = 128 << 20;

const MAGIC: [u8; 8] = *b"VFSMARK\x01";
const HEAD_LEN: usize = 56;
const ID_LEN: usize = 16;
/// Longest text of an address in bytes.
const MAX_ADDRESS: usize = 256;

/// The random id of a mark, in its key.
pub type MarkId = ObjectId;

/// What a prune found that nobody needs. The lists are sorted and name nothing twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: Seconds,
    /// The boot of the machine that wrote it; zeros if unknown.
    pub boot: [u8; 16],
    /// Seconds since that boot.
    pub uptime: u64,
    /// Packs of data.
    pub packs: Vec<ObjectId>,
    /// Packs of pages.
    pub meta_packs: Vec<ObjectId>,
    /// Deleted backups that are to be removed.
    pub purge: Vec<Address>,
    /// All other backups that there were: a listing that lacks one of them does not tell everything.
    pub backups: Vec<Address>,
}

impl Mark {
    /// Says whether there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.meta_packs.is_empty() && self.purge.is_empty()
    }

    /// The packs of data or of pages.
    #[must_use]
    pub fn packs_of(&self, object_type: ObjectType) -> &[ObjectId] {
        match object_type {
            ObjectType::Pack => &self.packs,
            ObjectType::MetaPack => &self.meta_packs,
            _ => &[],
        }
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.uptime.to_le_bytes());
        for count in [
            self.packs.len(),
            self.meta_packs.len(),
            self.purge.len(),
            self.backups.len(),
        ] {
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        self.packs
            .iter()
            .chain(&self.meta_packs)
            .for_each(|id| out.extend_from_slice(id));
        for address in self.purge.iter().chain(&self.backups) {
            let text = address.to_string();
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// Reads a payload; `None` if it is not exactly what [`encode`](Self::encode) makes of a mark.
    #[must_use]
    pub fn decode(payload: &[u8]) -> Option<Self> {
        if !payload.starts_with(&MAGIC) {
            return None;
        }
        let count = |at| Some(to_usize(u64::from(le_u32(payload, at)?)));
        let (packs, meta_packs) = (count(40)?, count(44)?);
        let (purge, backups) = (count(48)?, count(52)?);
        if [packs, meta_packs, purge].iter().any(|count| *count > MAX_MARKED) {
            return None;
        }
        let (ids, mut rest) = payload
            .get(HEAD_LEN..)?
            .split_at_checked((packs + meta_packs) * ID_LEN)?;
        let (packs, meta_packs) = ids.as_chunks::<ID_LEN>().0.split_at_checked(packs)?;
        let mark = Self {
            at: i64::from_le_bytes(field(payload, 8)?),
            boot: field(payload, 16)?,
            uptime: le_u64(payload, 32)?,
            packs: packs.to_vec(),
            meta_packs: meta_packs.to_vec(),
            purge: addresses(&mut rest, purge)?,
            backups: addresses(&mut rest, backups)?,
        };
        let sound = rest.is_empty()
            && is_sorted(&mark.packs)
            && is_sorted(&mark.meta_packs)
            && is_sorted(&mark.purge)
            && is_sorted(&mark.backups);
        sound.then_some(mark)
    }
}

/// Takes `count` addresses from the front of `rest`; each takes bytes of it, so that a count that lies ends soon.
fn addresses(rest: &mut &[u8], count: usize) -> Option<Vec<Address>> {
    let mut found = Vec::new();
    for _ in 0..count {
        let len = usize::from(le_u16(rest, 0)?);
        let (text, after) = rest.get(2..)?.split_at_checked(len)?;
        let text = std::str::from_utf8(text).ok().filter(|_| len <= MAX_ADDRESS)?;
        found.push(text.parse().ok()?);
        *rest = after;
    }
    Some(found)
}

fn is_sorted<T: Ord>(items: &[T]) -> bool {
    items.windows(2).all(|pair| matches!(pair, [one, next] if one < next))
}

impl Vault {
    /// Stores a mark.
    ///
    /// # Errors
    /// `TooLarge`, `Store`.
    pub fn put_mark(&self, id: &MarkId, mark: &Mark) -> Result<()> {
        let payload = mark.encode();
        if payload.len() > MAX_MARK {
            return Err(Error::TooLarge { what: "mark" });
        }
        let object = self.frame(ObjectType::Mark, *id).seal(&payload);
        Ok(self.store().put_new(&mark_key(id)?, &object)?)
    }

    /// Reads and checks a mark.
    ///
    /// # Errors
    /// `Store` with `NotFound` if there is none, `Corrupt`, `FromTheFuture`, `Store`.
    pub fn mark(&self, id: &MarkId) -> Result<Mark> {
        let key = mark_key(id)?;
        let frame = self.frame(ObjectType::Mark, *id);
        let limit = to_u64(MAX_MARK.saturating_add(FRAME_LEN));
        read_checked(self.store(), &key, limit, |object| {
            let payload = frame.open(object, key.as_str())?;
            Mark::decode(payload).ok_or_else(|| Error::Corrupt {
                object: key.to_string(),
                what: "it is not spelled as marks are".to_owned(),
            })
        })
    }

    /// The ids of all marks.
    ///
    /// # Errors
    /// `Store`; `Corrupt` for a key that is none of a mark's.
    pub fn marks(&self) -> Result<Vec<MarkId>> {
        ids(self, MARKS)
    }

    /// The ids of the marks whose removal has begun.
    ///
    /// # Errors
    /// As [`marks`](Self::marks).
    pub fn sweeps(&self) -> Result<Vec<MarkId>> {
        ids(self, SWEEPS)
    }
}

fn ids(vault: &Vault, prefix: &str) -> Result<Vec<MarkId>> {
    let id = |key: &Key| {
        let id = key.as_str().strip_prefix(prefix).and_then(crate::bytes::unhex);
        id.ok_or_else(|| Error::Corrupt {
            object: key.to_string(),
            what: "its key is none that vaultfs makes; look at it, and remove it by hand if it does not belong there"
                .to_owned(),
        })
    };
    vault.store().list(prefix)?.iter().map(id).collect()
}

/// The key of a mark.
///
/// # Errors
/// None for any id; the key's check is kept.
pub fn mark_key(id: &MarkId) -> Result<Key> {
    Ok(Key::new(format!("{MARKS}{}", crate::bytes::hex(id)))?)
}

/// The key of the intent to remove what a mark lists.
///
/// # Errors
/// None for any id; the key's check is kept.
pub fn sweep_key(id: &MarkId) -> Result<Key> {
    Ok(Key::new(format!("{SWEEPS}{}", crate::bytes::hex(id)))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Mark {
        let address = |text: &str| text.parse().unwrap();
        Mark {
            at: 1_795_143_600,
            boot: [9; 16],
            uptime: 77,
            packs: vec![[1; 16], [2; 16]],
            meta_packs: vec![[1; 16]],
            purge: vec![address("servers/web/2026-11-20T03-00-00Z")],
            backups: vec![
                address("disks/a/2026-11-20T03-00-00Z"),
                address("disks/a/2026-11-21T03-00-00Z"),
            ],
        }
    }

    #[test]
    fn a_mark_reads_back() {
        let mut empty = Mark::default();
        for mark in [sample(), empty.clone()] {
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
        assert!(empty.is_empty() && !sample().is_empty());
        empty.backups = sample().backups;
        assert!(empty.is_empty(), "backups that stay are nothing to remove");
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        let payload = sample().encode();
        for end in 0..payload.len() {
            assert_eq!(Mark::decode(&payload[..end]), None, "{end}");
        }
        let mut longer = payload;
        longer.push(0);
        assert_eq!(Mark::decode(&longer), None);
    }

    #[test]
    fn lists_have_one_order() {
        let mut packs = sample();
        packs.packs.reverse();
        let mut twice = sample();
        twice.meta_packs.push([1; 16]);
        let mut backups = sample();
        backups.backups.reverse();
        for bad in [packs, twice, backups] {
            assert_eq!(Mark::decode(&bad.encode()), None);
        }
    }

    #[test]
    fn counts_that_lie_are_refused_without_memory_for_them() {
        for at in [40, 44, 48, 52] {
            let mut payload = sample().encode();
            payload[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert_eq!(Mark::decode(&payload), None, "{at}");
        }
    }

    proptest! {
        #[test]
        fn whatever_decodes_has_one_spelling(changes in prop::collection::vec((0usize..300, any::<u8>()), 0..4)) {
            let mut payload = sample().encode();
            for (at, byte) in changes {
                let len = payload.len();
                payload[at % len] = byte;
            }
            if let Some(mark) = Mark::decode(&payload) {
                prop_assert_eq!(mark.encode(), payload);
            }
        }
    }
}
