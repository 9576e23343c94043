//! The SHA-256 hashes that a worker computes now, so that all requests for a file share one
//! computation. It computes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use relais_proto::{ContentHashes, Refusal};
use relais_storage::FileIdentity;

/// Most contents that a worker hashes at the same time.
const MOST_AT_A_TIME: usize = 4;

/// The computations of a worker, by the file that each reads.
#[derive(Default)]
pub(crate) struct Computations(Mutex<HashMap<FileIdentity, Arc<Computation>>>);

/// What requests for the same hashes wait for.
#[derive(Default)]
pub(crate) struct Computation {
    result: Mutex<Option<Result<ContentHashes, Refusal>>>,
    came: Condvar,
}

impl Computations {
    /// Returns the computation for a file, and whether it is a new one that the caller has to
    /// begin; none if there are too many.
    pub fn join(&self, file: FileIdentity) -> Option<(Arc<Computation>, bool)> {
        let mut running = self.0.lock();
        if let Some(computation) = running.get(&file) {
            return Some((computation.clone(), false));
        }
        (running.len() < MOST_AT_A_TIME).then(|| {
            let computation = Arc::<Computation>::default();
            running.insert(file, computation.clone());
            (computation, true)
        })
    }

    /// Ends the computation for a file. Only the first result counts.
    pub fn end(
        &self,
        file: &FileIdentity,
        computation: &Computation,
        result: Result<ContentHashes, Refusal>,
    ) {
        let mut running = self.0.lock();
        if running.get(file).is_some_and(|other| std::ptr::eq(&**other, computation)) {
            running.remove(file);
        }
        drop(running);
        computation.result.lock().get_or_insert(result);
        computation.came.notify_all();
    }
}

impl Computation {
    /// Waits for the result, at most for a time.
    pub fn wait(&self, time: Duration) -> Option<Result<ContentHashes, Refusal>> {
        let mut result = self.result.lock();
        self.came.wait_while_for(&mut result, |result| result.is_none(), time);
        result.clone()
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::ErrorCode;

    use super::*;

    #[test]
    fn requests_for_a_file_share_a_computation_and_files_are_limited() {
        let computations = Computations::default();
        let file = |ino| FileIdentity { ino, ..FileIdentity::default() };
        let (first, is_new) = computations.join(file(1)).unwrap();
        assert!(is_new && !computations.join(file(1)).unwrap().1);
        for n in 2..=MOST_AT_A_TIME as u64 {
            assert!(computations.join(file(n)).unwrap().1);
        }
        assert!(computations.join(file(99)).is_none());
        assert!(first.wait(Duration::ZERO).is_none());
        let refused = |code| Err(Refusal::new(code, "why"));
        computations.end(&file(1), &first, refused(ErrorCode::Changed));
        let (next, is_new) = computations.join(file(1)).unwrap();
        // The end of the former one does not concern its successor.
        computations.end(&file(1), &first, refused(ErrorCode::Storage));
        assert!(is_new && !computations.join(file(1)).unwrap().1);
        let code = first.wait(Duration::ZERO).unwrap().unwrap_err().code;
        assert_eq!((code, next.wait(Duration::ZERO)), (ErrorCode::Changed, None));
    }
}
