//! Removes what no backup needs, beside backups, copies and mounts that go on, and never by one look alone.
//!
//! A run acts upon the marks of earlier runs that are old enough and that every writer has seen, and makes a new mark of what it finds.
//! Between a mark and its removal everything is listed and walked again. Facts are gathered first, `plan` decides from them alone,
//! and only then something is removed. `docs/prune.md` has the argument why no interleaving with a writer loses a backup.

mod error;
mod gather;
mod listing;
mod needs;
mod plan;
mod repack;
mod sweep;
mod writers;

pub use crate::monitor::Environment;
pub use error::Error;
pub use plan::Wait;
pub use writers::{Life, describe, who};

use crate::clock::Seconds;
use crate::lease::process::Process;
use crate::lease::{Kind, Lease};
use crate::vault::mark::MarkId;
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::{self, Address, Vault, pack_key};
use gather::Facts;
use plan::Now;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The result of a prune.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long what nobody needs stays after it was marked.
    pub grace: Duration,
    /// How long a deleted backup can be brought back.
    pub keep_deleted: Duration,
    /// Packs of which less than so many per cent are needed are repacked; 0 for none.
    pub repack_below: u8,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Prune.
    Run,
    /// Only say what would be done.
    DryRun,
}

/// A number of objects and their bytes in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds an object of `bytes` bytes.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A mark that is not acted upon in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The mark.
    pub mark: MarkId,
    /// When it was made.
    pub at: Seconds,
    /// Packs it lists.
    pub packs: usize,
    /// Deleted backups it lists.
    pub purge: Vec<Address>,
    /// What it waits for.
    pub wait: Wait,
}

/// What a run has done, or would do.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Backups that stay.
    pub kept: usize,
    /// Deleted backups that were removed.
    pub purged: Vec<Address>,
    /// Packs that were removed.
    pub packs: Amount,
    /// Packs that were marked before and that a backup needs again.
    pub needed_again: usize,
    /// Indexes that were written anew or removed.
    pub indexes: usize,
    /// Packs that were marked now.
    pub marked: Amount,
    /// Deleted backups that were marked now.
    pub expired: Vec<Address>,
    /// Marks that wait.
    pub waiting: Vec<Waiting>,
    /// Traces of programs that were killed.
    pub litter: u64,
    /// Packs of which little is needed, as they are; the next prune marks them.
    pub repacked: Amount,
    /// Stored bytes of what is needed of them, which is stored again.
    pub repacked_needed: u64,
}

/// Prunes a vault. Where a disk is full to the last byte, the reserve that was kept for this makes room.
///
/// # Errors
/// As [`Error`]; what was removed before was needed by nobody.
pub fn run(vault: &Vault, settings: Settings, mode: Mode, environment: Environment<'_>) -> Result<Report> {
    vault.check_writable()?;
    let prune = Prune {
        vault,
        settings,
        environment,
        lease: None,
        intents: RefCell::default(),
    };
    if mode == Mode::DryRun {
        let facts = prune.facts()?;
        let mut report = prune.report(&facts)?;
        prune.repack(&facts, &mut report)?;
        return Ok(report);
    }
    let ended = match prune.remove() {
        Err(error) if error.is_full() && vault.release_reserve()? => prune.remove(),
        other => other,
    };
    if ended.is_ok()
        && let Err(error) = vault.store().keep_reserve()
    {
        let text = format!("no space, or too little, is kept back for the next prune of a full disk: {error}");
        environment.monitor.warn(&text);
    }
    ended
}

/// One run.
struct Prune<'a> {
    vault: &'a Vault,
    settings: Settings,
    environment: Environment<'a>,
    /// `None` where nothing is changed.
    lease: Option<&'a Lease>,
    /// Intents that this run has written.
    intents: RefCell<Vec<MarkId>>,
}

impl Prune<'_> {
    /// Prunes, under a lease of its own.
    fn remove(&self) -> Result<Report> {
        let lease = Lease::take(self.vault, Kind::Prune, self.environment.clock)?;
        let prune = Prune {
            vault: self.vault,
            settings: self.settings,
            environment: self.environment,
            lease: Some(&lease),
            intents: RefCell::default(),
        };
        let found = prune.facts().and_then(|facts| Ok((prune.report(&facts)?, facts)));
        match found {
            Ok((report, facts)) => {
                let mut report = sweep::run(&prune, &facts, report)?;
                prune.repack(&facts, &mut report)?;
                Ok(report)
            }
            Err(error) => {
                // The first error is the one to tell; an intent that stays is acted upon by the next run.
                if let Err(error) = prune.take_back(|_| false) {
                    log::warn!("an intent of this run stays: {error}");
                }
                Err(error)
            }
        }
    }

    /// Repacks, or says what it would repack; where there is no space for that, the packs stay as they are.
    fn repack(&self, facts: &Facts, report: &mut Report) -> Result<()> {
        let Some(plan) = repack::plan(self, facts, self.settings.repack_below) else {
            return Ok(());
        };
        let repacked = if self.lease.is_some() {
            repack::run(self, facts, &plan)
        } else {
            Ok(())
        };
        match repacked {
            Ok(()) => (report.repacked, report.repacked_needed) = (plan.packs, plan.needed_bytes),
            Err(error) if error.is_full() => self
                .environment
                .monitor
                .warn("there is no space to repack; packs of which little is needed stay as they are"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn facts(&self) -> Result<Facts> {
        let marks = self.marks()?;
        let leases = self.leases()?;
        self.gather(marks, &leases)
    }

    fn now(&self) -> Now {
        let clock = self.environment.clock;
        Now {
            clock: clock.now(),
            boot: Process::own().boot_bytes(),
            uptime: clock.uptime(),
        }
    }

    /// Goes on, unless somebody wants this to end or its lease is lost.
    fn check(&self) -> Result<()> {
        if self.environment.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.check_lease()
    }

    fn check_lease(&self) -> Result<()> {
        match self.lease {
            Some(lease) if !lease.is_whole()? => Err(Error::Lost),
            _ => Ok(()),
        }
    }

    /// Counts what the plan removes and marks.
    fn report(&self, facts: &Facts) -> Result<Report> {
        let mut report = Report {
            kept: facts.classes.kept.len(),
            expired: facts.mark.purge.clone(),
            waiting: facts.waiting.clone(),
            ..Report::default()
        };
        for sweep in &facts.sweeps {
            report.needed_again = report.needed_again.saturating_add(sweep.kept);
            report.purged.extend(sweep.purge.iter().cloned());
            report.packs = self.amount(report.packs, sweep.packs.iter().copied())?;
        }
        let marked = |object_type: ObjectType| {
            let packs = facts.mark.packs_of(object_type).iter();
            packs.map(move |pack| (object_type, *pack))
        };
        let marked = marked(ObjectType::Pack).chain(marked(ObjectType::MetaPack));
        report.marked = self.amount(Amount::default(), marked)?;
        Ok(report)
    }

    fn amount(&self, start: Amount, packs: impl Iterator<Item = (ObjectType, ObjectId)>) -> Result<Amount> {
        let mut amount = start;
        for (object_type, pack) in packs {
            match self.vault.store().head(&pack_key(object_type, &pack)?) {
                Ok(len) => amount.add(len),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(vault::Error::from(error).into()),
            }
        }
        Ok(amount)
    }
}
