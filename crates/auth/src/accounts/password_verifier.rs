//! Verifies passwords off the login thread, few at a time and fairly between addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_os::Waker;
use relais_proto::{ErrorCode, FairQueue, LogRateLimiter, Refusal, TreePath, network_of, quote};

use super::password::HashMemory;
use super::{FailedLogins, LiveAccounts, PasswordChecker, Reputation};
use crate::Rights;

/// Cap on waiting logins of one address.
const MAX_PER_NETWORK: usize = 64;
/// Cap on all waiting logins, of at most a kilobyte and a half each.
const MAX_WAITING: usize = 2048;

/// A user whose login has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatedUser {
    /// The user name.
    pub name: String,
    /// The rights of the user.
    pub rights: Rights,
    /// The root of the tree for this user.
    pub root: TreePath,
    /// Generation of the accounts.
    pub generation: u64,
}

/// Retry delay of a client when the queue is full.
const FULL: Duration = Duration::from_secs(1);

/// The result of a login.
///
/// [`ErrorCode::LoginRefused`] means that name or password are wrong; the client does not learn
/// which. [`ErrorCode::Busy`] means too many failed attempts or too many waiting logins.
pub type LoginResult = Result<AuthenticatedUser, Refusal>;

/// A submitted login whose result is not known yet.
#[derive(Debug)]
pub struct PendingLogin {
    result: Receiver<LoginResult>,
    /// Its drop cancels the login: no hash is computed for it.
    _interest: Arc<()>,
}

impl PendingLogin {
    /// Returns the result as soon as it is known.
    pub fn take(&self) -> Option<LoginResult> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            // The threads have ended, and the process ends soon.
            Err(TryRecvError::Disconnected) => Some(Err(later(FULL))),
        }
    }
}

/// Login state that the processes of one server share: rate limits and permits for hashing.
pub trait SharedLoginState: Send + Sync {
    /// The table of failed logins, with [`FailedLogins::SLOTS`] entries.
    fn slots(&self) -> &[AtomicU64];
    /// Waits for a permit to hash, and holds it while `hash` runs.
    fn with_hash_permit(&self, hash: &mut dyn FnMut());
}

struct LoginAttempt {
    /// The key of its turn.
    network: IpAddr,
    addr: IpAddr,
    reputation: Reputation,
    user: String,
    password: Vec<u8>,
    answer: Sender<LoginResult>,
    interest: Weak<()>,
}

/// Waiting logins by the reputation of their addresses. In each class the networks take turns.
struct LoginQueue {
    address: FairQueue<IpAddr, u64, LoginAttempt>,
    known: FairQueue<IpAddr, u64, LoginAttempt>,
    new: FairQueue<IpAddr, u64, LoginAttempt>,
    wrong: FairQueue<IpAddr, u64, LoginAttempt>,
    /// The number of logins that were taken out.
    taken: u64,
    /// The number of the next login.
    next: u64,
    closed: bool,
}

impl Default for LoginQueue {
    fn default() -> Self {
        let [address, known, new, wrong] = [(); 4].map(|()| FairQueue::new(MAX_WAITING));
        Self { address, known, new, wrong, taken: 0, next: 0, closed: false }
    }
}

impl LoginQueue {
    fn len(&self) -> usize {
        self.address.len() + self.known.len() + self.new.len() + self.wrong.len()
    }

    fn of(&mut self, reputation: Reputation) -> &mut FairQueue<IpAddr, u64, LoginAttempt> {
        match reputation {
            Reputation::KnownAddress => &mut self.address,
            Reputation::KnownNetwork => &mut self.known,
            Reputation::New => &mut self.new,
            Reputation::Failed(_) => &mut self.wrong,
        }
    }

    /// Adds a login. A full queue evicts another one, which is returned.
    ///
    /// The login with the worst reputation is evicted, and among equals one of the network that
    /// has most.
    ///
    /// # Errors
    /// Returns the login if its network has too many, or if no other has a worse reputation.
    fn push(&mut self, attempt: LoginAttempt) -> Result<Option<LoginAttempt>, LoginAttempt> {
        if self.of(attempt.reputation).len_of(&attempt.network) >= MAX_PER_NETWORK {
            return Err(attempt);
        }
        let evicted = if self.len() < MAX_WAITING {
            None
        } else {
            match self.evict_for(&attempt) {
                Some(evicted) => Some(evicted),
                None => return Err(attempt),
            }
        };
        let (network, reputation, number) = (attempt.network, attempt.reputation, self.next);
        self.next += 1;
        self.of(reputation).push(network, number, attempt)?;
        Ok(evicted)
    }

