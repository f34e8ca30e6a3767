//! Trees of hashes: finding a name in a large directory by reading a few blocks.

use super::directory::{check_block, tree_offset};
use super::dirent::Entries;
use super::disk::Disk;
use super::features::{Compat, Incompat};
use super::hash::{Sign, Version, hash};
use super::inode::{INDEX_FL, Node};
use super::{fold, mapping};
use crate::bytes::{le_u16, le_u32, to_usize};
use crate::fs::{Inode, Result};

/// Most leaves read for one name; more have the same hash only on a hostile volume.
const MOST_LEAVES: usize = 64;

/// What the tree says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name is there.
    Found(Inode),
    /// The name is not there.
    Absent,
    /// There is no tree, or it cannot be followed: all entries must be looked at.
    Unknown,
}

/// An entry of the tree: names whose hash is at least this, below the next one's, are in this block of the directory.
#[derive(Debug, Clone, Copy)]
struct Branch {
    hash: u32,
    block: u64,
}

/// A block of the tree, and which of its entries is on the way.
struct Frame {
    branches: Vec<Branch>,
    at: usize,
}

impl Frame {
    fn branch(&self) -> Option<Branch> {
        self.branches.get(self.at).copied()
    }
}

/// Looks a name up.
///
/// # Source
/// Linux Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories".
///
/// # Errors
/// `Image`; damage of the tree is an [`Answer::Unknown`].
pub(super) fn find(disk: &Disk, node: &Node, name: &[u8]) -> Result<Answer> {
    let has_tree = disk.sb.features.compat(Compat::DirIndex) && node.has(INDEX_FL) && !node.has_inline_data();
    let folds = fold::applies(disk, node);
    // The hash is that of the folded name, which is known for certain only where folding is plain.
    if !has_tree || folds && !name.is_ascii() || node.has(super::inode::ENCRYPT_FL) {
        return Ok(Answer::Unknown);
    }
    let Some((version, levels, root)) = root(disk, node)? else {
        return Ok(Answer::Unknown);
    };
    let hashed = if folds {
        name.to_ascii_lowercase()
    } else {
        name.to_vec()
    };
    let (wanted, _) = hash(&hashed, version, disk.sb.hash_seed);
    let Some(mut path) = descend(disk, node, vec![positioned(root, wanted)], levels, wanted)? else {
        return Ok(Answer::Unknown);
    };
    let mut folded = None;
    for _ in 0..MOST_LEAVES {
        let Some(branch) = path.last().and_then(Frame::branch) else {
            return Ok(Answer::Unknown);
        };
        let Some(bytes) = block(disk, node, branch.block)? else {
            return Ok(Answer::Unknown);
        };
        for entry in Entries::new(&bytes) {
            let Ok(entry) = entry else { return Ok(Answer::Unknown) };
            if !entry.is_listed() {
                continue;
            }
            if entry.name == name {
                return Ok(Answer::Found(Inode(u64::from(entry.inode))));
            }
            if folds && folded.is_none() && fold::same(entry.name, name) {
                folded = Some(Inode(u64::from(entry.inode)));
            }
        }
        match advance(disk, node, &mut path, wanted)? {
            Next::Leaf => {}
            Next::End => return Ok(folded.map_or(Answer::Absent, Answer::Found)),
            Next::Damaged => return Ok(Answer::Unknown),
        }
    }
    Ok(Answer::Unknown)
}

/// Hash, number of inner levels below the root, and entries of the root.
fn root(disk: &Disk, node: &Node) -> Result<Option<(Version, u8, Vec<Branch>)>> {
    let Some(bytes) = block(disk, node, 0)? else {
        return Ok(None);
    };
    let most = if disk.sb.features.incompat(Incompat::LargeDir) {
        2
    } else {
        1
    };
    let sign = sign(disk);
    let parsed = || {
        let version = Version::from_raw(*bytes.get(28)?, sign)?;
        let levels = *bytes.get(30)?;
        (tree_offset(&bytes) == Some(32) && levels <= most).then_some(())?;
        Some((version, levels, branches(&bytes, 32)?))
    };
    Ok(parsed())
}

