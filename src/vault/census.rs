//! What an object must be, told by its key; and which packs there are.

use super::mark::MARKS;
use super::object::{Frame, ObjectId, ObjectType};
use super::{BACKUPS, Result, Vault, moved, quarantine};
use crate::bytes::unhex;
use crate::store::Key;

/// What the keys of records start with, but for those of moves and quarantine.
const RECORDS: [&str; 5] = ["deleted/", "pins/", "locks/", "leases/", "sweeps/"];

/// What the keys of packs start with.
const PACKS: [(&str, ObjectType); 2] = [("packs/", ObjectType::Pack), ("meta/", ObjectType::MetaPack)];

impl Vault {
    /// The packs of a type, as the store lists them. Objects whose key is no pack's are left out.
    ///
    /// # Errors
    /// `Store`.
    pub fn packs(&self, object_type: ObjectType) -> Result<Vec<ObjectId>> {
        let mut packs = Vec::new();
        for (prefix, _) in PACKS.iter().filter(|(_, of)| *of == object_type) {
            let keys = self.store().list(prefix)?;
            let frames = keys.iter().filter_map(|key| self.frame_of(key));
            packs.extend(frames.map(|frame| frame.object_id));
        }
        Ok(packs)
    }

    /// The frame that the object of this key must have; `None` for keys that the format does not know, and for the vault object, which
    /// has a form of its own.
    #[must_use]
    pub fn frame_of(&self, key: &Key) -> Option<Frame> {
        let text = key.as_str();
        if let Some((prefix, object_type)) = PACKS.into_iter().find(|(prefix, _)| text.starts_with(prefix)) {
            let (fan, name) = text.strip_prefix(prefix)?.split_once('/')?;
            let id = unhex(name).filter(|_| fan.len() == 2 && name.starts_with(fan))?;
            return Some(self.frame(object_type, id));
        }
        if let Some(name) = text.strip_prefix("index/") {
            return Some(self.frame(ObjectType::Index, unhex(name)?));
        }
        if let Some(name) = text.strip_prefix(MARKS) {
            return Some(self.frame(ObjectType::Mark, unhex(name)?));
        }
        if let Some(address) = text.strip_prefix(BACKUPS) {
            address.parse::<super::Address>().ok()?;
            return Some(self.named_frame(ObjectType::Manifest, key));
        }
        let is_record = RECORDS.iter().any(|prefix| text.starts_with(prefix))
            || moved::packs_of(key).is_some()
            || quarantine::chunk_of(key).is_some();
        is_record.then(|| self.named_frame(ObjectType::Record, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::vault;

    #[test]
    fn a_key_tells_what_its_object_is() {
        let vault = vault();
        let id = "0a".repeat(16);
        let chunk = "0b".repeat(32);
        for (text, wanted) in [
            (format!("packs/0a/{id}"), Some(ObjectType::Pack)),
            (format!("meta/0a/{id}"), Some(ObjectType::MetaPack)),
            (format!("packs/0b/{id}"), None),
            (format!("packs/{id}"), None),
            (format!("index/{id}"), Some(ObjectType::Index)),
            ("index/x".to_owned(), None),
            (format!("marks/{id}"), Some(ObjectType::Mark)),
            ("marks/x".to_owned(), None),
            (
                "backups/disks/a/2026-01-01T00-00-00Z".to_owned(),
                Some(ObjectType::Manifest),
            ),
            ("backups/disks/a/x".to_owned(), None),
            (format!("moved/{id}/{id}"), Some(ObjectType::Record)),
            (format!("quarantine/{id}/{chunk}"), Some(ObjectType::Record)),
            (format!("quarantine/{id}/x"), None),
            ("pins/disks/a/2026-01-01T00-00-00Z".to_owned(), Some(ObjectType::Record)),
            ("vault".to_owned(), None),
            ("photos/cat.jpeg".to_owned(), None),
        ] {
            let frame = vault.frame_of(&Key::new(text.clone()).unwrap());
            assert_eq!(frame.map(|frame| frame.object_type), wanted, "{text}");
        }
    }
}
