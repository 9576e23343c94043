//! Peers that hold on without going on, and a host that has run out of something: whoever it concerns is told or cut, and nobody else.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use relais_proto::{FrameType, Request, limits};

use crate::harness::{
    Standalone, Strace, Wire, content, data, encoded, eventually, get, new_id, process_of, put,
    sessions, wait_unstaged,
};

/// A window in which nothing moves, twice over, and what other tests take from it.
const STALLED: Duration = Duration::from_secs(200);

fn slave() -> Standalone {
    Standalone::start(
        &["--workers", "1", "--sessions-per-worker", "8"],
        &[("f", b"small"), ("large", &content(1, 64 << 20))],
    )
}

/// Does `step` each half second until the server has closed the connection; how long that took.
fn until_closed(mut step: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while step() && began.elapsed() < STALLED {
        std::thread::sleep(Duration::from_millis(500));
    }
    began.elapsed()
}

/// All at once, since each takes its time.
#[test]
pub fn who_holds_on_without_going_on_is_ended() {
    let slave = slave();
    let mut wires = sessions(slave.addr, 5);
    let mut asker = wires.pop().unwrap();
    let [mut deaf, mut slow, mut sender, mut beginner] = <[Wire; 4]>::try_from(wires).unwrap();
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
        // Takes a little of what comes, now and then; it has the buffers on the way to take from long after its session has ended.
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
            (asker.status().1.sessions == 1).then_some(())
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
    // Whoever comes is turned away, and whoever is there goes on.
    for _ in 0..5 {
        let mut wire = Wire::connect(slave.addr);
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
    assert_eq!(counted.sessions, 1, "no place is lost");
    // A worker that dies now has no successor, until there can be one.
    kill(worker, Signal::SIGKILL).unwrap();
    // Time for the pauses between its tries to grow.
    std::thread::sleep(Duration::from_secs(2));
    let calls = strace.end();
    let failed = calls.iter().filter(|call| call.text.contains("INJECTED")).count();
    assert!((5..100).contains(&failed), "tried {failed} times: neither given up nor spun");
    let began = Instant::now();
    slave.client().get("f");
    assert!(began.elapsed() < Duration::from_secs(30));
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.put(&format!("after-{:x}", new_id().0[0]), b"x").unwrap();
    wait_unstaged(&slave.root);
}
