//! Whoever guesses passwords: slowed down, told nothing, and in nobody's way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relais_proto::{ErrorCode, Reply, limits};

use super::{Server, login, password};
use crate::harness::{SOON, Wire, encoded, eventually, hello};

#[test]
fn three_tries_a_connection_and_then_a_growing_wait() {
    for server in Server::both(&[("ann", "write", "/")]) {
        let mut wire = Wire::connect(server.addr());
        wire.send(&[hello()]);
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        for guess in ["one", "two", "three"] {
            wire.send(&[login("ann", guess)]);
            assert!(
                matches!(wire.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::LoginRefused),
                "{guess}"
            );
        }
        wire.closed_within(SOON);
        // From the fourth on the address has to wait, also with the right password, and the wait has an end.
        let fourth = server.log_in("ann", "four").unwrap_err();
        assert_eq!(fourth.code, ErrorCode::LoginRefused);
        let refusal = server.open("ann").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Busy);
        assert!((1..=5).contains(&refusal.retry_after), "{refusal:?}");
        eventually(SOON, "the right password opens again", || server.open("ann").ok()).ping();
    }
}

#[test]
fn many_at_once_are_no_faster_than_one_after_another() {
    const AT_ONCE: usize = 24;
    let slave = crate::harness::Standalone::start(&["--workers", "8"], &[]);
    super::add(&slave.dir, &slave.dir.folder("state"), "ann", "write", "/");
    let addr = slave.addr;
    eventually(SOON, "the account counts", || {
        let mut wire = Wire::connect(addr);
        wire.send(&[hello(), login("", "")]);
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        matches!(wire.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::LoginNeeded)
            .then_some(())
    });
    let guess = move || {
        let mut wire = Wire::connect(addr);
        wire.send(&[hello(), login("ann", "wrong")]);
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        matches!(wire.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::LoginRefused)
    };
    let threads: Vec<_> = (0..AT_ONCE).map(|_| std::thread::spawn(guess)).collect();
    let looked_at = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .filter(|looked_at| *looked_at)
        .count();
    let cores = std::thread::available_parallelism().unwrap().get();
    // Three for nothing, one that begins the wait, and what was being hashed beside that one; the wait may end once meanwhile.
    assert!((4..=4 + 2 * cores).contains(&looked_at) || looked_at < AT_ONCE / 2, "{looked_at}");
}

#[test]
fn a_client_with_the_right_password_gets_through_beside_guessers() {
    let [server, standalone] = Server::both(&[("ann", "write", "/")]);
    for server in [server, standalone] {
        let addr = server.addr();
        // Other machines than ours, as far as the server can tell, are not to be had here: so these are slowed as we are, and the
        // client waits by itself.
        let guessers: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut wire = Wire::connect(addr);
                    wire.send(&[hello(), login("ann", "wrong")]);
                    let _ = (wire.frame(), wire.frame());
                })
            })
            .collect();
        guessers.into_iter().for_each(|guesser| guesser.join().unwrap());
        let client = server.client();
        let file = super::password_file(server.dir(), &password("ann"));
        client
            .run(&[
                "-u",
                "ann",
                "--password-file",
                file.to_str().unwrap(),
                "--retry",
                "20",
                "-c",
                "get f",
            ])
            .ok();
    }
}

#[test]
fn a_password_that_is_too_long_is_refused_before_it_costs_anything() {
    for server in Server::both(&[("ann", "write", "/")]) {
        for _ in 0..20 {
            let mut wire = Wire::connect(server.addr());
            wire.send(&[hello()]);
            assert!(matches!(wire.reply(), Reply::Welcome { .. }));
            wire.send(&[login("ann", &"x".repeat(limits::PASSWORD + 1))]);
            assert!(
                matches!(wire.reply(), Reply::Error(refusal) if refusal.code == ErrorCode::BadRequest)
            );
        }
        // None of them was looked at, and so none has counted.
        server.open("ann").unwrap().ping();
    }
}

#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    // In the mean, over pairs taken in turns, from addresses that were not slowed yet: three tries each.
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        for server in Server::both(&[("ann", "write", "/")]) {
            let mut wire = Wire::connect(server.addr());
            wire.send(&[hello()]);
            assert!(matches!(wire.reply(), Reply::Welcome { .. }));
            for (name, times) in [("ann", &mut known), ("bob", &mut unknown)] {
                let began = Instant::now();
                wire.send(&[login(name, "wrong")]);
                let Reply::Error(refusal) = wire.reply() else { panic!("{name} got in") };
                times.push(began.elapsed());
                assert_eq!(
                    (refusal.code, refusal.message.as_str()),
                    (ErrorCode::LoginRefused, "user or password are wrong")
                );
            }
        }
    }
    let middle = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (known, unknown) = (middle(&mut known), middle(&mut unknown));
    assert!(known < unknown * 3 && unknown < known * 3, "{known:?} and {unknown:?}");
}

