//! Who may rely on packs: the leases of a vault, those whose holders are gone taken out of the way.
//!
//! A lease that is old by the clock proves nothing: clocks are set, machines are suspended. It is watched; its holder renews it every
//! minute, so that one which does not change for three of them is nobody's, or its holder sleeps and will look at everything again.

use super::plan::{self, SKEW};
use super::{Environment, Error, Result};
use crate::clock::Seconds;
use crate::lease::process::Process;
use crate::lease::{self, Kind, LEASES, Name, Record, Seen};
use crate::store::Key;
use crate::vault::{self, Vault};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a lease that is old is watched.
const WATCH: Duration = Duration::from_secs(180);

/// How sure it is that somebody holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is renewed, or was a short while ago.
    Alive,
    /// It was not renewed for an hour or more, or cannot be read.
    Silent,
    /// The process was on this machine and has ended.
    Gone,
}

impl Life {
    /// The state in a word: `alive`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Silent => "silent",
            Self::Gone => "gone",
        }
    }
}

/// The leases of a vault, for people: who writes, copies, prunes and mounts.
///
/// # Errors
/// As [`lease::all`].
pub fn who(vault: &Vault, now: Seconds) -> vault::Result<Vec<(Seen, Life)>> {
    let own = Process::own();
    let with_life = |seen: Seen| {
        let life = life(&seen, &own, now);
        (seen, life)
    };
    Ok(lease::all(vault)?.into_iter().map(with_life).collect())
}

fn life(seen: &Seen, own: &Process, now: Seconds) -> Life {
    match &seen.record {
        Some(record) if record.process.is_gone(own) => Life::Gone,
        _ if plan::is_stale(seen, now) => Life::Silent,
        _ => Life::Alive,
    }
}

/// What a prune does with leases that nobody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dead {
    /// Takes them out of the way, after watching those that are only silent.
    Remove,
    /// Passes over those whose process has ended, believes the others, and changes nothing.
    Ignore,
}

/// The leases that somebody may hold, but for this prune's own.
pub(super) fn living(vault: &Vault, own: Option<Name>, dead: Dead, environment: Environment<'_>) -> Result<Vec<Seen>> {
    let mut silent = Vec::new();
    let all = others(vault, own, environment)?;
    for (seen, life) in &all {
        match (life, dead) {
            (Life::Gone, Dead::Remove) => remove(vault, seen.name)?,
            (Life::Silent, Dead::Remove) if may_matter(seen) => silent.push(seen.clone()),
            _ => {}
        }
    }
    if silent.is_empty() {
        return Ok(all
            .into_iter()
            .filter(|(_, life)| *life != Life::Gone)
            .map(|(seen, _)| seen)
            .collect());
    }
    watch(environment, &silent)?;
    // Whoever renewed meanwhile has a newer record.
    let mut left = others(vault, own, environment)?;
    for (seen, _) in left.iter().filter(|(seen, _)| silent.contains(seen)) {
        remove(vault, seen.name)?;
    }
    left.retain(|(seen, life)| *life != Life::Gone && !silent.contains(seen));
    Ok(left.into_iter().map(|(seen, _)| seen).collect())
}

/// Says whether a prune ever waits for such a lease.
fn may_matter(seen: &Seen) -> bool {
    let matters = |record: &Record| record.kind.writes() || record.kind == Kind::Prune;
    seen.record.as_ref().is_none_or(matters)
}

fn others(vault: &Vault, own: Option<Name>, environment: Environment<'_>) -> Result<Vec<(Seen, Life)>> {
    let now = environment.clock.now();
    let mut all = who(vault, now)?;
    all.retain(|(seen, _)| own.is_none_or(|own| own.id != seen.name.id));
    for (seen, _) in &all {
        let ahead = seen
            .record
            .as_ref()
            .filter(|record| record.renewed > now.saturating_add(SKEW));
        if let Some(record) = ahead {
            return Err(Error::Skew {
                object: seen.name.key()?.to_string(),
                at: record.renewed,
                now,
            });
        }
    }
    Ok(all)
}

fn watch(environment: Environment<'_>, silent: &[Seen]) -> Result<()> {
    let names: Vec<String> = silent.iter().map(describe).collect();
    environment.monitor.warn(&format!(
        "waiting {} s to see whether anybody holds these leases: {}",
        WATCH.as_secs(),
        names.join(", ")
    ));
    let end = environment.clock.uptime().saturating_add(WATCH);
    while environment.clock.uptime() < end {
        if environment.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        environment.clock.sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// A lease in words: `backup of host web-01, process 77`.
#[must_use]
pub fn describe(seen: &Seen) -> String {
    match &seen.record {
        Some(record) => format!(
            "{} of host {}, process {}",
            record.kind.word(),
            record.process.host,
            record.process.pid
        ),
        None => format!("lease {}, which cannot be read", crate::bytes::hex(&seen.name.id)),
    }
}

/// Takes a lease out of the way: its first record first, for that is what its holder looks for.
fn remove(vault: &Vault, name: Name) -> Result<()> {
    for name in [name.first(), name] {
        delete(vault, &name.key()?)?;
    }
    Ok(())
}

/// Removes records of leases that have ended, but were not tidied up.
pub(super) fn tidy(vault: &Vault) -> Result<u64> {
    let keys = vault.store().list(LEASES).map_err(vault::Error::from)?;
    let names: Vec<Name> = keys.iter().filter_map(Name::of).collect();
    let mut removed = 0u64;
    for name in &names {
        // The first record comes before all others and goes before them.
        if !names.contains(&name.first()) {
            delete(vault, &name.key()?)?;
            removed = removed.saturating_add(1);
        }
    }
    Ok(removed)
}

fn delete(vault: &Vault, key: &Key) -> Result<()> {
    match vault.store().delete(key) {
        Err(error) if !error.is_not_found() => Err(vault::Error::from(error).into()),
        _ => Ok(()),
    }
}

/// The other prune that is under way, if there is one.
pub(super) fn other_prune(leases: &[Seen]) -> Option<&Seen> {
    let is_prune = |seen: &&Seen| seen.record.as_ref().is_some_and(|record| record.kind == Kind::Prune);
    leases.iter().find(is_prune)
}

#[cfg(test)]
const _: () = assert!(WATCH.as_secs() >= 3 * lease::RENEWAL.as_secs());
