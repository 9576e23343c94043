//! Session logic against servers in threads.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relais_net::Connection;
use relais_proto::{
    Capabilities, ClusterId, Endpoint, ErrorCode, Login, Lsn, Reply, Request, ServerRole, SlaveId,
    TreePath, WaitReason,
};

use super::state::Session;
use crate::tests::fake::*;

impl Session {
    /// Whether the session has a connection.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the session avoids this slave now.
    pub fn avoids(&self, slave: SlaveId) -> bool {
        self.avoid.holds(slave, Instant::now())
    }
}

const NO_RETRY: Duration = Duration::ZERO;
const RETRY: Duration = Duration::from_secs(20);

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn list(session: &mut Session) -> Result<Vec<String>, ErrorCode> {
    let mut names = Vec::new();
    let mut each = |entry: relais_proto::Entry| {
        names.push(entry.name);
        Ok(())
    };
    session.list(&TreePath::root(), &mut each).map_err(|failure| failure.code)?;
    Ok(names)
}

#[test]
fn a_redirect_is_followed() {
    let server = slave(1, one_file);
    let (master, logins) = master(vec![endpoint(1, server)]);
    let mut session = session(master, NO_RETRY);
    assert_eq!(session.stat(&path("a/b")).unwrap().entry.name, "b");
    assert_eq!(
        (session.origin.as_ref().map(|origin| origin.cluster), session.server()),
        (Some(CLUSTER), Some((server, ServerRole::Slave)))
    );
    assert_eq!(session.stat(&path("c")).unwrap().entry.name, "c");
    assert_eq!(*logins.lock().unwrap(), [Login::default()]);
    assert!(session.notices.collected().is_empty());
}

#[test]
fn all_addresses_are_tried_before_the_next_slave() {
    let server = slave(3, one_file);
    let slaves = vec![
        endpoint(1, closed_addr()),
        Endpoint { id: id(2), addrs: vec!["127.0.0.1:0".parse().unwrap(), closed_addr()] },
        Endpoint { id: id(3), addrs: vec![closed_addr(), server] },
    ];
    let mut session = session(master(slaves).0, NO_RETRY);
    assert_eq!(session.stat(&path("a")).unwrap().entry.name, "a");
    assert_eq!(session.avoid.ids(Instant::now()), [id(1), id(2)]);
}

#[test]
fn standalone_slave_opens_at_once() {
    let addr = serve(|connection, _| {
        assert!(matches!(opening(connection), Some(Request::Login(_))));
        send(connection, &[welcome(ServerRole::Standalone), opened(1)]);
        let request = connection.read_request().unwrap().unwrap();
        send(connection, &one_file(&request).0);
    });
    let mut session = session(addr, NO_RETRY);
    assert_eq!(session.stat(&path("a")).unwrap().entry.name, "a");
    assert_eq!(session.server(), Some((addr, ServerRole::Standalone)));
}

#[test]
fn redirect_loops_are_refused() {
    // A slave that answers each ticket with a redirect.
    let circle = serve(|connection, _| {
        opening(connection);
        send(connection, &[welcome(ServerRole::Slave), redirect(vec![endpoint(1, closed_addr())])]);
    });
    let mut one = session(master(vec![endpoint(1, circle)]).0, RETRY);
    assert_eq!(one.connect().unwrap_err().code, ErrorCode::BadServer);

    // A slave that names itself as its master.
    let itself = serve(|connection, _| {
        opening(connection);
        let ask = Reply::AskMaster(connection.local().to_string());
        send(connection, &[welcome(ServerRole::Slave), ask]);
    });
    let failure = session(itself, RETRY).connect().unwrap_err();
    assert_eq!(failure.code, ErrorCode::BadServer);
    assert!(failure.message.contains("circle"), "{failure}");
}

#[test]
fn redirects_without_usable_address_are_refused() {
    let slaves =
        ["127.0.0.1:0", "0.0.0.0:1", "[::]:1"].map(|addr| endpoint(1, addr.parse().unwrap()));
    let failure = session(master(slaves.to_vec()).0, RETRY).connect().unwrap_err();
    assert_eq!(failure.code, ErrorCode::BadServer);
    assert!(failure.message.contains("no address"), "{failure}");
}

#[test]
fn slave_names_its_master_which_is_remembered() {
    let server = slave(1, |request| (one_file(request).0, true));
    let (master, logins) = master(vec![endpoint(1, server)]);
    let dialled = serve(move |connection, number| {
        assert_eq!(number, 0, "asked again");
        opening(connection);
        send(connection, &[welcome(ServerRole::Slave), Reply::AskMaster(master.to_string())]);
    });
    let mut session = session(dialled, NO_RETRY);
    session.stat(&path("a")).unwrap();
    session.stat(&path("a")).unwrap();
    assert_eq!(logins.lock().unwrap().len(), 2);
}

