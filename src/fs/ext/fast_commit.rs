//! What fast commits changed: inodes, maps of blocks and names that stand before those on the volume.

use std::collections::{BTreeMap, BTreeSet};

use super::dirent::NAME_LEN;
use super::disk::Disk;
use super::group::inode_at;
use super::inode::{EXTENTS_FL, I_BLOCK, INLINE_DATA_FL, Node};
use super::journal::Change;
use super::mapping::{self, Flow, Run, Runs};
use crate::bytes::{le_u16, le_u32, to_usize};
use crate::fs::{Error, Result};

/// Most runs of all files whose maps are changed.
const MOST_RUNS: usize = 1 << 19;
/// Most changes that cannot be done before the rest is left out.
const MOST_FAILURES: usize = 100;
/// Most inodes that are changed.
const MOST_INODES: usize = 1 << 16;
/// Blocks that a file with extents can have.
const MAX_BLOCKS: u64 = 1 << 32;
/// Positions in directories from which on there are names that fast commits added; no directory is as long.
const COOKIES: u64 = 1 << 48;

/// Changes since the last transaction.
#[derive(Debug, Default)]
pub(super) struct FastCommits {
    inodes: BTreeMap<u64, Vec<u8>>,
    /// Maps that were changed, each by the first block of its runs.
    maps: BTreeMap<u64, BTreeMap<u64, Run>>,
    /// Runs in them.
    runs: usize,
    directories: BTreeMap<u64, Edits>,
}

/// Changes of one directory.
#[derive(Debug, Default)]
pub(super) struct Edits {
    added: BTreeMap<Vec<u8>, u32>,
    removed: BTreeSet<Vec<u8>>,
    /// Says whether the directory was made by a fast commit, so that its blocks were never written.
    is_new: bool,
}

/// What the changes say of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It stands for this inode.
    Here(u32),
    /// It is gone.
    Gone,
    /// Nothing.
    Nothing,
}

impl Edits {
    /// What the changes say of a name.
    pub(super) fn of(&self, name: &[u8]) -> Said {
        match self.added.get(name) {
            Some(inode) => Said::Here(*inode),
            None if self.is_new || self.removed.contains(name) => Said::Gone,
            None => Said::Nothing,
        }
    }

    /// Names that were added, after `cookie`, with the cookie to go on from.
    pub(super) fn added(&self, cookie: u64) -> impl Iterator<Item = (&[u8], u32, u64)> {
        let numbered = self.added.iter().zip(COOKIES..);
        let all = numbered.map(|((name, inode), at)| (name.as_slice(), *inode, at.saturating_add(1)));
        all.filter(move |(_, _, next)| *next > cookie)
    }

    /// Says whether the directory has nothing on the volume.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }
}

