//! A chunk on its way into the vault: looked up, and compressed if it is new.

use super::{Context, Result};
use crate::vault::ChunkId;
use crate::vault::codec::Codec;
use crate::vault::object::ObjectId;
use crate::writer::{Encoded, encode_checked};

impl Context<'_> {
    /// Stores a chunk unless the vault has it; returns its pack and the stored bytes that this added.
    pub(super) fn store_chunk(&self, id: ChunkId, plain: &[u8], scratch: &mut Vec<u8>) -> Result<(ObjectId, u64)> {
        match self.prepare_chunk(id, plain, None, scratch)? {
            Prepared::Known(pack) => Ok((pack, 0)),
            Prepared::New(codec, stored) => Ok(self.writer.add(&encoded(id, codec, &stored, plain))?),
        }
    }

    /// Looks a chunk up, `hint` being a pack that may hold it, and compresses it if the vault does not have it.
    pub(super) fn prepare_chunk(
        &self,
        id: ChunkId,
        plain: &[u8],
        hint: Option<ObjectId>,
        scratch: &mut Vec<u8>,
    ) -> Result<Prepared> {
        if let Some(pack) = self.writer.find(&id, plain.len(), hint)? {
            return Ok(Prepared::Known(pack));
        }
        let (codec, stored) = encode_checked(id, plain, self.level, scratch)?;
        Ok(Prepared::New(codec, stored))
    }
}

/// A chunk before it is stored.
pub(super) enum Prepared {
    /// This pack has it.
    Known(ObjectId),
    /// It is to be stored so.
    New(Codec, Vec<u8>),
}

pub(super) fn encoded<'a>(id: ChunkId, codec: Codec, stored: &'a [u8], plain: &[u8]) -> Encoded<'a> {
    Encoded {
        id,
        codec,
        stored,
        plain_len: plain.len(),
    }
}
