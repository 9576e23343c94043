//! Rate limits for failed logins, and the memory of networks that have logged in.
//!
//! Failures are counted by address, network and account, in tables of fixed size that processes
//! can share. A keyed hash selects the slot, so an attacker cannot choose a victim to share one
//! with. A slot holds a tag of its owner, so other owners are not delayed by it. Failures only
//! delay: no account is locked, and others delay no network that has logged in before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use relais_proto::network_of;

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

/// A token bucket for failed logins.
struct TokenBucket {
    /// Time for one more token, in tenths of a second.
    each: u64,
    /// Burst for addresses with earlier failures.
    again: u64,
    /// Burst for addresses without one. It is larger, so that the owner of an account can log in
    /// from a new address while many addresses guess.
    first: u64,
}

/// A slot of a table, and the tag of its owner.
type TaggedSlot<'a> = (&'a AtomicU64, u64);

/// The failures of one network that cause no delay.
struct NetworkLimit {
    network: IpAddr,
    free: u32,
    /// Time after which one failure is forgotten.
    forgiven: Duration,
}

/// All limits that apply to a login. The longest delay counts.
struct Limits<'a> {
    buckets: Vec<(&'static TokenBucket, TaggedSlot<'a>)>,
    networks: Vec<NetworkLimit>,
}

/// The limit of one network that has logged in before: one a second. No other bucket applies to it.
const OF_NETWORK: TokenBucket = TokenBucket { each: 10, again: 16, first: 1024 };
/// The limit of one account, for networks that have not logged in with it: one a second.
const OF_ACCOUNT: TokenBucket = TokenBucket { each: 10, again: 16, first: 1024 };
/// The limit of all accounts together, for networks that have not logged in: ten a second.
const OF_ALL: TokenBucket = TokenBucket { each: 1, again: 64, first: 2048 };

/// Slots of each table: failures of addresses and networks, token buckets, known networks.
const TABLE: usize = 4096;
/// A slot of the first table holds a tag (24 bits), the failures (8 bits), and the time of the last
/// one (32 bits). Slots of the other tables hold a tag and a time (40 bits). Times are in tenths of
/// a second.
const TAG_SHIFT: u32 = 40;
const COUNT_SHIFT: u32 = 32;
/// The bits of the time in a slot of the first table.
const FAILURE_TIME: u64 = (1 << COUNT_SHIFT) - 1;
const TIME: u64 = (1 << TAG_SHIFT) - 1;
/// Slots of the first and the last table in which an entry may be. The oldest of them is replaced.
const WAYS: usize = 4;

/// The key of the tables. The tables themselves are with the caller.
#[derive(Debug, Clone)]
pub struct FailedLogins {
    key: [u8; 32],
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
    pub const SLOTS: usize = 3 * TABLE + 1;

