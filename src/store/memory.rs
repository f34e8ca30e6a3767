//! A store in memory: the reference model of [`Store`], used by tests and as the mock of other stores.

use super::{Error, Key, Result, Store};
use parking_lot::RwLock;
use std::collections::BTreeMap;

/// Keeps every object in a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: RwLock<BTreeMap<Key, Vec<u8>>>,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces or adds an object, which no real store allows: tests damage vaults with it.
    pub fn overwrite(&self, key: &Key, data: Vec<u8>) {
        self.objects.write().insert(key.clone(), data);
    }

    fn with<T>(&self, key: &Key, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        match self.objects.read().get(key) {
            Some(data) => read(data),
            None => Err(Error::NotFound { key: key.to_string() }),
        }
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.with(key, |data| {
            if crate::bytes::to_u64(data.len()) > limit {
                return Err(super::too_large(key, limit));
            }
            Ok(data.to_vec())
        })
    }

    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let start = crate::bytes::to_usize(offset);
        let end = start.saturating_add(buf.len());
        self.with(key, |data| {
            let range = data.get(start..end).ok_or_else(|| Error::Short {
                key: key.to_string(),
                end: crate::bytes::to_u64(end),
            })?;
            buf.copy_from_slice(range);
            Ok(())
        })
    }

    fn head(&self, key: &Key) -> Result<u64> {
        self.with(key, |data| Ok(crate::bytes::to_u64(data.len())))
    }

    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        let mut objects = self.objects.write();
        if objects.contains_key(key) {
            return Err(Error::AlreadyExists { key: key.to_string() });
        }
        objects.insert(key.clone(), data.to_vec());
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        Ok(self
            .objects
            .read()
            .keys()
            .filter(|key| key.as_str().starts_with(prefix))
            .cloned()
            .collect())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        match self.objects.write().remove(key) {
            Some(_) => Ok(()),
            None => Err(Error::NotFound { key: key.to_string() }),
        }
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