#[test]
fn logins_that_wait_hold_nobody_up() {
    let [server, _] = Server::both(&[("ann", "write", "/")]);
    let addr = server.addr();
    // Many passwords to be looked at, from one address.
    let wires: Vec<Wire> = (0..60)
        .map(|_| {
            let mut wire = Wire::connect(addr);
            wire.send(&[hello(), login("ann", &password("ann"))]);
            wire
        })
        .collect();
    // Whoever needs no password is answered between them.
    let began = Instant::now();
    assert!(
        matches!(server.log_in("", ""), Err(refusal) if refusal.code == ErrorCode::LoginNeeded)
    );
    let waited = began.elapsed();
    let mut opened = 0;
    for mut wire in wires {
        assert!(matches!(wire.reply(), Reply::Welcome { .. }));
        opened += usize::from(matches!(wire.reply(), Reply::Redirect { .. }));
    }
    assert_eq!(opened, 60, "all of them were right");
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}

/// Addresses that all guess at one account, each as fast as it is answered, until this is dropped.
struct Guessers {
    over: Arc<AtomicBool>,
    /// Passwords that were checked and were wrong.
    wrong: Arc<AtomicUsize>,
    /// Addresses from which at least one was checked.
    begun: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Guessers {
    fn start(addr: SocketAddr, count: u16) -> Self {
        let (over, wrong) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let begun = Arc::<AtomicUsize>::default();
        let guesser = |n: u16| {
            let (over, wrong, begun) = (Arc::clone(&over), Arc::clone(&wrong), Arc::clone(&begun));
            let [high, low] = (n + 256).to_be_bytes();
            // Some are in the network of the user, the others each have one of their own, as far as the server can tell.
            let source = match u8::try_from(n) {
                Ok(n @ 40..200) => IpAddr::from([127, 0, 0, n]),
                _ => IpAddr::from([127, 1 + high, low, 9]),
            };
            let run = move || {
                let mut is_first = true;
                while !over.load(SeqCst) {
                    if guess(source, addr) {
                        wrong.fetch_add(1, SeqCst);
                        begun.fetch_add(usize::from(is_first), SeqCst);
                        is_first = false;
                    } else {
                        // As it is told to.
                        std::thread::sleep(Duration::from_secs(1));
                    }
                }
            };
            std::thread::Builder::new().stack_size(128 * 1024).spawn(run).unwrap()
        };
        let threads = (0..count).map(guesser).collect();
        Self { over, wrong, begun, threads }
    }

    fn wrong(&self) -> usize {
        self.wrong.load(SeqCst)
    }
}

impl Drop for Guessers {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Whether a wrong password was looked at.
fn guess(source: IpAddr, addr: SocketAddr) -> bool {
    let Some(mut wire) = Wire::connect_from(source, addr) else { return false };
    wire.0.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
    wire.raw(&encoded(&[hello(), login("ann", "wrong")]));
    let Ok(Some(_)) = wire.frame() else { return false };
    let Ok(Some((kind, payload))) = wire.frame() else { return false };
    matches!(Reply::decode(kind, &payload), Ok(Reply::Error(refusal)) if refusal.code == ErrorCode::LoginRefused)
}

#[test]
fn guessing_addresses_lock_out_nobody_and_are_slow_together() {
    guessed_at_by(60, false);
}

#[test]
#[ignore = "it keeps both cores busy for a minute"]
fn seven_hundred_guessing_addresses_lock_out_nobody() {
    guessed_at_by(700, true);
}

/// A user logs in beside so many addresses that guess; with `at_once` each time at the first try, which needs a machine that is not
/// busy with other tests.
fn guessed_at_by(addresses: u16, at_once: bool) {
    let [server, _] = Server::both(&[("ann", "write", "/")]);
    server.open("ann").unwrap().ping();
    let guessers = Guessers::start(server.addr(), addresses);
    eventually(SOON, "they guess", || (guessers.wrong() > 10).then_some(()));
    for n in 0..8 {
        let began = Instant::now();
        let first = server.open("ann");
        if at_once {
            first.unwrap_or_else(|refusal| panic!("login {n} of 8: {refusal}"));
            assert!(began.elapsed() < Duration::from_secs(5), "login {n}: {:?}", began.elapsed());
        } else if first.is_err() {
            eventually(SOON, "the right password opens", || server.open("ann").ok());
        }
    }
    // Once each address has had its first guess, they share a rate.
    eventually(3 * SOON, "nearly each has guessed once", || {
        (guessers.begun.load(SeqCst) >= usize::from(addresses) * 95 / 100).then_some(())
    });
    let (before, began) = (guessers.wrong(), Instant::now());
    // Who has never been here gets in too: with the first password, since nothing is held against that address.
    let newcomer = IpAddr::from([127, 200, 0, 1]);
    eventually(SOON, "a newcomer gets in", || {
        let mut wire = Wire::connect_from(newcomer, server.addr())?;
        wire.send(&[hello(), login("ann", &password("ann"))]);
        let welcome = wire.frame().ok()??;
        assert_eq!(welcome.0, relais_proto::FrameType::Welcome);
        let (kind, _) = wire.frame().ok()??;
        (kind == relais_proto::FrameType::Redirect).then_some(())
    });
    eventually(SOON, "a while", || (began.elapsed() > Duration::from_secs(3)).then_some(()));
    let (more, took) = (guessers.wrong() - before, began.elapsed().as_secs_f64());
    let rest = f64::from(addresses) * 0.05;
    // One a second and sixteen at once, also in the network of the user; the few that had not had their first; and what was just being
    // looked at.
    assert!((more as f64) < rest + 2.0 * (16.0 + took) + 30.0, "{more} in {took} s");
}
