//! Threads that go through a list together; the first error stops all of them.

use super::{Error, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Calls `work` once for each item, from at most `jobs` threads, roughly in order; the results are in the order of the items.
///
/// # Errors
/// The first error of any thread that is not only about another one's; items begun are finished, the rest is not begun.
pub(super) fn each<T, R>(items: &[T], jobs: usize, work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>>
where
    T: Sync,
    R: Send,
{
    if jobs <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let done = Mutex::new((Vec::with_capacity(items.len()), None::<Error>));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    match work(item) {
                        Ok(result) => done.lock().0.push((number, result)),
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            let failure = &mut done.lock().1;
                            if failure.as_ref().is_none_or(Error::is_secondary) {
                                *failure = Some(error);
                            }
                        }
                    }
                }
            });
        }
    });
    let (mut results, failure) = done.into_inner();
    match failure {
        Some(error) => Err(error),
        None => {
            results.sort_unstable_by_key(|(number, _)| *number);
            Ok(results.into_iter().map(|(_, result)| result).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_an_error_stops_the_rest() {
        let items: Vec<usize> = (0..1000).collect();
        let doubled = each(&items, 4, |item| Ok(item * 2)).unwrap();
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        for jobs in [1, 4] {
            let calls = AtomicUsize::new(0);
            let failed = each(&items, jobs, |item| {
                calls.fetch_add(1, Ordering::Relaxed);
                let address = "disks/a/2026-01-01T00-00-00Z".parse().unwrap();
                if *item == 5 {
                    Err(Error::Interrupted { address })
                } else {
                    Ok(())
                }
            });
            assert!(matches!(failed, Err(Error::Interrupted { .. })));
            assert!(jobs > 1 || calls.into_inner() == 6);
        }
        assert!(each::<usize, usize>(&[], 4, |item| Ok(*item)).unwrap().is_empty());
    }
}
