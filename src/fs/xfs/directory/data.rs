//! The data blocks of a directory: read in large pieces, parsed entry by entry.

use super::{ADDRESS_LOG, LEAF_SPACE};
use crate::bytes::{be_u16, be_u32, be_u64, to_u64, to_usize};
use crate::fs::xfs::bmap::{self, Run};
use crate::fs::xfs::disk::{Disk, Header, corrupt};
use crate::fs::xfs::inode::{Dinode, Fork};
use crate::fs::{FileType, Inode, Result};

/// `XD2B`, `XDB3`: the only block of a directory, with the hashes at its end.
const BLOCK_MAGIC: [u32; 2] = [0x5844_3242, 0x5844_4233];
/// `XD2D`, `XDD3`: a block of names only.
const DATA_MAGIC: [u32; 2] = [0x5844_3244, 0x5844_4433];
/// Bytes before the entries: version 4, version 5.
const HEADER: (usize, usize) = (16, 64);
/// Tag of unused space where an entry has the upper bits of its number, which are never all set.
const FREE_TAG: u16 = 0xffff;
/// Bytes of a block read at once: the first time, and at most.
const WINDOW: (usize, usize) = (16 << 10, 256 << 10);

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Where it lies in the directory's own space, in units of 8 bytes.
    pub(super) address: u64,
    pub(super) name: &'a [u8],
    pub(super) inode: Inode,
    pub(super) file_type: Option<FileType>,
}

/// A data block that passed its checksum.
pub(super) struct Block<'a> {
    /// Byte of the directory's own space at which it begins.
    start: u64,
    /// Byte of the volume at which it begins.
    at: u64,
    bytes: &'a [u8],
    /// Bytes of `bytes` before which entries end.
    end: usize,
    header: usize,
    typed: bool,
    /// It is the whole directory.
    is_only: bool,
}

impl<'a> Block<'a> {
    /// Checks the block of the directory that begins at byte `start` of its space.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn parse(disk: &Disk, inode: &Dinode, start: u64, at: u64, bytes: &'a [u8]) -> Result<Self> {
        let what = "a block of the directory";
        disk.verify(bytes, Header::DIRECTORY_DATA, at, inode.number, what)?;
        let magic = be_u32(bytes, 0).unwrap_or(0);
        let is_only = BLOCK_MAGIC.contains(&magic) && start == 0;
        let end = match is_only {
            true => end_of_entries(bytes),
            false => DATA_MAGIC.contains(&magic).then_some(bytes.len()),
        };
        let end = end.ok_or_else(|| corrupt(format!("{what} of inode {}", inode.number), at))?;
        Ok(Self {
            start,
            at,
            bytes,
            end,
            header: if disk.superblock.checksums { HEADER.1 } else { HEADER.0 },
            typed: disk.superblock.file_types,
            is_only,
        })
    }

    /// Says whether the block is the whole directory.
    pub(super) fn is_only(&self) -> bool {
        self.is_only
    }

    /// Walks the entries whose place in the directory's space is not below byte `from`.
    pub(super) fn entries(&self, from: u64) -> Entries<'_> {
        Entries {
            block: self,
            next: self.header,
            from,
        }
    }

    /// The entry at a byte of the directory's space; `None` if none can be there.
    pub(super) fn entry_at(&self, byte: u64) -> Option<Entry<'_>> {
        let offset = to_usize(byte.checked_sub(self.start)?);
        (offset >= self.header)
            .then(|| self.entry(offset))
            .flatten()
            .map(|(entry, _)| entry)
    }

    /// Entry at an offset in the block, with its length: number, length of the name, name, type, padding, own offset.
    fn entry(&self, offset: usize) -> Option<(Entry<'_>, usize)> {
        let entry = self.bytes.get(offset..self.end)?;
        let number = be_u64(entry, 0)?;
        let name_len = usize::from(*entry.get(8)?);
        let name = entry.get(9..)?.get(..name_len).filter(|name| !name.is_empty())?;
        let len = (9 + name_len + usize::from(self.typed) + 2).next_multiple_of(8);
        let tag = be_u16(entry.get(..len)?, len - 2)?;
        let sound = be_u16(entry, 0) != Some(FREE_TAG) && usize::from(tag) == offset;
        let file_type = if self.typed {
            FileType::from_entry(*entry.get(9 + name_len)?)
        } else {
            None
        };
        let entry = Entry {
            address: self.start.saturating_add(to_u64(offset)) >> ADDRESS_LOG,
            name,
            inode: Inode(number),
            file_type,
        };
        sound.then_some((entry, len))
    }

    /// Length of the unused space at an offset; `None` if an entry is there, or nothing sound.
    fn unused(&self, offset: usize) -> Option<usize> {
        let unused = self.bytes.get(offset..self.end)?;
        let len = usize::from(be_u16(unused, 2).filter(|_| be_u16(unused, 0) == Some(FREE_TAG))?);
        (len >= 8 && len.is_multiple_of(8) && len <= unused.len()).then_some(len)
    }
}

