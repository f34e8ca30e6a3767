//! Directory entries in a block: records one after another, each saying how far the next one is.

use crate::bytes::{le_u16, le_u32};
use crate::fs::FileType;

/// Length of an entry without its name.
const HEAD: usize = 8;
/// Most bytes of a name.
pub(super) const NAME_LEN: usize = 255;

/// An entry as it is in the block.
///
/// # Source
/// Linux Documentation/filesystems/ext4/directory.rst, `struct ext4_dir_entry_2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Inode; 0 if the space is free.
    pub(super) inode: u32,
    /// Name.
    pub(super) name: &'a [u8],
    /// `file_type`.
    pub(super) kind: u8,
    /// Byte of the block after the entry.
    pub(super) end: usize,
}

impl Entry<'_> {
    /// Says whether the entry is one that users see.
    pub(super) fn is_listed(&self) -> bool {
        self.inode != 0 && self.name != b"." && self.name != b".."
    }

    /// The type that the directory tells.
    pub(super) fn file_type(&self) -> Option<FileType> {
        FileType::from_entry(self.kind)
    }
}

/// The bytes of an entry from `at` on break the format; what follows in the block cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    /// Byte of the block.
    pub(super) at: usize,
}

/// Entries of one block, until its end or the first that is broken.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    /// Entries of a whole block, or of a part of an inode.
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }

    fn entry(&self) -> Option<Entry<'a>> {
        let rest = self.block.get(self.at..)?;
        let len = record_len(le_u16(rest, 4)?, self.block.len());
        let name_len = usize::from(*rest.get(6)?);
        let end = self.at.checked_add(len)?;
        if !len.is_multiple_of(4) || end > self.block.len() || HEAD.checked_add(name_len)? > len {
            return None;
        }
        Some(Entry {
            inode: le_u32(rest, 0)?,
            name: rest.get(HEAD..HEAD.checked_add(name_len)?)?,
            kind: *rest.get(7)?,
            end,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.block.len() {
            return None;
        }
        let Some(entry) = self.entry() else {
            let at = std::mem::replace(&mut self.at, usize::MAX);
            return Some(Err(Broken { at }));
        };
        self.at = entry.end;
        Some(Ok(entry))
    }
}

/// Length of a record: in blocks of 64 KiB the lowest two bits stand for bits 16 and 17, and 65535 and 0 for the whole block.
pub(super) fn record_len(raw: u16, block_len: usize) -> usize {
    let len = usize::from(raw);
    if block_len < 0x1_0000 {
        return len;
    }
    if matches!(len, 0 | 0xffff) {
        return block_len;
    }
    (len & 0xfffc) | (len & 3) << 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(inode: u32, len: u16, name: &[u8]) -> Vec<u8> {
        let mut bytes = inode.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend([u8::try_from(name.len()).unwrap(), 1]);
        bytes.extend(name);
        bytes.resize(usize::from(len).max(8), 0);
        bytes
    }

    #[test]
    fn records_of_length_zero_or_odd_end_the_block() {
        for len in [0, 4, 9, 11, 14, 4096] {
            let mut block = record(5, 12, b"good");
            block.extend(record(6, len, b"bad!"));
            block.resize(1024, 0);
            let found: Vec<_> = Entries::new(&block).collect();
            assert_eq!(found.len(), 2, "{len}");
            assert_eq!(found[0].unwrap().name, b"good");
            assert_eq!(found[1], Err(Broken { at: 12 }), "{len}");
        }
    }

    #[test]
    fn the_largest_blocks_have_longer_records() {
        assert_eq!(record_len(0xffff, 0x1_0000), 0x1_0000);
        assert_eq!(record_len(0, 0x1_0000), 0x1_0000);
        assert_eq!(record_len(0xfff4, 0x1_0000), 0xfff4);
        assert_eq!(record_len(0, 4096), 0);
    }
}
