//! Stalled peers, and a host without threads or processes: only the peer concerned is affected.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use relais_proto::{FrameType, Request, limits, metric};

use crate::harness::{
    RawClient, SOON, Standalone, Strace, content, data, encoded, eventually, get, new_id,
    process_of, put, sessions, wait_unstaged,
};

/// Two windows of the minimum throughput, plus the time that other tests take.
const STALLED: Duration = Duration::from_secs(200);

fn slave() -> Standalone {
    Standalone::start(
        &["--workers", "1", "--sessions-per-worker", "8"],
        &[("f", b"small"), ("large", &content(1, 64 << 20))],
    )
}

/// Calls `step` every half second until the server closes the connection; returns how long that
/// took.
fn until_closed(mut step: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while step() && began.elapsed() < STALLED {
        std::thread::sleep(Duration::from_millis(500));
    }
    began.elapsed()
}

/// All cases run in parallel, because each takes a window.
#[test]
pub fn stalled_sessions_are_closed() {
    let slave = slave();
    let mut wires = sessions(slave.addr, 5);
    let mut asker = wires.pop().unwrap();
    let [mut deaf, mut slow, mut sender, mut beginner] = <[RawClient; 4]>::try_from(wires).unwrap();
    for wire in [&mut deaf, &mut slow] {
        wire.send(&[get("large")]);
        assert!(wire.block_bytes().is_some());
    }
    let upload =
        [encoded(&[Request::Put(put("new", 1 << 20))]), data(&content(2, 1 << 20))].concat();
    sender.raw(&upload[..100_000]);
    beginner.ping();
    let request = encoded(&[get(&["n"; 200].join("/"))]);
    let over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Reads a little now and then. Buffers keep data for it long after its session has ended.
        scope.spawn(move || {
            until_closed(|| {
                !over.load(Ordering::Relaxed) && matches!(slow.0.read(&mut [0; 100]), Ok(1..))
            })
        });
        // Sends a byte now and then.
        let sender = scope.spawn(move || {
            let mut rest = upload[100_000..].iter();
            until_closed(|| sender.raw(&[*rest.next().unwrap()]))
        });
        let beginner = scope.spawn(move || {
            let mut rest = request.iter();
            until_closed(|| rest.next().is_some_and(|byte| beginner.raw(&[*byte])))
        });
        let began = Instant::now();
        eventually(STALLED, "all their sessions have ended", || {
            std::thread::sleep(Duration::from_millis(100));
            (asker.status().1.get(metric::SESSIONS) == 1).then_some(())
        });
        over.store(true, Ordering::Relaxed);
        let took = began.elapsed();
        assert!(took >= limits::RATE_WINDOW / 2, "{took:?}");
        drop(deaf);
        for (what, peer) in [("sender", sender), ("beginner", beginner)] {
            let took = peer.join().unwrap();
            assert!((limits::RATE_WINDOW / 2..STALLED).contains(&took), "{what}: {took:?}");
        }
    });
    assert!(asker.fetch("new").is_err());
    assert_eq!(asker.fetch("f").unwrap(), b"small");
}

#[test]
pub fn no_more_threads_and_processes() {
    let slave = slave();
    let worker = process_of(&slave.program, "Worker(0)");
    let mut before = sessions(slave.addr, 1).remove(0);
    let strace = Strace::attach(
        &[worker, slave.program.pid()],
        &[
            "-e",
            "trace=clone,clone3,fork,vfork",
            "-e",
            "inject=clone,clone3,fork,vfork:error=EAGAIN",
        ],
    );
    // New clients are rejected, and open sessions continue.
    for _ in 0..5 {
        let mut wire = RawClient::connect(slave.addr);
        wire.raw(&encoded(&[
            crate::harness::hello(),
            Request::Login(relais_proto::Login::default()),
            Request::Ping,
        ]));
        let mut kinds = Vec::new();
        while let Ok(Some((kind, _))) = wire.frame() {
            kinds.push(kind);
        }
        assert!(
            kinds.contains(&FrameType::Error) && !kinds.contains(&FrameType::Pong),
            "{kinds:?}"
        );
    }
    assert_eq!(before.fetch("f").unwrap(), b"small");
    let counted = before.status().1;
    assert_eq!(counted.get(metric::SESSIONS), 1, "a slot was lost");
    // A killed worker is replaced only when a process can be started.
    let (before_kill, killed) = (strace.count("INJECTED"), Instant::now());
    kill(worker, Signal::SIGKILL).unwrap();
    let failed = || strace.count("INJECTED") - before_kill;
    eventually(SOON, "it was tried 3 times", || (failed() >= 3).then_some(()));
    // The pause before the second attempt is 200 ms, that before the third is 400 ms.
    let (failed, took) = (failed(), killed.elapsed());
    assert!(took >= Duration::from_millis(500), "{failed} attempts in {took:?} are too many");
    drop(strace);
    let began = Instant::now();
    slave.client().get("f");
    assert!(began.elapsed() < Duration::from_secs(30));
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.put(&format!("after-{:x}", new_id().0[0]), b"x").unwrap();
    wait_unstaged(&slave.root);
}
