//! Recursive transfers that were killed: a later client resumes by the `.log` and repeats little.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use super::{CommandFixture, tree};
use crate::harness::{Client, Fault, Program, Proxy, SOON, content, eventually};

const MIB: u64 = 1 << 20;
const LARGE: usize = 10 << 20;

/// The direction of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferDirection {
    Get,
    Put,
}

impl TransferDirection {
    fn command(self) -> &'static str {
        if self == Self::Get { "get -r t" } else { "put -r t" }
    }

    fn arm(self, proxy: &Proxy, n: u64, fault: Fault) {
        if self == Self::Get {
            proxy.fault_at_content(n, fault)
        } else {
            proxy.fault_at_data(n, fault)
        }
    }

    fn throttle(self, proxy: &Proxy, rate: Option<u64>) {
        if self == Self::Get { proxy.throttle(rate) } else { proxy.throttle_up(rate) }
    }

    fn take_bytes(self, proxy: &Proxy) -> u64 {
        if self == Self::Get { proxy.take_content_bytes() } else { proxy.take_data_bytes() }
    }
}

/// A slave behind a proxy, a tree on one side, and a client.
struct InterruptedTreeFixture {
    direction: TransferDirection,
    direct: CommandFixture,
    proxy: Proxy,
    client: Client,
}

