//! The chunk map of one disk, copied page by page.

use super::seen::{Name, Node};
use super::session::{Added, Session, Want};
use super::{Result, crew};
use crate::bytes::{to_u64, to_usize};
use crate::chunk::{self, Reader};
use crate::image::disk::{DiskImage, Place};
use crate::vault::map::{Entry, LIST_PAGES, Layout, PAGE_CHUNKS, Page, PageList, PageRef};
use crate::vault::object::ObjectType;
use crate::vault::{self, Address, Disk, Manifest, Statistics};
use std::sync::Arc;

/// Pages that are copied together.
const GROUP: u64 = 8;

/// A page to be copied.
struct Job {
    number: u64,
    place: PageRef,
    entries: Vec<Option<Entry>>,
}

struct Map<'a> {
    session: &'a Session<'a>,
    disk: &'a Disk,
    layout: Layout,
    /// The same disk in a backup that the other vault has.
    base: Option<DiskImage>,
    levels: u8,
    /// References of the list under way.
    list: Vec<PageRef>,
    lists: u64,
    roots: Vec<PageRef>,
    data_bytes: u64,
    added: Added,
}

/// Copies a disk; what is returned stands in the manifest of the copy.
pub(super) fn copy(session: &Session<'_>, disk: &Disk, near: Option<&(Address, Manifest)>) -> Result<Disk> {
    let layout = disk.layout();
    let base = near.and_then(|(address, manifest)| {
        let same = manifest.disk(&disk.name)?;
        (same.chunk_size == disk.chunk_size).then(|| DiskImage::open(session.to, address, same))
    });
    let mut map = Map {
        session,
        disk,
        layout,
        base,
        levels: layout.writer_levels(),
        list: Vec::new(),
        lists: 0,
        roots: Vec::new(),
        data_bytes: 0,
        added: Added::default(),
    };
    let mut first = 0;
    while first < layout.pages() {
        let end = first.saturating_add(GROUP).min(layout.pages());
        map.group(first..end)?;
        first = end;
    }
    map.end_list()?;
    Ok(Disk {
        levels: map.levels,
        statistics: Statistics {
            data: map.data_bytes,
            new: map.added.new,
            stored: map.added.stored,
        },
        roots: map.roots,
        ..disk.clone()
    })
}

/// What the place of a page demands of it.
pub(super) fn name(layout: &Layout, number: u64, id: [u8; 32]) -> Name {
    let page_bytes = u64::from(layout.chunk_size).saturating_mul(to_u64(PAGE_CHUNKS));
    let start = number.saturating_mul(page_bytes);
    Name::Map {
        id,
        chunk_size: layout.chunk_size,
        span: layout.size.saturating_sub(start).min(page_bytes),
    }
}

/// Where page `number` of a disk is.
pub(super) fn page_ref(reader: &Reader, disk: &Disk, number: u64) -> chunk::Result<PageRef> {
    let root = |at: u64| {
        let root = disk.roots.get(to_usize(at)).copied();
        root.ok_or_else(|| damaged(&PageRef::HOLE))
    };
    if disk.levels == 0 {
        return root(number);
    }
    let (list_number, at) = (number / to_u64(LIST_PAGES), to_usize(number % to_u64(LIST_PAGES)));
    let list = root(list_number)?;
    if list.is_hole() {
        return Ok(PageRef::HOLE);
    }
    let data = reader.page(&list)?;
    PageList::page(&data, disk.layout().list_pages(list_number), at).ok_or_else(|| damaged(&list))
}

/// The error for a page that breaks the format.
pub(super) fn damaged(place: &PageRef) -> chunk::Error {
    let key = vault::pack_key(ObjectType::MetaPack, &place.pack);
    chunk::Error::Corrupt {
        object: key.map_or_else(|_| crate::bytes::hex(&place.pack), |key| key.to_string()),
        what: format!("map page {} breaks its format", crate::bytes::hex(&place.id)),
    }
}

