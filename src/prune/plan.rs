//! What a prune will do: pure, from everything that was found, so that it can be printed, counted and tested.
//!
//! A pack goes through three states: needed, marked, removed. It is marked when no backup needs it, and removed not before the next
//! prune after the grace time finds that still nobody does.

use super::listing::Listing;
use crate::clock::Seconds;
use crate::lease::{Seen, TTL};
use crate::reach::Object;
use crate::vault::mark::{MAX_MARKED, Mark, MarkId};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{Address, Protections};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

/// How far a clock may be ahead of this machine's.
pub(super) const SKEW: Seconds = 300;

/// A time by all that this machine knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// By the clock.
    pub(super) clock: Seconds,
    /// Which boot this is.
    pub(super) boot: [u8; 16],
    /// Since that boot.
    pub(super) uptime: Duration,
}

/// Why a mark is not acted upon yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// It is younger than the grace time.
    Grace {
        /// When it will be old enough.
        until: Seconds,
    },
    /// Somebody writes who has not seen it: this lease says who.
    Writer(Box<Seen>),
}

/// Says whether enough time has passed since a mark: by the clock, and by what nobody can set if this is the same boot.
pub(super) fn is_old(mark: &Mark, now: &Now, grace: Duration) -> Result<(), Wait> {
    let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
    let due = mark.at.saturating_add(seconds);
    let same_boot = now.boot != [0; 16] && now.boot == mark.boot;
    let left = grace.saturating_sub(now.uptime.saturating_sub(Duration::from_secs(mark.uptime)));
    if now.clock < due {
        return Err(Wait::Grace { until: due });
    }
    if same_boot && !left.is_zero() {
        let left = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        return Err(Wait::Grace {
            until: now.clock.saturating_add(left),
        });
    }
    Ok(())
}

/// The lease that a mark has to wait for, if there is one: of somebody who writes, or might, and has not seen it.
pub(super) fn blocker<'a>(mark: &MarkId, leases: &'a [Seen]) -> Option<&'a Seen> {
    leases.iter().find(|lease| match &lease.record {
        Some(record) => record.kind.writes() && !record.has_seen(mark),
        None => true,
    })
}

/// Says whether a lease is so old by the clock that its holder may be gone.
pub(super) fn is_stale(lease: &Seen, now: Seconds) -> bool {
    let ttl = i64::try_from(TTL.as_secs()).unwrap_or(i64::MAX);
    lease
        .record
        .as_ref()
        .is_none_or(|record| record.renewed.saturating_add(ttl) < now)
}

/// A deleted backup, and when it was deleted; `None` if the tombstone cannot be read.
pub(super) type Deleted = BTreeMap<Address, Option<Seconds>>;

/// What is done with every backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Classes {
    /// Backups that stay.
    pub(super) kept: Vec<Address>,
    /// Deleted backups that are removed now, as a mark that is due says.
    pub(super) purged: BTreeSet<Address>,
    /// Deleted backups that are to be removed later, as a mark says that is not due.
    pub(super) waiting: Vec<Address>,
    /// Deleted backups whose time has come, and that no mark lists.
    pub(super) expired: Vec<Address>,
}

/// Sorts the backups. `due` are the marks that are acted upon, `others` those that are not.
pub(super) fn classify(
    listing: &Listing,
    deleted: &Deleted,
    protections: &Protections,
    (due, others): (&[&Mark], &[&Mark]),
    (now, keep_deleted): (Seconds, Duration),
) -> Classes {
    let keep = i64::try_from(keep_deleted.as_secs()).unwrap_or(i64::MAX);
    let mut classes = Classes::default();
    for address in &listing.backups {
        // What somebody protects stays, whatever has been decided before.
        let at = deleted.get(address).copied().flatten();
        let at = at.filter(|_| protections.why(address, now).is_none());
        // Deleted after the mark was made: it was brought back in between, and its time begins anew.
        let by = |marks: &[&Mark]| {
            let lists = |mark: &&Mark| mark.purge.binary_search(address).is_ok() && at.is_some_and(|at| at <= mark.at);
            marks.iter().any(lists)
        };
        if by(due) {
            classes.purged.insert(address.clone());
        } else if by(others) {
            classes.waiting.push(address.clone());
        } else if at.is_some_and(|at| at.saturating_add(keep) <= now) {
            classes.expired.push(address.clone());
        } else {
            classes.kept.push(address.clone());
        }
    }
    classes
}

