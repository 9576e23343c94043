//! Errors of servers before, within and after the content.

use super::*;

/// A server that refuses its first upload once `at` bytes came.
fn refusing(cluster: &Cluster, at: u64, code: ErrorCode) -> Server {
    Server::new(cluster, Script { refuse: [(at, refusal(code))].into(), ..Script::default() })
}

#[test]
fn final_refusals_end_it() {
    use ErrorCode::{Changed, Denied, Exists, IsFolder, NoSpace, NotFolder, NotFound, Unsupported};
    let large = bytes(20 * MIB);
    for code in [NoSpace, Denied, Changed, IsFolder, NotFound, NotFolder, Exists, Unsupported] {
        let cluster = Cluster::default();
        let other = Server::honest(&cluster);
        // A refusal of the first request and one after the content leave the connection usable.
        for what in [relais_proto::FrameType::Resume, relais_proto::FrameType::PutEnd] {
            let server = Server::saying(&cluster, move |request| {
                (request.frame_type() == what).then(|| vec![refusal(code)])
            });
            let mut run = Run::new(&[&server, &other], b"content");
            assert_eq!(run.refused(), code);
            assert!(run.sessions.failures.is_empty() && run.sessions.is_usable(), "{code}");
        }
        // Within the content.
        let server = refusing(&cluster, 1, code);
        let run = Run::new(&[&server, &other], &large);
        assert_eq!(run.refused(), code);
        assert!(run.sessions.open.is_none() && run.sessions.failures.is_empty());
        assert!(other.requests.lock().unwrap().is_empty() && server.ends() == 0);
    }
}

#[test]
fn a_small_upload_that_is_refused_early_leaves_the_connection() {
    let cluster = Cluster::default();
    let server = refusing(&cluster, 1, ErrorCode::NoSpace);
    let mut run = Run::new(&[&server], &bytes(100_000));
    assert_eq!(run.refused(), ErrorCode::NoSpace);
    assert!(run.sessions.abandoned == 0 && run.sessions.is_usable());
}

#[test]
fn a_refusal_is_heard_while_the_server_takes_nothing_more() {
    let cluster = Cluster::default();
    let refuse = [(1, refusal(ErrorCode::NoSpace))].into();
    let server = Server::new(&cluster, Script { refuse, stuck: true, ..Script::default() });
    // The server begins its only refusal with the first upload, and accepts a second one.
    let run = Run::new(&[&server], &bytes(64 * MIB));
    assert_eq!(run.refused(), ErrorCode::NoSpace);
    assert!(run.sessions.failures.is_empty(), "{:?}", run.sessions.failures);
    assert!(run.told.sent < 64 * MIB as u64);
}

#[test]
fn errors_in_passing_lead_to_another_server() {
    for code in [
        ErrorCode::Draining,
        ErrorCode::TimedOut,
        ErrorCode::Storage,
        ErrorCode::Busy,
        ErrorCode::NoSlave,
    ] {
        let (cluster, content) = (Cluster::default(), bytes(8 * MIB));
        let (a, b) = (refusing(&cluster, 1, code), Server::honest(&cluster));
        let mut run = Run::new(&[&a, &b], &content);
        assert_eq!(run.expect(&cluster, &content).servers, [a.addr, b.addr], "{code}");
        assert_eq!(run.sessions.failures, [code.text()]);
        // There it is asked first.
        let server = Server::saying(&cluster, move |r| {
            matches!(r, Request::Resume { .. }).then(|| vec![refusal(code)])
        });
        let run = Run::new(&[&server], &content);
        let (tries, error) = match code {
            ErrorCode::Storage => (4, ErrorCode::Storage),
            _ => (16, ErrorCode::Unreachable),
        };
        assert_eq!(run.result.unwrap_err().code(), error);
        assert_eq!(run.sessions.opened, tries);
    }
}

#[test]
fn what_is_damaged_begins_again() {
    for size in [100, 2 * MIB] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        // The staged bytes belong to another content.
        let server =
            Server::new(&cluster, Script { staged: vec![0; size / 2], ..Script::default() });
        let mut run = Run::new(&[&server], &content);
        let stored = run.expect(&cluster, &content);
        assert_eq!(stored.resumed_from, 0);
        assert_eq!(server.puts(), [size as u64 / 2, 0]);
        let events = [
            "opened Absent".to_owned(),
            format!("started {size} {}", size / 2),
            "restarted".into(),
            format!("started {size} 0"),
        ];
        assert_eq!(run.told.events, events);
        assert!(run.sessions.failures.is_empty());
    }
}

#[test]
fn damage_without_end_is_given_up() {
    let cluster = Cluster::default();
    let a = Server::new(&cluster, Script { spoil: u32::MAX, ..Script::default() });
    let b = Server::new(&cluster, Script { spoil: u32::MAX, ..Script::default() });
    let run = Run::new(&[&a, &b], &bytes(100));
    assert_eq!(run.refused(), ErrorCode::Damaged);
    assert_eq!(a.ends() + b.ends(), 4);
    drop(run);
    // Another server may do better.
    let content = bytes(100);
    let b = Server::honest(&cluster);
    Run::new(&[&a, &b], &content).expect(&cluster, &content);
}

#[test]
fn an_offset_that_does_not_fit_begins_again() {
    for size in [100, 8 * MIB] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        // It says that it has more than it has, once.
        let mut lies = 1;
        let server = Server::saying(&cluster, move |request| {
            (matches!(request, Request::Resume { .. }) && std::mem::take(&mut lies) > 0)
                .then(|| vec![staged(50)])
        });
        let mut run = Run::new(&[&server], &content);
        run.expect(&cluster, &content);
        assert_eq!(server.puts(), [50, 0]);
        assert!(run.told.events.contains(&"restarted".to_owned()));
    }
}
