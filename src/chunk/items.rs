//! The items of a stored tree, in their order: found by key or by rank, each in a handful of pages however large the tree is.

use std::sync::Arc;

use super::cache::Chunk;
use super::{Error, Reader, Result, key_text};
use crate::bytes::to_u64;
use crate::vault::map::PageRef;
use crate::vault::object::ObjectType;
use crate::vault::tree_page::Page;

/// Takes items in their order: rank, key and value; says whether it wants more.
pub type Visit<'v> = dyn FnMut(u64, &[u8], &[u8]) -> bool + 'v;

/// A stored tree of items.
#[derive(Clone)]
pub struct Items {
    reader: Arc<Reader>,
    root: PageRef,
    height: u8,
    count: u64,
}

/// One item, with the page that holds it.
#[derive(Clone)]
pub struct Item {
    page: Chunk,
    number: usize,
}

impl Item {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.entry().0
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.entry().1
    }

    fn entry(&self) -> (&[u8], &[u8]) {
        // It was there when the item was made, and a chunk never changes.
        let entry = Page::parse(&self.page).and_then(|page| page.entry(self.number));
        entry.unwrap_or_default()
    }
}

/// A page on the way from the root to an item, and which of its entries the way takes.
struct Step {
    page: Chunk,
    place: PageRef,
    number: usize,
}

/// What is wanted of an item: its key is this one or the next after it, or it has this rank.
#[derive(Clone, Copy)]
enum Wanted<'k> {
    Key(&'k [u8]),
    Rank(u64),
}

impl Items {
    /// The tree with this root page of level `height`, said to have `count` items.
    #[must_use]
    pub fn new(reader: &Arc<Reader>, root: PageRef, height: u8, count: u64) -> Self {
        let reader = Arc::clone(reader);
        Self {
            reader,
            root,
            height,
            count,
        }
    }

    /// Number of items.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The item with exactly this key.
    ///
    /// # Errors
    /// As [`Reader::tree_page`]; `Corrupt` where a page breaks the format.
    pub fn get(&self, key: &[u8]) -> Result<Option<Item>> {
        let (way, _) = self.descend(Wanted::Key(key))?;
        let Some(leaf) = way.last() else { return Ok(None) };
        let found = parse(leaf)?.entry(leaf.number).is_some_and(|(found, _)| found == key);
        Ok(found.then(|| Item {
            page: Arc::clone(&leaf.page),
            number: leaf.number,
        }))
    }

