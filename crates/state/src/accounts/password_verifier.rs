//! Where passwords are looked at: off the thread that serves all who log in, few at a time, each address in its turn.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use relais_proto::{ErrorCode, FairQueue, LogRateLimiter, Refusal, TreePath, network_of, quote};
use rustix::event::{EventfdFlags, eventfd};

use super::password::Scratch;
use super::{Checker, FailedLogins, LiveAccounts, Reputation};
use crate::Rights;

/// Most logins of one address that wait.
const EACH: usize = 64;
/// Most logins that wait in all: at most a kilobyte and a half each.
const ALL: usize = 2048;

/// Who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatedUser {
    /// The name.
    pub name: String,
    /// What the user may do.
    pub rights: Rights,
    /// The top of the tree for this user.
    pub root: TreePath,
    /// Generation of the accounts.
    pub generation: u64,
}

/// When to try again where too many wait.
const FULL: Duration = Duration::from_secs(1);

/// What a login comes to. A refusal is [`ErrorCode::LoginRefused`] where name or password are wrong, and nobody is told which, or
/// [`ErrorCode::Busy`] where too many were wrong before, or too many wait.
pub type LoginResult = Result<AuthenticatedUser, Refusal>;

/// A login that was handed in.
#[derive(Debug)]
pub struct PendingLogin {
    verdict: Receiver<LoginResult>,
    /// Whoever waits; once it is gone nothing is hashed for it.
    _waits: Arc<()>,
}

impl PendingLogin {
    /// What it came to, once that is known.
    pub fn take(&self) -> Option<LoginResult> {
        match self.verdict.try_recv() {
            Ok(verdict) => Some(verdict),
            Err(TryRecvError::Empty) => None,
            // The threads are gone, which ends the program soon.
            Err(TryRecvError::Disconnected) => Some(Err(later(FULL))),
        }
    }
}

/// What the processes of one server share, so that all of them together slow whoever guesses, and hash few at a time.
pub trait SharedLoginState: Send + Sync {
    /// The table of wrong passwords, [`FailedLogins::SLOTS`] long.
    fn slots(&self) -> &[AtomicU64];
    /// Waits until a core is free for a hash, and keeps it while `hash` runs.
    fn with_hash_permit(&self, hash: &mut dyn FnMut());
}

struct Job {
    /// Whose turn it takes.
    network: IpAddr,
    addr: IpAddr,
    reputation: Reputation,
    user: String,
    password: Vec<u8>,
    answer: Sender<LoginResult>,
    waits: Weak<()>,
}

