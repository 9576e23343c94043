//! Servers that are well and send the fetch to others, or wait for what they lack.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use relais_proto::SlaveId;

use super::*;

const MIB: u64 = 1024 * 1024;

fn at(addrs: &[SocketAddr]) -> Vec<u8> {
    let holders =
        addrs.iter().map(|addr| Endpoint { id: SlaveId([1; 16]), addrs: vec![*addr] }).collect();
    encode(&[Reply::Elsewhere { holders }])
}

fn refused(code: ErrorCode) -> Vec<u8> {
    encode(&[Reply::Error(Refusal::new(code, code.text()))])
}

fn is_get(request: &Request) -> bool {
    matches!(request, Request::Get(_))
}

#[test]
fn content_that_is_not_there_yet_comes_from_a_holder() {
    let model = Model::new(bytes(3 * MIB + 5), 65536);
    let holder = Server::honest(&model);
    let addr = holder.addr;
    let lacking = Server::saying(move |_| at(&[addr]));
    let mut run = Run::new(&[&lacking, &holder]);
    let fetched = run.expect(&model);
    assert_eq!(fetched.servers, [holder.addr]);
    // Nothing has failed, so no lost server is reported.
    assert!(run.failures.is_empty());
    assert_eq!(run.told.events, [format!("started {} 0", model.size())]);
}

#[test]
fn a_digest_and_pieces_come_from_a_holder_as_well() {
    let model = Model::new(bytes(3 * MIB), 65536);
    let holder = Server::honest(&model);
    let addr = holder.addr;
    // Sends damaged bytes, and cannot tell which.
    let broken = Model {
        content: bytes(3 * MIB).iter().map(|b| b ^ 1).collect(),
        claimed: Some(model.digest()),
        ..model.clone()
    };
    let lacking =
        Server::saying(
            move |request| if is_get(request) { broken.answer(request) } else { at(&[addr]) },
        );
    let mut run = Run::new(&[&lacking, &holder]);
    run.expect(&model);
    assert!(run.sessions.asked_for == 1 && run.failures.is_empty(), "{:?}", run.failures);
}

#[test]
fn where_nobody_has_it_yet_it_is_asked_for_again() {
    let model = Model::new(bytes(100_000), 65536);
    for late in [at(&[]), refused(ErrorCode::NoContent)] {
        let (asked, honest) = (AtomicUsize::new(0), model.clone());
        let server = Server::saying(move |request| {
            if asked.fetch_add(1, Ordering::SeqCst) < 2 {
                late.clone()
            } else {
                honest.answer(request)
            }
        });
        let begun = Instant::now();
        let mut run = Run::new(&[&server]);
        run.expect(&model);
        assert!(begun.elapsed() >= Duration::from_millis(300) && run.failures.is_empty());
        assert_eq!(server.gets().len(), 3);
    }
}

#[test]
fn where_nobody_ever_has_it_that_is_told_and_it_can_be_resumed() {
    let begun = Instant::now();
    let server = Server::saying(|_| at(&[]));
    let run = Run::new(&[&server]);
    let error = run.result.unwrap_err();
    assert_eq!((error.code(), error.can_resume_download()), (ErrorCode::NoContent, true));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(8), "{took:?}");
    assert!(server.gets().len() < 30 && run.failures.is_empty());
}

#[test]
fn servers_that_name_each_other_hold_nobody() {
    let addrs: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let server = |other: usize| {
        let addrs = Arc::clone(&addrs);
        Server::saying(move |_| at(&[addrs.lock().unwrap()[other]]))
    };
    let (a, b) = (server(1), server(0));
    addrs.lock().unwrap().extend([a.addr, b.addr]);
    let run = Run::new(&[&a, &b]);
    assert_eq!(run.result.unwrap_err().code(), ErrorCode::NoContent);
    let gets = a.gets().len() + b.gets().len();
    assert!((10..40).contains(&gets), "{gets}");
}

#[test]
fn an_interruption_ends_the_wait_for_content() {
    struct Impatient(Instant);
    impl Progress for Impatient {
        fn interrupted(&self) -> bool {
            self.0.elapsed() > Duration::from_millis(400)
        }
    }
    let server = Server::saying(|_| at(&[]));
    let begun = Instant::now();
    let result = download(
        &mut sessions(&[&server]),
        &path(),
        &tempfile::tempfile().unwrap(),
        None,
        &mut Impatient(begun),
    );
    assert!(
        matches!(result, Err(TransferError::Interrupted))
            && begun.elapsed() < Duration::from_secs(2)
    );
}

#[test]
fn a_server_that_is_behind_is_left_for_the_next() {
    let model = Model::new(bytes(100_000), 65536);
    let (behind, good) = (Server::saying(|_| refused(ErrorCode::Behind)), Server::honest(&model));
    let mut run = Run::new(&[&behind, &good]);
    run.expect(&model);
    assert!(run.failures.is_empty());
    assert_eq!(
        (run.sessions.left.as_slice(), run.told.events.len()),
        (&["behind".to_owned()][..], 1)
    );
}

#[test]
fn where_all_are_behind_it_ends_with_the_users_time() {
    let server = || Server::saying(|_| refused(ErrorCode::Behind));
    let (a, b) = (server(), server());
    for retry in [Duration::ZERO, Duration::from_millis(700)] {
        let mut sessions = Servers { retry, ..sessions(&[&a, &b]) };
        let begun = Instant::now();
        let error = download(
            &mut sessions,
            &path(),
            &tempfile::tempfile().unwrap(),
            None,
            &mut Recorder::default(),
        )
        .unwrap_err();
        assert_eq!(error.code(), ErrorCode::Behind);
        assert!(begun.elapsed() >= retry && begun.elapsed() < retry + Duration::from_secs(2));
        assert!(!sessions.left.is_empty());
    }
}

#[test]
fn a_server_that_is_alone_says_so_before_any_answer() {
    let model = Model::new(bytes(3 * MIB), 65536);
    let other = Model { identity: Identity([2; 16]), ..model.clone() };
    let alone = |model: &Model, cut: usize| {
        let model = model.clone();
        let mut left = vec![cut];
        Server::saying(move |request| {
            let mut out = encode(&[
                Reply::MasterUnreachable { ms: 3000 },
                Reply::MasterUnreachable { ms: 3001 },
            ]);
            out.extend(model.answer(request));
            if let (true, Some(cut)) = (is_get(request), left.pop()) {
                out.truncate(cut);
                // Half an answer: the client has to move.
                out.extend(encode(&[Reply::Pong]));
            }
            out
        })
    };
    // Get and End here, Hash and Pieces there, as no digest was known.
    let (model, other) = (model.unhashed(), other.unhashed());
    let (a, b) = (alone(&model, 2_500_000), alone(&other, usize::MAX));
    let mut run = Run::new(&[&a, &b]);
    run.expect(&model);
}
