//! A disk of a backup as [`ReadAt`]: offset to chunk by the chunk map, holes without any chunk.

use super::{Error, ReadAt, Result, check_range};
use crate::bytes::scratch::Scratch;
use crate::bytes::{to_u64, to_usize};
use crate::chunk::run::Wanted;
use crate::chunk::{self, Reader};
use crate::vault::map::{Entry, LIST_PAGES, Layout, PAGE_CHUNKS, Page, PageList, PageRef};
use crate::vault::{Address, Disk};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of an image that were read: a part of one chunk in place, or gathered from several.
#[derive(Debug)]
pub enum Slice {
    /// A part of a chunk in the cache.
    Chunk(chunk::cache::Chunk, Range<usize>),
    /// Bytes of their own.
    Owned(Scratch),
}

impl std::ops::Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(chunk, range) => chunk.get(range.clone()).unwrap_or_default(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Where a chunk's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: they are zero.
    Hole,
    /// From this chunk.
    Chunk(Entry),
}

/// One disk of one backup.
pub struct DiskImage {
    reader: Arc<Reader>,
    layout: Layout,
    levels: u8,
    roots: Vec<PageRef>,
    /// Address and disk, for messages.
    label: String,
}

impl DiskImage {
    /// Opens a disk of the backup at `address`; reads nothing.
    #[must_use]
    pub fn open(reader: &Arc<Reader>, address: &Address, disk: &Disk) -> Self {
        Self {
            reader: Arc::clone(reader),
            layout: disk.layout(),
            levels: disk.levels,
            roots: disk.roots.clone(),
            label: format!("backup {address}, disk {}", disk.name),
        }
    }

    /// Size, chunk size and what follows from them.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The reader of the vault behind this image.
    #[must_use]
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Reads `len` bytes at `offset`, without a copy where they lie in one chunk.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    pub fn read(&self, offset: u64, len: usize) -> Result<Slice> {
        check_range(offset, len, self.layout.size)?;
        let (number, start) = self.chunk_at(offset);
        if let Some(end) = start
            .checked_add(len)
            .filter(|end| *end <= self.layout.chunk_len(number))
            && let Place::Chunk(entry) = self.place(number)?
        {
            let chunk = self.load(number, &entry)?;
            if start == 0 && end == chunk.len() {
                // Who reads whole chunks reads on, and the kernel keeps what it read: this one goes first.
                self.reader.cache().demote(&entry.id);
            }
            return Ok(Slice::Chunk(chunk, start..end));
        }
        let mut bytes = Scratch::take(len);
        self.fill(offset, &mut bytes)?;
        Ok(Slice::Owned(bytes))
    }

    /// Where chunk `number` is.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`], for the pages of the map.
    pub fn place(&self, number: u64) -> Result<Place> {
        let Some((data, count)) = self.page_of(number)? else {
            return Ok(Place::Hole);
        };
        let entry = Page::entry(&data, count, to_usize(number % to_u64(PAGE_CHUNKS)));
        match entry.ok_or_else(|| self.bad_map(number))? {
            Some(entry) => Ok(Place::Chunk(entry)),
            None => Ok(Place::Hole),
        }
    }

