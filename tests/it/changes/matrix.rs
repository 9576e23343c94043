//! Uploads interrupted at every critical byte, by the death of each program and by a cut.
//!
//! The client resumes in the same local folder: the result is whole, and staged bytes are not sent
//! twice. A concurrent reader sees either the old or the new content, whole.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::harness::{
    Client, ContentReader, Fault, Output, Program, Proxy, SOON, Standalone, content, digest,
    eventually, exists, leftovers, process_of, quote, staged_bytes, wait_unstaged,
};

/// Longer than a buffer, so that the fault strikes before the end of the upload.
const LARGE: usize = (3 << 20) + 7;
const BLOCK: usize = 64 << 10;
/// From this size on some bytes are certainly staged and must be resumed.
const SURE: u64 = 1 << 20;

/// The point at which an upload is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// After this many bytes of content; after the last byte the end of the upload is held back
    /// too.
    Byte(u64),
    /// After the whole upload; the answer is held back.
    Answer,
}

fn points(size: usize) -> BTreeSet<Point> {
    let size = size as u64;
    let bytes = [0, 1, size / 4, size / 2, size * 99 / 100, size];
    bytes.into_iter().filter(|n| *n <= size).map(Point::Byte).chain([Point::Answer]).collect()
}

/// A slave behind a proxy that fails on demand.
struct UploadFixture {
    slave: Standalone,
    proxy: Proxy,
}

impl UploadFixture {
    fn new() -> Self {
        // A single worker, so that the process to kill is known.
        let slave = Standalone::start(&["--workers", "1", "--block-size", &BLOCK.to_string()], &[]);
        let proxy = Proxy::to(slave.addr);
        Self { slave, proxy }
    }

    fn args(name: &str) -> [String; 3] {
        ["--json".to_owned(), "-c".to_owned(), format!("put {}", quote(name))]
    }

    fn start(client: &Client, name: &str) -> Program {
        let args = Self::args(name);
        client.start(&args.each_ref().map(String::as_str))
    }

    /// Starts a put and freezes it.
    #[track_caller]
    fn freeze(&self, client: &Client, name: &str, point: Point) -> Program {
        match point {
            Point::Byte(n) => self.proxy.fault_at_data(n, Fault::Stall),
            Point::Answer => self.proxy.fault_at_answer(Fault::Stall),
        }
        let mut program = Self::start(client, name);
        eventually(SOON, &format!("the put is frozen at {point:?}"), || {
            let ended = program.try_status();
            assert!(ended.is_none(), "the put ended before {point:?}");
            self.proxy.struck().then_some(())
        });
        self.proxy.disarm();
        program
    }

    /// Waits until some bytes of a frozen put are staged.
    fn wait_staged(&self, point: Point) {
        if matches!(point, Point::Byte(n) if n >= SURE) {
            eventually(SOON, "bytes are staged", || {
                (staged_bytes(&self.slave.root) > 0).then_some(())
            });
        }
    }
}

/// Repeats the put until it succeeds; each failure must be resumable.
#[track_caller]
fn converge(fixture: &UploadFixture, client: &Client, name: &str, bytes: &[u8]) {
    let mut last = None;
    for _ in 0..3 {
        let mut program = UploadFixture::start(client, name);
        let output = Client::finish(&mut program);
        if output.status == 0 {
            return assert_whole(fixture, client, name, bytes, &output);
        }
        assert!(matches!(output.status, 3 | 5), "{output:?}");
        last = Some(output);
    }
    panic!("no success in three runs: {last:?}");
}

#[track_caller]
fn assert_whole(
    fixture: &UploadFixture,
    client: &Client,
    name: &str,
    bytes: &[u8],
    output: &Output,
) {
    assert!(
        fs::read(fixture.slave.root.join(name)).unwrap() == bytes,
        "not the uploaded content: {output:?}"
    );
    assert_eq!(leftovers(&client.folder(), &[name]), [] as [std::path::PathBuf; 0], "{output:?}");
    let hash = fixture.slave.client().command(&format!("hash {}", quote(name))).ok().json();
    assert_eq!(hash["entries"][0]["digest"], digest(bytes), "{hash}");
    wait_unstaged(&fixture.slave.root);
}

/// Replaces a file by a put of `size` bytes that is frozen at `point`; `interrupt` ends the put or
/// not.
#[track_caller]
fn interrupted_put(
    fixture: &mut UploadFixture,
    size: usize,
    point: Point,
    interrupt: impl Fn(&mut UploadFixture, &mut Program, Point),
) {
    let (old, new) = (content(99, 5000), content(size as u64 + 1, size));
    let name = format!("{size} at {point:?}");
    super::open(&fixture.slave).put(&name, &old).unwrap();
    let client = Client::new(fixture.proxy.addr());
    fs::write(client.folder().join(&name), &new).unwrap();
    let reader = ContentReader::start(fixture.slave.addr, &name, Some(&old), &new);
    fixture.proxy.take_data_bytes();
    let mut program = fixture.freeze(&client, &name, point);
    if point != Point::Answer {
        assert!(fs::read(fixture.slave.root.join(&name)).unwrap() == old, "visible before its end");
    }
    fixture.wait_staged(point);
    interrupt(fixture, &mut program, point);
    let output = Client::finish(&mut program);
    assert!(matches!(output.status, 0 | 5 | 137), "{output:?}");
    if output.status == 0 {
        assert_whole(fixture, &client, &name, &new, &output);
    } else {
        converge(fixture, &client, &name, &new);
    }
    eventually(SOON, "the reader sees the new content", || {
        (fixture.slave.client().get(&name)["bytes"] == size).then_some(())
    });
    let (reads, _) = reader.end();
    assert!(reads > 0, "the reader got no answer");
    let sent = fixture.proxy.take_data_bytes();
    let size = size as u64;
    match point {
        Point::Byte(n) if n >= SURE => {
            assert!(sent < n + size, "{name}: {sent} bytes were sent: the upload was not resumed")
        }
        // The content had arrived: a retry by id is enough.
        Point::Answer if size >= SURE => assert!(sent <= size, "{name}: {sent} bytes were sent"),
        _ => {}
    }
}

