//! How fast a vault is read: no more bytes a second than the user allows.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread sleeps at most before it looks whether it should stop.
const NAP: Duration = Duration::from_millis(200);

/// Makes threads wait, so that all of them together keep to a rate.
pub(super) struct Rate {
    bytes_per_second: Option<u64>,
    /// When what was taken so far is paid for.
    paid: Mutex<Instant>,
}

impl Rate {
    /// Starts now; `None` is as fast as it goes.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.filter(|rate| *rate > 0),
            paid: Mutex::new(Instant::now()),
        }
    }

    /// Takes `bytes`, and waits until those taken before are paid for, or until `cancel` is set.
    pub(super) fn take(&self, bytes: u64, cancel: &AtomicBool) {
        let Some(rate) = self.bytes_per_second else { return };
        let nanos = u128::from(bytes).saturating_mul(1_000_000_000) / u128::from(rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let turn = {
            let mut paid = self.paid.lock();
            let turn = (*paid).max(Instant::now());
            *paid = turn.checked_add(cost).unwrap_or(turn);
            turn
        };
        while !cancel.load(Ordering::Relaxed) {
            let left = turn.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_together_keep_to_the_rate() {
        let (rate, go_on) = (Rate::new(Some(1 << 20)), AtomicBool::new(false));
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..4).for_each(|_| rate.take(32 << 10, &go_on)));
            }
        });
        // 16 times 32 KiB at 1 MiB/s; the last one is not waited for.
        assert!(
            started.elapsed() >= Duration::from_millis(460),
            "{:?}",
            started.elapsed()
        );
    }

    #[test]
    fn who_is_told_to_stop_does_not_wait() {
        let (rate, stop) = (Rate::new(Some(1)), AtomicBool::new(true));
        let started = Instant::now();
        (0..100).for_each(|_| rate.take(1 << 30, &stop));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
