//! Runs blocking disk operations in parallel, so that the file system can combine their syncs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most threads that wait for the disk at the same time.
const THREADS: usize = 16;

/// Runs `work` on each of `items` in parallel. The results have the order of the items.
pub fn parallel_map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    let run = || {
        while let Some((at, item)) = take(&next, items) {
            let result = work(item);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        // This thread works too. If the system has no more threads, it does all the work.
        for _ in 1..items.len().min(THREADS) {
            if std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, run).is_err()
            {
                break;
            }
        }
        run();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_have_the_order_of_the_items() {
        for len in [0, 1, 2, 100] {
            let items: Vec<usize> = (0..len).collect();
            assert_eq!(
                parallel_map(&items, |n| n * 2),
                items.iter().map(|n| n * 2).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn parallel_map_limits_its_threads() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        parallel_map(&[(); 100], |()| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(2));
            now.fetch_sub(1, Ordering::SeqCst);
        });
        assert!((2..=THREADS).contains(&most.into_inner()));
    }
}
