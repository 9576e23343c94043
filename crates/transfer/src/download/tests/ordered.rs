//! Streams in order that several sessions fetch: servers that share the work, die, stall or lie.

use super::*;
use crate::download::stream;
use crate::download::streams::STRIPED_FROM;

const MIB: u64 = 1024 * 1024;
/// Rate of a slow server.
const SLOW: u64 = 16 * MIB;

/// The first segments come from one server, the rest from several.
fn model() -> Model {
    Model::new(bytes(4 * STRIPED_FROM + 77), 65536)
}

fn slow(model: &Model) -> Server {
    Server::honest_at(SLOW, model)
}

/// What a stream passed on, and how it ended.
struct Passed {
    bytes: Vec<u8>,
    servers: Vec<SocketAddr>,
    told: Recorder,
}

/// Streams from these servers, the first one first.
#[track_caller]
fn pass(servers: &[&Server], streams: usize) -> Passed {
    let (mut sessions, mut told) = (sessions(servers), Recorder::default());
    sessions.streams = streams;
    let mut bytes = Vec::new();
    let mut sink = |more: &[u8]| {
        bytes.extend_from_slice(more);
        Ok(())
    };
    let result = stream(&mut sessions, &path(), &mut sink, &mut told);
    Passed { servers: result.unwrap().servers, bytes, told }
}

/// Whether a server has sent pieces beside the first session.
fn has_helped(server: &Server) -> bool {
    server.gets().iter().any(|(_, length)| *length <= 4 * MIB)
}

#[test]
fn several_servers_share_a_stream() {
    let model = model();
    let servers = [slow(&model), slow(&model), slow(&model)];
    let passed = pass(&[&servers[0], &servers[1], &servers[2]], 8);
    assert!(passed.bytes == model.content);
    assert_eq!(passed.servers.len(), 3);
    assert!(servers.iter().all(has_helped));
}

#[test]
fn one_stream_and_a_fast_line_use_one_session() {
    let model = model();
    let servers = [Server::honest(&model), Server::honest(&model)];
    assert!(pass(&[&servers[0], &servers[1]], 1).bytes == model.content);
    assert_eq!(servers[0].gets(), [(0, u64::MAX)]);
    assert!(servers[1].gets().is_empty());
}

#[test]
fn a_damaged_piece_is_not_passed_on() {
    let model = model();
    let liar = Server::damaging_at(SLOW, &model);
    let passed = pass(&[&slow(&model), &liar, &slow(&model)], 8);
    assert!(passed.bytes == model.content && has_helped(&liar));
    let named = format!("damaged {} ", liar.addr.port());
    assert!(passed.told.events.iter().any(|event| event.starts_with(&named)));
}

#[test]
fn values_that_are_not_those_of_the_digest_are_not_used() {
    let model = model();
    let other = Model::new(bytes(model.size() - 1), 65536);
    let wrong = model.clone();
    let liar = Server::paced(SLOW, [], move |request| match request {
        Request::Pieces { .. } => {
            let mut values = wrong.values();
            values[0] = other.values()[1];
            encode(&[Reply::PieceValues { first: 0, values }])
        }
        _ => wrong.answer(request),
    });
    assert!(pass(&[&slow(&model), &liar], 8).bytes == model.content);
    assert!(liar.gets().is_empty());
}

#[test]
fn others_fetch_the_pieces_of_a_session_that_ends_or_stalls() {
    let model = model();
    let cut = model.clone();
    let dying = Server::paced(SLOW, [3_000_000], move |request| cut.answer(request));
    let silent = Server::paced(SLOW, [], |_| Vec::new());
    for server in [dying, silent] {
        let passed = pass(&[&slow(&model), &server, &slow(&model)], 8);
        assert!(passed.bytes == model.content && has_helped(&server));
    }
}

#[test]
fn one_session_fetches_the_rest_when_all_others_have_ended() {
    let model = model();
    let (first, second) = (model.clone(), model.clone());
    // The first connection of the first server is that of the session; the first one of the
    // second server brings the values.
    let cuts = [usize::MAX, 5_000_000];
    let servers = [
        Server::paced(SLOW, cuts, move |request| first.answer(request)),
        Server::paced(SLOW, cuts, move |request| second.answer(request)),
    ];
    assert!(pass(&[&servers[0], &servers[1]], 8).bytes == model.content);
    assert!(servers.iter().all(has_helped));
}
