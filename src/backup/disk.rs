//! One disk of a backup: read, find holes, hash, look up, compress, check, pack, in parallel over all cores.

use super::cursor::{Cursor, Step};
use super::pages::{Pages, lists};
use super::prepared::{Prepared, encoded};
use super::{Context, Error, Result};
use crate::bytes::scratch::Scratch;
use crate::bytes::{is_zero, to_u64};
use crate::image::ReadAt;
use crate::image::disk::{DiskImage, Place};
use crate::vault::map::{Entry, Layout, PAGE_CHUNKS, Page, PageRef};
use crate::vault::{ChunkId, Statistics};
use crate::writer::{self, Encoded};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes one thread reads at a time.
const BATCH_BYTES: u64 = 1 << 20;

/// The stored map of a disk, and what storing it took.
pub(super) struct Stored {
    pub(super) levels: u8,
    pub(super) roots: Vec<PageRef>,
    pub(super) statistics: Statistics,
}

#[derive(Default)]
struct Counts {
    data: AtomicU64,
    new: AtomicU64,
    stored: AtomicU64,
}

/// A disk under way, shared by the threads that work on it.
struct Job<'a> {
    context: &'a Context<'a>,
    source: &'a dyn ReadAt,
    layout: Layout,
    /// The same disk in the parent backup.
    parent: Option<&'a DiskImage>,
    cursor: Mutex<Cursor>,
    pages: Mutex<Pages>,
    counts: Counts,
    failure: Mutex<Option<Error>>,
    parent_is_bad: AtomicBool,
}

/// Buffers of one thread.
struct Buffers {
    batch: Scratch,
    scratch: Vec<u8>,
}

/// Stores one disk.
pub(super) fn store(
    context: &Context<'_>,
    source: &dyn ReadAt,
    parent: Option<&DiskImage>,
    layout: Layout,
) -> Result<Stored> {
    let levels = layout.writer_levels();
    if layout.root_refs(levels).is_none() {
        return Err(Error::DiskTooLarge { size: layout.size });
    }
    let job = Job {
        context,
        source,
        layout,
        parent: parent.filter(|parent| parent.layout().chunk_size == layout.chunk_size),
        cursor: Mutex::new(Cursor::new(layout, BATCH_BYTES)),
        pages: Mutex::new(Pages::new(layout)),
        counts: Counts::default(),
        failure: Mutex::new(None),
        parent_is_bad: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        for _ in 0..context.jobs {
            scope.spawn(|| job.work());
        }
    });
    job.finish(levels)
}

