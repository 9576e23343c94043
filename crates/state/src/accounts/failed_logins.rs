//! What is remembered of logins: wrong passwords, by address, network and account; and networks that have logged in.
//!
//! Tables of fixed size, in memory that processes can share. A place is found by a keyed hash, so that nobody can choose with whom to
//! share one, and says whose it is: another one is not slowed by it. Only delays follow from it: no account is ever locked, and what
//! others do delays no network that has logged in before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use relais_proto::network_of;

/// Wrong passwords of an address that cost nothing: people mistype.
const FREE: u32 = 3;
/// The same of an IPv6 network of 48 bits, which may have many machines.
const FREE_OF_48: u32 = 48;
/// Wait after the first one more; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Time after which one wrong password of an address is forgotten.
const FORGIVEN: Duration = Duration::from_secs(30);
/// Time for which an address is not new after a wrong password.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// The same as [`FORGIVEN`] of an IPv6 network of 48 bits.
const FORGIVEN_OF_48: Duration = Duration::from_secs(3);

/// How often passwords may be wrong.
struct Allowance {
    /// In tenths of a second: after so long one more is allowed.
    each: u64,
    /// So many at once where the address has guessed wrong before.
    again: u64,
    /// So many at once where it has not: an owner who comes from a new address has to get in while many addresses guess.
    first: u64,
}

/// For one network that has logged in before, which has part in no other allowance: one a second.
const OF_NETWORK: Allowance = Allowance { each: 10, again: 16, first: 1024 };
/// For one account, from networks that have not logged in with it: one a second.
const OF_ACCOUNT: Allowance = Allowance { each: 10, again: 16, first: 1024 };
/// For all accounts together, from networks that have not logged in: ten a second.
const OF_ALL: Allowance = Allowance { each: 1, again: 64, first: 2048 };

/// Places in each of the tables: wrong passwords of addresses and networks, allowances, networks that have logged in.
const EACH: usize = 4096;
/// A place of the first table holds a tag of the address in its upper 24 bits, then 8 bits of wrong passwords, then when the last one
/// came, in tenths of a second. Others hold a tag, and a time in tenths of a second.
const TAG_SHIFT: u32 = 40;
const COUNT_SHIFT: u32 = 32;
const TIME: u64 = (1 << TAG_SHIFT) - 1;
/// Places of the last table in which a network may be: the oldest of these makes room.
const WAYS: usize = 4;

/// The tables.
#[derive(Debug, Clone)]
pub struct FailedLogins {
    key: [u8; 32],
}

/// What is remembered of whoever logs in. The lower, the earlier it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reputation {
    /// This very address has logged in before.
    Address,
    /// Its network has logged in before.
    Known,
    /// Nothing.
    New,
    /// So many wrong passwords.
    Wrong(u32),
}

impl FailedLogins {
    /// Places in the tables.
    pub const SLOTS: usize = 3 * EACH + 1;

