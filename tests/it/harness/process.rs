//! Running programs: their output, signals and exit status.
//!
//! Every program has its own process group, which is killed with it. The end of its stderr pipe
//! proves that all of its processes have exited. A panic in any of them fails the test, and a
//! failing test prints all output.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{SOON, eventually, is_over_tls};

/// Time limit for a killed process group to close its stderr.
const LET_GO: Duration = Duration::from_secs(10);

/// Collects the output of a pipe.
#[derive(Clone, Default)]
pub struct Capture(Arc<(Mutex<Captured>, Condvar)>);

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    /// Reads `from` to its end on a new thread.
    pub fn of(mut from: impl Read + Send + 'static) -> Self {
        let capture = Self::default();
        let to = capture.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            loop {
                let n = from.read(&mut buffer).unwrap_or(0);
                let mut state = to.0.0.lock().unwrap();
                state.bytes.extend_from_slice(&buffer[..n]);
                state.ended = n == 0;
                to.0.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        capture
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// Returns whether all writers closed the pipe within the time.
    pub fn ends_within(&self, time: Duration) -> bool {
        let (state, changed) = &*self.0;
        let (state, _) =
            changed.wait_timeout_while(state.lock().unwrap(), time, |s| !s.ended).unwrap();
        state.ended
    }

    /// Waits until the output so far makes `probe` return a value.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        deadline: Duration,
        what: &str,
        mut probe: impl FnMut(&str) -> Option<T>,
    ) -> T {
        eventually(deadline, what, || probe(&self.text()))
    }
}

/// Describes how a program is started.
pub struct ProgramBuilder {
    command: Command,
    name: String,
    stdin: bool,
    /// Whether all connections are encrypted.
    encrypted: bool,
}

impl ProgramBuilder {
    /// Creates a builder for `ftpmaster`, `ftpslave` or `ftpclient` with its own home folder.
    pub fn new(program: &str, home: &Path) -> Self {
        let path = match program {
            "ftpmaster" => env!("CARGO_BIN_EXE_ftpmaster"),
            "ftpslave" => env!("CARGO_BIN_EXE_ftpslave"),
            "ftpclient" => env!("CARGO_BIN_EXE_ftpclient"),
            other => panic!("no program {other}"),
        };
        let mut setup = Self {
            command: Command::new(path),
            name: program.to_owned(),
            stdin: false,
            encrypted: is_over_tls(),
        };
        setup.environment(home);
        setup.command.process_group(0);
        setup
    }

    /// Creates a builder for a script or another program, with the same environment.
    pub fn of<S: AsRef<OsStr>>(words: &[S], home: &Path) -> Self {
        let (first, rest) = words.split_first().unwrap();
        let name = first.as_ref().to_string_lossy().into_owned();
        let mut setup = Self { command: Command::new(first), name, stdin: false, encrypted: false };
        setup.environment(home);
        setup.command.args(rest).process_group(0);
        setup
    }

    /// Makes the program the leader of a session with `stdin` as its controlling terminal.
    pub fn in_session(self, stdin: Stdio) -> Self {
        let mut setup = self.behind(&["setsid", "--ctty"]);
        setup.command.stdin(stdin);
        setup
    }

    /// Runs the program in a session without a terminal.
    pub fn without_terminal(self) -> Self {
        self.behind(&["setsid"])
    }

    /// Prefixes the command line with a program that executes the rest; no words mean no prefix.
    pub fn under<S: AsRef<OsStr>>(self, words: &[S]) -> Self {
        let mut setup = self.behind(words);
        setup.command.process_group(0);
        setup
    }

