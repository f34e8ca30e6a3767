//! Damaged images: a mutator that aims at metadata, and a walk of a reader that may fail anywhere but neither panics nor hangs.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use vaultfs::fs::content::Content;
use vaultfs::fs::{FileSystem, FileType};
use vaultfs::image::{ReadAt, Result, check_range};

use crate::common::Random;

/// An image in memory that can be changed in place, so that a mutation costs its bytes and not a copy of the image.
pub struct Patched {
    bytes: RwLock<Vec<u8>>,
}

impl Patched {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            bytes: RwLock::new(bytes),
        })
    }

    /// Changes 1 to 32 places inside `metadata` (byte ranges of the image); gives back what undoes it.
    pub fn mutate(&self, random: &mut Random, metadata: &[Range<usize>]) -> Vec<(usize, u8)> {
        let mut bytes = self.bytes.write();
        let mut undo = Vec::new();
        for _ in 0..=random.below(32) {
            let range = random.pick(metadata);
            let at = range.start + usize::try_from(random.below(range.len() as u64)).unwrap();
            let new: Vec<u8> = match random.below(6) {
                0 => vec![bytes[at] ^ (1 << random.below(8))],
                1 => vec![0],
                2 => vec![0xff],
                3 => vec![0xff; 4],
                4 => vec![0; 4],
                _ => {
                    let len = 1 + usize::try_from(random.below(4)).unwrap();
                    random.bytes(len)
                }
            };
            for (at, new) in (at..).zip(new) {
                if let Some(byte) = bytes.get_mut(at) {
                    undo.push((at, *byte));
                    *byte = new;
                }
            }
        }
        undo
    }

    /// The bytes of an image file.
    pub fn load(path: &std::path::Path) -> Arc<Self> {
        Self::new(std::fs::read(path).unwrap())
    }

    pub fn get(&self, range: Range<usize>) -> Vec<u8> {
        self.bytes.read()[range].to_vec()
    }

    /// Looks at all bytes without a copy of them.
    pub fn look<T>(&self, look: impl FnOnce(&[u8]) -> T) -> T {
        look(&self.bytes.read())
    }

    /// Writes bytes; gives the ones that were there.
    pub fn write(&self, at: usize, new: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.write();
        let old = bytes[at..at + new.len()].to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        old
    }

    /// Changes bytes by hand: checksums that shall be right again, for example.
    pub fn change(&self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.bytes.write());
    }

    pub fn undo(&self, undo: Vec<(usize, u8)>) {
        let mut bytes = self.bytes.write();
        for (at, byte) in undo.into_iter().rev() {
            bytes[at] = byte;
        }
    }
}

impl ReadAt for Patched {
    fn len(&self) -> u64 {
        self.bytes.read().len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes.read()[start..start + buf.len()]);
        Ok(())
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        Ok((offset < self.len()).then_some(offset))
    }
    fn next_hole(&self, _: u64) -> Result<u64> {
        Ok(self.len())
    }
}

/// Most files that one walk visits, and the longest that it may take.
const VISITS: usize = 3000;
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks everything of everything that can be reached; errors are expected, a call that takes seconds is a failure.
/// Gives the number of errors met.
pub fn walk(fs: &Arc<dyn FileSystem>, volume: &Arc<dyn ReadAt>) -> usize {
    let began = Instant::now();
    let mut errors = 0;
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![fs.root()];
    let _ = fs.summary();
    while let Some(inode) = waiting.pop() {
        if !seen.insert(inode) || seen.len() > VISITS {
            continue;
        }
        let attr = match fs.attr(inode) {
            Ok(attr) => attr,
            Err(_) => {
                errors += 1;
                continue;
            }
        };
        errors += usize::from(fs.xattrs(inode).is_err());
        match attr.file_type {
            FileType::Directory => {
                let mut names = Vec::new();
                let listed = fs.read_dir(inode, 0, &mut |entry| {
                    waiting.push(entry.inode);
                    names.push(entry.name.to_vec());
                    names.len() < 1000
                });
                errors += usize::from(listed.is_err());
                for name in names.iter().take(5) {
                    errors += usize::from(fs.lookup(inode, name).is_err());
                }
                errors += usize::from(fs.lookup(inode, b"nothing of this name").is_err());
            }
            FileType::Symlink => errors += usize::from(fs.read_link(inode).is_err()),
            FileType::File => errors += usize::from(read_some(fs, volume, inode).is_err()),
            _ => {}
        }
        assert!(began.elapsed() < DEADLINE, "the walk takes too long, at {inode:?}");
    }
    errors
}

fn read_some(fs: &Arc<dyn FileSystem>, volume: &Arc<dyn ReadAt>, inode: vaultfs::fs::Inode) -> vaultfs::fs::Result<()> {
    let content = Content::open(Arc::clone(fs), Arc::clone(volume), inode)?;
    let size = content.size();
    let mut buf = [0; 4096];
    for at in [0, size / 2, size.saturating_sub(4096)] {
        let len = usize::try_from((size - at).min(4096)).unwrap();
        content.read(at, &mut buf[..len])?;
    }
    if let Some(data) = content.next_data(size / 3)? {
        content.next_hole(data)?;
    }
    Ok(())
}
