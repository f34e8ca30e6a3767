//! A store that is far away: every request takes a round trip, all share one line, and the line can be cut.

use parking_lot::Mutex;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vaultfs::store::{Error, Key, Result, Store};

/// A store over a network, of which only the network is made up.
pub struct Slow<S> {
    inner: S,
    round_trip: Duration,
    bytes_per_second: u64,
    /// When the line has carried all that was sent so far.
    line: Mutex<Instant>,
    /// Requests that are still answered.
    answers: AtomicU64,
    bytes: AtomicU64,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl<S: Store> Slow<S> {
    /// `inner` behind a line of this speed.
    pub fn new(inner: S, round_trip: Duration, bytes_per_second: u64) -> Self {
        Self {
            inner,
            round_trip,
            bytes_per_second,
            line: Mutex::new(Instant::now()),
            answers: AtomicU64::new(u64::MAX),
            bytes: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        }
    }

    /// Cuts the line after so many more answers.
    pub fn cut_after(&self, answers: u64) {
        self.answers.store(answers, Ordering::SeqCst);
    }

    /// Mends the line.
    pub fn mend(&self) {
        self.answers.store(u64::MAX, Ordering::SeqCst);
    }

    /// Bytes of objects that came over the line since the last time.
    pub fn take_bytes(&self) -> u64 {
        self.bytes.swap(0, Ordering::SeqCst)
    }

    /// The most requests that were under way at once.
    pub fn most_under_way(&self) -> usize {
        self.most_under_way.load(Ordering::SeqCst)
    }

    fn ask<T>(&self, key: &str, request: impl FnOnce() -> Result<T>, len: impl FnOnce(&T) -> usize) -> Result<T> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(self.round_trip);
        let spend = |left: u64| {
            if left == u64::MAX {
                Some(left)
            } else {
                left.checked_sub(1)
            }
        };
        let answered = self
            .answers
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend)
            .is_ok();
        let answer = if !answered {
            Err(Error::Io {
                operation: "read",
                key: key.to_owned(),
                source: io::Error::new(ErrorKind::NotConnected, "the line is cut"),
            })
        } else {
            request()
        };
        if let Ok(value) = &answer {
            let bytes = u64::try_from(len(value)).unwrap();
            self.bytes.fetch_add(bytes, Ordering::SeqCst);
            let carried = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            let mut line = self.line.lock();
            *line = (*line).max(Instant::now()) + carried;
            let arrival = *line;
            drop(line);
            std::thread::sleep(arrival.saturating_duration_since(Instant::now()));
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

impl<S: Store> Store for Slow<S> {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        self.ask(key.as_str(), || self.inner.get(key, limit), Vec::len)
    }
    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len();
        self.ask(key.as_str(), || self.inner.read_range(key, offset, buf), |()| len)
    }
    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        self.ask(key.as_str(), || self.inner.read_tail(key, most), |(_, tail)| tail.len())
    }
    fn head(&self, key: &Key) -> Result<u64> {
        self.ask(key.as_str(), || self.inner.head(key), |_| 0)
    }
    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.inner.put_new(key, data)
    }
    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        self.ask(prefix, || self.inner.list(prefix), |_| 0)
    }
    fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key)
    }
    fn describe(&self) -> String {
        "far://away".to_owned()
    }
    fn is_remote(&self) -> bool {
        true
    }
}
