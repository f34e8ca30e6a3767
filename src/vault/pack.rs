//! Packs: many compressed chunks in one object, and the footer that lists them.
//!
//! # Source
//! `docs/format.md`, section "Pack".

use super::codec::Codec;
use super::object::{FRAME_LEN, Frame, HEADER_LEN};
use super::{ChunkId, Error, MAX_CHUNK, Result};
use crate::bytes::{to_u64, to_usize};
use crate::checksum::Digest;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest pack object in bytes, part of the format.
pub const MAX_PACK: u64 = 64 << 20;
/// A writer closes a pack when its chunks reach this many bytes.
pub const TARGET_PACK: usize = 16 << 20;
/// Bytes at the end of an object that hold the footer's trailer and the object's hash.
const TAIL_LEN: usize = TRAILER_LEN + Digest::LEN;
const RECORD_LEN: usize = 48;
const TRAILER_LEN: usize = 48;
const TRAILER_MAGIC: [u8; 8] = *b"VFSFOOT\x01";

/// One chunk in the footer, as stored. Its offset is where the chunk before it ends.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRecord {
    chunk_id: [u8; 32],
    stored_len: U32,
    plain_len: U32,
    codec: u8,
    reserved: [u8; 7],
}

/// End of the footer, as stored.
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTrailer {
    count: U32,
    reserved: U32,
    magic: [u8; 8],
    /// BLAKE3 of the object's header, the records, and the trailer up to here.
    digest: [u8; 32],
}

/// Where one chunk lies in its pack, and how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The chunk.
    pub id: ChunkId,
    /// First stored byte, counted from the start of the object.
    pub offset: u32,
    /// Stored bytes.
    pub stored_len: u32,
    /// Plain bytes.
    pub plain_len: u32,
    /// How it is compressed.
    pub codec: Codec,
}

/// Collects chunks into one pack object.
#[derive(Debug)]
pub struct Builder {
    frame: Frame,
    /// Header (filled in at the end), then the chunks.
    object: Vec<u8>,
    records: Vec<RawRecord>,
}

impl Builder {
    /// Starts an empty pack.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self {
            frame,
            object: vec![0; HEADER_LEN],
            records: Vec::new(),
        }
    }

    /// Bytes of chunks so far.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        self.object.len().saturating_sub(HEADER_LEN)
    }

    /// Says whether there is no chunk yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Says whether a chunk of `stored_len` bytes still fits by [`TARGET_PACK`].
    #[must_use]
    pub fn has_room(&self, stored_len: usize) -> bool {
        self.is_empty() || self.stored_len().saturating_add(stored_len) <= TARGET_PACK
    }

    /// Adds a chunk; returns the offset of its stored bytes in the object.
    ///
    /// Lengths above the format's limits saturate and are refused when the pack is read back; callers cut by [`MAX_CHUNK`].
    pub fn push(&mut self, id: ChunkId, codec: Codec, stored: &[u8], plain_len: usize) -> u32 {
        let offset = u32::try_from(self.object.len()).unwrap_or(u32::MAX);
        self.object.extend_from_slice(stored);
        self.records.push(RawRecord {
            chunk_id: id.0,
            stored_len: U32::new(u32::try_from(stored.len()).unwrap_or(u32::MAX)),
            plain_len: U32::new(u32::try_from(plain_len).unwrap_or(u32::MAX)),
            codec: codec.code(),
            reserved: [0; 7],
        });
        offset
    }

    /// Closes the pack: the whole object, ready to be stored.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let Self {
            frame,
            mut object,
            records,
        } = self;
        let records = records.as_bytes();
        let payload_len = object.len().saturating_add(records.len()).saturating_add(TRAILER_LEN) - HEADER_LEN;
        let header = frame.header(payload_len);
        if let Some(place) = object.get_mut(..HEADER_LEN) {
            place.copy_from_slice(&header);
        }
        object.extend_from_slice(records);
        object.extend_from_slice(trailer(&header, records).as_bytes());
        let digest = Digest::of(&object);
        object.extend_from_slice(&digest.0);
        object
    }
}

fn trailer(header: &[u8], records: &[u8]) -> RawTrailer {
    let count = U32::new(u32::try_from(records.len() / RECORD_LEN).unwrap_or(u32::MAX));
    let mut raw = RawTrailer {
        count,
        reserved: U32::new(0),
        magic: TRAILER_MAGIC,
        digest: [0; 32],
    };
    let fixed = raw.as_bytes().split_at(TRAILER_LEN - Digest::LEN).0;
    raw.digest = Digest::of_pieces(&[header, records, fixed]).0;
    raw
}

