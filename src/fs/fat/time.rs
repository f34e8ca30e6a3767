//! Times as FAT and exFAT pack them: date and time of 16 bits each, years from 1980 to 2107.

use super::super::Timestamp;

/// Decodes a packed date and time, with `hundredths` of a second up to 199 to add. No zone is kept: the time counts as UTC, as it does
/// on a Linux machine whose clock is in UTC.
///
/// Fields out of range come from damage and cannot be refused (there is no other time to give): month and day are clamped, the rest
/// counts on.
///
/// # Source
/// Microsoft FAT specification, section 6.3 "Date and Time Formats"; exFAT specification, section 7.4.8 "Timestamp Fields".
pub(crate) fn decode(date: u16, time: u16, hundredths: u8) -> Timestamp {
    let [day, month, years] = [date & 31, date >> 5 & 15, date >> 9].map(i64::from);
    let [double_seconds, minutes, hours] = [time & 31, time >> 5 & 63, time >> 11].map(i64::from);
    let days = days_before(1980 + years, month.clamp(1, 12)) + day.max(1) - 1;
    let hundredths = u32::from(hundredths.min(199));
    Timestamp {
        seconds: ((days * 24 + hours) * 60 + minutes) * 60 + double_seconds * 2 + i64::from(hundredths / 100),
        nanos: hundredths % 100 * 10_000_000,
    }
}

/// Days from 1970 to the first of a month; `year` is 1980 to 2107, `month` 1 to 12.
fn days_before(year: i64, month: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let last = year - 1;
    let leap_years = (last / 4 - last / 100 + last / 400) - 477;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = usize::try_from(month - 1).ok().and_then(|month| BEFORE.get(month));
    (year - 1970) * 365 + leap_years + months.unwrap_or(&0) + i64::from(is_leap && month > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(year: u16, month: u16, day: u16) -> i64 {
        decode((year - 1980) << 9 | month << 5 | day, 0, 0).seconds
    }

    #[test]
    fn dates_from_1980_to_2107_are_told() {
        assert_eq!(seconds(1980, 1, 1), 315_532_800);
        assert_eq!(seconds(2000, 2, 29) + 86_400, seconds(2000, 3, 1));
        assert_eq!(seconds(2026, 11, 21), 1_795_219_200);
        assert_eq!(seconds(2100, 2, 28) + 86_400, seconds(2100, 3, 1));
        assert_eq!(seconds(2107, 12, 31), 4_354_732_800);
        let last = decode(0xff9f, 23 << 11 | 59 << 5 | 29, 199);
        assert_eq!((last.seconds, last.nanos), (4_354_732_800 + 86_399, 990_000_000));
    }

    #[test]
    fn a_date_of_zero_is_the_first_day() {
        assert_eq!(decode(0, 0, 0).seconds, 315_532_800);
        assert!(decode(0xffff, 0xffff, 0xff).nanos < 1_000_000_000);
    }
}
