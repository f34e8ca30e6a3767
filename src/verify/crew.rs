//! Threads that go through a list together.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` once for each item, from at most `jobs` threads, each with a state of its own; the results are in the order of the items.
pub(crate) fn each<T, S, R>(
    items: &[T],
    jobs: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R>
where
    T: Sync,
    R: Send,
{
    if jobs <= 1 || items.len() <= 1 {
        let mut state = state();
        return items.iter().map(|item| work(&mut state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(items.len()) {
            scope.spawn(|| {
                let mut state = state();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let result = work(&mut state, item);
                    done.lock().push((number, result));
                }
            });
        }
    });
    let mut results = done.into_inner();
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        for jobs in [1, 4] {
            let doubled = each(&items, jobs, || (), |(), item| item * 2);
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        assert!(each(&[], 4, || (), |(), item: &usize| *item).is_empty());
    }
}
