//! Time: the clock as a trait, the one spelling of a point in time, `2026-11-20T03-00-00Z`, and the days of a time zone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where "now" comes from; tests bring their own.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> Seconds;

    /// Time since this machine started, with the time it was suspended: nobody sets it, and nothing turns it back.
    fn uptime(&self) -> Duration {
        uptime()
    }

    /// Waits.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Time since this machine started, with the time it was suspended.
#[must_use]
pub fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Whole seconds since 1970-01-01T00:00:00Z, negative before.
pub type Seconds = i64;

/// The system's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Seconds {
        jiff::Timestamp::now().as_second()
    }
}

/// The name of a backup: its UTC time to the second, without colons (Samba, scp and Windows choke on them).
///
/// Years 1970 to 9999, so that names sort as times do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point(Seconds);

impl Point {
    /// The last second of a four-digit year that every time zone can name: 9999-12-30T22:00:00Z.
    const LAST: Seconds = 253_402_207_200;

    /// Makes a point from seconds since 1970; `None` outside 1970..=9999.
    #[must_use]
    pub fn from_seconds(seconds: Seconds) -> Option<Self> {
        (0..=Self::LAST).contains(&seconds).then_some(Self(seconds))
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn seconds(self) -> Seconds {
        self.0
    }

    /// Reads a time as a user gives it: a point, an RFC 3339 time with zone (`2026-11-20T04:00:00+01:00`), or `@seconds`.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    pub fn parse_user(text: &str) -> Result<Self, String> {
        let seconds = if let Some(number) = text.strip_prefix('@') {
            number.parse().ok()
        } else if let Ok(point) = text.parse::<Self>() {
            return Ok(point);
        } else {
            text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
        };
        seconds.and_then(Self::from_seconds).ok_or_else(|| {
            format!("{text:?} is not a time; write for example 2026-11-20T03-00-00Z, 2026-11-20T04:00:00+01:00 or @1795143600")
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_second(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{}", time.strftime("%Y-%m-%dT%H-%M-%SZ"))
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a point; a point reads 2026-11-20T03-00-00Z");
        let time = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%SZ", text).map_err(|_| wrong())?;
        let seconds = time
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|_| wrong())?
            .timestamp()
            .as_second();
        let point = Self::from_seconds(seconds).ok_or_else(wrong)?;
        // One spelling only: what strptime takes leniently (short fields, spaces) is refused here.
        if point.to_string() == text {
            Ok(point)
        } else {
            Err(wrong())
        }
    }
}

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday, as ISO 8601 counts them.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// Every period, the shortest first.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    /// The period in one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

/// A time zone: says which day an instant belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    rules: jiff::tz::TimeZone,
}

impl Zone {
    /// Where days begin at midnight UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            name: "UTC".to_owned(),
            rules: jiff::tz::TimeZone::UTC,
        }
    }

    /// Reads a zone as a user gives it: a name of the time zone database, `Europe/Berlin`, or a distance, `UTC+01:00` or `+01:00`.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let distance = text.strip_prefix("UTC").unwrap_or(text);
        let rules = if text == "UTC" {
            Some(jiff::tz::TimeZone::UTC)
        } else if distance.starts_with(['+', '-']) {
            offset(distance).map(jiff::tz::TimeZone::fixed)
        } else {
            jiff::tz::TimeZone::get(text).ok()
        };
        let rules = rules.ok_or_else(|| {
            format!(
                "{text:?} is no time zone that is known here; write for example Europe/Berlin (needs the system's time zone \
                 database), UTC or UTC+01:00"
            )
        })?;
        let name = text.to_owned();
        Ok(Self { name, rules })
    }

    /// As it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the period that a point lies in: `2026-11-20`, `2026-W47`, `2026-11`, `2026`.
    #[must_use]
    pub fn period(&self, period: Period, point: Point) -> String {
        let time = jiff::Timestamp::from_second(point.seconds()).unwrap_or(jiff::Timestamp::MAX);
        let date = time.to_zoned(self.rules.clone()).date();
        match period {
            Period::Day => date.to_string(),
            Period::Week => {
                let week = date.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Period::Month => format!("{:04}-{:02}", date.year(), date.month()),
            Period::Year => format!("{:04}", date.year()),
        }
    }
}

/// Reads `+01:00`.
fn offset(text: &str) -> Option<jiff::tz::Offset> {
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let number = |digits: &str, most: i32| {
        let all_digits = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .parse::<i32>()
            .ok()
            .filter(|number| all_digits && *number <= most)
    };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60;
    jiff::tz::Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok()
}

/// Parses a stretch of time as people write it: `36h`, `30d`, `8w`; a number alone means days. At most 99,999 days.
///
/// # Errors
/// A sentence saying what was expected.
pub fn parse_span(text: &str) -> Result<Seconds, String> {
    const DAY: Seconds = 86_400;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("h") => Some(3600),
        Some("d" | "") => Some(DAY),
        Some("w") => Some(7 * DAY),
        _ => None,
    };
    let plain = digits.starts_with(|c: char| c.is_ascii_digit());
    let number = digits.parse::<u32>().ok().filter(|number| plain && *number > 0);
    unit.zip(number)
        .and_then(|(unit, number)| unit.checked_mul(Seconds::from(number)))
        .filter(|span| *span <= 99_999 * DAY)
        .ok_or_else(|| format!("{text:?} is no stretch of time up to 99999 days; write for example 36h, 30d or 8w"))
}