    /// Tables with a key of their own. The places themselves are the caller's, so that processes can share them.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { key: crate::random()? })
    }

    /// How long this address has to wait before its next password for this account is looked at, at `now` since any fixed moment.
    pub fn wait(&self, places: &[AtomicU64], addr: IpAddr, user: &str, now: Duration) -> Duration {
        let own = self.wait_of(places, network_of(addr), (FREE, FORGIVEN), now);
        let known = self.has_logged_in(places, addr, None);
        let is_new = self.is_new(places, addr, now);
        let mut wait = own;
        if !(known && self.has_logged_in(places, addr, Some(user))) {
            wait = wait.max(OF_ACCOUNT.wait(self.account(places, user), is_new, now));
        }
        if known {
            wait = wait.max(OF_NETWORK.wait(self.network(places, addr), is_new, now));
        } else {
            wait = wait.max(OF_ALL.wait((&places[3 * EACH], 1), is_new, now));
            if let Some(network) = network_of_48(addr) {
                wait = wait.max(self.wait_of(places, network, (FREE_OF_48, FORGIVEN_OF_48), now));
            }
        }
        wait
    }

    /// A wrong password for this account came from this address.
    pub fn failed(&self, places: &[AtomicU64], addr: IpAddr, user: &str, now: Duration) {
        self.count(places, network_of(addr), FORGIVEN, now);
        let known = self.has_logged_in(places, addr, None);
        if !(known && self.has_logged_in(places, addr, Some(user))) {
            OF_ACCOUNT.take(self.account(places, user), now);
        }
        if known {
            OF_NETWORK.take(self.network(places, addr), now);
        } else {
            OF_ALL.take((&places[3 * EACH], 1), now);
            if let Some(network) = network_of_48(addr) {
                self.count(places, network, FORGIVEN_OF_48, now);
            }
        }
    }

    /// The right password for this account came from this address.
    pub fn succeeded(&self, places: &[AtomicU64], addr: IpAddr, user: &str, now: Duration) {
        for of in [of_network(addr, None), of_network(addr, Some(user)), of_address(addr)] {
            let (bucket, tag) = self.bucket(places, &of);
            let word = tag << TAG_SHIFT | tenths(now) & TIME;
            let own = bucket.iter().find(|place| place.load(SeqCst) >> TAG_SHIFT == tag);
            let place = own.or_else(|| bucket.iter().min_by_key(|place| place.load(SeqCst) & TIME));
            if let Some(place) = place {
                place.store(word, SeqCst);
            }
        }
    }

    /// What is remembered of this address.
    pub fn reputation(&self, places: &[AtomicU64], addr: IpAddr, now: Duration) -> Reputation {
        if self.is_remembered(places, &of_address(addr)) {
            return Reputation::Address;
        }
        if self.has_logged_in(places, addr, None) {
            return Reputation::Known;
        }
        if self.is_new(places, addr, now) {
            return Reputation::New;
        }
        Reputation::Wrong(self.wrong(places, network_of(addr), FORGIVEN, now).0.max(1))
    }

    /// Whether nothing is held against this address.
    fn is_new(&self, places: &[AtomicU64], addr: IpAddr, now: Duration) -> bool {
        self.wrong(places, network_of(addr), REMEMBERED, now).0 == 0
            && network_of_48(addr).is_none_or(|network| {
                self.wrong(places, network, FORGIVEN_OF_48, now).0 <= FREE_OF_48
            })
    }

    /// Whether somebody has logged in from this network; with a name, as this user.
    fn has_logged_in(&self, places: &[AtomicU64], addr: IpAddr, user: Option<&str>) -> bool {
        self.is_remembered(places, &of_network(addr, user))
    }

    fn is_remembered(&self, places: &[AtomicU64], of: &[u8]) -> bool {
        let (bucket, tag) = self.bucket(places, of);
        bucket.iter().any(|place| place.load(SeqCst) >> TAG_SHIFT == tag)
    }

    fn wait_of(
        &self,
        places: &[AtomicU64],
        network: IpAddr,
        (free, forgiven): (u32, Duration),
        now: Duration,
    ) -> Duration {
        let (count, last) = self.wrong(places, network, forgiven, now);
        let Some(above) = count.checked_sub(free + 1) else { return Duration::ZERO };
        let wait = FIRST_WAIT.saturating_mul(1 << above.min(8)).min(LAST_WAIT);
        wait.saturating_sub(now.saturating_sub(last))
    }

    fn count(&self, places: &[AtomicU64], network: IpAddr, forgiven: Duration, now: Duration) {
        let (place, tag) = self.place(&places[..EACH], &octets(network));
        let tenths = tenths(now) & 0xffff_ffff;
        let _ = place.fetch_update(SeqCst, SeqCst, |word| {
            let (count, _) = read(word, tag, forgiven, now);
            Some(tag << TAG_SHIFT | u64::from((count + 1).min(255)) << COUNT_SHIFT | tenths)
        });
    }

    /// The wrong passwords of a network that are not forgotten, and when the last one came.
    fn wrong(
        &self,
        places: &[AtomicU64],
        network: IpAddr,
        forgiven: Duration,
        now: Duration,
    ) -> (u32, Duration) {
        let (place, tag) = self.place(&places[..EACH], &octets(network));
        read(place.load(SeqCst), tag, forgiven, now)
    }

    fn account<'a>(&self, places: &'a [AtomicU64], user: &str) -> (&'a AtomicU64, u64) {
        self.place(&places[EACH..2 * EACH], user.as_bytes())
    }

    fn network<'a>(&self, places: &'a [AtomicU64], addr: IpAddr) -> (&'a AtomicU64, u64) {
        // No name of a user begins with a 0.
        let mut bytes = vec![0];
        bytes.extend(octets(wider_network_of(addr)));
        self.place(&places[EACH..2 * EACH], &bytes)
    }

    fn bucket<'a>(&self, places: &'a [AtomicU64], of: &[u8]) -> (&'a [AtomicU64], u64) {
        let number = self.hash(of);
        let table = &places[2 * EACH..3 * EACH];
        let buckets = table.len() / WAYS;
        let first = usize::try_from(number % buckets as u64).unwrap_or(0) * WAYS;
        (&table[first..first + WAYS], (number >> TAG_SHIFT).max(1))
    }

    fn place<'a>(&self, table: &'a [AtomicU64], of: &[u8]) -> (&'a AtomicU64, u64) {
        let number = self.hash(of);
        let place = usize::try_from(number % table.len() as u64).unwrap_or(0);
        // A tag of 0 is that of an empty place.
        (&table[place], (number >> TAG_SHIFT).max(1))
    }

    fn hash(&self, of: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.key, of);
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_le_bytes(*first)
    }
}

