//! Endurance: under long mixed load the servers leak no memory, descriptor, process, thread or
//! file.
//!
//! `RELAIS_ENDURANCE_SECONDS` shortens the run.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use relais_proto::{Login, Request};

use super::helpers::{last_change, operate};
use super::tree_equality::wait_equal_but_uploads;
use crate::harness::{
    Client, Cluster, ProgramBuilder, RawClient, content, encoded, eventually, group_memory,
    group_of, hello, put, staged_files, upload,
};

/// Default length of the run.
const LONG: Duration = Duration::from_secs(30 * 60);
/// Warm-up time, in which permanent resources are opened and allocated.
const WARM: Duration = Duration::from_secs(20);
/// Memory growth that is allowed for the allocators.
const MORE: u64 = 24 << 20;
/// Memory growth for each change: the master keeps its id and removal record for `--remember` days.
const FOR_A_CHANGE: u64 = 768;
/// Time until the last sessions have ended.
const QUIET: Duration = Duration::from_secs(60);

/// Resources of all servers.
#[derive(Debug, Clone, Copy)]
struct ResourceUsage {
    memory: u64,
    descriptors: usize,
    processes: usize,
    threads: usize,
}

fn resource_usage(cluster: &Cluster) -> ResourceUsage {
    let groups: Vec<_> = cluster
        .slaves
        .iter()
        .map(|slave| slave.program.pid())
        .chain([cluster.master.pid()])
        .collect();
    let pids: Vec<_> = groups.iter().flat_map(|group| group_of(*group)).collect();
    let count = |what: &str| {
        pids.iter()
            .map(|pid| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count))
            .sum()
    };
    ResourceUsage {
        memory: groups.iter().map(|group| group_memory(*group)).sum(),
        descriptors: count("fd"),
        processes: pids.len(),
        threads: count("task"),
    }
}

/// State that the load threads share.
struct MixedLoad {
    over: AtomicBool,
    done: AtomicU64,
}

impl MixedLoad {
    fn spawn(self: &Arc<Self>, mut round: impl FnMut(u64) + Send + 'static) -> JoinHandle<()> {
        let load = Arc::clone(self);
        std::thread::spawn(move || {
            for n in 0.. {
                if load.over.load(Ordering::SeqCst) {
                    return;
                }
                round(n);
                load.done.fetch_add(1, Ordering::SeqCst);
            }
        })
    }
}

/// Runs a client that makes every kind of request; now and then it is killed.
fn worker(id: u64, cluster: &Cluster, password: &str) -> impl FnMut(u64) + Send + use<> {
    let client: Client = cluster.client();
    let password = password.to_owned();
    move |n| {
        let size = [0, 17, 4096, 200_000, 3 << 20][usize::try_from(n % 5).unwrap()];
        fs::write(client.folder().join("local"), content(n + id, size)).unwrap();
        // Some connections are encrypted, some are in clear text.
        let tls = if (id + n).is_multiple_of(2) { "always" } else { "never" };
        let login = [
            "-u",
            "ann",
            "--password-file",
            password.as_str(),
            "--retry",
            "30",
            "--keep-going",
            "--tls",
            tls,
        ];
        let commands = [
            format!("put local -o w{id}-{}", n % 20),
            format!("get w{id}-{} -o got", n % 20),
            "ls".to_owned(),
            format!("mv w{id}-{} w{id}-moved", n % 20),
            format!("rm w{id}-moved"),
            format!("stat w{id}-{}", (n + 1) % 20),
            "get nothing".to_owned(),
        ];
        let words: Vec<&str> = login
            .into_iter()
            .chain(commands.iter().flat_map(|command| ["-c", command.as_str()]))
            .collect();
        let mut program = client.start(&words);
        if n % 7 == 3 {
            sleep(Duration::from_millis(5 + n % 40));
            program.kill();
        } else {
            program.wait(Duration::from_secs(120));
        }
    }
}