    /// Makes a random key for the tables, whose slots the caller provides.
    ///
    /// # Errors
    /// The system provides no random bytes.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { key: relais_os::random()? })
    }

    /// The delay before the next attempt of this address for this account.
    ///
    /// `now` is the time since any fixed moment.
    pub fn wait(&self, slots: &[AtomicU64], addr: IpAddr, user: &str, now: Duration) -> Duration {
        let is_new = self.is_new(slots, addr, now);
        let limits = self.limits(slots, addr, user);
        let of_buckets = limits.buckets.iter().map(|(limit, slot)| limit.wait(*slot, is_new, now));
        let of_networks = limits.networks.iter().map(|limit| self.wait_of(slots, limit, now));
        of_buckets.chain(of_networks).max().unwrap_or_default()
    }

    /// Records a failed login of this address for this account.
    pub fn failed(&self, slots: &[AtomicU64], addr: IpAddr, user: &str, now: Duration) {
        let limits = self.limits(slots, addr, user);
        limits.buckets.iter().for_each(|(limit, slot)| limit.take(*slot, now));
        limits.networks.iter().for_each(|limit| self.count(slots, limit, now));
    }

    /// The limits that apply to an address and an account.
    fn limits<'a>(&self, slots: &'a [AtomicU64], addr: IpAddr, user: &str) -> Limits<'a> {
        let known = self.has_logged_in(slots, addr, None);
        let own = NetworkLimit { network: network_of(addr), free: FREE, forgiven: FORGIVEN };
        let (mut buckets, mut networks) = (Vec::new(), vec![own]);
        if !(known && self.has_logged_in(slots, addr, Some(user))) {
            buckets.push((&OF_ACCOUNT, self.account(slots, user)));
        }
        if known {
            buckets.push((&OF_NETWORK, self.network(slots, addr)));
        } else {
            buckets.push((&OF_ALL, (&slots[3 * TABLE], 1)));
            let (free, forgiven) = (FREE_OF_48, FORGIVEN_OF_48);
            let network = network_of_48(addr);
            networks.extend(network.map(|network| NetworkLimit { network, free, forgiven }));
        }
        Limits { buckets, networks }
    }

    /// Records a successful login of this address for this account.
    pub fn succeeded(&self, slots: &[AtomicU64], addr: IpAddr, user: &str, now: Duration) {
        for of in [of_network(addr, None), of_network(addr, Some(user)), of_address(addr)] {
            let (slot, tag) = self.slot_in_bucket(&slots[2 * TABLE..3 * TABLE], &of, TIME);
            slot.store(tag << TAG_SHIFT | tenths(now) & TIME, SeqCst);
        }
    }

    /// The reputation of this address.
    pub fn reputation(&self, slots: &[AtomicU64], addr: IpAddr, now: Duration) -> Reputation {
        if self.is_remembered(slots, &of_address(addr)) {
            return Reputation::KnownAddress;
        }
        if self.has_logged_in(slots, addr, None) {
            return Reputation::KnownNetwork;
        }
        if self.is_new(slots, addr, now) {
            return Reputation::New;
        }
        Reputation::Failed(self.failures(slots, network_of(addr), FORGIVEN, now).0.max(1))
    }

    /// Whether the address has no remembered failures.
    fn is_new(&self, slots: &[AtomicU64], addr: IpAddr, now: Duration) -> bool {
        self.failures(slots, network_of(addr), REMEMBERED, now).0 == 0
            && network_of_48(addr).is_none_or(|network| {
                self.failures(slots, network, FORGIVEN_OF_48, now).0 <= FREE_OF_48
            })
    }

    /// Whether a user has logged in from this network; with a name, whether that user has.
    fn has_logged_in(&self, slots: &[AtomicU64], addr: IpAddr, user: Option<&str>) -> bool {
        self.is_remembered(slots, &of_network(addr, user))
    }

    fn is_remembered(&self, slots: &[AtomicU64], of: &[u8]) -> bool {
        let (bucket, tag) = self.bucket(&slots[2 * TABLE..3 * TABLE], of);
        bucket.iter().any(|slot| slot.load(SeqCst) >> TAG_SHIFT == tag)
    }

    fn wait_of(&self, slots: &[AtomicU64], limit: &NetworkLimit, now: Duration) -> Duration {
        let (count, last) = self.failures(slots, limit.network, limit.forgiven, now);
        let Some(above) = count.checked_sub(limit.free + 1) else { return Duration::ZERO };
        let wait = FIRST_WAIT.saturating_mul(1 << above.min(8)).min(LAST_WAIT);
        wait.saturating_sub(now.saturating_sub(last))
    }

    fn count(&self, slots: &[AtomicU64], limit: &NetworkLimit, now: Duration) {
        let (slot, tag) =
            self.slot_in_bucket(&slots[..TABLE], &octets(limit.network), FAILURE_TIME);
        let tenths = tenths(now) & FAILURE_TIME;
        let _ = slot.fetch_update(SeqCst, SeqCst, |word| {
            let (count, _) = read(word, tag, limit.forgiven, now);
            Some(tag << TAG_SHIFT | u64::from((count + 1).min(255)) << COUNT_SHIFT | tenths)
        });
    }

    /// The remembered failures of a network, and the time of the last one.
    fn failures(
        &self,
        slots: &[AtomicU64],
        network: IpAddr,
        forgiven: Duration,
        now: Duration,
    ) -> (u32, Duration) {
        let (slot, tag) = self.slot_in_bucket(&slots[..TABLE], &octets(network), FAILURE_TIME);
        read(slot.load(SeqCst), tag, forgiven, now)
    }

    fn account<'a>(&self, slots: &'a [AtomicU64], user: &str) -> TaggedSlot<'a> {
        self.slot(&slots[TABLE..2 * TABLE], user.as_bytes())
    }

    fn network<'a>(&self, slots: &'a [AtomicU64], addr: IpAddr) -> TaggedSlot<'a> {
        // No user name begins with a zero byte.
        let mut bytes = vec![0];
        bytes.extend(octets(wider_network_of(addr)));
        self.slot(&slots[TABLE..2 * TABLE], &bytes)
    }

    /// Returns the slot that has the tag, else the oldest slot of the bucket.
    ///
    /// `time` selects the bits of the time.
    fn slot_in_bucket<'a>(&self, table: &'a [AtomicU64], of: &[u8], time: u64) -> TaggedSlot<'a> {
        let (bucket, tag) = self.bucket(table, of);
        let own = bucket.iter().find(|slot| slot.load(SeqCst) >> TAG_SHIFT == tag);
        let oldest = || bucket.iter().min_by_key(|slot| slot.load(SeqCst) & time);
        (own.or_else(oldest).unwrap_or(&table[0]), tag)
    }

    /// Returns the slots in which an entry can be, and its tag, which is not 0.
    fn bucket<'a>(&self, table: &'a [AtomicU64], of: &[u8]) -> (&'a [AtomicU64], u64) {
        let number = self.hash(of);
        let buckets = table.len() / WAYS;
        let first = usize::try_from(number % buckets as u64).unwrap_or(0) * WAYS;
        (&table[first..first + WAYS], (number >> TAG_SHIFT).max(1))
    }

    fn slot<'a>(&self, table: &'a [AtomicU64], of: &[u8]) -> TaggedSlot<'a> {
        let number = self.hash(of);
        let slot = usize::try_from(number % table.len() as u64).unwrap_or(0);
        // A tag of 0 marks an empty slot.
        (&table[slot], (number >> TAG_SHIFT).max(1))
    }

    fn hash(&self, of: &[u8]) -> u64 {
        let mut first = [0; 8];
        blake3::Hasher::new_keyed(&self.key).update(of).finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}