/// Records of a footer that are looked through for one id, about.
const GROUP: usize = 4;

/// The list of a pack's chunks, checked against the footer's hash; it is the authority on what a pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Sorted by chunk id.
    records: Vec<Record>,
    /// Where ids begin that start with the same bits: ids are hashes, so that each of these groups is a few records.
    starts: Vec<u32>,
    /// How far the first eight bytes of an id are shifted to the right to be the number of its group.
    shift: u32,
}

impl Footer {
    /// How many bytes at the end of an object to read first: the footer of most packs, never less than its trailer.
    pub const TAIL_GUESS: usize = 48 << 10;

    /// Length of footer and hash together, told by the end of the object; `None` if the end is not a footer's.
    #[must_use]
    pub fn total_len(tail: &[u8]) -> Option<usize> {
        let trailer = tail.get(tail.len().checked_sub(TAIL_LEN)?..)?.get(..TRAILER_LEN)?;
        let trailer = RawTrailer::ref_from_bytes(trailer).ok()?;
        let count = to_usize(u64::from(trailer.count.get()));
        (trailer.magic == TRAILER_MAGIC && trailer.reserved.get() == 0)
            .then(|| count.checked_mul(RECORD_LEN)?.checked_add(TAIL_LEN))
            .flatten()
    }

    /// Decodes the footer from the end of an object of `object_len` bytes; `tail` holds at least
    /// [`total_len`](Self::total_len) bytes.
    ///
    /// # Errors
    /// `Corrupt` if it fails its hash, belongs to another object, or does not describe the object gaplessly.
    pub fn decode(frame: &Frame, object_len: u64, tail: &[u8], key: &str) -> Result<Self> {
        let corrupt = |what: &str| Error::Corrupt {
            object: key.to_owned(),
            what: what.to_owned(),
        };
        if object_len > MAX_PACK {
            return Err(corrupt("it is larger than a pack may be"));
        }
        let total = Self::total_len(tail).ok_or_else(|| corrupt("it does not end in a footer"))?;
        let footer = tail.len().checked_sub(total).and_then(|start| tail.get(start..));
        let footer = footer.ok_or_else(|| corrupt("its footer is longer than itself"))?;
        let (records, rest) = footer.split_at(total.saturating_sub(TAIL_LEN));
        let payload_len = to_usize(object_len)
            .checked_sub(FRAME_LEN)
            .ok_or_else(|| corrupt("it is too short"))?;
        if !rest.starts_with(trailer(&frame.header(payload_len), records).as_bytes()) {
            return Err(corrupt("its footer fails its hash"));
        }
        let chunks_end = object_len.saturating_sub(to_u64(total));
        Self::from_records(records, chunks_end).ok_or_else(|| corrupt("its footer is not valid"))
    }

    /// `None` if a length is out of its limits or the records do not fill the object up to `chunks_end`.
    fn from_records(records: &[u8], chunks_end: u64) -> Option<Self> {
        let raws = <[RawRecord]>::ref_from_bytes(records).ok()?;
        let mut offset = u32::try_from(HEADER_LEN).ok()?;
        let mut decoded = Vec::with_capacity(raws.len());
        for raw in raws {
            let (stored_len, plain_len) = (raw.stored_len.get(), raw.plain_len.get());
            let sane = plain_len <= MAX_CHUNK && (1..=plain_len).contains(&stored_len) && raw.reserved == [0; 7];
            let codec = Codec::from_code(raw.codec).filter(|_| sane)?;
            decoded.push(Record {
                id: ChunkId(raw.chunk_id),
                offset,
                stored_len,
                plain_len,
                codec,
            });
            offset = offset.checked_add(stored_len)?;
        }
        decoded.sort_unstable_by_key(|record| record.id);
        (u64::from(offset) == chunks_end).then(|| Self::sorted(decoded))
    }

    fn sorted(records: Vec<Record>) -> Self {
        let bits = (records.len() / GROUP).checked_ilog2().unwrap_or_default();
        // One bit less at a time: a shift by all of them is none.
        let shift = 63u32.saturating_sub(bits);
        let mut starts = Vec::with_capacity(1usize << bits);
        for (number, record) in (0u32..).zip(&records) {
            let group = group(&record.id, shift);
            while starts.len() <= group {
                starts.push(number);
            }
        }
        Self { records, starts, shift }
    }

    /// Finds a chunk.
    #[must_use]
    pub fn find(&self, id: &ChunkId) -> Option<&Record> {
        self.records.get(self.position(id)?)
    }

