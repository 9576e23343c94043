//! Unfinished uploads: their limits, their eviction, and that they slow down no other request.

use std::fs;
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use relais_proto::{Digest, ErrorCode, Expect, Login, Lsn, PutRequest, Reply, Request, metric};

use super::open;
use crate::accounts::{add, password};
use crate::harness::{
    Cluster, RawClient, SOON, Standalone, Volume, content, data, encoded, eventually, hello,
    new_id, put, session, staged_bytes, staged_files, ticket, wait_unstaged,
};

/// Sends the first `sent` bytes of an upload and cuts the connection; returns once the slave has
/// closed it.
fn cut(mut wire: RawClient, control: &mut RawClient, request: &PutRequest, sent: usize) {
    let mut frames = encoded(&[Request::Put(request.clone())]);
    frames.extend(data(&vec![7; sent]));
    wire.raw(&frames);
    // Unread answers would turn a close into a reset, which loses bytes.
    wire.0.shutdown(Shutdown::Write).unwrap();
    wire.closed_within(SOON);
    eventually(SOON, "the bytes are staged", || {
        (control.staged(request) == sent as u64).then_some(())
    });
}

fn uploads(wire: &mut RawClient) -> (u64, u64) {
    let (_, metrics) = wire.status();
    (metrics.get(metric::UPLOADS), metrics.get(metric::UPLOAD_BYTES))
}

#[test]
fn the_oldest_unfinished_uploads_are_evicted() {
    // An account may have half of the limit; without accounts all clients count as one.
    let slave = Standalone::start(&["--workers", "2", "--uploads", "12"], &[]);
    let mut control = open(&slave);
    let requests: Vec<PutRequest> = (0..9).map(|n| put(&format!("f{n}"), 5000)).collect();
    for request in &requests {
        cut(open(&slave), &mut control, request, 1000);
    }
    assert_eq!(staged_files(&slave.root).len(), 6);
    assert_eq!(uploads(&mut control), (6, 6000));
    let kept: Vec<u64> = requests.iter().map(|request| control.staged(request)).collect();
    assert_eq!(kept, [0, 0, 0, 1000, 1000, 1000, 1000, 1000, 1000]);
    // A kept upload is resumed and then frees its row.
    let last = PutRequest { offset: 1000, ..requests[8].clone() };
    control.upload(&last, &vec![7; 5000]).unwrap();
    assert_eq!(uploads(&mut control), (5, 5000));
    assert_eq!(fs::read(slave.root.join("f8")).unwrap(), vec![7; 5000]);
}

#[test]
fn the_bytes_of_unfinished_uploads_are_limited() {
    let slave = Standalone::start(&["--workers", "2", "--upload-bytes", "1000000"], &[]);
    let mut control = open(&slave);
    let requests: Vec<PutRequest> = (0..3).map(|n| put(&format!("f{n}"), 220_000)).collect();
    for request in &requests {
        cut(open(&slave), &mut control, request, 200_000);
    }
    let kept: Vec<u64> = requests.iter().map(|request| control.staged(request)).collect();
    assert_eq!(kept, [0, 200_000, 200_000]);
    assert_eq!(uploads(&mut control), (2, 400_000));
    // An upload larger than the limit is accepted, because only interrupted uploads count.
    control.put("large", &content(1, 2_000_000)).unwrap();
    assert_eq!(uploads(&mut control), (0, 0));
    wait_unstaged(&slave.root);
}

#[test]
fn one_users_unfinished_uploads_evict_no_other_users() {
    let slave = Standalone::start(&["--workers", "2", "--uploads", "12"], &[]);
    for name in ["ann", "bob"] {
        add(&slave.dir, &slave.dir.folder("state"), name, "write", "/");
    }
    let login = |name: &str| {
        let user = name.to_owned();
        let credentials = Login { user, password: password(name).into_bytes(), ..Login::default() };
        eventually(SOON, "the user can log in", || {
            let mut wire = RawClient::connect(slave.addr);
            wire.send(&[hello(), Request::Login(credentials.clone())]);
            assert!(matches!(wire.reply(), Reply::Welcome { .. }));
            matches!(wire.reply(), Reply::Opened { .. }).then_some(wire)
        })
    };
    let (mut ann, mut bob) = (login("ann"), login("bob"));
    let of_ann: Vec<PutRequest> = (0..5).map(|n| put(&format!("a{n}"), 5000)).collect();
    for request in &of_ann {
        cut(login("ann"), &mut ann, request, 1000);
    }
    for n in 0..12 {
        cut(login("bob"), &mut bob, &put(&format!("b{n}"), 5000), 1000);
    }
    assert!(of_ann.iter().all(|request| ann.staged(request) == 1000));
    assert_eq!(uploads(&mut ann), (11, 11_000));
}