impl TokenBucket {
    /// The delay until the bucket has a token. Its slot holds the time when it is full again.
    fn wait(&self, (slot, tag): TaggedSlot<'_>, is_new: bool, now: Duration) -> Duration {
        let word = slot.load(SeqCst);
        if word >> TAG_SHIFT != tag {
            return Duration::ZERO;
        }
        let at_once = if is_new { self.first } else { self.again };
        let used = (word & TIME).saturating_sub(tenths(now));
        let above = (used + self.each).saturating_sub(at_once * self.each);
        Duration::from_millis(above * 100).min(LAST_WAIT)
    }

    /// Takes a token.
    fn take(&self, (slot, tag): TaggedSlot<'_>, now: Duration) {
        let now = tenths(now);
        let most = now + 2 * self.first * self.each;
        let _ = slot.fetch_update(SeqCst, SeqCst, |word| {
            let full = if word >> TAG_SHIFT == tag { (word & TIME).max(now) } else { now };
            Some(tag << TAG_SHIFT | (full + self.each).min(most) & TIME)
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

    fn v4(n: u32) -> IpAddr {
        IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n * 256))
    }

    #[test]
    fn delays_grow_and_are_forgotten() {
        let (limits, slots) = table();
        let addr: IpAddr = "192.0.2.1".parse().unwrap();
        let mut now = Duration::from_secs(1000);
        let mut waits = Vec::new();
        for _ in 0..9 {
            limits.failed(&slots, addr, "ann", now);
            let wait = limits.wait(&slots, addr, "ann", now);
            waits.push(wait.as_millis());
            now += wait;
            assert_eq!(limits.wait(&slots, addr, "ann", now), Duration::ZERO, "it is over then");
        }
        assert_eq!(waits, [0, 0, 0, 500, 1000, 2000, 4000, 5000, 5000]);
        now += FORGIVEN * 7;
        limits.failed(&slots, addr, "ann", now);
        assert_eq!(limits.wait(&slots, addr, "ann", now), Duration::ZERO, "most were forgotten");
        (0..1000).for_each(|_| limits.failed(&slots, addr, "ann", now));
        assert_eq!(limits.wait(&slots, addr, "ann", now), LAST_WAIT);
    }

    #[test]
    fn other_addresses_are_not_delayed() {
        let (limits, slots) = table();
        let now = Duration::from_secs(5);
        (0..20).for_each(|_| limits.failed(&slots, v4(1), "ann", now));
        assert!((2..20_000).all(|n| limits.wait(&slots, v4(n), "ann", now).is_zero()));
        assert!(!limits.wait(&slots, v4(1), "bob", now).is_zero());
    }

    #[test]
    fn mapped_addresses_and_ipv6_networks_count_as_one() {
        let (limits, slots) = table();
        let now = Duration::from_secs(5);
        let fail = |addr: &str| {
            (0..9).for_each(|_| limits.failed(&slots, addr.parse().unwrap(), "ann", now))
        };
        let waits = |addr: &str| !limits.wait(&slots, addr.parse().unwrap(), "ann", now).is_zero();
        fail("::ffff:192.0.2.1");
        assert!(waits("192.0.2.1"));
        fail("2001:db8:1:2::1");
        assert!(waits("2001:db8:1:2:ffff::9") && !waits("2001:db8:1:3::1"));
    }

    #[test]
    fn networks_of_one_customer_share_a_limit() {
        let (limits, slots) = table();
        let now = Duration::from_secs(5);
        let addr = |n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 7, n, 0, 0, 0, 1));
        limits.succeeded(&slots, addr(500), "ann", now);
        for n in 1..60 {
            limits.failed(&slots, addr(n), &format!("user{n}"), now);
        }
        assert!(!limits.wait(&slots, addr(200), "x", now).is_zero());
        let other = "2001:db8:8::1".parse().unwrap();
        assert!(limits.wait(&slots, other, "x", now).is_zero(), "another customer");
        assert!(
            limits.wait(&slots, addr(500), "x", now).is_zero(),
            "a network that logged in before"
        );
    }

    #[test]
    fn new_addresses_together_are_rate_limited() {
        let (limits, slots) = table();
        let start = Duration::from_secs(100);
        // Each address limits as fast as it may, and there are always new addresses.
        let tried = |user: &dyn Fn(u32) -> String, seconds: u32| {
            let mut checked = 0;
            for tenth in 0..seconds * 10 {
                let now = start + Duration::from_millis(u64::from(tenth) * 100);
                for n in 0..200 {
                    let (addr, user) = (v4(tenth * 200 + n), user(n));
                    if limits.wait(&slots, addr, &user, now).is_zero() {
                        limits.failed(&slots, addr, &user, now);
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
        let (limits, slots) = table();
        let now = Duration::from_secs(100);
        (0..16).for_each(|n| limits.failed(&slots, v4(n), "ann", now));
        assert!(!limits.wait(&slots, v4(3), "ann", now).is_zero());
        assert!(limits.wait(&slots, v4(3), "bob", now).is_zero(), "another account");
        assert!(limits.wait(&slots, v4(99), "ann", now).is_zero(), "an address that is new");
        let later = now + Duration::from_secs(1);
        assert!(limits.wait(&slots, v4(3), "ann", later).is_zero(), "one more a second");
        limits.failed(&slots, v4(3), "ann", later);
        assert!(!limits.wait(&slots, v4(4), "ann", later).is_zero());
        // Minutes later the failures are forgotten, but the address is still not new.
        let forgiven = later + Duration::from_secs(300);
        (0..16).for_each(|n| limits.failed(&slots, v4(50 + n), "ann", forgiven));
        assert!(!limits.wait(&slots, v4(4), "ann", forgiven).is_zero());
        assert!(limits.wait(&slots, v4(99), "ann", forgiven).is_zero());
    }

    #[test]
    fn known_networks_are_not_delayed_by_others() {
        let (limits, slots) = table();
        let now = Duration::from_secs(100);
        let (own, near) = (v4(7), IpAddr::from([10, 0, 7, 200]));
        limits.succeeded(&slots, own, "ann", now);
        (100..5000).for_each(|n| limits.failed(&slots, v4(n), "ann", now));
        assert!(limits.wait(&slots, own, "ann", now).is_zero());
        assert!(limits.wait(&slots, near, "ann", now).is_zero(), "of the same network");
        assert!(!limits.wait(&slots, v4(8), "ann", now).is_zero(), "never seen");
        assert_eq!(limits.reputation(&slots, own, now), Reputation::KnownAddress);
        assert_eq!(limits.reputation(&slots, near, now), Reputation::KnownNetwork);
        assert_eq!(limits.reputation(&slots, v4(8), now), Reputation::New);
        assert_eq!(limits.reputation(&slots, v4(4999), now), Reputation::Failed(1));
        // Its neighbours share a bucket, which does not delay an address without failures.
        let neighbour = |n: u8| IpAddr::from([10, 0, 7, n]);
        for n in 10..150 {
            assert!(limits.wait(&slots, neighbour(n), "ann", now).is_zero());
            limits.failed(&slots, neighbour(n), "ann", now);
        }
        assert!(!limits.wait(&slots, neighbour(20), "ann", now).is_zero());
        assert!(limits.wait(&slots, own, "ann", now).is_zero());
        // Its own failures count nevertheless.
        (0..5).for_each(|_| limits.failed(&slots, own, "ann", now));
        assert!(!limits.wait(&slots, own, "ann", now).is_zero());
        // A full table remembers the latest networks.
        (0..200).for_each(|n| {
            limits.succeeded(&slots, v4(9000 + n), "bob", now + Duration::from_secs(n.into()))
        });
        let remembered =
            (0..200).filter(|n| limits.has_logged_in(&slots, v4(9000 + n), Some("bob"))).count();
        assert!(remembered >= 190, "{remembered}");
    }
}
