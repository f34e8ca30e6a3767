//! What is wrong with the bytes of one object: pure, from bytes to problems.

use super::Depth;
use super::report::Invariant;
use crate::bytes::{to_u64, to_usize};
use crate::chunk::id_fits;
use crate::store::Key;
use crate::vault::codec::{self, Codec};
use crate::vault::object::{Frame, ObjectType};
use crate::vault::pack::{Footer, Record};
use crate::vault::{ChunkId, Error};

/// What was found in the bytes of a pack.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Promises that are broken, with words.
    pub(super) problems: Vec<(Invariant, String)>,
    /// Chunks that do not decode to what their id says.
    pub(super) bad_chunks: Vec<ChunkId>,
    /// The footer, if it can be read.
    pub(super) footer: Option<Footer>,
    /// Chunks that were decoded, and their plain bytes.
    pub(super) chunks: u64,
    pub(super) plain_bytes: u64,
}

/// What is wrong with a frame.
///
/// # Errors
/// `FromTheFuture` if a newer program wrote the object.
pub(super) fn frame<'a>(frame: &Frame, object: &'a [u8], key: &Key) -> Result<Result<&'a [u8], String>, Error> {
    match frame.open(object, key.as_str()) {
        Ok(payload) => Ok(Ok(payload)),
        Err(Error::Corrupt { what, .. }) => Ok(Err(what)),
        Err(other) => Err(other),
    }
}

/// Looks at a pack: its frame, its footer, and its chunks if `depth` says so, if they are pages, or if the frame is broken: then it is the
/// chunks that tell what is lost.
///
/// # Errors
/// As [`frame`].
pub(super) fn pack(
    expected: &Frame,
    object: &[u8],
    key: &Key,
    depth: Depth,
    plain: &mut Vec<u8>,
) -> Result<Examined, Error> {
    let mut examined = Examined::default();
    let framed = frame(expected, object, key)?;
    let is_framed = framed.is_ok();
    if let Err(what) = framed {
        examined.problems.push((Invariant::Frame, what));
    }
    let footer = match Footer::decode(expected, to_u64(object.len()), object, key.as_str()) {
        Ok(footer) => footer,
        Err(Error::Corrupt { what, .. }) => {
            examined.problems.push((Invariant::Footer, what));
            return Ok(examined);
        }
        Err(other) => return Err(other),
    };
    if depth == Depth::Data || expected.object_type == ObjectType::MetaPack || !is_framed {
        for record in footer.records() {
            chunk(expected.object_type, object, record, plain, &mut examined);
        }
    }
    examined.footer = Some(footer);
    Ok(examined)
}

fn chunk(kind: ObjectType, object: &[u8], record: &Record, plain: &mut Vec<u8>, examined: &mut Examined) {
    let start = to_usize(u64::from(record.offset));
    let end = start.saturating_add(to_usize(u64::from(record.stored_len)));
    // A footer that is valid describes the object without gaps.
    let stored = object.get(start..end).unwrap_or_default();
    let plain_len = to_usize(u64::from(record.plain_len));
    // What is stored as it is need not be copied to be hashed.
    let decoded = match record.codec {
        Codec::Raw => (stored.len() == plain_len).then_some(stored),
        Codec::Zstd => codec::decode_into(record.codec, stored, plain_len, plain).then_some(plain.as_slice()),
    };
    let what = match decoded {
        None => "does not decode",
        Some(plain) if !id_fits(kind, &record.id, plain) => "fails its hash",
        Some(_) => {
            examined.chunks = examined.chunks.saturating_add(1);
            examined.plain_bytes = examined.plain_bytes.saturating_add(u64::from(record.plain_len));
            return;
        }
    };
    examined.bad_chunks.push(record.id);
    examined
        .problems
        .push((Invariant::Chunk, format!("chunk {} {what}", record.id)));
}
