//! Which blocks of the volume have a newer copy in the journal: positions only, so that a large journal is a small table.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bytes::{to_u64, to_usize};
use crate::fs::Result;
use crate::image::ReadAt;

/// Number that begins every block of the journal's own; a copied block that begins with it is kept with zeros there.
pub(super) const JBD2_MAGIC: u32 = 0xc03b_3998;

/// The newest copy of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    /// Byte of the volume at which the copy begins.
    pub(super) at: u64,
    /// Says whether the block begins with [`JBD2_MAGIC`], which the copy does not.
    pub(super) is_escaped: bool,
}

/// Block numbers to copies; empty for a clean journal.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    block_size: u64,
    copies: BTreeMap<u64, Copy>,
}

impl Overlay {
    /// An overlay of blocks of this size.
    pub(super) fn new(block_size: u64, copies: BTreeMap<u64, Copy>) -> Self {
        Self { block_size, copies }
    }

    /// Says whether no block has a copy.
    pub(super) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Copies of the blocks in a range, in order.
    pub(super) fn within(&self, blocks: Range<u64>) -> impl Iterator<Item = (u64, Copy)> {
        let sound = blocks.start < blocks.end && !self.is_empty();
        let blocks = if sound { blocks } else { 0..0 };
        self.copies.range(blocks).map(|(block, copy)| (*block, *copy))
    }

    /// Puts the journal's copies over `buf`, which holds the volume's bytes from byte `at` on.
    pub(super) fn patch(&self, volume: &dyn ReadAt, at: u64, buf: &mut [u8]) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let size = self.block_size.max(1);
        let end = at.saturating_add(to_u64(buf.len()));
        for (block, copy) in self.within(at / size..end.div_ceil(size)) {
            let begins = block.saturating_mul(size);
            let from = begins.max(at);
            let to = begins.saturating_add(size).min(end);
            let part = to_usize(from.saturating_sub(at))..to_usize(to.saturating_sub(at));
            let Some(part) = buf.get_mut(part) else { continue };
            let into = from.saturating_sub(begins);
            volume.read_at(copy.at.saturating_add(into), part)?;
            if copy.is_escaped {
                unescape(part, into);
            }
        }
        Ok(())
    }
}

/// Puts back the magic number into `part`, which holds the bytes of a block from its byte `into` on.
fn unescape(part: &mut [u8], into: u64) {
    let missing = JBD2_MAGIC.to_be_bytes();
    for (byte, magic) in part.iter_mut().zip(missing.iter().skip(to_usize(into))) {
        *byte = *magic;
    }
}