    fn evict_for(&mut self, attempt: &LoginAttempt) -> Option<LoginAttempt> {
        let worst =
            self.wrong.iter().map(|(_, number, attempt)| (attempt.reputation, *number)).max();
        if let Some((reputation, number)) = worst.filter(|(worst, _)| *worst > attempt.reputation) {
            let mut evicted = None;
            // `retain` cannot move an entry out, so a placeholder takes its place and is removed.
            self.wrong.retain(|_, other, attempt| {
                if *other == number {
                    evicted =
                        Some(std::mem::replace(attempt, LoginAttempt::placeholder(reputation)));
                }
                *other != number
            });
            return evicted;
        }
        if self.wrong.is_empty()
            && attempt.reputation <= Reputation::KnownNetwork
            && !self.new.is_empty()
        {
            return self.new.take_from_largest();
        }
        // Among equal reputations.
        let network = attempt.network;
        let queue = self.of(attempt.reputation);
        let largest = queue.largest()?;
        (largest > queue.len_of(&network) + 1).then(|| queue.take_from_largest()).flatten()
    }

    /// Takes the next login.
    ///
    /// Most turns go to known addresses and then to known networks. The other classes have some
    /// turns too, so that no login waits without end.
    fn pop(&mut self) -> Option<LoginAttempt> {
        self.taken += 1;
        let first = match self.taken % 8 {
            3 => Reputation::New,
            5 => Reputation::KnownNetwork,
            7 => Reputation::Failed(0),
            _ => Reputation::KnownAddress,
        };
        let others = [
            Reputation::KnownAddress,
            Reputation::KnownNetwork,
            Reputation::New,
            Reputation::Failed(0),
        ];
        let mut order = std::iter::once(first).chain(others);
        order.find_map(|reputation| self.of(reputation).pop()).map(|(.., attempt)| attempt)
    }
}

impl LoginAttempt {
    /// A placeholder for a login that was moved out.
    fn placeholder(reputation: Reputation) -> Self {
        Self {
            network: IpAddr::from([0, 0, 0, 0]),
            addr: IpAddr::from([0, 0, 0, 0]),
            reputation,
            user: String::new(),
            password: Vec::new(),
            answer: channel().0,
            interest: Weak::new(),
        }
    }
}

struct VerifierState {
    accounts: Arc<LiveAccounts>,
    checker: PasswordChecker,
    failed_logins: FailedLogins,
    shared_state: Box<dyn SharedLoginState>,
    queue: Mutex<LoginQueue>,
    news: Condvar,
    waker: Waker,
}

impl VerifierState {
    fn queue(&self) -> MutexGuard<'_, LoginQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next login; none when the verifier is closed.
    fn next(&self) -> Option<LoginAttempt> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(attempt) = queue.pop() {
                if attempt.interest.strong_count() > 0 {
                    return Some(attempt);
                }
                continue;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn verify(&self, attempt: &LoginAttempt, scratch: &mut HashMemory) -> LoginResult {
        let wait =
            self.failed_logins.wait(self.shared_state.slots(), attempt.addr, &attempt.user, now());
        if !wait.is_zero() {
            // No hash limits the rate of this line, so peers could flood the log with it.
            static PUT_OFF: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = PUT_OFF.allow(Instant::now()) {
                info!("login delayed for {} from {}{more}", quote(&attempt.user), attempt.addr);
            }
            return Err(later(wait));
        }
        let accounts = self.accounts.current().unwrap_or_default();
        let (mut user, mut wait) = (None, wait);
        self.shared_state.with_hash_permit(&mut || {
            // Other logins of this address may have failed while this one waited for its permit.
            wait = self.failed_logins.wait(
                self.shared_state.slots(),
                attempt.addr,
                &attempt.user,
                now(),
            );
            if !wait.is_zero() {
                return;
            }
            user = self.checker.check(&accounts, &attempt.user, &attempt.password, scratch).map(
                |account| AuthenticatedUser {
                    name: attempt.user.clone(),
                    rights: account.rights,
                    root: account.root.clone(),
                    generation: accounts.generation(),
                },
            );
        });
        if !wait.is_zero() {
            return Err(later(wait));
        }
        if user.is_some() {
            self.failed_logins.succeeded(
                self.shared_state.slots(),
                attempt.addr,
                &attempt.user,
                now(),
            );
        }
        user.ok_or_else(|| {
            self.failed_logins.failed(
                self.shared_state.slots(),
                attempt.addr,
                &attempt.user,
                now(),
            );
            warn!("login failed for {} from {}", quote(&attempt.user), attempt.addr);
            Refusal::new(ErrorCode::LoginRefused, "user or password are wrong")
        })
    }

    /// Verifies logins until the verifier is closed. A panic refuses one login and nothing else.
    fn run(&self) {
        while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            error!("a password check panicked: that login is refused");
            self.waker.wake();
        }
    }

