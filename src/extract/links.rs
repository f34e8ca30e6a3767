//! Files with several names: the first is a copy, the others become links to it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

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
}

struct Known {
    first: First,
    /// Names that may still come.
    left: u32,
}

#[derive(Clone)]
enum First {
    /// Being copied.
    Coming,
    /// Complete, at this path below the target.
    There(Vec<u8>),
}

/// What to do with a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The file has no other name, or too many files have: copy it.
    Alone,
    /// Copy it and [`settle`](Links::settle): it is the first of its names.
    First,
    /// Link it to what is at this path below the target.
    LinkTo(Vec<u8>),
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
                let first = First::Coming;
                known.insert(attributes.ino, Known { first, left });
                return Turn::First;
            };
            match found.first.clone() {
                First::There(path) => {
                    found.left = found.left.saturating_sub(1);
                    if found.left == 0 {
                        known.remove(&attributes.ino);
                    }
                    return Turn::LinkTo(path);
                }
                First::Coming if stopped() => return Turn::Alone,
                First::Coming => {
                    self.settled.wait_for(&mut known, PATIENCE);
                }
            }
        }
    }

    /// Tells where the first name is; without a path it failed, and the next name is the first.
    pub(super) fn settle(&self, ino: Ino, path: Option<Vec<u8>>) {
        let mut known = self.known.lock();
        match (path, known.get_mut(&ino)) {
            (Some(path), Some(found)) => found.first = First::There(path),
            _ => drop(known.remove(&ino)),
        }
        self.settled.notify_all();
    }
}
