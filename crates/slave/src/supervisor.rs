//! The supervisor: forks workers and replicator, replaces those that die, and ends them all.
//!
//! It has one thread and opens no database and no connection. It blocks signals and reads them from
//! a descriptor. Its children keep the signals blocked and are ended through their control sockets.
//! So a terminal that signals the whole group cannot end them out of order.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};

use crate::context::SlaveContext;
use crate::listeners::Listeners;
use crate::poll::wait_for;
use crate::secrets::CHECK_INTERVAL;
use crate::sys::fork;

/// A child that lived shorter than this counts as failed at its start.
const SHORT_LIFETIME: Duration = Duration::from_secs(5);
/// Pause before a child that keeps dying is restarted; doubled each time.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a restart.
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(30);

/// Exit status of a child that must not be restarted: the whole slave ends.
pub const EXIT_FATAL: i32 = 70;
/// Exit status of a child that has given up this slave's ids: the whole slave restarts.
pub const EXIT_IDS_REPLACED: i32 = 71;

/// The task of a child process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Run the worker with this index.
    Worker(usize),
    /// Run the replicator.
    Replicator,
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Worker(index) => write!(f, "worker {index}"),
            Self::Replicator => f.write_str("the replicator"),
        }
    }
}

/// Tells how a child ended, such as `worker 0 (pid 25462) exited with status 1`.
fn describe_end(task: Task, status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(pid, code) => format!("{task} (pid {pid}) exited with status {code}"),
        WaitStatus::Signaled(pid, signal, core) => {
            let core = if core { ", core dumped" } else { "" };
            format!("{task} (pid {pid}) was killed by {signal}{core}")
        }
        other => format!("{task} ended: {other:?}"),
    }
}

/// A child process that is alive, will be started, or has ended.
#[derive(Debug)]
struct Child {
    task: Task,
    state: ChildState,
    /// Deaths in a row that count as failures at the start.
    failures: u32,
}

#[derive(Debug)]
enum ChildState {
    Alive {
        pid: Pid,
        since: Instant,
        control: OwnedFd,
    },
    Due(Instant),
    /// Ended on purpose.
    Ended,
}

/// What the supervisor runs in a forked child; it returns the exit status.
///
/// It gets the task, the shared listeners and the control socket.
pub type ChildMain<'a> = dyn Fn(Task, Listeners, OwnedFd) -> i32 + 'a;

/// Runs the pool of child processes until a signal ends it.
pub struct Supervisor<'a> {
    context: &'a SlaveContext,
    listeners: Option<Listeners>,
    children: Vec<Child>,
    signals: SignalFd,
    child_main: &'a ChildMain<'a>,
    /// Whether SIGHUP stops the slave, instead of reloading files.
    stops_on_hangup: bool,
    /// The result of the slave that is being stopped; none if it is not.
    result: Option<io::Result<ExitReason>>,
    /// When the children that are still alive are killed.
    deadline: Option<Instant>,
}

/// The reason why a slave has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// A signal has stopped it.
    Stopped,
    /// It has to restart with other ids, because its folder is a copy of another slave's.
    IdsReplaced,
}

/// Returns the signals that the supervisor reads from a descriptor.
fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGUSR1]
        .into_iter()
        .collect()
}

/// Blocks the supervisor's signals, so that early ones stay pending until it reads them.
///
/// Call it before anything else, and before any thread starts.
///
/// # Errors
/// Those of the system call.
pub fn block_signals() -> io::Result<()> {
    Ok(signals().thread_block()?)
}

