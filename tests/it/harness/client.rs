//! `ftpclient` with its own local folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Program, ProgramBuilder, Pty, TestDir};

/// Time limit of a client run; far above all of the client's own deadlines.
const LONGEST: Duration = Duration::from_secs(90);

/// Server and folders of a client that a test runs, any number of times.
pub struct Client {
    server: String,
    dir: TestDir,
}

/// Exit status and output of a client run.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Parses the objects that `--json` printed.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?} in {self:?}"))
            })
            .collect()
    }

    /// Returns the only object that `--json` printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.remove(0)
    }

    /// Requires exit status 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// Requires this exit status.
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

    /// Returns the local folder.
    pub fn folder(&self) -> PathBuf {
        self.dir.folder("local")
    }

    /// Returns the client's home folder, which is also its working directory.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// Reads a local file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.folder().join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn setup(&self, args: &[&str]) -> ProgramBuilder {
        let folder = self.folder();
        ProgramBuilder::new("ftpclient", self.home())
            .args([self.server.as_str(), "-d"])
            .args([folder])
            .args(args)
    }

    /// Starts the client and does not wait for it.
    pub fn start(&self, args: &[&str]) -> Program {
        self.setup(args).start()
    }

    /// Runs the client to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        Self::finish(&mut self.start(args))
    }

    /// Waits until a started client exits.
    #[track_caller]
    pub fn finish(program: &mut Program) -> Output {
        let status = program.wait(LONGEST);
        assert!(
            program.stdout.ends_within(LONGEST) && program.stderr.ends_within(LONGEST),
            "the client's output was kept open"
        );
        Output { status, stdout: program.stdout.text(), stderr: program.stderr.text() }
    }

    /// Starts a prompt, which resumes unfinished transfers, and leaves it. Returns its stderr.
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

    /// Downloads a file, requires success and returns the printed object.
    #[track_caller]
    pub fn get(&self, name: &str) -> Value {
        let json = self.command(&format!("get {}", quote(name))).ok().json();
        assert_eq!(json["ok"], true, "{json}");
        assert_eq!(json["verified"], true, "{json}");
        json
    }

    /// Downloads a file and returns the address of the slave that served it.
    #[track_caller]
    pub fn serving_slave(&self, name: &str) -> String {
        let json = self.get(name);
        let slaves = json["slaves"].as_array().unwrap();
        assert_eq!(slaves.len(), 1, "{json}");
        slaves[0].as_str().unwrap().to_owned()
    }
}

/// Quotes a word of a command line with single quotes.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
