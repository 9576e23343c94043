//! Dates of header fields.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that a date can name: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// Returns a time as `IMF-fixdate` (RFC 9110, section 5.6.7).
///
/// Times before 1970 or after 9999 become the nearest date that the form has.
#[must_use]
pub fn format(time: SystemTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds(time)))
}

/// Parses a date in one of the three forms of RFC 9110, section 5.6.7.
#[must_use]
pub fn parse(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

/// Returns the second of a time as its date tells it.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().min(LAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_one_form_and_are_read_in_three() {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(format(time), "Sun, 06 Nov 1994 08:49:37 GMT");
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text), Some(time), "{text}");
        }
        for text in ["", "now", "Sun, 06 Nov 1994 08:49:37", "1994-11-06T08:49:37Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn times_without_a_date_have_the_nearest_one() {
        let early = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(format(early), "Thu, 01 Jan 1970 00:00:00 GMT");
        let late = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(format(late), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