impl<'a> Supervisor<'a> {
    /// Makes a supervisor, whose pool [`Self::run`] starts. Signals must be blocked already.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(
        context: &'a SlaveContext,
        listeners: Listeners,
        stops_on_hangup: bool,
        child_main: &'a ChildMain<'a>,
    ) -> io::Result<Self> {
        let signals =
            SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let now = Instant::now();
        let child = |task| Child { task, state: ChildState::Due(now), failures: 0 };
        let workers = (0..context.config.workers).map(Task::Worker);
        Ok(Self {
            context,
            listeners: Some(listeners),
            children: std::iter::once(Task::Replicator).chain(workers).map(child).collect(),
            signals,
            child_main,
            stops_on_hangup,
            result: None,
            deadline: None,
        })
    }

    /// Runs until all children have ended.
    ///
    /// # Errors
    /// Those of the supervisor's own system calls; its children die with it.
    pub fn run(mut self) -> io::Result<ExitReason> {
        loop {
            self.context.check_secrets();
            self.start_due();
            self.wait()?;
            for _ in 0..self.read_signals()? {
                if self.result.is_some() {
                    self.kill_all();
                } else {
                    info!(
                        "stopping; transfers have {} s to end",
                        self.context.config.grace.as_secs()
                    );
                    self.stop(Ok(ExitReason::Stopped));
                }
            }
            self.reap()?;
            let has_ended = |child: &Child| matches!(child.state, ChildState::Ended);
            if let Some(result) = self.result.take_if(|_| self.children.iter().all(has_ended)) {
                return result;
            }
            if self.deadline.is_some_and(|at| at <= Instant::now()) {
                self.deadline = None;
                self.kill_all();
            }
        }
    }

    fn start_due(&mut self) {
        for index in 0..self.children.len() {
            if matches!(self.children[index].state, ChildState::Due(at) if at <= Instant::now()) {
                self.start(index);
            }
        }
    }

    fn start(&mut self, index: usize) {
        let task = self.children[index].task;
        let Some(listeners) = &self.listeners else { return };
        let sockets = listeners.try_clone().and_then(|listeners| {
            let (ours, theirs) = UnixStream::pair()?;
            Ok((listeners, (OwnedFd::from(ours), OwnedFd::from(theirs))))
        });
        let (listeners, (ours, theirs)) = match sockets {
            Ok(sockets) => sockets,
            // The resource may be free again later; the other children keep running meanwhile.
            Err(e) => return self.restart_later(index, &e),
        };
        if let Task::Worker(worker) = task {
            self.context.scoreboard.clear(worker);
        }
        let mut control = Some(ours);
        let spawned = fork::spawn(|| {
            // Drop the sockets of the supervisor and of other children: a control socket must
            // report its end when the supervisor is gone.
            (control, self.listeners) = (None, None);
            self.children.clear();
            (self.child_main)(task, listeners, theirs)
        });
        match (spawned, control) {
            (Ok(pid), Some(control)) => {
                debug!("{task:?} runs as process {pid}");
                self.children[index].state =
                    ChildState::Alive { pid, since: Instant::now(), control };
            }
            (Ok(_), None) => {}
            (Err(e), _) => self.restart_later(index, &e),
        }
    }

    fn restart_later(&mut self, index: usize, why: &dyn std::fmt::Display) {
        error!("{} cannot be started now, will be retried: {why}", self.children[index].task);
        let child = &mut self.children[index];
        child.failures += 1;
        let pause =
            RESTART_PAUSE.saturating_mul(1 << child.failures.min(16)).min(MAX_RESTART_PAUSE);
        child.state = ChildState::Due(Instant::now() + pause);
    }

    /// Waits for a signal, a restart or a deadline.
    fn wait(&self) -> io::Result<()> {
        let due = self.children.iter().filter_map(|child| match child.state {
            ChildState::Due(at) => Some(at),
            _ => None,
        });
        let timeout =
            due.chain(self.deadline).min().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(|t| t + Duration::from_millis(1));
        let timeout = timeout.map_or(CHECK_INTERVAL, |timeout| timeout.min(CHECK_INTERVAL));
        wait_for(&mut [PollFd::new(&self.signals, PollFlags::IN)], Some(timeout)).map(drop)
    }

    /// Handles the signals that came; returns how many of them ask the slave to stop.
    fn read_signals(&mut self) -> io::Result<usize> {
        let mut stops = 0;
        while let Some(info) = self.signals.read_signal()? {
            match info.ssi_signo.cast_signed() {
                signal if signal == Signal::SIGCHLD as i32 => {}
                signal if signal == Signal::SIGUSR1 as i32 => self.context.reopen_log(),
                signal if signal == Signal::SIGHUP as i32 && !self.stops_on_hangup => {
                    self.context.reload()
                }
                _ => stops += 1,
            }
        }
        Ok(stops)
    }

    /// Tells all children to end; none is restarted.
    fn stop(&mut self, result: io::Result<ExitReason>) {
        self.result = Some(result);
        self.deadline = Some(Instant::now() + self.context.config.grace);
        self.listeners = None;
        for child in &mut self.children {
            match &child.state {
                ChildState::Alive { control, .. } => {
                    if let Err(e) =
                        rustix::net::send(control, b"e", rustix::net::SendFlags::NOSIGNAL)
                    {
                        debug!("{:?} cannot be told to end: {e}", child.task);
                    }
                }
                ChildState::Due(_) => child.state = ChildState::Ended,
                ChildState::Ended => {}
            }
        }
    }

    fn kill_all(&self) {
        for child in &self.children {
            if let ChildState::Alive { pid, .. } = child.state {
                warn!("{} did not end in time and is killed", child.task);
                if let Err(e) = kill(pid, Signal::SIGKILL) {
                    error!("{} cannot be killed: {e}", child.task);
                }
            }
        }
    }

    /// Collects the children that have ended.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let Some(pid) = status.pid() else { continue };
            let found = self.children.iter().position(
                |child| matches!(child.state, ChildState::Alive { pid: p, .. } if p == pid),
            );
            match found {
                Some(index) => self.ended(index, status),
                None => debug!("process {pid} ended, which is no child of this slave"),
            }
        }
    }

    fn ended(&mut self, index: usize, status: WaitStatus) {
        let child = &mut self.children[index];
        if let Task::Worker(worker) = child.task {
            self.context.scoreboard.clear(worker);
        }
        let lived = match std::mem::replace(&mut child.state, ChildState::Ended) {
            ChildState::Alive { since, .. } => since.elapsed(),
            _ => Duration::ZERO,
        };
        match status {
            _ if self.result.is_some() => return,
            WaitStatus::Exited(_, EXIT_FATAL) => {
                let why = "a process of the slave has failed for good; see the log";
                return self.stop(Err(io::Error::other(why)));
            }
            WaitStatus::Exited(_, EXIT_IDS_REPLACED) => {
                return self.stop(Ok(ExitReason::IdsReplaced));
            }
            _ => error!("{}; a new one starts", describe_end(child.task, status)),
        }
        if lived < SHORT_LIFETIME && child.failures > 0 {
            self.restart_later(index, &"it keeps ending");
        } else {
            // The first death may be an accident, so the child is replaced at once.
            child.failures = u32::from(lived < SHORT_LIFETIME);
            child.state = ChildState::Due(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn ends_are_described_in_words() {
        let pid = Pid::from_raw(25_462);
        let end = describe_end(Task::Worker(0), WaitStatus::Exited(pid, 1));
        assert_eq!(end, "worker 0 (pid 25462) exited with status 1");
        let killed = WaitStatus::Signaled(pid, Signal::SIGKILL, false);
        let end = describe_end(Task::Replicator, killed);
        assert_eq!(end, "the replicator (pid 25462) was killed by SIGKILL");
    }
}
