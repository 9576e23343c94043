//! Answers to clients, and limits on hostile ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use relais_auth::{Rights, Ticket};
use relais_proto::{ErrorCode, Hello, Login, Reply, Request, Role, SlaveId};

use super::*;

#[test]
fn clients_are_redirected_in_turn_with_a_valid_ticket() {
    let master = Running::start();
    let (_one, _two) = (slave(&master, 1), slave(&master, 2));
    assert_eq!([master.first(), master.first(), master.first()], [1, 2, 1]);
    let Reply::Redirect { ticket, lsn, slaves } = master.login(Login::default()) else {
        panic!("no redirect")
    };
    let cluster = master.key.cluster_id();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let ticket =
        Ticket::check(&ticket, &master.key, cluster, u64::try_from(now).unwrap(), 0).unwrap();
    assert_eq!((ticket.user.as_str(), ticket.rights), ("", Rights::Write));
    assert_eq!((lsn.epoch, lsn.number), (1, 0));
    assert_eq!(
        slaves.iter().map(|s| s.addrs[0].to_string()).collect::<Vec<_>>(),
        ["127.0.0.1:1002", "127.0.0.1:1001"]
    );
}

#[test]
fn anonymous_writes_need_a_loopback_master() {
    for (listen, rights) in [("0.0.0.0:0", Rights::Read), ("[::1]:0", Rights::Write)] {
        let master = Running::start_in(listen, Arc::new(tempfile::tempdir().unwrap()));
        let _one = slave(&master, 1);
        let Reply::Redirect { ticket, .. } = master.login(Login::default()) else {
            panic!("no redirect")
        };
        let now = u64::try_from(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(),
        )
        .unwrap();
        let ticket = Ticket::check(&ticket, &master.key, master.key.cluster_id(), now, 0).unwrap();
        assert_eq!(ticket.rights, rights, "{listen}");
    }
}

#[test]
fn avoided_slaves_are_left_out_and_preferred_come_first() {
    let master = Running::start();
    let (_one, _two) = (slave(&master, 1), slave(&master, 2));
    let ids = |login| match master.login(login) {
        Reply::Redirect { slaves, .. } => {
            slaves.iter().map(|slave| slave.id.0[0]).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(ids(Login { avoid: vec![SlaveId([1; 16])], ..Login::default() }), [2]);
    assert_eq!(ids(Login { prefer: Some(SlaveId([2; 16])), ..Login::default() }), [2, 1]);
}

#[test]
fn without_a_slave_the_client_gets_a_retry_delay() {
    let master = Running::start();
    let refusal = master.redirect().unwrap_err();
    assert_eq!((refusal.code, refusal.retry_after), (ErrorCode::NoSlave, 1));
    let one = slave(&master, 1);
    assert_eq!(master.first(), 1);
    drop(one);
    master.wait_for_slaves(0);
}

#[test]
fn names_are_refused_while_there_are_no_accounts() {
    let master = Running::start();
    let login = Login { user: "ann".to_owned(), password: b"secret".to_vec(), ..Login::default() };
    assert!(matches!(
        master.login(login),
        Reply::Error(refusal) if refusal.code == ErrorCode::LoginRefused
    ));
}

#[test]
fn a_client_may_wait_for_the_welcome_before_it_logs_in() {
    let master = Running::start();
    let mut connection = master.connect();
    connection.queue(&hello(Role::Client));
    connection.flush().unwrap();
    assert!(matches!(
        connection.read_reply().unwrap(),
        Some(Reply::Welcome { cluster, .. }) if cluster == master.key.cluster_id()
    ));
    connection.queue(&Request::Login(Login::default()));
    connection.flush().unwrap();
    assert_eq!(refused(&mut connection).code, ErrorCode::NoSlave);
    assert!(connection.read_reply().unwrap().is_none(), "the master closes");
}

#[test]
fn silent_peers_and_half_logins_delay_no_client() {
    let master = Running::start();
    let _one = slave(&master, 1);
    let mut begun = Vec::new();
    Request::encode(&hello(Role::Client), &mut begun);
    let _silent: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = TcpStream::connect(master.addr).unwrap();
            stream.write_all(&begun[..n % begun.len()]).unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(master.first(), 1);
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[test]
fn malformed_greetings_are_answered_and_closed() {
    let master = Running::start();
    let mut frame = Vec::new();
    Request::encode(&Request::Login(Login::default()), &mut frame);
    for (bytes, code) in [
        (b"nonsense of a peer\r\n".to_vec(), ErrorCode::BadRequest),
        (vec![0, 0, 0, 0, 0xee], ErrorCode::BadRequest),
        (vec![0xff; 64], ErrorCode::BadRequest),
        (frame, ErrorCode::BadRequest),
    ] {
        let mut stream = TcpStream::connect(master.addr).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut connection = Connection::new(stream.try_clone().unwrap()).unwrap();
        assert_eq!(refused(&mut connection).code, code);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}

#[test]
fn a_version_mismatch_names_both_ranges() {
    let master = Running::start();
    let mut connection = master.connect();
    connection.queue(&Request::Hello(Hello { versions: (7, 9), ..Hello::new(Role::Client, "") }));
    connection.flush().unwrap();
    let refusal = refused(&mut connection);
    assert_eq!(refusal.code, ErrorCode::BadVersion);
    assert!(refusal.message.contains("7 to 9") && refusal.message.contains("1 to 1"), "{refusal}");
}
