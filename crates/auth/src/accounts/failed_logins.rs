//! Rate limits for failed logins, and the memory of networks that have logged in.
//!
//! Failures are counted by address, network and account, in tables of fixed size that processes
//! can share. A keyed hash selects the slot, so an attacker cannot choose a victim to share one
//! with. A slot holds a tag of its owner, so other owners are not delayed by it. Failures only
//! delay: no account is locked, and others delay no network that has logged in before.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use relais_proto::{SlaveId, network_of};

/// Failures of an address without a delay, because users mistype.
const FREE: u32 = 3;
/// Failures without a delay of an IPv6 /48 network, which may have many machines.
const FREE_OF_48: u32 = 48;
/// Delay after the first failure above that; each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest delay.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// Time after which one failure of an address is forgotten.
const FORGIVEN: Duration = Duration::from_secs(30);
/// Time after a failure for which an address does not count as new.
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// Time after which one failure of an IPv6 /48 network is forgotten.
const FORGIVEN_OF_48: Duration = Duration::from_secs(3);

/// A limit on failed logins.
enum Limit {
    /// Each failure beyond the first ones of a network adds a delay.
    Failures {
        /// Failures that cause no delay.
        free: u32,
        /// Time after which one failure is forgotten.
        forgiven: Duration,
    },
    /// A bucket of tokens; a failure takes one.
    Tokens {
        /// Time for one more token, in tenths of a second.
        each: u64,
        /// Burst for addresses with earlier failures.
        again: u64,
        /// Burst for addresses without one. It is larger, so that the owner of an account can log
        /// in from a new address while many addresses guess.
        first: u64,
    },
}

/// A slot of a table, and the tag of its owner.
type TaggedSlot<'a> = (&'a AtomicU64, u64);

/// The limit of one address, or of the /64 network of an IPv6 address.
const OF_ADDRESS: Limit = Limit::Failures { free: FREE, forgiven: FORGIVEN };
/// The limit of an IPv6 /48 network that has not logged in before.
const OF_48: Limit = Limit::Failures { free: FREE_OF_48, forgiven: FORGIVEN_OF_48 };
/// The limit of one network that has logged in before, to which no other bucket applies; and of one
/// account, for networks that have not logged in with it: one a second.
const OF_ONE: Limit = Limit::Tokens { each: 10, again: 16, first: 1024 };
/// The limit of all accounts together, for networks that have not logged in: ten a second.
const OF_ALL: Limit = Limit::Tokens { each: 1, again: 64, first: 2048 };

/// The limit of one slave that forwards logins, once for networks that have logged in before and
/// once for others: ten a second. So a compromised slave can delay few of the addresses that it
/// invents or knows.
const OF_SLAVE: Limit = Limit::Tokens { each: 1, again: 128, first: 512 };

/// The tables: failures of addresses and networks, token buckets, known networks.
const FAILURES: usize = 0;
const BUCKETS: usize = 1;
const KNOWN: usize = 2;
const TABLES: usize = 3;
/// Slots of each table.
const TABLE: usize = 4096;
/// A slot of the first table holds a tag (24 bits), the failures (8 bits), and the time of the last
/// one (32 bits). Slots of the other tables hold a tag and a time (40 bits). Times are in tenths of
/// a second.
const TAG_SHIFT: u32 = 40;
const COUNT_SHIFT: u32 = 32;
/// The bits of the time in a slot of the first table.
const FAILURE_TIME: u64 = (1 << COUNT_SHIFT) - 1;
const TIME: u64 = (1 << TAG_SHIFT) - 1;
/// Slots in which an entry may be. The oldest of them is replaced.
const WAYS: usize = 4;

/// The key of the tables. The tables themselves are with the caller.
#[derive(Debug, Clone)]
pub struct FailedLogins {
    key: [u8; 32],
}

/// The origin of a login.
#[derive(Debug, Clone, Copy)]
pub struct LoginSource {
    /// The address of the client.
    pub addr: IpAddr,
    /// The slave that forwards the login, and reports the address; none if the client is connected
    /// to this server.
    pub slave: Option<SlaveId>,
}

impl fmt::Display for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slave {
            Some(slave) => write!(f, "{} through slave {slave}", self.addr),
            None => write!(f, "{}", self.addr),
        }
    }
}

