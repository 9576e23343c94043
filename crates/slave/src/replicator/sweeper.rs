//! The sweeper thread: deletes removed files and old staged files, and recounts unfinished uploads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use log::warn;
use relais_proto::ChangeId;
use relais_storage::{CatalogReader, Staging};

use crate::scoreboard::Scoreboard;
use crate::thread::OwnedThread;

/// Interval between two sweeps of staged files.
pub const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// The sweeper thread. It runs at the start, when it is woken, and in intervals.
#[derive(Debug)]
pub struct Sweeper {
    wake_sender: SyncSender<()>,
    stop: Arc<AtomicBool>,
    _thread: OwnedThread,
}

impl Sweeper {
    /// Starts the thread. It ends when `stop` is set or the sweeper is dropped.
    ///
    /// # Errors
    /// Returns the error of starting the thread.
    pub fn start(
        staging: Staging,
        mut reader: CatalogReader,
        scoreboard: Arc<Scoreboard>,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let (wake_sender, wake_receiver) = sync_channel(1);
        let flag = stop.clone();
        let work = move || {
            let stopped = || flag.load(Ordering::Relaxed);
            let mut listed: Option<Instant> = None;
            while !stopped() {
                staging.sweep_removed(scoreboard.progress.applied(), &stopped);
                if listed.is_none_or(|listed| listed.elapsed() >= SWEEP_EVERY) {
                    let unfinished = staging.sweep_staged(|id| is_committed(&mut reader, id));
                    scoreboard.uploads.reconcile(unfinished, &staging);
                    listed = Some(Instant::now());
                }
                if matches!(
                    wake_receiver.recv_timeout(SWEEP_EVERY),
                    Err(RecvTimeoutError::Disconnected)
                ) {
                    return;
                }
            }
        };
        Ok(Self { wake_sender, stop, _thread: OwnedThread::spawn("sweeper", work)? })
    }

    /// Wakes the sweeper, unless a wake-up is pending.
    ///
    /// # Panics
    /// Panics if the thread has panicked. The catalogue writer then ends too, and its successor
    /// starts another sweeper.
    pub fn wake(&self) {
        let gone = matches!(self.wake_sender.try_send(()), Err(TrySendError::Disconnected(())));
        assert!(!gone || self.stop.load(Ordering::Relaxed), "the sweeping thread has ended");
    }
}

/// Returns whether the catalogue has the change. Without an answer its upload is kept.
fn is_committed(reader: &mut CatalogReader, id: ChangeId) -> bool {
    reader.ask(|store| Ok(store.commit_of(id)?.is_some())).unwrap_or_else(|e| {
        warn!("cannot ask the catalogue about an unfinished upload: {e}");
        false
    })
}
