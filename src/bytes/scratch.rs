//! Memory for large reads, used again by the same thread: a fresh megabyte costs the kernel 256 page faults, about as much as
//! decoding a chunk.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Largest buffer a thread keeps.
const MAX_KEPT: usize = 2 << 20;
/// Buffers a thread keeps: the stored bytes of a read, and its plain bytes.
const KEPT: usize = 2;

/// Where a buffer begins: at a multiple of this address, so that it serves reads and writes past the page cache (O_DIRECT).
pub const ALIGNMENT: usize = 4096;

/// A buffer that goes back to the thread that drops it; it begins at a multiple of [`ALIGNMENT`].
pub struct Scratch {
    /// At least `start + len` bytes; the rest is left over.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Scratch {
    /// Takes a buffer of `len` bytes of unspecified content, left over from earlier reads: the caller overwrites all of it.
    #[must_use]
    pub fn take(len: usize) -> Self {
        let mut memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        if memory.len() < len.saturating_add(ALIGNMENT) {
            memory.resize(len.saturating_add(ALIGNMENT), 0);
        }
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, len }
    }
}

impl From<&[u8]> for Scratch {
    fn from(bytes: &[u8]) -> Self {
        let mut scratch = Self::take(bytes.len());
        scratch.copy_from_slice(bytes);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if memory.capacity() <= MAX_KEPT + ALIGNMENT {
            // The thread may be ending; then the memory just goes.
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < KEPT {
                    spare.push(memory);
                }
            });
        }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory
            .get(self.start..self.start.saturating_add(self.len))
            .unwrap_or_default()
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        let end = self.start.saturating_add(self.len);
        self.memory.get_mut(self.start..end).unwrap_or_default()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_asked_for_whatever_it_was_before() {
        for len in [10, 1 << 20, 0, 4096, 3 << 20, 7] {
            let mut one = Scratch::take(len);
            let two = Scratch::from([1, 2, 3].as_slice());
            one.fill(9);
            assert_eq!((one.len(), &*two), (len, [1, 2, 3].as_slice()));
            assert_eq!(one.as_ptr().align_offset(ALIGNMENT), 0);
            assert!(one.iter().all(|byte| *byte == 9));
        }
    }
}
