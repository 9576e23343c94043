//! Downloads by several streams: shared work, and streams that fail, lie or stall.

use super::*;
use crate::download::streams::STRIPED_FROM;

const MIB: u64 = 1024 * 1024;
/// Rate of a slow server. The whole content takes it some seconds.
const SLOW: u64 = 8 * MIB;

fn model() -> Model {
    Model::new(bytes(STRIPED_FROM + 16 * MIB + 77), 65536)
}

fn slow(model: &Model) -> Server {
    Server::honest_at(SLOW, model)
}

/// Downloads from these servers, the first one first.
fn run(servers: &[&Server], streams: usize) -> Run {
    let mut sessions = sessions(servers);
    sessions.streams = streams;
    Run::of(sessions, tempfile::tempfile().unwrap(), None, Recorder::default())
}

#[test]
fn several_servers_share_the_work() {
    let model = model();
    let servers = [slow(&model), slow(&model), slow(&model)];
    let mut run = run(&[&servers[0], &servers[1], &servers[2]], 8);
    let fetched = run.expect(&model);
    assert_eq!(fetched.servers.len(), 3, "{:?}", fetched.servers);
    // What was taken from a slow stream may come twice, but not much of it.
    assert!(fetched.bytes_moved < model.size() + 8 * MIB, "{}", fetched.bytes_moved);
    assert!(run.failures.is_empty() && run.told.saves > 0);
    for server in &servers {
        assert!(!server.gets().is_empty());
    }
}

#[test]
fn one_stream_asks_once() {
    let model = model();
    let servers = [Server::honest(&model), Server::honest(&model)];
    let mut run = run(&[&servers[0], &servers[1]], 1);
    run.expect(&model);
    assert_eq!(servers[0].gets(), [(0, u64::MAX)]);
    assert!(servers[1].gets().is_empty());
}

#[test]
fn a_fast_line_gets_no_second_stream() {
    let model = model();
    let servers = [Server::honest(&model), Server::honest(&model)];
    let mut run = run(&[&servers[0], &servers[1]], 8);
    assert_eq!(run.expect(&model).bytes_moved, model.size());
    assert!(servers[1].gets().is_empty());
    // The connection of the session can carry the next request.
    assert_eq!((run.sessions.abandoned, run.sessions.opened), (0, 1));
}

#[test]
fn a_content_without_digest_comes_by_one_stream() {
    let model = model().unhashed();
    let servers = [slow(&model), slow(&model)];
    run(&[&servers[0], &servers[1]], 8).expect(&model);
    assert!(servers[1].gets().is_empty());
    assert_eq!(servers[0].gets(), [(0, STRIPED_FROM), (STRIPED_FROM, u64::MAX)]);
}

#[test]
fn damaged_pieces_come_from_another_server() {
    let model = model();
    let liar = Server::damaging_at(SLOW, &model);
    let honest = slow(&model);
    let mut run = run(&[&honest, &liar], 8);
    let fetched = run.expect(&model);
    assert!(!fetched.restarted && fetched.servers.contains(&liar.addr));
    let named = format!("damaged {} ", liar.addr.port());
    assert!(run.told.events.iter().any(|event| event.starts_with(&named)), "{:?}", run.told.events);
    assert!(run.failures.is_empty(), "{:?}", run.failures);
}

#[test]
fn a_stream_that_ends_gives_its_bytes_back() {
    let model = model();
    let dying = model.clone();
    let dying = Server::paced(SLOW, [3_000_000], move |request| dying.answer(request));
    let honest = slow(&model);
    let mut run = run(&[&honest, &dying], 8);
    let fetched = run.expect(&model);
    assert!(fetched.servers.contains(&dying.addr) && run.failures.is_empty());
    assert!(fetched.bytes_moved < model.size() + 8 * MIB);
}

#[test]
fn a_stream_that_never_answers_delays_nothing() {
    let model = model();
    let silent = Server::saying(|_| Vec::new());
    let begun = Instant::now();
    run(&[&slow(&model), &silent], 8).expect(&model);
    // The content takes the honest server 4 s; the silence would be noticed after 5 s.
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(silent.gets().len(), 1);
}

