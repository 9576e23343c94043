//! Verifies passwords off the login thread, few at a time and fairly between addresses.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use parking_lot::{Condvar, Mutex};
use relais_os::Waker;
use relais_proto::{
    ErrorCode, LogRateLimiter, PasswordBytes, Refusal, TreePath, limits, network_of, quote,
};

use super::failed_logins::{FailedLogins, LoginSource, LoginTables, Reputation};
use super::live::LiveAccounts;
use super::login_queue::{LoginQueue, QueuedLogin};
use super::password::{HashMemory, PasswordHash, PasswordId};
use super::table::{Account, Accounts};
use crate::rights::Rights;

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
    /// The password of the account at the login.
    pub password_id: PasswordId,
}

impl AuthenticatedUser {
    /// A user without an account: the name is empty, and the root is that of the tree.
    #[must_use]
    pub fn without_account(rights: Rights) -> Self {
        Self {
            name: String::new(),
            rights,
            root: TreePath::root(),
            generation: 0,
            password_id: PasswordId::default(),
        }
    }

    /// The user of an account in these accounts.
    #[must_use]
    pub(super) fn of(name: &str, account: &Account, accounts: &Accounts) -> Self {
        Self {
            name: name.to_owned(),
            rights: account.rights,
            root: account.root.clone(),
            generation: accounts.generation(),
            password_id: account.hash.id(),
        }
    }
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

#[derive(Clone)]
struct LoginAttempt {
    source: LoginSource,
    user: String,
    password: PasswordBytes,
    answer: Sender<LoginResult>,
    interest: Weak<()>,
}

struct VerifierState {
    accounts: Arc<LiveAccounts>,
    /// The hash to compare with if the user does not exist.
    dummy: PasswordHash,
    failed_logins: FailedLogins,
    shared_state: Box<dyn SharedLoginState>,
    /// Waiting logins; none when the verifier is closed.
    queue: Mutex<Option<LoginQueue<LoginAttempt>>>,
    news: Condvar,
    waker: Waker,
}

impl VerifierState {
    fn tables(&self) -> LoginTables<'_> {
        self.failed_logins.tables(self.shared_state.slots())
    }

    /// Waits for the next login; none when the verifier is closed.
    fn next(&self) -> Option<LoginAttempt> {
        let mut queue = self.queue.lock();
        loop {
            match queue.as_mut()?.pop().map(|queued| queued.login) {
                Some(attempt) if attempt.interest.strong_count() > 0 => return Some(attempt),
                Some(_) => {}
                None => self.news.wait(&mut queue),
            }
        }
    }

    fn verify(&self, attempt: &LoginAttempt, scratch: &mut HashMemory) -> LoginResult {
        let LoginAttempt { source, user, .. } = attempt;
        let (tables, addr) = (self.tables(), source.addr);
        let wait = || tables.wait(*source, user, now());
        let too_early = wait();
        if !too_early.is_zero() {
            // No hash limits the rate of this line, so peers could flood the log with it.
            static PUT_OFF: LogRateLimiter = LogRateLimiter::new();
            if let Some(more) = PUT_OFF.allow(Instant::now()) {
                info!("login delayed for {} from {source}{more}", quote(user));
            }
            return Err(later(too_early));
        }
        let accounts = self.accounts.current().unwrap_or_default();
        let mut result = Err(later(FULL));
        self.shared_state.with_hash_permit(&mut || {
            // Other logins of this address may have failed while this one waited for its permit.
            let too_early = wait();
            result = if too_early.is_zero() {
                Ok(check(&accounts, &self.dummy, user, &attempt.password, scratch))
            } else {
                Err(later(too_early))
            };
        });
        let Some(account) = result? else {
            tables.failed(*source, user, now());
            warn!("login failed for {} from {source}", quote(user));
            return Err(Refusal::new(ErrorCode::LoginRefused, "user or password are wrong"));
        };
        tables.succeeded(addr, user, now());
        Ok(AuthenticatedUser::of(user, account, &accounts))
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
        let shared = Arc::new(VerifierState {
            accounts,
            dummy: PasswordHash::of(&relais_os::random::<32>()?).map_err(io::Error::other)?,
            failed_logins,
            shared_state,
            queue: Mutex::new(Some(LoginQueue::new())),
            news: Condvar::new(),
            waker: Waker::new()?,
        });
        let verifier = Self { shared };
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
        source: impl Into<LoginSource>,
        user: &str,
        password: &[u8],
    ) -> Result<PendingLogin, Refusal> {
        let LoginSource { addr, slave } = source.into();
        let (answer, result) = channel();
        let interest = Arc::new(());
        let login = LoginAttempt {
            source: LoginSource { addr: addr.to_canonical(), slave },
            user: user.to_owned(),
            password: password.into(),
            answer,
            interest: Arc::downgrade(&interest),
        };
        let (network, reputation) = (network_of(addr), self.reputation(addr));
        let attempt = QueuedLogin { network, reputation, login };
        let pushed = self.shared.queue.lock().as_mut().and_then(|queue| queue.push(attempt).ok());
        let evicted = pushed.ok_or_else(|| later(FULL))?;
        if let Some(evicted) = evicted {
            // The receiver may have been dropped.
            let _ = evicted.login.answer.send(Err(later(FULL)));
            self.shared.waker.wake();
        }
        self.shared.news.notify_one();
        Ok(PendingLogin { result, _interest: interest })
    }

