//! What goes between a reader and the cache directory: footers and stored bytes that were checked go in, and are checked again on
//! their way out.

use super::Reader;
use crate::bytes::{field, to_usize};
use crate::vault::codec::{self, Codec};
use crate::vault::kept::{Kept, Kind, Scope};
use crate::vault::object::{Frame, ObjectType};
use crate::vault::pack::{Footer, Record};
use crate::vault::{ChunkId, MAX_CHUNK};

/// Bytes before the stored bytes of a chunk: its codec, three of zero, and its plain length.
const HEAD_LEN: usize = 8;

impl Reader {
    /// The cache directory, if it keeps what is in packs of this type.
    fn kept(&self, object_type: ObjectType) -> Option<(&Kept, Kind)> {
        let kept = self.vault.kept()?;
        match (object_type, kept.scope()) {
            (ObjectType::MetaPack, _) => Some((kept, Kind::Page)),
            (ObjectType::Pack, Scope::Data) => Some((kept, Kind::Chunk)),
            _ => None,
        }
    }

    /// Decodes a chunk from the cache directory into `buffer`; `false` if there is none that `check` finds good.
    pub(super) fn take_kept(
        &self,
        object_type: ObjectType,
        id: &ChunkId,
        buffer: &mut Vec<u8>,
        check: impl Fn(&[u8]) -> Result<(), String>,
    ) -> bool {
        let Some((kept, kind)) = self.kept(object_type) else {
            return false;
        };
        let found = kept.find(kind, &id.0, |entry| {
            let (codec, plain_len, stored) = parse(entry)?;
            let decoded = codec::decode_into(codec, stored, plain_len, buffer);
            (decoded && check(buffer).is_ok()).then_some(())
        });
        found.is_some()
    }

    /// As [`take_kept`](Self::take_kept), for a chunk of data, into memory of its length.
    pub(super) fn take_kept_slice(&self, id: &ChunkId, plain: &mut [u8]) -> bool {
        let Some((kept, kind)) = self.kept(ObjectType::Pack) else {
            return false;
        };
        let found = kept.find(kind, &id.0, |entry| {
            let (codec, _, stored) = parse(entry)?;
            let good = codec::decode_slice(codec, stored, plain) && ChunkId::of(plain) == *id;
            good.then_some(())
        });
        found.is_some()
    }

    /// Keeps the stored bytes of a chunk that were found good.
    pub(super) fn keep(&self, object_type: ObjectType, record: &Record, stored: &[u8]) {
        if let Some((kept, kind)) = self.kept(object_type) {
            let head = [record.codec.code(), 0, 0, 0];
            kept.put(kind, &record.id.0, &[&head, &record.plain_len.to_le_bytes(), stored]);
        }
    }

    /// The footer of the pack `object` from the cache directory.
    pub(super) fn kept_footer(&self, object: &str, frame: &Frame) -> Option<Footer> {
        let kept = self.vault.kept()?;
        kept.find(Kind::Footer, object.as_bytes(), |entry| {
            let (len, tail) = entry.split_first_chunk()?;
            Footer::decode(frame, u64::from_le_bytes(*len), tail, object).ok()
        })
    }

    /// Keeps the footer at the end of `tail`, which was found good, of a pack of `len` bytes.
    pub(super) fn keep_footer(&self, object: &str, len: u64, tail: &[u8]) {
        let footer = || tail.get(tail.len().checked_sub(Footer::total_len(tail)?)?..);
        if let Some((kept, footer)) = self.vault.kept().zip(footer()) {
            kept.put(Kind::Footer, object.as_bytes(), &[&len.to_le_bytes(), footer]);
        }
    }
}

fn parse(entry: &[u8]) -> Option<(Codec, usize, &[u8])> {
    let (head, stored) = entry.split_at_checked(HEAD_LEN)?;
    let codec = Codec::from_code(*head.first()?)?;
    let plain_len = u32::from_le_bytes(field(head, 4)?);
    (plain_len <= MAX_CHUNK).then_some((codec, to_usize(u64::from(plain_len)), stored))
}
