//! Actors on one store that take turns by operations: a schedule says whose operation comes next.

use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use vaultfs::store::{Error, Key, Result, Store};

/// How long an operation may take: an actor that neither comes nor ends is stuck.
const STUCK: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Actor {
    /// Where its operations wait.
    turn: Arc<Condvar>,
    /// Operations that wait for a turn.
    waiting: usize,
    /// Turns given and not taken yet.
    turns: usize,
    /// Operations that have ended.
    done: usize,
    /// What it deleted last, if nobody has taken note of that yet.
    deleted: Option<Key>,
    /// An operation goes on.
    busy: bool,
    /// It has come to its end.
    ended: bool,
    /// It was killed: every operation fails from now on.
    killed: bool,
}

/// The turns of all actors.
#[derive(Default)]
pub(crate) struct Steps {
    actors: Mutex<BTreeMap<usize, Actor>>,
    /// Turns were taken, or an actor has ended.
    taken: Condvar,
}

/// What came of turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The actor did so many operations; the last of them deleted this.
    Did(usize, Option<Key>),
    /// It has ended.
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
        self.taken.notify_all();
    }

    /// Lets every operation of the actor fail from now on, as if its process were gone.
    pub(crate) fn kill(&self, actor: usize) {
        let mut actors = self.actors.lock();
        let one = actors.get_mut(&actor).unwrap();
        one.killed = true;
        one.turn.notify_all();
    }

    /// Gives an actor up to `most` turns, and waits until it has taken them, has deleted something, or has ended.
    pub(crate) fn turns(&self, actor: usize, most: usize) -> Turn {
        let mut actors = self.actors.lock();
        let one = actors.get_mut(&actor).unwrap();
        let before = one.done;
        let mut seen = before;
        one.turns = most;
        one.turn.notify_all();
        loop {
            let one = actors.get_mut(&actor).unwrap();
            if one.turns == 0 && !one.busy {
                return Turn::Did(one.done - before, one.deleted.take());
            }
            if one.ended {
                return Turn::Ended;
            }
            if self.taken.wait_for(&mut actors, STUCK).timed_out() {
                let done = actors[&actor].done;
                assert!(std::mem::replace(&mut seen, done) < done, "actor {actor} is stuck");
            }
        }
    }

    fn operation<T>(&self, actor: usize, key: &str, does: Does, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let killed = {
            let mut actors = self.actors.lock();
            actors.get_mut(&actor).unwrap().waiting += 1;
            loop {
                let one = actors.get_mut(&actor).unwrap();
                if one.killed || one.turns > 0 && !one.busy {
                    one.waiting -= 1;
                    one.turns = one.turns.saturating_sub(1);
                    one.busy = true;
                    break one.killed;
                }
                let turn = Arc::clone(&one.turn);
                turn.wait(&mut actors);
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
        let mut actors = self.actors.lock();
        let one = actors.get_mut(&actor).unwrap();
        one.busy = false;
        one.done += 1;
        if does == Does::Delete {
            one.deleted = Key::new(key).ok();
            one.turns = 0;
        }
        if one.turns == 0 {
            self.taken.notify_all();
        } else if one.waiting > 0 {
            one.turn.notify_all();
        }
        result
    }
}

/// Whether somebody has to look at the vault after an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Delete,
    Other,
}

/// The store as one actor sees it.
pub(crate) struct Gate<S> {
    pub(crate) inner: Arc<S>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) actor: usize,
}

impl<S: Store> Gate<S> {
    fn at<T>(&self, key: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.steps.operation(self.actor, key, Does::Other, work)
    }
}

impl<S: Store> Store for Gate<S> {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.at(key.as_str(), || self.inner.get(key, limit))
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.at(key.as_str(), || self.inner.read_range(key, offset, buf))
    }
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        self.at(key.as_str(), || self.inner.read_tail(key, most))
    }
    fn head(&self, key: &Key) -> Result<u64> {
        self.at(key.as_str(), || self.inner.head(key))
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.at(key.as_str(), || self.inner.put_new(key, data))
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        self.at(prefix, || self.inner.list(prefix))
    }
    fn delete(&self, key: &Key) -> Result<()> {
        let delete = || self.inner.delete(key);
        self.steps.operation(self.actor, key.as_str(), Does::Delete, delete)
    }
    fn describe(&self) -> String {
        format!("the store of actor {}", self.actor)
    }
}
