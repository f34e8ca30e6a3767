//! The tree of a file-system backup: every page, the order and number of its items, and every chunk that they refer to.

use super::report::Invariant;
use super::walk::{Backup, Footers, Got, Walk};
use super::{Result, crew};
use crate::bytes::{to_u64, to_usize};
use crate::vault::Tree;
use crate::vault::item::{ChunkRef, Key, Kind};
use crate::vault::map::{Entry, PageRef};
use crate::vault::tree_page::{Child, Page};
use std::sync::Arc;

/// Something of a tree that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// A run of a file's bytes.
    Chunk {
        /// The file.
        inode: u64,
        /// Where the run begins.
        offset: u64,
    },
    /// All items from one key up to another, which is not lost; up to the end if there is none.
    Items {
        /// The first key.
        from: Vec<u8>,
        /// The first key that is not lost.
        to: Option<Vec<u8>>,
    },
}

/// What was found in a page and below it.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// Number of items; `None` where a page is lost or was not looked at.
    items: Option<u64>,
    /// The first and the last key, if they are known.
    keys: Option<(Vec<u8>, Vec<u8>)>,
    losses: Vec<Loss>,
}

/// A page, and what the page above says of it.
struct Place<'a> {
    page: PageRef,
    level: u8,
    /// The key of its first item; empty for the root.
    first: &'a [u8],
    /// The first key of the next page.
    next: Option<&'a [u8]>,
}

/// Walks a tree; what is lost of it.
pub(super) fn tree(walk: &Walk<'_>, backup: &Backup, tree: &Tree) -> Result<Vec<Loss>> {
    let place = Place {
        page: tree.root,
        level: tree.height,
        first: &[],
        next: None,
    };
    let below = page(walk, backup, &place)?;
    if below.items.is_some_and(|items| items != tree.items) {
        walk.malformed(&tree.root, Invariant::Tree);
    }
    Ok(below.losses.clone())
}

fn page(walk: &Walk<'_>, backup: &Backup, place: &Place<'_>) -> Result<Arc<Below>> {
    let name = (place.page.id, place.level);
    if let Some(known) = walk.trees.lock().get(&name) {
        return Ok(Arc::clone(known));
    }
    if place.level == 0 && !walk.wants(&place.page) {
        return Ok(Arc::default());
    }
    let lost = || Below {
        losses: vec![Loss::Items {
            from: place.first.to_vec(),
            to: place.next.map(<[u8]>::to_vec),
        }],
        ..Below::default()
    };
    let load = |page: &PageRef| walk.job.reader.tree_page(page);
    let below = match walk.page(backup, &place.page, Invariant::Tree, load) {
        Got::Data(data) => {
            let sound = Page::parse(&data).filter(|page| page.level() == place.level && page.is_canonical());
            match sound {
                Some(page) if place.level == 0 => leaf(walk, backup, page),
                Some(page) => inner(walk, backup, place, page)?,
                None => {
                    walk.malformed(&place.page, Invariant::Tree);
                    lost()
                }
            }
        }
        Got::Lost => lost(),
        Got::Unknown => return Ok(Arc::default()),
    };
    let below = Arc::new(below);
    walk.trees.lock().insert(name, Arc::clone(&below));
    Ok(below)
}

fn entries(page: Page<'_>) -> Vec<(&[u8], &[u8])> {
    (0..page.count()).filter_map(|number| page.entry(number)).collect()
}

fn leaf(walk: &Walk<'_>, backup: &Backup, page: Page<'_>) -> Below {
    let entries = entries(page);
    let mut footers = Footers::new();
    let mut losses = Vec::new();
    for (key, value) in &entries {
        let run = Key::decode(key).filter(|key| key.kind == Kind::Chunk);
        let Some((key, chunk)) = run.and_then(|key| Some((key, ChunkRef::decode(value)?))) else {
            continue;
        };
        let entry = Entry {
            id: chunk.id,
            pack: chunk.pack,
        };
        let len = to_usize(chunk.len_bytes());
        if walk.is_lost(backup, (&entry, len), Invariant::Tree, &mut footers) {
            losses.push(Loss::Chunk {
                inode: key.inode,
                offset: key.offset().unwrap_or_default(),
            });
        }
    }
    let key = |entry: Option<&(&[u8], &[u8])>| entry.map(|(key, _)| key.to_vec());
    Below {
        items: Some(to_u64(entries.len())),
        keys: key(entries.first()).zip(key(entries.last())),
        losses,
    }
}

fn inner(walk: &Walk<'_>, backup: &Backup, place: &Place<'_>, page_above: Page<'_>) -> Result<Below> {
    let entries = entries(page_above);
    let mut places = Vec::with_capacity(entries.len());
    let mut items: Vec<u64> = Vec::with_capacity(entries.len());
    for (number, (first, value)) in entries.iter().enumerate() {
        // A page that is canonical has nothing else.
        let Some(child) = Child::decode(value) else { continue };
        let next = entries.get(number.saturating_add(1)).map(|(key, _)| *key);
        items.push(child.items);
        places.push(Place {
            page: child.page,
            level: place.level.saturating_sub(1),
            first,
            next: next.or(place.next),
        });
    }
    walk.check_cancelled()?;
    // Leaves are many, and each is little work: only they are shared out.
    let jobs = if place.level == 1 { walk.job.request.jobs } else { 1 };
    let found = crew::each(&places, jobs, || (), |(), place| page(walk, backup, place));
    let mut sum = Below {
        items: Some(0),
        keys: None,
        losses: Vec::new(),
    };
    let mut fits = true;
    for ((below, place), promised) in found.into_iter().zip(&places).zip(items) {
        let below = below?;
        fits &= below.items.is_none_or(|items| items == promised);
        if let Some((first, last)) = &below.keys {
            fits &= first == place.first && place.next.is_none_or(|next| last.as_slice() < next);
            let from = sum.keys.take().map_or_else(|| first.clone(), |(from, _)| from);
            sum.keys = Some((from, last.clone()));
        }
        sum.items = sum.items.and_then(|sum| sum.checked_add(promised));
        sum.losses.extend(below.losses.iter().cloned());
    }
    if !fits {
        walk.malformed(&place.page, Invariant::Tree);
    }
    Ok(sum)
}
