//! The chunk map of a disk: every page and every chunk that it refers to.

use super::report::{HurtDisk, Invariant};
use super::walk::{Backup, Footers, Got, MapPage, Walk};
use super::{Result, crew};
use crate::bytes::to_u64;
use crate::vault::Disk;
use crate::vault::map::{LIST_PAGES, Layout, PAGE_CHUNKS, Page, PageList, PageRef};
use std::ops::Range;
use std::sync::Arc;

/// Pages that are looked at together.
const GROUP: usize = 64;

/// What a page has lost: runs of its chunks.
pub(super) type Losses = Vec<Range<usize>>;

/// Walks the map of a disk; `None` if nothing is lost.
pub(super) fn disk(walk: &Walk<'_>, backup: &Backup, disk: &Disk) -> Result<Option<HurtDisk>> {
    let layout = disk.layout();
    let mut lost = Vec::new();
    if disk.levels == 0 {
        pages(walk, backup, layout, (0, &disk.roots), &mut lost)?;
    } else {
        for (list, number) in disk.roots.iter().zip(0..) {
            lists(walk, backup, layout, (number, list), &mut lost)?;
        }
    }
    Ok((!lost.is_empty()).then(|| HurtDisk {
        name: disk.name.clone(),
        ranges: bytes(layout, lost),
    }))
}

/// The pages of a page list.
fn lists(
    walk: &Walk<'_>,
    backup: &Backup,
    layout: Layout,
    (number, list): (u64, &PageRef),
    lost: &mut Vec<Range<u64>>,
) -> Result<()> {
    if list.is_hole() {
        return Ok(());
    }
    let first = u64::saturating_mul(number, to_u64(LIST_PAGES));
    let count = layout.list_pages(number);
    match walk.page(backup, list, Invariant::Map, |place| walk.job.reader.page(place)) {
        Got::Data(data) => match PageList::decode(&data, count) {
            Some(PageList(refs)) => return pages(walk, backup, layout, (first, &refs), lost),
            None => walk.malformed(list, Invariant::Map),
        },
        Got::Lost => {}
        Got::Unknown => return Ok(()),
    }
    let chunks = |page: u64| page.saturating_mul(to_u64(PAGE_CHUNKS)).min(layout.chunks());
    lost.push(chunks(first)..chunks(first.saturating_add(to_u64(count))));
    Ok(())
}

fn pages(
    walk: &Walk<'_>,
    backup: &Backup,
    layout: Layout,
    (first, refs): (u64, &[PageRef]),
    lost: &mut Vec<Range<u64>>,
) -> Result<()> {
    let numbered: Vec<(u64, &PageRef)> = (first..).zip(refs).filter(|(_, place)| !place.is_hole()).collect();
    for group in numbered.chunks(GROUP) {
        walk.check_cancelled()?;
        let jobs = walk.job.request.jobs;
        let losses = crew::each(
            group,
            jobs,
            || (),
            |(), (number, place)| page(walk, backup, &layout, (*number, place)),
        );
        for ((number, _), losses) in group.iter().zip(losses) {
            let start = number.saturating_mul(to_u64(PAGE_CHUNKS));
            let chunk = |at: usize| start.saturating_add(to_u64(at));
            lost.extend(losses.iter().map(|run| chunk(run.start)..chunk(run.end)));
        }
    }
    Ok(())
}

/// What a page has lost.
fn page(walk: &Walk<'_>, backup: &Backup, layout: &Layout, (number, place): (u64, &PageRef)) -> Arc<Losses> {
    let count = layout.page_chunks(number);
    let first = number.saturating_mul(to_u64(PAGE_CHUNKS));
    let last = first.saturating_add(to_u64(count)).saturating_sub(1);
    let name = MapPage {
        id: place.id,
        count,
        chunk_size: layout.chunk_size,
        last_len: layout.chunk_len(last),
    };
    if let Some(known) = walk.maps.lock().get(&name) {
        return Arc::clone(known);
    }
    if !walk.wants(place) {
        return Arc::default();
    }
    let whole = || Arc::new(vec![0..count]);
    let data = match walk.page(backup, place, Invariant::Map, |place| walk.job.reader.page(place)) {
        Got::Data(data) => data,
        Got::Lost => return walk.keep_map(name, whole()),
        Got::Unknown => return Arc::default(),
    };
    let Some(page) = Page::decode(&data, count) else {
        walk.malformed(place, Invariant::Map);
        return walk.keep_map(name, whole());
    };
    let mut footers = Footers::new();
    let mut losses = Losses::new();
    for (at, entry) in page.entries().iter().enumerate() {
        let Some(entry) = entry else { continue };
        let len = layout.chunk_len(first.saturating_add(to_u64(at)));
        if walk.is_lost(backup, (entry, len), Invariant::Map, &mut footers) {
            match losses.last_mut().filter(|run| run.end == at) {
                Some(run) => run.end = at.saturating_add(1),
                None => losses.push(at..at.saturating_add(1)),
            }
        }
    }
    walk.keep_map(name, Arc::new(losses))
}

impl Walk<'_> {
    fn keep_map(&self, name: MapPage, losses: Arc<Losses>) -> Arc<Losses> {
        self.maps.lock().insert(name, Arc::clone(&losses));
        losses
    }
}

/// Runs of chunks as ranges of bytes, neighbours joined.
fn bytes(layout: Layout, mut chunks: Vec<Range<u64>>) -> Vec<Range<u64>> {
    chunks.sort_unstable_by_key(|run| run.start);
    let byte = |chunk: u64| chunk.saturating_mul(u64::from(layout.chunk_size)).min(layout.size);
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for run in chunks {
        let range = byte(run.start)..byte(run.end);
        match ranges.last_mut().filter(|last| last.end >= range.start) {
            Some(last) => last.end = last.end.max(range.end),
            None => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_runs_are_one_range_and_end_with_the_disk() {
        let layout = Layout {
            size: (10 << 16) + 7,
            chunk_size: 1 << 16,
        };
        let found = bytes(layout, vec![9..11, 2..3, 0..1, 3..5]);
        assert_eq!(found, [0..1 << 16, 2 << 16..5 << 16, 9 << 16..(10 << 16) + 7]);
    }
}