/// Logins that wait, by what is remembered of their networks; in each the networks take turns.
struct Queue {
    address: FairQueue<IpAddr, u64, Job>,
    known: FairQueue<IpAddr, u64, Job>,
    new: FairQueue<IpAddr, u64, Job>,
    wrong: FairQueue<IpAddr, u64, Job>,
    /// Counts those that were taken out.
    taken: u64,
    /// The number of the next one.
    next: u64,
    closed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        let [address, known, new, wrong] = [(); 4].map(|()| FairQueue::new(ALL));
        Self { address, known, new, wrong, taken: 0, next: 0, closed: false }
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.address.len() + self.known.len() + self.new.len() + self.wrong.len()
    }

    fn of(&mut self, reputation: Reputation) -> &mut FairQueue<IpAddr, u64, Job> {
        match reputation {
            Reputation::Address => &mut self.address,
            Reputation::Known => &mut self.known,
            Reputation::New => &mut self.new,
            Reputation::Wrong(_) => &mut self.wrong,
        }
    }

    /// Puts a login in. Who has to go for it, where all is full: the one with the worst reputation, and among equals one of the network
    /// that has most.
    ///
    /// # Errors
    /// The login, where its network has too many, or none is worse.
    fn push(&mut self, job: Job) -> Result<Option<Job>, Job> {
        if self.of(job.reputation).len_of(&job.network) >= EACH {
            return Err(job);
        }
        let evicted = if self.len() < ALL {
            None
        } else {
            match self.evict_for(&job) {
                Some(evicted) => Some(evicted),
                None => return Err(job),
            }
        };
        let (network, reputation, number) = (job.network, job.reputation, self.next);
        self.next += 1;
        self.of(reputation).push(network, number, job)?;
        Ok(evicted)
    }

    fn evict_for(&mut self, job: &Job) -> Option<Job> {
        let worst = self.wrong.iter().map(|(_, number, job)| (job.reputation, *number)).max();
        if let Some((reputation, number)) = worst.filter(|(worst, _)| *worst > job.reputation) {
            let mut evicted = None;
            // A job cannot be moved out of a queue from within: what is left in its place goes with it.
            self.wrong.retain(|_, other, job| {
                if *other == number {
                    evicted = Some(std::mem::replace(job, Job::gone(reputation)));
                }
                *other != number
            });
            return evicted;
        }
        if self.wrong.is_empty() && job.reputation <= Reputation::Known && !self.new.is_empty() {
            return self.new.take_from_largest();
        }
        // Among equals.
        let network = job.network;
        let queue = self.of(job.reputation);
        let largest = queue.largest()?;
        (largest > queue.len_of(&network) + 1).then(|| queue.take_from_largest()).flatten()
    }

    /// The next login. Most turns are those of addresses, then of networks that have logged in before; some are the others', so that
    /// nobody waits for ever.
    fn pop(&mut self) -> Option<Job> {
        self.taken += 1;
        let first = match self.taken % 8 {
            3 => Reputation::New,
            5 => Reputation::Known,
            7 => Reputation::Wrong(0),
            _ => Reputation::Address,
        };
        let others =
            [Reputation::Address, Reputation::Known, Reputation::New, Reputation::Wrong(0)];
        let mut order = std::iter::once(first).chain(others);
        order.find_map(|reputation| self.of(reputation).pop()).map(|(.., job)| job)
    }
}

impl Job {
    /// In the place of one that was taken out.
    fn gone(reputation: Reputation) -> Self {
        Self {
            network: IpAddr::from([0, 0, 0, 0]),
            addr: IpAddr::from([0, 0, 0, 0]),
            reputation,
            user: String::new(),
            password: Vec::new(),
            answer: channel().0,
            waits: Weak::new(),
        }
    }
}

