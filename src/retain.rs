//! Which backups of a resource stay: pure rules, from times and what is known of each backup to a reason for each that stays.
//!
//! The rules are those of cloud backup services. A backup that any rule keeps stays: rules add to each other and none takes away. They are
//! about backups that a schedule made; whoever made a backup by hand has asked for it, and pinned and locked ones are kept by
//! somebody's word. None of these is counted, so that they push no other backup out.

use crate::clock::{Period, Point, Seconds, Zone};
use std::collections::HashSet;

/// What is to stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// So many of the newest.
    pub number: Option<u32>,
    /// Those younger than this.
    pub age: Option<Seconds>,
    /// The newest of each of the last so many days, weeks, months and years that have backups, in the order of [`Period::ALL`].
    pub periods: [u32; 4],
    /// Whose days these are.
    pub zone: Zone,
    /// The one schedule that the rules are about; otherwise they are about all.
    pub schedule: Option<String>,
}

impl Rules {
    /// Says whether there is a rule at all: without one, nothing but the newest would stay.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.number.is_none() && self.age.is_none() && self.periods == [0; 4]
    }
}

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its time.
    pub point: Point,
    /// What made it.
    pub maker: Maker,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether it is locked.
    pub locked: bool,
}

/// What made a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// The schedule of this name.
    Schedule(String),
    /// Somebody, by hand.
    Hand,
    /// Its description cannot be read.
    Unknown,
}

/// Why a backup stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is the newest of its resource.
    Newest,
    /// It is pinned.
    Pinned,
    /// It is locked.
    Locked,
    /// It was made by hand.
    Manual,
    /// Another schedule made it.
    OtherSchedule(String),
    /// Nobody knows what made it.
    Unreadable,
    /// It is the n-th newest of those that are kept by number.
    Number(u32),
    /// It is young enough.
    Age,
    /// It is the newest of this period.
    Period(Period, String),
}

impl Reason {
    /// The reason in words.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Newest => "newest".to_owned(),
            Self::Pinned => "pinned".to_owned(),
            Self::Locked => "locked".to_owned(),
            Self::Manual => "manual".to_owned(),
            Self::OtherSchedule(name) => format!("schedule {name}"),
            Self::Unreadable => "unreadable".to_owned(),
            Self::Number(place) => format!("number {place}"),
            Self::Age => "age".to_owned(),
            Self::Period(period, name) => format!("{} {name}", period.word()),
        }
    }
}

/// Says for each backup of one resource why it stays, in the order given; one without a reason goes.
#[must_use]
pub fn plan(rules: &Rules, now: Seconds, backups: &[Candidate]) -> Vec<Vec<Reason>> {
    let mut reasons: Vec<Vec<Reason>> = backups.iter().map(|backup| standing(rules, backup)).collect();
    let mut ranked: Vec<(&Candidate, &mut Vec<Reason>)> = backups.iter().zip(&mut reasons).collect();
    ranked.sort_by_key(|(backup, _)| std::cmp::Reverse(backup.point));
    let newest = ranked.first().map(|(backup, _)| backup.point);
    // What stays in any case is not counted.
    let mut counted: Vec<(&Candidate, &mut Vec<Reason>)> =
        ranked.into_iter().filter(|(_, reasons)| reasons.is_empty()).collect();
    for ((backup, reasons), place) in counted.iter_mut().zip(1..) {
        if rules.number.is_some_and(|number| place <= number) {
            reasons.push(Reason::Number(place));
        }
        if rules
            .age
            .is_some_and(|age| now.saturating_sub(backup.point.seconds()) < age)
        {
            reasons.push(Reason::Age);
        }
    }
    for (period, most) in Period::ALL.into_iter().zip(rules.periods) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut seen = HashSet::new();
        for (backup, reasons) in &mut counted {
            if seen.len() >= most {
                break;
            }
            let name = rules.zone.period(period, backup.point);
            if seen.insert(name.clone()) {
                reasons.push(Reason::Period(period, name));
            }
        }
    }
    for (backup, reasons) in backups.iter().zip(&mut reasons) {
        if Some(backup.point) == newest {
            reasons.insert(0, Reason::Newest);
        }
    }
    reasons
}

/// Why a backup stays whatever the rules say.
fn standing(rules: &Rules, backup: &Candidate) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if backup.locked {
        reasons.push(Reason::Locked);
    }
    if backup.pinned {
        reasons.push(Reason::Pinned);
    }
    match &backup.maker {
        Maker::Hand => reasons.push(Reason::Manual),
        Maker::Unknown => reasons.push(Reason::Unreadable),
        Maker::Schedule(name) if rules.schedule.as_ref().is_some_and(|wanted| wanted != name) => {
            reasons.push(Reason::OtherSchedule(name.clone()));
        }
        Maker::Schedule(_) => {}
    }
    reasons
}

#[cfg(test)]
mod tests;
