//! The rules on calendars of backups.

use super::*;

fn point(text: &str) -> Point {
    text.parse().unwrap()
}

fn scheduled(text: &str) -> Candidate {
    Candidate {
        point: point(text),
        maker: Maker::Schedule("daily".to_owned()),
        pinned: false,
        locked: false,
    }
}

/// One backup a day at three in the night, from the first of November on.
fn days(count: i64) -> Vec<Candidate> {
    let first = point("2026-11-01T03-00-00Z").seconds();
    let at = |day: i64| Candidate {
        point: Point::from_seconds(first + day * 86_400).unwrap(),
        ..scheduled("2026-11-01T03-00-00Z")
    };
    (0..count).map(at).collect()
}

fn rules() -> Rules {
    Rules {
        number: None,
        age: None,
        periods: [0; 4],
        zone: Zone::utc(),
        schedule: None,
    }
}

/// The days of the month of what stays.
fn stay(rules: &Rules, now: &str, backups: &[Candidate]) -> Vec<String> {
    let reasons = plan(rules, point(now).seconds(), backups);
    assert_eq!(reasons.len(), backups.len());
    let kept = backups.iter().zip(&reasons).filter(|(_, reasons)| !reasons.is_empty());
    kept.map(|(backup, _)| backup.point.to_string()[8..10].to_owned())
        .collect()
}

const NOW: &str = "2026-11-30T12-00-00Z";

#[test]
fn by_number_the_newest_stay() {
    let number = Rules {
        number: Some(3),
        ..rules()
    };
    assert_eq!(stay(&number, NOW, &days(30)), ["28", "29", "30"]);
    assert_eq!(stay(&number, NOW, &days(2)), ["01", "02"]);
    let mut shuffled = days(30);
    shuffled.reverse();
    assert_eq!(stay(&number, NOW, &shuffled), ["30", "29", "28"]);
}

#[test]
fn by_age_the_young_stay_and_the_newest_whatever_its_age() {
    let age = Rules {
        age: Some(3 * 86_400),
        ..rules()
    };
    assert_eq!(stay(&age, NOW, &days(30)), ["28", "29", "30"]);
    assert_eq!(stay(&age, "2026-12-03T02-59-59Z", &days(30)), ["30"]);
    assert_eq!(stay(&age, "2027-11-30T00-00-00Z", &days(30)), ["30"]);
    assert_eq!(stay(&age, "2020-01-01T00-00-00Z", &days(30)).len(), 30);
}

#[test]
fn of_each_period_the_newest_stays() {
    let [days_only, weeks, months, years] =
        [[5, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 3]].map(|periods| Rules { periods, ..rules() });
    assert_eq!(stay(&days_only, NOW, &days(30)), ["26", "27", "28", "29", "30"]);
    // Weeks begin on Monday: the 29th is a Sunday, the 30th a Monday.
    assert_eq!(stay(&weeks, NOW, &days(30)), ["29", "30"]);
    assert_eq!(stay(&months, "2026-12-03T12-00-00Z", &days(33)), ["30", "03"]);
    assert_eq!(stay(&years, NOW, &days(30)), ["30"]);
}

#[test]
fn a_day_with_many_backups_keeps_its_last_and_a_gap_costs_no_period() {
    let backups = [
        "2026-11-01T01-00-00Z",
        "2026-11-01T23-00-00Z",
        "2026-11-20T01-00-00Z",
        "2026-11-20T02-00-00Z",
        "2026-11-21T01-00-00Z",
    ]
    .map(scheduled);
    let rules = Rules {
        periods: [3, 0, 0, 0],
        ..rules()
    };
    let reasons = plan(&rules, point(NOW).seconds(), &backups);
    let kept: Vec<bool> = reasons.iter().map(|reasons| !reasons.is_empty()).collect();
    assert_eq!(kept, [false, true, false, true, true]);
    assert_eq!(reasons[1], [Reason::Period(Period::Day, "2026-11-01".to_owned())]);
}

