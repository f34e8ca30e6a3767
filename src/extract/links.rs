//! Files with several names: the first is a copy, the others become links to it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::found::Identity;
use crate::tree::{Attributes, Ino};

/// Files whose other names may follow; above this they become files of their own.
const MAX_KNOWN: usize = 1 << 20;
/// How long to wait before looking whether the run is over.
const PATIENCE: Duration = Duration::from_millis(100);

/// The first names of files with several.
#[derive(Default)]
pub(super) struct Links {
    known: Mutex<HashMap<Ino, Known>>,
    /// Wakes who waits for the first name.
    settled: Condvar,
    /// Files of the target that stay, as one of the backup's with several names: no other one may stay as them.
    claimed: Mutex<HashSet<Identity>>,
}

struct Known {
    /// `None` while it is being copied.
    first: Option<First>,
    /// Names that may still come.
    left: u32,
}

/// A name that others can be linked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct First {
    /// Its path below the target.
    pub(super) below: Vec<u8>,
    /// What the target had there, if that has stayed.
    pub(super) identity: Option<Identity>,
}

/// What to do with a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The file has no other name, or too many files have: copy it.
    Alone,
    /// Copy it and [`settle`](Links::settle): it is the first of its names.
    First,
    /// Link it to this one.
    LinkTo(First),
}

impl Links {
    /// Says what to do with the next name of a file; waits for the first one if that is being copied.
    pub(super) fn turn(&self, attributes: &Attributes, stopped: impl Fn() -> bool) -> Turn {
        if attributes.links < 2 {
            return Turn::Alone;
        }
        let mut known = self.known.lock();
        loop {
            let full = known.len() >= MAX_KNOWN;
            let Some(found) = known.get_mut(&attributes.ino) else {
                if full {
                    return Turn::Alone;
                }
                let left = attributes.links.saturating_sub(1);
                known.insert(attributes.ino, Known { first: None, left });
                return Turn::First;
            };
            match found.first.clone() {
                Some(first) => {
                    found.left = found.left.saturating_sub(1);
                    if found.left == 0 {
                        known.remove(&attributes.ino);
                    }
                    return Turn::LinkTo(first);
                }
                None if stopped() => return Turn::Alone,
                None => {
                    self.settled.wait_for(&mut known, PATIENCE);
                }
            }
        }
    }

    /// Takes a file of the target for one of the backup's; `false` if it is taken, or if too many are.
    pub(super) fn claim(&self, identity: Identity) -> bool {
        let mut claimed = self.claimed.lock();
        claimed.len() < MAX_KNOWN && claimed.insert(identity)
    }

    /// The file takes no more names: this one is the first of the next that do.
    pub(super) fn begin_again(&self, attributes: &Attributes) {
        let left = attributes.links.saturating_sub(1);
        self.known.lock().insert(attributes.ino, Known { first: None, left });
    }

    /// Tells where the first name is; without one it failed, and the next name is the first.
    pub(super) fn settle(&self, ino: Ino, first: Option<First>) {
        let mut known = self.known.lock();
        match (first, known.get_mut(&ino)) {
            (Some(first), Some(found)) => found.first = Some(first),
            _ => drop(known.remove(&ino)),
        }
        self.settled.notify_all();
    }
}