/// Where the entries of a directory of one block end: before the hashes, which `struct xfs_dir2_block_tail` counts.
fn end_of_entries(bytes: &[u8]) -> Option<usize> {
    let tail = bytes.len().checked_sub(8)?;
    let hashes = to_usize(u64::from(be_u32(bytes, tail)?));
    tail.checked_sub(hashes.checked_mul(8)?)
}

/// The entries of a block in order; after an error there are no more.
pub(super) struct Entries<'a> {
    block: &'a Block<'a>,
    next: usize,
    from: u64,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.block;
        while self.next < block.end {
            let offset = self.next;
            if let Some(len) = block.unused(offset) {
                self.next = offset.saturating_add(len);
            } else if let Some((entry, len)) = block.entry(offset) {
                self.next = offset.saturating_add(len);
                if entry.address << ADDRESS_LOG >= self.from {
                    return Some(Ok(entry));
                }
            } else {
                self.next = block.end;
                let at = block.at.saturating_add(to_u64(offset));
                return Some(Err(corrupt("an entry of a directory", at)));
            }
        }
        None
    }
}

/// Gives the data blocks of a directory from block `first` on, until `visit` returns `false`.
///
/// Blocks that became empty are holes, and are passed over.
///
/// # Errors
/// `Corrupt`, or what `visit` fails with.
pub(super) fn blocks(
    disk: &Disk,
    inode: &Dinode,
    first: u64,
    visit: &mut dyn FnMut(&Block<'_>) -> Result<bool>,
) -> Result<()> {
    let superblock = &disk.superblock;
    let per_block = 1 << (superblock.directory_log - superblock.block_log);
    let first = first.saturating_mul(per_block);
    let limit = LEAF_SPACE >> superblock.block_log;
    let mut window = Window::new(disk, inode);
    for run in bmap::runs(disk, inode, Fork::Data, first)? {
        let run = run?;
        if run.start >= limit {
            break;
        }
        let stop = run.end().min(limit);
        let mut next = run.start.max(first);
        while next < stop {
            if window.end() != next {
                if !window.give(visit)? {
                    return Ok(());
                }
                window.start = next;
            }
            next = window.fill(&run, next, stop)?;
            if window.is_full() && !window.give(visit)? {
                return Ok(());
            }
        }
    }
    window.give(visit)?;
    Ok(())
}

/// Neighbouring blocks of a directory, in memory: larger with each turn, so that a short question reads little.
struct Window<'a> {
    disk: &'a Disk,
    inode: &'a Dinode,
    /// First block of the file, in blocks of the file system.
    start: u64,
    bytes: Vec<u8>,
    /// Offset in `bytes` and byte of the volume of each piece.
    pieces: Vec<(usize, u64)>,
    room: usize,
}

impl<'a> Window<'a> {
    fn new(disk: &'a Disk, inode: &'a Dinode) -> Self {
        Self {
            disk,
            inode,
            start: 0,
            bytes: Vec::new(),
            pieces: Vec::new(),
            room: WINDOW.0.max(disk.superblock.directory_size()),
        }
    }

    fn end(&self) -> u64 {
        self.start
            .saturating_add(to_u64(self.bytes.len()) >> self.disk.superblock.block_log)
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.room
    }

    /// Reads blocks of `run` from `next` on, at most to `stop`; says where it ended.
    fn fill(&mut self, run: &Run, next: u64, stop: u64) -> Result<u64> {
        let block_log = self.disk.superblock.block_log;
        let room = to_u64(self.room.saturating_sub(self.bytes.len()));
        let len = ((stop - next) << block_log).min(room);
        if run.unwritten {
            return Err(self.inode.corrupt("a directory in space that was never written"));
        }
        let at = run.at.saturating_add((next - run.start) << block_log);
        self.pieces.push((self.bytes.len(), at));
        self.disk.append(at, to_usize(len), &mut self.bytes)?;
        Ok(next + (len >> block_log))
    }

    /// Gives every block, and begins anew after them.
    fn give(&mut self, visit: &mut dyn FnMut(&Block<'_>) -> Result<bool>) -> Result<bool> {
        let superblock = &self.disk.superblock;
        let len = superblock.directory_size();
        let start = self.start << superblock.block_log;
        let begins_whole = start.is_multiple_of(to_u64(len)) || self.bytes.is_empty();
        if !begins_whole || !self.bytes.len().is_multiple_of(len) {
            return Err(self.inode.corrupt("a block of the directory is partly a hole"));
        }
        for (bytes, offset) in self.bytes.chunks_exact(len).zip((0..).step_by(len)) {
            let start = start.saturating_add(to_u64(offset));
            let block = Block::parse(self.disk, self.inode, start, self.place(offset), bytes)?;
            if !visit(&block)? || block.is_only() {
                return Ok(false);
            }
        }
        self.start = self.end();
        self.bytes.clear();
        self.pieces.clear();
        self.room = self.room.saturating_mul(2).min(WINDOW.1);
        Ok(true)
    }

    /// Byte of the volume of an offset in the window.
    fn place(&self, offset: usize) -> u64 {
        let after = self.pieces.partition_point(|(begin, _)| *begin <= offset);
        let piece = self.pieces.get(after.saturating_sub(1));
        piece.map_or(0, |(begin, at)| {
            at.saturating_add(to_u64(offset.saturating_sub(*begin)))
        })
    }
}
