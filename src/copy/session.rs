//! The copy of one backup under way: which chunks the other vault has, and bringing over those that it has not.

use super::seen::{Name, Node, Seen};
use super::{Copier, Counts, Environment, Error, Place, Result, crew, disk, tree};
use crate::bytes::to_u64;
use crate::chunk::{self, Reader};
use crate::lease::Lease;
use crate::vault::map::{Entry, PageRef};
use crate::vault::object::ObjectId;
use crate::vault::{Address, ChunkId, Content, Manifest, codec};
use crate::writer::{self, Encoded, Writer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Plain bytes that a thread brings over at a time.
const SEGMENT_BYTES: usize = 4 << 20;
/// Stored bytes after which the other vault is told what has arrived, should the copy be killed.
const CHECKPOINT_BYTES: u64 = 1 << 30;
/// Chunks that a thread brings over at a time.
const SEGMENT_CHUNKS: usize = 256;

/// What the vault copied to has of the resource already.
pub(super) struct Base {
    /// The backup nearest to the one that is copied, the newest before it if there is one.
    pub(super) near: Option<(Address, Manifest)>,
    /// Whether the backup that the copied one was compared with is there.
    pub(super) has_parent: bool,
}

/// A chunk that the copy needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// The chunk, and its pack in the vault copied from.
    pub(super) entry: Entry,
    /// Its plain length.
    pub(super) len: usize,
    /// The pack of the other vault that may hold it.
    pub(super) hint: Option<ObjectId>,
}

/// What a part of the copy added to the vault, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Added {
    /// Plain bytes of new chunks.
    pub(super) new: u64,
    /// Stored bytes of new chunks and new pages.
    pub(super) stored: u64,
}

impl Added {
    /// Adds another part.
    pub(super) fn add(&mut self, other: Self) {
        self.new = self.new.saturating_add(other.new);
        self.stored = self.stored.saturating_add(other.stored);
    }
}

/// The copy of one backup.
pub(super) struct Session<'a> {
    pub(super) from: &'a Arc<Reader>,
    pub(super) to: &'a Arc<Reader>,
    pub(super) environment: Environment<'a>,
    pub(super) address: &'a Address,
    counts: &'a Counts,
    lease: Arc<Lease>,
    writer: Writer,
    /// Copies of earlier sessions, and those of this one.
    earlier: &'a Mutex<Seen>,
    seen: Mutex<Seen>,
    /// Stored bytes since the last checkpoint.
    unlisted: AtomicU64,
}

impl<'a> Session<'a> {
    /// Starts the copy of the backup at `address`.
    pub(super) fn open(copier: &'a Copier<'_>, address: &'a Address) -> Result<Self> {
        let lease = copier.lease(address)?;
        let writer = Writer::open(&copier.to, &lease).map_err(|error| copier.unwritable(address, error))?;
        Ok(Self {
            from: &copier.from,
            to: &copier.to,
            environment: copier.environment,
            address,
            counts: &copier.counts,
            lease,
            writer,
            earlier: &copier.seen,
            seen: Mutex::default(),
            unlisted: AtomicU64::new(0),
        })
    }

    /// What keeps that which this relies on from being removed.
    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// Brings over everything that a manifest refers to; `near` is a backup of the same resource that the other vault has.
    pub(super) fn copy(&self, source: &Manifest, near: Option<&(Address, Manifest)>) -> Result<Content> {
        match &source.content {
            Content::Disks(disks) => disks
                .iter()
                .map(|disk| disk::copy(self, disk, near))
                .collect::<Result<Vec<_>>>()
                .map(Content::Disks),
            Content::Tree(tree) => tree::copy(self, tree, near).map(Content::Tree),
        }
    }

