//! How long the current thread may wait for a store over a network, and whether a store failed it.
//!
//! Whoever answers a reader knows the limit; between it and the store lie file systems, volumes and maps that do not care. So the
//! limit belongs to the thread and not to their arguments.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a thread may wait for a store over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// As long as the store takes.
    Unbounded,
    /// Until this moment.
    Until(Instant),
    /// Not at all: what is not on this machine is refused at once.
    Never,
}

thread_local! {
    static LIMIT: Cell<Limit> = const { Cell::new(Limit::Unbounded) };
    static FAILURES: Cell<u64> = const { Cell::new(0) };
}

/// Puts the limit back that was there before, also if the work panics.
struct Before(Limit);

impl Drop for Before {
    fn drop(&mut self) {
        LIMIT.set(self.0);
    }
}

/// Does `work` under a limit.
pub fn within<T>(limit: Limit, work: impl FnOnce() -> T) -> T {
    let _before = Before(LIMIT.replace(limit));
    work()
}

/// The limit of this thread.
#[must_use]
pub fn limit() -> Limit {
    LIMIT.get()
}

/// How much of `most` this thread may still wait.
#[must_use]
pub fn left(most: Duration) -> Duration {
    match limit() {
        Limit::Unbounded => most,
        Limit::Until(end) => end.saturating_duration_since(Instant::now()).min(most),
        Limit::Never => Duration::ZERO,
    }
}

/// Notes that a store did not deliver something to this thread that a later try may get.
pub fn note_failure() {
    FAILURES.set(FAILURES.get().saturating_add(1));
}

/// Does `work` and says whether a store failed it on the way, whatever the work made of that: an answer that was put together without
/// the missing bytes must not be kept, for it may be another one a moment later.
pub fn observed<T>(work: impl FnOnce() -> T) -> (T, Delivery) {
    let before = FAILURES.get();
    let done = work();
    let delivery = if FAILURES.get() == before {
        Delivery::Complete
    } else {
        Delivery::Failed
    };
    (done, delivery)
}

/// Whether a store delivered all that a piece of work asked it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Everything, or a definite answer.
    Complete,
    /// Something failed that a later try may get.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_ends_with_its_work_even_if_that_panics() {
        let panicked = std::panic::catch_unwind(|| within(Limit::Never, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(limit(), Limit::Unbounded);
        let most = Duration::from_secs(5);
        assert_eq!(left(most), most);
        let end = Instant::now() + Duration::from_secs(1);
        assert!(within(Limit::Until(end), || left(most)) <= Duration::from_secs(1));
        assert_eq!(within(Limit::Never, || left(most)), Duration::ZERO);
    }

    #[test]
    fn a_failure_is_seen_whatever_was_made_of_it() {
        let (value, delivery) = observed(|| {
            note_failure();
            7
        });
        assert_eq!((value, delivery), (7, Delivery::Failed));
        assert_eq!(observed(|| ()).1, Delivery::Complete);
    }
}
