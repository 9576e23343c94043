//! Sizes and times as people read them.

use jiff::Timestamp;
use relais_proto::FileTime;

/// Units of 1,024 of the unit before.
const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Returns a size with at most three digits and its unit, such as `1.5 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    // Tenths of the unit, rounded to the nearest.
    let mut tenths = (u128::from(bytes) * 10 + 512) / 1024;
    // From 1,000 units on the next unit is shorter.
    while tenths >= 9_995 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    let whole = tenths / 10;
    if whole < 10 {
        format!("{whole}.{} {}", tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", (tenths + 5) / 10, UNITS[unit])
    }
}

/// Returns a time in UTC, such as `2026-11-30 12:01`; none outside of the calendar's range.
#[must_use]
pub fn time(time: FileTime) -> Option<String> {
    let time = Timestamp::from_second(time.seconds).ok()?;
    Some(time.strftime("%Y-%m-%d %H:%M").to_string())
}

/// Returns a time as in RFC 3339 with seconds, such as `2026-11-30T12:01:00Z`.
#[must_use]
pub fn machine_time(time: FileTime) -> Option<String> {
    Timestamp::from_second(time.seconds).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (10 * 1024 - 52, "9.9 KiB"),
            (10 * 1024 - 51, "10 KiB"),
            (999 * 1024, "999 KiB"),
            (1000 * 1024, "1.0 MiB"),
            (1024 * 1024, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn times_are_utc() {
        let at = FileTime { seconds: 1_764_504_060, nanos: 9 };
        assert_eq!(time(at).as_deref(), Some("2025-11-30 12:01"));
        assert_eq!(machine_time(at).as_deref(), Some("2025-11-30T12:01:00Z"));
        assert_eq!(time(FileTime { seconds: i64::MAX, nanos: 0 }), None);
    }
}
