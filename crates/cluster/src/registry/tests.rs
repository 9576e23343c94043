//! The registry driven through hours of a cluster's life in a moment.

use std::collections::HashMap;
use std::net::IpAddr;

use relais_proto::{Metrics, metric};

use super::*;
use crate::http_addresses::HttpRequester;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const CLIENT: ConnectionAddrs = ConnectionAddrs { peer: HOME, local: HOME };

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn id(n: u8) -> SlaveId {
    SlaveId([n; 16])
}

fn joining(n: u8, link: u64) -> JoinRequest {
    let place = SlaveAddresses {
        listen: vec![SocketAddr::new(HOME, 2000 + u16::from(n))],
        advertised: Vec::new(),
        peer: HOME,
        same_host: true,
    };
    JoinRequest {
        id: id(n),
        link: LinkId(link),
        place,
        http: HttpAddresses::default(),
        folder: FolderId([n; 16]),
        lsn: Lsn::default(),
    }
}

fn heartbeat_with(state: SlaveState, sessions: u32, workers: u32) -> Heartbeat {
    Heartbeat {
        state,
        lsn: Lsn::default(),
        metrics: Metrics::default()
            .with(metric::SESSIONS, sessions.into())
            .with(metric::WORKERS, workers.into()),
        last_error: String::new(),
        disk: relais_proto::DiskSpace::default(),
        scrub: relais_proto::Scrub::default(),
    }
}

fn heartbeat() -> Heartbeat {
    heartbeat_with(SlaveState::InService, 0, 1)
}

/// Slaves 1 to n on links 1 to n, all in service at 0.
fn cluster(n: u8) -> Registry {
    let mut registry = Registry::new(Balance::RoundRobin);
    for n in 1..=n {
        registry.register(joining(n, n.into()), ms(0)).unwrap();
        assert!(registry.record_heartbeat(LinkId(n.into()), heartbeat(), ms(0)));
    }
    registry
}

fn first(registry: &mut Registry, avoid: &[u8], prefer: Option<u8>, now: Duration) -> Option<u8> {
    let avoid: Vec<SlaveId> = avoid.iter().map(|n| id(*n)).collect();
    registry
        .redirect(CLIENT, &avoid, prefer.map(id), false, now)
        .ok()
        .map(|slaves| slaves[0].id.0[0])
}

fn firsts(registry: &mut Registry, count: usize, now: Duration) -> Vec<u8> {
    (0..count).filter_map(|_| first(registry, &[], None, now)).collect()
}

#[test]
fn clients_go_one_after_another() {
    assert_eq!(firsts(&mut cluster(2), 5, ms(1)), [1, 2, 1, 2, 1]);
    assert_eq!(firsts(&mut cluster(3), 7, ms(1)), [1, 2, 3, 1, 2, 3, 1]);
    let mut registry = cluster(3);
    let all: Vec<_> =
        registry.redirect(CLIENT, &[], None, false, ms(1)).unwrap().iter().map(|e| e.id).collect();
    assert_eq!(all, [id(1), id(2), id(3)]);
    let all: Vec<_> =
        registry.redirect(CLIENT, &[], None, false, ms(1)).unwrap().iter().map(|e| e.id).collect();
    assert_eq!(all, [id(2), id(3), id(1)]);
    assert_eq!(
        cluster(30).redirect(CLIENT, &[], None, false, ms(1)).unwrap().len(),
        limits::REDIRECT_SLAVES
    );
}

#[test]
fn one_that_joins_at_the_end_is_next() {
    let mut registry = cluster(1);
    assert_eq!(firsts(&mut registry, 1, ms(1)), [1]);
    registry.register(joining(2, 2), ms(1)).unwrap();
    registry.record_heartbeat(LinkId(2), heartbeat(), ms(1));
    assert_eq!(firsts(&mut registry, 3, ms(2)), [2, 1, 2]);
}

#[test]
fn one_that_comes_back_keeps_its_place() {
    let mut registry = cluster(3);
    registry.closed(LinkId(1));
    assert_eq!(firsts(&mut registry, 3, ms(1)), [2, 3, 2]);
    registry.register(joining(1, 9), ms(2)).unwrap();
    assert_eq!(firsts(&mut registry, 2, ms(2)), [3, 2], "not before its heartbeat");
    registry.record_heartbeat(LinkId(9), heartbeat(), ms(3));
    assert_eq!(firsts(&mut registry, 4, ms(3)), [3, 1, 2, 3]);
}

#[test]
fn out_of_service_after_three_seconds_of_silence() {
    let mut registry = cluster(1);
    assert_eq!(first(&mut registry, &[], None, ms(2_999)), Some(1));
    assert_eq!(first(&mut registry, &[], None, ms(3_000)), None);
    assert!(registry.record_heartbeat(LinkId(1), heartbeat(), ms(3_500)), "its link still counts");
    assert_eq!(first(&mut registry, &[], None, ms(3_500)), Some(1));
}

