//! Uploads interrupted at every interesting byte, by the death of each party and by a cut of the line.
//!
//! The same local folder carries on: the result is whole, what was staged is not sent twice, and a
//! reader who looks all the time sees the old content or the new, whole.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::harness::{
    Client, Fault, Output, Program, Proxy, Reader, SOON, Standalone, content, digest, eventually,
    exists, leftovers, process_of, quote, staged_bytes, wait_unstaged,
};

/// Uploads this long are never behind the fault in one piece of a buffer.
const LARGE: usize = (3 << 20) + 7;
const BLOCK: usize = 64 << 10;
/// Where something was surely written aside, some of it must count.
const SURE: u64 = 1 << 20;

/// Where an upload is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// Behind so many bytes of content; behind the last, the end of the upload is held back too.
    Byte(u64),
    /// All has come; the answer is held back.
    Answer,
}

fn points(size: usize) -> BTreeSet<Point> {
    let size = size as u64;
    let bytes = [0, 1, size / 4, size / 2, size * 99 / 100, size];
    bytes.into_iter().filter(|n| *n <= size).map(Point::Byte).chain([Point::Answer]).collect()
}

/// A slave behind a line that fails on demand.
struct Lab {
    slave: Standalone,
    line: Proxy,
}

impl Lab {
    fn new() -> Self {
        // One worker, so that it is known whom to kill.
        let slave = Standalone::start(&["--workers", "1", "--block-size", &BLOCK.to_string()], &[]);
        let line = Proxy::to(slave.addr);
        Self { slave, line }
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
            Point::Byte(n) => self.line.fault_at_data(n, Fault::Stall),
            Point::Answer => self.line.fault_at_answer(Fault::Stall),
        }
        let mut program = Self::start(client, name);
        eventually(SOON, &format!("the put is frozen at {point:?}"), || {
            let ended = program.try_status();
            assert!(ended.is_none(), "the put ended before {point:?}");
            self.line.struck().then_some(())
        });
        self.line.disarm();
        program
    }

    /// Waits until some of what a frozen put has sent is written aside.
    fn wait_staged(&self, point: Point) {
        if matches!(point, Point::Byte(n) if n >= SURE) {
            eventually(SOON, "bytes are kept aside", || {
                (staged_bytes(&self.slave.root) > 0).then_some(())
            });
        }
    }
}

/// Runs the put until it ends well; each failure must be one that can be carried on.
#[track_caller]
fn converge(lab: &Lab, client: &Client, name: &str, bytes: &[u8]) {
    let mut last = None;
    for _ in 0..3 {
        let mut program = Lab::start(client, name);
        let output = Client::finish(&mut program);
        if output.status == 0 {
            return is_whole(lab, client, name, bytes, &output);
        }
        assert!(matches!(output.status, 3 | 5), "{output:?}");
        last = Some(output);
    }
    panic!("did not end well in three runs: {last:?}");
}

#[track_caller]
fn is_whole(lab: &Lab, client: &Client, name: &str, bytes: &[u8], output: &Output) {
    assert!(fs::read(lab.slave.root.join(name)).unwrap() == bytes, "not what was put: {output:?}");
    assert_eq!(leftovers(&client.folder(), &[name]), [] as [std::path::PathBuf; 0], "{output:?}");
    let hash = lab.slave.client().command(&format!("hash {}", quote(name))).ok().json();
    assert_eq!(hash["entries"][0]["digest"], digest(bytes), "{hash}");
    wait_unstaged(&lab.slave.root);
}

/// One put of `size` bytes in place of an old file, frozen at `point`; `interrupt` ends it, or lets it end.
#[track_caller]
fn cell(
    lab: &mut Lab,
    size: usize,
    point: Point,
    interrupt: impl Fn(&mut Lab, &mut Program, Point),
) {
    let (old, new) = (content(99, 5000), content(size as u64 + 1, size));
    let name = format!("{size} at {point:?}");
    super::open(&lab.slave).put(&name, &old).unwrap();
    let client = Client::new(lab.line.addr());
    fs::write(client.folder().join(&name), &new).unwrap();
    let reader = Reader::start(lab.slave.addr, &name, Some(&old), &new);
    lab.line.take_data_bytes();
    let mut program = lab.freeze(&client, &name, point);
    if point != Point::Answer {
        assert!(fs::read(lab.slave.root.join(&name)).unwrap() == old, "visible before its end");
    }
    lab.wait_staged(point);
    interrupt(lab, &mut program, point);
    let output = Client::finish(&mut program);
    assert!(matches!(output.status, 0 | 5 | 137), "{output:?}");
    if output.status == 0 {
        is_whole(lab, &client, &name, &new, &output);
    } else {
        converge(lab, &client, &name, &new);
    }
    eventually(SOON, "the reader sees the new content", || {
        (lab.slave.client().get(&name)["bytes"] == size).then_some(())
    });
    let (reads, _) = reader.end();
    assert!(reads > 0, "nobody looked");
    let sent = lab.line.take_data_bytes();
    let size = size as u64;
    match point {
        Point::Byte(n) if n >= SURE => {
            assert!(sent < n + size, "{name}: {sent} bytes were sent: nothing was gone on with")
        }
        // The content had arrived: asking again by id is enough.
        Point::Answer if size >= SURE => assert!(sent <= size, "{name}: {sent} bytes were sent"),
        _ => {}
    }
}

