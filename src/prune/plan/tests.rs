//! Plans from facts given as data.

use super::*;
use crate::lease::process::Process;
use crate::lease::{Kind, Name, Record};
use crate::vault::{Pin, Vault};

const HOUR: i64 = 3600;
const NOW: i64 = 1_795_143_600;

fn now() -> Now {
    Now {
        clock: NOW,
        boot: [9; 16],
        uptime: Duration::from_secs(50 * 3600),
    }
}

fn mark_at(hours_ago: i64) -> Mark {
    Mark {
        at: NOW - hours_ago * HOUR,
        boot: [9; 16],
        uptime: u64::try_from((50 - hours_ago) * HOUR).unwrap(),
        ..Mark::default()
    }
}

const DAY: Duration = Duration::from_secs(86_400);

fn address(day: u8) -> Address {
    format!("servers/web/2026-11-{day:02}T00-00-00Z").parse().unwrap()
}

fn lease(kind: Kind, seen: &[MarkId]) -> Seen {
    Seen {
        name: Name {
            id: [1; 16],
            renewal: 3,
        },
        record: Some(Record {
            kind,
            process: Process::default(),
            started: NOW - HOUR,
            renewed: NOW,
            seen: seen.iter().map(|id| crate::bytes::hex(id)).collect(),
        }),
    }
}

#[test]
fn a_mark_is_old_by_the_clock_and_by_the_time_that_really_passed() {
    let until = |mark: &Mark| is_old(mark, &now(), DAY).err();
    assert_eq!(until(&mark_at(24)), None);
    assert_eq!(until(&mark_at(23)), Some(Wait::Grace { until: NOW + HOUR }));
    // The clock was set forward by ten years.
    let set = Mark {
        at: NOW - 87_600 * HOUR,
        ..mark_at(1)
    };
    assert_eq!(until(&set), Some(Wait::Grace { until: NOW + 23 * HOUR }));
    // After a boot there is only the clock.
    let other_boot = Mark {
        boot: [8; 16],
        ..set.clone()
    };
    assert_eq!(until(&other_boot), None);
    // Nobody knows of which boot it is.
    let unknown = Mark { boot: [0; 16], ..set };
    assert_eq!(until(&unknown), None);
    // The clock was set back: it is not old, however long it was.
    let ahead = Mark {
        at: NOW + 10 * HOUR,
        ..mark_at(48)
    };
    assert_eq!(until(&ahead), Some(Wait::Grace { until: NOW + 34 * HOUR }));
}

#[test]
fn only_writers_that_have_not_seen_a_mark_hold_it_up() {
    let mark = [7; 16];
    for kind in [Kind::Backup, Kind::Copy, Kind::Repair] {
        assert!(blocker(&mark, &[lease(kind, &[])]).is_some());
        assert!(blocker(&mark, &[lease(kind, &[[8; 16]])]).is_some());
        assert!(blocker(&mark, &[lease(kind, &[[8; 16], mark])]).is_none());
    }
    for kind in [Kind::Mount, Kind::Verify, Kind::Prune] {
        assert!(blocker(&mark, &[lease(kind, &[])]).is_none());
    }
    let unreadable = Seen {
        record: None,
        ..lease(Kind::Mount, &[])
    };
    assert!(blocker(&mark, &[unreadable]).is_some(), "it may be a writer's");
}

/// Sorts one backup of day 1.
fn class_of(
    deleted: Option<Option<Seconds>>,
    protections: &Protections,
    due: &[&Mark],
    others: &[&Mark],
) -> &'static str {
    let mut listing = Listing::default();
    listing.backups.insert(address(1));
    let deleted: Deleted = deleted.map(|at| (address(1), at)).into_iter().collect();
    let classes = classify(&listing, &deleted, protections, (due, others), (NOW, DAY));
    let of = [
        (classes.kept.len(), "kept"),
        (classes.purged.len(), "purged"),
        (classes.waiting.len(), "waiting"),
        (classes.expired.len(), "expired"),
    ];
    let found: Vec<&str> = of
        .iter()
        .filter(|(count, _)| *count == 1)
        .map(|(_, name)| *name)
        .collect();
    assert_eq!(found.len(), 1);
    found[0]
}

