//! Commands in documents: each block is run as it is shown, or listed here with the reason.
//!
//! A block's info string says what it is. `sh` is a script, `sh server` starts a server that serves
//! the blocks after it, `ftpclient` is typed at the prompt, and `console` is commands with their
//! output. `sh not-run` is in [`NOT_RUN`]; its `make` lines must name targets. `synopsis` is
//! compared with `--help` by the tests of `docs`, and `text` contains no commands. `bat` is for
//! Windows, which no test has, and `yaml` is configuration of other programs. The tests of
//! `make test-clients` run `sh curl`, `sh metalink`, `lftp` and `python`, and start `sh master` and
//! `haproxy`.
//!
//! The tests replace only hosts, ports and folders.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{
    Client, Cluster, Fault, Program, ProgramBuilder, Pty, SOON, Standalone, TestDir, content,
    eventually, write_old,
};

/// Time limit of a block.
const LONGEST: Duration = Duration::from_secs(90);

/// Documents whose commands are all in fenced blocks.
const GUIDES: [&str; 4] =
    ["README.md", "CONTRIBUTING.md", "docs/user-guide.md", "docs/administrator-guide.md"];

/// Blocks that the tests do not run: document, first line, reason.
const NOT_RUN: [(&str, &str, &str); 11] = [
    ("README.md", "make run", "builds release programs; `make_targets` runs the script behind it"),
    ("README.md", "make master", "builds release programs; `make_targets` runs the scripts"),
    ("README.md", "make", "builds release programs and installs into the user's home"),
    ("CONTRIBUTING.md", "make", "runs this test too"),
    ("docs/administrator-guide.md", "make", "builds release programs and writes to /usr/local"),
    ("docs/mount.md", "mount -t davfs https://files.example:8443/ /mnt", CLIENT),
    (
        "docs/mount.md",
        "rclone config create files webdav url=https://files.example:8443/ vendor=other user=ann \
         pass=secret",
        CLIENT,
    ),
    ("docs/mount.md", "cadaver https://files.example:8443/", CLIENT),
    ("docs/monitoring.md", "ftpmaster user add alice --rights admin", OPERATING),
    (
        "docs/monitoring.md",
        "curl -L -u alice -d slave=5b99 -d confirm=yes https://files.example.org/-/status/drain",
        OPERATING,
    ),
    ("benches/README.md", "apt-get install curl lftp vsftpd", "installs packages"),
];

/// Why a command of another client is not run as it is shown.
const CLIENT: &str = "tests/clients runs this program against another address";

/// Why operators' actions are not run as they are shown.
const OPERATING: &str = "asks for a password; the tests of `http::operating` do the same";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block of a document.
#[derive(Debug)]
struct Block {
    document: String,
    /// Number of the line with the opening fence.
    line: usize,
    info: String,
    text: String,
}

/// Returns the fenced blocks of a document; requires that guides have no indented blocks.
fn blocks(document: &str) -> Vec<Block> {
    let text = fs::read_to_string(repository().join(document)).unwrap();
    let (mut all, mut open) = (Vec::new(), None::<Block>);
    for (line, content) in text.lines().enumerate() {
        match (open.as_mut(), content.strip_prefix("```")) {
            (None, Some(info)) => {
                let (info, text) = (info.to_owned(), String::new());
                open = Some(Block { document: document.to_owned(), line: line + 1, info, text });
            }
            (Some(_), Some(_)) => all.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(content);
                block.text.push('\n');
            }
            (None, None) => assert!(
                !GUIDES.contains(&document) || !content.starts_with("    "),
                "{document}:{}: an indented block; use a fence with an info string",
                line + 1
            ),
        }
    }
    assert!(open.is_none(), "{document}: a fence is open");
    all
}

/// Returns the paths of all documents.
fn documents() -> Vec<String> {
    let of = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with(".md")).map(|n| format!("{folder}{n}")).collect()
    };
    ["", "docs/", "benches/", "tests/"].iter().flat_map(|folder| of(folder)).collect()
}

