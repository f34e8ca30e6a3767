//! A clock on which days pass at once.

use crate::common::disks::START;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use vaultfs::clock::{Clock, Seconds};

/// A clock that everybody reads and the test sets; waiting moves it.
pub(crate) struct Fake {
    seconds: AtomicI64,
    /// What the clock shows beyond the time that has passed.
    ahead: AtomicI64,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            seconds: AtomicI64::new(START),
            ahead: AtomicI64::new(0),
        }
    }

    /// Another clock, which shows the same.
    pub(crate) fn fork(&self) -> Self {
        Self {
            seconds: AtomicI64::new(self.seconds.load(Ordering::Relaxed)),
            ahead: AtomicI64::new(self.ahead.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn pass(&self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).unwrap();
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sets the clock, without any time passing.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for Fake {
    fn now(&self) -> Seconds {
        self.seconds.load(Ordering::Relaxed) + self.ahead.load(Ordering::Relaxed)
    }
    fn uptime(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.seconds.load(Ordering::Relaxed) - START + 100_000).unwrap())
    }
    fn sleep(&self, time: Duration) {
        self.pass(time);
    }
}
