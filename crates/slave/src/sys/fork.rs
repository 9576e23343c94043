//! Fork, for the supervisor alone, while it has one thread.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// Exit status of a child that panicked; Rust uses the same.
const PANICKED: i32 = 101;

/// Forks a child that runs `body` and exits with its result.
///
/// The child dies with its parent, whatever kills the parent.
///
/// # Errors
/// [`io::ErrorKind::Other`] if this process has a second thread, or fork's error.
pub fn spawn(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    if count_threads()? != 1 {
        return Err(io::Error::other("only a process with a single thread may fork"));
    }
    // Buffered output would otherwise be written twice.
    io::stdout().flush()?;
    io::stderr().flush()?;
    let parent = getpid();
    // SAFETY: this process has one thread, as checked above. So no other thread holds a lock, and
    // all state that the child inherits is consistent.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status =
                catch_unwind(AssertUnwindSafe(|| if bind_to(parent) { body() } else { 0 }))
                    .unwrap_or(PANICKED);
            // SAFETY: `_exit` ends the process without running the parent's exit handlers or
            // destructors, which is what a forked child must do.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Makes this process die with `parent`; false if `parent` is gone already.
fn bind_to(parent: Pid) -> bool {
    if let Err(e) = prctl::set_pdeathsig(Signal::SIGKILL) {
        log::error!("cannot bind a child to its parent: {e}");
        return false;
    }
    getppid() == parent
}

/// Counts the threads of this process.
fn count_threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
