//! Connections that end anywhere, and servers that take over.

use super::*;

/// How many bytes an undisturbed upload is, in each direction.
fn lengths(content: &[u8]) -> (u64, usize) {
    let frame = |request: &Request| {
        let mut out = Vec::new();
        request.encode(&mut out);
        out.len()
    };
    let put = relais_proto::PutRequest {
        id: ID,
        path: path(),
        size: Some(content.len() as u64),
        offset: 0,
        mtime: Some(MTIME),
        mode: Some(MODE),
        expect: Expect::Absent,
        copies: 0,
    };
    let requests = [
        Request::Resume { id: ID, path: path(), size: content.len() as u64 },
        Request::Put(put),
        Request::PutEnd { digest: digest_of(content) },
    ];
    let data = if content.is_empty() { 0 } else { content.len() + relais_proto::HEADER_LEN };
    let mut answers = Vec::new();
    for reply in [staged(0), Reply::Wait(WaitReason::Storing), committed(Digest([0; 32]))] {
        reply.encode(&mut answers);
    }
    ((requests.iter().map(frame).sum::<usize>() + data) as u64, answers.len())
}

#[test]
fn a_cut_after_every_byte() {
    for size in [0, 31] {
        let content = bytes(size);
        let (there, back) = lengths(&content);
        for cut in 0..there {
            let cluster = Cluster::default();
            let server = Server::cutting(&cluster, [cut]);
            let mut run = Run::new(&[&server], &content);
            run.expect(&cluster, &content);
            assert_eq!(run.sessions.failures.len(), 1, "cut after {cut} bytes");
            // And at another server, which has nothing of it.
            let cluster = Cluster::default();
            let (a, b) = (Server::cutting(&cluster, [cut]), Server::honest(&cluster));
            let mut run = Run::new(&[&a, &b], &content);
            let stored = run.expect(&cluster, &content);
            assert_eq!(stored.resumed_from, 0);
            assert_eq!(b.puts(), [0]);
        }
        for cut in 0..back {
            let cluster = Cluster::default();
            let server =
                Server::new(&cluster, Script { cut_out: [cut].into(), ..Script::default() });
            let mut run = Run::new(&[&server], &content);
            run.expect(&cluster, &content);
            assert_eq!(run.sessions.failures.len(), 1, "cut after {cut} bytes of answers");
        }
    }
}

#[test]
fn cuts_in_a_large_file() {
    let content = bytes(2 * MIB + 3);
    let (there, _) = lengths(&content);
    for cut in (0..there).step_by(150_001).chain(there - 40..there) {
        let cluster = Cluster::default();
        let server = Server::cutting(&cluster, [cut]);
        Run::new(&[&server], &content).expect(&cluster, &content);
    }
}

#[test]
fn cuts_again_and_again_lose_little() {
    let (cluster, content) = (Cluster::default(), bytes(5 * MIB + 3));
    let server = Server::cutting(&cluster, std::iter::repeat_n(300_000, 40));
    let mut run = Run::new(&[&server], &content);
    let stored = run.expect(&cluster, &content);
    assert!(run.sessions.failures.len() < 30, "{}", run.sessions.failures.len());
    assert_eq!(stored.servers, [server.addr]);
    assert_eq!(stored.resumed_from, 0);
    let puts = server.puts();
    assert!(puts.is_sorted() && puts[0] == 0 && puts[5] > 1_000_000, "{puts:?}");
}

#[test]
fn another_server_begins_at_the_first_byte() {
    let (cluster, content) = (Cluster::default(), bytes(4 * MIB));
    let (a, b) = (Server::cutting(&cluster, [2_500_000]), Server::honest(&cluster));
    let mut run = Run::new(&[&a, &b], &content);
    let stored = run.expect(&cluster, &content);
    assert_eq!(stored.servers, [a.addr, b.addr]);
    assert!(stored.bytes_moved >= content.len() as u64);
    assert_eq!(
        run.told.events,
        ["opened Absent".to_owned(), format!("started {} 0", content.len()), "moved 0".to_owned()]
    );
    assert_eq!(b.puts(), [0]);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_by_the_id() {
    for size in [10, 2 * MIB] {
        for there_as_well in [false, true] {
            let (cluster, content) = (Cluster::default(), bytes(size));
            // `Staged` goes out, and nothing behind it.
            let mut first = Vec::new();
            staged(0).encode(&mut first);
            let a = Server::new(
                &cluster,
                Script { cut_out: [first.len()].into(), ..Script::default() },
            );
            let b = Server::honest(&cluster);
            let servers = if there_as_well { vec![&a, &b] } else { vec![&a] };
            let mut run = Run::new(&servers, &content);
            let stored = run.expect(&cluster, &content);
            assert_eq!(stored.bytes_moved, size as u64);
            assert_eq!((a.puts(), a.ends()), (vec![0], 1));
            assert!(b.puts().is_empty() && stored.resumed_from == 0);
            assert_eq!(stored.servers.len(), servers.len());
        }
    }
}

#[test]
fn silence_counts_as_a_cut() {
    let (cluster, content) = (Cluster::default(), bytes(100));
    let a = Server::saying(&cluster, |request| {
        matches!(request, Request::Resume { .. }).then(Vec::new)
    });
    let b = Server::honest(&cluster);
    let mut run = Run::new(&[&a, &b], &content);
    assert_eq!(run.expect(&cluster, &content).servers, [b.addr]);
    assert_eq!(run.sessions.failures.len(), 1);
}

#[test]
fn a_server_that_forgets_all_does_not_keep_it_for_ever() {
    let cluster = Cluster::default();
    let cuts = || std::iter::repeat_n(900_000, 50).collect();
    let server =
        Server::new(&cluster, Script { cut_in: cuts(), forgetful: true, ..Script::default() });
    let run = Run::new(&[&server], &bytes(MIB));
    assert!(matches!(run.result, Err(TransferError::Unreachable(_))), "{:?}", run.result);
    assert_eq!(run.sessions.opened, 16);
    // Nor one that comes forward by a byte each time.
    let (cluster, content) = (Cluster::default(), bytes(1000));
    let (there, _) = lengths(&content);
    let first_byte = there - 1000 - 37 + 1;
    let server = Server::cutting(&cluster, std::iter::repeat_n(first_byte, 2000));
    let run = Run::new(&[&server], &content);
    assert!(matches!(run.result, Err(TransferError::Unreachable(_))), "{:?}", run.result);
    assert_eq!(run.sessions.opened, 16);
}