const SIZES: [usize; 9] =
    [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, LARGE];

#[test]
fn client_killed() {
    let mut lab = Lab::new();
    for size in SIZES {
        for point in points(size) {
            cell(&mut lab, size, point, |lab, program, _| {
                program.kill();
                lab.line.cut_all();
            });
        }
    }
}

#[test]
fn line_cut() {
    let mut lab = Lab::new();
    for size in SIZES {
        for point in points(size) {
            cell(&mut lab, size, point, |lab, _, _| lab.line.cut_all());
        }
    }
}

/// Each cell has a slave of its own: a process that dies again soon is replaced later each time.
fn each(sizes: &[usize], interrupt: impl Fn(&mut Lab, &mut Program, Point)) {
    for &size in sizes {
        for point in points(size) {
            cell(&mut Lab::new(), size, point, &interrupt);
        }
    }
}

/// Kills one process of the slave, and waits until its connections are closed. A process whose first
/// thread is a zombie may still hold them through the others; one that has been reaped holds none.
#[track_caller]
fn killed(slave: &Program, task: &str) {
    let pid = process_of(slave, task);
    kill(pid, Signal::SIGKILL).unwrap();
    eventually(SOON, &format!("the end of {task}"), || (!exists(pid)).then_some(()));
}

#[test]
fn worker_killed() {
    each(&[1, BLOCK + 1, LARGE], |lab, _, _| {
        killed(&lab.slave.program, "Worker(0)");
        lab.line.release();
    });
}

#[test]
fn replicator_killed() {
    each(&[1, BLOCK + 1, LARGE], |lab, _, _| {
        killed(&lab.slave.program, "Replicator");
        lab.line.release();
    });
}

#[test]
fn slave_killed() {
    each(&[1, BLOCK + 1, LARGE], |lab, _, _| {
        lab.slave.program.kill();
        lab.slave.restart_on_same_port();
        lab.line.cut_all();
    });
}

#[test]
fn cut_behind_each_byte_the_client_sends() {
    let lab = Lab::new();
    let bytes = content(3, 20);
    for n in 0.. {
        let client = Client::new(lab.line.addr());
        let name = format!("f{n}");
        fs::write(client.folder().join(&name), &bytes).unwrap();
        lab.line.fault_up(n, Fault::Cut);
        let output = Client::finish(&mut Lab::start(&client, &name));
        assert!(matches!(output.status, 0 | 3 | 5), "cut behind byte {n}: {output:?}");
        let struck = lab.line.struck();
        lab.line.disarm();
        converge(&lab, &client, &name, &bytes);
        if !struck {
            assert!(n > 100, "the client cannot have sent only {n} bytes");
            return;
        }
    }
}

#[test]
fn another_client_resumes_at_its_prompt_in_the_same_folder() {
    let lab = Lab::new();
    let bytes = content(7, LARGE);
    let client = Client::new(lab.line.addr());
    fs::write(client.folder().join("f"), &bytes).unwrap();
    let mut program = lab.freeze(&client, "f", Point::Byte(2 << 20));
    lab.wait_staged(Point::Byte(2 << 20));
    program.kill();
    lab.line.cut_all();
    lab.line.take_data_bytes();
    // A script that asks for something else leaves it alone.
    let output = client.run(&["--json", "-c", "pwd"]).ok();
    assert!(output.stderr.is_empty() && lab.line.take_data_bytes() == 0, "{output:?}");
    let said = client.resume_at_a_prompt();
    assert!(said.contains("resumed from"), "{said}");
    is_whole(&lab, &client, "f", &bytes, &output);
    let sent = lab.line.take_data_bytes();
    assert!(sent < LARGE as u64, "{sent} bytes were sent of {LARGE}");
}

#[test]
fn the_closing_object_tells_where_it_resumed() {
    let lab = Lab::new();
    let bytes = content(8, LARGE);
    let client = Client::new(lab.line.addr());
    fs::write(client.folder().join("f"), &bytes).unwrap();
    let mut program = lab.freeze(&client, "f", Point::Byte(2 << 20));
    lab.wait_staged(Point::Byte(2 << 20));
    program.kill();
    lab.line.cut_all();
    let json = Client::finish(&mut Lab::start(&client, "f")).ok().json();
    assert_eq!((&json["command"], &json["ok"]), (&"put".into(), &true.into()), "{json}");
    assert_eq!(json["bytes"], LARGE, "{json}");
    assert!(json["resumed_from"].as_u64().unwrap() > 0, "{json}");
    assert_eq!(json["copies"], 1, "{json}");
    assert!(json["version"].as_str().unwrap().contains('-'), "{json}");
}