#[test]
fn slave_of_another_cluster_is_rejected() {
    let other = serve(|connection, _| {
        opening(connection);
        let welcome = Reply::Welcome {
            version: 1,
            role: ServerRole::Slave,
            cluster: ClusterId([8; 16]),
            capabilities: Capabilities::default(),
            agent: String::new(),
        };
        send(connection, &[welcome, opened(1)]);
    });
    let good = slave(2, one_file);
    let mut session = session(master(vec![endpoint(1, other), endpoint(2, good)]).0, NO_RETRY);
    session.connect().unwrap();
    assert_eq!(session.server().unwrap().0, good);
}

#[test]
fn login_is_retried_while_no_slave_is_in_service() {
    let server = slave(1, one_file);
    let master = serve(move |connection, number| {
        opening(connection);
        let answer = if number < 2 {
            refusal(ErrorCode::NoSlave)
        } else {
            redirect(vec![endpoint(1, server)])
        };
        send(connection, &[welcome(ServerRole::Master), answer]);
    });
    session(master, RETRY).connect().unwrap();
}

#[test]
fn retries_end_with_the_last_failure() {
    let none = serve(|connection, _| {
        opening(connection);
        send(connection, &[welcome(ServerRole::Master), refusal(ErrorCode::NoSlave)]);
    });
    let begun = Instant::now();
    let failure = session(none, Duration::from_millis(300)).connect().unwrap_err();
    assert_eq!((failure.code, failure.status()), (ErrorCode::NoSlave, 3));
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let failure = session(closed_addr(), NO_RETRY).connect().unwrap_err();
    assert_eq!((failure.code, failure.status()), (ErrorCode::Unreachable, 3));

    let refused = serve(|connection, _| {
        opening(connection);
        send(connection, &[welcome(ServerRole::Master), refusal(ErrorCode::LoginRefused)]);
    });
    assert_eq!(session(refused, RETRY).connect().unwrap_err().status(), 4);
}

#[test]
fn refusal_after_an_accepted_login_says_that_it_ended() {
    let slave = slave(1, |_| (vec![refusal(ErrorCode::BadTicket)], false));
    let master = serve(move |connection, number| {
        opening(connection);
        let answer = match number {
            0 => redirect(vec![endpoint(1, slave)]),
            _ => refusal(ErrorCode::LoginRefused),
        };
        send(connection, &[welcome(ServerRole::Master), answer]);
    });
    let mut session = session(master, NO_RETRY);
    let failure = session.stat(&relais_proto::TreePath::new("f").unwrap()).unwrap_err();
    assert_eq!(failure.code, ErrorCode::LoginRefused);
    assert!(failure.message.contains("the login has ended"), "{failure}");
}

#[test]
fn listing_resumes_after_last_name_on_another_slave() {
    let first = slave(1, |request| {
        assert!(matches!(request, Request::List { after, .. } if after.is_empty()));
        (vec![page(&["a", "b"])], true)
    });
    let second = slave(2, |request| {
        assert!(matches!(request, Request::List { after, .. } if after == "b"));
        (vec![page(&["c"]), Reply::Done { lsn: MARK }], false)
    });
    let (master, logins) = master(vec![endpoint(1, first), endpoint(2, second)]);
    let mut session = session(master, NO_RETRY);
    assert_eq!(list(&mut session).unwrap(), ["a", "b", "c"]);
    assert_eq!(
        session.notices.collected(),
        [format!("lost {first} (connection closed); continuing with {second}")]
    );
    let logins = logins.lock().unwrap();
    assert_eq!((logins.len(), logins[1].avoid.as_slice(), logins[1].lsn), (2, &[id(1)][..], MARK));
}

#[test]
fn known_slaves_are_used_without_master() {
    let first = slave(1, |_| (vec![], true));
    let second = slave(2, one_file);
    let slaves = vec![endpoint(1, first), endpoint(2, second)];
    let master = serve(move |connection, number| {
        if number == 0 {
            opening(connection);
            send(connection, &[welcome(ServerRole::Master), redirect(slaves.clone())]);
        }
    });
    let mut session = session(master, NO_RETRY);
    session.stat(&path("a")).unwrap();
    assert_eq!(session.server().unwrap().0, second);
}

#[test]
fn draining_slave_is_left() {
    let first = slave(1, |_| (vec![refusal(ErrorCode::Draining)], false));
    let second = slave(2, one_file);
    let mut session = session(master(vec![endpoint(1, first), endpoint(2, second)]).0, NO_RETRY);
    session.stat(&path("a")).unwrap();
    assert_eq!(session.server().unwrap().0, second);
}

#[test]
fn refusal_keeps_the_session_open() {
    let server = slave(1, |request| match request {
        Request::Hash(_) => {
            (vec![Reply::Wait(WaitReason::Hashing), refusal(ErrorCode::IsFolder)], false)
        }
        other => one_file(other),
    });
    let (master, logins) = master(vec![endpoint(1, server)]);
    let mut session = session(master, NO_RETRY);
    assert_eq!(session.hash(&path("a")).unwrap_err().code, ErrorCode::IsFolder);
    session.stat(&path("a")).unwrap();
    assert_eq!(logins.lock().unwrap().len(), 1);
}

