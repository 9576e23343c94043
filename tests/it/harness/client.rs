//! `ftpclient` with a local folder of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Program, Pty, Setup, TestDir};

/// Longest that a client may run; far behind all its own deadlines.
const LONGEST: Duration = Duration::from_secs(90);

/// Where and with what a client is run, again and again if need be.
pub struct Client {
    server: String,
    dir: TestDir,
}

/// How a run of a client ended.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The objects that `--json` printed.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?} in {self:?}"))
            })
            .collect()
    }

    /// The only object that `--json` printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.remove(0)
    }

    /// Requires status 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// Requires another status.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Client {
    pub fn new(server: impl std::fmt::Display) -> Self {
        Self { server: server.to_string(), dir: TestDir::new() }
    }

    /// The local folder.
    pub fn folder(&self) -> PathBuf {
        self.dir.folder("local")
    }

    /// A folder that is the client's home and its current one.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// The content of a local file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.folder().join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn setup(&self, args: &[&str]) -> Setup {
        let folder = self.folder();
        Setup::new("ftpclient", self.home())
            .args([self.server.as_str(), "-d"])
            .args([folder])
            .args(args)
    }

    /// Starts it and lets it run.
    pub fn start(&self, args: &[&str]) -> Program {
        self.setup(args).start()
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        Self::finish(&mut self.start(args))
    }

    /// Waits for the end of a client that was started.
    #[track_caller]
    pub fn finish(program: &mut Program) -> Output {
        let status = program.wait(LONGEST);
        assert!(
            program.stdout.ends_within(LONGEST) && program.stderr.ends_within(LONGEST),
            "the client's output was kept open"
        );
        Output { status, stdout: program.stdout.text(), stderr: program.stderr.text() }
    }

    /// Starts a prompt, which resumes what is unfinished, and leaves it; what it said of that.
    #[track_caller]
    pub fn resume_at_a_prompt(&self) -> String {
        let (mut pty, mut program) = Pty::start(self.setup(&[]));
        pty.screen.wait_for(LONGEST, "the prompt", |screen| screen.contains("> ").then_some(()));
        pty.press("bye\r");
        program.wait(LONGEST);
        assert!(program.stderr.ends_within(LONGEST), "the client's output was kept open");
        program.stderr.text()
    }

    /// Runs one command with `--json`.
    #[track_caller]
    pub fn command(&self, command: &str) -> Output {
        self.run(&["--json", "-c", command])
    }

    /// Gets one file and requires that it arrived; the object that was printed.
    #[track_caller]
    pub fn get(&self, name: &str) -> Value {
        let json = self.command(&format!("get {}", quote(name))).ok().json();
        assert_eq!(json["ok"], true, "{json}");
        assert_eq!(json["verified"], true, "{json}");
        json
    }

    /// The slave that served a get.
    #[track_caller]
    pub fn turn(&self, name: &str) -> String {
        let json = self.get(name);
        let slaves = json["slaves"].as_array().unwrap();
        assert_eq!(slaves.len(), 1, "{json}");
        slaves[0].as_str().unwrap().to_owned()
    }
}

/// A word of a command line, in single quotes.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
