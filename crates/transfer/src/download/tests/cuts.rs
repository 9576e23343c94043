//! Connections that end anywhere, and servers that take over.

use super::*;

const MIB: u64 = 1024 * 1024;

/// Another slave with the same bytes: its disk gives the content another identity.
fn elsewhere(model: &Model) -> Model {
    Model { identity: Identity([2; 16]), ..model.clone() }
}

#[test]
fn a_cut_after_every_byte() {
    for (size, block) in [(0, 9), (31, 9), (31, 1), (31, 64)] {
        for model in [Model::new(bytes(size), block), Model::new(bytes(size), block).unhashed()] {
            let whole = model.answer(&Request::Get(relais_proto::GetRequest {
                path: path(),
                offset: 0,
                length: u64::MAX,
                if_match: IfMatch::Any,
            }));
            for cut in 0..whole.len() {
                let server = Server::cutting(&model, [cut]);
                let mut run = Run::new(&[&server]);
                let fetched = run.expect(&model);
                assert_eq!(fetched.bytes_moved - size, 0, "cut after {cut} bytes");
                assert_eq!(run.failures.len(), 1);
                // The same at another server, where the download may restart.
                let (a, b) = (Server::cutting(&model, [cut]), Server::honest(&elsewhere(&model)));
                Run::new(&[&a, &b]).expect(&model);
            }
        }
    }
}

#[test]
fn cuts_again_and_again_lose_little() {
    let model = Model::new(bytes(5 * MIB + 3), 65536);
    let server = Server::cutting(&model, std::iter::repeat_n(300_000, 40));
    let mut run = Run::new(&[&server]);
    let fetched = run.expect(&model);
    assert_eq!(fetched.bytes_moved, model.size());
    assert!(run.failures.len() < 30, "{}", run.failures.len());
    assert_eq!(fetched.servers, [server.addr]);
}

#[test]
fn another_server_goes_on_at_the_next_byte() {
    let model = Model::new(bytes(6 * MIB), 65536);
    let other = elsewhere(&model);
    let (a, b) = (Server::cutting(&model, [2_500_000]), Server::honest(&other));
    let mut run = Run::new(&[&a, &b]);
    let fetched = run.expect(&model);
    assert_eq!(fetched.servers, [a.addr, b.addr]);
    assert_eq!(fetched.bytes_moved, model.size());
    let at = b.gets()[0].0;
    assert!(at > 2_000_000);
    assert_eq!(run.told.events, [format!("started {} 0", model.size()), format!("moved {at}")]);
    assert!(!fetched.restarted);
}

#[test]
fn without_a_digest_that_of_the_next_server_counts() {
    let model = Model::new(bytes(6 * MIB), 65536).unhashed();
    let (a, b) = (Server::cutting(&model, [2_500_000]), Server::honest(&elsewhere(&model)));
    let mut run = Run::new(&[&a, &b]);
    let fetched = run.expect(&model);
    assert!(!fetched.restarted && fetched.bytes_moved == model.size());
    let at = b.gets()[0].0;
    assert_eq!(b.gets(), [(at, u64::MAX); 2]);
    assert_eq!(run.told.events.last(), Some(&format!("moved {at}")));
}

#[test]
fn other_content_of_the_next_server_is_fetched_whole() {
    let model = Model::new(bytes(6 * MIB), 65536).unhashed();
    let mut changed = elsewhere(&model);
    changed.content[0] ^= 1;
    let (a, b) = (Server::cutting(&model, [2_500_000]), Server::honest(&changed));
    // Only the piece that differs comes again.
    let fetched = Run::new(&[&a, &b]).expect(&changed);
    assert_eq!(fetched.bytes_moved, model.size() + MIB);
    // Another size is another content.
    changed.content.push(1);
    let (a, b) = (Server::cutting(&model, [2_500_000]), Server::honest(&changed));
    assert!(Run::new(&[&a, &b]).expect(&changed).restarted);
}

#[test]
fn errors_in_passing_lead_to_another_server() {
    let model = Model::new(bytes(300_000), 65536);
    for code in [ErrorCode::Draining, ErrorCode::TimedOut, ErrorCode::Storage, ErrorCode::Busy] {
        let half = model.clone();
        let a = Server::saying(move |request| {
            // One block, then the error in place of the next.
            let mut out = half.answer(request);
            let wait_and_header = 6 + relais_proto::HEADER_LEN + encoded_header(&half);
            out.truncate(wait_and_header + 65536 + relais_proto::HEADER_LEN);
            Reply::Error(Refusal::new(code, "later")).encode(&mut out);
            out
        });
        let b = Server::honest(&model);
        let mut run = Run::new(&[&a, &b]);
        assert_eq!(run.expect(&model).servers, [a.addr, b.addr], "{code}");
        assert_eq!(b.gets(), [(65536, u64::MAX)]);
        assert_eq!(run.failures, ["later"]);
    }
}

fn encoded_header(model: &Model) -> usize {
    encode(&[Reply::ContentHeader(model.header(0, u64::MAX))]).len() - relais_proto::HEADER_LEN
}

#[test]
fn nobody_goes_on() {
    let model = Model::new(bytes(3 * MIB), 65536);
    // One server that breaks off, again and again, without a further byte.
    let server =
        Server::cutting(&model, [2_000_000].into_iter().chain(std::iter::repeat_n(20, 50)));
    let run = Run::new(&[&server]);
    assert!(matches!(run.result, Err(TransferError::Unreachable(_))), "{:?}", run.result);
    let saved = run.told.saved.unwrap();
    let good = saved.good.total();
    assert!(good > MIB && good <= 2_000_000 && saved.size == model.size());
    let mut run = Run::resuming(&[&Server::honest(&model)], run.part, Some(saved));
    assert_eq!(run.expect(&model).resumed_from, good);
}

#[test]
fn silence_counts_as_a_cut() {
    let model = Model::new(bytes(100_000), 9);
    let half = model.clone();
    let a = Server::saying(move |request| half.answer(request)[..50_000].to_vec());
    let b = Server::honest(&model);
    let mut run = Run::new(&[&a, &b]);
    assert_eq!(run.expect(&model).servers, [a.addr, b.addr]);
    assert_eq!(run.failures.len(), 1);
}

#[test]
fn the_file_is_gone() {
    let gone = |code: ErrorCode| {
        Server::saying(move |_| encode(&[Reply::Error(Refusal::new(code, "gone"))]))
    };
    for code in [ErrorCode::NotFound, ErrorCode::IsFolder, ErrorCode::Denied] {
        let run = Run::new(&[&gone(code)]);
        assert!(matches!(run.result, Err(TransferError::Refused(r)) if r.code == code));
        assert!(run.failures.is_empty() && run.told.saved.is_none());
    }
    // A server that does not have it takes over from one that has: the one that has it is asked
    // again.
    let model = Model::new(bytes(100_000), 9);
    let (a, b) = (Server::cutting(&model, [50_000]), gone(ErrorCode::NotFound));
    Run::new(&[&a, &b]).expect(&model);
}
