//! The way to a store over a network: what crosses it is counted and limited, nobody waits longer than he may, and it can be closed.

use super::wait::{self, Limit};
use super::{Error, Exclusion, Key, Result, Store};
use crate::bytes::{size_text, to_u64};
use crate::clock::Seconds;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Answers of at most this many bytes tell the time that a request takes by itself.
const SMALL_ANSWER: u64 = 128 << 10;

/// What crossed the way to a store since it was opened.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    /// Of small answers, smoothed, in microseconds; 0 before the first.
    round_trip: AtomicU64,
    most_bytes: Option<u64>,
    /// Set when the limit was met and has been told of.
    told: AtomicBool,
}

impl Traffic {
    /// Nothing has crossed yet; at most `most_bytes` of objects may.
    #[must_use]
    pub fn new(most_bytes: Option<u64>) -> Self {
        Self {
            most_bytes,
            ..Self::default()
        }
    }

    /// Requests to the store; what a store repeats by itself is not seen here.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that did not deliver and may do so later.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Bytes of objects that were fetched.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The most bytes that may be fetched.
    #[must_use]
    pub fn most_bytes(&self) -> Option<u64> {
        self.most_bytes
    }

    /// How long a small request takes, as far as is known.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip.load(Ordering::Relaxed))
    }

    /// Takes `bytes` off what may still be fetched.
    fn admit(&self, key: &str, bytes: u64) -> Result<()> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let Some(most) = self.most_bytes else { return Ok(()) };
        if before.saturating_add(bytes) <= most && before < most {
            return Ok(());
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let text = format!(
            "max_egress is reached: {} of {} were fetched from the store since the vault was opened; \
             open it anew, with a larger max_egress or without one",
            size_text(before),
            size_text(most)
        );
        if !self.told.swap(true, Ordering::Relaxed) {
            log::error!("{text}; until then only what is cached is read");
        }
        Err(failed("read", key, ErrorKind::QuotaExceeded, text))
    }

    fn answered(&self, took: Duration, bytes: u64) {
        if bytes > SMALL_ANSWER {
            return;
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        // Only a guess hangs on it; racing threads do no harm.
        let smooth = |before: u64| match before {
            0 => Some(took),
            before => Some((before / 8).saturating_mul(7).saturating_add(took / 8).max(1)),
        };
        let _ = self
            .round_trip
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, smooth);
    }
}

/// A store that is reached over a network, or that is left alone.
pub struct RemoteStore {
    way: Way,
    traffic: Arc<Traffic>,
}

enum Way {
    Open(Arc<dyn Store>),
    /// Nothing crosses; this is the name of the store.
    Closed(String),
}

