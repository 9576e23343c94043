//! Connections against peers that are silent, slow or cut off.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relais_net::{Connection, ReadTimeouts};
use relais_proto::{FrameHeader, FrameType, Reply, Request, TreePath, WireError, limits};

fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection =
        Connection::connect(listener.local_addr().unwrap(), Duration::from_secs(3)).unwrap();
    (connection, listener.accept().unwrap().0)
}

fn is_timeout(error: &WireError) -> bool {
    matches!(error, WireError::Io(e) if e.kind() == io::ErrorKind::TimedOut)
}

#[test]
fn reads_pipelined_requests_one_by_one() {
    let (mut ours, theirs) = pair();
    let requests: Vec<Request> =
        (0..500).map(|n| Request::Stat(TreePath::new(format!("file-{n}")).unwrap())).collect();
    requests.iter().for_each(|request| ours.queue(request));
    ours.flush().unwrap();
    let mut theirs = Connection::new(theirs).unwrap();
    for request in requests {
        assert_eq!(theirs.read_request().unwrap(), Some(request));
    }
    assert!(!theirs.has_input());
    drop(ours);
    assert_eq!(theirs.read_request().unwrap(), None);
}

#[test]
fn reads_blocks_of_any_size() {
    let (mut ours, theirs) = pair();
    let sizes = [1_usize, 9, 4096, 16 * 1024, 70_000, 1 << 20, 4 << 20, 3];
    let sender = std::thread::spawn(move || {
        let mut theirs = theirs;
        for size in sizes {
            let header = FrameHeader { kind: FrameType::Block, len: u32::try_from(size).unwrap() };
            theirs.write_all(&header.to_bytes()).unwrap();
            theirs.write_all(&vec![u8::try_from(size % 251).unwrap(); size]).unwrap();
        }
        let mut end = Vec::new();
        Reply::Pong.encode(&mut end);
        theirs.write_all(&end).unwrap();
    });
    for size in sizes {
        let header = ours.read_header().unwrap().unwrap();
        assert_eq!((header.kind, header.len as usize), (FrameType::Block, size));
        let mut block = vec![0; size];
        ours.read_exact_into(&mut block).unwrap();
        assert!(block.iter().all(|byte| usize::from(*byte) == size % 251));
    }
    assert_eq!(ours.read_reply().unwrap(), Some(Reply::Pong));
    sender.join().unwrap();
}

#[test]
fn silence_times_out() {
    let (mut ours, mut theirs) = pair();
    ours.set_silence(Duration::from_millis(200));
    let began = Instant::now();
    assert!(is_timeout(&ours.read_reply().unwrap_err()));
    theirs.write_all(&[0, 0]).unwrap();
    assert!(is_timeout(&ours.read_reply().unwrap_err()));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_trickled_frame_times_out() {
    let (mut ours, mut theirs) = pair();
    ours.set_timeouts(ReadTimeouts {
        idle: Duration::from_secs(5),
        silence: Duration::from_secs(5),
        frame: Duration::from_millis(300),
    });
    let trickle = std::thread::spawn(move || {
        let header = FrameHeader { kind: FrameType::Error, len: 1000 }.to_bytes();
        for byte in header.into_iter().chain(std::iter::repeat_n(0, 1000)) {
            if theirs.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    assert!(is_timeout(&ours.read_reply().unwrap_err()));
    assert!(began.elapsed() < Duration::from_secs(4));
    drop(ours);
    trickle.join().unwrap();
}

#[test]
fn a_cut_inside_a_block_is_an_error() {
    let (mut ours, mut theirs) = pair();
    theirs.write_all(&FrameHeader { kind: FrameType::Block, len: 100_000 }.to_bytes()).unwrap();
    theirs.write_all(&[1; 5000]).unwrap();
    drop(theirs);
    ours.read_header().unwrap();
    assert!(matches!(ours.read_exact_into(&mut vec![0; 100_000]), Err(WireError::Truncated)));
}

#[test]
fn refuses_to_connect_to_port_0_and_unspecified_addresses() {
    for addr in ["127.0.0.1:0", "0.0.0.0:2121", "[::]:2121"] {
        let error = Connection::connect(addr.parse().unwrap(), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{addr}");
    }
}

#[test]
fn the_observer_gets_each_reply() {
    let (mut ours, theirs) = pair();
    let mut theirs = Connection::new(theirs).unwrap();
    let replies =
        [Reply::MasterUnreachable { ms: 1 }, Reply::Pong, Reply::MasterUnreachable { ms: 2 }];
    replies.iter().for_each(|reply| theirs.queue_reply(reply));
    theirs.flush().unwrap();
    let shown = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&shown);
    ours.observe_replies(Box::new(move |reply| to.lock().unwrap().push(reply.clone())));
    assert_eq!(ours.read_reply().unwrap().as_ref(), replies.first());
    let header = ours.read_header().unwrap().unwrap();
    assert_eq!(ours.read_reply_of(header).unwrap(), replies[1]);
    // A second observer replaces the first.
    ours.observe_replies(Box::new(|_| {}));
    assert_eq!(ours.read_reply().unwrap().as_ref(), replies.last());
    assert_eq!(*shown.lock().unwrap(), replies[..2]);
}

#[test]
fn ignorable_frames_of_any_length_are_skipped() {
    let (mut ours, mut theirs) = pair();
    let frame = |kind: u8, len: u32| [&len.to_be_bytes()[..], &[kind]].concat();
    let long = limits::CONTROL_FRAME;
    let pong = frame(FrameType::Pong.number(), 0);
    let sender = std::thread::spawn(move || {
        for len in [0, 1, 70, long] {
            theirs.write_all(&frame(0xb0, len)).unwrap();
            theirs.write_all(&vec![7; len as usize]).unwrap();
        }
        theirs.write_all(&pong).unwrap();
        theirs.write_all(&frame(0xbf, long + 1)).unwrap();
        theirs
    });
    assert_eq!(ours.read_reply().unwrap(), Some(Reply::Pong));
    assert!(matches!(ours.read_reply(), Err(WireError::FrameTooLong { kind: 0xbf, .. })));
    drop(sender.join().unwrap());
}

#[test]
fn endless_ignorable_frames_are_an_error() {
    let (mut ours, mut theirs) = pair();
    let skipped = [0, 0, 0, 0, 0x3a].repeat(limits::IGNORED_FRAMES as usize);
    theirs.write_all(&skipped).unwrap();
    theirs.write_all(&[0, 0, 0, 0, FrameType::Ping.number()]).unwrap();
    assert_eq!(ours.read_header().unwrap().unwrap().kind, FrameType::Ping);
    theirs.write_all(&skipped).unwrap();
    theirs.write_all(&[0, 0, 0, 0, 0x3a]).unwrap();
    assert!(matches!(ours.read_header(), Err(WireError::UnknownType(0x3a))));
}