const SIZES: [usize; 9] =
    [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, LARGE];

#[test]
fn client_killed() {
    let mut fixture = UploadFixture::new();
    for size in SIZES {
        for point in points(size) {
            interrupted_put(&mut fixture, size, point, |fixture, program, _| {
                program.kill();
                fixture.proxy.cut_all();
            });
        }
    }
}

#[test]
fn line_cut() {
    let mut fixture = UploadFixture::new();
    for size in SIZES {
        for point in points(size) {
            interrupted_put(&mut fixture, size, point, |fixture, _, _| fixture.proxy.cut_all());
        }
    }
}

/// Each case has its own slave: a process that dies often is restarted later each time.
fn each(sizes: &[usize], interrupt: impl Fn(&mut UploadFixture, &mut Program, Point)) {
    for &size in sizes {
        for point in points(size) {
            interrupted_put(&mut UploadFixture::new(), size, point, &interrupt);
        }
    }
}

/// Kills a process of the slave and waits until its connections are closed.
///
/// A process whose first thread is a zombie may still hold connections; a reaped one holds none.
#[track_caller]
fn killed(slave: &Program, task: &str) {
    let pid = process_of(slave, task);
    kill(pid, Signal::SIGKILL).unwrap();
    eventually(SOON, &format!("the end of {task}"), || (!exists(pid)).then_some(()));
}

#[test]
fn worker_killed() {
    each(&[1, BLOCK + 1, LARGE], |fixture, _, _| {
        killed(&fixture.slave.program, "Worker(0)");
        fixture.proxy.release();
    });
}

#[test]
fn replicator_killed() {
    each(&[1, BLOCK + 1, LARGE], |fixture, _, _| {
        killed(&fixture.slave.program, "Replicator");
        fixture.proxy.release();
    });
}

#[test]
fn slave_killed() {
    each(&[1, BLOCK + 1, LARGE], |fixture, _, _| {
        fixture.slave.program.kill();
        fixture.slave.restart_on_same_port();
        fixture.proxy.cut_all();
    });
}

#[test]
fn cut_after_each_byte_of_the_client() {
    let fixture = UploadFixture::new();
    let bytes = content(3, 20);
    for n in 0.. {
        let client = Client::new(fixture.proxy.addr());
        let name = format!("f{n}");
        fs::write(client.folder().join(&name), &bytes).unwrap();
        fixture.proxy.fault_up(n, Fault::Cut);
        let output = Client::finish(&mut UploadFixture::start(&client, &name));
        assert!(matches!(output.status, 0 | 3 | 5), "cut behind byte {n}: {output:?}");
        let struck = fixture.proxy.struck();
        fixture.proxy.disarm();
        converge(&fixture, &client, &name, &bytes);
        if !struck {
            assert!(n > 100, "the client cannot have sent only {n} bytes");
            return;
        }
    }
}

#[test]
fn another_client_resumes_at_its_prompt_in_the_same_folder() {
    let fixture = UploadFixture::new();
    let bytes = content(7, LARGE);
    let client = Client::new(fixture.proxy.addr());
    fs::write(client.folder().join("f"), &bytes).unwrap();
    let mut program = fixture.freeze(&client, "f", Point::Byte(2 << 20));
    fixture.wait_staged(Point::Byte(2 << 20));
    program.kill();
    fixture.proxy.cut_all();
    fixture.proxy.take_data_bytes();
    // A script with another command does not resume the transfer.
    let output = client.run(&["--json", "-c", "pwd"]).ok();
    assert!(output.stderr.is_empty() && fixture.proxy.take_data_bytes() == 0, "{output:?}");
    let said = client.resume_at_a_prompt();
    assert!(said.contains("resumed from"), "{said}");
    assert_whole(&fixture, &client, "f", &bytes, &output);
    let sent = fixture.proxy.take_data_bytes();
    assert!(sent < LARGE as u64, "{sent} bytes were sent of {LARGE}");
}

#[test]
fn the_json_object_has_the_resume_offset() {
    let fixture = UploadFixture::new();
    let bytes = content(8, LARGE);
    let client = Client::new(fixture.proxy.addr());
    fs::write(client.folder().join("f"), &bytes).unwrap();
    let mut program = fixture.freeze(&client, "f", Point::Byte(2 << 20));
    fixture.wait_staged(Point::Byte(2 << 20));
    program.kill();
    fixture.proxy.cut_all();
    let json = Client::finish(&mut UploadFixture::start(&client, "f")).ok().json();
    assert_eq!((&json["command"], &json["ok"]), (&"put".into(), &true.into()), "{json}");
    assert_eq!(json["bytes"], LARGE, "{json}");
    assert!(json["resumed_from"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json["copies"], 1, "{json}");
    assert!(json["version"].as_str().unwrap().contains('-'), "{json}");
}
