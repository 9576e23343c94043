//! Logins that slaves forward.

use relais_auth::{Account, PasswordHash, PasswordId, Rights, Ticket};
use relais_proto::{ErrorCode, ForwardedLogin, Lsn, TicketRenewal, ToMaster, TreePath};

use super::changes::{committed, joined, propose, put, say};
use super::*;

/// A master with the accounts `ann` (write, root `home`) and `bob` (read).
fn with_accounts() -> Running {
    let state = Arc::new(tempfile::tempdir().unwrap());
    let master = Running::start_in("127.0.0.1:0", state);
    add(&master, "ann", Rights::Write, "home");
    add(&master, "bob", Rights::Read, "");
    master
}

pub(super) fn file(master: &Running) -> AccountsFile {
    AccountsFile::new(master.state.path().join("accounts"))
}

pub(super) fn add(master: &Running, name: &str, rights: Rights, root: &str) {
    let hash = PasswordHash::of(b"secret").unwrap();
    let account = Account { rights, root: TreePath::new(root).unwrap(), hash };
    file(master).change(|accounts| accounts.add(name, account)).unwrap();
    reload(master);
}

pub(super) fn reload(master: &Running) {
    master.requests.send(MasterRequest::Reload);
    // The request is handled before a new client gets its answer.
    let _ = master.login(Login::default());
}

fn client(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 50_000))
}

fn login(query: u64, client: SocketAddr, user: &str, password: &str) -> LinkMessage {
    let (user, password) = (user.to_owned(), password.as_bytes().into());
    LinkMessage::ForwardedLogin(ForwardedLogin { query, client, local: true, user, password })
}

fn renewal(ticket: &[u8], client: SocketAddr) -> LinkMessage {
    let ticket = ticket.to_vec();
    LinkMessage::TicketRenewal(TicketRenewal { query: 7, client, local: true, ticket })
}

/// Reads the next answer to a login.
fn answer(link: &mut Connection) -> (u64, Result<Vec<u8>, Refusal>) {
    let (query, result) = answer_with_lsn(link);
    (query, result.map(|(ticket, _)| ticket))
}