/// Renders seconds since 1970 as RFC 3339 in UTC, for people and JSON: `2026-11-20T03:00:00Z`.
#[must_use]
pub fn rfc3339(seconds: Seconds) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Renders a time as RFC 3339 in UTC with nine digits: `2026-11-20T03:00:00.000000000Z`; seconds and digits where no date has room.
#[must_use]
pub fn rfc3339_nanos(seconds: Seconds, nanos: u32) -> String {
    with_nanos(seconds, nanos, "%Y-%m-%dT%H:%M:%S.%9fZ")
}

/// Renders a time as `ls --full-time` does: `2026-11-20 03:00:00.000000000 +0000`; seconds and digits where no date has room.
#[must_use]
pub fn full_time(seconds: Seconds, nanos: u32) -> String {
    with_nanos(seconds, nanos, "%Y-%m-%d %H:%M:%S.%9f +0000")
}

fn with_nanos(seconds: Seconds, nanos: u32, format: &str) -> String {
    let digits = i32::try_from(nanos).ok();
    let time = digits.and_then(|nanos| jiff::Timestamp::new(seconds, nanos).ok());
    time.map_or_else(
        || format!("{seconds}.{nanos:09}"),
        |time| time.strftime(format).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_one_spelling() {
        let point: Point = "2026-11-20T03-00-00Z".parse().unwrap();
        assert_eq!(point.to_string(), "2026-11-20T03-00-00Z");
        assert_eq!(rfc3339(point.seconds()), "2026-11-20T03:00:00Z");
        for bad in [
            "2026-11-20T3-0-0Z",
            "2026-11-20T03:00:00Z",
            "2026-13-01T00-00-00Z",
            " 2026-11-20T03-00-00Z",
            "latest",
            "",
        ] {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_point_can_be_written() {
        let last = Point::from_seconds(Point::LAST).unwrap();
        assert_eq!(last.to_string(), "9999-12-30T22-00-00Z");
        assert_eq!(last.to_string().parse(), Ok(last));
        assert_eq!(Point::from_seconds(Point::LAST + 1), None);
        for zone in ["UTC+23:59", "UTC-23:59"] {
            assert_eq!(Zone::parse(zone).unwrap().period(Period::Year, last), "9999");
        }
    }

    #[test]
    fn an_instant_belongs_to_the_day_of_its_zone() {
        let point: Point = "2026-12-31T23-30-00Z".parse().unwrap();
        let names = |zone: &Zone| Period::ALL.map(|period| zone.period(period, point));
        let utc = ["2026-12-31", "2026-W53", "2026-12", "2026"];
        let east = ["2027-01-01", "2026-W53", "2027-01", "2027"];
        assert_eq!(names(&Zone::utc()), utc);
        for zone in ["UTC", "UTC-09:30", "-01:00", "+00:29"] {
            assert_eq!(names(&Zone::parse(zone).unwrap()), utc, "{zone}");
        }
        for zone in ["UTC+01:00", "+00:30"] {
            assert_eq!(names(&Zone::parse(zone).unwrap()), east, "{zone}");
        }
        // Summer time counts: 22:30 UTC is half past midnight in July, half past eleven in January.
        if let Ok(berlin) = Zone::parse("Europe/Berlin") {
            let day = |text: &str| berlin.period(Period::Day, text.parse().unwrap());
            assert_eq!(day("2026-07-01T22-30-00Z"), "2026-07-02");
            assert_eq!(day("2026-01-01T22-30-00Z"), "2026-01-01");
        }
        for bad in [
            "",
            "+1:00",
            "+24:00",
            "+01:60",
            "UTC+",
            "Mars/Olympus",
            "+0100",
            "../etc/passwd",
        ] {
            assert!(Zone::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stretches_of_time_have_a_unit_and_a_limit() {
        for (text, hours) in [
            ("36h", 36),
            ("30d", 720),
            ("30", 720),
            ("2w", 336),
            ("99999d", 2_399_976),
        ] {
            assert_eq!(parse_span(text), Ok(hours * 3600), "{text}");
        }
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "1m",
            "1.5d",
            "1 d",
            "100000d",
            "99999999999w",
            "30dd",
            "+3d",
        ] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nanoseconds_are_told_in_full_before_and_after_1970() {
        assert_eq!(rfc3339_nanos(1_795_143_600, 5), "2026-11-20T03:00:00.000000005Z");
        assert_eq!(full_time(-1, 750_000_000), "1969-12-31 23:59:59.750000000 +0000");
        assert_eq!(full_time(0, 0), "1970-01-01 00:00:00.000000000 +0000");
        assert_eq!(rfc3339_nanos(i64::MAX, 1), "9223372036854775807.000000001");
    }

    #[test]
    fn users_may_write_zones_and_seconds() {
        let point: Point = "2026-11-20T03-00-00Z".parse().unwrap();
        assert_eq!(Point::parse_user("2026-11-20T04:00:00+01:00"), Ok(point));
        assert_eq!(Point::parse_user(&format!("@{}", point.seconds())), Ok(point));
        for bad in ["@-1", "yesterday", "2026-11-20", "@253402300800"] {
            assert!(Point::parse_user(bad).is_err(), "{bad}");
        }
    }
}