#[test]
fn what_a_heartbeat_says_decides() {
    for (heartbeat, expected) in [
        (heartbeat_with(SlaveState::InService, 9, 1), SlaveState::InService),
        (heartbeat_with(SlaveState::InService, 9, 0), SlaveState::Down),
        (heartbeat_with(SlaveState::CatchingUp, 0, 1), SlaveState::CatchingUp),
        (heartbeat_with(SlaveState::Draining, 0, 1), SlaveState::Draining),
        (heartbeat_with(SlaveState::Down, 0, 1), SlaveState::Down),
    ] {
        let mut registry = cluster(1);
        registry.record_heartbeat(LinkId(1), heartbeat, ms(1));
        assert_eq!(registry.reports(CLIENT, ms(2))[0].state, expected);
        assert_eq!(
            first(&mut registry, &[], None, ms(2)).is_some(),
            expected == SlaveState::InService
        );
    }
}

#[test]
fn who_failed_a_client_is_left_out_while_there_are_others() {
    let mut registry = cluster(2);
    assert_eq!(first(&mut registry, &[1], None, ms(1)), Some(2));
    assert_eq!(first(&mut registry, &[2], None, ms(1)), Some(1));
    assert_eq!(first(&mut registry, &[1, 2], None, ms(1)), Some(2), "better than none");
    assert_eq!(registry.redirect(CLIENT, &[id(1)], None, false, ms(1)).unwrap().len(), 1);
    assert_eq!(first(&mut registry, &[9], None, ms(1)), Some(1), "an unknown slave");
}

#[test]
fn who_is_preferred_comes_first_and_takes_no_turn() {
    let mut registry = cluster(3);
    assert_eq!(first(&mut registry, &[], Some(3), ms(1)), Some(3));
    assert_eq!(first(&mut registry, &[], Some(1), ms(1)), Some(1));
    assert_eq!(firsts(&mut registry, 2, ms(1)), [1, 2]);
    let order: Vec<_> = registry
        .redirect(CLIENT, &[], Some(id(2)), false, ms(1))
        .unwrap()
        .iter()
        .map(|e| e.id.0[0])
        .collect();
    assert_eq!(order, [2, 3, 1]);
    assert_eq!(
        first(&mut registry, &[2], Some(2), ms(1)),
        Some(3),
        "it has just failed this client"
    );
    registry.closed(LinkId(2));
    assert_eq!(first(&mut registry, &[], Some(2), ms(1)), Some(1), "it is gone");
}

#[test]
fn the_fewest_sessions_win_and_new_clients_count_at_once() {
    let mut registry = Registry { balance: Balance::LeastSessions, ..cluster(3) };
    for (n, sessions) in [(1, 2), (2, 0), (3, 1)] {
        registry.record_heartbeat(
            LinkId(n),
            heartbeat_with(SlaveState::InService, sessions, 1),
            ms(1),
        );
    }
    assert_eq!(firsts(&mut registry, 6, ms(2)), [2, 3, 2, 3, 1, 2]);
}

#[test]
fn an_id_is_held_by_a_living_link() {
    let mut registry = cluster(1);
    let refused = registry.register(joining(1, 2), ms(2_999)).unwrap_err();
    assert_eq!(refused, Conflict::SameId { id: id(1), holder: LinkId(1) });
    assert!(
        registry.record_heartbeat(LinkId(1), heartbeat(), ms(2_999)),
        "the holder is not disturbed"
    );

    assert_eq!(registry.register(joining(1, 2), ms(5_999)).unwrap(), Some(LinkId(1)));
    assert!(
        !registry.record_heartbeat(LinkId(1), heartbeat(), ms(6_000)),
        "the old link counts no longer"
    );
    registry.closed(LinkId(1));
    assert!(
        registry.record_heartbeat(LinkId(2), heartbeat(), ms(6_000)),
        "closing the old one changes nothing"
    );
    assert_eq!(registry.reports(CLIENT, ms(6_000)).len(), 1);
}

#[test]
fn after_a_restart_it_is_back_at_once() {
    let mut registry = cluster(1);
    registry.closed(LinkId(1));
    assert_eq!(registry.register(joining(1, 2), ms(1)).unwrap(), None);
}

#[test]
fn an_address_is_held_by_a_living_slave() {
    let mut registry = cluster(1);
    let thief = JoinRequest { place: joining(1, 1).place, ..joining(2, 2) };
    let refused = registry.register(thief.clone(), ms(1)).unwrap_err();
    assert_eq!(refused, Conflict::SameAddress { other: id(1), holder: LinkId(1) });
    registry.closed(LinkId(1));
    registry.register(thief, ms(1)).unwrap();
    assert!(matches!(registry.register(joining(1, 3), ms(1)), Err(Conflict::SameAddress { .. })));
}