struct Shared {
    accounts: Arc<LiveAccounts>,
    checker: Checker,
    guesses: FailedLogins,
    common: Box<dyn SharedLoginState>,
    queue: Mutex<Queue>,
    news: Condvar,
    wake: OwnedFd,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next login, in the order of turns; none at the end.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.pop() {
                if job.waits.strong_count() > 0 {
                    return Some(job);
                }
                continue;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn judge(&self, job: &Job, scratch: &mut Scratch) -> LoginResult {
        let wait = self.guesses.wait(self.common.slots(), job.addr, &job.user, now());
        if !wait.is_zero() {
            // Nothing was hashed for it, so there may be thousands a second.
            static PUT_OFF: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = PUT_OFF.allow(Instant::now()) {
                info!("login put off for {} from {}{more}", quote(&job.user), job.addr);
            }
            return Err(later(wait));
        }
        let accounts = self.accounts.current().unwrap_or_default();
        let (mut welcome, mut wait) = (None, wait);
        self.common.with_hash_permit(&mut || {
            // Others of this address may have been wrong while this one waited for its turn.
            wait = self.guesses.wait(self.common.slots(), job.addr, &job.user, now());
            if !wait.is_zero() {
                return;
            }
            welcome =
                self.checker.check(&accounts, &job.user, &job.password, scratch).map(|account| {
                    AuthenticatedUser {
                        name: job.user.clone(),
                        rights: account.rights,
                        root: account.root.clone(),
                        generation: accounts.generation(),
                    }
                });
        });
        if !wait.is_zero() {
            return Err(later(wait));
        }
        if welcome.is_some() {
            self.guesses.succeeded(self.common.slots(), job.addr, &job.user, now());
        }
        welcome.ok_or_else(|| {
            self.guesses.failed(self.common.slots(), job.addr, &job.user, now());
            warn!("login failed for {} from {}", quote(&job.user), job.addr);
            Refusal::new(ErrorCode::LoginRefused, "user or password are wrong")
        })
    }

    /// Works to the end. A panic ends one login, which is refused, and no more than that.
    fn attend(&self) {
        while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            error!("the thread that looks at passwords failed at one of them, and goes on");
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    fn work(&self) {
        let mut scratch = Scratch::default();
        while let Some(job) = self.next() {
            // Whoever asked may have gone.
            let _ = job.answer.send(self.judge(&job, &mut scratch));
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }
}

/// See the module.
pub struct PasswordVerifier {
    shared: Arc<Shared>,
}

impl PasswordVerifier {
    /// Begins to look at passwords in `threads` threads.
    ///
    /// # Errors
    /// Those of the system.
    pub fn start(
        accounts: Arc<LiveAccounts>,
        guesses: FailedLogins,
        common: Box<dyn SharedLoginState>,
        threads: usize,
    ) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let checker = Checker::new().map_err(io::Error::other)?;
        let (queue, news) = (Mutex::default(), Condvar::new());
        let desk = Self {
            shared: Arc::new(Shared { accounts, checker, guesses, common, queue, news, wake }),
        };
        for _ in 0..threads.max(1) {
            let shared = Arc::clone(&desk.shared);
            std::thread::Builder::new()
                .name("passwords".to_owned())
                .spawn(move || shared.attend())?;
        }
        Ok(desk)
    }

    /// Hands in a login; whoever does waits without blocking anybody.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] where too many wait.
    pub fn submit(
        &self,
        addr: IpAddr,
        user: &str,
        password: &[u8],
    ) -> Result<PendingLogin, Refusal> {
        let (answer, verdict) = channel();
        let waits = Arc::new(());
        let job = Job {
            network: network_of(addr),
            addr: addr.to_canonical(),
            reputation: self.reputation(addr),
            user: user.to_owned(),
            password: password.to_vec(),
            answer,
            waits: Arc::downgrade(&waits),
        };
        let evicted = self.shared.queue().push(job).map_err(|_| later(FULL))?;
        if let Some(evicted) = evicted {
            // Whoever asked may have gone.
            let _ = evicted.answer.send(Err(later(FULL)));
            let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        }
        self.shared.news.notify_one();
        Ok(PendingLogin { verdict, _waits: waits })
    }

    fn reputation(&self, addr: IpAddr) -> Reputation {
        self.shared.guesses.reputation(self.shared.common.slots(), addr, now())
    }

    /// Whether somebody has logged in from this network.
    #[must_use]
    pub fn is_known(&self, addr: IpAddr) -> bool {
        self.reputation(addr) <= Reputation::Known
    }

    /// Can be read once some login was looked at.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// Has noticed that [`Self::wake_fd`] could be read.
    pub fn clear_wake(&self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
    }
}

impl Drop for PasswordVerifier {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.news.notify_all();
    }
}

/// The answer to a login that comes too soon.
fn later(wait: Duration) -> Refusal {
    let seconds = u16::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u16::MAX).max(1);
    let message = format!("too many logins failed or wait; try again in {seconds} s");
    Refusal { retry_after: seconds, ..Refusal::new(ErrorCode::Busy, message) }
}

/// Time since the machine was started: the same in all processes.
fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// What the threads of one process share, where there is no other process.
pub struct LocalLoginState {
    places: Box<[AtomicU64]>,
}

impl LocalLoginState {
    /// Nobody has guessed wrong.
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

