//! Admission of links.

use std::io::Write;

use relais_proto::{ErrorCode, LinkMessage, Refusal, Role, SlaveId, WireError};

use super::*;

/// Opens a link as `role` and returns the master's challenge with the connection.
fn challenged(master: &Running, role: Role, nonce: [u8; 32]) -> (Connection, [u8; 32]) {
    let mut connection = master.connect();
    connection.queue(&hello(role));
    connection.queue_link(&LinkMessage::LinkOpen { id: SlaveId([1; 16]), nonce });
    connection.flush().unwrap();
    assert!(matches!(connection.read_reply().unwrap(), Some(Reply::Welcome { .. })));
    let Some(LinkMessage::LinkChallenge { proof, .. }) = connection.read_link().unwrap() else {
        panic!("no challenge")
    };
    (connection, proof)
}

fn refusal_of(error: LinkError) -> Refusal {
    match error {
        LinkError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[test]
fn a_wrong_proof_is_refused_for_both_roles() {
    let master = Running::start();
    for role in [Role::Slave, Role::Operator] {
        let (mut connection, _) = challenged(&master, role, [3; 32]);
        connection.queue_link(&LinkMessage::LinkProof { proof: [0; 32] });
        connection.flush().unwrap();
        assert_eq!(refused(&mut connection).code, ErrorCode::BadProof);
        assert!(connection.read_reply().unwrap().is_none());
    }
}

#[test]
fn the_masters_own_proof_sent_back_is_refused() {
    let master = Running::start();
    let (mut connection, proof) = challenged(&master, Role::Slave, [3; 32]);
    connection.queue_link(&LinkMessage::LinkProof { proof });
    connection.flush().unwrap();
    assert_eq!(refused(&mut connection).code, ErrorCode::BadProof);
}

#[test]
fn requests_before_the_proof_are_refused() {
    let master = Running::start();
    for message in [LinkMessage::Register(registration(1)), heartbeat(), LinkMessage::AskReport] {
        let (mut connection, _) = challenged(&master, Role::Slave, [3; 32]);
        connection.queue_link(&message);
        connection.flush().unwrap();
        assert_eq!(refused(&mut connection).code, ErrorCode::BadRequest);
    }
    assert_eq!(master.redirect().unwrap_err().code, ErrorCode::NoSlave);
}

#[test]
fn replayed_frames_are_rejected() {
    let master = Running::start();
    let mut recorded = Vec::new();
    let mut connection = master.connect();
    let mut handshake =
        LinkHandshake::new(LinkRole::Slave, SlaveId([1; 16]), &master.key, None).unwrap();
    handshake.hello("slave").encode(&mut recorded);
    handshake.open().encode(&mut recorded);
    connection.output().extend_from_slice(&recorded);
    connection.flush().unwrap();
    let proof = loop {
        let header = connection.read_header().unwrap().unwrap();
        if let Some(proof) =
            handshake.on_frame(header.kind, connection.read_payload(header).unwrap()).unwrap()
        {
            break proof;
        }
    };
    let opened = recorded.len();
    for message in [proof, LinkMessage::Register(registration(1)), heartbeat()] {
        message.encode(&mut recorded);
    }
    connection.output().extend_from_slice(&recorded[opened..]);
    connection.flush().unwrap();
    assert!(matches!(next(&mut connection).unwrap(), LinkMessage::Registered { .. }));
    assert!(matches!(next(&mut connection).unwrap(), LinkMessage::HeartbeatAck { .. }));
    drop(connection);
    master.wait_for_slaves(0);

    let mut again = master.connect();
    again.stream().as_ref().write_all(&recorded).unwrap();
    assert!(matches!(again.read_reply().unwrap(), Some(Reply::Welcome { .. })));
    assert!(matches!(again.read_link().unwrap(), Some(LinkMessage::LinkChallenge { .. })));
    assert_eq!(refused(&mut again).code, ErrorCode::BadProof);
    assert_eq!(master.redirect().unwrap_err().code, ErrorCode::NoSlave);
}

#[test]
fn a_live_slave_keeps_its_id_and_address() {
    let master = Running::start();
    let mut one = slave(&master, 1);
    let same_id = try_slave(&master, 1, registration(7)).unwrap_err();
    assert_eq!(refusal_of(same_id).code, ErrorCode::Exists, "a copied disk takes a new id then");
    let same_address = try_slave(&master, 2, registration(1)).unwrap_err();
    assert_eq!(refusal_of(same_address).code, ErrorCode::Conflict);
    beaten(&mut one);
    assert_eq!(master.redirect().unwrap(), [1]);
}

#[test]
fn a_restarted_slave_is_back_at_once() {
    let master = Running::start();
    for _ in 0..100 {
        // The old link's thread need not have noticed the end yet.
        drop(slave(&master, 1));
    }
    let _one = slave(&master, 1);
    assert_eq!(master.redirect().unwrap(), [1]);
}

#[test]
fn slaves_reconnect_to_a_restarted_master() {
    let mut master = Running::start();
    let mut one = slave(&master, 1);
    master.end();
    assert!(next(&mut one).is_err(), "the link ends with the master");
    let master = master.again();
    let _one = slave(&master, 1);
    assert_eq!(master.redirect().unwrap(), [1]);
}

#[test]
fn invalid_addresses_are_refused() {
    let master = Running::start();
    let nowhere = Registration { listen: vec!["127.0.0.1:0".parse().unwrap()], ..registration(1) };
    for wish in [
        nowhere,
        Registration { listen: Vec::new(), ..registration(1) },
        Registration { advertise: "no port".to_owned(), ..registration(1) },
        Registration { advertise: "0.0.0.0:2122".to_owned(), ..registration(1) },
        Registration { advertise: "127.0.0.1:0\u{1b}[2J".to_owned(), ..registration(1) },
    ] {
        let refusal = refusal_of(try_slave(&master, 1, wish).unwrap_err());
        assert_eq!(refusal.code, ErrorCode::BadRequest);
        assert!(!refusal.message.chars().any(char::is_control));
    }
}

#[test]
fn clients_get_advertised_addresses() {
    let master = Running::start();
    let wish = Registration { advertise: "localhost:4444".to_owned(), ..registration(1) };
    let _one = try_slave(&master, 1, wish).unwrap();
    let Reply::Redirect { slaves, .. } = master.login(relais_proto::Login::default()) else {
        panic!("no redirect")
    };
    assert!(slaves[0].addrs.iter().all(|addr| addr.port() == 4444 && addr.ip().is_loopback()));
}

#[test]
fn an_unexpected_message_ends_the_link() {
    let master = Running::start();
    let mut one = slave(&master, 1);
    one.queue_link(&LinkMessage::Register(registration(1)));
    one.flush().unwrap();
    assert!(matches!(
        next(&mut one),
        Err(LinkError::Refused(refusal)) if refusal.code == ErrorCode::BadRequest
    ));
    assert!(matches!(next(&mut one), Err(LinkError::Wire(WireError::Truncated))));
    master.wait_for_slaves(0);
}
