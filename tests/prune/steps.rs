//! Actors on one store that take turns by operations: a schedule says whose operation comes next.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::{Error, Key, Result, Store};

/// How long a turn may take: an actor that neither comes nor ends is stuck.
const STUCK: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Actor {
    /// Operations that wait for a turn.
    waiting: usize,
    /// Turns given and not taken yet.
    turns: usize,
    /// An operation goes on.
    busy: bool,
    /// It has come to its end.
    ended: bool,
    /// It was killed: every operation fails from now on.
    killed: bool,
    /// What it did last.
    last: String,
}

/// The turns of all actors.
#[derive(Default)]
pub(crate) struct Steps {
    actors: Mutex<BTreeMap<usize, Actor>>,
    changed: Condvar,
}

/// What came of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The actor did this.
    Did(String),
    /// It had ended before.
    Ended,
}

impl Steps {
    /// Makes an actor known; its operations wait from now on.
    pub(crate) fn enter(&self, actor: usize) {
        self.actors.lock().insert(actor, Actor::default());
    }

    /// The actor has ended.
    pub(crate) fn end(&self, actor: usize) {
        self.actors.lock().get_mut(&actor).unwrap().ended = true;
        self.changed.notify_all();
    }

    /// Lets every operation of the actor fail from now on, as if its process were gone.
    pub(crate) fn kill(&self, actor: usize) {
        self.actors.lock().get_mut(&actor).unwrap().killed = true;
        self.changed.notify_all();
    }

    /// Gives an actor one turn, and waits until it has taken it or has ended.
    pub(crate) fn turn(&self, actor: usize) -> Turn {
        let mut actors = self.actors.lock();
        loop {
            let one = actors.get_mut(&actor).unwrap();
            if one.waiting > 0 {
                one.turns += 1;
                self.changed.notify_all();
                break;
            }
            if one.ended {
                return Turn::Ended;
            }
            assert!(
                !self.changed.wait_for(&mut actors, STUCK).timed_out(),
                "actor {actor} is stuck"
            );
        }
        loop {
            let one = actors.get_mut(&actor).unwrap();
            if one.turns == 0 && !one.busy {
                return Turn::Did(one.last.clone());
            }
            assert!(
                !self.changed.wait_for(&mut actors, STUCK).timed_out(),
                "actor {actor} is stuck in a turn"
            );
        }
    }

    fn operation<T>(&self, actor: usize, what: String, key: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let killed = {
            let mut actors = self.actors.lock();
            actors.get_mut(&actor).unwrap().waiting += 1;
            self.changed.notify_all();
            loop {
                let one = actors.get_mut(&actor).unwrap();
                if one.killed || one.turns > 0 && !one.busy {
                    one.waiting -= 1;
                    one.turns = one.turns.saturating_sub(1);
                    one.busy = true;
                    one.last = what;
                    break one.killed;
                }
                self.changed.wait(&mut actors);
            }
        };
        let result = if killed {
            Err(Error::Io {
                operation: "reach",
                key: key.to_owned(),
                source: std::io::Error::new(ErrorKind::ConnectionAborted, "this actor was killed"),
            })
        } else {
            work()
        };
        self.actors.lock().get_mut(&actor).unwrap().busy = false;
        self.changed.notify_all();
        result
    }
}

/// The store as one actor sees it.
pub(crate) struct Gate {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) actor: usize,
}

impl Gate {
    fn at<T>(&self, verb: &str, key: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.steps.operation(self.actor, format!("{verb} {key}"), key, work)
    }
}

impl Store for Gate {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.at("get", key.as_str(), || self.inner.get(key, limit))
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.at("read", key.as_str(), || self.inner.read_range(key, offset, buf))
    }
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        self.at("tail", key.as_str(), || self.inner.read_tail(key, most))
    }
    fn head(&self, key: &Key) -> Result<u64> {
        self.at("head", key.as_str(), || self.inner.head(key))
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.at("put", key.as_str(), || self.inner.put_new(key, data))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        self.at("list", prefix, || self.inner.list(prefix))
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.at("delete", key.as_str(), || self.inner.delete(key))
    }
    fn describe(&self) -> String {
        format!("the store of actor {}", self.actor)
    }
}