/// Runs hostile peers of several kinds.
fn hostile_peer(cluster: &Cluster) -> impl FnMut(u64) + Send + use<> {
    let (master, slaves) =
        (cluster.addr, cluster.slaves.iter().map(|slave| slave.addr).collect::<Vec<_>>());
    move |n| {
        let addr = if n % 2 == 0 {
            master
        } else {
            slaves[usize::try_from(n / 2).unwrap() % slaves.len()]
        };
        let mut wire = RawClient::connect(addr);
        let login = Request::Login(Login {
            user: "bob".to_owned(),
            password: b"guess".to_vec(),
            ..Login::default()
        });
        match n % 6 {
            0 => drop(wire.raw(b"GET / HTTP/1.1\r\n\r\n")),
            1 => drop(wire.raw(&encoded(&[hello()])[..7])),
            2 => drop(wire.raw(&encoded(&[hello(), login]))),
            3 => drop(wire.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")),
            4 => drop(
                wire.raw(&[encoded(&[hello()]), upload(&put("stolen", 5), b"bytes", 5)].concat()),
            ),
            _ => sleep(Duration::from_millis(300)),
        }
        if n % 3 == 0 {
            let _ = wire.frame();
        }
        sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "takes half an hour"]
fn half_an_hour_of_mixed_load_leaves_nothing_behind() {
    let length = std::env::var("RELAIS_ENDURANCE_SECONDS")
        .map_or(LONG, |text| Duration::from_secs(text.parse().unwrap()));
    let cluster = Cluster::of(2).env("RUST_LOG", "warn").start();
    let password: PathBuf = cluster.dir.path().join("password");
    fs::write(&password, "the password of ann").unwrap();
    let state = cluster.dir.folder("master");
    let mut add = ProgramBuilder::new("ftpmaster", cluster.dir.path())
        .args([
            "user",
            "add",
            "ann",
            "--rights",
            "write",
            "--password-file",
            password.to_str().unwrap(),
            "--state",
        ])
        .args([&state])
        .start();
    Client::finish(&mut add).ok();
    sleep(Duration::from_secs(2));
    let load = Arc::new(MixedLoad { over: AtomicBool::new(false), done: AtomicU64::new(0) });
    let mut threads: Vec<_> =
        (0..3).map(|id| load.spawn(worker(id, &cluster, password.to_str().unwrap()))).collect();
    threads.push(load.spawn(hostile_peer(&cluster)));
    let (began, mut samples) = (Instant::now(), Vec::new());
    let mut warm = None;
    while began.elapsed() < length {
        sleep(Duration::from_secs(5).min(length));
        samples.push(resource_usage(&cluster));
        if began.elapsed() >= WARM && warm.is_none() {
            warm = samples.last().copied();
        }
    }
    load.over.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let done = load.done.load(Ordering::SeqCst);
    assert!(done > length.as_secs(), "{done} rounds only");
    // Interrupted uploads stay for a day: at most as many bytes as a client could send.
    wait_equal_but_uploads(&cluster);
    operate(&cluster, &["diff"]).ok();
    let (warm, fresh) = (warm.expect("the run is longer than the warm-up"), samples[0]);
    let quiet = eventually(QUIET, "the sessions have ended", || {
        let now = resource_usage(&cluster);
        (now.threads <= warm.threads && now.descriptors <= warm.descriptors + 8).then_some(now)
    });
    eprintln!("{done} rounds; at first {fresh:?}, warm {warm:?}, in the end {quiet:?}");
    assert_eq!(quiet.processes, warm.processes, "{samples:#?}");
    let most = samples.iter().map(|held| held.memory).max().unwrap_or(0);
    let remembered = last_change(&cluster).1 * FOR_A_CHANGE;
    let fits = quiet.memory <= warm.memory + MORE + remembered
        && most <= warm.memory + 4 * MORE + remembered;
    assert!(fits, "{most}, {remembered} for ids and removal records: {samples:#?}");
    for slave in &cluster.slaves {
        let staged = staged_files(&slave.root);
        assert!(staged.len() as u64 <= done, "{staged:?}");
        let removed = fs::read_dir(slave.root.join(".relais/removed")).unwrap().count();
        assert_eq!(removed, 0, "removed files are deleted from the disk");
    }
}