impl Allowance {
    /// How long until one more may be wrong. The place says when all of the allowance will be there again.
    fn wait(&self, (place, tag): (&AtomicU64, u64), is_new: bool, now: Duration) -> Duration {
        let word = place.load(SeqCst);
        if word >> TAG_SHIFT != tag {
            return Duration::ZERO;
        }
        let at_once = if is_new { self.first } else { self.again };
        let used = (word & TIME).saturating_sub(tenths(now));
        let above = (used + self.each).saturating_sub(at_once * self.each);
        Duration::from_millis(above * 100).min(LAST_WAIT)
    }

    /// One more was wrong.
    fn take(&self, (place, tag): (&AtomicU64, u64), now: Duration) {
        let now = tenths(now);
        let most = now + 2 * self.first * self.each;
        let _ = place.fetch_update(SeqCst, SeqCst, |word| {
            let full = if word >> TAG_SHIFT == tag { (word & TIME).max(now) } else { now };
            Some(tag << TAG_SHIFT | (full + self.each).min(most) & TIME)
        });
    }
}

/// What is remembered of a network that has logged in; with a name, as this user.
fn of_network(addr: IpAddr, user: Option<&str>) -> Vec<u8> {
    let mut bytes = octets(wider_network_of(addr)).to_vec();
    bytes.extend(user.map(str::as_bytes).unwrap_or_default());
    bytes
}

/// What is remembered of an address that has logged in. No name of a user begins with a 0.
fn of_address(addr: IpAddr) -> Vec<u8> {
    let mut bytes = octets(network_of(addr)).to_vec();
    bytes.push(0);
    bytes
}

fn tenths(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / 100).unwrap_or(TIME) & TIME
}

fn octets(network: IpAddr) -> [u8; 16] {
    match network {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

/// The network of 48 bits that an IPv6 address is in: what one customer may have.
fn network_of_48(addr: IpAddr) -> Option<IpAddr> {
    match addr.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(addr) => {
            let bits = addr.to_bits() & (u128::MAX << 80);
            // Its last bit, which no network of 64 bits has, tells it from the first of those.
            Some(Ipv6Addr::from_bits(bits | 1).into())
        }
    }
}

/// The network that somebody who comes again may be in: 24 bits of IPv4, 64 of IPv6.
fn wider_network_of(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() & 0xffff_ff00).into(),
        addr @ IpAddr::V6(_) => network_of(addr),
    }
}