#[test]
fn servers_that_refuse_or_lie_are_not_used() {
    let model = model();
    let refusing =
        |code| Server::saying(move |_| encode(&[Reply::Error(Refusal::new(code, code.text()))]));
    let other = Model::new(bytes(model.size() - 1), 65536);
    let longer = model.clone();
    let longer = Server::saying(move |request| {
        let Request::Get(get) = request else { return Vec::new() };
        let mut header = longer.header(get.offset, get.length);
        header.length += 1;
        encode(&[Reply::ContentHeader(header)])
    });
    let elsewhere = Server::saying(|_| encode(&[Reply::Elsewhere { holders: Vec::new() }]));
    let useless =
        [refusing(ErrorCode::Busy), refusing(ErrorCode::Draining), refusing(ErrorCode::NotFound)];
    let honest = slow(&model);
    let different = Server::honest(&other);
    let mut servers = vec![&honest, &different, &longer, &elsewhere];
    servers.extend(&useless);
    let mut run = run(&servers, 16);
    let fetched = run.expect(&model);
    assert_eq!((fetched.servers, fetched.bytes_moved), (vec![honest.addr], model.size()));
    assert!(run.failures.is_empty(), "{:?}", run.failures);
    for server in &servers[1..] {
        assert_eq!(server.gets().len(), 1);
    }
}

#[test]
fn other_streams_end_the_download_when_the_first_one_stalls() {
    let model = model();
    let stalling = model.clone();
    // It sends the first 4 MiB, and then waits for ever.
    let stalling = Server::paced(SLOW, [], move |request| {
        let mut out = stalling.answer(request);
        if matches!(request, Request::Get(_)) {
            out.truncate(4 << 20);
        }
        out
    });
    let honest = slow(&model);
    let mut run = run(&[&stalling, &honest], 8);
    let fetched = run.expect(&model);
    assert!(fetched.servers.contains(&honest.addr) && !fetched.restarted);
}

#[test]
fn other_streams_go_on_when_no_session_can_be_had() {
    let model = model();
    let dying = model.clone();
    let first = Server::paced(SLOW, [9_000_000], move |request| dying.answer(request));
    let honest = slow(&model);
    let mut sessions = sessions(&[&first, &honest]);
    sessions.streams = 8;
    sessions.is_closed_after_first = true;
    let mut run = Run::of(sessions, tempfile::tempfile().unwrap(), None, Recorder::default());
    run.expect(&model);
}

#[test]
fn a_resume_fetches_what_is_missing_and_skips_holes() {
    let model = model();
    let part = tempfile::tempfile().unwrap();
    let piece = |index: u64| {
        let start = usize::try_from(index * MIB).unwrap();
        &model.content[start..start + usize::try_from(MIB).unwrap()]
    };
    // The first pieces were recorded, and the 20th was written after the last record.
    use std::os::unix::fs::FileExt;
    for index in [0, 1, 2, 20] {
        part.write_all_at(piece(index), index * MIB).unwrap();
    }
    let mut good = Ranges::up_to(2 * MIB);
    good.insert(2 * MIB..3 * MIB);
    let resume = Resume {
        size: model.size(),
        mtime: MTIME,
        digest: Some(model.digest()),
        identity: None,
        version: None,
        good,
    };
    let servers = [Server::honest(&model), Server::honest(&model)];
    let mut sessions = sessions(&[&servers[0], &servers[1]]);
    sessions.streams = 8;
    let mut run = Run::of(sessions, part, Some(resume), Recorder::default());
    let fetched = run.expect(&model);
    assert_eq!((fetched.bytes_moved, fetched.resumed_from), (model.size() - 4 * MIB, 4 * MIB));
}

#[test]
fn a_server_is_cut_after_each_frame() {
    let model = Model::new(bytes(STRIPED_FROM + 4 * MIB + 77), 2 * 1024 * 1024);
    // The first request of a download, and the next one.
    let mut sent = model.answer(&request(0, STRIPED_FROM));
    sent.extend(model.answer(&request(STRIPED_FROM, u64::MAX)));
    // The servers wait most of the time, so many downloads run at once.
    std::thread::scope(|scope| {
        for (n, cut) in frame_ends(&sent).into_iter().enumerate() {
            let model = &model;
            scope.spawn(move || {
                let cut_model = model.clone();
                let answer = move |request: &Request| cut_model.answer(request);
                let (ending, honest) = (Server::paced(SLOW, [cut, cut], answer), slow(model));
                let servers = [[&ending, &honest], [&honest, &ending]];
                run(&servers[n % 2], 8).expect(model);
            });
        }
    });
}

fn request(offset: u64, length: u64) -> Request {
    let if_match = IfMatch::Any;
    Request::Get(relais_proto::GetRequest { path: path(), offset, length, if_match })
}

/// Returns where each frame ends.
fn frame_ends(sent: &[u8]) -> Vec<usize> {
    let (mut at, mut ends) = (0, Vec::new());
    while at < sent.len() {
        let length = u32::from_be_bytes(sent[at..at + 4].try_into().unwrap());
        at += relais_proto::HEADER_LEN + usize::try_from(length).unwrap();
        ends.push(at);
    }
    ends
}
