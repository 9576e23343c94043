//! Whole commands against servers in threads: output, transfers, and remaining files.

mod cat;
mod changes;
pub mod fake;
mod get;
mod globs;
mod kept;
mod mirror;
mod put;
pub mod recursive;
mod replicated;
pub mod tree;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relais_proto::TreePath;

use crate::commands::{CommandStatus, ParsedCommand};
use crate::interrupt::Interrupt;
use crate::local::LocalFolders;
use crate::notices::Notices;
use crate::output::{Output, Screen};
use crate::session::{Session, Settings};
use crate::shell::Shell;
use tree::Tree;

impl Shell {
    /// Runs one line.
    pub fn execute(&mut self, line: &str) -> CommandStatus {
        ParsedCommand::parse(line).execute(self)
    }

    /// Resumes the transfers in the `.log`, as at the start of a prompt.
    pub fn resume_all(&mut self) -> u8 {
        crate::resume::resume_all(self)
    }
}

/// Standard output of a shell under test.
#[derive(Clone, Default)]
pub struct CapturedOutput(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CapturedOutput {
    /// Returns the output since the last call as text.
    pub fn take(&self) -> String {
        String::from_utf8(self.take_bytes()).unwrap()
    }

    /// Returns the output since the last call as bytes.
    pub fn take_bytes(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Rewrites the origin of a folder's transfers to the server at `addr`.
///
/// In these tests each server of a cluster has its own host.
fn rehost(folder: &std::path::Path, addr: SocketAddr) {
    let Ok(contents) = crate::transfer_log::read_log(folder) else { return };
    for entry in contents.entries {
        let mut log = crate::transfer_log::TransferLog::open(folder).unwrap();
        log.remove(std::slice::from_ref(&entry)).unwrap();
        let origin = crate::origin::Origin { host: addr.to_string(), ..entry.origin.clone() };
        let entry = crate::transfer_log::TransferEntry { origin, ..entry };
        log.put(entry).unwrap();
    }
}

/// Returns the origin of the test cluster for a shell.
pub fn origin(shell: &Shell) -> crate::origin::Origin {
    crate::origin::Origin::new(&shell.session.settings.host, None, fake::CLUSTER)
}

/// Returns a shell with local folder `folder` that connects to `addr` with its first request.
pub fn shell(addr: SocketAddr, folder: PathBuf, json: bool) -> (Shell, CapturedOutput) {
    rehost(&folder, addr);
    let (printed, notices, interrupt) =
        (CapturedOutput::default(), Notices::collecting(), Interrupt::default());
    let settings = Settings {
        host: addr.to_string().parse().unwrap(),
        user: String::new(),
        password: None,
        encrypt: relais_net::tls::TlsMode::default(),
        authorities: None,
        insecure: false,
        retry: Duration::from_millis(200),
        streams: 1,
    };
    let shell = Shell {
        session: Session::new(settings, interrupt.clone(), notices.clone()),
        output: Output::new(Box::new(printed.clone()), notices.clone(), json, Screen::default()),
        local: LocalFolders::new(Some(folder)).unwrap(),
        cwd: TreePath::root(),
        resume: true,
        copies: 0,
        input_is_commands: false,
        interrupt,
        notices,
    };
    (shell, printed)
}

/// Returns bytes that do not repeat within a block.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

/// A shell in an empty folder, with one slave for each tree.
struct TestClient {
    dir: tempfile::TempDir,
    shell: Shell,
    printed: CapturedOutput,
}

impl TestClient {
    fn new(trees: &[Tree], json: bool) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), trees, json)
    }

    fn in_folder(dir: tempfile::TempDir, trees: &[Tree], json: bool) -> Self {
        let slaves = (1..).zip(trees).map(|(n, tree)| fake::endpoint(n, tree.slave(n))).collect();
        let (shell, printed) =
            shell(fake::master_of(&trees[0], slaves).0, dir.path().to_path_buf(), json);
        Self { dir, shell, printed }
    }

    fn local(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    /// Runs lines that must all end with `status`.
    fn run(&mut self, status: u8, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.shell.execute(line).status, status, "{line}: {:?}", self.messages());
        }
    }

    fn messages(&self) -> Vec<String> {
        self.shell.notices.collected()
    }

    /// Returns the one object that was printed.
    fn object(&self) -> serde_json::Value {
        serde_json::from_str(&self.printed.take()).unwrap()
    }

    /// Returns the names in the local folder.
    fn names(&self) -> Vec<String> {
        let entries = self.dir.path().read_dir().unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn small_tree() -> SocketAddr {
    let tree = Tree::new(&[
        ("a.txt", b"hello".to_vec()),
        ("docs/one", vec![1]),
        ("docs/two words", vec![2]),
    ]);
    fake::master_of(&tree, vec![fake::endpoint(1, tree.slave(1))]).0
}

/// Runs lines in one shell; returns their statuses and the output.
fn run(json: bool, lines: &[&str]) -> (Vec<u8>, String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut shell, printed) = shell(small_tree(), dir.path().to_path_buf(), json);
    let statuses = lines.iter().map(|line| shell.execute(line).status).collect();
    (statuses, printed.take(), shell.notices.collected())
}

