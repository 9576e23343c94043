//! The supervisor: forks the workers and the replicator, replaces those that die, and ends them all.
//!
//! It has one thread and opens no database and no connection. Signals are blocked and read from
//! a descriptor; its children keep them blocked and are ended through their control
//! sockets, so that a terminal that signals the whole group cannot end them out of order.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::board::Board;
use crate::secrets::LOOK;
use crate::sys::fork;

/// A child that lived shorter than this has failed at its start.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// Pause before a child that keeps dying is started again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Exit status of a child that must not be started again: the whole slave ends.
pub const HOPELESS: i32 = 70;
/// Exit status of a child that has given up this slave's ids: the whole slave begins anew.
pub const RENAMED: i32 = 71;

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Worker number so and so.
    Worker(usize),
    /// The replicator.
    Replicator,
}

/// A child that lives, or shall be started at a time.
#[derive(Debug)]
struct Child {
    task: Task,
    life: Life,
    /// Deaths at the start in a row.
    failures: u32,
}

#[derive(Debug)]
enum Life {
    Alive {
        pid: Pid,
        since: Instant,
        control: OwnedFd,
    },
    Due(Instant),
    /// Ended on purpose.
    Over,
}

/// What the supervisor runs in a forked child; it is given the task, the shared listener,
/// and the control socket.
pub type Body<'a> = dyn Fn(Task, TcpListener, OwnedFd) -> i32 + 'a;

/// Runs the pool until a signal ends it.
pub struct Supervisor<'a> {
    listener: Option<TcpListener>,
    children: Vec<Child>,
    signals: SignalFd,
    board: Arc<Board>,
    body: &'a Body<'a>,
    /// What is done when the log was moved away.
    reopen: &'a dyn Fn(),
    /// What is done again and again, every [`LOOK`].
    tick: Option<&'a dyn Fn()>,
    /// What SIGHUP does where it does not stop the slave.
    reload: Option<&'a dyn Fn()>,
    stopping: bool,
    /// When those that still live are killed.
    deadline: Option<Instant>,
    grace: Duration,
    /// A child cannot do its work, and no new one could.
    hopeless: bool,
    renamed: bool,
}

/// How a slave has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It has to begin anew, with other ids: its folder turned out to be a copy of another one.
    Renamed,
}

/// The signals that the supervisor reads from a descriptor.
fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGUSR1]
        .into_iter()
        .collect()
}

/// Blocks the signals that the supervisor reads later, so that one that comes before is kept for it.
/// Call it before anything else, and before any thread starts.
///
/// # Errors
/// Those of the system call.
pub fn block_signals() -> io::Result<()> {
    Ok(signals().thread_block()?)
}

