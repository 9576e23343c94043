//! Servers that do not keep to the protocol.

use super::*;

/// A server that says this to each request of this type is given up, after some tries.
#[track_caller]
fn gives_up(what: relais_proto::FrameType, answer: Reply) {
    for size in [100, 2 * MIB] {
        let (cluster, answers) = (Cluster::default(), vec![answer.clone()]);
        let server = Server::saying(&cluster, move |request| {
            (request.frame_type() == what).then(|| answers.clone())
        });
        let run = Run::new(&[&server], &bytes(size));
        assert!(matches!(run.result, Err(TransferError::BadServer(_))), "{:?}", run.result);
        assert_eq!((run.sessions.opened, run.sessions.failures.len()), (3, 3));
    }
}

#[test]
fn answers_that_have_no_place() {
    use relais_proto::FrameType::{PutEnd, Resume};
    gives_up(Resume, staged(u64::from(u32::MAX)));
    gives_up(Resume, staged(relais_proto::limits::FILE_SIZE));
    gives_up(Resume, Reply::Pong);
    gives_up(Resume, refusal(ErrorCode::Interrupted));
    gives_up(Resume, refusal(ErrorCode::Cut));
    gives_up(PutEnd, staged(1));
    gives_up(PutEnd, refusal(ErrorCode::Usage));
}

#[test]
fn stored_before_the_end_is_a_lie() {
    let cluster = Cluster::default();
    let server = Server::new(
        &cluster,
        Script { chatter: vec![committed(Digest([0; 32]))], ..Script::default() },
    );
    let run = Run::new(&[&server], &bytes(30 * MIB));
    assert!(matches!(run.result, Err(TransferError::BadServer(_))), "{:?}", run.result);
    assert!(cluster.made().is_empty());
}

#[test]
fn a_liar_does_not_spoil_it_for_others() {
    let (cluster, content) = (Cluster::default(), bytes(2 * MIB));
    let a = Server::saying(&cluster, |_| Some(vec![staged(1 << 40)]));
    let b = Server::honest(&cluster);
    let mut run = Run::new(&[&a, &b], &content);
    assert_eq!(run.expect(&cluster, &content).servers, [b.addr]);
}

#[test]
fn signs_of_life_without_end_do_not_hold_it_up() {
    let (cluster, content) = (Cluster::default(), bytes(4 * MIB));
    let server = Server::new(
        &cluster,
        Script { chatter: vec![Reply::Wait(WaitReason::Storing); 5000], ..Script::default() },
    );
    Run::new(&[&server], &content).expect(&cluster, &content);
}

#[test]
fn bytes_that_are_no_frames() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::at(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"220 welcome to an older kind of server\r\n");
        }
    });
    let run = Run::new(&[&server], b"content");
    assert!(
        matches!(run.result, Err(TransferError::BadServer(_) | TransferError::Unreachable(_))),
        "{:?}",
        run.result
    );
}
