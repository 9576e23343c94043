//! Logins of clients that send name and password to any slave, and their renewal.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relais_auth::{
    Account, Accounts, AuthenticatedUser, ClusterKey, FailedLogins, LiveAccounts, LocalLoginState,
    PasswordHash, PasswordId, PasswordVerifier, Rights, Ticket, log_out,
};
use relais_engine::{
    Authenticator, IssuedTicket, LoginPolicy, LoginProgress, MasterAnswer, MasterLogins,
    MasterQuery, PathUpload, Principal, Protocol, SecretSource, Session, Upload, UploadStart,
};
use relais_proto::{ErrorCode, Lsn, Refusal, TreePath, limits};

use self::host::{Fixture, Waiting};

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn elsewhere() -> IpAddr {
    [192, 0, 2, 1].into()
}

fn key() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

/// Accounts of this process, and the cluster key.
struct TestSecrets(Arc<LiveAccounts>);

impl SecretSource for TestSecrets {
    fn receive(&self) {}

    fn accounts(&self) -> &LiveAccounts {
        &self.0
    }

    fn key(&self) -> Option<ClusterKey> {
        Some(key())
    }
}

/// A master that gives each query the next prepared answer, and records the queries.
#[derive(Default)]
struct TestMaster {
    answers: Mutex<Vec<MasterAnswer>>,
    queries: Mutex<Vec<String>>,
}

impl TestMaster {
    fn prepare(&self, answer: MasterAnswer) {
        self.answers.lock().unwrap().push(answer);
    }
}

impl MasterLogins for TestMaster {
    fn ask(&self, query: MasterQuery<'_>) -> Result<Receiver<MasterAnswer>, Refusal> {
        self.queries.lock().unwrap().push(match query {
            MasterQuery::LogIn { user, password, address } => {
                format!("{user} {} {address}", String::from_utf8_lossy(password))
            }
            MasterQuery::Renew { ticket, address } => format!("{} {address}", ticket.len()),
        });
        let (to, answer) = channel();
        to.send(self.answers.lock().unwrap().remove(0)).unwrap();
        Ok(answer)
    }
}

/// The end of a ticket that is issued at the time 0.
fn ticket_time() -> u64 {
    u64::try_from(limits::TICKET_TIME.as_millis()).unwrap()
}

fn user(rights: Rights, generation: u64) -> AuthenticatedUser {
    AuthenticatedUser {
        name: "ann".to_owned(),
        rights,
        root: TreePath::root(),
        generation,
        password_id: PasswordId([3; 16]),
    }
}

fn ticket(rights: Rights, generation: u64, now_ms: u64) -> Vec<u8> {
    Ticket::new(user(rights, generation), key().cluster_id(), now_ms).mint(&key())
}

/// A ticket that was issued before the first change.
fn issued(rights: Rights, generation: u64, now_ms: u64) -> MasterAnswer {
    let ticket = ticket(rights, generation, now_ms);
    Ok(IssuedTicket { ticket, lsn: Lsn::default() })
}

/// A slave with the decisions about its logins.
struct Slave {
    fixture: Fixture,
    logins: Arc<Authenticator<TestSecrets>>,
    accounts: Arc<LiveAccounts>,
    master: Arc<TestMaster>,
}

impl Slave {
    fn in_cluster() -> Self {
        let (accounts, master) =
            (Arc::new(LiveAccounts::without_file(None)), Arc::new(TestMaster::default()));
        let policy = LoginPolicy::Cluster { master: master.clone() };
        Self::new(policy, accounts, master)
    }

    fn new(policy: LoginPolicy, accounts: Arc<LiveAccounts>, master: Arc<TestMaster>) -> Self {
        let logins = Arc::new(Authenticator::new(policy, TestSecrets(accounts.clone())));
        let fixture = Fixture::new();
        fixture.engine.renew_logins_by(logins.clone());
        Self { fixture, logins, accounts, master }
    }

    fn standalone(accounts: Option<Accounts>) -> Self {
        let accounts = Arc::new(LiveAccounts::without_file(accounts.map(Arc::new)));
        let (failed, state) = (FailedLogins::new().unwrap(), LocalLoginState::default());
        let passwords =
            PasswordVerifier::start(accounts.clone(), failed, Box::new(state), 1).unwrap();
        let policy = LoginPolicy::Standalone { writable: true, passwords: Some(passwords) };
        let slave = Self::new(policy, accounts, Arc::default());
        slave.set_generation(slave.accounts.generation());
        slave
    }