    /// Reads chunk `number` into the cache if it is not there.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    pub fn warm_chunk(&self, number: u64) -> Result<()> {
        if number >= self.layout.chunks() {
            return Ok(());
        }
        match self.place(number)? {
            Place::Chunk(entry) if !self.reader.cache().knows(&entry.id) => self.load(number, &entry).map(drop),
            _ => Ok(()),
        }
    }

    /// Reads chunks into the cache that are not there, those side by side in a pack with one request.
    fn warm_at_once(&self, numbers: Range<u64>) {
        let mut wanted = Vec::new();
        for number in numbers {
            match self.place(number) {
                Ok(Place::Chunk(entry)) => wanted.push((entry, self.layout.chunk_len(number))),
                Ok(Place::Hole) => {}
                // The read that needs the bytes meets the failure again, and reports it.
                Err(_) => break,
            }
        }
        self.reader.warm(&wanted);
    }

    /// Reads chunk `number` into `buffer`, past the cache; `false` for a hole, which leaves the buffer alone.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    pub fn fetch(&self, number: u64, buffer: &mut Vec<u8>) -> Result<bool> {
        match self.place(number)? {
            Place::Hole => Ok(false),
            Place::Chunk(entry) => {
                let fetched = self.reader.fetch(&entry, self.layout.chunk_len(number), buffer);
                fetched.map(|()| true).map_err(|error| self.error(number, error))
            }
        }
    }

    fn chunk_at(&self, offset: u64) -> (u64, usize) {
        let size = u64::from(self.layout.chunk_size);
        (offset / size, to_usize(offset % size))
    }

    fn load(&self, number: u64, entry: &Entry) -> Result<chunk::cache::Chunk> {
        let plain_len = self.layout.chunk_len(number);
        self.reader
            .chunk(entry, plain_len)
            .map_err(|error| self.error(number, error))
    }

    /// Fills `buf` from `offset`. Whole chunks that no cache holds are decoded in place and not kept: who reads whole chunks
    /// reads on, and the kernel keeps what it read. Parts of chunks go through the cache.
    fn fill(&self, offset: u64, mut buf: &mut [u8]) -> Result<()> {
        let (mut number, mut start) = self.chunk_at(offset);
        if self.reader.is_remote() && start.saturating_add(buf.len()) > self.layout.chunk_len(number) {
            let end = offset.saturating_add(to_u64(buf.len()));
            self.warm_at_once(number..end.div_ceil(u64::from(self.layout.chunk_size)));
        }
        let (mut wanted, mut numbers) = (Vec::new(), Vec::new());
        while !buf.is_empty() {
            let chunk_len = self.layout.chunk_len(number);
            let len = chunk_len.saturating_sub(start).min(buf.len());
            let (part, rest) = buf.split_at_mut(len);
            if let Some((entry, part)) = self.fill_part(number, start, part)? {
                wanted.push(Wanted { entry, plain: part });
                numbers.push(number);
            }
            buf = rest;
            start = 0;
            number = number.saturating_add(1);
        }
        self.reader.fetch_many(&mut wanted).map_err(|(at, error)| {
            let number = numbers.get(at).copied().unwrap_or(number);
            self.error(number, error)
        })
    }

    /// Fills a part of one chunk from a hole or the cache; gives it back if it is a whole chunk to be fetched.
    fn fill_part<'a>(&self, number: u64, start: usize, part: &'a mut [u8]) -> Result<Option<(Entry, &'a mut [u8])>> {
        let entry = match self.place(number)? {
            Place::Hole => {
                part.fill(0);
                return Ok(None);
            }
            Place::Chunk(entry) => entry,
        };
        let whole = part.len() == self.layout.chunk_len(number);
        let cached = self
            .reader
            .cache()
            .get(&entry.id)
            .map_err(|error| self.error(number, error))?;
        let chunk = match cached {
            Some(chunk) => chunk,
            None if whole => return Ok(Some((entry, part))),
            None => self.load(number, &entry)?,
        };
        let bytes = chunk
            .get(start..start.saturating_add(part.len()))
            .ok_or_else(|| self.bad_map(number))?;
        part.copy_from_slice(bytes);
        Ok(None)
    }

    /// Where page `page` of the chunk map is.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`], for the page lists above it.
    pub fn page_ref(&self, page: u64) -> Result<PageRef> {
        let bad = || self.bad_map(page.saturating_mul(to_u64(PAGE_CHUNKS)));
        if self.levels == 0 {
            return self.roots.get(to_usize(page)).copied().ok_or_else(bad);
        }
        let list_number = page / to_u64(LIST_PAGES);
        let list = self.roots.get(to_usize(list_number)).copied().ok_or_else(bad)?;
        if list.is_hole() {
            return Ok(PageRef::HOLE);
        }
        let first_chunk = page.saturating_mul(to_u64(PAGE_CHUNKS));
        let data = self
            .reader
            .page(&list)
            .map_err(|error| self.error(first_chunk, error))?;
        PageList::page(
            &data,
            self.layout.list_pages(list_number),
            to_usize(page % to_u64(LIST_PAGES)),
        )
        .ok_or_else(bad)
    }

    /// Where page list `list` of the chunk map is; `None` if there is no such list.
    #[must_use]
    pub fn list_ref(&self, list: u64) -> Option<PageRef> {
        self.roots.get(to_usize(list)).copied().filter(|_| self.levels == 1)
    }

    /// First chunk at or after `number` whose whole page (or list of pages) is not a hole.
    fn skip_hole_pages(&self, number: u64) -> Result<u64> {
        let chunks = self.layout.chunks();
        let (page_chunks, list_pages) = (to_u64(PAGE_CHUNKS), to_u64(LIST_PAGES));
        let mut number = number;
        while number < chunks {
            let page = number / page_chunks;
            let list = to_usize(page / list_pages);
            if self.levels == 1 && self.roots.get(list).is_some_and(PageRef::is_hole) {
                number = (to_u64(list) + 1).saturating_mul(list_pages * page_chunks);
            } else if self.page_ref(page)?.is_hole() {
                number = (page + 1).saturating_mul(page_chunks);
            } else {
                break;
            }
        }
        Ok(number)
    }

    /// The encoded page of chunk `number` and how many chunks it has; `None` for a page of holes.
    fn page_of(&self, number: u64) -> Result<Option<(chunk::cache::Chunk, usize)>> {
        let page_number = number / to_u64(PAGE_CHUNKS);
        let page = self.page_ref(page_number)?;
        if page.is_hole() {
            return Ok(None);
        }
        let data = self.reader.page(&page).map_err(|error| self.error(number, error))?;
        Ok(Some((data, self.layout.page_chunks(page_number))))
    }

    /// First chunk at or after `number` in the same page that is what is sought; the page is looked up once.
    fn find_in_page(&self, number: u64, sought: Sought) -> Result<Option<u64>> {
        let Some((data, count)) = self.page_of(number)? else {
            return Ok((sought == Sought::Hole).then_some(number));
        };
        let first = number % to_u64(PAGE_CHUNKS);
        for at in first..to_u64(count) {
            let entry = Page::entry(&data, count, to_usize(at)).ok_or_else(|| self.bad_map(number))?;
            if entry.is_none() == (sought == Sought::Hole) {
                return Ok(Some(number.saturating_add(at - first)));
            }
        }
        Ok(None)
    }

    fn bad_map(&self, number: u64) -> Error {
        let what = format!("the chunk map ({}) does not have the form of one and", self.label);
        Error::Corrupt {
            what,
            at: number.saturating_mul(u64::from(self.layout.chunk_size)),
        }
    }

    fn error(&self, number: u64, error: chunk::Error) -> Error {
        let at = number.saturating_mul(u64::from(self.layout.chunk_size));
        Error::of_chunk(error, &self.label, at)
    }
}