/// Reads the next answer to a login, with the latest change if it is a ticket.
fn answer_with_lsn(link: &mut Connection) -> (u64, Result<(Vec<u8>, Lsn), Refusal>) {
    loop {
        match next(link).unwrap() {
            LinkMessage::TicketIssued { query, lsn, ticket } => return (query, Ok((ticket, lsn))),
            LinkMessage::LoginRefused { query, why } => return (query, Err(why)),
            LinkMessage::HeartbeatAck { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn ask(link: &mut Connection, message: &LinkMessage) -> Result<Vec<u8>, Refusal> {
    link.queue_link(message);
    link.flush().unwrap();
    answer(link).1
}

fn ticket(master: &Running, bytes: &[u8]) -> Ticket {
    Ticket::open(bytes, &master.key, master.key.cluster_id()).unwrap()
}

fn refused_with(result: Result<Vec<u8>, Refusal>) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn forwarded_passwords_get_tickets_or_refusals() {
    let master = with_accounts();
    let mut link = slave(&master, 1);
    let got = ticket(&master, &ask(&mut link, &login(1, client(1), "ann", "secret")).unwrap());
    assert_eq!((&*got.user, got.rights, got.root.as_str()), ("ann", Rights::Write, "home"));
    assert_ne!(got.password_id, PasswordId::default());
    for (user, password) in [("ann", "wrong"), ("eve", "secret"), ("anonymous", "x")] {
        let refused = ask(&mut link, &login(1, client(2), user, password));
        assert_eq!(refused_with(refused), ErrorCode::LoginRefused, "{user}");
    }
    let refused = ask(&mut link, &login(1, client(2), "", "secret"));
    assert_eq!(refused_with(refused), ErrorCode::LoginNeeded);
}

#[test]
fn tickets_come_with_the_latest_change() {
    let master = Running::start();
    let (mut one, mut two) = (joined(&master, 1), slave(&master, 2));
    say(&mut one, ToMaster::Ready);
    propose(&mut one, put(1, "a"));
    assert_eq!(committed(&mut one), [1]);
    two.queue_link(&login(1, client(1), "anonymous", "x"));
    two.flush().unwrap();
    let (ticket, lsn) = answer_with_lsn(&mut two).1.unwrap();
    assert_eq!(lsn, Lsn { epoch: 1, number: 1 });
    propose(&mut one, put(2, "b"));
    assert_eq!(committed(&mut one), [2]);
    two.queue_link(&renewal(&ticket, client(1)));
    two.flush().unwrap();
    let (_, lsn) = answer_with_lsn(&mut two).1.unwrap();
    assert_eq!(lsn, Lsn { epoch: 1, number: 2 }, "a renewed ticket too");
}

#[test]
fn each_query_gets_its_own_answer() {
    let master = with_accounts();
    let mut link = slave(&master, 1);
    for query in 0..20 {
        let password = if query % 3 == 0 { "wrong" } else { "secret" };
        let n = u8::try_from(query).unwrap();
        link.queue_link(&login(query, client(n), "bob", password));
    }
    link.flush().unwrap();
    let mut answers: Vec<(u64, bool)> =
        (0..20).map(|_| answer(&mut link)).map(|(query, result)| (query, result.is_ok())).collect();
    answers.sort_unstable();
    assert_eq!(answers, (0..20).map(|query| (query, query % 3 != 0)).collect::<Vec<_>>());
}

#[test]
fn wrong_passwords_delay_their_address_and_not_the_slave() {
    let master = with_accounts();
    let mut link = slave(&master, 1);
    for _ in 0..4 {
        let refused = ask(&mut link, &login(1, client(1), "ann", "wrong"));
        assert_eq!(refused_with(refused), ErrorCode::LoginRefused);
    }
    let refused = ask(&mut link, &login(1, client(1), "ann", "secret")).unwrap_err();
    assert_eq!((refused.code, refused.retry_after), (ErrorCode::Busy, 1));
    ask(&mut link, &login(1, client(2), "ann", "secret")).unwrap();
}

#[test]
fn too_many_passwords_of_one_slave_are_refused() {
    let master = with_accounts();
    let (mut link, mut other) = (slave(&master, 1), slave(&master, 2));
    const SENT: u16 = 300;
    for n in 0..SENT {
        let [high, low] = n.to_be_bytes();
        let client = SocketAddr::from(([10, high, low, 1], 1));
        link.queue_link(&login(n.into(), client, "ann", "secret"));
    }
    link.flush().unwrap();
    ask(&mut other, &login(1, client(1), "ann", "secret")).unwrap();
    let mut answers = || {
        // The hashes take longer than a link may be silent.
        link.queue_link(&heartbeat());
        link.flush().unwrap();
        answer(&mut link).1
    };
    let results: Vec<_> = (0..SENT).map(|_| answers()).collect();
    let busy = results.iter().filter(|result| result.is_err()).count();
    assert!((1..=usize::from(SENT) - limits::FORWARDED_LOGINS).contains(&busy), "{busy}");
    assert!(results.into_iter().filter_map(Result::err).all(|e| e.code == ErrorCode::Busy));
}

#[test]
fn anonymous_clients_write_only_on_loopback() {
    let master = Running::start();
    let mut link = slave(&master, 1);
    let here = SocketAddr::from(([127, 0, 0, 1], 50_000));
    let mut rights = |user: &str, client, is_local| {
        let LinkMessage::ForwardedLogin(login) = login(1, client, user, "me@example.org") else {
            unreachable!()
        };
        let login = LinkMessage::ForwardedLogin(ForwardedLogin { local: is_local, ..login });
        let got = ticket(&master, &ask(&mut link, &login).unwrap());
        assert_eq!((&*got.user, got.generation), ("", 0));
        got.rights
    };
    for user in ["anonymous", "FTP", ""] {
        assert_eq!(rights(user, here, true), Rights::Write, "{user}");
        assert_eq!(rights(user, here, false), Rights::Read, "{user}");
        assert_eq!(rights(user, client(1), true), Rights::Read, "{user}");
    }
    let refused = ask(&mut link, &login(1, here, "ann", "secret"));
    assert_eq!(refused_with(refused), ErrorCode::LoginRefused);
}

#[test]
fn anonymous_account_accepts_every_password() {
    let master = with_accounts();
    add(&master, "anonymous", Rights::Read, "pub");
    let mut link = slave(&master, 1);
    for user in ["anonymous", "ftp"] {
        let got = ask(&mut link, &login(1, client(1), user, "me@example.org")).unwrap();
        let got = ticket(&master, &got);
        assert_eq!((&*got.user, got.rights), ("anonymous", Rights::Read));
        assert_eq!(got.root.as_str(), "pub");
    }
}

#[test]
fn renewed_tickets_have_the_present_rights() {
    let master = with_accounts();
    let mut link = slave(&master, 1);
    let ann = ask(&mut link, &login(1, client(1), "ann", "secret")).unwrap();
    let bob = ask(&mut link, &login(2, client(1), "bob", "secret")).unwrap();
    let accounts = file(&master);
    let root = TreePath::new("other").unwrap();
    accounts.change(|all| all.set("ann", Some(Rights::Read), Some(root.clone()))).unwrap();
    accounts.change(|all| all.remove("bob")).unwrap();
    reload(&master);
    let renewed = ask(&mut link, &renewal(&ann, client(1))).unwrap();
    let got = ticket(&master, &renewed);
    assert_eq!((got.rights, got.root, got.generation), (Rights::Read, root, 3));
    assert_eq!(refused_with(ask(&mut link, &renewal(&bob, client(1)))), ErrorCode::BadTicket);
    let hash = PasswordHash::of(b"another").unwrap();
    accounts.change(|all| all.set_password("ann", hash)).unwrap();
    reload(&master);
    for old in [&ann, &renewed] {
        assert_eq!(refused_with(ask(&mut link, &renewal(old, client(1)))), ErrorCode::BadTicket);
    }
}

#[test]
fn renewal_needs_a_true_ticket_that_ended_recently() {
    let master = with_accounts();
    let mut link = slave(&master, 1);
    let good = ask(&mut link, &login(1, client(1), "ann", "secret")).unwrap();
    let mut ended = |ago: Duration| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let ends_ms = u64::try_from((now - ago).as_millis()).unwrap();
        let old = Ticket { ends_ms, ..ticket(&master, &good) }.mint(&master.key);
        ask(&mut link, &renewal(&old, client(1)))
    };
    ended(limits::TICKET_TIME / 2).unwrap();
    assert_eq!(refused_with(ended(limits::TICKET_TIME * 2)), ErrorCode::BadTicket);
    let mut altered = good;
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(refused_with(ask(&mut link, &renewal(&altered, client(1)))), ErrorCode::BadTicket);
}
