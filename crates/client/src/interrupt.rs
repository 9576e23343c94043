//! Ctrl-C: a flag that long operations check, and a stream that the handler shuts down.
//!
//! The handler runs in its own thread while the main thread may block in a read. Shutting the
//! stream down makes the read return. Nothing here ends the process: [`Interrupt::raise`] tells its
//! caller whether to.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use relais_net::Stream;

/// Presses during one command after which the program exits at once.
const MAX_PRESSES: u32 = 3;

/// The current activity of the main thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// A command runs.
    #[default]
    Command,
    /// The prompt waits for a line; the editor handles Ctrl-C.
    Prompt,
    /// The client waits for a line from a pipe or a file.
    Input,
    /// A local program runs, which gets Ctrl-C itself.
    Child,
}

#[derive(Debug, Default)]
struct InterruptState {
    activity: Activity,
    presses: u32,
    stream: Option<Arc<Stream>>,
}

/// State shared between the main thread and the Ctrl-C handler.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<(Mutex<InterruptState>, Condvar)>);

impl Interrupt {
    /// Records a press of Ctrl-C; returns true if the process should exit at once.
    ///
    /// That is so if no running operation can end cleanly, or after `MAX_PRESSES`.
    #[must_use]
    pub fn raise(&self) -> bool {
        let mut state = self.0.0.lock();
        state.presses = state.presses.saturating_add(1);
        if let Some(stream) = state.stream.take() {
            // The stream may be closed already; then no read is blocked.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.0.1.notify_all();
        match state.activity {
            Activity::Command => state.presses >= MAX_PRESSES,
            Activity::Prompt | Activity::Child => false,
            Activity::Input => true,
        }
    }

    /// Sets the activity of the main thread and resets the presses.
    pub fn enter(&self, activity: Activity) {
        let mut state = self.0.0.lock();
        state.activity = activity;
        state.presses = 0;
    }

    /// Whether Ctrl-C was pressed since the activity began.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.0.lock().presses > 0
    }

    /// Registers the stream that the main thread is about to read from.
    pub fn watch(&self, stream: &Arc<Stream>) {
        let mut state = self.0.0.lock();
        if state.presses > 0 {
            // Ctrl-C came while the connection was being made: the first read must not block.
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.stream = Some(Arc::clone(stream));
    }

    /// Unregisters the stream.
    pub fn unwatch(&self) {
        self.0.0.lock().stream = None;
    }

    /// Waits for `time` or until Ctrl-C is pressed; returns true if it was.
    #[must_use]
    pub fn pause(&self, time: Duration) -> bool {
        let mut state = self.0.0.lock();
        self.0.1.wait_while_for(&mut state, |state| state.presses == 0, time);
        state.presses > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn ctrl_c_ends_a_pause_and_a_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Arc::new(Stream::tcp(tcp).unwrap());
        let interrupt = Interrupt::default();
        interrupt.enter(Activity::Command);
        interrupt.watch(&stream);
        assert!(!interrupt.pause(Duration::from_millis(1)));
        let handler = interrupt.clone();
        let thread = std::thread::spawn(move || handler.raise());
        assert_eq!((&*stream).read(&mut [0; 1]).unwrap(), 0);
        assert!(!thread.join().unwrap());
        assert!(interrupt.pause(Duration::from_secs(60)) && interrupt.is_raised());
        interrupt.enter(Activity::Command);
        assert!(!interrupt.is_raised());
    }

    #[test]
    fn ctrl_c_before_the_connection_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let interrupt = Interrupt::default();
        assert!(!interrupt.raise());
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Arc::new(Stream::tcp(tcp).unwrap());
        interrupt.watch(&stream);
        assert_eq!((&*stream).read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn ctrl_c_exits_only_when_idle_or_repeated() {
        let interrupt = Interrupt::default();
        interrupt.enter(Activity::Prompt);
        assert!(!interrupt.raise());
        interrupt.enter(Activity::Child);
        assert!(!interrupt.raise() && !interrupt.raise() && !interrupt.raise());
        interrupt.enter(Activity::Input);
        assert!(interrupt.raise());
        interrupt.enter(Activity::Command);
        assert!(!interrupt.raise() && !interrupt.raise() && interrupt.raise());
    }
}
