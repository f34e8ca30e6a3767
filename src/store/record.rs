//! A store that writes down every call before passing it on: tests assert how much was read and written, and in what order.

use super::{Exclusion, Key, Result, Store};
use parking_lot::Mutex;
use std::time::Duration;

/// One call on a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `get` of a whole object.
    Get(String),
    /// `read_range`, or `get_range` by it: key, offset, length.
    ReadRange(String, u64, usize),
    /// `read_tail`: key, most bytes.
    ReadTail(String, usize),
    /// `head`.
    Head(String),
    /// `put_new`: key and length.
    PutNew(String, usize),
    /// `list` of a prefix.
    List(String),
    /// `delete`.
    Delete(String),
}

/// Wraps a store and records the calls on it.
#[derive(Debug)]
pub struct RecordingStore<S> {
    inner: S,
    calls: Mutex<Vec<Call>>,
}

impl<S: Store> RecordingStore<S> {
    /// Wraps `inner`.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            calls: Mutex::new(Vec::new()),
        }
    }

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Takes the calls since the last time, oldest first.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock())
    }

    fn note(&self, call: Call) {
        self.calls.lock().push(call);
    }
}

impl<S: Store> Store for RecordingStore<S> {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.note(Call::Get(key.to_string()));
        self.inner.get(key, limit)
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.note(Call::ReadRange(key.to_string(), offset, buf.len()));
        self.inner.read_range(key, offset, buf)
    }
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        self.note(Call::ReadTail(key.to_string(), most));
        self.inner.read_tail(key, most)
    }
    fn head(&self, key: &Key) -> Result<u64> {
        self.note(Call::Head(key.to_string()));
        self.inner.head(key)
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.note(Call::PutNew(key.to_string(), data.len()));
        self.inner.put_new(key, data)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        self.note(Call::List(prefix.to_owned()));
        self.inner.list(prefix)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.note(Call::Delete(key.to_string()));
        self.inner.delete(key)
    }
    fn remove_litter(&self, age: Duration) -> Result<u64> {
        self.inner.remove_litter(age)
    }
    fn keep_reserve(&self) -> Result<()> {
        self.inner.keep_reserve()
    }
    fn release_reserve(&self) -> Result<bool> {
        self.inner.release_reserve()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
    fn probe_exclusion(&self) -> Result<Exclusion> {
        self.inner.probe_exclusion()
    }
    fn set_exclusion(&self, exclusion: Exclusion) {
        self.inner.set_exclusion(exclusion);
    }
}
