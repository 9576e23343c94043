//! Lines of LIST, in the form of `ls -l`, and of NLST.
//!
//! RFC 959 leaves the form open. Clients parse that of `ls` (`draft-bernstein-eplf` lists forms).

use relais_proto::{Entry, FileTime, Kind};

use crate::time::civil;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Half of a mean Gregorian year in seconds: `ls` shows the year of older files.
const SIX_MONTHS: i64 = 31_556_952 / 2;
/// A file this much newer than the clock is not in the future: clocks of slaves differ.
const CLOCK_SKEW: i64 = 60;
/// Narrowest column for a size; a longer one moves the columns after it.
const SIZE_WIDTH: usize = 12;

/// Appends the line of an entry for LIST: `-rw-r--r--   1 ftp      ftp …`.
///
/// The time is in UTC. It shows hour and minute if the file was changed in the six months before
/// `now`, and else the year.
pub fn write_list_line(to: &mut Vec<u8>, entry: &Entry, now: FileTime) {
    write_mode(to, entry);
    to.extend_from_slice(b"   1 ftp      ftp      ");
    write_number(to, entry.size, SIZE_WIDTH, b' ');
    to.push(b' ');
    write_date(to, entry.mtime, now);
    to.push(b' ');
    to.extend_from_slice(entry.name.as_bytes());
    to.extend_from_slice(b"\r\n");
}

/// Appends the line of a name for NLST (RFC 959, section 4.1.3).
///
/// `folder` is what the client wrote before the name, so that it can use the line as a path: empty,
/// or with a final `/`.
pub fn write_nlst_line(to: &mut Vec<u8>, folder: &str, name: &str) {
    for text in [folder, name, "\r\n"] {
        to.extend_from_slice(text.as_bytes());
    }
}

fn write_mode(to: &mut Vec<u8>, entry: &Entry) {
    to.push(if entry.kind == Kind::Folder { b'd' } else { b'-' });
    for bit in (0..9).rev() {
        let letter = [b'x', b'w', b'r'].get(bit % 3).copied().unwrap_or_default();
        to.push(if entry.mode.bits() & (1 << bit) == 0 { b'-' } else { letter });
    }
}

fn write_date(to: &mut Vec<u8>, time: FileTime, now: FileTime) {
    let age = now.seconds.saturating_sub(time.seconds);
    let date = civil(time);
    let number = |to: &mut Vec<u8>, value: i8, fill| {
        write_number(to, value.unsigned_abs().into(), 2, fill);
    };
    let month = usize::try_from(date.month() - 1).ok().and_then(|month| MONTHS.get(month));
    to.extend_from_slice(month.map_or("Jan", |month| month).as_bytes());
    to.push(b' ');
    number(to, date.day(), b' ');
    to.push(b' ');
    if (-CLOCK_SKEW..SIX_MONTHS).contains(&age) {
        number(to, date.hour(), b'0');
        to.push(b':');
        number(to, date.minute(), b'0');
    } else {
        write_number(to, date.year().unsigned_abs().into(), 5, b' ');
    }
}

/// Appends a decimal number, filled up on its left.
///
/// By hand, because listings of 100,000 names are mostly this.
fn write_number(to: &mut Vec<u8>, mut number: u64, width: usize, fill: u8) {
    let mut digits = [fill; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        // A digit fits.
        digits[first] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[first.min(digits.len().saturating_sub(width))..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_time;
    use relais_proto::Mode;

    fn line(kind: Kind, mode: u32, size: u64, mtime: &str, now: &str) -> String {
        let mtime = parse_time(mtime).unwrap();
        let name = "naïve name".to_owned();
        let entry = Entry { name, kind, mode: Mode::new(mode), size, mtime, version: None };
        let mut to = Vec::new();
        write_list_line(&mut to, &entry, parse_time(now).unwrap());
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn lines_look_like_those_of_ls() {
        let now = "20261130090000";
        assert_eq!(
            line(Kind::File, 0o644, 1234, "20261105070809", now),
            "-rw-r--r--   1 ftp      ftp              1234 Nov  5 07:08 naïve name\r\n"
        );
        assert_eq!(
            line(Kind::Folder, 0o751, 0, "20240229235959", now),
            "drwxr-x--x   1 ftp      ftp                 0 Feb 29  2024 naïve name\r\n"
        );
        assert_eq!(
            line(Kind::File, 0, u64::MAX, "19700101000000", now),
            "----------   1 ftp      ftp      18446744073709551615 Jan  1  1970 naïve name\r\n"
        );
    }

    #[test]
    fn year_is_shown_after_six_months_and_in_the_future() {
        for (mtime, now, shown) in [
            ("20260601000000", "20261130090000", "Jun  1 00:00"),
            ("20260531000000", "20261130090000", "May 31  2026"),
            ("20251231235959", "20260101000000", "Dec 31 23:59"),
            ("20261130090059", "20261130090000", "Nov 30 09:00"),
            ("20261130090101", "20261130090000", "Nov 30  2026"),
            ("99991230000000", "20261130090000", "Dec 30  9999"),
            ("00000101000000", "20261130090000", "Jan  1     0"),
        ] {
            let line = line(Kind::File, 0o600, 1, mtime, now);
            assert!(line.contains(&format!(" {shown} naïve")), "{line}");
        }
    }

    #[test]
    fn extreme_times_give_a_line() {
        for seconds in [i64::MIN, -1, 0, i64::MAX] {
            let time = FileTime { seconds, nanos: 999_999_999 };
            for now in [i64::MIN, 0, i64::MAX] {
                let mut to = Vec::new();
                write_date(&mut to, time, FileTime { seconds: now, nanos: 0 });
                assert_eq!(to.len(), 12);
            }
        }
    }

    #[test]
    fn names_are_listed_as_paths() {
        let mut to = Vec::new();
        write_nlst_line(&mut to, "", "a b");
        write_nlst_line(&mut to, "dir/", "-x");
        assert_eq!(to, b"a b\r\ndir/-x\r\n");
    }
}