/// The hash by which a directory is or would be ordered; `None` if it is unknown.
///
/// # Errors
/// `Image`.
pub(super) fn version(disk: &Disk, node: &Node) -> Result<Option<Version>> {
    if !disk.sb.features.compat(Compat::DirIndex) {
        return Ok(None);
    }
    if node.has(INDEX_FL) && !node.has_inline_data() {
        return Ok(root(disk, node)?.map(|(version, _, _)| version));
    }
    // A directory of one block is read as if it had a tree.
    let is_small = node.has_inline_data() || node.size == disk.sb.block_size;
    let version = Version::from_raw(disk.sb.hash_version, sign(disk));
    Ok(version.filter(|_| is_small))
}

fn sign(disk: &Disk) -> Sign {
    if disk.sb.unsigned_hash {
        Sign::Unsigned
    } else {
        Sign::Signed
    }
}

/// Entries of a block of the tree, from `offset` on: the first has its hash replaced by how many there are.
fn branches(bytes: &[u8], offset: usize) -> Option<Vec<Branch>> {
    let limit = le_u16(bytes, offset)?;
    let count = le_u16(bytes, offset.checked_add(2)?)?;
    let room = bytes.len().checked_sub(offset)?.checked_div(8)?;
    if count == 0 || count > limit || usize::from(limit) > room {
        return None;
    }
    let end = offset.checked_add(usize::from(count).checked_mul(8)?)?;
    let entries = bytes.get(offset..end)?.as_chunks::<8>().0.iter().zip(0_u32..);
    entries
        .map(|(raw, index)| {
            Some(Branch {
                hash: if index == 0 { 0 } else { le_u32(raw, 0)? },
                block: u64::from(le_u32(raw, 4)? & 0x0fff_ffff),
            })
        })
        .collect()
}

/// A frame at the last entry whose names may have the hash.
fn positioned(branches: Vec<Branch>, wanted: u32) -> Frame {
    let above = branches
        .iter()
        .skip(1)
        .take_while(|branch| branch.hash <= wanted)
        .count();
    Frame { branches, at: above }
}

/// Follows the tree from the last frame of `path` down `levels` levels; `None` if it is damaged.
fn descend(disk: &Disk, node: &Node, mut path: Vec<Frame>, levels: u8, wanted: u32) -> Result<Option<Vec<Frame>>> {
    for _ in 0..levels {
        let Some(branch) = path.last().and_then(Frame::branch) else {
            return Ok(None);
        };
        let Some(bytes) = block(disk, node, branch.block)? else {
            return Ok(None);
        };
        if tree_offset(&bytes) != Some(8) {
            return Ok(None);
        }
        let Some(branches) = branches(&bytes, 8) else {
            return Ok(None);
        };
        path.push(positioned(branches, wanted));
    }
    Ok(Some(path))
}

/// What follows a leaf.
enum Next {
    /// Another leaf with names of the same hash.
    Leaf,
    /// None.
    End,
    /// The tree breaks off.
    Damaged,
}

/// Goes on to the next leaf if it has names of the same hash too: its entry's hash then has the lowest bit set.
fn advance(disk: &Disk, node: &Node, path: &mut Vec<Frame>, wanted: u32) -> Result<Next> {
    let depth = path.len();
    while let Some(mut frame) = path.pop() {
        frame.at = frame.at.saturating_add(1);
        let Some(branch) = frame.branch() else { continue };
        if branch.hash & !1 != wanted {
            return Ok(Next::End);
        }
        path.push(frame);
        let below = u8::try_from(depth.saturating_sub(path.len())).unwrap_or(u8::MAX);
        // The names go on at the very beginning of what follows.
        return Ok(match descend(disk, node, std::mem::take(path), below, 0)? {
            Some(found) => {
                *path = found;
                Next::Leaf
            }
            None => Next::Damaged,
        });
    }
    Ok(Next::End)
}

/// A block of the directory; `None` if there is none or it is damaged.
fn block(disk: &Disk, node: &Node, index: u64) -> Result<Option<Vec<u8>>> {
    if index >= node.size / disk.sb.block_size {
        return Ok(None);
    }
    let Ok(runs) = mapping::runs(disk, node, index..index.saturating_add(1)) else {
        return Ok(None);
    };
    let Some((run, target)) = runs.first().and_then(|run| Some((run, run.target?))) else {
        return Ok(None);
    };
    let mut bytes = vec![0; to_usize(disk.sb.block_size)];
    let at = disk.byte_of(target.saturating_add(index.saturating_sub(run.first)));
    disk.read(at, &mut bytes)?;
    Ok(check_block(disk, node, index, &bytes).is_ok().then_some(bytes))
}