    fn reputation(&self, addr: IpAddr) -> Reputation {
        self.shared.tables().reputation(addr, now())
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
        *self.shared.queue.lock() = None;
        self.shared.news.notify_all();
    }
}

/// Returns the account if the password is right.
///
/// The time is the same for existing and unknown users: those are compared with `dummy`. A password
/// above the cap is refused at once.
fn check<'a>(
    accounts: &'a Accounts,
    dummy: &PasswordHash,
    user: &str,
    password: &[u8],
    memory: &mut HashMemory,
) -> Option<&'a Account> {
    if password.len() > limits::PASSWORD {
        return None;
    }
    let account = accounts.get(user);
    let matches = account.map_or(dummy, |account| &account.hash).is_of(password, memory);
    account.filter(|_| matches)
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
pub struct LocalLoginState(Box<[AtomicU64]>);

impl Default for LocalLoginState {
    /// Makes an empty table of failed logins.
    fn default() -> Self {
        Self((0..FailedLogins::SLOTS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl SharedLoginState for LocalLoginState {
    fn slots(&self) -> &[AtomicU64] {
        &self.0
    }

    fn with_hash_permit(&self, hash: &mut dyn FnMut()) {
        hash();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{file::AccountsFile, tests};
    use super::*;

    fn verifier(temp: &tempfile::TempDir, threads: usize) -> PasswordVerifier {
        let file = AccountsFile::new(temp.path().join("accounts"));
        let account = Account {
            rights: Rights::Write,
            root: TreePath::new("home").unwrap(),
            hash: tests::cheap_hash(),
        };
        file.change(|accounts| accounts.add("ann", account)).unwrap();
        let accounts = Arc::new(LiveAccounts::open(file).unwrap());
        PasswordVerifier::start(
            accounts,
            FailedLogins::new().unwrap(),
            Box::new(LocalLoginState::default()),
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
            password_id: tests::cheap_hash().id(),
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

    #[test]
    fn only_the_right_password_of_a_user_is_accepted() {
        let mut accounts = Accounts::default();
        let (root, dummy) = (TreePath::root(), tests::cheap_hash());
        let ann = Account { rights: Rights::Read, root, hash: dummy.clone() };
        accounts.add("ann", ann).unwrap();
        let mut memory = HashMemory::default();
        let mut accepts =
            |user, password| check(&accounts, &dummy, user, password, &mut memory).is_some();
        assert!(accepts("ann", b"secret"));
        assert!(!accepts("ann", b"Secret") && !accepts("ann", b""));
        // An unknown user is refused even with the password of the dummy hash.
        assert!(!accepts("bob", b"secret") && !accepts("", b"secret"));
        assert!(!accepts("ann", &[b'x'; limits::PASSWORD + 1]));
    }
}