impl FastCommits {
    /// Does the changes again, on a volume whose journal was replayed.
    ///
    /// # Errors
    /// `Image`; a change that cannot be done is left out.
    pub(super) fn apply(disk: &mut Disk, changes: Vec<Change>) -> Result<()> {
        let mut failures = 0_usize;
        for change in changes {
            match disk.change(change) {
                Err(Error::Image(error)) => return Err(error.into()),
                Err(_) => failures = failures.saturating_add(1),
                Ok(()) => {}
            }
            if failures > MOST_FAILURES {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of an inode that was changed.
    pub(super) fn inode(&self, number: u64) -> Option<&Vec<u8>> {
        self.inodes.get(&number)
    }

    /// The changes of a directory.
    pub(super) fn directory(&self, number: u64) -> Option<&Edits> {
        self.directories.get(&number)
    }

    /// Collects the runs of a file whose map was changed; `None` if it was not.
    pub(super) fn walk(&self, number: u64, runs: &mut Runs) -> Option<Flow> {
        for run in self.maps.get(&number)?.values() {
            if run.end() <= runs.wanted.start {
                runs.pass(run.end());
            } else if runs.push(*run).is_break() {
                return Some(Flow::Break(()));
            }
        }
        Some(Flow::Continue(()))
    }
}

impl Disk {
    fn change(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Inode { number, raw } => self.change_inode(number, &raw),
            Change::AddRange {
                number,
                first,
                len,
                target,
            } => {
                if target.is_some_and(|target| !self.holds(target, len)) {
                    return Ok(());
                }
                self.change_map(number, Run { first, len, target })
            }
            Change::DelRange { number, first, len } => self.change_map(
                number,
                Run {
                    first,
                    len,
                    target: None,
                },
            ),
            Change::Create { parent, number, name } => {
                self.change_links(number, |_| 1)?;
                let edits = self.fast.directories.entry(number).or_default();
                edits.is_new = true;
                self.add_name(parent, number, name);
                Ok(())
            }
            Change::Link { parent, number, name } => {
                self.add_name(parent, number, name);
                Ok(())
            }
            Change::Unlink { parent, number, name } => {
                let edits = self.fast.directories.entry(parent).or_default();
                edits.added.remove(&name);
                edits.removed.insert(name);
                self.change_links(number, |links| links.saturating_sub(1))
            }
        }
    }

    fn add_name(&mut self, parent: u64, number: u64, name: Vec<u8>) {
        let Ok(number) = u32::try_from(number) else { return };
        if name.len() <= NAME_LEN {
            let edits = self.fast.directories.entry(parent).or_default();
            edits.removed.insert(name.clone());
            edits.added.insert(name, number);
        }
    }

    /// The bytes of an inode as they are by now.
    fn raw_inode(&self, number: u64) -> Result<Vec<u8>> {
        if let Some(raw) = self.fast.inode(number) {
            return Ok(raw.clone());
        }
        let mut raw = vec![0; to_usize(self.sb.inode_size)];
        if number == 0 || number > self.sb.inodes_count || self.fast.inodes.len() >= MOST_INODES {
            return Err(Error::NoInode {
                inode: crate::fs::Inode(number),
            });
        }
        self.read(inode_at(self, number)?, &mut raw)?;
        Ok(raw)
    }

    /// Takes over all fields but `i_block`, which the record has no newer content of.
    fn change_inode(&mut self, number: u64, new: &[u8]) -> Result<()> {
        let mut raw = self.raw_inode(number)?;
        let flags = le_u32(new, 0x20).unwrap_or_default();
        for (at, (byte, new)) in raw.iter_mut().zip(new).enumerate() {
            if !I_BLOCK.contains(&at) || (flags & EXTENTS_FL == 0 && flags & INLINE_DATA_FL != 0) {
                *byte = *new;
            }
        }
        if flags & EXTENTS_FL != 0
            && le_u16(&raw, I_BLOCK.start) != Some(0xf30a)
            && let Some(block) = raw.get_mut(I_BLOCK)
        {
            // An empty root: magic number, no entries, room for four.
            block.fill(0);
            for (byte, new) in block.iter_mut().zip([0x0a, 0xf3, 0, 0, 4, 0]) {
                *byte = new;
            }
        }
        self.fast.inodes.insert(number, raw);
        Ok(())
    }

    fn change_links(&mut self, number: u64, links: impl Fn(u16) -> u16) -> Result<()> {
        let mut raw = self.raw_inode(number)?;
        let count = links(le_u16(&raw, 0x1a).unwrap_or_default()).to_le_bytes();
        for (byte, new) in raw.iter_mut().skip(0x1a).zip(count) {
            *byte = new;
        }
        self.fast.inodes.insert(number, raw);
        Ok(())
    }

    /// Gives a run of a file's blocks another place.
    fn change_map(&mut self, number: u64, new: Run) -> Result<()> {
        let end = new.end().min(MAX_BLOCKS);
        if new.len == 0 || new.first >= end {
            return Ok(());
        }
        if !self.fast.maps.contains_key(&number) {
            let map = self.whole_map(number)?;
            self.fast.maps.insert(number, map);
        }
        self.fast.runs = self.fast.runs.saturating_add(2);
        let Some(map) = self.fast.maps.get_mut(&number) else {
            return Ok(());
        };
        let piece = |run: &Run, from: u64, to: u64| Run {
            first: from,
            len: to.saturating_sub(from),
            target: run
                .target
                .map(|target| target.saturating_add(from.saturating_sub(run.first))),
        };
        let before = map.range(..new.first).next_back().map(|(_, run)| *run);
        let mut met: Vec<Run> = before.into_iter().filter(|run| run.end() > new.first).collect();
        met.extend(map.range(new.first..end).map(|(_, run)| *run));
        for run in met {
            map.remove(&run.first);
            if run.first < new.first {
                map.insert(run.first, piece(&run, run.first, new.first));
            }
            if run.end() > end {
                map.insert(end, piece(&run, end, run.end()));
            }
        }
        map.insert(new.first, piece(&new, new.first, end));
        Ok(())
    }

    /// All runs of a file that have a place.
    fn whole_map(&mut self, number: u64) -> Result<BTreeMap<u64, Run>> {
        let node = Node::load(self, number)?;
        let mut map = BTreeMap::new();
        let mut at = 0;
        while at < MAX_BLOCKS {
            for run in mapping::runs(self, &node, at..MAX_BLOCKS)? {
                at = run.end();
                if run.target.is_some() {
                    map.insert(run.first, run);
                    self.fast.runs = self.fast.runs.saturating_add(1);
                }
            }
            if self.fast.runs > MOST_RUNS {
                return Err(node.corrupt("its block map is too large to be changed"));
            }
        }
        Ok(map)
    }
}