    fn set_generation(&self, generation: u64) {
        self.fixture.state.generation.store(generation, SeqCst);
    }

    /// Puts changed accounts in force.
    fn change(&self, accounts: &mut Accounts, change: impl FnOnce(&mut Accounts)) {
        change(accounts);
        self.accounts.replace(accounts.clone());
        self.set_generation(accounts.generation());
    }

    fn log_in(&self, user: &str, password: &str, address: IpAddr) -> Result<Principal, Refusal> {
        let host = self.fixture.engine.host();
        let progress = self.logins.log_in_by_password(user, password.as_bytes(), address, host)?;
        let pending = match progress {
            LoginProgress::Admitted(principal) => return Ok(principal),
            LoginProgress::Pending(pending) => pending,
        };
        let began = Instant::now();
        loop {
            if let Some(result) = pending.take() {
                return self.logins.conclude(result, address, host);
            }
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn session(&self, principal: Principal) -> Session {
        let (engine, address) = (self.fixture.engine.clone(), SocketAddr::new(LOOPBACK, 1));
        Session::new(engine, principal, Protocol::Ftp, address, Arc::new(|| {}))
    }

    /// Renews the login of a session, and returns the reason of a failure.
    fn renew(&self, session: &mut Session) -> Option<ErrorCode> {
        session.renew_login().err().map(|refusal| refusal.code)
    }
}

fn accounts(names: &[&str]) -> Accounts {
    let mut accounts = Accounts::default();
    let hash = PasswordHash::of(b"secret").unwrap();
    for name in names {
        let root = TreePath::root();
        let account = Account { rights: Rights::Write, root, hash: hash.clone() };
        accounts.add(name, account).unwrap();
    }
    accounts
}

#[test]
fn anonymous_clients_of_a_standalone_slave_write_on_loopback_only() {
    let slave = Slave::standalone(None);
    for name in ["anonymous", "FTP", ""] {
        let here = slave.log_in(name, "me@example.org", LOOPBACK).unwrap();
        assert!(here.rights.can_write() && here.user.is_empty(), "{name}");
        assert!(!slave.log_in(name, "", elsewhere()).unwrap().rights.can_write(), "{name}");
    }
    let refused = slave.log_in("ann", "secret", LOOPBACK).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LoginRefused);
}

#[test]
fn anonymous_account_of_a_standalone_slave_has_its_own_rights() {
    let slave = Slave::standalone(Some(accounts(&["ann"])));
    for name in ["anonymous", "ftp"] {
        let refused = slave.log_in(name, "secret", LOOPBACK).unwrap_err();
        assert_eq!(refused.code, ErrorCode::LoginRefused, "{name}");
    }
    let slave = Slave::standalone(Some(accounts(&["ann", "anonymous"])));
    let principal = slave.log_in("ftp", "me@example.org", elsewhere()).unwrap();
    assert_eq!((&*principal.user, principal.rights.can_write()), ("anonymous", true));
}

#[test]
fn accounts_renew_logins_of_a_standalone_slave() {
    let mut all = accounts(&["ann", "bob", "anonymous"]);
    let slave = Slave::standalone(Some(all.clone()));
    let mut ann = slave.session(slave.log_in("ann", "secret", LOOPBACK).unwrap());
    let mut bob = slave.session(slave.log_in("bob", "secret", LOOPBACK).unwrap());
    let mut guest = slave.session(slave.log_in("ftp", "", LOOPBACK).unwrap());
    let before = ann.principal().clone();
    assert_eq!(slave.renew(&mut ann), None);
    assert_eq!(*ann.principal(), before, "nothing has changed");
    slave.change(&mut all, |all| all.remove("bob").unwrap());
    assert_eq!(slave.renew(&mut ann), None);
    assert!(ann.check_open().is_ok() && ann.principal().rights.can_write());
    assert!(bob.check_open().is_err());
    assert_eq!(slave.renew(&mut bob), Some(ErrorCode::BadTicket));
    assert_eq!(slave.renew(&mut guest), None);
    slave.change(&mut all, |all| all.set("ann", Some(Rights::Read), None).unwrap());
    assert_eq!(slave.renew(&mut ann), None);
    assert!(!ann.principal().rights.can_write());
    let hash = PasswordHash::of(b"another").unwrap();
    slave.change(&mut all, |all| all.set_password("ann", hash).unwrap());
    assert_eq!(slave.renew(&mut ann), Some(ErrorCode::BadTicket));
}

#[test]
fn accounts_that_change_during_an_upload_decide_at_its_end() {
    let mut all = accounts(&["ann", "bob", "eve"]);
    let slave = Slave::standalone(Some(all.clone()));
    let sessions = ["ann", "bob", "eve"]
        .map(|name| slave.session(slave.log_in(name, "secret", LOOPBACK).unwrap()));
    let patient = || Waiting::at_most(Duration::from_secs(30));
    let [ann, bob, eve] = sessions.each_ref().map(|session| {
        let path = TreePath::new(session.principal().user.clone()).unwrap();
        let begun = session.begin_path_upload(&path, UploadStart::New, None, &mut patient());
        let PathUpload::Ready(mut upload) = begun.unwrap() else { panic!("it is new") };
        upload.write(b"content").unwrap();
        upload
    });
    slave.change(&mut all, |all| all.remove("bob").unwrap());
    slave.change(&mut all, |all| all.set("eve", Some(Rights::Read), None).unwrap());
    let finish = |upload: Upload| upload.finish(None, &mut patient());
    assert!(finish(ann).is_ok(), "her account has not changed");
    assert_eq!(finish(bob).err().unwrap().code, ErrorCode::BadTicket);
    assert_eq!(finish(eve).err().unwrap().code, ErrorCode::Denied);
    let [mut ann, bob, mut eve] = sessions;
    assert!(ann.check_open().is_ok() && bob.check_open().is_err());
    assert_eq!((slave.renew(&mut ann), slave.renew(&mut eve)), (None, None));
    assert!(ann.principal().rights.can_write() && !eve.principal().rights.can_write());
    assert_eq!(ann.principal().generation, 3);
}

#[test]
fn first_account_ends_logins_without_an_account() {
    let slave = Slave::standalone(None);
    let mut guest = slave.session(slave.log_in("ftp", "", LOOPBACK).unwrap());
    assert_eq!(slave.renew(&mut guest), None);
    slave.change(&mut accounts(&["ann"]), |_| {});
    assert_eq!(slave.renew(&mut guest), Some(ErrorCode::BadTicket));
}

#[test]
fn slave_of_a_cluster_asks_its_master() {
    let slave = Slave::in_cluster();
    slave.master.prepare(issued(Rights::Read, 1, 1));
    let principal = slave.log_in("ann", "secret", elsewhere()).unwrap();
    assert_eq!((&*principal.user, principal.rights.can_write()), ("ann", false));
    for code in [ErrorCode::LoginRefused, ErrorCode::Busy] {
        slave.master.prepare(Err(Refusal::new(code, "no")));
        assert_eq!(slave.log_in("ftp", "x", LOOPBACK).unwrap_err().code, code);
    }
    slave.master.prepare(Ok(IssuedTicket { ticket: b"no ticket".to_vec(), lsn: Lsn::default() }));
    assert_eq!(slave.log_in("ann", "", LOOPBACK).unwrap_err().code, ErrorCode::BadTicket);
    let queries = slave.master.queries.lock().unwrap();
    assert_eq!(queries[..2], ["ann secret 192.0.2.1", "ftp x 127.0.0.1"]);
}

#[test]
fn master_renews_logins_of_a_cluster() {
    let slave = Slave::in_cluster();
    slave.set_generation(1);
    slave.master.prepare(issued(Rights::Write, 1, 1));
    let mut session = slave.session(slave.log_in("ann", "secret", LOOPBACK).unwrap());
    assert_eq!(slave.renew(&mut session), None);
    assert_eq!(slave.master.queries.lock().unwrap().len(), 1, "it is not old");
    slave.set_generation(2);
    let busy = || Err(Refusal::new(ErrorCode::Busy, "no link"));
    slave.master.prepare(busy());
    assert_eq!(slave.renew(&mut session), Some(ErrorCode::Busy), "it has ended");
    slave.master.prepare(issued(Rights::Read, 2, 1));
    assert_eq!(slave.renew(&mut session), None, "the next command tries again");
    assert!(session.check_open().is_ok() && !session.principal().rights.can_write());
    // An hour before its end it is renewed, and stays in force if that fails.
    let soon = ticket_time() - 3_000_000;
    slave.fixture.state.now_ms.store(soon, SeqCst);
    slave.master.prepare(busy());
    assert_eq!(slave.renew(&mut session), None);
    assert!(session.check_open().is_ok());
    slave.master.prepare(issued(Rights::Read, 2, soon));
    assert_eq!(slave.renew(&mut session), None);
    assert_eq!(session.principal().ends_ms, soon + ticket_time());
    slave.set_generation(3);
    slave.master.prepare(Err(Refusal::new(ErrorCode::BadTicket, "this user was removed")));
    assert_eq!(slave.renew(&mut session), Some(ErrorCode::BadTicket));
}

#[test]
fn sessions_include_the_latest_change_of_the_login() {
    let slave = Slave::in_cluster();
    slave.set_generation(1);
    let latest = |number, generation| {
        let ticket = ticket(Rights::Write, generation, 1);
        Ok(IssuedTicket { ticket, lsn: Lsn { epoch: 1, number } })
    };
    let ready = |session: &Session| session.check_ready(&mut Waiting::at_most(Duration::ZERO));
    let applied = &slave.fixture.state.applied;
    let number = applied.load(SeqCst);
    slave.master.prepare(latest(number + 1, 1));
    let mut session = slave.session(slave.log_in("ann", "secret", LOOPBACK).unwrap());
    assert!(ready(&session).is_err(), "another slave may have shown the change");
    applied.store(number + 1, SeqCst);
    ready(&session).unwrap();
    slave.set_generation(2);
    slave.master.prepare(latest(number + 2, 2));
    assert_eq!(slave.renew(&mut session), None);
    assert!(ready(&session).is_err(), "a renewed login has the latest change too");
    applied.store(number + 2, SeqCst);
    ready(&session).unwrap();
}

#[test]
fn native_logins_are_not_renewed() {
    let slave = Slave::in_cluster();
    let host = slave.fixture.engine.host();
    let ticket = ticket(Rights::Write, 1, 1);
    let lsn = Lsn::default();
    let native = slave.logins.check_ticket(&ticket, lsn, LOOPBACK, host).unwrap();
    let mut session = slave.session(native);
    slave.set_generation(2);
    assert_eq!(slave.renew(&mut session), Some(ErrorCode::BadTicket));
    assert!(slave.master.queries.lock().unwrap().is_empty());
}

#[test]
fn a_ticket_is_refused_after_the_log_out() {
    let slave = Slave::in_cluster();
    let (ticket, other) = (ticket(Rights::Write, 0, 0), ticket(Rights::Read, 0, 0));
    let host = slave.fixture.engine.host();
    let check = |ticket: &[u8]| {
        let native = slave.logins.check_ticket(ticket, Lsn::default(), LOOPBACK, host);
        let cookie = slave.logins.resume_by_ticket(ticket, LOOPBACK, host).map(|_| ());
        let codes = (native.err().map(|e| e.code), cookie.err().map(|e| e.code));
        assert_eq!(codes.0, codes.1);
        codes.0
    };
    assert_eq!((check(&ticket), check(&other)), (None, None));
    let fields = Ticket::open(&ticket, &key(), key().cluster_id()).unwrap();
    assert!(host.ended_tickets().insert(log_out(&fields, &ticket, 0)));
    assert_eq!((check(&ticket), check(&other)), (Some(ErrorCode::BadTicket), None));
    // The master, which may not know of it, is not asked for another one.
    slave.set_generation(1);
    let renewed = slave.logins.resume_by_ticket(&ticket, LOOPBACK, host).map(|_| ());
    assert_eq!(renewed.unwrap_err().code, ErrorCode::BadTicket);
    assert!(slave.master.queries.lock().unwrap().is_empty());
}