#[test]
fn who_listens_nowhere_cannot_join() {
    for listen in [vec![], vec!["127.0.0.1:0".parse().unwrap()]] {
        let place = SlaveAddresses { listen, ..joining(1, 1).place };
        assert_eq!(
            cluster(0).register(JoinRequest { place, ..joining(1, 1) }, ms(0)),
            Err(Conflict::Nowhere)
        );
    }
}

#[test]
fn clients_that_can_use_no_address_are_told_what_to_do() {
    let mut registry = cluster(2);
    let far =
        ConnectionAddrs { peer: "192.0.2.7".parse().unwrap(), local: "192.0.2.1".parse().unwrap() };
    let refused = registry.redirect(far, &[], None, false, ms(1)).unwrap_err();
    assert!(refused.to_string().contains("--listen"));
    assert_eq!(registry.redirect(far, &[], None, false, ms(4_000)), Err(NoSlave::NoneInService));
    assert_eq!(firsts(&mut registry, 1, ms(1)), [1], "a client that was refused takes no turn");
}

#[test]
fn changes_are_noticed_once() {
    let mut registry = cluster(0);
    registry.register(joining(1, 1), ms(0)).unwrap();
    let states = |registry: &mut Registry, now| {
        registry.notices(ms(now)).iter().map(|n| (n.from, n.to)).collect::<Vec<_>>()
    };
    assert_eq!(states(&mut registry, 0), [(None, SlaveState::CatchingUp)]);
    registry.record_heartbeat(LinkId(1), heartbeat(), ms(1));
    assert_eq!(states(&mut registry, 1), [(Some(SlaveState::CatchingUp), SlaveState::InService)]);
    assert_eq!(states(&mut registry, 3_000), []);
    assert_eq!(states(&mut registry, 3_001), [(Some(SlaveState::InService), SlaveState::Down)]);
    assert_eq!(states(&mut registry, 9_000), []);
}

#[test]
fn memory_is_bounded() {
    let mut registry = Registry::new(Balance::RoundRobin);
    let log_entry = |n: usize| {
        let low = u16::try_from(n).unwrap();
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&low.to_be_bytes());
        let listen = vec![SocketAddr::new(HOME, 1 + low)];
        JoinRequest {
            id: SlaveId(bytes),
            place: SlaveAddresses { listen, ..joining(0, 0).place },
            ..joining(0, n as u64)
        }
    };
    for n in 0..KNOWN_MAX {
        registry.register(log_entry(n), ms(n as u64 / 1000)).unwrap();
    }
    assert_eq!(registry.register(log_entry(KNOWN_MAX), ms(1)), Err(Conflict::Full));
    registry.closed(LinkId(7));
    registry.register(log_entry(KNOWN_MAX), ms(1)).unwrap();
    assert_eq!(registry.slaves.len(), KNOWN_MAX);
    assert!(!registry.slaves.iter().any(|slave| slave.id == log_entry(7).id));
}

/// A small generator with a seed (xorshift), so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn slave(&mut self) -> u8 {
        u8::try_from(1 + self.below(6)).unwrap()
    }
}

/// What must be true of a slave, kept apart from the registry in the plainest way.
#[derive(Default)]
struct Model {
    link: HashMap<u8, u64>,
    heard: HashMap<u8, u64>,
    good: HashMap<u8, bool>,
}

impl Model {
    fn alive(&self, n: u8, now: u64) -> bool {
        self.link.contains_key(&n) && now - self.heard[&n] < 3_000
    }

    fn in_service(&self, n: u8, now: u64) -> bool {
        self.alive(n, now) && self.good[&n]
    }
}

fn live(seed: u64) {
    let (mut dice, mut registry, mut model) =
        (Dice(seed), Registry::new(Balance::RoundRobin), Model::default());
    let (mut now, mut links) = (0, 0);
    for _ in 0..400 {
        now += dice.below(700);
        let n = dice.slave();
        match dice.below(10) {
            0 | 1 => {
                links += 1;
                let answer = registry.register(joining(n, links), ms(now));
                assert_eq!(answer.is_err(), model.alive(n, now), "seed {seed}");
                if answer.is_ok() {
                    model.link.insert(n, links);
                    model.heard.insert(n, now);
                    model.good.insert(n, false);
                }
            }
            2..=6 => {
                let good = dice.below(8) > 0;
                let Some(link) = model.link.get(&n) else { continue };
                assert!(
                    registry.record_heartbeat(
                        LinkId(*link),
                        heartbeat_with(SlaveState::InService, 0, good.into()),
                        ms(now)
                    ),
                    "seed {seed}"
                );
                model.heard.insert(n, now);
                model.good.insert(n, good);
            }
            7 => {
                if let Some(link) = model.link.remove(&n) {
                    registry.closed(LinkId(link));
                }
            }
            _ => ask(&mut dice, &mut registry, &model, now, seed),
        }
    }
}

