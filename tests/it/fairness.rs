//! Fairness: a flood of changes or hash requests delays only the user or address that sends it.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use relais_proto::{FrameType, IfMatch, Login, Lsn, Reply, Request, metric};

use crate::accounts;
use crate::harness::{
    Cluster, RawClient, SOON, Standalone, encoded, eventually, hello, make_folder, path,
    process_of, put, session, staged_files, stop, upload,
};

/// Maximum changes in flight of a flooding session; all together fewer than an account may have
/// unfinished.
const AHEAD: usize = 40;

/// Sessions that send requests as fast as they are answered, until this is dropped.
struct Flood {
    over: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Starts a flood with `ahead` requests in flight for each session.
    ///
    /// `ask` builds a request from the session's number and the request's. `kind` is the type of
    /// the answers.
    fn start(
        sessions: Vec<RawClient>,
        (kind, ahead): (FrameType, usize),
        ask: impl Fn(usize, usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let (over, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ask = Arc::new(ask);
        let run = |(number, mut wire): (usize, RawClient)| {
            let (over, done, ask) = (Arc::clone(&over), Arc::clone(&done), Arc::clone(&ask));
            let run = move || {
                let (mut sent, mut answered) = (0, 0);
                while !over.load(SeqCst) {
                    if sent - answered <= ahead / 2 {
                        let some: Vec<u8> =
                            (0..ahead / 2).flat_map(|n| ask(number, sent + n)).collect();
                        if !wire.raw(&some) {
                            return;
                        }
                        sent += ahead / 2;
                    }
                    match wire.frame() {
                        Ok(Some((FrameType::Wait | FrameType::MasterUnreachable, _))) => {}
                        Ok(Some((frame, _))) => {
                            answered += 1;
                            done.fetch_add(usize::from(frame == kind), SeqCst);
                        }
                        _ => return,
                    }
                }
            };
            std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap()
        };
        let threads = sessions.into_iter().enumerate().map(run).collect();
        Self { over, done, threads }
    }

    /// Starts a flood of small puts.
    fn of_puts(sessions: Vec<RawClient>) -> Self {
        Self::start(sessions, (FrameType::Committed, AHEAD), |session, n| {
            upload(&put(&format!("flood{session}-{}", n % 10), 3), b"new", 3)
        })
    }

    fn done(&self) -> usize {
        self.done.load(SeqCst)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Returns the number of the slave's last change.
#[track_caller]
fn latest(wire: &mut RawClient) -> u64 {
    match wire.ask(&Request::Stat(path(""))) {
        Reply::Details { lsn, .. } => lsn.number,
        other => panic!("{other:?}"),
    }
}

/// Makes one put. Returns how many other changes were made meanwhile, and how long the put took.
#[track_caller]
fn one_put(wire: &mut RawClient, n: usize) -> (u64, Duration) {
    let (before, began) = (latest(wire), Instant::now());
    let Lsn { number, .. } = wire.put(&format!("single{n}"), b"content").unwrap();
    (number - before, began.elapsed())
}

/// Opens a session without an account from a local address.
#[track_caller]
fn session_from(source: [u8; 4], addr: SocketAddr) -> RawClient {
    let mut wire = RawClient::connect_from(IpAddr::from(source), addr).unwrap();
    wire.send(&[hello(), Request::Login(Login::default())]);
    assert!(matches!(wire.reply(), Reply::Welcome { .. }));
    let reply = wire.reply();
    assert!(matches!(reply, Reply::Opened { .. }), "{reply:?}");
    wire
}

/// Starts a master and a slave with these users, and returns a ticket for each.
#[track_caller]
fn with_users(names: &[&str]) -> (Cluster, Vec<Vec<u8>>) {
    let cluster = Cluster::of(1).start();
    let state = cluster.dir.folder("master");
    names.iter().for_each(|name| accounts::add(&cluster.dir, &state, name, "write", "/"));
    let ticket = |name: &&str| {
        eventually(SOON, "the account is in force", || {
            let mut wire = RawClient::connect(cluster.addr);
            let password = accounts::password(name).into_bytes();
            let login = Login { user: (*name).to_owned(), password, ..Login::default() };
            wire.send(&[hello(), Request::Login(login)]);
            assert!(matches!(wire.reply(), Reply::Welcome { .. }));
            match wire.reply() {
                Reply::Redirect { ticket, .. } => Some(ticket),
                _ => None,
            }
        })
    };
    let tickets = names.iter().map(ticket).collect();
    (cluster, tickets)
}

/// Makes single puts during a flood; each may wait for at most `most` other changes.
#[track_caller]
fn put_beside(flood: &Flood, wire: &mut RawClient, most: u64) {
    eventually(2 * SOON, "the flood is running", || (flood.done() > 200).then_some(()));
    for n in 0..3 {
        let (others, took) = one_put(wire, n);
        assert!(others <= most, "put {n} waited for {others} others and {took:?}");
    }
}

#[test]
fn a_flood_of_another_user_does_not_delay_a_put() {
    let (cluster, tickets) = with_users(&["flood", "ann"]);
    let slave = cluster.slaves[0].addr;
    let mut wire = session(slave, &tickets[1]);
    let flood = Flood::of_puts((0..100).map(|_| session(slave, &tickets[0])).collect());
    // Two batches are in progress, a third is filled meanwhile, and some pass while the put
    // arrives.
    put_beside(&flood, &mut wire, 6 * 256);
}

#[test]
fn a_flood_of_another_address_does_not_delay_a_put() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = session_from([127, 0, 0, 1], slave.addr);
    let flood = (0..100).map(|_| session_from([127, 0, 0, 2], slave.addr)).collect();
    put_beside(&Flood::of_puts(flood), &mut wire, 6 * 256);
}

#[test]
#[ignore = "it keeps both cores busy for a minute"]
fn beside_500_flooding_sessions_no_put_fails() {
    let (cluster, tickets) = with_users(&["flood", "ann"]);
    let slave = cluster.slaves[0].addr;
    let mut wire = session(slave, &tickets[1]);
    let flood = Flood::of_puts((0..500).map(|_| session(slave, &tickets[0])).collect());
    eventually(2 * SOON, "the flood is running", || (flood.done() > 1000).then_some(()));
    for n in 0..200 {
        wire.put(&format!("single{n}"), b"content").unwrap();
    }
}

#[test]
fn changes_of_a_closed_session_are_not_made() {
    const PUTS: usize = 50;
    let slave = Standalone::start(&["--workers", "1"], &[]);
    let (mut gone, mut stays) =
        (session_from([127, 0, 0, 2], slave.addr), session_from([127, 0, 0, 1], slave.addr));
    gone.put("before", b"content").unwrap();
    let before = latest(&mut stays);
    let replicator = process_of(&slave.program, "Replicator");
    stop(replicator);
    let requests: Vec<_> = (0..PUTS).map(|n| put(&format!("gone{n}"), 3)).collect();
    let all: Vec<u8> = requests.iter().flat_map(|request| upload(request, b"new", 3)).collect();
    gone.raw(&all);
    eventually(SOON, "all puts are staged", || {
        (staged_files(&slave.root)
            .iter()
            .filter(|f| f.to_string_lossy().ends_with(".whole"))
            .count()
            == PUTS)
            .then_some(())
    });
    // The connection is reset, as when the client dies with unread answers.
    let socket = socket2::Socket::from(gone.0);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    eventually(SOON, "the reset session has ended", || {
        (stays.status().1.get(metric::SESSIONS) == 1).then_some(())
    });
    kill(replicator, Signal::SIGCONT).unwrap();
    assert_eq!(stays.put("stays", b"content").unwrap().number, before + 1);
    // The uploads stay staged: repeated with the same id, each is made once.
    let mut again = session_from([127, 0, 0, 2], slave.addr);
    assert_eq!(again.upload(&requests[7], b"new").unwrap().number, before + 2);
    assert_eq!(again.upload(&requests[7], b"new").unwrap().number, before + 2);
    assert_eq!(again.fetch("gone7").unwrap(), b"new");
}

#[test]
fn requests_of_a_client_that_died_are_not_made() {
    const REQUESTS: usize = 3000;
    let slave = Standalone::start(&["--workers", "1"], &[]);
    let mut gone = session_from([127, 0, 0, 2], slave.addr);
    let mut stays = session_from([127, 0, 0, 1], slave.addr);
    gone.put("before", b"content").unwrap();
    let before = latest(&mut stays);
    let replicator = process_of(&slave.program, "Replicator");
    stop(replicator);
    let requests: Vec<Request> =
        (0..REQUESTS).map(|n| make_folder(&format!("folder{n}"))).collect();
    assert!(gone.raw(&encoded(&requests)));
    // All answers were read, so the connection ends like one that is shut down for sending.
    drop(gone);
    kill(replicator, Signal::SIGCONT).unwrap();
    eventually(SOON, "its session has ended", || {
        (stays.status().1.get(metric::SESSIONS) == 1).then_some(())
    });
    let made = latest(&mut stays) - before;
    assert!(made < 1000, "{made} changes were made for a client that is gone");
}

#[test]
fn a_flood_of_another_address_does_not_delay_hashing() {
    const PIECES: u32 = 64;
    let slave = Standalone::start(&["--workers", "1"], &[("f", b"")]);
    // A sparse file, which takes no space on the disk.
    let size = u64::from(PIECES) << 20;
    File::options().write(true).open(slave.root.join("f")).unwrap().set_len(size).unwrap();
    let ask =
        |count: u32| Request::Pieces { path: path("f"), if_match: IfMatch::Any, first: 0, count };
    let mut wire = session_from([127, 0, 0, 1], slave.addr);
    let flood = Flood::start(
        (0..40).map(|_| session_from([127, 0, 0, 2], slave.addr)).collect(),
        // Two in flight, because answers are held back while further requests are ready.
        (FrameType::PieceValues, 2),
        move |_, _| crate::harness::encoded(&[ask(1)]),
    );
    eventually(2 * SOON, "the flood is running", || (flood.done() > 100).then_some(()));
    let before = flood.done();
    match wire.ask(&ask(PIECES)) {
        Reply::PieceValues { values, .. } => assert_eq!(values.len(), PIECES as usize),
        other => panic!("{other:?}"),
    }
    // A few for each, on every core; without round robin there would be forty for one.
    let others = flood.done() - before;
    let cores = std::thread::available_parallelism().unwrap().get();
    let most = 4 * cores * PIECES as usize;
    assert!(others <= most, "{others} others came before {PIECES} pieces");
}
