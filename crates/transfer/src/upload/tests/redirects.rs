//! Servers that are well and take the upload later or not at all, servers that hang, and how many
//! disks are asked for.

use std::time::Instant;

use super::*;

#[test]
fn as_many_copies_are_asked_for_as_the_caller_wants() {
    for size in [10, 2 * MIB] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        Run::new(&[&Server::honest(&cluster)], &content).expect(&cluster, &content);
        assert_eq!(cluster.made()[0].put.copies, 3);
    }
}

#[test]
fn too_few_copies_are_the_answer() {
    let cluster = Cluster::default();
    let server = Server::saying(&cluster, |request| {
        matches!(request, Request::PutEnd { .. })
            .then(|| vec![Reply::Wait(WaitReason::Storing), refusal(ErrorCode::TooFewCopies)])
    });
    let mut run = Run::new(&[&server], b"content");
    assert_eq!(run.refused(), ErrorCode::TooFewCopies);
    assert!(run.sessions.failures.is_empty() && run.sessions.is_usable());
    assert!(!run.result.unwrap_err().can_resume_upload());
}

#[test]
fn a_server_that_is_behind_is_left_for_the_next() {
    let (cluster, content) = (Cluster::default(), bytes(300_000));
    let behind = Server::saying(&cluster, |_| Some(vec![refusal(ErrorCode::Behind)]));
    let mut run = Run::new(&[&behind, &Server::honest(&cluster)], &content);
    run.expect(&cluster, &content);
    assert_eq!(run.sessions.left, ["behind"]);
    assert!(
        run.sessions.failures.is_empty()
            && !run.told.events.iter().any(|event| event.starts_with("moved"))
    );
    let run = Run::new(&[&behind], &content);
    assert_eq!(run.refused(), ErrorCode::Behind);
}

#[test]
fn a_server_without_changes_is_left_until_the_retry_time_ends() {
    let (cluster, content) = (Cluster::default(), bytes(300));
    let says = |request: &Request| {
        matches!(request, Request::PutEnd { .. }).then(|| vec![refusal(ErrorCode::NoChanges)])
    };
    let isolated = Server::saying(&cluster, says);
    let mut run = Run::new(&[&isolated, &Server::honest(&cluster)], &content);
    run.expect(&cluster, &content);
    assert_eq!(run.sessions.left, ["no-changes"]);
    let run = Run::new(&[&Server::saying(&Cluster::default(), says)], &content);
    assert_eq!(run.refused(), ErrorCode::NoChanges);
    assert!(run.sessions.failures.is_empty() && run.result.unwrap_err().can_resume_upload());
}

#[test]
fn a_server_that_is_alone_says_so_at_any_time() {
    let (cluster, content) = (Cluster::default(), bytes(3 * MIB));
    let alone = || Reply::MasterUnreachable { ms: 4000 };
    let chatty = Server::new(
        &cluster,
        Script { chatter: vec![alone(), Reply::Wait(WaitReason::Storing)], ..Script::default() },
    );
    let mut run = Run::new(&[&chatty], &content);
    run.expect(&cluster, &content);
    assert!(run.sessions.failures.is_empty());
    // Before the answers to `Resume` and `PutEnd`.
    let (cluster, small) = (Cluster::default(), bytes(100));
    let server = Server::saying(&cluster, move |request| {
        Some(match request {
            Request::Resume { .. } => vec![alone(), staged(0)],
            Request::PutEnd { digest } => vec![alone(), alone(), committed(*digest)],
            _ => return None,
        })
    });
    let run = Run::new(&[&server], &small);
    assert!(run.result.is_ok() && run.sessions.failures.is_empty(), "{:?}", run.result);
}

#[test]
fn a_server_that_hangs_is_left_soon_wherever_that_is() {
    // The server stops reading and answering after these bytes. The socket buffers hold the rest.
    for size in [100_000, 64 * MIB] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        let refuse = [(1, Reply::Wait(WaitReason::Storing))].into();
        let hung = Server::new(&cluster, Script { refuse, stuck: true, ..Script::default() });
        let good = Server::honest(&cluster);
        let begun = Instant::now();
        let mut run = Run::new(&[&hung, &good], &content);
        let took = begun.elapsed();
        run.expect(&cluster, &content);
        assert_eq!(run.sessions.failures.len(), 1, "{:?}", run.sessions.failures);
        // The server hangs for 60 s. The slack is for a loaded machine.
        assert!(took < Duration::from_secs(50), "{took:?}");
    }
}