impl Map<'_> {
    fn group(&mut self, numbers: std::ops::Range<u64>) -> Result<()> {
        let mut copies: Vec<Option<Arc<Node>>> = Vec::new();
        let mut waiting = Vec::new();
        for number in numbers.clone() {
            let place = self.page_ref(number)?;
            let known = (!place.is_hole()).then(|| self.session.known(&name(&self.layout, number, place.id)));
            if known == Some(None) {
                waiting.push((number, place));
            }
            copies.push(known.flatten());
        }
        if !waiting.is_empty() {
            let jobs = crew::each(&waiting, self.session.environment.jobs, |(number, place)| {
                self.load(*number, *place)
            })?;
            for (number, node) in self.pages(&jobs)? {
                if let Some(slot) = copies.get_mut(to_usize(number.saturating_sub(numbers.start))) {
                    *slot = Some(node);
                }
            }
        }
        for copy in copies {
            let page = copy.map_or(PageRef::HOLE, |node| {
                self.data_bytes = self.data_bytes.saturating_add(node.data_bytes);
                node.page
            });
            self.push(page)?;
        }
        Ok(())
    }

    fn page_ref(&self, number: u64) -> Result<PageRef> {
        page_ref(self.session.from, self.disk, number).map_err(|error| self.unreadable(number, error))
    }

    fn unreadable(&self, page: u64, error: chunk::Error) -> super::Error {
        let chunk = page.saturating_mul(to_u64(PAGE_CHUNKS));
        self.session.unreadable(self.place(chunk), error)
    }

    fn load(&self, number: u64, place: PageRef) -> Result<Job> {
        self.session.check()?;
        let failed = |error| self.unreadable(number, error);
        let data = self.session.from.page(&place).map_err(failed)?;
        let page = Page::decode(&data, self.layout.page_chunks(number)).ok_or_else(|| failed(damaged(&place)))?;
        Ok(Job {
            number,
            place,
            entries: page.entries().to_vec(),
        })
    }

    /// Copies pages and what they refer to.
    fn pages(&mut self, jobs: &[Job]) -> Result<Vec<(u64, Arc<Node>)>> {
        let chunks = |job: &Job| {
            let first = job.number.saturating_mul(to_u64(PAGE_CHUNKS));
            let numbered: Vec<(u64, Entry)> = (first..)
                .zip(&job.entries)
                .filter_map(|(number, entry)| Some((number, (*entry)?)))
                .collect();
            numbered
        };
        let numbered: Vec<(u64, Entry)> = jobs.iter().flat_map(chunks).collect();
        let want = |(number, entry): &(u64, Entry)| Want {
            entry: *entry,
            len: self.layout.chunk_len(*number),
            hint: self.hint(*number, entry),
        };
        let wants: Vec<Want> = numbered.iter().map(want).collect();
        let place = |at: usize| self.place(numbered.get(at).map_or(0, |(number, _)| *number));
        let (packs, added) = self.session.transfer(&wants, place)?;
        self.added.add(added);
        let mut packs = packs.into_iter();
        let mut copies = Vec::with_capacity(jobs.len());
        for job in jobs {
            let mut entries = Vec::with_capacity(job.entries.len());
            for entry in &job.entries {
                entries.push(match entry {
                    Some(entry) => Some(Entry {
                        pack: self.session.next_pack(&mut packs)?,
                        ..*entry
                    }),
                    None => None,
                });
            }
            let page = Page::new(entries);
            let there = self.base.as_ref().filter(|base| job.number < base.layout().pages());
            let there = there.and_then(|base| base.page_ref(job.number).ok());
            let (place, added) = self.session.map_page(&page.encode(), there)?;
            self.added.add(added);
            let first = job.number.saturating_mul(to_u64(PAGE_CHUNKS));
            let lens = (first..).zip(&job.entries).filter(|(_, entry)| entry.is_some());
            let node = Arc::new(Node {
                page: place,
                chunks: to_u64(job.entries.iter().flatten().count()),
                data_bytes: lens.fold(0, |sum, (number, _)| {
                    sum.saturating_add(to_u64(self.layout.chunk_len(number)))
                }),
                items: 0,
                keys: Default::default(),
            });
            self.session
                .note(name(&self.layout, job.number, job.place.id), Arc::clone(&node));
            copies.push((job.number, node));
        }
        Ok(copies)
    }

    /// The pack of the chunk at the same place in the other vault's backup, if it is the same chunk.
    fn hint(&self, number: u64, entry: &Entry) -> Option<vault::object::ObjectId> {
        let base = self.base.as_ref().filter(|base| number < base.layout().chunks())?;
        match base.place(number) {
            Ok(Place::Chunk(there)) if there.id == entry.id => Some(there.pack),
            // A backup that cannot be read costs a look into the index.
            _ => None,
        }
    }

    fn push(&mut self, page: PageRef) -> Result<()> {
        if self.levels == 0 {
            self.roots.push(page);
            return Ok(());
        }
        self.list.push(page);
        if self.list.len() < LIST_PAGES {
            return Ok(());
        }
        self.end_list()
    }

    fn end_list(&mut self) -> Result<()> {
        let list = std::mem::take(&mut self.list);
        if list.is_empty() {
            return Ok(());
        }
        let there = self.base.as_ref().and_then(|base| base.list_ref(self.lists));
        self.lists = self.lists.saturating_add(1);
        if list.iter().all(PageRef::is_hole) {
            self.roots.push(PageRef::HOLE);
            return Ok(());
        }
        let (place, added) = self.session.map_page(&PageList(list).encode(), there)?;
        self.added.add(added);
        self.roots.push(place);
        Ok(())
    }

    fn place(&self, chunk: u64) -> String {
        let byte = chunk.saturating_mul(u64::from(self.disk.chunk_size));
        format!("disk {}, byte {byte}", self.disk.name)
    }
}
