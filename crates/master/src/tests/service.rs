//! Service states, operators' reports and the end of the master.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use relais_proto::{Login, Reply, Request, Role, SlaveState, metric};

use super::*;

#[test]
fn a_silent_slave_is_out_after_three_seconds() {
    let master = Running::start();
    let beaten = Instant::now();
    let _silent = slave(&master, 1);
    assert_eq!(master.redirect().unwrap(), [1]);
    while master.redirect().is_ok() {
        assert!(beaten.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert!(beaten.elapsed() >= Duration::from_secs(3), "only {:?}", beaten.elapsed());
    let report = report(&master, &master.key).unwrap();
    assert_eq!(report.slaves[0].state, SlaveState::Down);
    assert!(!report.has_service() && report.slaves[0].silent_ms >= 3_000);
}

#[test]
fn operators_see_the_slaves() {
    let master = Running::start();
    assert!(report(&master, &master.key).unwrap().slaves.is_empty());
    let (_one, two) = (slave(&master, 1), slave(&master, 2));
    drop(two);
    master.wait_for_slaves(1);
    let report = report(&master, &master.key).unwrap();
    assert!(report.has_service());
    let seen: Vec<_> = report
        .slaves
        .iter()
        .map(|s| (s.addrs[0].port(), s.state, s.metrics.get(metric::SESSIONS)))
        .collect();
    assert_eq!(seen, [(1001, SlaveState::InService, 3), (1002, SlaveState::Down, 0)]);
    assert_eq!((report.lsn.epoch, report.lsn.number), (1, 0));
}

#[test]
fn operators_without_the_key_see_nothing() {
    let (master, other) = (Running::start(), Running::start());
    let error = report(&master, &other.key).unwrap_err();
    assert!(matches!(error, OperatorError::Link { cause: LinkError::BadProof, .. }));
    let mut gone = Running::start();
    gone.end();
    assert!(matches!(report(&gone, &gone.key), Err(OperatorError::Unreachable { .. })));
}

#[test]
fn stops_at_once_despite_silent_peers() {
    let mut master = Running::start();
    let mut one = slave(&master, 1);
    let _silent = TcpStream::connect(master.addr).unwrap();
    assert_eq!(master.first(), 1);
    assert!(master.end() < Duration::from_secs(3));
    assert!(next(&mut one).is_err());
    assert!(TcpStream::connect(master.addr).is_err(), "the port is closed");
}

#[test]
fn a_login_in_progress_is_answered_before_the_stop() {
    let mut master = Running::start();
    let mut connection = master.connect();
    connection.queue(&hello(Role::Client));
    connection.flush().unwrap();
    assert!(matches!(connection.read_reply().unwrap(), Some(Reply::Welcome { .. })));
    master.requests.send(MasterRequest::Stop);
    let mut login = Vec::new();
    Request::encode(&Request::Login(Login::default()), &mut login);
    connection.stream().as_ref().write_all(&login).unwrap();
    assert!(matches!(connection.read_reply().unwrap(), Some(Reply::Error(_))));
    assert!(master.end() < Duration::from_secs(5));
}

#[test]
fn concurrent_clients_are_redirected_in_turn() {
    let master = Running::start();
    let (_one, _two) = (slave(&master, 1), slave(&master, 2));
    let firsts: Vec<u8> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..40).map(|_| scope.spawn(|| master.first())).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(firsts.iter().filter(|n| **n == 1).count(), 20);
}