#[test]
fn closed_idle_session_reopens_silently() {
    let server = slave(1, |request| (one_file(request).0, true));
    let mut session = session(master(vec![endpoint(1, server)]).0, NO_RETRY);
    session.stat(&path("a")).unwrap();
    while session.is_open() {
        session.refresh();
    }
    session.stat(&path("a")).unwrap();
    assert!(session.notices.collected().is_empty() && session.avoid.ids(Instant::now()).is_empty());
}

#[test]
fn protocol_violations_are_rejected() {
    for names in [&["b", "a"][..], &["a", "a"], &[""]] {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let server = slave(1, move |_| {
            (vec![page(&names.iter().map(String::as_str).collect::<Vec<_>>())], false)
        });
        assert_eq!(
            list(&mut session(master(vec![endpoint(1, server)]).0, RETRY)),
            Err(ErrorCode::BadServer)
        );
    }
    let server = slave(1, |_| (one_file(&Request::Stat(path("other"))).0, false));
    assert_eq!(
        session(master(vec![endpoint(1, server)]).0, RETRY).stat(&path("a")).unwrap_err().code,
        ErrorCode::BadServer
    );
    let server = slave(1, |_| (vec![Reply::Pong], false));
    assert_eq!(
        session(master(vec![endpoint(1, server)]).0, RETRY).stat(&path("a")).unwrap_err().code,
        ErrorCode::BadServer
    );
}

#[test]
fn retries_on_failing_servers_are_bounded() {
    let server = slave(1, |_| (vec![], true));
    let mut session = session(master(vec![endpoint(1, server)]).0, NO_RETRY);
    assert_eq!(session.stat(&path("a")).unwrap_err().code, ErrorCode::Unreachable);
    assert_eq!(list(&mut session), Err(ErrorCode::Unreachable));
}

#[test]
fn queueing_is_reported_once() {
    let server = serve(|connection, _| {
        opening(connection);
        let wait = Reply::Wait(WaitReason::Queue);
        send(
            connection,
            &[welcome(ServerRole::Slave), wait.clone(), wait.clone(), wait, opened(1)],
        );
    });
    let mut session = session(master(vec![endpoint(1, server)]).0, NO_RETRY);
    session.connect().unwrap();
    assert_eq!(session.notices.collected(), ["waiting for a free slot"]);
}

#[test]
fn slave_never_gets_a_password() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let server = |role, answer: Reply| {
        let seen = Arc::clone(&seen);
        serve(move |connection: &mut Connection, _| {
            assert!(matches!(connection.read_request(), Ok(Some(Request::Hello(_)))));
            send(connection, &[welcome(role)]);
            let Ok(Some(Request::Login(login))) = connection.read_request() else {
                panic!("no login")
            };
            seen.lock().unwrap().push(login.password);
            send(connection, std::slice::from_ref(&answer));
        })
    };
    let with_password = |addr| {
        let mut session = session(addr, NO_RETRY);
        session.settings.user = "ann".to_owned();
        session.settings.password = Some(b"secret".to_vec());
        session
    };
    let slave = server(ServerRole::Slave, Reply::AskMaster("127.0.0.1:1".into()));
    assert_eq!(with_password(slave).connect().unwrap_err().code, ErrorCode::LoginNeeded);
    let standalone = server(ServerRole::Standalone, opened(1));
    with_password(standalone).connect().unwrap();
    assert_eq!(*seen.lock().unwrap(), [b"".to_vec(), b"secret".to_vec()]);
}

#[test]
fn interruption_ends_retries_without_penalty() {
    let none = serve(|connection, _| {
        opening(connection);
        send(connection, &[welcome(ServerRole::Master), refusal(ErrorCode::NoSlave)]);
    });
    let mut trying = session(none, Duration::from_secs(600));
    let interrupt = trying.interrupt.clone();
    let thread = std::thread::spawn(move || interrupt.raise());
    assert_eq!(trying.connect().unwrap_err().code, ErrorCode::Interrupted);
    thread.join().unwrap();

    // A slave that never answers.
    let silent = slave(1, |_| (vec![], false));
    let mut waiting = session(master(vec![endpoint(1, silent)]).0, NO_RETRY);
    waiting.connect().unwrap();
    let interrupt = waiting.interrupt.clone();
    let thread = std::thread::spawn(move || {
        // By then it waits for the answer.
        std::thread::sleep(Duration::from_millis(200));
        interrupt.raise()
    });
    assert_eq!(waiting.stat(&path("a")).unwrap_err().code, ErrorCode::Interrupted);
    thread.join().unwrap();
    assert!(waiting.avoid.ids(Instant::now()).is_empty() && !waiting.is_open());
}

#[test]
fn a_dropped_lsn_is_reported_once() {
    let mut session = session(closed_addr(), NO_RETRY);
    let lsn = |epoch| Lsn { epoch, number: 0 };
    for _ in 0..10 {
        session.enter_cluster(CLUSTER, None, lsn(2));
        assert!(session.enter_authoritative(CLUSTER, None, lsn(1), lsn(2)));
    }
    let warnings = session.notices.collected();
    assert!(matches!(&warnings[..], [one] if one.contains("2-0 is dropped")), "{warnings:?}");
}
