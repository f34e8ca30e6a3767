//! Finds out everything that a prune has to know, in the order on which its safety rests: leases, then intents, then backups.

use super::listing::{Listing, untrue};
use super::needs::Used;
use super::plan::{self, Classes, Deleted, Needs, Now, Sweep, Wait};
use super::writers::{self, Dead, describe};
use super::{Error, Prune, Result, Waiting};
use crate::clock::Seconds;
use crate::lease::{Lease, Seen};
use crate::store;
use crate::vault::mark::{Mark, MarkId, sweep_key};
use crate::vault::{self, manifest_key};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The marks of earlier runs.
#[derive(Default)]
pub(super) struct Marks {
    /// Those that can be read.
    pub(super) good: BTreeMap<MarkId, Mark>,
    /// Those that cannot: nothing is removed by them.
    pub(super) bad: Vec<MarkId>,
    /// Those whose removal has begun.
    pub(super) begun: Vec<MarkId>,
}

/// Everything that was found, and what was decided.
pub(super) struct Facts {
    pub(super) marks: Marks,
    pub(super) listing: Listing,
    pub(super) classes: Classes,
    /// Packs that backups need, deleted ones too.
    pub(super) needs: Needs,
    /// What these backups need of each pack.
    pub(super) used: Used,
    /// What is removed now.
    pub(super) sweeps: Vec<Sweep>,
    /// What is marked now.
    pub(super) mark: Mark,
    /// Marks that are not acted upon.
    pub(super) waiting: Vec<Waiting>,
}

/// The record of an intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    at: Seconds,
}

