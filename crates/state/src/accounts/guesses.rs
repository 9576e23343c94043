//! How long an address has to wait after wrong passwords.
//!
//! Addresses have places in a table of fixed size, found by a keyed hash, so that nobody can choose with whom to share one. Each
//! place remembers the address that was there last: another one is not slowed by it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use relais_proto::network_of;

/// Wrong passwords that cost nothing: people mistype.
const FREE: u32 = 3;
/// Wait after the first one more; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Time after which one wrong password is forgotten.
const FORGIVEN: Duration = Duration::from_secs(30);
/// A place holds a tag of the address in its upper 24 bits, then 8 bits of wrong passwords, then when the last one came, in tenths of a second.
const TAG_SHIFT: u32 = 40;
const COUNT_SHIFT: u32 = 32;

/// The table.
#[derive(Debug, Clone)]
pub struct Guesses {
    key: [u8; 32],
}

impl Guesses {
    /// Places in the table.
    pub const PLACES: usize = 4096;

    /// A table with a key of its own. The places themselves are the caller's, so that processes can share them.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { key: crate::random()? })
    }

    /// How long this address has to wait before its next password is looked at, at `now` since any fixed moment.
    pub fn wait(&self, places: &[AtomicU64], addr: IpAddr, now: Duration) -> Duration {
        let (place, tag) = self.place(places, addr);
        let (count, last) = read(place.load(SeqCst), tag, now);
        let Some(above) = count.checked_sub(FREE + 1) else { return Duration::ZERO };
        let wait = FIRST_WAIT.saturating_mul(1 << above.min(8)).min(LAST_WAIT);
        wait.saturating_sub(now.saturating_sub(last))
    }

    /// A wrong password came from this address.
    pub fn failed(&self, places: &[AtomicU64], addr: IpAddr, now: Duration) {
        let (place, tag) = self.place(places, addr);
        let tenths = u64::try_from(now.as_millis() / 100).unwrap_or(u64::MAX) & 0xffff_ffff;
        let _ = place.fetch_update(SeqCst, SeqCst, |word| {
            let (count, _) = read(word, tag, now);
            Some(tag << TAG_SHIFT | u64::from((count + 1).min(255)) << COUNT_SHIFT | tenths)
        });
    }

    fn place<'a>(&self, places: &'a [AtomicU64], addr: IpAddr) -> (&'a AtomicU64, u64) {
        let bytes = match network_of(addr) {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
            IpAddr::V6(addr) => addr.octets(),
        };
        let hash = blake3::keyed_hash(&self.key, &bytes);
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let number = u64::from_le_bytes(*first);
        let place = usize::try_from(number % places.len() as u64).unwrap_or(0);
        // A tag of 0 is that of an empty place.
        (&places[place], (number >> TAG_SHIFT).max(1))
    }
}

/// The wrong passwords of this address that are not forgotten, and when the last one came.
fn read(word: u64, tag: u64, now: Duration) -> (u32, Duration) {
    if word >> TAG_SHIFT != tag {
        return (0, Duration::ZERO);
    }
    let last = Duration::from_millis((word & 0xffff_ffff) * 100);
    let forgiven = now.saturating_sub(last).as_secs() / FORGIVEN.as_secs();
    let count = u32::try_from(word >> COUNT_SHIFT & 0xff).unwrap_or(0);
    (count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Guesses, Vec<AtomicU64>) {
        (Guesses::new().unwrap(), (0..Guesses::PLACES).map(|_| AtomicU64::new(0)).collect())
    }

    #[test]
    fn the_wait_grows_and_is_forgotten() {
        let (guesses, places) = table();
        let addr: IpAddr = "192.0.2.1".parse().unwrap();
        let mut now = Duration::from_secs(1000);
        let mut waits = Vec::new();
        for _ in 0..9 {
            guesses.failed(&places, addr, now);
            let wait = guesses.wait(&places, addr, now);
            waits.push(wait.as_millis());
            now += wait;
            assert_eq!(guesses.wait(&places, addr, now), Duration::ZERO, "it is over then");
        }
        assert_eq!(waits, [0, 0, 0, 500, 1000, 2000, 4000, 5000, 5000]);
        now += FORGIVEN * 7;
        guesses.failed(&places, addr, now);
        assert_eq!(guesses.wait(&places, addr, now), Duration::ZERO, "most were forgotten");
        (0..1000).for_each(|_| guesses.failed(&places, addr, now));
        assert_eq!(guesses.wait(&places, addr, now), LAST_WAIT);
    }

    #[test]
    fn others_are_not_slowed() {
        let (guesses, places) = table();
        let addr = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        let now = Duration::from_secs(5);
        (0..20).for_each(|_| guesses.failed(&places, addr(1), now));
        assert!((2..20_000).all(|n| guesses.wait(&places, addr(n), now).is_zero()));
        assert!(!guesses.wait(&places, addr(1), now).is_zero());
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written_and_a_network_is_one() {
        let (guesses, places) = table();
        let now = Duration::from_secs(5);
        let fail =
            |addr: &str| (0..9).for_each(|_| guesses.failed(&places, addr.parse().unwrap(), now));
        let waits = |addr: &str| !guesses.wait(&places, addr.parse().unwrap(), now).is_zero();
        fail("::ffff:192.0.2.1");
        assert!(waits("192.0.2.1"));
        fail("2001:db8:1:2::1");
        assert!(waits("2001:db8:1:2:ffff::9") && !waits("2001:db8:1:3::1"));
    }
}