#[test]
fn a_put_without_space_is_refused_before_its_first_byte() {
    let volume = Volume::mount("size=16m");
    fs::create_dir(volume.path().join("root")).unwrap();
    let root = volume.inside().join("root");
    let dir = crate::harness::TestDir::new();
    let slave = Standalone::start_in(dir, root, &["--workers", "1"], &volume.under());
    let mut wire = open(&slave);
    for size in [Some(1 << 30), Some(volume.free())] {
        wire.send(&[Request::Put(PutRequest { size, ..put("f", 0) })]);
        let refusal = wire.committed().unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NoSpace, "{refusal:?}");
        assert!(refusal.message.contains("has no room for"), "{refusal:?}");
        assert_eq!(staged_files(&volume.path().join("root")), Vec::<std::path::PathBuf>::new());
        wire.send(&[Request::PutEnd { digest: Digest([0; 32]) }]);
        wire.ping();
    }
    wire.put("f", &content(1, 1 << 20)).unwrap();
}

#[test]
fn a_refused_put_frees_its_bytes() {
    let cluster = Cluster::of(1).slave_args(&["--workers", "2"]).start();
    let standalone = Standalone::start(&["--workers", "2"], &[]);
    let session = session(cluster.slaves[0].addr, &ticket(cluster.addr).0);
    for (mut wire, root) in
        [(session, &cluster.slaves[0].root), (open(&standalone), &standalone.root)]
    {
        let bytes = content(1, 300_000);
        wire.put("f", &bytes).unwrap();
        wait_unstaged(root);
        // The upload ends too early.
        let mut frames = encoded(&[Request::Put(put("g", bytes.len()))]);
        frames.extend(data(&bytes[..1000]));
        frames.extend(encoded(&[crate::harness::put_end(&bytes[..1000])]));
        wire.raw(&frames);
        assert_eq!(wire.committed().unwrap_err().code, ErrorCode::BadRequest);
        wait_unstaged(root);
        // The version differs, a folder has the name, or the parent folder is missing.
        let expect = Expect::Lsn(Lsn { epoch: 1, number: 77 });
        let request = PutRequest { expect, ..put("f", bytes.len()) };
        assert_eq!(wire.upload(&request, &bytes).unwrap_err().code, ErrorCode::Changed);
        wait_unstaged(root);
        assert_eq!(wire.put("missing/f", b"small").unwrap_err().code, ErrorCode::NotFound);
        wait_unstaged(root);
        // The file is removed before its row, so the count may lag a moment.
        eventually(SOON, "no upload is counted", || (uploads(&mut wire) == (0, 0)).then_some(()));
    }
}

/// Creates this many staged files, as a killed process would leave them.
fn plant(root: &Path, files: usize) {
    let staging = root.join(".relais/staging");
    for n in 0..files {
        let name = format!("{:032x}-{:016x}", u128::from(u32::MAX) << 96 | n as u128, n + 1);
        fs::write(staging.join(name), b"").unwrap();
    }
}

fn puts_beside_staged_files(files: usize, slack: Duration) {
    let cluster = Cluster::of(1).slave_args(&["--workers", "2"]).start();
    let mut wire = session(cluster.slaves[0].addr, &ticket(cluster.addr).0);
    let mut time = |name: &str| {
        let began = Instant::now();
        for n in 0..100 {
            wire.put(&format!("{name}{n}"), b"small").unwrap();
        }
        began.elapsed()
    };
    time("warm");
    let before = time("before");
    plant(&cluster.slaves[0].root, files);
    let after = time("after");
    assert!(after < before * 3 + slack, "{before:?} before, {after:?} with {files} staged files");
    assert!(staged_bytes(&cluster.slaves[0].root) == 0);
}

#[test]
fn staged_files_do_not_slow_a_put() {
    puts_beside_staged_files(20_000, Duration::from_millis(700));
}

#[test]
#[ignore = "makes many files"]
fn a_hundred_thousand_staged_files_do_not_slow_a_put() {
    puts_beside_staged_files(100_000, Duration::from_secs(2));
}

#[test]
fn staged_files_over_the_limit_are_evicted_at_the_start() {
    let mut slave = Standalone::start(&["--workers", "1", "--uploads", "100"], &[]);
    let request = put("f", 5000);
    cut(open(&slave), &mut open(&slave), &request, 1000);
    slave.program.kill();
    plant(&slave.root, 3000);
    slave.restart();
    let mut wire = open(&slave);
    eventually(SOON, "the oldest are evicted", || (uploads(&mut wire).0 <= 51).then_some(()));
    eventually(SOON, "their files are removed", || {
        (staged_files(&slave.root).len() <= 51).then_some(())
    });
    assert_eq!(wire.staged(&request), 1000, "another account's upload stays");
    assert_eq!(
        wire.upload(&PutRequest { id: new_id(), ..request }, &content(2, 5000)).map(drop),
        Ok(())
    );
}