impl Prune<'_> {
    pub(super) fn marks(&self) -> Result<Marks> {
        let mut marks = Marks {
            begun: self.vault.sweeps()?,
            ..Marks::default()
        };
        for id in self.vault.marks()? {
            match self.vault.mark(&id) {
                Ok(mark) => {
                    marks.good.insert(id, mark);
                }
                Err(error @ vault::Error::Corrupt { .. }) => {
                    self.environment
                        .monitor
                        .warn(&format!("{error}; nothing is removed by it"));
                    marks.bad.push(id);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let now = self.environment.clock.now();
        match marks
            .good
            .iter()
            .find(|(_, mark)| mark.at > now.saturating_add(plan::SKEW))
        {
            Some((id, mark)) => Err(Error::Skew {
                object: vault::mark::mark_key(id)?.to_string(),
                at: mark.at,
                now,
            }),
            None => Ok(marks),
        }
    }

    /// The leases that somebody may hold; there is no other prune among them.
    pub(super) fn leases(&self) -> Result<Vec<Seen>> {
        let dead = match self.lease {
            Some(_) => Dead::Remove,
            None => Dead::Ignore,
        };
        let own = self.lease.map(Lease::name);
        let leases = writers::living(self.vault, own, dead, self.environment)?;
        match writers::other_prune(&leases) {
            Some(other) if self.lease.is_some() => Err(Error::Busy(describe(other))),
            _ => Ok(leases),
        }
    }

    /// Says of each mark whether it is acted upon.
    fn judge(&self, marks: &Marks, leases: &[Seen], now: &Now) -> (Vec<MarkId>, Vec<Waiting>) {
        let (mut due, mut waiting) = (Vec::new(), Vec::new());
        for (id, mark) in &marks.good {
            // What has begun was old enough then.
            let old = if marks.begun.contains(id) {
                Ok(())
            } else {
                plan::is_old(mark, now, self.settings.grace)
            };
            let writer = plan::blocker(id, leases).map(|lease| Wait::Writer(Box::new(lease.clone())));
            match old.err().or(writer) {
                None => due.push(*id),
                Some(wait) => waiting.push(Waiting {
                    mark: *id,
                    at: mark.at,
                    packs: mark.packs.len().saturating_add(mark.meta_packs.len()),
                    purge: mark.purge.clone(),
                    wait,
                }),
            }
        }
        (due, waiting)
    }

    /// Finds out everything, and decides. Every writer that could rely on what is removed has ended or has seen the mark before this
    /// lists the backups; every deleted backup that is brought back from now on meets the intent that this writes first.
    pub(super) fn gather(&self, marks: Marks, leases: &[Seen]) -> Result<Facts> {
        let now = self.now();
        let (mut due, mut waiting) = self.judge(&marks, leases, &now);
        if self.lease.is_some() {
            for id in &due {
                self.intend(id, now.clock)?;
            }
        }
        let earlier = self.list(&marks, &due)?;
        let listing = self.list(&marks, &due)?;
        listing.check_against(&earlier)?;
        // A listing of leases that lacked one would have let it pass: what the later ones show counts as well.
        let again = self.leases()?;
        let (still_due, still_waiting) = self.judge(&marks, &again, &now);
        due.retain(|id| still_due.contains(id));
        let is_known = |wait: &Waiting, waiting: &[Waiting]| waiting.iter().any(|known| known.mark == wait.mark);
        for wait in still_waiting {
            if !is_known(&wait, &waiting) {
                waiting.push(wait);
            }
        }
        let mark_of = |id: &MarkId| marks.good.get(id);
        let due_marks: Vec<&Mark> = due.iter().filter_map(mark_of).collect();
        let other_marks: Vec<&Mark> = waiting.iter().filter_map(|wait| mark_of(&wait.mark)).collect();
        self.check_backups(&listing, &marks)?;
        let deleted = self.deleted(&listing, now.clock)?;
        let classes = plan::classify(
            &listing,
            &deleted,
            &self.vault.protections()?,
            (&due_marks, &other_marks),
            (now.clock, self.settings.keep_deleted),
        );
        let (needs, used) = self.needs(&listing, &classes)?;
        let sweeps: Vec<Sweep> = due
            .iter()
            .filter_map(|id| Some(plan::sweep(*id, mark_of(id)?, &listing, &classes, &needs)))
            .collect();
        let mark = plan::mark(&listing, &classes, &needs, (&sweeps, &other_marks), &now);
        self.take_back(|id| due.contains(id))?;
        Ok(Facts {
            listing,
            classes,
            sweeps,
            mark,
            waiting,
            needs,
            used,
            marks,
        })
    }

    fn intend(&self, id: &MarkId, at: Seconds) -> Result<()> {
        match self.vault.put_record(&sweep_key(id)?, &Intent { at }) {
            // Of a run that was killed: it may have removed something.
            Err(vault::Error::Store(store::Error::AlreadyExists { .. })) => Ok(()),
            Ok(()) => {
                self.intents.borrow_mut().push(*id);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Takes back intents of this run by which nothing was removed, but those that `keep` says: while there is one, no deleted backup can
    /// be brought back.
    pub(super) fn take_back(&self, keep: impl Fn(&MarkId) -> bool) -> Result<()> {
        let (kept, idle): (Vec<MarkId>, Vec<MarkId>) = self.intents.take().into_iter().partition(keep);
        *self.intents.borrow_mut() = kept;
        for id in idle {
            // Whoever took the place of this run may have come to rely on it.
            self.check_lease()?;
            self.vault.remove_record(&sweep_key(&id)?)?;
        }
        Ok(())
    }

    /// Lists the vault, and holds the listing to what is known to be there: what this prune itself has just written above all.
    fn list(&self, marks: &Marks, due: &[MarkId]) -> Result<Listing> {
        self.check()?;
        let listing = Listing::read(self.vault)?;
        let lacks = "was written or read a moment ago, and is not listed";
        if let Some(lease) = self.lease {
            let first = lease.name().first();
            if !listing.leases.contains(&first) {
                return Err(untrue(first.key()?.to_string(), lacks));
            }
            if let Some(id) = due.iter().find(|id| !listing.sweeps.contains(*id)) {
                return Err(untrue(sweep_key(id)?.to_string(), lacks));
            }
        }
        match marks.good.keys().find(|id| !listing.marks.contains(*id)) {
            Some(id) => Err(untrue(vault::mark::mark_key(id)?.to_string(), lacks)),
            None => Ok(listing),
        }
    }

    /// Makes sure that every backup is listed that was there when a mark was made, and was not removed by one since.
    fn check_backups(&self, listing: &Listing, marks: &Marks) -> Result<()> {
        for mark in marks.good.values() {
            for address in mark
                .backups
                .iter()
                .filter(|address| !listing.backups.contains(*address))
            {
                let removed = |mark: &Mark| mark.purge.binary_search(address).is_ok();
                if marks.good.values().any(removed) {
                    continue;
                }
                let key = manifest_key(address)?;
                match self.vault.store().head(&key) {
                    Ok(_) => return Err(untrue(key.to_string(), "is there, and is not listed")),
                    Err(error) if error.is_not_found() => self.environment.monitor.warn(&format!(
                        "backup {address} is not there any more, and no prune has removed it; who else can delete objects of this \
                         vault?"
                    )),
                    Err(error) => return Err(vault::Error::from(error).into()),
                }
            }
        }
        Ok(())
    }

    /// When each deleted backup was deleted.
    fn deleted(&self, listing: &Listing, now: Seconds) -> Result<Deleted> {
        let mut deleted = Deleted::new();
        for address in &listing.deleted {
            let at = match self.vault.tombstone(address) {
                Ok(tombstone) => tombstone.map(|tombstone| tombstone.at),
                Err(error @ vault::Error::Corrupt { .. }) => {
                    let cure = "undelete it and delete it again, or it is never removed";
                    self.environment.monitor.warn(&format!("{error}; {cure}"));
                    None
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(at) = at.filter(|at| *at > now.saturating_add(plan::SKEW)) {
                return Err(Error::Skew {
                    object: vault::lifecycle::deleted_key(address)?.to_string(),
                    at,
                    now,
                });
            }
            deleted.insert(address.clone(), at);
        }
        Ok(deleted)
    }
}
