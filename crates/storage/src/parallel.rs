//! Runs blocking disk operations in parallel, so that the file system can combine their syncs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Most threads that wait for the disk at the same time.
const THREADS: usize = 16;

/// Time of one operation from which on it pays to run the others at the same time.
const SLOW: Duration = Duration::from_micros(100);

/// Slow operations in a row after which a fast disk counts as slow. Other programs may have run
/// during one of them, and threads that are not needed cost more than a few waits.
const SLOW_IN_A_ROW: usize = 3;

/// Whether the fastest operation of the last call was slow. On a fast disk or in memory starting
/// threads would take longer than the work.
static DISK_IS_SLOW: AtomicBool = AtomicBool::new(true);

/// Runs `work` on each of `items`, in parallel if it waits for the disk. The results have the order
/// of the items.
pub fn parallel_map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    let run_one = || {
        let (at, item) = take(&next, items)?;
        let begun = Instant::now();
        let result = work(item);
        results.lock().push((at, result));
        Some(begun.elapsed())
    };
    let mut fastest = Duration::MAX;
    let mut slow = if DISK_IS_SLOW.load(Ordering::Relaxed) { SLOW_IN_A_ROW } else { 0 };
    while slow < SLOW_IN_A_ROW
        && let Some(took) = run_one()
    {
        fastest = fastest.min(took);
        slow = if took > SLOW { slow + 1 } else { 0 };
    }
    std::thread::scope(|scope| {
        // This thread works too. If the system has no more threads, it does all the work.
        let rest = items.len().saturating_sub(next.load(Ordering::Relaxed));
        for _ in 1..rest.min(THREADS) {
            // Those that have started may have done all the work by now.
            if next.load(Ordering::Relaxed) >= items.len() {
                break;
            }
            let run = || while run_one().is_some() {};
            if std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, run).is_err()
            {
                break;
            }
        }
        while let Some(took) = run_one() {
            fastest = fastest.min(took);
        }
    });
    // Too few operations show no more than that the disk is fast.
    if items.len() >= SLOW_IN_A_ROW || !items.is_empty() && fastest <= SLOW {
        DISK_IS_SLOW.store(fastest > SLOW, Ordering::Relaxed);
    }
    let mut results = results.into_inner();
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