    /// Which of [`records`](Self::records) is this chunk's.
    #[must_use]
    pub fn position(&self, id: &ChunkId) -> Option<usize> {
        let group = group(id, self.shift);
        let start = to_usize(u64::from(*self.starts.get(group)?));
        let end = self.starts.get(group.saturating_add(1));
        let end = end.map_or(self.records.len(), |end| to_usize(u64::from(*end)));
        let found = self
            .records
            .get(start..end)?
            .binary_search_by_key(id, |record| record.id);
        found.ok().map(|number| start.saturating_add(number))
    }

    /// Where the last chunk of the pack ends.
    #[must_use]
    pub fn chunks_end(&self) -> u64 {
        let end = |record: &Record| u64::from(record.offset).saturating_add(u64::from(record.stored_len));
        self.records.iter().map(end).max().unwrap_or_default()
    }

    /// Every chunk of the pack, sorted by id.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Bytes this footer takes in memory.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        self.records
            .len()
            .saturating_mul(size_of::<Record>())
            .saturating_add(self.starts.capacity().saturating_mul(size_of::<u32>()))
            .saturating_add(size_of::<Self>())
    }
}

/// The number of the group that an id belongs to.
fn group(id: &ChunkId, shift: u32) -> usize {
    let first = id.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    to_usize(first >> shift >> 1)
}

#[cfg(test)]
mod tests {
    use super::super::object::ObjectType;
    use super::*;

    const FRAME: Frame = Frame {
        object_type: ObjectType::Pack,
        vault_id: [7; 16],
        object_id: [9; 16],
    };

    fn sample() -> Vec<u8> {
        let mut builder = Builder::new(FRAME);
        for (number, text) in [b"first".as_slice(), b"second", b"third one"].iter().enumerate() {
            let id = ChunkId([u8::try_from(9 - number).unwrap(); 32]);
            builder.push(id, Codec::Raw, text, text.len());
        }
        builder.finish()
    }

    fn decode(object: &[u8]) -> Result<Footer> {
        Footer::decode(&FRAME, to_u64(object.len()), object, "packs/x")
    }

    #[test]
    fn the_footer_finds_each_chunk_in_the_object() {
        let object = sample();
        FRAME.open(&object, "packs/x").unwrap();
        let footer = decode(&object).unwrap();
        let record = footer.find(&ChunkId([8; 32])).unwrap();
        let start = usize::try_from(record.offset).unwrap();
        assert_eq!(&object[start..start + 6], b"second");
        assert_eq!(footer.find(&ChunkId([1; 32])), None);
    }

    fn ids(ids: impl Iterator<Item = [u8; 32]>) -> (Vec<ChunkId>, Footer) {
        let mut ids: Vec<ChunkId> = ids.map(ChunkId).collect();
        ids.sort_unstable();
        let record = |id: &ChunkId| Record {
            id: *id,
            offset: 0,
            stored_len: 1,
            plain_len: 1,
            codec: Codec::Raw,
        };
        let footer = Footer::sorted(ids.iter().map(record).collect());
        (ids, footer)
    }

    #[test]
    fn every_id_is_found_where_it_is_and_no_other_is() {
        let hash = |number: u32| ChunkId::of(&number.to_le_bytes()).0;
        for count in [0, 1, 3, 4, 7, 8, 9, 100, 5000] {
            let (ids, footer) = ids((0..count).map(hash));
            for (number, id) in ids.iter().enumerate() {
                assert_eq!(footer.position(id), Some(number), "{count}");
            }
            let others = (count..count + 1000).map(|number| ChunkId(hash(number)));
            assert_eq!(others.filter_map(|id| footer.position(&id)).count(), 0);
        }
        // Nobody has to give fair hashes.
        for place in [0, 5, 31] {
            let (ids, footer) = ids((0..200).map(|number| {
                let mut id = [0xff; 32];
                id[place] = number;
                id
            }));
            for (number, id) in ids.iter().enumerate() {
                assert_eq!(footer.position(id), Some(number), "{place}");
            }
            assert_eq!(footer.position(&ChunkId([0; 32])), None);
            assert_eq!(footer.position(&ChunkId([0xff; 32])), None);
        }
    }

    #[test]
    fn any_damage_to_the_footer_is_refused() {
        let object = sample();
        let chunks = HEADER_LEN + 5 + 6 + 9;
        for at in chunks..object.len() - 32 {
            let mut bad = object.clone();
            bad[at] ^= 0x40;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
        for len in 0..object.len() {
            assert!(decode(&object[..len]).is_err(), "length {len}");
        }
        let other = Frame {
            object_type: ObjectType::MetaPack,
            ..FRAME
        };
        assert!(Footer::decode(&other, to_u64(object.len()), &object, "meta/x").is_err());
    }
}