impl From<IpAddr> for LoginSource {
    fn from(addr: IpAddr) -> Self {
        Self { addr, slave: None }
    }
}

/// The reputation of an address. A lower value has priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reputation {
    /// This very address has logged in before.
    KnownAddress,
    /// Its network has logged in before.
    KnownNetwork,
    /// The address has no history.
    New,
    /// The address has this many failures.
    Failed(u32),
}

impl FailedLogins {
    /// Slots of all tables together.
    pub const SLOTS: usize = TABLES * TABLE + 1;

    /// Makes a random key for the tables, whose slots the caller provides.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { key: relais_os::random()? })
    }

    /// The tables in these slots.
    pub(super) fn tables<'a>(&'a self, slots: &'a [AtomicU64]) -> LoginTables<'a> {
        LoginTables { key: &self.key, slots }
    }
}

/// The tables of failed and successful logins. Times are since any fixed moment.
#[derive(Clone, Copy)]
pub(super) struct LoginTables<'a> {
    key: &'a [u8; 32],
    slots: &'a [AtomicU64],
}

impl<'a> LoginTables<'a> {
    /// The delay before the next attempt of this address for this account.
    pub fn wait(self, source: impl Into<LoginSource>, user: &str, now: Duration) -> Duration {
        let source = source.into();
        let is_new = self.is_new(source.addr, now);
        let limits = self.limits(source, user).into_iter();
        limits.map(|(limit, slot)| limit.wait(slot, is_new, now)).max().unwrap_or_default()
    }

    /// Records a failed login of this address for this account.
    pub fn failed(self, source: impl Into<LoginSource>, user: &str, now: Duration) {
        self.limits(source.into(), user)
            .into_iter()
            .for_each(|(limit, slot)| limit.count(slot, now));
    }

    /// The limits that apply to an address and an account, with their slots.
    fn limits(
        self,
        LoginSource { addr, slave }: LoginSource,
        user: &str,
    ) -> Vec<(&'static Limit, TaggedSlot<'a>)> {
        let known = self.has_logged_in(addr, None);
        let mut limits = vec![(&OF_ADDRESS, self.slot(FAILURES, &octets(network_of(addr))))];
        if !(known && self.has_logged_in(addr, Some(user))) {
            limits.push((&OF_ONE, self.slot(BUCKETS, user.as_bytes())));
        }
        if known {
            // No user name begins with a zero byte.
            let network = [&[0], octets(wider_network_of(addr)).as_slice()].concat();
            limits.push((&OF_ONE, self.slot(BUCKETS, &network)));
        } else {
            limits.push((&OF_ALL, (&self.slots[TABLES * TABLE], 1)));
            let network = network_of_48(addr);
            limits.extend(network.map(|network| (&OF_48, self.slot(FAILURES, &octets(network)))));
        }
        if let Some(slave) = slave {
            // Longer than a network after its zero byte.
            let bucket = [&[0, u8::from(known)], slave.0.as_slice()].concat();
            limits.push((&OF_SLAVE, self.slot(BUCKETS, &bucket)));
        }
        limits
    }

    /// Records a successful login of this address for this account.
    pub fn succeeded(self, addr: IpAddr, user: &str, now: Duration) {
        for of in [of_network(addr, None), of_network(addr, Some(user)), of_address(addr)] {
            let (slot, tag) = self.slot(KNOWN, &of);
            slot.store(tag << TAG_SHIFT | tenths(now) & TIME, SeqCst);
        }
    }

    /// The reputation of this address.
    pub fn reputation(self, addr: IpAddr, now: Duration) -> Reputation {
        if self.is_remembered(&of_address(addr)) {
            return Reputation::KnownAddress;
        }
        if self.has_logged_in(addr, None) {
            return Reputation::KnownNetwork;
        }
        if self.is_new(addr, now) {
            return Reputation::New;
        }
        Reputation::Failed(self.failures(network_of(addr), FORGIVEN, now).max(1))
    }

    /// Whether the address has no remembered failures.
    fn is_new(self, addr: IpAddr, now: Duration) -> bool {
        self.failures(network_of(addr), REMEMBERED, now) == 0
            && network_of_48(addr)
                .is_none_or(|network| self.failures(network, FORGIVEN_OF_48, now) <= FREE_OF_48)
    }

