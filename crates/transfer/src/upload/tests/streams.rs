//! Content of unknown length.

use std::io::{self, Read};

use super::*;

/// Gives its bytes in small parts, then fails or ends.
struct Slowly<'a> {
    rest: &'a [u8],
    step: usize,
    fails: bool,
}

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && self.fails {
            return Err(io::Error::other("the source failed"));
        }
        let now = self.rest.len().min(self.step).min(buffer.len());
        buffer[..now].copy_from_slice(&self.rest[..now]);
        self.rest = &self.rest[now..];
        Ok(now)
    }
}

fn run_stream(servers: &[&Server], from: &mut dyn Read, mut told: Recorder) -> Run {
    let mut sessions = sessions(servers);
    let result = put_stream(
        &mut sessions,
        from,
        &UploadTarget { id: ID, is_old: false, path: &path(), expect: Expect::Any, copies: 0 },
        &mut told,
    );
    Run { told, sessions, result }
}

fn stream(servers: &[&Server], content: &[u8]) -> Run {
    run_stream(
        servers,
        &mut Slowly { rest: content, step: 70_000, fails: false },
        Recorder::default(),
    )
}

#[test]
fn content_of_any_length() {
    for size in [0, 1, 70_000, MIB - 1, MIB, MIB + 1, 3 * MIB + 17] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        let server = Server::honest(&cluster);
        let mut run = stream(&[&server], &content);
        let stored = run.expect(&cluster, &content);
        assert_eq!((stored.bytes_moved, stored.resumed_from), (size as u64, 0));
        assert_eq!((stored.servers, run.told.sent), (vec![server.addr], size as u64));
        let put = &cluster.made()[0].put;
        assert_eq!((put.mtime, put.mode, put.offset), (None, None, 0));
        // Content that is completely in memory has a known length.
        assert_eq!(put.size, (size < MIB).then_some(size as u64));
    }
}

#[test]
fn what_is_in_memory_is_sent_again() {
    let (cluster, content) = (Cluster::default(), bytes(100_000));
    let (a, b) = (Server::cutting(&cluster, [50_000]), Server::honest(&cluster));
    let mut run = stream(&[&a, &b], &content);
    run.expect(&cluster, &content);
    // So is the beginning of something longer, until more was read.
    let (cluster, content) = (Cluster::default(), bytes(MIB));
    let (a, b) = (Server::cutting(&cluster, [50_000]), Server::honest(&cluster));
    let mut run = stream(&[&a, &b], &content);
    run.expect(&cluster, &content);
    assert_eq!(b.puts(), [0]);
}

#[test]
fn a_lost_connection_cuts_it() {
    let cluster = Cluster::default();
    let (a, b) = (Server::cutting(&cluster, [3 * MIB as u64]), Server::honest(&cluster));
    let run = stream(&[&a, &b], &bytes(40 * MIB));
    assert!(matches!(run.result, Err(TransferError::Unreachable(_))), "{:?}", run.result);
    assert!(run.told.sent > MIB as u64);
    assert!(b.requests.lock().unwrap().is_empty() && a.ends() == 0);
    // The same where a server goes.
    let refuse = [(3 * MIB as u64, refusal(ErrorCode::Draining))].into();
    let a = Server::new(&cluster, Script { refuse, ..Script::default() });
    assert!(matches!(
        stream(&[&a, &b], &bytes(40 * MIB)).result,
        Err(TransferError::Unreachable(_))
    ));
    assert!(cluster.made().is_empty());
}

#[test]
fn a_refusal_ends_it() {
    let cluster = Cluster::default();
    let refuse = [(2 * MIB as u64, refusal(ErrorCode::NoSpace))].into();
    let server = Server::new(&cluster, Script { refuse, ..Script::default() });
    let run = stream(&[&server], &bytes(40 * MIB));
    assert_eq!(run.refused(), ErrorCode::NoSpace);
    assert!(run.sessions.open.is_none());
    // Behind the end of something short the connection is still good.
    let spoiling = Server::new(&cluster, Script { spoil: 1, ..Script::default() });
    let mut run = stream(&[&spoiling], &bytes(2 * MIB));
    assert_eq!(run.refused(), ErrorCode::Damaged);
    assert!(run.sessions.is_usable());
}

#[test]
fn a_source_that_fails_is_never_stored() {
    for size in [10, 2 * MIB] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        let server = Server::honest(&cluster);
        let run = run_stream(
            &[&server],
            &mut Slowly { rest: &content, step: 70_000, fails: true },
            Recorder::default(),
        );
        assert!(matches!(run.result, Err(TransferError::Local { .. })), "{:?}", run.result);
        assert!(cluster.made().is_empty() && server.ends() == 0);
        assert!(run.sessions.open.is_none());
    }
}

#[test]
fn an_interruption_ends_a_stream() {
    let cluster = Cluster::default();
    let server = Server::honest(&cluster);
    let told = Recorder { interrupt_at: Some(2 * MIB as u64), ..Recorder::default() };
    let content = bytes(4 * MIB);
    let run = run_stream(&[&server], &mut Slowly { rest: &content, step: MIB, fails: false }, told);
    assert!(matches!(run.result, Err(TransferError::Interrupted)));
    assert!(run.sessions.open.is_none() && cluster.made().is_empty());
}

#[test]
fn answers_that_have_no_place_in_a_stream() {
    let cluster = Cluster::default();
    let server = Server::new(&cluster, Script { chatter: vec![Reply::Pong], ..Script::default() });
    let run = stream(&[&server], &bytes(40 * MIB));
    assert!(matches!(run.result, Err(TransferError::BadServer(_))), "{:?}", run.result);
}