#[test]
fn days_are_those_of_the_zone() {
    let backups = ["2026-11-20T21-30-00Z", "2026-11-20T22-30-00Z", "2026-11-20T23-30-00Z"].map(scheduled);
    let with = |zone: &str, backups: &[Candidate]| {
        let rules = Rules {
            periods: [9, 0, 0, 0],
            zone: Zone::parse(zone).unwrap(),
            ..rules()
        };
        let reasons = plan(&rules, point(NOW).seconds(), backups);
        reasons.iter().filter(|reasons| !reasons.is_empty()).count()
    };
    assert_eq!(with("UTC", &backups), 1);
    assert_eq!(with("UTC+01:00", &backups), 2);
    assert_eq!(with("UTC+02:00", &backups), 2);
    assert_eq!(with("UTC+03:00", &backups), 1);
}

#[test]
fn rules_add_to_each_other() {
    let both = Rules {
        number: Some(2),
        periods: [5, 1, 0, 0],
        ..rules()
    };
    assert_eq!(stay(&both, NOW, &days(30)), ["26", "27", "28", "29", "30"]);
    let reasons = plan(&both, point(NOW).seconds(), &days(30));
    let texts: Vec<String> = reasons[29].iter().map(Reason::text).collect();
    assert_eq!(texts, ["newest", "number 1", "day 2026-11-30", "week 2026-W49"]);
}

#[test]
fn what_no_schedule_made_stays_and_is_not_counted() {
    let mut backups = days(10);
    backups[9].maker = Maker::Hand;
    backups[8].pinned = true;
    backups[7].locked = true;
    backups[6].maker = Maker::Unknown;
    let rules = Rules {
        number: Some(2),
        ..rules()
    };
    assert_eq!(stay(&rules, NOW, &backups), ["05", "06", "07", "08", "09", "10"]);
    let reasons = plan(&rules, point(NOW).seconds(), &backups);
    assert_eq!(reasons[9], [Reason::Newest, Reason::Manual]);
    assert_eq!(reasons[8], [Reason::Pinned]);
    assert_eq!(reasons[7], [Reason::Locked]);
    assert_eq!(reasons[6], [Reason::Unreadable]);
    assert_eq!(reasons[5], [Reason::Number(1)]);
}

#[test]
fn the_rules_of_one_schedule_leave_the_others_alone() {
    let mut backups = days(6);
    for backup in &mut backups[..3] {
        backup.maker = Maker::Schedule("hourly".to_owned());
    }
    let rules = Rules {
        number: Some(1),
        schedule: Some("daily".to_owned()),
        ..rules()
    };
    assert_eq!(stay(&rules, NOW, &backups), ["01", "02", "03", "06"]);
}

#[test]
fn every_rule_by_itself_keeps_no_less_with_another_beside_it() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |most: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % most
    };
    for round in 0..200 {
        let mut backups = days(40);
        for backup in &mut backups {
            let jitter = i64::try_from(next(200_000)).unwrap();
            backup.point = Point::from_seconds(backup.point.seconds() + jitter).unwrap();
            backup.pinned = next(10) == 0;
        }
        let small = |next: &mut dyn FnMut(u64) -> u64| u32::try_from(next(6)).unwrap();
        let one = Rules {
            number: Some(small(&mut next)),
            ..rules()
        };
        let other = Rules {
            periods: [0; 4].map(|_: i32| small(&mut next)),
            age: Some(i64::try_from(next(4_000_000)).unwrap()),
            ..rules()
        };
        let both = Rules {
            number: one.number,
            ..other.clone()
        };
        let now = point(NOW).seconds();
        let [one, other, both] = [one, other, both].map(|rules| {
            let reasons = plan(&rules, now, &backups);
            reasons.iter().map(|reasons| !reasons.is_empty()).collect::<Vec<_>>()
        });
        for place in 0..backups.len() {
            assert_eq!(one[place] || other[place], both[place], "round {round}, backup {place}");
        }
        assert!(both.contains(&true));
    }
}