    /// Whether a user has logged in from this network; with a name, whether that user has.
    fn has_logged_in(self, addr: IpAddr, user: Option<&str>) -> bool {
        self.is_remembered(&of_network(addr, user))
    }

    fn is_remembered(self, of: &[u8]) -> bool {
        let (bucket, tag) = self.bucket(KNOWN, of);
        bucket.iter().any(|slot| slot.load(SeqCst) >> TAG_SHIFT == tag)
    }

    /// The remembered failures of a network.
    fn failures(self, network: IpAddr, forgiven: Duration, now: Duration) -> u32 {
        let (slot, tag) = self.slot(FAILURES, &octets(network));
        read(slot.load(SeqCst), tag, forgiven, now).0
    }

    /// Returns the slot of a table that has the tag, else the oldest slot of the bucket.
    fn slot(self, table: usize, of: &[u8]) -> TaggedSlot<'a> {
        let (bucket, tag) = self.bucket(table, of);
        let time = if table == FAILURES { FAILURE_TIME } else { TIME };
        let own = bucket.iter().find(|slot| slot.load(SeqCst) >> TAG_SHIFT == tag);
        let oldest = || bucket.iter().min_by_key(|slot| slot.load(SeqCst) & time);
        (own.or_else(oldest).unwrap_or(&bucket[0]), tag)
    }

    /// Returns the slots of a table in which an entry can be, and its tag.
    fn bucket(self, table: usize, of: &[u8]) -> (&'a [AtomicU64], u64) {
        let mut first = [0; 8];
        blake3::Hasher::new_keyed(self.key).update(of).finalize_xof().fill(&mut first);
        let number = u64::from_le_bytes(first);
        let bucket = usize::try_from(number % (TABLE / WAYS) as u64).unwrap_or(0);
        let first = table * TABLE + bucket * WAYS;
        // A tag of 0 marks an empty slot.
        (&self.slots[first..first + WAYS], (number >> TAG_SHIFT).max(1))
    }
}

impl Limit {
    /// The delay of the owner of the slot.
    fn wait(&self, (slot, tag): TaggedSlot<'_>, is_new: bool, now: Duration) -> Duration {
        let word = slot.load(SeqCst);
        match *self {
            Self::Failures { free, forgiven } => {
                let (count, last) = read(word, tag, forgiven, now);
                let Some(above) = count.checked_sub(free + 1) else { return Duration::ZERO };
                let wait = FIRST_WAIT.saturating_mul(1 << above.min(8)).min(LAST_WAIT);
                wait.saturating_sub(now.saturating_sub(last))
            }
            Self::Tokens { .. } if word >> TAG_SHIFT != tag => Duration::ZERO,
            // The slot holds the time when the bucket is full again.
            Self::Tokens { each, again, first } => {
                let at_once = if is_new { first } else { again };
                let used = (word & TIME).saturating_sub(tenths(now));
                let above = (used + each).saturating_sub(at_once * each);
                Duration::from_millis(above * 100).min(LAST_WAIT)
            }
        }
    }

    /// Counts a failure of the owner of the slot.
    fn count(&self, (slot, tag): TaggedSlot<'_>, now: Duration) {
        let _ = slot.fetch_update(SeqCst, SeqCst, |word| {
            let rest = match *self {
                Self::Failures { forgiven, .. } => {
                    let (count, _) = read(word, tag, forgiven, now);
                    u64::from((count + 1).min(255)) << COUNT_SHIFT | tenths(now) & FAILURE_TIME
                }
                Self::Tokens { each, first, .. } => {
                    let now = tenths(now);
                    let full = if word >> TAG_SHIFT == tag { (word & TIME).max(now) } else { now };
                    (full + each).min(now + 2 * first * each) & TIME
                }
            };
            Some(tag << TAG_SHIFT | rest)
        });
    }
}

/// The hash input of a network that has logged in; with a name, as that user.
fn of_network(addr: IpAddr, user: Option<&str>) -> Vec<u8> {
    let mut bytes = octets(wider_network_of(addr)).to_vec();
    bytes.extend(user.map(str::as_bytes).unwrap_or_default());
    bytes
}

/// The hash input of an address that has logged in. No user name begins with a zero byte.
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