impl InterruptedTreeFixture {
    #[track_caller]
    fn new(direction: TransferDirection, small: u64, large: &[usize]) -> Self {
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
        let direct =
            CommandFixture::new(if direction == TransferDirection::Get { &refs } else { &[] });
        let proxy = Proxy::to(direct.slave.addr);
        let client = Client::new(proxy.addr());
        if direction == TransferDirection::Put {
            refs.iter().for_each(|(name, bytes)| super::write(&client.folder().join(name), bytes));
        }
        Self { direction, direct, proxy, client }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.client.folder().join(".log")).unwrap_or_default()
    }

    /// Starts the command and freezes it after `n` bytes of content.
    #[track_caller]
    fn frozen(&self, n: u64) -> Program {
        self.direction.arm(&self.proxy, n, Fault::Stall);
        let program = self.client.start(&["--json", "-c", self.direction.command()]);
        self.proxy.wait_struck();
        program
    }

    /// Requires that both sides are equal and no transfer is left.
    #[track_caller]
    fn assert_done(&self) {
        let (here, there) = (self.client.folder().join("t"), self.direct.slave.root.join("t"));
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

/// Lists leftover temporary files.
fn unfinished(folder: &Path) -> Vec<String> {
    tree(folder).into_iter().filter(|name| name.contains(".relais-")).collect()
}

fn killed_and_resumed(direction: TransferDirection) {
    let fixture = InterruptedTreeFixture::new(direction, 60, &[LARGE]);
    // Slow enough for the client to save its log, which it does once a second.
    direction.throttle(&fixture.proxy, Some(5 * MIB));
    let mut program = fixture.frozen(8 * MIB);
    direction.throttle(&fixture.proxy, None);
    eventually(SOON, "the .log names the tree", || fixture.log().contains(r#"-r"}"#).then_some(()));
    if direction == TransferDirection::Get {
        eventually(SOON, "good bytes of the large file in the .log", || {
            fixture.log().contains(r#""good":"0-"#).then_some(())
        });
    }
    program.kill();
    fixture.proxy.cut_all();
    fixture.proxy.disarm();
    fixture.direction.take_bytes(&fixture.proxy);
    let said = fixture.client.resume_at_a_prompt();
    assert!(said.contains("resuming"), "stderr does not report it: {said}");
    fixture.assert_done();
    let moved = fixture.direction.take_bytes(&fixture.proxy);
    // 8 of 10 MiB were sent; at least 3 of them must be known as good.
    assert!(moved <= LARGE as u64 - 3 * MIB, "{moved} bytes were sent again");
}

#[test]
fn a_killed_get_r_is_resumed() {
    killed_and_resumed(TransferDirection::Get);
}

#[test]
fn a_killed_put_r_is_resumed() {
    killed_and_resumed(TransferDirection::Put);
}

#[test]
fn a_tree_killed_anywhere_ends_whole() {
    for direction in [TransferDirection::Get, TransferDirection::Put] {
        for n in [0, 1, 20_000, 900_000, 1_400_000] {
            let fixture = InterruptedTreeFixture::new(direction, 300, &[1 << 20, 1_500_000]);
            let mut program = fixture.frozen(n);
            program.kill();
            fixture.proxy.cut_all();
            fixture.proxy.disarm();
            if n == 900_000 {
                // Killed once more while the transfer is resumed.
                fixture.direction.arm(&fixture.proxy, 1_000_000, Fault::Stall);
                let mut again = fixture.client.start(&["-c", direction.command()]);
                eventually(SOON, "stalled or ended", || {
                    (fixture.proxy.struck() || again.try_status().is_some()).then_some(())
                });
                again.kill();
                fixture.proxy.cut_all();
                fixture.proxy.disarm();
            }
            let output = fixture.client.run(&["--json", "-c", direction.command()]);
            assert_eq!(output.status, 0, "{direction:?} killed at {n}: {output:?}");
            fixture.assert_done();
        }
    }
}

#[test]
fn complete_files_are_not_sent_again_after_a_kill() {
    for direction in [TransferDirection::Get, TransferDirection::Put] {
        let fixture = InterruptedTreeFixture::new(direction, 400, &[]);
        let mut program = fixture.frozen(800_000);
        eventually(SOON, "the .log", || fixture.log().contains(r#"-r"}"#).then_some(()));
        let target = if direction == TransferDirection::Get {
            fixture.client.folder()
        } else {
            fixture.direct.slave.root.clone()
        };
        let whole = || {
            tree(&target)
                .iter()
                .filter(|n| !n.ends_with('/') && n.starts_with("t/") && !n.contains(".relais-"))
                .count() as u64
        };
        let there =
            eventually(SOON, "some files are complete", || Some(whole()).filter(|n| *n >= 100));
        program.kill();
        fixture.proxy.cut_all();
        fixture.proxy.disarm();
        fixture.direction.take_bytes(&fixture.proxy);
        fixture.client.run(&["-c", direction.command()]).ok();
        fixture.assert_done();
        let moved = fixture.direction.take_bytes(&fixture.proxy);
        // Bytes that the proxy held back at the cut count as well.
        assert!(
            moved <= (400 - there) * 3000 + (128 << 10),
            "{direction:?}: {moved} bytes again, although {there} of 400 files were complete"
        );
    }
}

#[test]
fn a_second_client_may_resume_or_ignore_the_tree() {
    let fixture = InterruptedTreeFixture::new(TransferDirection::Put, 50, &[2 << 20]);
    let mut program = fixture.frozen(MIB);
    program.signal(Signal::SIGINT);
    let json = Client::finish(&mut program).fails(130).json();
    assert_eq!(json["error"]["code"], "interrupted", "{json}");
    assert!(fixture.log().contains("put-r"), "{}", fixture.log());
    fixture.proxy.cut_all();
    fixture.client.run(&["-c", "pwd"]).ok();
    assert!(!fixture.direct.serves("t/large0"));
    fixture.client.run(&["--json", "-c", "put -r t"]).ok();
    fixture.assert_done();
}

#[test]
fn a_changed_tree_is_transferred_in_its_new_state() {
    let fixture = InterruptedTreeFixture::new(TransferDirection::Put, 20, &[3 << 20, 3 << 20]);
    let mut program = fixture.frozen(2 * MIB);
    program.kill();
    fixture.proxy.cut_all();
    fixture.proxy.disarm();
    let folder = fixture.client.folder();
    fs::write(folder.join("t/large0"), content(5, 3 << 20)).unwrap();
    fs::write(folder.join("t/large1"), content(6, 2 << 20)).unwrap();
    fs::write(folder.join("t/new"), "new").unwrap();
    fixture.client.run(&["-c", "put -r t"]).ok();
    fixture.assert_done();
}

#[test]
fn a_missing_remote_tree_is_reported_and_dropped() {
    let fixture = InterruptedTreeFixture::new(TransferDirection::Get, 20, &[3 << 20]);
    let mut program = fixture.frozen(2 * MIB);
    eventually(SOON, "the .log", || fixture.log().contains("get-r").then_some(()));
    program.kill();
    fixture.proxy.cut_all();
    fixture.proxy.disarm();
    fixture.direct.says("rm -r t");
    let said = fixture.client.resume_at_a_prompt();
    assert!(said.contains("/t"), "{said}");
    fixture.client.resume_at_a_prompt();
    assert!(!fixture.client.folder().join(".log").exists());
}

#[test]
fn resumed_trees_keep_their_original_target() {
    let bytes = content(1, 3 << 20);
    // The commands, the destination of the tree, and its side.
    let cases: [(&[&str], &str, TransferDirection); 6] = [
        (&["lcd sub", "cd top", "get -r t"], "sub/t", TransferDirection::Get),
        (&["get -r top/t -o 'renamed %41 tree'"], "renamed %41 tree", TransferDirection::Get),
        (&["get -r / -o all"], "all/top/t", TransferDirection::Get),
        (&["cd top/t", "get -r . -o sub/here"], "sub/here", TransferDirection::Get),
        (&["lcd src", "cd top", "put -r u"], "top/u", TransferDirection::Put),
        (&["put -r src/u -o 'top/two words'"], "top/two words", TransferDirection::Put),
    ];
    for (commands, place, direction) in cases {
        let direct = CommandFixture::new(&[("top/t/large", &bytes), ("top/t/d/small", b"1")]);
        let proxy = Proxy::to(direct.slave.addr);
        let client = Client::new(proxy.addr());
        fs::create_dir(client.folder().join("sub")).unwrap();
        super::write(&client.folder().join("src/u/large"), &bytes);
        super::write(&client.folder().join("src/u/d/small"), b"1");
        direction.arm(&proxy, 2 * MIB, Fault::Stall);
        let args: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
        let mut program = client.start(&args);
        proxy.wait_struck();
        eventually(SOON, "the .log", || client.folder().join(".log").exists().then_some(()));
        program.kill();
        proxy.cut_all();
        client.resume_at_a_prompt();
        let top = if direction == TransferDirection::Get {
            client.folder()
        } else {
            direct.slave.root.clone()
        };
        assert_eq!(tree(&top.join(place)), ["d/", "d/small", "large"], "{commands:?}");
        assert!(fs::read(top.join(place).join("large")).unwrap() == bytes, "{commands:?}");
        assert!(!client.folder().join(".log").exists(), "{commands:?}");
        assert_eq!(unfinished(&client.folder()), Vec::<String>::new());
    }
}
