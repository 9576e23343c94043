//! The logins that wait for a hashing thread, by the reputation of their addresses. No threads.

use std::net::IpAddr;

use relais_proto::FairQueue;

use super::failed_logins::Reputation;

/// Cap on waiting logins of one address.
const MAX_PER_NETWORK: usize = 64;
/// Cap on all waiting logins, of at most a kilobyte and a half each.
const MAX_WAITING: usize = 2048;

/// A login in the queue.
#[derive(Debug, Clone)]
pub(super) struct QueuedLogin<T> {
    /// The key of its turn.
    pub network: IpAddr,
    /// The reputation of its address.
    pub reputation: Reputation,
    pub login: T,
}

/// Waiting logins. In each class of reputation the networks take turns.
pub(super) struct LoginQueue<T> {
    classes: [FairQueue<IpAddr, u64, QueuedLogin<T>>; CLASSES],
    /// The number of logins that were taken out.
    taken: u64,
    /// The number of the next login.
    next: u64,
}

const CLASSES: usize = 4;
const KNOWN_ADDRESS: usize = 0;
const KNOWN_NETWORK: usize = 1;
const NEW: usize = 2;
const FAILED: usize = 3;

fn class(reputation: Reputation) -> usize {
    match reputation {
        Reputation::KnownAddress => KNOWN_ADDRESS,
        Reputation::KnownNetwork => KNOWN_NETWORK,
        Reputation::New => NEW,
        Reputation::Failed(_) => FAILED,
    }
}

impl<T: Clone> LoginQueue<T> {
    /// Makes an empty queue.
    pub fn new() -> Self {
        Self { classes: [(); CLASSES].map(|()| FairQueue::new(MAX_WAITING)), taken: 0, next: 0 }
    }

    fn len(&self) -> usize {
        self.classes.iter().map(FairQueue::len).sum()
    }

    /// Adds a login. A full queue evicts another one, which is returned.
    ///
    /// The login with the worst reputation is evicted, and among equals one of the network that
    /// has most.
    ///
    /// # Errors
    /// Returns the login if its network has too many, or if no other has a worse reputation.
    pub fn push(
        &mut self,
        login: QueuedLogin<T>,
    ) -> Result<Option<QueuedLogin<T>>, QueuedLogin<T>> {
        let (network, class) = (login.network, class(login.reputation));
        if self.classes[class].len_of(&network) >= MAX_PER_NETWORK {
            return Err(login);
        }
        let evicted = if self.len() < MAX_WAITING { None } else { self.evict_for(&login) };
        self.next += 1;
        if self.len() >= MAX_WAITING {
            return Err(login);
        }
        self.classes[class].push(network, self.next, login)?;
        Ok(evicted)
    }

    fn evict_for(&mut self, login: &QueuedLogin<T>) -> Option<QueuedLogin<T>> {
        let failed = &mut self.classes[FAILED];
        let worst = failed.iter().map(|(_, number, login)| (login.reputation, *number)).max();
        if let Some((_, worst)) = worst.filter(|(worst, _)| *worst > login.reputation) {
            let mut evicted = None;
            failed.retain(|_, number, login| {
                if *number == worst {
                    evicted = Some(login.clone());
                }
                *number != worst
            });
            return evicted;
        }
        let class = class(login.reputation);
        if worst.is_none() && class < NEW && !self.classes[NEW].is_empty() {
            return self.classes[NEW].take_from_largest();
        }
        // Among equal reputations.
        let queue = &mut self.classes[class];
        let largest = queue.largest()?;
        (largest > queue.len_of(&login.network) + 1).then(|| queue.take_from_largest()).flatten()
    }

    /// Takes the next login.
    ///
    /// Most turns go to known addresses and then to known networks. The other classes have some
    /// turns too, so that no login waits without end.
    pub fn pop(&mut self) -> Option<QueuedLogin<T>> {
        self.taken += 1;
        let first = match self.taken % 8 {
            3 => NEW,
            5 => KNOWN_NETWORK,
            7 => FAILED,
            _ => KNOWN_ADDRESS,
        };
        let login =
            std::iter::once(first).chain(0..CLASSES).find_map(|class| self.classes[class].pop());
        login.map(|(.., login)| login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestLogin = QueuedLogin<()>;

    fn addr(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn attempt(n: u8, reputation: Reputation) -> TestLogin {
        QueuedLogin { network: addr(n), reputation, login: () }
    }

    fn drained(queue: &mut LoginQueue<()>) -> Vec<TestLogin> {
        let all = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(queue.len(), 0);
        all
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = LoginQueue::new();
        for n in [1, 1, 1, 2, 3, 2] {
            assert!(queue.push(attempt(n, Reputation::New)).is_ok());
        }
        let order: Vec<IpAddr> =
            drained(&mut queue).into_iter().map(|login| login.network).collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 1].map(addr));
        let taken = (0..MAX_PER_NETWORK + 9)
            .filter(|_| queue.push(attempt(1, Reputation::New)).is_ok())
            .count();
        assert_eq!(taken, MAX_PER_NETWORK);
    }

    #[test]
    fn known_networks_go_first_without_starving_others() {
        let mut queue = LoginQueue::new();
        for n in 0..12 {
            for reputation in [Reputation::Failed(1), Reputation::New, Reputation::KnownNetwork] {
                assert!(queue.push(attempt(n, reputation)).is_ok());
            }
        }
        let order: Vec<Reputation> =
            drained(&mut queue).into_iter().map(|login| login.reputation).collect();
        let firsts = |of: Reputation| order.iter().take(16).filter(|r| **r == of).count();
        assert_eq!(
            [Reputation::KnownNetwork, Reputation::New, Reputation::Failed(1)].map(firsts),
            [12, 2, 2]
        );
    }

    #[test]
    fn a_full_queue_evicts_the_worst_reputation() {
        let mut queue = LoginQueue::new();
        let fill = |queue: &mut LoginQueue<()>, reputation, from: u8| {
            let mut n = from;
            while queue.len() < MAX_WAITING {
                assert!(queue.push(attempt(n, reputation)).is_ok_and(|evicted| evicted.is_none()));
                n = if n == u8::MAX { from } else { n + 1 };
            }
        };
        assert!(queue.push(attempt(1, Reputation::Failed(9))).is_ok());
        assert!(queue.push(attempt(2, Reputation::Failed(2))).is_ok());
        fill(&mut queue, Reputation::New, 10);
        let mut evicted = |reputation| match queue.push(attempt(3, reputation)) {
            Ok(evicted) => Some(evicted.unwrap().reputation),
            Err(_) => None,
        };
        assert_eq!(evicted(Reputation::Failed(3)), Some(Reputation::Failed(9)));
        assert_eq!(evicted(Reputation::Failed(7)), None, "itself the worst");
        assert_eq!(evicted(Reputation::New), Some(Reputation::Failed(3)));
        assert_eq!(evicted(Reputation::KnownNetwork), Some(Reputation::Failed(2)));
        assert_eq!(evicted(Reputation::KnownNetwork), Some(Reputation::New));
        assert_eq!(evicted(Reputation::New), Some(Reputation::New), "of those that have most");
        let mut queue = LoginQueue::new();
        fill(&mut queue, Reputation::KnownNetwork, 10);
        assert!(queue.push(attempt(3, Reputation::New)).is_err(), "none is worse");
    }
}
