//! Ctrl-C: a flag that everything long looks at, and a socket to wake whoever reads from it.
//!
//! The handler runs in a thread of its own while the main thread may be blocked in a read; it
//! shuts the socket down, so that the read returns. Nothing here ends the process: the caller
//! of [`Interrupt::raise`] is told whether to.

use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use relais_net::Socket;

/// Presses in one command after which the program no longer waits for it to end well.
const MAX_PRESSES: u32 = 3;

/// What the main thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// It runs a command.
    #[default]
    Command,
    /// It waits for the next line at the prompt, which sees Ctrl-C itself.
    Prompt,
    /// It waits for the next line from a pipe or a file.
    Input,
    /// It waits for a program of the user's, which sees Ctrl-C itself.
    Child,
}

#[derive(Debug, Default)]
struct InterruptState {
    activity: Activity,
    presses: u32,
    socket: Option<Arc<Socket>>,
}

/// Shared between the main thread and the handler of Ctrl-C.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<(Mutex<InterruptState>, Condvar)>);

impl Interrupt {
    /// Nothing is interrupted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ctrl-C was pressed. True where the process should end at once: nothing runs that
    /// could end well, or it was pressed again and again.
    #[must_use]
    pub fn raise(&self) -> bool {
        let mut state = self.state();
        state.presses = state.presses.saturating_add(1);
        if let Some(socket) = state.socket.take() {
            // It may be closed already; then there is nothing to wake.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.0.1.notify_all();
        match state.activity {
            Activity::Command => state.presses >= MAX_PRESSES,
            Activity::Prompt | Activity::Child => false,
            Activity::Input => true,
        }
    }

    /// What the main thread does from here on; a new command begins with no press counted.
    pub fn enter(&self, activity: Activity) {
        let mut state = self.state();
        state.activity = activity;
        state.presses = 0;
    }

    /// Whether Ctrl-C was pressed since the command began.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.state().presses > 0
    }

    /// The socket that the main thread is about to read from.
    pub fn watch(&self, socket: &Arc<Socket>) {
        let mut state = self.state();
        if state.presses > 0 {
            // Pressed while the connection was made: the first read must not wait.
            let _ = socket.shutdown(Shutdown::Both);
        }
        state.socket = Some(Arc::clone(socket));
    }

    /// The socket is given up.
    pub fn unwatch(&self) {
        self.state().socket = None;
    }

    /// Waits, at most until Ctrl-C is pressed; true where it was.
    #[must_use]
    pub fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        while state.presses == 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// A panic elsewhere leaves these few fields whole, so the lock is usable after it.
    fn state(&self) -> MutexGuard<'_, InterruptState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_press_ends_a_pause_and_wakes_a_reader() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(Socket::from(
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
        ));
        let interrupt = Interrupt::new();
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
    fn a_press_before_the_connection_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let interrupt = Interrupt::new();
        assert!(!interrupt.raise());
        let stream = Arc::new(Socket::from(
            std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
        ));
        interrupt.watch(&stream);
        assert_eq!((&*stream).read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn it_ends_the_process_only_where_nothing_else_can() {
        let interrupt = Interrupt::new();
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
