//! The request window, and the absence of endless waits.

use relais_proto::limits;

use super::server::Manner;
use super::*;
use crate::Sessions;

/// A server that reads on until nothing comes for a while, and only then answers.
fn patient(tree: &Tree) -> Server {
    Server::mannered(tree, Manner { quiet: Some(Duration::from_millis(300)), ..Manner::default() })
}

#[test]
fn a_thousand_small_files_take_few_round_trips() {
    let tree = Tree::new([("a", bytes(10))]);
    let server = patient(&tree);
    let held = Held::new(&[&server], std::iter::repeat_with(|| get("a")).take(1000));
    assert_eq!(held.ran().bytes_in, 10_000);
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.requests.len(), 1000);
    assert!(seen.rounds <= 4, "{} round trips", seen.rounds);
    // And many requests came in one send.
    assert!(seen.reads <= 20, "{} reads", seen.reads);
}

#[test]
fn the_window_is_filled_and_never_exceeded() {
    let name = "n".repeat(255);
    let tree = Tree::new([(name.as_str(), bytes(10))]);
    let server = patient(&tree);
    let held = Held::new(&[&server], std::iter::repeat_with(|| get(&name)).take(1000));
    assert_eq!(held.ran().bytes_in, 10_000);
    let seen = server.seen.lock().unwrap();
    let frame = 5 + 2 + 255 + 8 + 8 + 1;
    assert!(
        seen.most_frames <= limits::AHEAD && seen.most_frames > limits::AHEAD - 2 * frame,
        "{}",
        seen.most_frames
    );
    assert!(seen.rounds <= 10, "{} round trips", seen.rounds);
}

#[test]
fn the_number_of_asks_is_bounded() {
    let server = patient(&Tree::default());
    let held = Held::new(
        &[&server],
        std::iter::repeat_with(|| Request::Stat(path("a")).into()).take(5000),
    );
    held.ran();
    let seen = server.seen.lock().unwrap();
    assert!((1000..=1024).contains(&seen.most_requests), "{}", seen.most_requests);
}

#[test]
fn the_bytes_of_puts_are_bounded_apart() {
    let tree = Tree::default();
    let server = patient(&tree);
    // Sizes around the limit between copied content and content that is sent without a copy.
    let asks = (0..40).map(|n| {
        put(n, &format!("f{n}"), bytes([1, 16 * 1024, 16 * 1024 + 1, 500_000][usize::from(n % 4)]))
    });
    let held = Held::new(&[&server], asks);
    assert_eq!(held.ran().bytes_out, 10 * (1 + 16 * 1024 + 16 * 1024 + 1 + 500_000));
    assert!((0..40).all(|n| held.asker.of(n) == [Told::Committed(n + 1)]));
    let seen = server.seen.lock().unwrap();
    assert!(
        seen.most_data <= 4 * 1024 * 1024 && seen.most_data > 3 * 1024 * 1024,
        "{}",
        seen.most_data
    );
    assert!(seen.most_frames <= limits::AHEAD);
}

#[test]
fn both_sides_send_much_and_nobody_waits_for_ever() {
    // The server answers each request before it reads the next one, and reads little at once.
    let tree = Tree::new([("big", bytes(1_000_000))]);
    let server = Server::mannered(&tree, Manner { reads: 30_000, ..Manner::default() });
    let asks = (0..60)
        .map(|n| if n % 2 == 0 { get("big") } else { put(n, &format!("f{n}"), bytes(1_000_000)) });
    let held = Held::new(&[&server], asks);
    let ran = held.ran();
    assert_eq!((ran.bytes_in, ran.bytes_out), (30_000_000, 30_000_000));
    assert_eq!(tree.content("f59"), Some(bytes(1_000_000)));
    assert!(held.sessions.failures.is_empty());
}

/// A server that says `first` as soon as a connection brings its first bytes, then only reads. What
/// the socket buffers take is far less than a put.
fn only_reading(first: Vec<u8>) -> Server {
    use std::io::{Read, Write};
    let listener = server::narrow_listener();
    let addr = listener.local_addr().unwrap();
    let seen = std::sync::Arc::<std::sync::Mutex<server::Seen>>::default();
    let shared = std::sync::Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut buffer) = (stream.unwrap(), vec![0; 1 << 16]);
            let mut first = Some(&first);
            while let Some(n) = stream.read(&mut buffer).ok().filter(|n| *n > 0) {
                shared.lock().unwrap().bytes += n;
                if let Some(first) = first.take() {
                    stream.write_all(first).unwrap();
                }
            }
        }
    });
    Server { addr, seen }
}

fn narrow(servers: &[&Server]) -> Servers {
    Servers { silence: Duration::from_secs(2), send_buffer: 16 * 1024, ..sessions(servers) }
}

#[test]
fn a_server_that_is_silent_in_the_middle_of_a_put_gets_the_rest() {
    let asks = || (0..12).map(|n| put(n, &format!("f{n}"), bytes(1_000_000)));
    for first in [Vec::new(), encode(&[Reply::Wait(relais_proto::WaitReason::Storing)])] {
        let (a, b) = (only_reading(first), Server::honest(&Tree::default()));
        let held = Held::over(narrow(&[&a, &b]), Asker::new(asks()));
        // Four puts go out whole, and then it is silent: it is not left before.
        assert_eq!(held.ran().bytes_out, 4_000_000 + 12_000_000);
        assert_eq!(held.sessions.failures.len(), 1);
    }
}

#[test]
fn a_put_that_is_refused_at_once_is_sent_to_its_end() {
    let a = only_reading(server::refused(ErrorCode::Denied));
    let mut held = Held::over(narrow(&[&a]), Asker::new([put(1, "x", bytes(1_000_000))]));
    held.ran();
    assert_eq!(held.asker.told, [(0, Told::Refused(ErrorCode::Denied))]);
    // So the connection can be used on.
    assert!(held.sessions.failures.is_empty() && held.sessions.abandoned == 0);
    assert!(held.sessions.connection().is_ok());
    let begun = std::time::Instant::now();
    while a.seen.lock().unwrap().bytes < 1_000_000 + 5 + 5 + 32 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the rest of the put did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn answers_that_come_before_what_they_answer_are_lies() {
    let committed = Reply::Committed {
        version: relais_proto::Lsn::default(),
        copies: 1,
        lsn: relais_proto::Lsn::default(),
        digest: None,
        current: true,
    };
    let too_early = [
        encode(&[committed]),
        [server::refused(ErrorCode::NoSpace), server::refused(ErrorCode::NoSpace)].concat(),
    ];
    for (lie, most) in too_early.into_iter().zip([0, 1]) {
        let a = only_reading(lie);
        let held = Held::over(
            narrow(&[&a]),
            Asker::new((0..6).map(|n| put(n, &format!("f{n}"), bytes(1_000_000)))),
        );
        assert!(matches!(held.result, Err(TransferError::BadServer(_))), "{:?}", held.result);
        assert_eq!(held.asker.told.len(), 4 * most);
    }
}
