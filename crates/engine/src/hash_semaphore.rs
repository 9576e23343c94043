//! A fair semaphore for hashing. A worker hashes as many pieces at a time as it has cores, in turns
//! by user and session.

use std::io;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use relais_proto::FairQueue;

use crate::owner::Owner;

/// Interval between two checks that the client is still connected.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Limits the pieces that the sessions of a worker hash at the same time.
#[derive(Debug)]
pub struct HashSemaphore(Arc<Mutex<SemaphoreState>>);

#[derive(Debug)]
struct SemaphoreState {
    /// Free permits.
    free: usize,
    waiting: FairQueue<Owner, ThreadId, Arc<Waiter>>,
}

#[derive(Debug, Default)]
struct Waiter {
    granted: Mutex<bool>,
    came: Condvar,
}

/// Permit to hash one piece. Dropping it returns it.
#[derive(Debug)]
pub struct HashPermit(Arc<Mutex<SemaphoreState>>);

impl HashSemaphore {
    /// Creates a semaphore with `at_a_time` permits.
    #[must_use]
    pub fn new(at_a_time: usize) -> Self {
        // The queue needs no limit: each session waits for one permit at most, and sessions are
        // limited.
        let state = SemaphoreState { free: at_a_time.max(1), waiting: FairQueue::new(usize::MAX) };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Waits for a permit for the session of the calling thread.
    ///
    /// Calls `check_client` at intervals, and gives up at its first error.
    ///
    /// # Errors
    /// Returns the error of `check_client`.
    pub fn acquire(
        &self,
        owner: &Owner,
        check_client: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<HashPermit> {
        let waiter = Arc::new(Waiter::default());
        {
            let mut state = self.0.lock();
            if state.free > 0 && state.waiting.is_empty() {
                state.free -= 1;
                return Ok(HashPermit(self.0.clone()));
            }
            let own = std::thread::current().id();
            if state.waiting.push(owner.clone(), own, waiter.clone()).is_err() {
                return Err(io::Error::other("too many hash requests are queued"));
            }
            // A permit may have been returned while others were queued.
            state.grant();
        }
        loop {
            if waiter.wait() {
                return Ok(HashPermit(self.0.clone()));
            }
            if let Err(e) = check_client() {
                let mut state = self.0.lock();
                state.waiting.retain(|_, _, other| !Arc::ptr_eq(other, &waiter));
                if *waiter.granted.lock() {
                    state.free += 1;
                    state.grant();
                }
                return Err(e);
            }
        }
    }

    /// Returns the number of waiting sessions.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

impl Waiter {
    /// Waits for a moment. Returns whether the permit was granted.
    fn wait(&self) -> bool {
        let mut granted = self.granted.lock();
        self.came.wait_while_for(&mut granted, |granted| !*granted, CHECK_INTERVAL);
        *granted
    }
}

impl SemaphoreState {
    /// Grants free permits to the next sessions.
    fn grant(&mut self) {
        while self.free > 0
            && let Some((.., waiter)) = self.waiting.pop()
        {
            self.free -= 1;
            *waiter.granted.lock() = true;
            waiter.came.notify_one();
        }
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.free += 1;
        state.grant();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Instant;

    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::of(name, IpAddr::from([192, 0, 2, 1]))
    }

    fn wait_until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn single_piece_of_a_user_passes_the_flood_of_another() {
        let (semaphore, order) = (HashSemaphore::new(1), Mutex::new(Vec::new()));
        let held = semaphore.acquire(&owner("x"), &mut || Ok(())).unwrap();
        std::thread::scope(|scope| {
            let hash = |name: &'static str| {
                let permit = semaphore.acquire(&owner(name), &mut || Ok(())).unwrap();
                order.lock().push(name);
                drop(permit);
            };
            for n in 1..=50 {
                scope.spawn(move || hash("flood"));
                wait_until(|| semaphore.waiting() == n);
            }
            scope.spawn(move || hash("other"));
            wait_until(|| semaphore.waiting() == 51);
            drop(held);
        });
        let order = order.into_inner();
        assert_eq!(order.len(), 51);
        assert!(order.iter().position(|name| *name == "other").unwrap() <= 1, "{order:?}");
        assert_eq!((semaphore.waiting(), semaphore.0.lock().free), (0, 1));
    }

    #[test]
    fn request_of_a_disconnected_client_is_dropped() {
        let semaphore = HashSemaphore::new(1);
        let held = semaphore.acquire(&owner("ann"), &mut || Ok(())).unwrap();
        let gone = &mut || Err(io::ErrorKind::BrokenPipe.into());
        assert!(semaphore.acquire(&owner("ann"), gone).is_err());
        assert_eq!(semaphore.waiting(), 0);
        drop(held);
        drop(semaphore.acquire(&owner("ann"), &mut || Ok(())).unwrap());
        assert_eq!(semaphore.0.lock().free, 1);
    }
}