    /// Makes durable what was brought over, also when it is not all: the next copy finds it.
    pub(super) fn end<T>(self, outcome: Result<T>) -> Result<(T, Seen)> {
        let Self {
            to,
            address,
            writer,
            seen,
            ..
        } = self;
        let finished = writer.finish().map_err(|source| Error::Write {
            at: Place::new(address, String::new(), to.vault()),
            source,
        });
        match (outcome, finished) {
            (Ok(value), Ok(())) => Ok((value, seen.into_inner())),
            (Err(error), Err(why)) if error.is_of_one_backup() || error.is_secondary() => Err(why),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// The copy of a page, if this run made or met one.
    pub(super) fn known(&self, name: &Name) -> Option<Arc<Node>> {
        let node = self.seen.lock().get(name).or_else(|| self.earlier.lock().get(name))?;
        self.counts.found_chunks.fetch_add(node.chunks, Ordering::Relaxed);
        self.counts.found_bytes.fetch_add(node.data_bytes, Ordering::Relaxed);
        self.advance(node.data_bytes);
        Some(node)
    }

    /// Takes note of the copy of a page.
    pub(super) fn note(&self, name: Name, node: Arc<Node>) {
        self.seen.lock().insert(name, node);
    }

    /// Tells of progress.
    pub(super) fn advance(&self, bytes: u64) {
        self.environment.monitor.advance(bytes);
    }

    /// Stops where the user wants to.
    pub(super) fn check(&self) -> Result<()> {
        if self.environment.cancel.load(Ordering::Relaxed) {
            let address = self.address.clone();
            return Err(Error::Interrupted { address });
        }
        Ok(())
    }

    /// The error for a part of the backup that cannot be read from the vault copied from.
    pub(super) fn unreadable(&self, part: String, source: chunk::Error) -> Error {
        Error::Read {
            at: Place::new(self.address, part, self.from.vault()),
            source,
        }
    }

    fn unwritable(&self, source: writer::Error) -> Error {
        Error::Write {
            at: Place::new(self.address, String::new(), self.to.vault()),
            source,
        }
    }

    /// Stores a page of a map by `add`, unless it is at `place` already.
    pub(super) fn map_page(&self, encoded: &[u8], place: Option<PageRef>) -> Result<(PageRef, Added)> {
        let id = crate::vault::map::page_id(encoded);
        match self.kept(id, place)? {
            Some(place) => Ok((place, Added::default())),
            None => self.added(self.writer.add_page(encoded, codec::DEFAULT_LEVEL)),
        }
    }

    /// Stores a page of a tree, unless it is at `place` already.
    pub(super) fn tree_page(
        &self,
        encoded: &[u8],
        place: impl Fn(&ChunkId) -> Option<PageRef>,
    ) -> Result<(PageRef, Added)> {
        let id = crate::vault::tree_page::page_id(encoded);
        match self.kept(id, place(&id))? {
            Some(place) => Ok((place, Added::default())),
            None => self.added(self.writer.add_tree_page(encoded, codec::DEFAULT_LEVEL)),
        }
    }

    fn kept(&self, id: ChunkId, place: Option<PageRef>) -> Result<Option<PageRef>> {
        match place.filter(|place| place.id == id.0) {
            Some(place) if self.writer.has_page(&place).map_err(|error| self.unwritable(error))? => Ok(Some(place)),
            _ => Ok(None),
        }
    }

    fn added(&self, added: writer::Result<(PageRef, u64)>) -> Result<(PageRef, Added)> {
        let (page, stored) = added.map_err(|error| self.unwritable(error))?;
        Ok((page, Added { new: 0, stored }))
    }

    /// The packs that hold these chunks in the other vault, in their order, after bringing over those that it lacks.
    ///
    /// `place` says where in the backup the chunk with a number is, for errors.
    pub(super) fn transfer(
        &self,
        wants: &[Want],
        place: impl Fn(usize) -> String + Sync,
    ) -> Result<(Vec<ObjectId>, Added)> {
        let segments = segments(wants);
        let moved = crew::each(&segments, self.environment.jobs, |range| {
            self.check()?;
            let wants = wants.get(range.clone()).unwrap_or_default();
            let moved = self.segment(wants, |number| place(range.start.saturating_add(number)))?;
            self.advance(wants.iter().fold(0, |sum, want| sum.saturating_add(to_u64(want.len))));
            Ok(moved)
        })?;
        let (mut packs, mut added) = (Vec::with_capacity(wants.len()), Added::default());
        for (some, more) in moved {
            packs.extend(some);
            added.add(more);
        }
        if self.unlisted.fetch_add(added.stored, Ordering::Relaxed) >= CHECKPOINT_BYTES {
            self.unlisted.store(0, Ordering::Relaxed);
            self.writer.checkpoint().map_err(|error| self.unwritable(error))?;
        }
        Ok((packs, added))
    }

    fn segment(&self, wants: &[Want], place: impl Fn(usize) -> String) -> Result<(Vec<ObjectId>, Added)> {
        let mut packs: HashMap<ChunkId, Option<ObjectId>> = HashMap::with_capacity(wants.len());
        let (mut missing, mut numbers) = (Vec::new(), Vec::new());
        for (number, want) in wants.iter().enumerate() {
            if let Slot::Vacant(slot) = packs.entry(want.entry.id) {
                let found = self.writer.find(&want.entry.id, want.len, want.hint);
                let pack = *slot.insert(found.map_err(|error| self.unwritable(error))?);
                if pack.is_none() {
                    missing.push((want.entry, want.len));
                    numbers.push(number);
                }
            }
        }
        let fetched = self.from.fetch_stored(&missing).map_err(|(at, error)| {
            let number = numbers.get(at).copied().unwrap_or_default();
            self.unreadable(place(number), error)
        })?;
        let (mut added, mut copied) = (Added::default(), 0u64);
        for ((Entry { id, .. }, plain_len), stored) in missing.iter().zip(&fetched) {
            let chunk = Encoded {
                id: *id,
                codec: stored.codec,
                stored: &stored.bytes,
                plain_len: *plain_len,
            };
            let (pack, stored) = self.writer.add(&chunk).map_err(|error| self.unwritable(error))?;
            packs.insert(*id, Some(pack));
            if stored > 0 {
                let new = to_u64(*plain_len);
                added.add(Added { new, stored });
                copied = copied.saturating_add(1);
            }
        }
        self.count(wants, copied, added);
        let mut found = wants
            .iter()
            .filter_map(|want| packs.get(&want.entry.id).copied().flatten());
        let packs = wants
            .iter()
            .map(|_| self.next_pack(&mut found))
            .collect::<Result<_>>()?;
        Ok((packs, added))
    }

    /// The pack of the next chunk: a chunk without one must never become a hole.
    pub(super) fn next_pack(&self, packs: &mut impl Iterator<Item = ObjectId>) -> Result<ObjectId> {
        packs.next().ok_or_else(|| self.unwritable(writer::Error::Stopped))
    }

    fn count(&self, wants: &[Want], copied: u64, added: Added) {
        let all = wants
            .iter()
            .fold(0u64, |sum, want| sum.saturating_add(to_u64(want.len)));
        let counts = self.counts;
        counts.copied_chunks.fetch_add(copied, Ordering::Relaxed);
        counts.copied_bytes.fetch_add(added.new, Ordering::Relaxed);
        counts.stored_bytes.fetch_add(added.stored, Ordering::Relaxed);
        let found = to_u64(wants.len()).saturating_sub(copied);
        counts.found_chunks.fetch_add(found, Ordering::Relaxed);
        counts
            .found_bytes
            .fetch_add(all.saturating_sub(added.new), Ordering::Relaxed);
    }
}

/// Cuts chunks into runs of a bounded number and size.
fn segments(wants: &[Want]) -> Vec<Range<usize>> {
    let mut segments: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0usize;
    for (number, want) in wants.iter().enumerate() {
        bytes = bytes.saturating_add(want.len);
        match segments.last_mut() {
            Some(last) if bytes <= SEGMENT_BYTES && last.len() < SEGMENT_CHUNKS => last.end = number.saturating_add(1),
            _ => {
                segments.push(number..number.saturating_add(1));
                bytes = want.len;
            }
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_bounded_and_cover_everything() {
        let want = |len| Want {
            entry: Entry {
                id: ChunkId([1; 32]),
                pack: [2; 16],
            },
            len,
            hint: None,
        };
        let lens = [1 << 16, 4 << 20, 1, 4 << 20, 3 << 20, 1 << 20];
        let wants: Vec<Want> = lens.into_iter().map(want).collect();
        assert_eq!(segments(&wants), [0..1, 1..2, 2..3, 3..4, 4..6]);
        let small = vec![want(10); 600];
        assert_eq!(segments(&small), [0..256, 256..512, 512..600]);
        assert!(segments(&[]).is_empty());
    }
}