    /// The last item whose key is at most this one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn floor(&self, key: &[u8]) -> Result<Option<Item>> {
        let (way, _) = self.descend(Wanted::Key(key))?;
        let Some(leaf) = way.last() else { return Ok(None) };
        let page = parse(leaf)?;
        let exact = page.entry(leaf.number).is_some_and(|(found, _)| found == key);
        let number = if exact {
            Some(leaf.number)
        } else {
            leaf.number.checked_sub(1)
        };
        // The way leads to the leaf whose first key is not above the wanted one, if there is any such leaf.
        Ok(number.filter(|number| *number < page.count()).map(|number| Item {
            page: Arc::clone(&leaf.page),
            number,
        }))
    }

    /// Gives the items from the first with a key not below `from` on to `visit`, with their ranks, until it returns `false`.
    ///
    /// # Errors
    /// As [`get`](Self::get); items before the damage have been given.
    pub fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.walk(Wanted::Key(from), visit)
    }

    /// As [`scan`](Self::scan), from the item with this rank on; the first has rank 0.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn scan_from_rank(&self, rank: u64, visit: &mut Visit<'_>) -> Result<()> {
        if rank >= self.count {
            return Ok(());
        }
        self.walk(Wanted::Rank(rank), visit)
    }

    /// Gives every page of the tree to `visit`, parents before their children; leaves are not read.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn pages(&self, visit: &mut dyn FnMut(&PageRef)) -> Result<()> {
        let mut waiting = vec![(self.root, self.height)];
        // No more than one page for each item on each level: a hostile tree could have pages stand for themselves many times.
        let mut budget = self.count.saturating_mul(2).saturating_add(64);
        while let Some((place, level)) = waiting.pop() {
            budget = budget.checked_sub(1).ok_or_else(|| damaged(&place))?;
            visit(&place);
            let Some(below) = level.checked_sub(1) else { continue };
            let data = self.load(&place, level)?;
            let page = Page::parse(&data).ok_or_else(|| damaged(&place))?;
            for number in 0..page.count() {
                let child = page.child(number).ok_or_else(|| damaged(&place))?;
                waiting.push((child.page, below));
            }
        }
        Ok(())
    }

    fn load(&self, place: &PageRef, level: u8) -> Result<Chunk> {
        let data = self.reader.tree_page(place)?;
        let right = Page::parse(&data).is_some_and(|page| page.level() == level);
        if right { Ok(data) } else { Err(damaged(place)) }
    }

    /// The way to the wanted item, the leaf last, and the rank of the leaf's entry; a number past the leaf's last entry means the
    /// first entry of the next leaf.
    fn descend(&self, wanted: Wanted<'_>) -> Result<(Vec<Step>, u64)> {
        let mut way = Vec::with_capacity(usize::from(self.height) + 1);
        let data = self.load(&self.root, self.height)?;
        let mut step = Step {
            page: data,
            place: self.root,
            number: 0,
        };
        let (mut rank, mut below_all) = (0u64, None);
        loop {
            let page = parse(&step)?;
            let number = self.choose(&page, wanted, &mut rank);
            let number = number.ok_or_else(|| damaged(&step.place))?;
            if matches!(wanted, Wanted::Rank(_)) && !in_order(&page, number, &mut below_all) {
                return Err(damaged(&step.place));
            }
            let is_leaf = page.level() == 0;
            step.number = number;
            if is_leaf {
                way.push(step);
                return Ok((way, rank));
            }
            let below = self.below(&step)?;
            way.push(step);
            step = below;
        }
    }

    /// The page that a step leads to, at its first entry.
    fn below(&self, step: &Step) -> Result<Step> {
        let page = parse(step)?;
        let child = page.child(step.number).ok_or_else(|| damaged(&step.place))?;
        let data = self.load(&child.page, page.level().saturating_sub(1))?;
        let below = Step {
            page: data,
            place: child.page,
            number: 0,
        };
        // Or else many entries could lead to one page, and its items come again and again.
        let first = parse(&below)?.entry(0).map(|(key, _)| key);
        if first.is_none() || first != page.entry(step.number).map(|(key, _)| key) {
            return Err(damaged(&step.place));
        }
        Ok(below)
    }

    /// Which entry of a page leads to the wanted item; adds the items that it passes to `rank`.
    fn choose(&self, page: &Page<'_>, wanted: Wanted<'_>, rank: &mut u64) -> Option<usize> {
        let number = match (wanted, page.level()) {
            (Wanted::Key(key), 0) => page.lower_bound(key)?,
            (Wanted::Key(key), _) => {
                let first_not_below = page.lower_bound(key)?;
                let exact = page.entry(first_not_below).is_some_and(|(first, _)| first == key);
                if exact {
                    first_not_below
                } else {
                    first_not_below.saturating_sub(1)
                }
            }
            (Wanted::Rank(wanted), 0) => {
                let number = usize::try_from(wanted.checked_sub(*rank)?).ok()?;
                (number < page.count()).then_some(number)?
            }
            (Wanted::Rank(wanted), _) => {
                let mut left = wanted.checked_sub(*rank)?;
                let mut number = 0;
                loop {
                    match left.checked_sub(page.child(number)?.items) {
                        None => break number,
                        Some(rest) => left = rest,
                    }
                    number += 1;
                }
            }
        };
        let passed = match page.level() {
            0 => to_u64(number),
            _ => (0..number).try_fold(0u64, |sum, number| sum.checked_add(page.child(number)?.items))?,
        };
        *rank = rank.checked_add(passed)?;
        Some(number)
    }

    fn walk(&self, from: Wanted<'_>, visit: &mut Visit<'_>) -> Result<()> {
        let (mut way, mut rank) = self.descend(from)?;
        let mut before: Vec<u8> = Vec::new();
        loop {
            let Some(leaf) = way.last_mut() else { return Ok(()) };
            let page = parse(leaf)?;
            for number in leaf.number..page.count() {
                let (key, value) = page.entry(number).ok_or_else(|| damaged(&leaf.place))?;
                // Whatever the pages say, this never goes round in a circle.
                if *before >= *key {
                    return Err(damaged(&leaf.place));
                }
                if !visit(rank, key, value) {
                    return Ok(());
                }
                before.clear();
                before.extend_from_slice(key);
                rank = rank.saturating_add(1);
            }
            if !self.next_leaf(&mut way)? {
                return Ok(());
            }
        }
    }

    /// Goes on to the first entry of the leaf after the last step's; `false` if that is the last leaf.
    fn next_leaf(&self, way: &mut Vec<Step>) -> Result<bool> {
        way.pop();
        while let Some(step) = way.last_mut() {
            step.number = step.number.saturating_add(1);
            if step.number < parse(step)?.count() {
                break;
            }
            way.pop();
        }
        while let Some(step) = way.last() {
            let below = self.below(step)?;
            let is_leaf = parse(&below)?.level() == 0;
            way.push(below);
            if is_leaf {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Says whether an entry's key is above that of the entry before it and below every key of `below_all`, the least of the keys that
/// follow on the way from the root. A scan that goes on at a rank knows nothing of what was given before; this holds it to
/// the order of keys, so that no scan in parts gives an item twice.
fn in_order(page: &Page<'_>, number: usize, below_all: &mut Option<Vec<u8>>) -> bool {
    let key = |number: usize| page.entry(number).map(|(key, _)| key);
    let Some(this) = key(number) else { return false };
    if let Some(next) = key(number.saturating_add(1)).filter(|_| page.level() > 0)
        && below_all.as_deref().is_none_or(|least| next < least)
    {
        *below_all = Some(next.to_vec());
    }
    let above = number
        .checked_sub(1)
        .is_none_or(|before| key(before).is_some_and(|before| before < this));
    above && below_all.as_deref().is_none_or(|least| this < least)
}

fn parse(step: &Step) -> Result<Page<'_>> {
    Page::parse(&step.page).ok_or_else(|| damaged(&step.place))
}

fn damaged(place: &PageRef) -> Error {
    Error::Corrupt {
        object: key_text(ObjectType::MetaPack, &place.pack),
        what: format!("tree page {} breaks its format", crate::bytes::hex(&place.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::vault::item::{Kind, chunk_key, first_key};
    use crate::vault::object::ObjectId;
    use crate::vault::pack::Builder as Pack;
    use crate::vault::tree_page::{Builder, Child, page_id};
    use crate::vault::{self, Vault, pack_key};

    const PACK: ObjectId = [7; 16];

    /// Stores items in pages of `width` entries on each level.
    fn tree(keys: &[Vec<u8>], width: usize) -> Items {
        let config = vault::new_config("test", 1 << 16, &crate::clock::System).unwrap();
        let vault = Vault::create(Arc::new(MemoryStore::new()), config).unwrap();
        let mut pack = Pack::new(vault.frame(ObjectType::MetaPack, PACK));
        let mut entries: Vec<(Vec<u8>, Vec<u8>, u64)> =
            keys.iter().map(|key| (key.clone(), key[8..].to_vec(), 1)).collect();
        let mut level = 0;
        loop {
            let mut above = Vec::new();
            for group in entries.chunks(width) {
                let mut builder = Builder::default();
                group.iter().for_each(|(key, value, _)| builder.push(key, value));
                let encoded = builder.take(level);
                let id = page_id(&encoded);
                pack.push(id, vault::codec::Codec::Raw, &encoded, encoded.len());
                let items = group.iter().map(|(_, _, items)| items).sum();
                let page = PageRef { id: id.0, pack: PACK };
                above.push((group[0].0.clone(), Child { page, items }.encode(), items));
            }
            if let [(_, value, items)] = &above[..] {
                let key = pack_key(ObjectType::MetaPack, &PACK).unwrap();
                vault.store().put_new(&key, &pack.finish()).unwrap();
                let root = Child::decode(value).unwrap().page;
                return Items::new(&Reader::new(vault.clone(), 8 << 20), root, level, *items);
            }
            entries = above;
            level += 1;
        }
    }

    #[test]
    fn search_agrees_with_a_sorted_list() {
        let keys: Vec<Vec<u8>> = (0..500u64)
            .map(|number| chunk_key(3 + number / 100, number * 10))
            .collect();
        for width in [3, 4, 7, 500] {
            let items = tree(&keys, width);
            for probe in (0..5100).step_by(3) {
                for inode in 2..9 {
                    let key = chunk_key(inode, probe);
                    let at = keys.partition_point(|other| *other < key);
                    let exact = keys.get(at) == Some(&key);
                    let got = items.get(&key).unwrap();
                    assert_eq!(got.map(|item| item.key().to_vec()), exact.then(|| key.clone()));
                    let floor = if exact { Some(at) } else { at.checked_sub(1) };
                    let got = items.floor(&key).unwrap();
                    assert_eq!(got.map(|item| item.key().to_vec()), floor.map(|at| keys[at].clone()));
                    let mut scanned = Vec::new();
                    let visit = &mut |rank, key: &[u8], value: &[u8]| {
                        assert_eq!(value, &key[8..]);
                        scanned.push((rank, key.to_vec()));
                        scanned.len() < 5
                    };
                    if probe % 50 == 0 {
                        items.scan(&key, visit).unwrap();
                        let expected: Vec<_> = (0u64..).zip(keys.clone()).skip(at).take(5).collect();
                        assert_eq!(scanned, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn a_scan_goes_on_from_any_rank_to_the_end() {
        let keys: Vec<Vec<u8>> = (0..100u64).map(|number| first_key(number + 1, Kind::Inode)).collect();
        let items = tree(&keys, 3);
        for rank in 0..102u64 {
            let mut seen = Vec::new();
            let visit = &mut |rank, key: &[u8], _: &[u8]| {
                seen.push((rank, key.to_vec()));
                true
            };
            items.scan_from_rank(rank, visit).unwrap();
            let expected: Vec<_> = (0u64..)
                .zip(keys.clone())
                .skip(usize::try_from(rank).unwrap())
                .collect();
            assert_eq!(seen, expected);
        }
        let mut pages = 0;
        items.pages(&mut |_| pages += 1).unwrap();
        assert_eq!(pages, 34 + 12 + 4 + 2 + 1);
    }

    #[test]
    fn pages_that_lead_back_are_an_error_and_not_a_circle() {
        let mut keys: Vec<Vec<u8>> = (0..9u64).map(|number| first_key(number + 1, Kind::Inode)).collect();
        keys[6..9].rotate_left(1);
        keys.swap(2, 5);
        let items = tree(&keys, 3);
        let scanned = items.scan(&first_key(1, Kind::Inode), &mut |_, _, _| true);
        assert!(matches!(scanned, Err(Error::Corrupt { .. })));
        let wrong = Items { height: 3, ..items };
        assert!(matches!(wrong.get(&keys[0]), Err(Error::Corrupt { .. })));
    }
}
