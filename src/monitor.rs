//! What surrounds long work: how it tells of its progress, and to whom it listens.

use crate::clock::Clock;
use std::sync::atomic::AtomicBool;

/// What surrounds an operation on a vault.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Receives progress.
    pub monitor: &'a dyn Monitor,
    /// Tells the time, and waits.
    pub clock: &'a dyn Clock,
    /// Set to end the operation soon.
    pub cancel: &'a AtomicBool,
}

/// Receives progress; called from many threads, must return quickly.
pub trait Monitor: Send + Sync {
    /// A phase begins, for example `backup vda`; `total` is the number of bytes it will go through, 0 if
    /// nobody knows.
    fn begin(&self, phase: &str, total: u64);
    /// `bytes` more of the current phase are done.
    fn advance(&self, bytes: u64);
    /// The current phase is over.
    fn end(&self);
    /// Something the user should know that is not a failure.
    fn warn(&self, message: &str);
    /// One of many things failed, and the work goes on.
    fn fail(&self, message: &str) {
        self.warn(message);
    }
    /// How far the phase is in another measure than bytes: `1234 files`.
    fn count(&self, text: &str) {
        let _ = text;
    }
}

/// Drops progress and logs warnings.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {
    fn begin(&self, _phase: &str, _total: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn end(&self) {}
    fn warn(&self, message: &str) {
        log::warn!("{message}");
    }
}