#[test]
fn a_deleted_backup_goes_after_its_time_and_its_mark() {
    let free = Protections::default();
    let ago = |hours: i64| Some(Some(NOW - hours * HOUR));
    assert_eq!(class_of(None, &free, &[], &[]), "kept");
    assert_eq!(class_of(ago(23), &free, &[], &[]), "kept");
    assert_eq!(class_of(ago(24), &free, &[], &[]), "expired");
    let lists = Mark {
        purge: vec![address(1)],
        ..mark_at(25)
    };
    assert_eq!(class_of(ago(50), &free, &[&lists], &[]), "purged");
    assert_eq!(class_of(ago(50), &free, &[], &[&lists]), "waiting");
    // Brought back since, or brought back and deleted again.
    assert_eq!(class_of(None, &free, &[&lists], &[]), "kept");
    assert_eq!(class_of(ago(3), &free, &[&lists], &[]), "kept");
    // A tombstone that cannot be read.
    assert_eq!(class_of(Some(None), &free, &[&lists], &[&lists]), "kept");
}

#[test]
fn what_somebody_protects_stays_whatever_was_decided() {
    let store = std::sync::Arc::new(crate::store::memory::MemoryStore::new());
    let config = crate::vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
    let vault = Vault::create(store, config).unwrap();
    let pin = Pin {
        at: NOW,
        by: "test".to_owned(),
        reason: "test".to_owned(),
        until: Some(NOW + 1),
    };
    let key = crate::store::Key::new(format!("pins/{}", address(1))).unwrap();
    vault.put_record(&key, &pin).unwrap();
    let pinned = vault.protections().unwrap();
    let lists = Mark {
        purge: vec![address(1)],
        ..mark_at(25)
    };
    assert_eq!(class_of(Some(Some(NOW - 50 * HOUR)), &pinned, &[&lists], &[]), "kept");
    assert_eq!(class_of(Some(Some(NOW - 50 * HOUR)), &pinned, &[], &[]), "kept");
}

/// Packs 1 to 6 of data and 1 to 3 of pages.
fn listing() -> Listing {
    Listing {
        packs: (1..=6).map(|number| [number; 16]).collect(),
        meta_packs: (1..=3).map(|number| [number; 16]).collect(),
        ..Listing::default()
    }
}

fn needs(kept: &[u8], expired: &[u8]) -> Needs {
    let packs = |numbers: &[u8]| numbers.iter().map(|number| (ObjectType::Pack, [*number; 16])).collect();
    Needs {
        kept: packs(kept),
        expired: packs(expired),
        named: std::collections::HashSet::new(),
    }
}

#[test]
fn a_sweep_removes_what_is_marked_there_and_needed_by_nobody() {
    let marked = Mark {
        packs: vec![[1; 16], [2; 16], [3; 16], [9; 16]],
        meta_packs: vec![[1; 16]],
        purge: vec![address(1), address(2)],
        ..mark_at(25)
    };
    let classes = Classes {
        purged: [address(2)].into(),
        ..Classes::default()
    };
    let sweep = sweep([7; 16], &marked, &listing(), &classes, &needs(&[2, 5], &[3]));
    assert_eq!(sweep.purge, [address(2)]);
    let removed = [(ObjectType::MetaPack, [1; 16]), (ObjectType::Pack, [1; 16])];
    assert_eq!((sweep.packs.as_slice(), sweep.kept), (removed.as_slice(), 2));
}

#[test]
fn a_mark_lists_what_nobody_needs_and_no_other_mark_lists() {
    let other = Mark {
        packs: vec![[2; 16]],
        ..mark_at(1)
    };
    let sweeps = [Sweep {
        mark: [7; 16],
        at: NOW,
        purge: Vec::new(),
        packs: vec![(ObjectType::Pack, [3; 16])],
        kept: 0,
    }];
    let mut listing = listing();
    listing.deleted.insert(address(3));
    let classes = Classes {
        kept: vec![address(1), address(3)],
        expired: vec![address(2)],
        ..Classes::default()
    };
    let made = mark(&listing, &classes, &needs(&[1], &[1, 4]), (&sweeps, &[&other]), &now());
    // What only the expired backup needs goes with it.
    assert_eq!(made.packs, [[4; 16], [5; 16], [6; 16]]);
    assert_eq!(made.meta_packs, [[1; 16], [2; 16], [3; 16]]);
    assert_eq!((made.purge, made.backups), (vec![address(2)], vec![address(1)]));
    assert_eq!((made.at, made.boot, made.uptime), (NOW, [9; 16], 180_000));
}