impl ReadAt for DiskImage {
    fn len(&self) -> u64 {
        self.layout.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.layout.size)?;
        self.fill(offset, buf)
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        let chunk_size = u64::from(self.layout.chunk_size);
        let mut number = offset / chunk_size;
        loop {
            number = self.skip_hole_pages(number)?;
            if number >= self.layout.chunks() || offset >= self.layout.size {
                return Ok(None);
            }
            if let Some(data) = self.find_in_page(number, Sought::Data)? {
                return Ok(Some(data.saturating_mul(chunk_size).max(offset)));
            }
            number = next_page(number);
        }
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        let chunk_size = u64::from(self.layout.chunk_size);
        let mut number = offset / chunk_size;
        while number < self.layout.chunks() {
            if let Some(hole) = self.find_in_page(number, Sought::Hole)? {
                number = hole;
                break;
            }
            number = next_page(number);
        }
        Ok(number.saturating_mul(chunk_size).max(offset).min(self.layout.size))
    }

    fn warm(&self, offset: u64, len: u64) {
        let chunk_size = u64::from(self.layout.chunk_size);
        let end = offset.saturating_add(len).min(self.layout.size);
        let numbers = offset / chunk_size..end.div_ceil(chunk_size);
        if self.reader.is_remote() {
            self.warm_at_once(numbers);
            return;
        }
        for number in numbers {
            // The read that needs the bytes meets the failure again, and reports it.
            if self.warm_chunk(number).is_err() {
                return;
            }
        }
    }
}

/// What a seek looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sought {
    Data,
    Hole,
}

fn next_page(number: u64) -> u64 {
    (number / to_u64(PAGE_CHUNKS) + 1).saturating_mul(to_u64(PAGE_CHUNKS))
}
