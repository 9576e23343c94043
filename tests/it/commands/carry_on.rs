//! A client that is killed in the middle of a whole tree: another one, later,
//! carries on by the `.log`, and little goes over the line twice.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{Lab, tree};
use crate::harness::{Client, Fault, Program, Proxy, SOON, content, eventually};

const MIB: u64 = 1 << 20;
const LARGE: usize = 10 << 20;

/// Which way the tree goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Get,
    Put,
}

impl Way {
    fn command(self) -> &'static str {
        if self == Self::Get { "get -r t" } else { "put -r t" }
    }

    fn arm(self, line: &Proxy, n: u64, fault: Fault) {
        if self == Self::Get {
            line.fault_at_content(n, fault)
        } else {
            line.fault_at_data(n, fault)
        }
    }

    fn throttle(self, line: &Proxy, rate: Option<u64>) {
        if self == Self::Get { line.throttle(rate) } else { line.throttle_up(rate) }
    }

    fn take_bytes(self, line: &Proxy) -> u64 {
        if self == Self::Get { line.take_content_bytes() } else { line.take_data_bytes() }
    }
}

/// A slave behind a line, a tree on one side of it, and a client.
struct Rig {
    way: Way,
    lab: Lab,
    line: Proxy,
    client: Client,
}

impl Rig {
    #[track_caller]
    fn new(way: Way, small: u64, large: &[usize]) -> Self {
        let mut files: Vec<(String, Vec<u8>)> =
            (0..small).map(|n| (format!("t/{}/{n}", n % 5), content(n, 3000))).collect();
        files.extend(
            large
                .iter()
                .enumerate()
                .map(|(n, size)| (format!("t/large{n}"), content(1000 + n as u64, *size))),
        );
        let refs: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let lab = Lab::new(if way == Way::Get { &refs } else { &[] });
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        if way == Way::Put {
            refs.iter().for_each(|(name, bytes)| super::write(&client.folder().join(name), bytes));
        }
        Self { way, lab, line, client }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.client.folder().join(".log")).unwrap_or_default()
    }

    /// Starts the command and freezes it behind `n` bytes of content.
    #[track_caller]
    fn frozen(&self, n: u64) -> Program {
        self.way.arm(&self.line, n, Fault::Stall);
        let program = self.client.start(&["--json", "-c", self.way.command()]);
        self.line.wait_struck();
        program
    }

    /// All that is there on both sides is the same, and nothing is left to do.
    #[track_caller]
    fn is_done(&self) {
        let (here, there) = (self.client.folder().join("t"), self.lab.slave.root.join("t"));
        assert_eq!(tree(&here), tree(&there));
        for name in tree(&here).iter().filter(|name| !name.ends_with('/')) {
            assert!(
                fs::read(here.join(name)).unwrap() == fs::read(there.join(name)).unwrap(),
                "{name}"
            );
        }
        assert!(!self.client.folder().join(".log").exists(), "{}", self.log());
        assert_eq!(unfinished(&self.client.folder()), Vec::<String>::new());
    }
}

/// Temporary files that are left.
fn unfinished(folder: &Path) -> Vec<String> {
    tree(folder).into_iter().filter(|name| name.contains(".relais-")).collect()
}

fn killed_and_carried_on(way: Way) {
    let rig = Rig::new(way, 60, &[LARGE]);
    // Slow enough that the client saves on the way: it does so once a second.
    way.throttle(&rig.line, Some(5 * MIB));
    let mut program = rig.frozen(8 * MIB);
    way.throttle(&rig.line, None);
    eventually(SOON, "the .log names the tree", || {
        rig.log()
            .contains("-r /")
            .then_some(())
            .or_else(|| rig.log().contains("-r t").then_some(()))
    });
    if way == Way::Get {
        eventually(SOON, "good bytes of the large file in the .log", || {
            rig.log().contains(" 0-").then_some(())
        });
    }
    program.kill();
    rig.line.cut_all();
    rig.line.disarm();
    rig.way.take_bytes(&rig.line);
    let said = rig.client.resume_at_a_prompt();
    assert!(said.contains("resuming"), "it is told on stderr: {said}");
    rig.is_done();
    let moved = rig.way.take_bytes(&rig.line);
    // Of 10 MiB 8 were over; at least 3 of them must be known to be good.
    assert!(moved <= LARGE as u64 - 3 * MIB, "{moved} bytes went over the line again");
}

#[test]
fn a_get_r_that_was_killed_is_carried_on() {
    killed_and_carried_on(Way::Get);
}

#[test]
fn a_put_r_that_was_killed_is_carried_on() {
    killed_and_carried_on(Way::Put);
}

#[test]
fn killed_anywhere_it_ends_whole() {
    for way in [Way::Get, Way::Put] {
        for n in [0, 1, 20_000, 900_000, 1_400_000] {
            let rig = Rig::new(way, 300, &[1 << 20, 1_500_000]);
            let mut program = rig.frozen(n);
            program.kill();
            rig.line.cut_all();
            rig.line.disarm();
            if n == 900_000 {
                // Once more, in the middle of being carried on.
                rig.way.arm(&rig.line, 1_000_000, Fault::Stall);
                let mut again = rig.client.start(&["-c", way.command()]);
                eventually(SOON, "stalled or over", || {
                    (rig.line.struck() || again.try_status().is_some()).then_some(())
                });
                again.kill();
                rig.line.cut_all();
                rig.line.disarm();
            }
            let output = rig.client.run(&["--json", "-c", way.command()]);
            assert_eq!(output.status, 0, "{way:?} killed at {n}: {output:?}");
            rig.is_done();
        }
    }
}

