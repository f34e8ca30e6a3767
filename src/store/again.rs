//! Reading again what came damaged: over a network bytes can be damaged on their way, and the next answer is whole. Only the same
//! bad bytes twice are what the store holds.

use super::Store;
use crate::checksum::Digest;

/// Different bad answers in a row that are put up with.
const MAX_DIFFERENT: usize = 6;

/// Why an attempt gave nothing.
#[derive(Debug)]
pub enum Failure<E> {
    /// Not for the sake of bytes: there is nothing to compare.
    Final(E),
    /// These bytes came, and fail their check.
    Damaged {
        /// What is wrong with them.
        error: E,
        /// Their hash.
        bytes: Digest,
    },
}

impl<E> Failure<E> {
    /// Bytes that fail their check.
    pub fn damaged(error: E, bytes: &[u8]) -> Self {
        Self::Damaged {
            error,
            bytes: Digest::of(bytes),
        }
    }
}

/// Repeats `attempt` on a remote store until its bytes are good or the same bad ones came twice; then they are damaged in the store.
///
/// # Errors
/// The attempt's error; `unsteady` of the last one if the bytes were bad in another way each time, which says nothing about the store.
pub fn settle<T, E>(
    store: &dyn Store,
    unsteady: impl FnOnce(E) -> E,
    mut attempt: impl FnMut() -> Result<T, Failure<E>>,
) -> Result<T, E> {
    let mut seen = Vec::new();
    loop {
        let (error, bytes) = match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Damaged { error, bytes }) => (error, bytes),
        };
        if !store.is_remote() || seen.contains(&bytes) {
            return Err(error);
        }
        if seen.len() >= MAX_DIFFERENT {
            return Err(unsteady(error));
        }
        log::debug!("{}: an answer came damaged and is asked for again", store.describe());
        seen.push(bytes);
    }
}

/// The error for bytes that were bad in another way each time.
#[must_use]
pub fn unsteady(object: &str) -> super::Error {
    let text = "its bytes come damaged in another way each time; something between here and the store damages them";
    super::Error::Io {
        operation: "read",
        key: object.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Result as StoreResult, memory::MemoryStore};

    struct Remote(MemoryStore);

    impl Store for Remote {
        fn get(&self, key: &Key, limit: u64) -> StoreResult<Vec<u8>> {
            self.0.get(key, limit)
        }
        fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> StoreResult<()> {
            self.0.read_range(key, offset, buf)
        }
        fn head(&self, key: &Key) -> StoreResult<u64> {
            self.0.head(key)
        }
        fn put_new(&self, key: &Key, data: &[u8]) -> StoreResult<()> {
            self.0.put_new(key, data)
        }
        fn list(&self, prefix: &str) -> StoreResult<Vec<Key>> {
            self.0.list(prefix)
        }
        fn delete(&self, key: &Key) -> StoreResult<()> {
            self.0.delete(key)
        }
        fn describe(&self) -> String {
            "remote".to_owned()
        }
        fn is_remote(&self) -> bool {
            true
        }
    }

    fn run(store: &dyn Store, answers: &[&[u8]]) -> (Result<(), &'static str>, usize) {
        let mut tries = 0;
        let result = settle(
            store,
            |_| "unsteady",
            || {
                let bytes = answers[tries.min(answers.len() - 1)];
                tries += 1;
                if bytes == b"good" {
                    Ok(())
                } else {
                    Err(Failure::damaged("bad", bytes))
                }
            },
        );
        (result, tries)
    }

    #[test]
    fn only_the_same_bad_bytes_twice_are_the_stores() {
        let remote = Remote(MemoryStore::new());
        assert_eq!(run(&remote, &[b"x", b"good"]), (Ok(()), 2));
        assert_eq!(run(&remote, &[b"x", b"y", b"x"]), (Err("bad"), 3));
        assert_eq!(
            run(&remote, &[b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"]),
            (Err("unsteady"), 7)
        );
        assert_eq!(run(&MemoryStore::new(), &[b"x", b"good"]), (Err("bad"), 1));
    }
}
