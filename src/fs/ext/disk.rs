//! The bytes of an ext volume as the kernel would see them after recovery: the volume, and the journal's newer blocks over it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fast_commit::FastCommits;
use super::group::Groups;
use super::overlay::Overlay;
use super::superblock::Superblock;
use crate::bytes::{to_u64, to_usize};
use crate::fs::{Error, Result};
use crate::image::ReadAt;

/// A volume with its superblock; everything else is read through it.
pub(super) struct Disk {
    volume: Arc<dyn ReadAt>,
    /// Blocks whose newest content is in the journal.
    pub(super) overlay: Overlay,
    /// The superblock.
    pub(super) sb: Superblock,
    /// What fast commits changed since the last transaction.
    pub(super) fast: FastCommits,
    /// Group descriptors met so far.
    pub(super) groups: Groups,
    /// What is wrong with directories met so far, and where: a listing in parts tells it at its end.
    damaged: Mutex<HashMap<u64, (String, u64)>>,
}

/// Most directories whose damage is remembered.
const MOST_DAMAGED: usize = 1000;

impl Disk {
    /// A volume whose journal is not looked at.
    pub(super) fn new(volume: Arc<dyn ReadAt>, sb: Superblock, overlay: Overlay) -> Self {
        Self {
            volume,
            overlay,
            sb,
            fast: FastCommits::default(),
            groups: Groups::default(),
            damaged: Mutex::default(),
        }
    }

    /// Remembers what is wrong with a directory.
    pub(super) fn remember(&self, directory: u64, error: &Error) {
        let mut damaged = self.damaged.lock();
        if let Error::Corrupt { what, at } = error
            && damaged.len() < MOST_DAMAGED
        {
            damaged.entry(directory).or_insert_with(|| (what.clone(), *at));
        }
    }

    /// What was found wrong with a directory before.
    pub(super) fn remembered(&self, directory: u64) -> Option<Error> {
        let (what, at) = self.damaged.lock().get(&directory)?.clone();
        Some(Error::Corrupt { what, at })
    }

    /// The volume itself.
    pub(super) fn volume(&self) -> &Arc<dyn ReadAt> {
        &self.volume
    }

    /// Block size in bytes.
    pub(super) fn block_size(&self) -> usize {
        to_usize(self.sb.block_size)
    }

    /// Byte of the volume at which a block begins.
    pub(super) fn byte_of(&self, block: u64) -> u64 {
        block.saturating_mul(self.sb.block_size)
    }

    /// Says whether `len` blocks from `block` on lie inside the file system and the volume.
    pub(super) fn holds(&self, block: u64, len: u64) -> bool {
        let Some(end) = block.checked_add(len) else {
            return false;
        };
        end <= self.sb.blocks_count && self.byte_of(end) <= self.volume.len()
    }

    /// Fills `buf` with the bytes from byte `at` of the volume on, as recovery would leave them.
    ///
    /// # Errors
    /// `Corrupt` if they lie outside the volume; `Image`.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let end = at.checked_add(to_u64(buf.len()));
        if end.is_none_or(|end| end > self.volume.len()) {
            return Err(corrupt("a reference to bytes behind the end of the volume", at));
        }
        self.volume.read_at(at, buf)?;
        self.overlay.patch(&*self.volume, at, buf)
    }

    /// One block.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn block(&self, block: u64) -> Result<Vec<u8>> {
        if !self.holds(block, 1) {
            return Err(corrupt("a block number", self.byte_of(block)));
        }
        let mut bytes = vec![0; self.block_size()];
        self.read(self.byte_of(block), &mut bytes)?;
        Ok(bytes)
    }
}

/// A structure that breaks its format.
pub(super) fn corrupt(what: impl Into<String>, at: u64) -> Error {
    Error::Corrupt { what: what.into(), at }
}
