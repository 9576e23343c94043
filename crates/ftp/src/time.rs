//! Times of MDTM, MFMT, MLST and SITE UTIME, all in UTC.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use relais_proto::FileTime;

/// Reads a time-val: `YYYYMMDDHHMMSS`, with an optional fraction (RFC 3659, section 2.3).
///
/// `None` if it is none. A leap second is the last second of its minute. Digits of the fraction
/// after the ninth are dropped.
#[must_use]
pub fn parse_time(text: &str) -> Option<FileTime> {
    let (digits, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some((digits, fraction)) => (digits, fraction),
        None => (text, ""),
    };
    if digits.len() != 14 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| 10 * nanos + u32::from(digit - b'0'));
    Some(FileTime { seconds: seconds_of(digits)?, nanos })
}

/// Reads the time of SITE UTIME: `YYYYMMDDhhmm[ss]` (Pure-FTPd, ProFTPD).
#[must_use]
pub fn parse_utime(text: &str) -> Option<FileTime> {
    let seconds = match text.len() {
        12 => seconds_of(&format!("{text}00"))?,
        14 => seconds_of(text)?,
        _ => return None,
    };
    Some(FileTime { seconds, nanos: 0 })
}

/// Returns the seconds since 1970 of 14 digits.
fn seconds_of(digits: &str) -> Option<i64> {
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i8>().ok();
    let year = digits.get(0..4)?.parse::<i16>().ok()?;
    let second = number(12..14).filter(|second| *second <= 60)?.min(59);
    let time = DateTime::new(
        year,
        number(4..6)?,
        number(6..8)?,
        number(8..10)?,
        number(10..12)?,
        second,
        0,
    );
    Some(time.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Writes a time-val without a fraction, as MDTM and MLST show it.
///
/// A time outside of the years 0 to 9999 shows the nearest one that four digits can name.
#[must_use]
pub fn format_time(time: FileTime) -> String {
    let time = civil(time);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        time.year().max(0),
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Returns date and time of day in UTC; the nearest one for a time outside of the calendar.
pub(crate) fn civil(time: FileTime) -> DateTime {
    let first = Timestamp::MIN.as_second().max(YEAR_ZERO);
    let seconds = time.seconds.clamp(first, Timestamp::MAX.as_second());
    TimeZone::UTC.to_datetime(Timestamp::from_second(seconds).unwrap_or_default())
}

/// The first second of the year 0.
const YEAR_ZERO: i64 = -62_167_219_200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds) in [
            ("19700101000000", 0),
            ("19691231235959", -1),
            ("19980615100045", 897_904_845),
            ("20261130090000", 1_796_029_200),
            ("20240229120000", 1_709_208_000),
            ("00000101000000", YEAR_ZERO),
            ("99991230215959", 253_402_207_199),
        ] {
            let time = FileTime { seconds, nanos: 0 };
            assert_eq!(parse_time(text), Some(time), "{text}");
            assert_eq!(format_time(time), text);
        }
    }

    #[test]
    fn fractions_and_leap_seconds_are_read() {
        // The examples of RFC 3659, section 2.3.
        let time = |seconds, nanos| Some(FileTime { seconds, nanos });
        assert_eq!(parse_time("19990929003355.237"), time(938_565_235, 237_000_000));
        assert_eq!(parse_time("19990929003355.0000000019"), time(938_565_235, 1));
        assert_eq!(parse_time("20161231235960"), parse_time("20161231235959"));
    }

    #[test]
    fn other_texts_are_no_times() {
        for bad in [
            "",
            "1998061510004",
            "199806151000455",
            "19980615100045.",
            "19980615100045.x",
            "19980615100045.1.2",
            "+9980615100045",
            "19981315100045",
            "19980230100045",
            "19980615240045",
            "19980615106045",
            "19980615100061",
            "1998061510004é",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn utime_has_minutes_or_seconds() {
        let time = |seconds| Some(FileTime { seconds, nanos: 0 });
        assert_eq!(parse_utime("199806151000"), time(897_904_800));
        assert_eq!(parse_utime("19980615100045"), time(897_904_845));
        assert_eq!(parse_utime("1998061510"), None);
        assert_eq!(parse_utime("199806151000x"), None);
    }

    #[test]
    fn extreme_times_are_shown() {
        for seconds in [i64::MIN, i64::MAX, Timestamp::MIN.as_second()] {
            assert_eq!(format_time(FileTime { seconds, nanos: 0 }).len(), 14);
        }
    }
}