fn ask(dice: &mut Dice, registry: &mut Registry, model: &Model, now: u64, seed: u64) {
    let serving: Vec<u8> = (1..=6).filter(|n| model.in_service(*n, now)).collect();
    let avoid = [dice.slave(), dice.slave()];
    let given: Vec<u8> = registry
        .redirect(CLIENT, &avoid.map(id), Some(id(dice.slave())), false, ms(now))
        .map(|slaves| slaves.iter().map(|e| e.id.0[0]).collect())
        .unwrap_or_default();
    let mut expected: Vec<u8> = serving.iter().copied().filter(|n| !avoid.contains(n)).collect();
    if expected.is_empty() {
        expected.clone_from(&serving);
    }
    let mut sorted = given.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected, "seed {seed}: all that are in service, each once, and no other");

    let mut round = firsts(registry, serving.len(), ms(now));
    assert_eq!(firsts(registry, serving.len(), ms(now)), round, "seed {seed}: the order stays");
    round.sort_unstable();
    assert_eq!(round, serving, "seed {seed}: each has one turn in a round");
}

#[test]
fn random_events_select_only_slaves_in_service_and_fairly() {
    for seed in 1..=500 {
        live(seed * 0x9e37_79b9);
    }
}

#[test]
fn writers_are_sent_to_slaves_with_room_first() {
    use relais_proto::DiskSpace;
    let mut registry = cluster(3);
    let low = Heartbeat { disk: DiskSpace { free: 1 << 20, size: 1 << 40 }, ..heartbeat() };
    assert!(registry.record_heartbeat(LinkId(1), low, ms(1)));
    let mut go = |writes| -> Vec<u8> {
        let slaves = registry.redirect(CLIENT, &[], None, writes, ms(1)).unwrap();
        slaves.iter().map(|slave| slave.id.0[0]).collect()
    };
    assert_eq!([go(true), go(true)], [[2, 3, 1], [3, 2, 1]]);
    assert_eq!(go(false), [1, 2, 3], "readers take their turn there");
    for (free, size, low) in [
        (DiskSpace::FLOOR - 1, 1 << 40, true),
        (DiskSpace::FLOOR, 1 << 40, false),
        (1_999, 100_000, true),
        (2_000, 100_000, false),
        (0, 0, false),
    ] {
        assert_eq!(DiskSpace { free, size }.is_low(), low, "{free} of {size}");
    }
}

#[test]
fn http_requests_have_their_own_turn_among_the_slaves_that_can_serve() {
    let mut registry = Registry::new(Balance::RoundRobin);
    for n in 1..=4 {
        let listeners = relais_proto::HttpListeners {
            clear: vec![SocketAddr::new(HOME, 8000 + u16::from(n))],
            encrypted: Vec::new(),
        };
        // The fourth slave does not serve HTTP.
        let http = if n < 4 { HttpAddresses::new(listeners, "") } else { HttpAddresses::default() };
        registry.register(JoinRequest { http, ..joining(n, n.into()) }, ms(0)).unwrap();
        assert!(registry.record_heartbeat(LinkId(n.into()), heartbeat(), ms(0)));
    }
    let requester = HttpRequester { addrs: CLIENT, encrypted: false, writes: false };
    let mut ask = |without: u8| {
        let found = registry.http_slaves(requester, |slave, _| slave != id(without), ms(0));
        registry.redirect(CLIENT, &[], None, false, ms(0)).unwrap();
        found.unwrap().into_iter().map(|slave| slave.authority).collect::<Vec<_>>()
    };
    assert_eq!(ask(0), ["127.0.0.1:8001", "127.0.0.1:8002", "127.0.0.1:8003"]);
    assert_eq!(ask(0), ["127.0.0.1:8002", "127.0.0.1:8003", "127.0.0.1:8001"]);
    assert_eq!(ask(3), ["127.0.0.1:8001", "127.0.0.1:8002"]);
    assert_eq!(ask(0)[0], "127.0.0.1:8002");
    let encrypted = HttpRequester { encrypted: true, ..requester };
    assert_eq!(registry.http_slaves(encrypted, |_, _| true, ms(0)), Err(NoSlave::NoHttp));
    assert_eq!(registry.http_slaves(requester, |_, _| false, ms(0)), Ok(Vec::new()));
    assert!(registry.has_service(ms(0)) && !registry.has_service(ms(5000)));
    let late = registry.http_slaves(requester, |_, _| true, ms(5000));
    assert_eq!(late, Err(NoSlave::NoneInService));
}
