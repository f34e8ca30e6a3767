//! The names in a directory, in batches of bounded size.

use super::Directory;
use rustix::fs::{FileType, RawDir};
use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Names of a batch, about: a batch ends with the call that brings it above this.
const BATCH: usize = 1024;
/// What one call may bring.
const BUFFER: usize = 32 << 10;

/// A directory being listed; stays open until its end, because its descriptor knows how far it is.
#[derive(Debug)]
pub struct Listing {
    fd: Arc<OwnedFd>,
    state: State,
    /// Hashes of the names so far: a directory that is changed while it is listed may tell a name twice.
    told: HashSet<u64>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Ended,
}

/// What a listing tells of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// Not told.
    Unknown,
}

/// One name of a batch.
#[derive(Debug, Clone, Copy)]
struct Entry {
    inode: u64,
    start: usize,
    hint: Hint,
}

/// A batch of names, in the order of their inode numbers: the order in which most file systems keep what is asked next.
#[derive(Debug, Default)]
pub struct Names {
    /// Names, each with its NUL.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Names left out because they were told before.
    pub repeated: u64,
}

impl Listing {
    /// Begins a listing.
    ///
    /// # Errors
    /// As [`Directory::descriptor`].
    pub fn new(directory: &Directory) -> io::Result<Self> {
        let fd = directory.descriptor()?;
        // The descriptor may have been listed from before.
        rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
        Ok(Self {
            fd,
            state: State::Begun,
            told: HashSet::new(),
            hasher: RandomState::new(),
        })
    }

    /// Reads the next names; says whether there may be more. After an error there are none.
    ///
    /// # Errors
    /// As the system reports; the names read before are in `names`.
    pub fn read(&mut self, names: &mut Names) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(BUFFER);
        while names.entries.len() < BATCH && self.state == State::Begun {
            let mut iter = RawDir::new(&self.fd, buffer.spare_capacity_mut());
            loop {
                let Some(entry) = iter.next() else {
                    self.state = State::Ended;
                    break;
                };
                let entry = entry.inspect_err(|_| self.state = State::Ended)?;
                let name = entry.file_name();
                if self.told.insert(self.hasher.hash_one(name)) {
                    names.push(name, entry.ino(), entry.file_type());
                } else {
                    names.repeated = names.repeated.saturating_add(1);
                }
                if iter.is_buffer_empty() {
                    break;
                }
            }
        }
        names.entries.sort_unstable_by_key(|entry| entry.inode);
        Ok(self.state == State::Begun)
    }
}

impl Names {
    fn push(&mut self, name: &CStr, inode: u64, file_type: FileType) {
        let bytes = name.to_bytes_with_nul();
        // A broken file system may list a name that no call would take.
        if matches!(bytes, b".\0" | b"..\0" | b"\0") || bytes.contains(&b'/') || bytes.len() > 256 {
            return;
        }
        let hint = match file_type {
            FileType::Directory => Hint::Directory,
            FileType::Unknown => Hint::Unknown,
            _ => Hint::Other,
        };
        self.entries.push(Entry {
            inode,
            start: self.bytes.len(),
            hint,
        });
        self.bytes.extend_from_slice(bytes);
    }

    /// Number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Name `number` of the batch, and what kind of file the listing says it is.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<(&CStr, Hint)> {
        let entry = self.entries.get(number)?;
        let name = CStr::from_bytes_until_nul(self.bytes.get(entry.start..)?).ok()?;
        Some((name, entry.hint))
    }
}
