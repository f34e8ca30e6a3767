//! Time: the clock as a trait, and the one spelling of a point in time, `2026-11-20T03-00-00Z`.

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
    /// The last second that four-digit years can name.
    const LAST: Seconds = 253_402_300_799;

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