impl Job<'_> {
    fn work(&self) {
        let mut buffers = Buffers {
            batch: Scratch::take(0),
            scratch: Vec::new(),
        };
        loop {
            if self.failure.lock().is_some() {
                return;
            }
            match self.step(&mut buffers) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let mut failure = self.failure.lock();
                    // A thread that only saw that another one failed does not know why.
                    if failure.as_ref().is_none_or(Error::is_secondary) {
                        *failure = Some(error);
                    }
                    return;
                }
            }
        }
    }

    /// Does the next batch; `false` when there is none.
    fn step(&self, buffers: &mut Buffers) -> Result<bool> {
        if self.context.cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let Some(Step { holes, chunks }) = self.cursor.lock().next(self.source)? else {
            return Ok(false);
        };
        if !holes.is_empty() {
            self.context.monitor.advance(self.bytes(&holes));
            let completed = self.pages.lock().holes(holes);
            completed
                .into_iter()
                .try_for_each(|(number, page)| self.store_page(number, &page))?;
        }
        if chunks.is_empty() {
            return Ok(true);
        }
        let len = self.bytes(&chunks);
        buffers.batch = Scratch::take(crate::bytes::to_usize(len));
        self.source.read_at(self.offset(chunks.start), &mut buffers.batch)?;
        let entries = self.store_chunks(chunks.start, buffers)?;
        let completed = self.pages.lock().chunks(chunks.start, entries);
        completed.map_or(Ok(()), |(number, page)| self.store_page(number, &page))?;
        self.context.monitor.advance(len);
        Ok(true)
    }

    fn offset(&self, number: u64) -> u64 {
        number.saturating_mul(u64::from(self.layout.chunk_size))
    }

    fn bytes(&self, chunks: &Range<u64>) -> u64 {
        self.offset(chunks.end)
            .min(self.layout.size)
            .saturating_sub(self.offset(chunks.start))
    }

    /// Stores the chunks of a batch. What is new of them is added at once, so that it lies side by side in a pack, whatever other
    /// threads add: a reader fetches it with one request.
    fn store_chunks(&self, first: u64, buffers: &mut Buffers) -> Result<Vec<Option<Entry>>> {
        let Buffers { batch, scratch } = buffers;
        let size = crate::bytes::to_usize(u64::from(self.layout.chunk_size));
        let mut prepared = Vec::new();
        for (plain, number) in batch.chunks(size).zip(first..) {
            prepared.push((plain, self.prepare(number, plain, scratch)?));
        }
        let new: Vec<Encoded<'_>> = prepared
            .iter()
            .filter_map(|(plain, chunk)| match chunk {
                Some((id, Prepared::New(codec, stored))) => Some(encoded(*id, *codec, stored, plain)),
                _ => None,
            })
            .collect();
        let mut added = self.context.writer.add_all(&new)?.into_iter();
        let mut entries = Vec::with_capacity(prepared.len());
        for (plain, chunk) in &prepared {
            let Some((id, chunk)) = chunk else {
                entries.push(None);
                continue;
            };
            let (pack, stored) = match chunk {
                Prepared::Known(pack) => (*pack, 0),
                Prepared::New(..) => added.next().ok_or(writer::Error::Stopped)?,
            };
            if stored > 0 {
                self.counts.new.fetch_add(to_u64(plain.len()), Ordering::Relaxed);
                self.counts.stored.fetch_add(stored, Ordering::Relaxed);
            }
            entries.push(Some(Entry { id: *id, pack }));
        }
        Ok(entries)
    }

    /// Looks up or compresses one chunk; `None` if it is all zeros.
    fn prepare(&self, number: u64, plain: &[u8], scratch: &mut Vec<u8>) -> Result<Option<(ChunkId, Prepared)>> {
        if is_zero(plain) {
            return Ok(None);
        }
        self.counts.data.fetch_add(to_u64(plain.len()), Ordering::Relaxed);
        let id = ChunkId::of(plain);
        let parent = self.parent_entry(number).filter(|entry| entry.id == id);
        let hint = parent.map(|entry| entry.pack);
        Ok(Some((id, self.context.prepare_chunk(id, plain, hint, scratch)?)))
    }

    /// The chunk at the same place in the parent; a parent that cannot be read costs comparing, never the backup.
    fn parent_entry(&self, number: u64) -> Option<Entry> {
        let parent = self.parent.filter(|parent| number < parent.layout().chunks())?;
        match parent.place(number) {
            Ok(Place::Chunk(entry)) => Some(entry),
            Ok(Place::Hole) => None,
            Err(error) => {
                if !self.parent_is_bad.swap(true, Ordering::Relaxed) {
                    let text = format!("the parent backup cannot be compared with everywhere: {error}");
                    self.context.monitor.warn(&text);
                }
                None
            }
        }
    }

    fn store_page(&self, number: u64, page: &Page) -> Result<()> {
        let encoded = page.encode();
        let place = match self.parent_page(number, &encoded)? {
            Some(place) => place,
            None => {
                let (place, added) = self.context.writer.add_page(&encoded, self.context.level)?;
                self.counts.stored.fetch_add(added, Ordering::Relaxed);
                place
            }
        };
        self.pages.lock().stored(number, place);
        Ok(())
    }

    /// The parent's page of the same content, if it is there.
    fn parent_page(&self, number: u64, encoded: &[u8]) -> Result<Option<PageRef>> {
        let first = number.saturating_mul(to_u64(PAGE_CHUNKS));
        let parent = self.parent.filter(|parent| first < parent.layout().chunks());
        self.kept(parent.and_then(|parent| parent.page_ref(number).ok()), encoded)
    }

    /// The parent's page or page list at `place`, if it has this content and is there.
    fn kept(&self, place: Option<PageRef>, encoded: &[u8]) -> Result<Option<PageRef>> {
        let id = crate::vault::map::page_id(encoded);
        match place.filter(|place| place.id == id.0) {
            Some(place) if self.context.writer.has_page(&place)? => Ok(Some(place)),
            _ => Ok(None),
        }
    }

    /// Stores the page lists above these pages, but for those that the parent has; returns their places and the bytes they added.
    fn store_lists(&self, pages: &[PageRef]) -> Result<(Vec<PageRef>, u64)> {
        let (mut roots, mut stored) = (Vec::new(), 0u64);
        for (list, number) in lists(pages).into_iter().zip(0..) {
            let Some(list) = list else {
                roots.push(PageRef::HOLE);
                continue;
            };
            let encoded = list.encode();
            let parents = self.parent.and_then(|parent| parent.list_ref(number));
            roots.push(match self.kept(parents, &encoded)? {
                Some(place) => place,
                None => {
                    let (place, added) = self.context.writer.add_page(&encoded, self.context.level)?;
                    stored = stored.saturating_add(added);
                    place
                }
            });
        }
        Ok((roots, stored))
    }

    fn finish(self, levels: u8) -> Result<Stored> {
        if let Some(failure) = self.failure.lock().take() {
            return Err(failure);
        }
        let pages = self.pages.lock().take();
        let (roots, added) = if levels == 0 {
            (pages, 0)
        } else {
            self.store_lists(&pages)?
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { data, new, stored } = &self.counts;
        let statistics = Statistics {
            data: count(data),
            new: count(new),
            stored: count(stored).saturating_add(added),
        };
        Ok(Stored {
            levels,
            roots,
            statistics,
        })
    }
}