/// The wrong passwords of this address that are not forgotten, and when the last one came.
fn read(word: u64, tag: u64, forgiven: Duration, now: Duration) -> (u32, Duration) {
    if word >> TAG_SHIFT != tag {
        return (0, Duration::ZERO);
    }
    let last = Duration::from_millis((word & 0xffff_ffff) * 100);
    let forgotten = now.saturating_sub(last).as_millis() / forgiven.as_millis();
    let count = u32::try_from(word >> COUNT_SHIFT & 0xff).unwrap_or(0);
    (count.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX)), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (FailedLogins, Vec<AtomicU64>) {
        (
            FailedLogins::new().unwrap(),
            (0..FailedLogins::SLOTS).map(|_| AtomicU64::new(0)).collect(),
        )
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n * 256))
    }

    #[test]
    fn the_wait_grows_and_is_forgotten() {
        let (guesses, places) = table();
        let addr: IpAddr = "192.0.2.1".parse().unwrap();
        let mut now = Duration::from_secs(1000);
        let mut waits = Vec::new();
        for _ in 0..9 {
            guesses.failed(&places, addr, "ann", now);
            let wait = guesses.wait(&places, addr, "ann", now);
            waits.push(wait.as_millis());
            now += wait;
            assert_eq!(guesses.wait(&places, addr, "ann", now), Duration::ZERO, "it is over then");
        }
        assert_eq!(waits, [0, 0, 0, 500, 1000, 2000, 4000, 5000, 5000]);
        now += FORGIVEN * 7;
        guesses.failed(&places, addr, "ann", now);
        assert_eq!(guesses.wait(&places, addr, "ann", now), Duration::ZERO, "most were forgotten");
        (0..1000).for_each(|_| guesses.failed(&places, addr, "ann", now));
        assert_eq!(guesses.wait(&places, addr, "ann", now), LAST_WAIT);
    }

    #[test]
    fn others_are_not_slowed() {
        let (guesses, places) = table();
        let now = Duration::from_secs(5);
        (0..20).for_each(|_| guesses.failed(&places, v4(1), "ann", now));
        assert!((2..20_000).all(|n| guesses.wait(&places, v4(n), "ann", now).is_zero()));
        assert!(!guesses.wait(&places, v4(1), "bob", now).is_zero());
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written_and_a_network_is_one() {
        let (guesses, places) = table();
        let now = Duration::from_secs(5);
        let fail = |addr: &str| {
            (0..9).for_each(|_| guesses.failed(&places, addr.parse().unwrap(), "ann", now))
        };
        let waits =
            |addr: &str| !guesses.wait(&places, addr.parse().unwrap(), "ann", now).is_zero();
        fail("::ffff:192.0.2.1");
        assert!(waits("192.0.2.1"));
        fail("2001:db8:1:2::1");
        assert!(waits("2001:db8:1:2:ffff::9") && !waits("2001:db8:1:3::1"));
    }

    #[test]
    fn many_networks_of_one_customer_wait_together() {
        let (guesses, places) = table();
        let now = Duration::from_secs(5);
        let addr = |n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 7, n, 0, 0, 0, 1));
        guesses.succeeded(&places, addr(500), "ann", now);
        for n in 1..60 {
            guesses.failed(&places, addr(n), &format!("user{n}"), now);
        }
        assert!(!guesses.wait(&places, addr(200), "x", now).is_zero());
        let other = "2001:db8:8::1".parse().unwrap();
        assert!(guesses.wait(&places, other, "x", now).is_zero(), "another customer");
        assert!(guesses.wait(&places, addr(500), "x", now).is_zero(), "one who logged in before");
    }

    #[test]
    fn new_addresses_together_guess_no_faster_than_the_stated_rate() {
        let (guesses, places) = table();
        let start = Duration::from_secs(100);
        // Each address guesses whenever it may; there are always fresh ones.
        let tried = |user: &dyn Fn(u32) -> String, seconds: u32| {
            let mut looked_at = 0;
            for tenth in 0..seconds * 10 {
                let now = start + Duration::from_millis(u64::from(tenth) * 100);
                for n in 0..200 {
                    let (addr, user) = (v4(tenth * 200 + n), user(n));
                    if guesses.wait(&places, addr, &user, now).is_zero() {
                        guesses.failed(&places, addr, &user, now);
                        looked_at += 1;
                    }
                }
            }
            looked_at
        };
        let of_one = tried(&|_| "ann".to_owned(), 60);
        assert!((1000..=1024 + 61).contains(&of_one), "{of_one}");
        // Other accounts have theirs, up to that of all.
        let of_all = tried(&|n| format!("user{n}"), 60);
        assert!((500..=2048 + 601).contains(&(of_one + of_all)), "{of_one} {of_all}");
    }

    #[test]
    fn addresses_that_were_wrong_before_wait_for_each_other() {
        let (guesses, places) = table();
        let now = Duration::from_secs(100);
        (0..16).for_each(|n| guesses.failed(&places, v4(n), "ann", now));
        assert!(!guesses.wait(&places, v4(3), "ann", now).is_zero());
        assert!(guesses.wait(&places, v4(3), "bob", now).is_zero(), "another account");
        assert!(guesses.wait(&places, v4(99), "ann", now).is_zero(), "an address that is new");
        let later = now + Duration::from_secs(1);
        assert!(guesses.wait(&places, v4(3), "ann", later).is_zero(), "one more a second");
        guesses.failed(&places, v4(3), "ann", later);
        assert!(!guesses.wait(&places, v4(4), "ann", later).is_zero());
        // Minutes later it is forgiven, and still no new address.
        let forgiven = later + Duration::from_secs(300);
        (0..16).for_each(|n| guesses.failed(&places, v4(50 + n), "ann", forgiven));
        assert!(!guesses.wait(&places, v4(4), "ann", forgiven).is_zero());
        assert!(guesses.wait(&places, v4(99), "ann", forgiven).is_zero());
    }

    #[test]
    fn a_network_that_has_logged_in_is_not_delayed_by_others() {
        let (guesses, places) = table();
        let now = Duration::from_secs(100);
        let (own, near) = (v4(7), IpAddr::from([10, 0, 7, 200]));
        guesses.succeeded(&places, own, "ann", now);
        (100..5000).for_each(|n| guesses.failed(&places, v4(n), "ann", now));
        assert!(guesses.wait(&places, own, "ann", now).is_zero());
        assert!(guesses.wait(&places, near, "ann", now).is_zero(), "of the same network");
        assert!(!guesses.wait(&places, v4(8), "ann", now).is_zero(), "never seen");
        assert_eq!(guesses.reputation(&places, own, now), Reputation::Address);
        assert_eq!(guesses.reputation(&places, near, now), Reputation::Known);
        assert_eq!(guesses.reputation(&places, v4(8), now), Reputation::New);
        assert_eq!(guesses.reputation(&places, v4(4999), now), Reputation::Wrong(1));
        // Its neighbours share a rate of their own, which does not hold up who was not wrong.
        let neighbour = |n: u8| IpAddr::from([10, 0, 7, n]);
        for n in 10..150 {
            assert!(guesses.wait(&places, neighbour(n), "ann", now).is_zero());
            guesses.failed(&places, neighbour(n), "ann", now);
        }
        assert!(!guesses.wait(&places, neighbour(20), "ann", now).is_zero());
        assert!(guesses.wait(&places, own, "ann", now).is_zero());
        // Its own wrong passwords count all the same.
        (0..5).for_each(|_| guesses.failed(&places, own, "ann", now));
        assert!(!guesses.wait(&places, own, "ann", now).is_zero());
        // A table of fixed size remembers those that came last.
        (0..200).for_each(|n| {
            guesses.succeeded(&places, v4(9000 + n), "bob", now + Duration::from_secs(n.into()))
        });
        let remembered =
            (0..200).filter(|n| guesses.has_logged_in(&places, v4(9000 + n), Some("bob"))).count();
        assert!(remembered >= 190, "{remembered}");
    }
}