#[test]
fn what_was_there_before_the_kill_does_not_go_again() {
    for way in [Way::Get, Way::Put] {
        let rig = Rig::new(way, 400, &[]);
        let mut program = rig.frozen(800_000);
        eventually(SOON, "the .log", || rig.log().contains("-r ").then_some(()));
        let target = if way == Way::Get { rig.client.folder() } else { rig.lab.slave.root.clone() };
        let whole = || {
            tree(&target)
                .iter()
                .filter(|n| !n.ends_with('/') && n.starts_with("t/") && !n.contains(".relais-"))
                .count() as u64
        };
        let there =
            eventually(SOON, "some of them are there", || Some(whole()).filter(|n| *n >= 100));
        program.kill();
        rig.line.cut_all();
        rig.line.disarm();
        rig.way.take_bytes(&rig.line);
        rig.client.run(&["-c", way.command()]).ok();
        rig.is_done();
        let moved = rig.way.take_bytes(&rig.line);
        // What the line held back when it was cut counts as well.
        assert!(
            moved <= (400 - there) * 3000 + (128 << 10),
            "{way:?}: {moved} bytes again, where {there} of 400 were there"
        );
    }
}

#[test]
fn the_second_client_may_name_the_same_tree_or_leave_it_alone() {
    let rig = Rig::new(Way::Put, 50, &[2 << 20]);
    let mut program = rig.frozen(MIB);
    program.signal(Signal::SIGINT);
    let json = Client::finish(&mut program).fails(130).json();
    assert_eq!(json["error"]["code"], "interrupted", "{json}");
    assert!(rig.log().contains("put-r"), "{}", rig.log());
    rig.line.cut_all();
    rig.client.run(&["-c", "pwd"]).ok();
    assert!(!rig.lab.serves("t/large0"));
    rig.client.run(&["--json", "-c", "put -r t"]).ok();
    rig.is_done();
}

#[test]
fn a_tree_that_changed_meanwhile_is_taken_as_it_is_now() {
    let rig = Rig::new(Way::Put, 20, &[3 << 20, 3 << 20]);
    let mut program = rig.frozen(2 * MIB);
    program.kill();
    rig.line.cut_all();
    rig.line.disarm();
    let folder = rig.client.folder();
    fs::write(folder.join("t/large0"), content(5, 3 << 20)).unwrap();
    fs::write(folder.join("t/large1"), content(6, 2 << 20)).unwrap();
    fs::write(folder.join("t/new"), "new").unwrap();
    rig.client.run(&["-c", "put -r t"]).ok();
    rig.is_done();
}

#[test]
fn a_remote_tree_that_is_gone_is_told_and_dropped() {
    let rig = Rig::new(Way::Get, 20, &[3 << 20]);
    let mut program = rig.frozen(2 * MIB);
    eventually(SOON, "the .log", || rig.log().contains("get-r").then_some(()));
    program.kill();
    rig.line.cut_all();
    rig.line.disarm();
    rig.lab.says("rm -r t");
    let said = rig.client.resume_at_a_prompt();
    assert!(said.contains("/t"), "{said}");
    rig.client.resume_at_a_prompt();
    assert!(!rig.client.folder().join(".log").exists());
}

#[test]
fn what_was_begun_elsewhere_goes_where_it_was_meant() {
    let bytes = content(1, 3 << 20);
    // The commands, where the tree ends up, and on which side.
    let cases: [(&[&str], &str, Way); 6] = [
        (&["lcd sub", "cd top", "get -r t"], "sub/t", Way::Get),
        (&["get -r top/t -o 'renamed %41 tree'"], "renamed %41 tree", Way::Get),
        (&["get -r / -o all"], "all/top/t", Way::Get),
        (&["cd top/t", "get -r . -o sub/here"], "sub/here", Way::Get),
        (&["lcd src", "cd top", "put -r u"], "top/u", Way::Put),
        (&["put -r src/u -o 'top/two words'"], "top/two words", Way::Put),
    ];
    for (commands, place, way) in cases {
        let lab = Lab::new(&[("top/t/large", &bytes), ("top/t/d/small", b"1")]);
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        fs::create_dir(client.folder().join("sub")).unwrap();
        super::write(&client.folder().join("src/u/large"), &bytes);
        super::write(&client.folder().join("src/u/d/small"), b"1");
        way.arm(&line, 2 * MIB, Fault::Stall);
        let args: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
        let mut program = client.start(&args);
        line.wait_struck();
        eventually(SOON, "the .log", || client.folder().join(".log").exists().then_some(()));
        program.kill();
        line.cut_all();
        client.resume_at_a_prompt();
        let top = if way == Way::Get { client.folder() } else { lab.slave.root.clone() };
        assert_eq!(tree(&top.join(place)), ["d/", "d/small", "large"], "{commands:?}");
        assert!(fs::read(top.join(place).join("large")).unwrap() == bytes, "{commands:?}");
        assert!(!client.folder().join(".log").exists(), "{commands:?}");
        assert_eq!(unfinished(&client.folder()), Vec::<String>::new());
    }
}