    fn work(&self) {
        let mut scratch = HashMemory::default();
        while let Some(attempt) = self.next() {
            // The receiver may have been dropped.
            let _ = attempt.answer.send(self.verify(&attempt, &mut scratch));
            self.waker.wake();
        }
    }
}

/// Verifies passwords in threads of its own.
pub struct PasswordVerifier {
    shared: Arc<VerifierState>,
}

impl PasswordVerifier {
    /// Starts `threads` threads that verify passwords.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn start(
        accounts: Arc<LiveAccounts>,
        failed_logins: FailedLogins,
        shared_state: Box<dyn SharedLoginState>,
        threads: usize,
    ) -> io::Result<Self> {
        let waker = Waker::new()?;
        let checker = PasswordChecker::new().map_err(io::Error::other)?;
        let (queue, news) = (Mutex::default(), Condvar::new());
        let verifier = Self {
            shared: Arc::new(VerifierState {
                accounts,
                checker,
                failed_logins,
                shared_state,
                queue,
                news,
                waker,
            }),
        };
        for _ in 0..threads.max(1) {
            let shared = Arc::clone(&verifier.shared);
            std::thread::Builder::new().name("passwords".to_owned()).spawn(move || shared.run())?;
        }
        Ok(verifier)
    }

    /// Submits a login without blocking.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if too many logins wait.
    pub fn submit(
        &self,
        addr: IpAddr,
        user: &str,
        password: &[u8],
    ) -> Result<PendingLogin, Refusal> {
        let (answer, result) = channel();
        let interest = Arc::new(());
        let attempt = LoginAttempt {
            network: network_of(addr),
            addr: addr.to_canonical(),
            reputation: self.reputation(addr),
            user: user.to_owned(),
            password: password.to_vec(),
            answer,
            interest: Arc::downgrade(&interest),
        };
        let evicted = self.shared.queue().push(attempt).map_err(|_| later(FULL))?;
        if let Some(evicted) = evicted {
            // The receiver may have been dropped.
            let _ = evicted.answer.send(Err(later(FULL)));
            self.shared.waker.wake();
        }
        self.shared.news.notify_one();
        Ok(PendingLogin { result, _interest: interest })
    }

    fn reputation(&self, addr: IpAddr) -> Reputation {
        self.shared.failed_logins.reputation(self.shared.shared_state.slots(), addr, now())
    }

    /// Whether a user has logged in from this network before.
    #[must_use]
    pub fn is_known(&self, addr: IpAddr) -> bool {
        self.reputation(addr) <= Reputation::KnownNetwork
    }

    /// A descriptor that is readable when a result is available.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.waker.as_fd()
    }

    /// Resets [`Self::wake_fd`] after a wake-up.
    pub fn clear_wake(&self) {
        self.shared.waker.clear();
    }
}

impl Drop for PasswordVerifier {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.news.notify_all();
    }
}

/// The refusal of a login that comes too soon.
fn later(wait: Duration) -> Refusal {
    let seconds = u16::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u16::MAX).max(1);
    let message = format!("too many logins failed or wait; try again in {seconds} s");
    Refusal { retry_after: seconds, ..Refusal::new(ErrorCode::Busy, message) }
}

/// Time since the boot of the machine, which is the same in all processes.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The login state of a server with one process.
pub struct LocalLoginState {
    places: Box<[AtomicU64]>,
}

