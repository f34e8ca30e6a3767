//! Threads that wait for a store over a network, so that the event loops never do.
//!
//! A request is first tried in place by a thread that may not wait. What that cannot answer without the network is thrown away and done
//! again here, with an end to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::store::wait::{self, Delivery, Limit};

/// Requests that wait at the same time; further ones stand in a row.
const THREADS: usize = 32;
/// Longest time from a request to its answer, the row included. With [`AFTER_A_FAILURE`] it stays below the half minute that is
/// promised: when the kernel's read-ahead has failed, it asks at once for the page that somebody waits for.
const DEADLINE: Duration = Duration::from_secs(21);
/// The same for a request that comes [`SOON`] after another one has run out of time.
const AFTER_A_FAILURE: Duration = Duration::from_secs(7);
const SOON: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped, as soon as what they wait for has ended.
pub(super) struct Waiters {
    row: Sender<(Instant, Job)>,
    /// When a request ran out of time last.
    ran_out: Arc<Mutex<Option<Instant>>>,
}

impl Waiters {
    /// Starts the threads.
    ///
    /// # Errors
    /// As the system reports if a thread cannot be started.
    pub(super) fn start() -> std::io::Result<Self> {
        // The kernel bounds the requests that it has under way.
        let (row, jobs) = crossbeam_channel::unbounded::<(Instant, Job)>();
        for _ in 0..THREADS {
            let jobs = jobs.clone();
            std::thread::Builder::new().name("waiter".into()).spawn(move || {
                for (end, job) in jobs {
                    // Requests answer for themselves if they panic; this is for what surrounds them.
                    let work = std::panic::AssertUnwindSafe(|| wait::within(Limit::Until(end), job));
                    if std::panic::catch_unwind(work).is_err() {
                        log::error!("an answer panicked; this is a defect of vaultfs");
                    }
                }
            })?;
        }
        Ok(Self {
            row,
            ran_out: Arc::default(),
        })
    }

    /// Has an answer found by one of the threads and sent; the time for it runs from now on.
    pub(super) fn give<T>(&self, find: impl FnOnce() -> T + Send + 'static, send: impl FnOnce(T) + Send + 'static) {
        let now = Instant::now();
        let is_second = self.ran_out.lock().is_some_and(|last| now.duration_since(last) < SOON);
        let end = now + if is_second { AFTER_A_FAILURE } else { DEADLINE };
        let ran_out = Arc::clone(&self.ran_out);
        let job = move || {
            let found = find();
            let now = Instant::now();
            if now >= end {
                // Before the answer is sent, for the next request may follow on its heels.
                *ran_out.lock() = Some(now);
            }
            send(found);
        };
        // The threads live as long as this; if one could not take it the reply is dropped, which answers with an error.
        let _ = self.row.send((end, Box::new(job)));
    }
}

/// Does `work` without waiting for a network; `Err` with what it came to if something was missing.
pub(super) fn in_place<T>(work: impl FnOnce() -> T) -> Result<T, T> {
    let (done, delivery) = wait::observed(|| wait::within(Limit::Never, work));
    match delivery {
        Delivery::Complete => Ok(done),
        Delivery::Failed => Err(done),
    }
}

/// Says whether this thread may not wait, so that what it cannot do is done again by another.
pub(super) fn is_trial() -> bool {
    wait::limit() == Limit::Never
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_wait_do_not_hold_up_each_other_and_have_an_end() {
        let waiters = Waiters::start().unwrap();
        let (told, heard) = crossbeam_channel::unbounded();
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(THREADS));
        for _ in 0..THREADS {
            let (told, barrier) = (told.clone(), std::sync::Arc::clone(&barrier));
            waiters.give(
                move || {
                    barrier.wait();
                    wait::left(Duration::MAX)
                },
                move |left| told.send(left).unwrap(),
            );
        }
        for _ in 0..THREADS {
            let left = heard.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(left <= DEADLINE, "{left:?}");
        }
        waiters.give(|| panic!("on purpose"), |()| ());
        waiters.give(|| (), move |()| told.send(Duration::ZERO).unwrap());
        assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(Duration::ZERO));
    }

    #[test]
    fn who_asks_again_after_a_failure_is_answered_within_what_is_left_of_half_a_minute() {
        let waiters = Waiters::start().unwrap();
        let (told, heard) = crossbeam_channel::unbounded();
        let left = |failed: Option<Duration>| {
            *waiters.ran_out.lock() = failed.and_then(|ago| Instant::now().checked_sub(ago));
            let told = told.clone();
            waiters.give(|| wait::left(Duration::MAX), move |left| told.send(left).unwrap());
            heard.recv_timeout(Duration::from_secs(20)).unwrap()
        };
        assert!(left(None) > AFTER_A_FAILURE);
        assert!(left(Some(Duration::ZERO)) <= AFTER_A_FAILURE);
        assert!(left(Some(2 * SOON)) > AFTER_A_FAILURE);
        assert!(DEADLINE + AFTER_A_FAILURE < Duration::from_secs(30));
    }

    #[test]
    fn what_meets_a_gap_is_no_answer() {
        assert_eq!(in_place(|| (is_trial(), 1)), Ok((true, 1)));
        let gap = in_place(|| {
            wait::note_failure();
            2
        });
        assert_eq!(gap, Err(2));
        assert!(!is_trial());
    }
}