/// The /48 network of an IPv6 address, the usual allocation of one customer.
fn network_of_48(addr: IpAddr) -> Option<IpAddr> {
    match addr.to_canonical() {
        IpAddr::V4(_) => None,
        IpAddr::V6(addr) => {
            let bits = addr.to_bits() & (u128::MAX << 80);
            // The last bit distinguishes it from the first /64 network in it.
            Some(Ipv6Addr::from_bits(bits | 1).into())
        }
    }
}

/// The network in which a known user may return: /24 of IPv4, /64 of IPv6.
fn wider_network_of(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() & 0xffff_ff00).into(),
        addr @ IpAddr::V6(_) => network_of(addr),
    }
}

/// Decodes a slot: the remembered failures, and the time of the last one.
fn read(word: u64, tag: u64, forgiven: Duration, now: Duration) -> (u32, Duration) {
    if word >> TAG_SHIFT != tag {
        return (0, Duration::ZERO);
    }
    let last = Duration::from_millis((word & FAILURE_TIME) * 100);
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

    fn parsed(addr: &str) -> IpAddr {
        addr.parse().unwrap()
    }

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n * 256))
    }

    #[test]
    fn delays_grow_and_are_forgotten() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let addr = parsed("192.0.2.1");
        let mut now = Duration::from_secs(1000);
        let mut waits = Vec::new();
        for _ in 0..9 {
            limits.failed(addr, "ann", now);
            let wait = limits.wait(addr, "ann", now);
            waits.push(wait.as_millis());
            now += wait;
            assert_eq!(limits.wait(addr, "ann", now), Duration::ZERO, "it is over then");
        }
        assert_eq!(waits, [0, 0, 0, 500, 1000, 2000, 4000, 5000, 5000]);
        now += FORGIVEN * 7;
        limits.failed(addr, "ann", now);
        assert_eq!(limits.wait(addr, "ann", now), Duration::ZERO, "most were forgotten");
        (0..1000).for_each(|_| limits.failed(addr, "ann", now));
        assert_eq!(limits.wait(addr, "ann", now), LAST_WAIT);
    }

    #[test]
    fn other_addresses_are_not_delayed() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let now = Duration::from_secs(5);
        (0..20).for_each(|_| limits.failed(v4(1), "ann", now));
        assert!((2..20_000).all(|n| limits.wait(v4(n), "ann", now).is_zero()));
        assert!(!limits.wait(v4(1), "bob", now).is_zero());
    }

    #[test]
    fn mapped_addresses_and_ipv6_networks_count_as_one() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let now = Duration::from_secs(5);
        let fail = |addr| (0..9).for_each(|_| limits.failed(parsed(addr), "ann", now));
        let waits = |addr| !limits.wait(parsed(addr), "ann", now).is_zero();
        fail("::ffff:192.0.2.1");
        assert!(waits("192.0.2.1"));
        fail("2001:db8:1:2::1");
        assert!(waits("2001:db8:1:2:ffff::9") && !waits("2001:db8:1:3::1"));
    }

    #[test]
    fn networks_of_one_customer_share_a_limit() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let now = Duration::from_secs(5);
        let addr = |n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 7, n, 0, 0, 0, 1));
        limits.succeeded(addr(500), "ann", now);
        for n in 1..60 {
            limits.failed(addr(n), &format!("user{n}"), now);
        }
        assert!(!limits.wait(addr(200), "x", now).is_zero());
        let other = parsed("2001:db8:8::1");
        assert!(limits.wait(other, "x", now).is_zero(), "another customer");
        assert!(limits.wait(addr(500), "x", now).is_zero(), "a network that logged in before");
    }

    #[test]
    fn new_addresses_together_are_rate_limited() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let start = Duration::from_secs(100);
        // Each address limits as fast as it may, and there are always new addresses.
        let tried = |user: &dyn Fn(u32) -> String, seconds: u32| {
            let mut checked = 0;
            for tenth in 0..seconds * 10 {
                let now = start + Duration::from_millis(u64::from(tenth) * 100);
                for n in 0..200 {
                    let (addr, user) = (v4(tenth * 200 + n), user(n));
                    if limits.wait(addr, &user, now).is_zero() {
                        limits.failed(addr, &user, now);
                        checked += 1;
                    }
                }
            }
            checked
        };
        let of_one = tried(&|_| "ann".to_owned(), 60);
        assert!((1000..=1024 + 61).contains(&of_one), "{of_one}");
        // Other accounts have their own buckets, up to the common limit.
        let of_all = tried(&|n| format!("user{n}"), 60);
        assert!((500..=2048 + 601).contains(&(of_one + of_all)), "{of_one} {of_all}");
    }

    #[test]
    fn addresses_with_failures_share_a_smaller_burst() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let now = Duration::from_secs(100);
        (0..16).for_each(|n| limits.failed(v4(n), "ann", now));
        assert!(!limits.wait(v4(3), "ann", now).is_zero());
        assert!(limits.wait(v4(3), "bob", now).is_zero(), "another account");
        assert!(limits.wait(v4(99), "ann", now).is_zero(), "an address that is new");
        let later = now + Duration::from_secs(1);
        assert!(limits.wait(v4(3), "ann", later).is_zero(), "one more a second");
        limits.failed(v4(3), "ann", later);
        assert!(!limits.wait(v4(4), "ann", later).is_zero());
        // Minutes later the failures are forgotten, but the address is still not new.
        let forgiven = later + Duration::from_secs(300);
        (0..16).for_each(|n| limits.failed(v4(50 + n), "ann", forgiven));
        assert!(!limits.wait(v4(4), "ann", forgiven).is_zero());
        assert!(limits.wait(v4(99), "ann", forgiven).is_zero());
    }

    #[test]
    fn known_networks_are_not_delayed_by_others() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let now = Duration::from_secs(100);
        let (own, near) = (v4(7), IpAddr::from([10, 0, 7, 200]));
        limits.succeeded(own, "ann", now);
        (100..5000).for_each(|n| limits.failed(v4(n), "ann", now));
        assert!(limits.wait(own, "ann", now).is_zero());
        assert!(limits.wait(near, "ann", now).is_zero(), "of the same network");
        assert!(!limits.wait(v4(8), "ann", now).is_zero(), "never seen");
        assert_eq!(limits.reputation(own, now), Reputation::KnownAddress);
        assert_eq!(limits.reputation(near, now), Reputation::KnownNetwork);
        assert_eq!(limits.reputation(v4(8), now), Reputation::New);
        assert_eq!(limits.reputation(v4(4999), now), Reputation::Failed(1));
        // Its neighbours share a bucket, which does not delay an address without failures.
        let neighbour = |n: u8| IpAddr::from([10, 0, 7, n]);
        for n in 10..150 {
            assert!(limits.wait(neighbour(n), "ann", now).is_zero());
            limits.failed(neighbour(n), "ann", now);
        }
        // A failure may replace the record of an earlier one, but not that of the last one.
        assert!(!limits.wait(neighbour(149), "ann", now).is_zero());
        assert!(limits.wait(own, "ann", now).is_zero());
        // Its own failures count nevertheless.
        (0..5).for_each(|_| limits.failed(own, "ann", now));
        assert!(!limits.wait(own, "ann", now).is_zero());
        // A full table remembers the latest networks.
        (0..200).for_each(|n| {
            limits.succeeded(v4(9000 + n), "bob", now + Duration::from_secs(n.into()))
        });
        let remembered =
            (0..200).filter(|n| limits.has_logged_in(v4(9000 + n), Some("bob"))).count();
        assert!(remembered >= 190, "{remembered}");
    }

    #[test]
    fn a_slave_can_delay_few_of_the_addresses_that_it_reports() {
        let (logins, slots) = table();
        let limits = logins.tables(&slots);
        let now = Duration::from_secs(100);
        let known = v4(7);
        limits.succeeded(known, "ann", now);
        let by = |n: u8, addr| LoginSource { addr, slave: Some(SlaveId([n; 16])) };
        let mut counted = 0;
        for n in 0..3000_u32 {
            let (source, user) = (by(1, v4(100 + n)), format!("user{n}"));
            if limits.wait(source, &user, now).is_zero() {
                limits.failed(source, &user, now);
                counted += 1;
            }
        }
        assert_eq!(counted, 512);
        assert!(limits.wait(by(2, v4(9)), "x", now).is_zero(), "another slave");
        assert!(limits.wait(v4(9), "x", now).is_zero(), "a client of this server");
        assert!(limits.wait(by(1, known), "ann", now).is_zero(), "a network that has logged in");
        let later = now + Duration::from_secs(1);
        assert!(limits.wait(by(1, v4(9)), "x", later).is_zero(), "ten more a second");
    }
}