impl LocalLoginState {
    /// Makes an empty table of failed logins.
    #[must_use]
    pub fn new() -> Self {
        Self { places: (0..FailedLogins::SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Default for LocalLoginState {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedLoginState for LocalLoginState {
    fn slots(&self) -> &[AtomicU64] {
        &self.places
    }

    fn with_hash_permit(&self, hash: &mut dyn FnMut()) {
        hash();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Account, AccountsFile, password};
    use super::*;

    fn verifier(temp: &tempfile::TempDir, threads: usize) -> PasswordVerifier {
        let file = AccountsFile::new(temp.path().join("accounts"));
        let account = Account {
            rights: Rights::Write,
            root: TreePath::new("home").unwrap(),
            hash: password::of_tests(),
        };
        file.change(|accounts| accounts.add("ann", account)).unwrap();
        let accounts = Arc::new(LiveAccounts::open(file).unwrap());
        PasswordVerifier::start(
            accounts,
            FailedLogins::new().unwrap(),
            Box::new(LocalLoginState::new()),
            threads,
        )
        .unwrap()
    }

    fn wait_for(pending: &PendingLogin) -> LoginResult {
        let began = Instant::now();
        loop {
            if let Some(result) = pending.take() {
                return result;
            }
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn addr(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn wrong_passwords_delay_the_next_login() {
        let temp = tempfile::tempdir().unwrap();
        let verifier = verifier(&temp, 2);
        let ask = |n, user: &str, password: &str| {
            wait_for(&verifier.submit(addr(n), user, password.as_bytes()).unwrap())
        };
        let user = AuthenticatedUser {
            name: "ann".to_owned(),
            rights: Rights::Write,
            root: TreePath::new("home").unwrap(),
            generation: 1,
        };
        assert_eq!(ask(1, "ann", "secret"), Ok(user.clone()));
        for (name, password) in [("ann", "wrong"), ("bob", "secret"), ("ann", ""), ("", "")] {
            assert_eq!(ask(1, name, password).unwrap_err().code, ErrorCode::LoginRefused, "{name}");
        }
        let refusal = ask(1, "ann", "secret").unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (ErrorCode::Busy, 1));
        assert_eq!(ask(2, "ann", "secret"), Ok(user), "another address is not slowed");
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(&verifier.wake_fd(), rustix::event::PollFlags::IN)],
            None,
        )
        .unwrap();
        verifier.clear_wake();
    }

    fn attempt(n: u8, reputation: Reputation) -> LoginAttempt {
        LoginAttempt { network: addr(n), addr: addr(n), ..LoginAttempt::placeholder(reputation) }
    }

    fn drained(queue: &mut LoginQueue) -> Vec<(IpAddr, Reputation)> {
        let all = std::iter::from_fn(|| queue.pop())
            .map(|attempt| (attempt.addr, attempt.reputation))
            .collect();
        assert_eq!(queue.len(), 0);
        all
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = LoginQueue::default();
        for n in [1, 1, 1, 2, 3, 2] {
            assert!(queue.push(attempt(n, Reputation::New)).is_ok());
        }
        let order: Vec<IpAddr> = drained(&mut queue).into_iter().map(|(addr, _)| addr).collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 1].map(addr));
        let taken = (0..MAX_PER_NETWORK + 9)
            .filter(|_| queue.push(attempt(1, Reputation::New)).is_ok())
            .count();
        assert_eq!(taken, MAX_PER_NETWORK);
    }

    #[test]
    fn known_networks_go_first_without_starving_others() {
        let mut queue = LoginQueue::default();
        for n in 0..12 {
            for reputation in [Reputation::Failed(1), Reputation::New, Reputation::KnownNetwork] {
                assert!(queue.push(attempt(n, reputation)).is_ok());
            }
        }
        let order: Vec<Reputation> = drained(&mut queue).into_iter().map(|(_, r)| r).collect();
        let firsts = |of: Reputation| order.iter().take(16).filter(|r| **r == of).count();
        assert_eq!(
            [Reputation::KnownNetwork, Reputation::New, Reputation::Failed(1)].map(firsts),
            [12, 2, 2]
        );
    }

    #[test]
    fn a_full_queue_evicts_the_worst_reputation() {
        let mut queue = LoginQueue::default();
        let fill = |queue: &mut LoginQueue, reputation, from: u8| {
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
        let mut queue = LoginQueue::default();
        fill(&mut queue, Reputation::KnownNetwork, 10);
        assert!(queue.push(attempt(3, Reputation::New)).is_err(), "none is worse");
    }
}
