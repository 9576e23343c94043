//! What a data connection needs of its control connection: to hear of ABOR, STAT and its end.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::error::{DataError, Interruption};
use crate::poll::wait_for;

/// Longest wait before progress is checked again.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The control connection during a transfer.
pub trait ControlWatch {
    /// Returns the entry that wakes a wait when the control connection needs attention.
    fn poll_fd(&self) -> PollFd<'_>;

    /// Sends the replies that wait for others.
    ///
    /// # Errors
    /// As [`Self::attend`].
    fn flush(&mut self) -> Result<(), Interruption>;

    /// Handles what has come, without waiting; `moved` bytes were transferred so far.
    ///
    /// # Errors
    /// The reason why the transfer ends.
    fn attend(&mut self, moved: u64) -> Result<(), Interruption>;
}

/// Waits for a data descriptor at most until `until`, and attends to the control connection.
///
/// Returns whether the descriptor is ready. It returns once a second without, so that the caller
/// checks the throughput.
///
/// # Errors
/// The control connection's interruption, and errors of the system call.
pub fn wait_for_data(
    data: PollFd<'_>,
    control: &mut dyn ControlWatch,
    moved: u64,
    until: Instant,
) -> Result<bool, DataError> {
    control.flush()?;
    let left = until.saturating_duration_since(Instant::now()).min(LONGEST_WAIT);
    let mut fds = [data, control.poll_fd()];
    wait_for(&mut fds, Some(left)).map_err(DataError::Lost)?;
    let [data, of_control] = fds.map(|fd| fd.revents());
    if of_control != PollFlags::empty() {
        control.attend(moved)?;
    }
    Ok(data != PollFlags::empty())
}
