//! Traces the system calls of running programs, or makes them fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::Capture;
use super::{SOON, TestDir, eventually};

/// `strace` attached to running processes, with all their threads and children.
pub struct Strace {
    child: Child,
    stderr: Capture,
    output: PathBuf,
    _dir: TestDir,
}

impl Strace {
    /// Attaches `strace`; it sees every call after this returns. `args` are options of `strace`,
    /// such as `-e inject=fsync:error=EIO`.
    #[track_caller]
    pub fn attach(pids: &[Pid], args: &[&str]) -> Self {
        let dir = TestDir::new();
        let output = dir.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-yy", "-xx", "-s", "1000000", "-o"]).arg(&output).args(args);
        pids.iter().for_each(|pid| {
            command.args(["-p", &pid.to_string()]);
        });
        command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("strace is needed for this test: {e}"));
        let stderr = Capture::of(child.stderr.take().unwrap());
        eventually(SOON, &format!("strace is attached to {pids:?}"), || {
            let text = stderr.text();
            assert!(child.try_wait().unwrap().is_none(), "strace exited: {text}");
            pids.iter().all(|pid| text.contains(&format!("Process {pid} attached"))).then_some(())
        });
        Self { child, stderr, output, _dir: dir }
    }

    /// Returns how often `text` is in the trace by now.
    pub fn count(&self, text: &str) -> usize {
        fs::read_to_string(&self.output).unwrap().matches(text).count()
    }

    /// Detaches `strace` and returns the traced calls.
    #[track_caller]
    pub fn end(mut self) -> Vec<Call> {
        self.detach();
        parse(&fs::read_to_string(&self.output).unwrap())
    }

    fn detach(&mut self) {
        // `strace` detaches from every thread and then exits.
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.detach();
        if std::thread::panicking() {
            let trace = fs::read_to_string(&self.output).unwrap_or_default();
            let lines: Vec<String> = trace.lines().map(shortened).collect();
            let from = lines.len().saturating_sub(200);
            eprintln!(
                "--- strace\n{}--- its trace\n{}",
                self.stderr.text(),
                lines[from..].join("\n")
            );
        }
    }
}

/// Returns a line without the middle of a long buffer.
fn shortened(line: &str) -> String {
    if line.len() <= 400 {
        line.to_owned()
    } else {
        format!("{}…{}", &line[..300], &line[line.len() - 60..])
    }
}

/// A system call; `begin` and `end` are line numbers of the trace.
#[derive(Clone)]
pub struct Call {
    pub pid: i32,
    pub name: String,
    /// The arguments and the result, as `strace` prints them.
    pub text: String,
    pub begin: usize,
    pub end: usize,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "[{}-{}] {} {}{}",
            self.begin,
            self.end,
            self.pid,
            self.name,
            shortened(&self.text)
        )
    }
}

impl Call {
    /// Returns whether the call succeeded.
    pub fn ok(&self) -> bool {
        self.text
            .rsplit_once(" = ")
            .is_some_and(|(_, result)| !result.starts_with('-') && !result.starts_with('?'))
    }

    /// Returns whether one of its descriptors or paths is this file.
    pub fn is_on(&self, path: &Path) -> bool {
        self.text.contains(&format!("<{}>", hex(path)))
            || self.text.contains(&format!("<{}>", path.display()))
            || self.text.contains(&format!("\"{}\"", hex(path)))
    }

    /// Returns whether one of its descriptors is this folder or a file below it.
    pub fn is_below(&self, folder: &Path) -> bool {
        self.text.contains(&format!("<{}", folder.display()))
            || self.text.contains(&format!("<{}", hex(folder)))
    }

    /// Returns the bytes of its buffers, concatenated.
    pub fn bytes(&self) -> Vec<u8> {
        self.text.split('"').skip(1).step_by(2).flat_map(unhex).collect()
    }

    /// Returns the path of its first descriptor.
    pub fn path(&self) -> PathBuf {
        let shown = self
            .text
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map_or("", |(path, _)| path);
        if shown.starts_with("\\x") {
            String::from_utf8(unhex(shown)).unwrap().into()
        } else {
            shown.into()
        }
    }

    /// Returns whether one of its paths ends in this name.
    pub fn names(&self, name: &str) -> bool {
        self.text
            .split('"')
            .skip(1)
            .step_by(2)
            .any(|quoted| quoted.ends_with(&hex(Path::new(name))))
    }
}

/// Decodes a string that `-xx` printed.
fn unhex(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|pair| u8::from_str_radix(&pair[..2], 16).unwrap()).collect()
}

/// Encodes a path as `-xx` prints it.
fn hex(path: &Path) -> String {
    path.as_os_str().as_encoded_bytes().iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

fn parse(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((pid, rest)) = line.trim_start().split_once(' ') else { continue };
        let (Ok(pid), rest) = (pid.parse(), rest.trim_start()) else { continue };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((name, tail)) = resumed.split_once(" resumed>") else { continue };
            let open = calls
                .iter_mut()
                .rev()
                .find(|call| call.pid == pid && call.name == name && call.end == usize::MAX);
            // The call began before `strace` was attached.
            let Some(call) = open else { continue };
            call.text.push_str(tail);
            call.end = at;
        } else if let Some((name, text)) = rest.split_once('(') {
            let unfinished = text.strip_suffix(" <unfinished ...>");
            let end = if unfinished.is_some() { usize::MAX } else { at };
            calls.push(Call {
                pid,
                name: name.to_owned(),
                text: unfinished.unwrap_or(text).to_owned(),
                begin: at,
                end,
            });
        }
    }
    calls
}
