//! A store that fails on purpose: the n-th operation, once or for ever, with an error or with damaged bytes.

use super::{Error, Exclusion, Key, Result, Store};
use parking_lot::Mutex;
use std::io::ErrorKind;
use std::time::Duration;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with this kind of error and has no effect.
    Error(ErrorKind),
    /// A read succeeds with one bit flipped; an operation that returns no bytes is left alone.
    FlipBit,
    /// A write has its effect, then reports an error (the answer was lost).
    LostAnswer,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Only at the operation with this number, counted from 0.
    Once(u64),
    /// At that operation and all that follow.
    From(u64),
}

#[derive(Debug, Default)]
struct State {
    plan: Option<(When, Fault)>,
    operations: u64,
    hits: u64,
}

/// Wraps a store and makes it fail by plan.
#[derive(Debug)]
pub struct FaultStore<S> {
    inner: S,
    state: Mutex<State>,
}

impl<S: Store> FaultStore<S> {
    /// Wraps `inner`; without a plan nothing fails.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            state: Mutex::new(State::default()),
        }
    }

    /// Sets the plan and starts counting operations from 0.
    pub fn plan(&self, when: When, fault: Fault) {
        *self.state.lock() = State {
            plan: Some((when, fault)),
            operations: 0,
            hits: 0,
        };
    }

    /// Takes the plan away; counting goes on.
    pub fn heal(&self) {
        self.state.lock().plan = None;
    }

    /// Operations since the plan was set.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// How often the fault was really hit: a test that hits none proves nothing.
    pub fn hits(&self) -> u64 {
        self.state.lock().hits
    }

    fn next(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        let number = state.operations;
        state.operations = number.saturating_add(1);
        let due = state.plan.filter(|(when, _)| match when {
            When::Once(at) => number == *at,
            When::From(at) => number >= *at,
        });
        state.hits = state.hits.saturating_add(u64::from(due.is_some()));
        due.map(|(_, fault)| fault)
    }

    /// Reads by `read` into some bytes, which `bytes` gives to be damaged.
    fn read<T>(
        &self,
        key: &Key,
        read: impl FnOnce() -> Result<T>,
        bytes: impl FnOnce(&mut T) -> &mut [u8],
    ) -> Result<T> {
        let fault = self.next();
        if let Some(Fault::Error(kind)) = fault {
            return Err(injected("read", key, kind));
        }
        let mut data = read()?;
        if fault == Some(Fault::FlipBit) {
            let bytes = bytes(&mut data);
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Ok(data)
    }

    fn write(&self, key: &Key, write: impl FnOnce() -> Result<()>) -> Result<()> {
        match self.next() {
            Some(Fault::Error(kind)) => Err(injected("write", key, kind)),
            Some(Fault::LostAnswer) => write().and(Err(injected("write", key, ErrorKind::TimedOut))),
            _ => write(),
        }
    }
}

fn injected(operation: &'static str, key: &Key, kind: ErrorKind) -> Error {
    Error::Io {
        operation,
        key: key.to_string(),
        source: std::io::Error::new(kind, "injected fault"),
    }
}

impl<S: Store> Store for FaultStore<S> {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.read(key, || self.inner.get(key, limit), Vec::as_mut_slice)
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = || self.inner.read_range(key, offset, buf).map(|()| buf);
        self.read(key, read, |buf| buf).map(drop)
    }
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        let read = || self.inner.read_tail(key, most);
        self.read(key, read, |(_, tail)| tail.as_mut_slice())
    }
    fn head(&self, key: &Key) -> Result<u64> {
        match self.next() {
            Some(Fault::Error(kind)) => Err(injected("look up", key, kind)),
            _ => self.inner.head(key),
        }
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.write(key, || self.inner.put_new(key, data))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        match self.next() {
            Some(Fault::Error(kind)) => {
                let source = std::io::Error::new(kind, "injected fault");
                Err(Error::Io {
                    operation: "list",
                    key: prefix.to_owned(),
                    source,
                })
            }
            _ => self.inner.list(prefix),
        }
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.write(key, || self.inner.delete(key))
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