impl RemoteStore {
    /// The way to `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, traffic: Arc<Traffic>) -> Self {
        let way = Way::Open(store);
        Self { way, traffic }
    }

    /// The closed way to the store of this name: every request fails at once.
    #[must_use]
    pub fn closed(name: String, traffic: Arc<Traffic>) -> Self {
        let way = Way::Closed(name);
        Self { way, traffic }
    }

    /// Runs one request for `bytes` bytes, if this thread may wait for it; notes for the thread when it fails.
    fn cross<T>(
        &self,
        operation: &'static str,
        key: &str,
        bytes: u64,
        request: impl FnOnce(&Arc<dyn Store>) -> Result<T>,
    ) -> Result<T> {
        let answer = self.try_cross(operation, key, bytes, request);
        if answer.as_ref().is_err_and(|error| !error.is_not_found()) {
            wait::note_failure();
        }
        answer
    }

    fn try_cross<T>(
        &self,
        operation: &'static str,
        key: &str,
        bytes: u64,
        request: impl FnOnce(&Arc<dyn Store>) -> Result<T>,
    ) -> Result<T> {
        let store = match &self.way {
            Way::Open(store) => store,
            Way::Closed(_) => {
                let text = "the vault was opened offline, and this is not cached".to_owned();
                return Err(failed(operation, key, ErrorKind::NotConnected, text));
            }
        };
        let now = Instant::now();
        match wait::limit() {
            Limit::Never => {
                let text = "it is not on this machine".to_owned();
                return Err(failed(operation, key, ErrorKind::WouldBlock, text));
            }
            Limit::Until(end) if end <= now => {
                let text = "the time for this request is over".to_owned();
                return Err(failed(operation, key, ErrorKind::TimedOut, text));
            }
            Limit::Until(_) | Limit::Unbounded => {}
        }
        self.traffic.admit(key, bytes)?;
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let answer = request(store);
        match &answer {
            Ok(_) => self.traffic.answered(now.elapsed(), bytes),
            Err(error) => {
                self.traffic.bytes.fetch_sub(bytes, Ordering::Relaxed);
                if !error.is_not_found() {
                    self.traffic.failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        answer
    }
}

fn failed(operation: &'static str, key: &str, kind: ErrorKind, text: String) -> Error {
    Error::Io {
        operation,
        key: key.to_owned(),
        source: io::Error::new(kind, text),
    }
}

impl Store for RemoteStore {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let data = self.cross("read", key.as_str(), 0, |store| store.get(key, limit))?;
        self.traffic.bytes.fetch_add(to_u64(data.len()), Ordering::Relaxed);
        Ok(data)
    }

    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let bytes = to_u64(buf.len());
        self.cross("read", key.as_str(), bytes, |store| store.read_range(key, offset, buf))
    }

    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        let bytes = to_u64(most);
        let answer = self.cross("read", key.as_str(), bytes, |store| store.read_tail(key, most))?;
        let less = bytes.saturating_sub(to_u64(answer.1.len()));
        self.traffic.bytes.fetch_sub(less, Ordering::Relaxed);
        Ok(answer)
    }

    fn head(&self, key: &Key) -> Result<u64> {
        self.cross("look up", key.as_str(), 0, |store| store.head(key))
    }

    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        self.cross("write", key.as_str(), 0, |store| store.put_new(key, data))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        self.cross("list", prefix, 0, |store| store.list(prefix))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.cross("delete", key.as_str(), 0, |store| store.delete(key))
    }

    fn remove_litter(&self, age: Duration) -> Result<u64> {
        self.cross("tidy", "unfinished uploads", 0, |store| store.remove_litter(age))
    }

    fn can_retain(&self) -> Result<bool> {
        self.cross("look up", "the object lock", 0, Store::can_retain)
    }

    fn retain(&self, key: &Key, until: Seconds) -> Result<()> {
        self.cross("lock", key.as_str(), 0, |store| store.retain(key, until))
    }

    fn describe(&self) -> String {
        match &self.way {
            Way::Open(store) => store.describe(),
            Way::Closed(name) => name.clone(),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn probe_exclusion(&self) -> Result<Exclusion> {
        self.cross("try out writing to", "probe", 0, |store| store.probe_exclusion())
    }

    fn set_exclusion(&self, exclusion: Exclusion) {
        if let Way::Open(store) = &self.way {
            store.set_exclusion(exclusion);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn way(most_bytes: Option<u64>) -> (RemoteStore, Arc<Traffic>, Key) {
        let (store, key) = (MemoryStore::new(), Key::new("a").unwrap());
        store.put_new(&key, &[7; 100]).unwrap();
        let traffic = Arc::new(Traffic::new(most_bytes));
        (RemoteStore::new(Arc::new(store), Arc::clone(&traffic)), traffic, key)
    }

    fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
        match result {
            Err(Error::Io { source, .. }) => Some(source.kind()),
            _ => None,
        }
    }

    #[test]
    fn what_crosses_is_counted() {
        let (store, traffic, key) = way(None);
        store.get(&key, 100).unwrap();
        store.get_range(&key, 90, 10).unwrap();
        assert_eq!(store.read_tail(&key, 1000).unwrap(), (100, vec![7; 100]));
        assert!(store.get_range(&key, 90, 11).is_err());
        store.head(&key).unwrap();
        assert_eq!((traffic.requests(), traffic.failures(), traffic.bytes()), (5, 1, 210));
        assert!(traffic.round_trip() > Duration::ZERO);
    }

    #[test]
    fn nothing_is_fetched_beyond_the_limit() {
        let (store, traffic, key) = way(Some(60));
        store.get_range(&key, 0, 50).unwrap();
        assert_eq!(kind_of(store.get_range(&key, 0, 11)), Some(ErrorKind::QuotaExceeded));
        store.get_range(&key, 0, 10).unwrap();
        assert_eq!(kind_of(store.get(&key, 100)), Some(ErrorKind::QuotaExceeded));
        assert_eq!(traffic.bytes(), 60);
    }

    #[test]
    fn who_may_not_wait_is_refused_at_once() {
        let (store, traffic, key) = way(None);
        let refused = wait::within(Limit::Never, || store.head(&key));
        assert_eq!(kind_of(refused), Some(ErrorKind::WouldBlock));
        let late = wait::within(Limit::Until(Instant::now()), || store.head(&key));
        assert_eq!(kind_of(late), Some(ErrorKind::TimedOut));
        assert_eq!(traffic.requests(), 0);
        let closed = RemoteStore::closed("s3://b".to_owned(), traffic);
        assert_eq!(kind_of(closed.head(&key)), Some(ErrorKind::NotConnected));
    }
}