    fn behind<S: AsRef<OsStr>>(self, words: &[S]) -> Self {
        let Some((first, rest)) = words.split_first() else { return self };
        let mut command = Command::new(first);
        command
            .args(rest)
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .stdin(Stdio::null());
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        for (key, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        Self { command, name: self.name, stdin: self.stdin, encrypted: self.encrypted }
    }

    fn environment(&mut self, home: &Path) {
        self.command
            .current_dir(home)
            .env("HOME", home)
            .env("XDG_STATE_HOME", home.join("state"))
            .env("RUST_BACKTRACE", "1")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("STATE_DIRECTORY")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        if self.name != "ftpclient" {
            self.command.env("RUST_LOG", "debug");
        }
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Keeps standard input open for [`Program::type_in`].
    pub fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self.command.stdin(Stdio::piped());
        self
    }

    /// Redirects standard output; by default the test reads it.
    pub fn stdout(mut self, to: Stdio) -> Self {
        self.command.stdout(to);
        self.name.push_str(" (stdout elsewhere)");
        self
    }

    pub fn start(mut self) -> Program {
        // `ftpmaster user` connects to no master.
        let has_no_connection = self.name.starts_with("ftpmaster")
            && self.command.get_args().any(|word| word == "user");
        if self.encrypted && !has_no_connection {
            self.command.args(["--tls", "always"]);
        }
        let elsewhere = self.name.ends_with(')');
        if !elsewhere {
            self.command.stdout(Stdio::piped());
        }
        let mut child = self.command.stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map_or_else(Capture::default, Capture::of);
        let stderr = Capture::of(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        let line = format!("{:?}", self.command);
        Program { name: self.name, line, child, stdin, stdout, stderr, status: None }
    }
}

/// A started program.
pub struct Program {
    name: String,
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Capture,
    pub stderr: Capture,
    status: Option<i32>,
}

impl Program {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits for the ready line and returns the address in it.
    #[track_caller]
    pub fn ready(&mut self) -> std::net::SocketAddr {
        let began = Instant::now();
        let line = loop {
            let text = self.stdout.text();
            if let Some((line, _)) = text.split_once('\n') {
                break line.to_owned();
            }
            assert!(self.try_status().is_none(), "{} ended before it was ready", self.line);
            assert!(began.elapsed() < SOON, "{} was not ready in time", self.line);
            std::thread::sleep(Duration::from_millis(5));
        };
        let field = |key: &str| {
            line.split(' ')
                .find_map(|f| f.strip_prefix(key))
                .unwrap_or_else(|| panic!("no {key} in {line:?}"))
        };
        assert!(line.starts_with("ready role="), "{line:?}");
        assert_eq!(field("pid="), self.child.id().to_string(), "{line:?}");
        field("addr=").parse().unwrap()
    }

    /// Writes to standard input.
    pub fn type_in(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to the main process only.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Sends a signal to the whole process group.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.pid(), signal).unwrap();
    }

    /// Returns the exit status, or 128 plus the signal, if the program has exited.
    pub fn try_status(&mut self) -> Option<i32> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .unwrap()
                .map(|s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap()));
        }
        self.status
    }

    /// Waits until the main process exits.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> i32 {
        let line = self.line.clone();
        eventually(deadline, &format!("the end of {line}"), || self.try_status())
    }

    /// Sends a signal, waits for the exit and requires that no process is left.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        let status = self.wait(SOON);
        assert!(self.stderr.ends_within(LET_GO), "a process of {} outlived it", self.line);
        status
    }

    /// Kills the whole process group at once, as a power failure would.
    #[track_caller]
    pub fn kill(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        self.wait(SOON);
        assert!(self.stderr.ends_within(LET_GO), "a process of {} outlived it", self.line);
    }

    fn print(&self) {
        eprintln!(
            "--- {} ({}) status {:?}\n{}",
            self.name,
            self.child.id(),
            self.status,
            self.line
        );
        eprintln!(
            "--- its stdout\n{}--- its stderr\n{}",
            tail(&self.stdout.text()),
            tail(&self.stderr.text())
        );
    }
}

/// Returns the last part of a long text, so that the logs of a failing test stay readable.
fn tail(text: &str) -> &str {
    if std::env::var_os("RELAIS_TEST_WHOLE_LOGS").is_some() {
        return text;
    }
    const MOST: usize = 40_000;
    let mut start = text.len().saturating_sub(MOST);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        if self.try_status().is_none() {
            let _ = self.child.wait();
        }
        let let_go = self.stderr.ends_within(LET_GO);
        let panicked = self.stderr.text().contains("panicked at");
        if std::thread::panicking() {
            self.print();
            return;
        }
        if panicked || !let_go {
            self.print();
        }
        assert!(let_go, "a process of {} left its group and survived it", self.line);
        assert!(!panicked, "{} panicked", self.line);
    }
}
