//! The header Timeout (RFC 4918, section 10.7).

/// Returns the seconds that a lock shall hold: the first that the header offers, capped.
///
/// A lock without an end gets the longest time, and so does a header that cannot be read.
#[must_use]
pub fn timeout(header: Option<&str>, most: u32) -> u32 {
    let mut offers = header.unwrap_or_default().split(',').map(str::trim);
    let seconds = offers.find_map(|offer| {
        if offer.eq_ignore_ascii_case("infinite") {
            return Some(most);
        }
        let (unit, number) = offer.split_at_checked("Second-".len())?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let is_valid = unit.eq_ignore_ascii_case("Second-") && is_number;
        // A number that does not fit is more than any cap.
        is_valid.then(|| number.parse().unwrap_or(most))
    });
    seconds.unwrap_or(most).clamp(1, most.max(1))
}