impl<'a> Supervisor<'a> {
    /// The pool is started by [`Self::run`]; `grace` is the time that transfers have at the end. Signals must be blocked already.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(
        listener: TcpListener,
        workers: usize,
        board: Arc<Board>,
        grace: Duration,
        body: &'a Body<'a>,
        reopen: &'a dyn Fn(),
        tick: Option<&'a dyn Fn()>,
    ) -> io::Result<Self> {
        let signals =
            SignalFd::with_flags(&signals(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let now = Instant::now();
        let child = |task| Child { task, life: Life::Due(now), failures: 0 };
        let children = std::iter::once(Task::Replicator)
            .chain((0..workers).map(Task::Worker))
            .map(child)
            .collect();
        Ok(Self {
            listener: Some(listener),
            children,
            signals,
            board,
            body,
            reopen,
            tick,
            reload: None,
            stopping: false,
            deadline: None,
            grace,
            hopeless: false,
            renamed: false,
        })
    }

    /// Has SIGHUP do this instead of stopping the slave.
    #[must_use]
    pub fn on_hangup(mut self, reload: Option<&'a dyn Fn()>) -> Self {
        self.reload = reload;
        self
    }

    /// Runs until all children have ended.
    ///
    /// # Errors
    /// Those of the supervisor's own system calls; its children die with it.
    pub fn run(mut self) -> io::Result<Ended> {
        loop {
            self.tick.iter().for_each(|tick| tick());
            self.start_due();
            self.wait()?;
            for _ in 0..self.read_signals()? {
                if self.stopping {
                    self.kill_all();
                } else {
                    info!("stopping; transfers may end for {} s", self.grace.as_secs());
                    self.renamed = false;
                    self.stop();
                }
            }
            self.reap()?;
            if self.stopping && self.children.iter().all(|child| matches!(child.life, Life::Over)) {
                return match (self.hopeless, self.renamed) {
                    (true, _) => {
                        Err(io::Error::other("the slave cannot do its work; the log says why"))
                    }
                    (false, true) => Ok(Ended::Renamed),
                    (false, false) => Ok(Ended::Stopped),
                };
            }
            if self.deadline.is_some_and(|at| at <= Instant::now()) {
                self.deadline = None;
                self.kill_all();
            }
        }
    }

    fn start_due(&mut self) {
        for index in 0..self.children.len() {
            if matches!(self.children[index].life, Life::Due(at) if at <= Instant::now()) {
                self.start(index);
            }
        }
    }

    fn start(&mut self, index: usize) {
        let task = self.children[index].task;
        let Some(listener) = &self.listener else { return };
        let sockets = listener.try_clone().and_then(|listener| {
            Ok((
                listener,
                socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?,
            ))
        });
        let (listener, (ours, theirs)) = match sockets {
            Ok(sockets) => sockets,
            // What is short now may be there later; the other children go on meanwhile.
            Err(e) => return self.put_off(index, &e),
        };
        if let Task::Worker(worker) = task {
            self.board.wipe(worker);
        }
        let body = self.body;
        let mut parents = Some((ours, std::mem::take(&mut self.children), self.listener.take()));
        let spawned = fork::spawn(|| {
            // What belongs to the supervisor or to a sister goes: only so does a control
            // socket tell when the supervisor is gone.
            drop(parents.take());
            body(task, listener, theirs)
        });
        let Some((ours, children, shared)) = parents else { return };
        (self.children, self.listener) = (children, shared);
        match spawned {
            Ok(pid) => {
                debug!("{task:?} runs as process {pid}");
                self.children[index].life =
                    Life::Alive { pid, since: Instant::now(), control: ours };
            }
            Err(e) => self.put_off(index, &e),
        }
    }

    fn put_off(&mut self, index: usize, why: &dyn std::fmt::Display) {
        error!("{:?} is not started now: {why}", self.children[index].task);
        let child = &mut self.children[index];
        child.failures += 1;
        let pause = PAUSE.saturating_mul(1 << child.failures.min(16)).min(LONGEST_PAUSE);
        child.life = Life::Due(Instant::now() + pause);
    }

    /// Waits for a signal or the next thing to do.
    fn wait(&self) -> io::Result<()> {
        let due = self.children.iter().filter_map(|child| match child.life {
            Life::Due(at) => Some(at),
            _ => None,
        });
        let timeout =
            due.chain(self.deadline).min().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.map(|t| t + Duration::from_millis(1));
        let timeout = timeout.into_iter().chain(self.tick.map(|_| LOOK)).min();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut [PollFd::new(&self.signals, PollFlags::IN)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// How many signals came that ask for the end.
    fn read_signals(&mut self) -> io::Result<usize> {
        let mut ends = 0;
        while let Some(info) = self.signals.read_signal()? {
            match info.ssi_signo.cast_signed() {
                signal if signal == Signal::SIGCHLD as i32 => {}
                signal if signal == Signal::SIGUSR1 as i32 => (self.reopen)(),
                signal if signal == Signal::SIGHUP as i32 => match self.reload {
                    Some(reload) => reload(),
                    None => ends += 1,
                },
                _ => ends += 1,
            }
        }
        Ok(ends)
    }

    /// Tells all children to end, and starts none again.
    fn stop(&mut self) {
        self.stopping = true;
        self.deadline = Some(Instant::now() + self.grace);
        self.listener = None;
        for child in &mut self.children {
            match &child.life {
                Life::Alive { control, .. } => {
                    if let Err(e) =
                        rustix::net::send(control, b"e", rustix::net::SendFlags::NOSIGNAL)
                    {
                        debug!("{:?} cannot be told to end: {e}", child.task);
                    }
                }
                Life::Due(_) => child.life = Life::Over,
                Life::Over => {}
            }
        }
    }

    fn kill_all(&self) {
        for child in &self.children {
            if let Life::Alive { pid, .. } = child.life {
                warn!("{:?} did not end in time and is killed", child.task);
                if let Err(e) = kill(pid, Signal::SIGKILL) {
                    error!("{:?} cannot be killed: {e}", child.task);
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
            let found = self
                .children
                .iter()
                .position(|child| matches!(child.life, Life::Alive { pid: p, .. } if p == pid));
            match found {
                Some(index) => self.ended(index, status),
                None => debug!("process {pid} ended and is none of ours"),
            }
        }
    }

    fn ended(&mut self, index: usize, status: WaitStatus) {
        let child = &mut self.children[index];
        if let Task::Worker(worker) = child.task {
            self.board.wipe(worker);
        }
        if self.stopping {
            child.life = Life::Over;
            return;
        }
        if matches!(status, WaitStatus::Exited(_, HOPELESS)) {
            child.life = Life::Over;
            self.hopeless = true;
            return self.stop();
        }
        if matches!(status, WaitStatus::Exited(_, RENAMED)) {
            child.life = Life::Over;
            self.renamed = true;
            return self.stop();
        }
        error!("{:?} ended ({status:?}) and is replaced", child.task);
        let lived = if let Life::Alive { since, .. } = child.life {
            since.elapsed()
        } else {
            Duration::ZERO
        };
        if lived < SHORT_LIFE && child.failures > 0 {
            self.put_off(index, &"it keeps ending");
        } else {
            // The first death may be an accident: it is replaced at once.
            child.failures = u32::from(lived < SHORT_LIFE);
            child.life = Life::Due(Instant::now());
        }
    }
}
