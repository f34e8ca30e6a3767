//! Stored bytes that came along with others over a network: where a round trip costs more than some KiB, small chunks are fetched with
//! what lies around them, and a footer with what lies before it. They are looked at here before the store is asked again.
//!
//! Nothing here has been checked; who takes bytes out checks them as those of the store.

use super::{Reader, Result, from_store, from_vault, key_text};
use crate::bytes::scratch::Scratch;
use crate::bytes::{to_u64, to_usize};
use crate::vault::object::{ObjectId, ObjectType};
use crate::vault::pack_key;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Segments remembered.
const SEGMENTS: usize = 48;
/// What is at most this long is fetched with its surroundings: metadata and little text, which is seldom wanted alone.
const TINY: usize = 4 << 10;
/// Bytes fetched before and after.
const BEFORE: u64 = 8 << 10;
const AFTER: u64 = 24 << 10;

/// Bytes of one pack.
struct Segment {
    object_type: ObjectType,
    pack: ObjectId,
    offset: u64,
    bytes: Arc<Vec<u8>>,
}

/// The last segments that came.
#[derive(Default)]
pub(super) struct Segments(Mutex<VecDeque<Segment>>);

impl Segments {
    fn find(&self, object_type: ObjectType, pack: &ObjectId, offset: u64, len: usize) -> Option<Scratch> {
        let segments = self.0.lock();
        let found = segments.iter().find_map(|segment| {
            let here = segment.object_type == object_type && segment.pack == *pack;
            let start = to_usize(offset.checked_sub(segment.offset).filter(|_| here)?);
            let end = start.checked_add(len)?;
            (end <= segment.bytes.len()).then(|| (Arc::clone(&segment.bytes), start..end))
        });
        drop(segments);
        let (bytes, range) = found?;
        bytes.get(range).map(Scratch::from)
    }

    fn keep(&self, segment: Segment) {
        let mut segments = self.0.lock();
        segments.truncate(SEGMENTS - 1);
        segments.push_front(segment);
    }
}

impl Reader {
    /// Remembers the end of a pack that was fetched for its footer.
    pub(super) fn keep_tail(&self, object_type: ObjectType, pack: &ObjectId, object_len: u64, tail: &[u8]) {
        if self.is_remote() {
            self.segments.keep(Segment {
                object_type,
                pack: *pack,
                offset: object_len.saturating_sub(to_u64(tail.len())),
                bytes: Arc::new(tail.to_vec()),
            });
        }
    }

    /// Stored bytes that came along with others.
    pub(super) fn came_along(
        &self,
        object_type: ObjectType,
        pack: &ObjectId,
        offset: u64,
        len: usize,
    ) -> Option<Scratch> {
        self.is_remote()
            .then(|| self.segments.find(object_type, pack, offset, len))
            .flatten()
    }

    /// Reads stored bytes of a pack from the store.
    pub(super) fn read_stored(
        &self,
        object_type: ObjectType,
        pack: &ObjectId,
        offset: u64,
        len: usize,
    ) -> Result<Scratch> {
        let object = || key_text(object_type, pack);
        let key = pack_key(object_type, pack).map_err(|error| from_vault(error, object()))?;
        let read = |offset, bytes: &mut [u8]| {
            let read = self.vault.store().read_range(&key, offset, bytes);
            read.map_err(|error| from_store(error, object()))
        };
        if len > TINY || !self.is_remote() {
            let mut stored = Scratch::take(len);
            return read(offset, &mut stored).map(|()| stored);
        }
        let end = offset.saturating_add(to_u64(len));
        let start = offset.saturating_sub(BEFORE);
        let last = self.footer(object_type, pack)?.chunks_end().max(end);
        let stop = end.saturating_add(AFTER).min(last);
        let mut bytes = vec![0; to_usize(stop.saturating_sub(start))];
        read(start, &mut bytes)?;
        let from = to_usize(offset.saturating_sub(start));
        let stored = bytes.get(from..from.saturating_add(len)).map(Scratch::from);
        self.segments.keep(Segment {
            object_type,
            pack: *pack,
            offset: start,
            bytes: Arc::new(bytes),
        });
        Ok(stored.unwrap_or_else(|| Scratch::take(len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: ObjectId = [1; 16];

    fn segment(offset: u64, bytes: Vec<u8>) -> Segment {
        Segment {
            object_type: ObjectType::Pack,
            pack: PACK,
            offset,
            bytes: Arc::new(bytes),
        }
    }

    #[test]
    fn only_whole_ranges_of_the_same_pack_are_found() {
        let segments = Segments::default();
        segments.keep(segment(100, (0..50).collect()));
        let find = |object_type, pack: &ObjectId, offset, len| {
            let found = segments.find(object_type, pack, offset, len);
            found.map(|bytes| bytes.to_vec())
        };
        assert_eq!(find(ObjectType::Pack, &PACK, 110, 3), Some(vec![10, 11, 12]));
        assert_eq!(
            find(ObjectType::Pack, &PACK, 100, 50).map(|bytes| bytes.len()),
            Some(50)
        );
        assert_eq!(find(ObjectType::Pack, &PACK, 99, 3), None);
        assert_eq!(find(ObjectType::Pack, &PACK, 148, 3), None);
        assert_eq!(find(ObjectType::Pack, &[2; 16], 110, 3), None);
        assert_eq!(find(ObjectType::MetaPack, &PACK, 110, 3), None);
    }

    #[test]
    fn the_oldest_segments_go() {
        let segments = Segments::default();
        for number in 0..100 {
            segments.keep(segment(number * 10, vec![7; 10]));
        }
        assert!(segments.find(ObjectType::Pack, &PACK, 990, 10).is_some());
        assert!(segments.find(ObjectType::Pack, &PACK, 0, 10).is_none());
        assert_eq!(segments.0.lock().len(), SEGMENTS);
    }
}