#[test]
fn each_block_is_run_or_listed_with_a_reason() {
    let mut listed = Vec::new();
    for block in documents().iter().flat_map(|document| blocks(document)) {
        let place = format!("{}:{}", block.document, block.line);
        match block.info.as_str() {
            // Other people's programs run the others, in tests/clients.
            "text" | "bat" | "yaml" | "sh curl" | "sh master" | "sh metalink" | "lftp"
            | "python" | "haproxy" => {}
            "sh" | "sh server" | "ftpclient" | "console" | "synopsis" => {
                assert!(GUIDES.contains(&block.document.as_str()), "{place}: no test runs this")
            }
            "sh not-run" => {
                for line in block.text.lines().filter(|line| line.starts_with("make")) {
                    let shown = Command::new("sh")
                        .args(["-c", &line.replacen("make", "make --dry-run", 1)])
                        .current_dir(repository())
                        .env_remove("MAKEFLAGS")
                        .output()
                        .unwrap();
                    assert!(shown.status.success(), "{place}: {line}: {shown:?}");
                }
                let first = block.text.lines().next().unwrap().split("  ").next().unwrap();
                let found = NOT_RUN
                    .iter()
                    .position(|(document, line, _)| (*document, *line) == (&block.document, first));
                listed.push(found.unwrap_or_else(|| panic!("{place}: {first} is not in NOT_RUN")));
            }
            other => panic!("{place}: the info string {other:?} is none of those in this test"),
        }
    }
    listed.sort_unstable();
    assert!(listed.into_iter().eq(0..NOT_RUN.len()), "each entry of NOT_RUN has its block");
}

