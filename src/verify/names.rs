//! Names of the files of a stored tree that have lost something.

use super::Result;
use super::report::{HurtBackup, HurtFile};
use super::trees::Loss;
use super::walk::Walk;
use crate::bytes::size_text;
use crate::vault::Tree;
use crate::vault::item::{Key, Kind, NameTarget};
use crate::vault::map::PageRef;
use crate::vault::tree_page::Page;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// Most files that are told of one backup.
const MAX_FILES: usize = 10_000;
/// Most directories that are remembered to put paths together.
const MAX_DIRECTORIES: usize = 1 << 20;
/// Deepest path.
const MAX_DEPTH: usize = 4096;
/// The type of a directory in a name's item.
const DIRECTORY: u8 = 4;

/// A name and the directory that it is in.
type Named = (u64, Vec<u8>);

/// What is looked for, and what was found.
#[derive(Default)]
struct Search {
    /// Files with lost chunks: how many, and where the first of them lies.
    pieces: BTreeMap<u64, (u64, u64)>,
    /// Files whose records may be lost.
    ranges: Vec<RangeInclusive<u64>>,
    directories: HashMap<u64, Named>,
    found: BTreeMap<u64, Named>,
}

impl Search {
    fn wants(&self, inode: u64) -> bool {
        self.pieces.contains_key(&inode) || self.ranges.iter().any(|range| range.contains(&inode))
    }

    fn take(&mut self, key: &Key<'_>, value: &[u8]) {
        let Some(target) = NameTarget::decode(value).filter(|_| key.kind == Kind::Name) else {
            return;
        };
        let named = || (key.inode, key.rest.to_vec());
        if target.type_code == DIRECTORY && self.directories.len() < MAX_DIRECTORIES {
            self.directories.insert(target.inode, named());
        }
        if self.wants(target.inode) && self.found.len() < MAX_FILES {
            self.found.entry(target.inode).or_insert_with(named);
        }
    }

    /// The path of a file below the backup.
    fn path(&self, root: u64, (parent, name): &Named) -> Vec<u8> {
        let mut names = vec![name.as_slice()];
        let mut at = *parent;
        while at != root && names.len() < MAX_DEPTH {
            match self.directories.get(&at) {
                Some((parent, name)) => {
                    names.push(name);
                    at = *parent;
                }
                None => {
                    // The name of a directory above is lost, too.
                    names.push(b"...");
                    break;
                }
            }
        }
        names.push(b"tree");
        names.reverse();
        names.join(&b'/')
    }
}

/// Tells which files of a tree have lost something.
pub(super) fn tell(walk: &Walk<'_>, tree: &Tree, losses: &[Loss], hurt: &mut HurtBackup) -> Result<()> {
    let mut search = Search::default();
    for loss in losses {
        match loss {
            Loss::Chunk { inode, offset } => {
                let (count, first) = search.pieces.entry(*inode).or_insert((0, *offset));
                *count = count.saturating_add(1);
                *first = (*first).min(*offset);
            }
            Loss::Items { from, to } => {
                let inode = |key: &[u8]| Key::decode(key).map(|key| key.inode);
                let first = inode(from).unwrap_or_default();
                let last = to.as_deref().and_then(inode).unwrap_or(u64::MAX);
                hurt.notes.push(format!(
                    "a page of its tree is lost: attributes, names or content of files with inode numbers from {first} to {last}"
                ));
                search.ranges.push(first..=last);
            }
        }
    }
    scan(walk, tree, &mut search)?;
    let root = tree.root_inode;
    for (inode, named) in &search.found {
        hurt.files.push(HurtFile {
            path: search.path(root, named),
            what: what(search.pieces.get(inode)),
        });
    }
    for (inode, piece) in search
        .pieces
        .iter()
        .filter(|(inode, _)| !search.found.contains_key(inode))
    {
        let what = what(Some(piece));
        hurt.notes.push(format!(
            "a file whose name is not known, with inode number {inode}: {what}"
        ));
    }
    hurt.notes.truncate(MAX_FILES);
    hurt.files.sort_unstable();
    Ok(())
}

fn what(piece: Option<&(u64, u64)>) -> String {
    match piece {
        Some((1, first)) => format!("the piece at byte {first} ({}) is lost", size_text(*first)),
        Some((count, first)) => format!(
            "{count} pieces are lost, the first at byte {first} ({})",
            size_text(*first)
        ),
        None => "its attributes, names or content may be lost".to_owned(),
    }
}

/// Goes through all names that can be read.
fn scan(walk: &Walk<'_>, tree: &Tree, search: &mut Search) -> Result<()> {
    let mut waiting: Vec<(PageRef, u8)> = vec![(tree.root, tree.height)];
    // No more than one page for each item on each level: a hostile tree could have pages stand for themselves many times.
    let mut budget = tree.items.saturating_mul(2).saturating_add(64);
    while let Some((place, level)) = waiting.pop() {
        let Some(left) = budget.checked_sub(1) else { break };
        budget = left;
        walk.check_cancelled()?;
        // What cannot be read was told of by the walk.
        let Ok(data) = walk.job.reader.tree_page(&place) else {
            continue;
        };
        let Some(page) = Page::parse(&data).filter(|page| page.level() == level) else {
            continue;
        };
        for number in 0..page.count() {
            if level > 0 {
                let child = page.child(number).map(|child| (child.page, level.saturating_sub(1)));
                waiting.extend(child);
            } else if let Some((key, value)) = page.entry(number)
                && let Some(key) = Key::decode(key)
            {
                search.take(&key, value);
            }
        }
    }
    Ok(())
}