    fn desk(temp: &tempfile::TempDir, threads: usize) -> PasswordVerifier {
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

    fn verdict(pending: &PendingLogin) -> LoginResult {
        let began = Instant::now();
        loop {
            if let Some(verdict) = pending.take() {
                return verdict;
            }
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn addr(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn the_right_password_opens_and_a_wrong_one_costs_time() {
        let temp = tempfile::tempdir().unwrap();
        let desk = desk(&temp, 2);
        let ask = |n, user: &str, password: &str| {
            verdict(&desk.submit(addr(n), user, password.as_bytes()).unwrap())
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
            &mut [rustix::event::PollFd::new(&desk.wake_fd(), rustix::event::PollFlags::IN)],
            None,
        )
        .unwrap();
        desk.clear_wake();
    }

    fn job(n: u8, reputation: Reputation) -> Job {
        Job { network: addr(n), addr: addr(n), ..Job::gone(reputation) }
    }

    fn drained(queue: &mut Queue) -> Vec<(IpAddr, Reputation)> {
        let all =
            std::iter::from_fn(|| queue.pop()).map(|job| (job.addr, job.reputation)).collect();
        assert_eq!(queue.len(), 0);
        all
    }

    #[test]
    fn each_address_has_its_turn() {
        let mut queue = Queue::default();
        for n in [1, 1, 1, 2, 3, 2] {
            assert!(queue.push(job(n, Reputation::New)).is_ok());
        }
        let order: Vec<IpAddr> = drained(&mut queue).into_iter().map(|(addr, _)| addr).collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 1].map(addr));
        let taken = (0..EACH + 9).filter(|_| queue.push(job(1, Reputation::New)).is_ok()).count();
        assert_eq!(taken, EACH);
    }

    #[test]
    fn networks_that_have_logged_in_come_first_and_keep_nobody_waiting_for_ever() {
        let mut queue = Queue::default();
        for n in 0..12 {
            for reputation in [Reputation::Wrong(1), Reputation::New, Reputation::Known] {
                assert!(queue.push(job(n, reputation)).is_ok());
            }
        }
        let order: Vec<Reputation> = drained(&mut queue).into_iter().map(|(_, r)| r).collect();
        let firsts = |of: Reputation| order.iter().take(16).filter(|r| **r == of).count();
        assert_eq!(
            [Reputation::Known, Reputation::New, Reputation::Wrong(1)].map(firsts),
            [12, 2, 2]
        );
    }

    #[test]
    fn a_full_queue_gives_up_the_worst_offender() {
        let mut queue = Queue::default();
        let fill = |queue: &mut Queue, reputation, from: u8| {
            let mut n = from;
            while queue.len() < ALL {
                assert!(queue.push(job(n, reputation)).is_ok_and(|evicted| evicted.is_none()));
                n = if n == u8::MAX { from } else { n + 1 };
            }
        };
        assert!(queue.push(job(1, Reputation::Wrong(9))).is_ok());
        assert!(queue.push(job(2, Reputation::Wrong(2))).is_ok());
        fill(&mut queue, Reputation::New, 10);
        let mut evicted = |reputation| match queue.push(job(3, reputation)) {
            Ok(evicted) => Some(evicted.unwrap().reputation),
            Err(_) => None,
        };
        assert_eq!(evicted(Reputation::Wrong(3)), Some(Reputation::Wrong(9)));
        assert_eq!(evicted(Reputation::Wrong(7)), None, "itself the worst");
        assert_eq!(evicted(Reputation::New), Some(Reputation::Wrong(3)));
        assert_eq!(evicted(Reputation::Known), Some(Reputation::Wrong(2)));
        assert_eq!(evicted(Reputation::Known), Some(Reputation::New));
        assert_eq!(evicted(Reputation::New), Some(Reputation::New), "of those that have most");
        let mut queue = Queue::default();
        fill(&mut queue, Reputation::Known, 10);
        assert!(queue.push(job(3, Reputation::New)).is_err(), "none is worse");
    }
}