/// Runs a script at a terminal, types passwords and leaves prompts; requires exit status 0.
#[track_caller]
fn run(script: &str, home: &Path, folder: &Path) -> String {
    let words = ["bash", "-e", "-o", "pipefail", "-c", script];
    let programs = Path::new(env!("CARGO_BIN_EXE_ftpclient")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let setup = ProgramBuilder::of(&words, home).current_dir(folder).env("PATH", &path);
    let (mut pty, mut program) = Pty::start_with_stderr(setup);
    let mut typed = [0; 3];
    let status = eventually(LONGEST, script, || {
        let screen = pty.screen.text();
        for (typed, (question, keys)) in typed.iter_mut().zip([
            ("New password of ann", "secret\rsecret\r"),
            ("Password of ann", "secret\r"),
            ("Connected to", "bye\r"),
        ]) {
            while *typed < screen.matches(question).count() {
                pty.press(keys);
                *typed += 1;
            }
        }
        program.try_status()
    });
    assert!(pty.screen.ends_within(SOON));
    let screen = pty.screen.text();
    assert_eq!(status, 0, "{script}\n{screen}");
    screen
}

/// Replaces each name of a document by that of the test.
fn replaced(text: &str, by: &[(&str, &str)]) -> String {
    by.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn the_user_guide_shows_commands_that_work() {
    let remote: &[(&str, &[u8])] = &[
        ("lab.iso", b"image"),
        ("images/lab.iso", b"image"),
        ("notes.txt", b"notes"),
        ("draft.txt", b"draft"),
        ("recipes/soup.txt", b"soup"),
        ("music/song", b"song"),
        ("old/f", b"old"),
        ("a", b"a"),
        ("b", b"b"),
        ("backup/f", b"backup"),
    ];
    let open = Standalone::start(&[], remote);
    let tgz =
        ["tar", "czf", open.root.join("logs.tar.gz").to_str().unwrap(), "-C"].map(str::to_owned);
    assert!(
        Command::new(&tgz[0])
            .args(&tgz[1..])
            .args([&open.root, Path::new("a")])
            .status()
            .unwrap()
            .success()
    );
    open.wait_listed("logs.tar.gz", true);
    let guarded = Standalone::start(&[], remote);
    let state = guarded.dir.folder("state");
    let add = format!("ftpmaster user add ann --rights write --state {}", state.display());
    let home = TestDir::new();
    run(&add, home.path(), home.path());
    eventually(SOON, "the account is in force", || {
        (guarded.client().run(&["-c", "ls"]).status == 4).then_some(())
    });
    // The local folder.
    let folder = home.folder("work");
    for (name, bytes) in [
        ("report.pdf", "pdf"),
        ("photos/one.jpg", "1"),
        ("cat.jpg", "cat"),
        ("nightly.txt", "ls\nget lab.iso\n"),
    ] {
        write_old(&folder.join(name), bytes.as_bytes());
    }
    for absolute in ["tmp", "srv", "etc"] {
        write_old(&home.folder(absolute).join("f"), b"f");
    }
    let path = |name: &str| format!(" {}/{name}", home.path().display());
    let (tmp, srv, etc) = (path("tmp"), path("srv"), path("etc"));
    let (open_addr, guarded_addr) = (open.addr.to_string(), guarded.addr.to_string());
    let paths = [(" /tmp", &*tmp), (" /srv", &srv), (" /etc", &etc)];
    for block in blocks("docs/user-guide.md") {
        let text = replaced(&block.text, &paths);
        let script = match block.info.as_str() {
            "sh" => text
                .lines()
                .map(|line| {
                    let addr = if line.contains("ann") { &guarded_addr } else { &open_addr };
                    let hosts = [("files.example", &**addr), ("jq .verified", "grep true")];
                    replaced(line, &hosts) + "\n"
                })
                .collect(),
            "ftpclient" => format!("ftpclient {open_addr} <<'END'\n{text}END\n"),
            _ => continue,
        };
        run(&script, home.path(), &folder);
    }
    // What the sections say has happened.
    let there = |root: &Path, name: &str| assert!(root.join(name).exists(), "{name}");
    for name in ["lab.iso", "recipes/soup.txt"] {
        there(&folder, name);
    }
    there(home.path(), "tmp/notes.txt");
    there(home.path(), "srv/music/song");
    for name in [
        "report.pdf",
        "archive/2026.pdf",
        "photos/one.jpg",
        "cat.jpg",
        "final.txt",
        "backup/etc.tar.gz",
    ] {
        there(&open.root, name);
    }
    assert!(!open.root.join("old").exists());
}

/// A master, and the slave of the administrator guide, as far as the blocks started them.
struct Servers {
    home: TestDir,
    master: Option<(Program, String, SocketAddr)>,
    slave: Option<Program>,
}

impl Servers {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Starts a server with the words of a line.
    fn start(&self, line: &str) -> (Program, SocketAddr) {
        let mut words = line.split_whitespace();
        let setup = ProgramBuilder::new(words.next().unwrap(), self.home.path());
        let mut program = setup.args(words).start();
        let addr = program.ready();
        (program, addr)
    }

    /// Starts the server of a block.
    fn serve(&mut self, line: &str) {
        let [files, key] = ["srv/files", "etc/relais/cluster.key"].map(|name| self.path(name));
        let Some((_, _, master)) = &self.master else {
            let line = replaced(line, &[("0.0.0.0:2121", "127.0.0.1:0")]);
            let (program, addr) = self.start(&line);
            self.master = Some((program, line, addr));
            return;
        };
        write_old(&files.join("lab.iso"), b"content");
        fs::create_dir_all(key.parent().unwrap()).unwrap();
        fs::copy(self.path("state/relais/cluster.key"), &key).unwrap();
        let line = replaced(
            line,
            &[
                ("ftpslave 2122", "ftpslave 0"),
                ("master.example", &master.to_string()),
                ("/srv/files", files.to_str().unwrap()),
                ("/etc/relais/cluster.key", key.to_str().unwrap()),
            ],
        );
        self.slave = Some(self.start(&line).0);
        self.status_is(0);
        eventually(SOON, "the slave's file is in the tree", || {
            self.operate("export").stdout.contains("lab.iso").then_some(())
        });
    }

    fn master_words(&self, words: &str) -> String {
        format!("ftpmaster {words} --master {}", self.master.as_ref().unwrap().2)
    }

    fn operate(&self, words: &str) -> crate::harness::Output {
        let line = self.master_words(words);
        let setup = ProgramBuilder::new("ftpmaster", self.home.path());
        Client::finish(&mut setup.args(line.split(' ').skip(1)).start())
    }

    fn status_is(&self, status: i32) {
        eventually(SOON, "the slave is in service", || {
            (self.operate("status").status == status).then_some(())
        });
    }

    /// Restarts the master without its journal, and waits for the slave's report.
    fn lose_journal(&mut self) {
        let (mut master, line, addr) = self.master.take().unwrap();
        master.kill();
        for name in ["journal", "snapshot"] {
            let path = self.path("state/relais").join(name);
            assert!(path.exists() || name == "snapshot", "{}", path.display());
            let _ = fs::remove_file(path);
        }
        let (program, _) = self.start(&line.replace("127.0.0.1:0", &addr.to_string()));
        self.master = Some((program, line, addr));
        eventually(SOON, "the slave has reported", || {
            self.operate("recover").stdout.contains("last change 1-").then_some(())
        });
    }
}

#[test]
fn the_administrator_guide_shows_commands_that_work() {
    let mut servers = Servers { home: TestDir::new(), master: None, slave: None };
    write_old(&servers.path("run/secrets/ann"), b"another secret\n");
    let secrets = servers.path("run/secrets");
    for block in blocks("docs/administrator-guide.md") {
        match block.info.as_str() {
            "sh server" => servers.serve(block.text.trim()),
            "sh" => {
                let recovers = block.text.contains("recover");
                if recovers {
                    servers.lose_journal();
                }
                let script = replaced(
                    &block.text,
                    &[
                        ("/run/secrets", secrets.to_str().unwrap()),
                        ("ftpmaster recover", &servers.master_words("recover")),
                    ],
                );
                let screen = run(&script, servers.home.path(), servers.home.path());
                if recovers {
                    assert!(screen.contains("epoch 2"), "{screen}");
                    servers.status_is(0);
                } else {
                    let accounts =
                        fs::read_to_string(servers.path("state/relais/accounts")).unwrap();
                    assert!(!accounts.contains("ann"), "{accounts}");
                }
            }
            _ => {}
        }
    }
    assert!(servers.slave.is_some());
}

/// Removes what differs between runs: words with digits, units and the list after a colon.
fn stable(line: &str) -> String {
    let line = line.split_once("confined by:").map_or(line, |(before, _)| before);
    let words = line.split_whitespace().map(|word| {
        let inner = word.trim_matches(|c| "(),:;".contains(c));
        match inner {
            "ms" | "s" => word.replace(inner, "TIME"),
            "KiB/s" | "MiB/s" | "GiB/s" => word.replace(inner, "RATE"),
            _ if inner.contains(|c: char| c.is_ascii_digit()) => word.replace(inner, "#"),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Removes control sequences from the text of a terminal.
fn plain(screen: &str) -> String {
    let mut parts = screen.split('\x1b');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        text + &part[end..]
    })
}

#[test]
fn the_readme_shows_what_a_failover_prints() {
    let block = blocks("README.md").into_iter().find(|block| block.info == "console").unwrap();
    let (session, status) = block.text.split_once("$ ./ftpmaster status\n").unwrap();
    let mut lines = session.lines();
    assert_eq!(lines.next(), Some("$ ./ftpclient localhost"));
    let bytes = content(1, 48 << 20);
    let mut cluster = Cluster::of(2).proxied().file("big.iso", &bytes).start();
    cluster.wait_hashed();
    eventually(SOON, "both slaves report that all digests are computed", || {
        (!cluster.status(&[]).stdout.contains("digests still")).then_some(())
    });
    for slave in &cluster.slaves {
        slave.proxy.as_ref().unwrap().fault_at_content(3 << 20, Fault::Stall);
    }
    let home = TestDir::new();
    let received = home.folder("_CLIENTROOT").join("big.iso");
    let setup = ProgramBuilder::new("ftpclient", home.path()).args([cluster.addr.to_string()]);
    let (mut pty, mut program) = Pty::start_with_stderr(setup);
    let mut wanted = Vec::new();
    for line in lines {
        if let Some((_, command)) = line.split_once(":/> ") {
            pty.press(&format!("{command}\r"));
            if command.starts_with("get") {
                let serving = eventually(SOON, "the transfer is frozen", || {
                    let struck =
                        |slave: &crate::harness::Slave| slave.proxy.as_ref().unwrap().struck();
                    cluster.slaves.iter().position(struck)
                });
                cluster.slaves.iter().for_each(|s| s.proxy.as_ref().unwrap().disarm());
                let slave = &mut cluster.slaves[serving];
                slave.program.kill();
                slave.proxy.as_ref().unwrap().release();
            }
            continue;
        }
        wanted.push(line);
    }
    assert_eq!(program.wait(LONGEST), 0);
    assert!(pty.screen.ends_within(SOON));
    let screen = plain(&pty.screen.text());
    let mut printed = screen.split(['\r', '\n']).map(stable);
    for line in wanted {
        let found = printed.any(|printed| printed == stable(line));
        assert!(found, "{line:?} is not in its place on the screen: {screen:?}");
    }
    assert!(fs::read(received).unwrap() == bytes);

    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(stable).collect();
        lines.sort();
        lines
    };
    let shown = eventually(SOON, "the killed slave is down", || {
        (cluster.count("down") == 1).then(|| cluster.status(&[]).stdout)
    });
    assert_eq!(sorted(&shown), sorted(status), "{shown}");
}