/// The packs that backups need.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// By backups that stay.
    pub(super) kept: HashSet<Object>,
    /// By those and by deleted backups that are not removed in this run.
    pub(super) expired: HashSet<Object>,
    /// Packs that manifests and pages of all these name, also if what they name was stored again elsewhere.
    pub(super) named: HashSet<ObjectId>,
}

impl Needs {
    /// Says whether a backup that is not removed in this run needs a pack.
    pub(super) fn has(&self, name: &Object) -> bool {
        self.kept.contains(name) || self.expired.contains(name)
    }
}

/// What is removed because of one mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sweep {
    /// The mark.
    pub(super) mark: MarkId,
    /// When it was made.
    pub(super) at: Seconds,
    /// Deleted backups to be removed.
    pub(super) purge: Vec<Address>,
    /// Packs to be removed.
    pub(super) packs: Vec<Object>,
    /// Packs that it lists, and that a backup needs now.
    pub(super) kept: usize,
}

/// Decides what a mark that is due removes: what it lists, is there, and is needed by no backup that stays or waits.
pub(super) fn sweep(id: MarkId, mark: &Mark, listing: &Listing, classes: &Classes, needs: &Needs) -> Sweep {
    let purge = mark.purge.iter().filter(|address| classes.purged.contains(address));
    let mut sweep = Sweep {
        mark: id,
        at: mark.at,
        purge: purge.cloned().collect(),
        packs: Vec::new(),
        kept: 0,
    };
    for object_type in [ObjectType::MetaPack, ObjectType::Pack] {
        for pack in mark.packs_of(object_type) {
            let name = (object_type, *pack);
            if !listing.packs_of(object_type).contains(pack) {
                continue;
            }
            if needs.has(&name) {
                sweep.kept = sweep.kept.saturating_add(1);
            } else {
                sweep.packs.push(name);
            }
        }
    }
    sweep
}

/// Makes the mark for the next prune: what no backup that stays needs and no mark lists that stays.
pub(super) fn mark(
    listing: &Listing,
    classes: &Classes,
    needs: &Needs,
    (sweeps, others): (&[Sweep], &[&Mark]),
    now: &Now,
) -> Mark {
    let removed: HashSet<Object> = sweeps.iter().flat_map(|sweep| sweep.packs.iter().copied()).collect();
    let garbage = |object_type: ObjectType| {
        let is_free = |pack: &&ObjectId| {
            let name = (object_type, **pack);
            let is_marked = || {
                others
                    .iter()
                    .any(|mark| mark.packs_of(object_type).binary_search(pack).is_ok())
            };
            !needs.kept.contains(&name) && !removed.contains(&name) && !is_marked()
        };
        let packs = listing.packs_of(object_type).iter().filter(is_free);
        packs.copied().take(MAX_MARKED).collect()
    };
    Mark {
        at: now.clock,
        boot: now.boot,
        uptime: now.uptime.as_secs(),
        packs: garbage(ObjectType::Pack),
        meta_packs: garbage(ObjectType::MetaPack),
        purge: classes.expired.iter().take(MAX_MARKED).cloned().collect(),
        // Deleted ones may go by another mark before this one is acted upon.
        backups: classes
            .kept
            .iter()
            .filter(|address| !listing.deleted.contains(address))
            .cloned()
            .collect(),
    }
}

#[cfg(test)]
mod tests;