#[test]
fn listings_and_folders() {
    let (statuses, printed, messages) = run(
        false,
        &[
            "ls",
            "cd docs",
            "pwd",
            "ls",
            "cd ..",
            "ls docs/one",
            "cd docs",
            "cd",
            "pwd",
            "ls -- docs",
        ],
    );
    assert_eq!((statuses, messages), (vec![0; 10], vec![]));
    assert_eq!(printed, "a.txt\ndocs/\n/docs\none\ntwo words\none\n/\none\ntwo words\n");
    let (_, long, _) = run(false, &["ls -l"]);
    assert_eq!(
        long,
        "-rwxr-xr-x              5  2023-11-14 22:13:20Z  a.txt\n\
         drwxr-xr-x              -  2023-11-14 22:13:20Z  docs/\n"
    );
}

#[test]
fn errors_have_their_status() {
    let lines = [
        "cd a.txt",
        "cd ..",
        "cd nothing",
        "ls nothing",
        "gte x",
        "ls 'x",
        "ls -x",
        "ls a b",
        "get",
        "pwd x",
        "help nothing",
    ];
    let (statuses, printed, messages) = run(false, &lines);
    assert_eq!(statuses, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
    assert_eq!(printed, "");
    assert_eq!(messages[0], "cd: /a.txt is not a folder");
    assert_eq!(messages[1], "cd: .. is above the root");
    assert_eq!(messages[2], "cd: /nothing does not exist; in / there is: a.txt, docs/");
    assert_eq!(messages[4], "gte: unknown command gte; did you mean get?");
    assert!(messages[7].ends_with("usage: ls [-l] [PATH]"), "{}", messages[7]);
}

#[test]
fn stat_and_hash_show_single_paths() {
    let (statuses, printed, messages) = run(
        false,
        &["hash a.txt", "stat docs", "hash docs", "hash a.txt nothing 'docs/two words'"],
    );
    assert_eq!(statuses, [0, 0, 1, 1]);
    let hash = |bytes: &[u8]| tree::digest(bytes).to_string();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0], format!("{}  /a.txt", hash(b"hello")));
    assert_eq!(lines[1..3], ["/docs", "  kind     folder"]);
    assert_eq!(lines[5..], [lines[0].to_owned(), format!("{}  /docs/two words", hash(&[2]))]);
    assert_eq!(
        messages,
        [
            "hash: /docs: it is a folder",
            "hash: /nothing does not exist; in / there is: a.txt, docs/"
        ]
    );
}

#[test]
fn every_command_prints_one_object() {
    let lines = [
        "ls",
        "stat a.txt",
        "hash a.txt docs",
        "pwd",
        "cd docs",
        "lpwd",
        "lls",
        "status",
        "help",
        "help ls",
        "nothing",
        "get 'x",
        "bye",
    ];
    let (statuses, printed, messages) = run(true, &lines);
    assert_eq!(statuses, [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0]);
    assert!(messages.is_empty(), "{messages:?}");
    let objects: Vec<serde_json::Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), lines.len());
    let names = [
        "ls", "stat", "hash", "pwd", "cd", "lpwd", "lls", "status", "help", "help", "nothing",
        "get", "bye",
    ];
    for ((object, name), status) in objects.iter().zip(names).zip(statuses) {
        assert_eq!(
            (object["command"].as_str(), object["ok"].as_bool()),
            (Some(name), Some(status == 0)),
            "{object}"
        );
    }
    assert_eq!(
        objects[0]["entries"][1],
        serde_json::json!({
            "name": "docs", "kind": "folder", "mode": "0755", "size": 0,
            "mtime": "2023-11-14T22:13:20.000000005Z", "version": null
        })
    );
    assert_eq!(
        (&objects[1]["entries"][0]["version"], &objects[1]["entries"][0]["holders"][0]),
        (&"1-4".into(), &"127.0.0.1:2122".into())
    );
    assert_eq!(
        (&objects[2]["failed"][0]["remote"], &objects[2]["error"]["code"]),
        (&"docs".into(), &"is-folder".into())
    );
    assert_eq!((&objects[3]["path"], &objects[4]["path"]), (&"/".into(), &"/docs".into()));
    assert_eq!(
        (&objects[7]["skipped"]["total"], &objects[7]["role"]),
        (&2.into(), &"slave".into())
    );
}

#[test]
fn a_closed_pipe_ends_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for json in [false, true] {
        let (mut shell, _) = shell(small_tree(), dir.path().to_path_buf(), json);
        shell.output =
            Output::new(Box::new(Closed), shell.notices.clone(), json, Screen::default());
        let ended = shell.execute("ls");
        assert_eq!((ended.status, ended.leave), (1, true));
        assert!(shell.notices.collected().is_empty());
    }
}
