//! Volumes in a thin pool: blocks are looked up in the pool's metadata as they are read.

mod btree;

use std::sync::Arc;

use self::btree::{Run, Tree};
use crate::bytes::{le_u32, le_u64, to_u64, to_usize};
use crate::checksum::crc32c;
use crate::image::{Error, ReadAt, Result, check_range};

/// Bytes of a block of metadata; the format knows no other.
const METADATA_BLOCK: u64 = 4096;
const MAGIC: u64 = 27_022_010;
/// The superblock's checksum is changed by this, so that no other block passes for it.
const CSUM_XOR: u32 = 160_774;
const SECTOR: u64 = 512;
/// Most runs that a search for data or a hole passes over before it gives the cautious answer.
const SEARCH_MAX: u32 = 1024;

/// A pool: its metadata, and the device with the blocks.
pub(super) struct Pool {
    tree: Tree,
    data: Arc<dyn ReadAt>,
    /// Bytes of a block of data; not 0.
    block: u64,
    data_mapping_root: u64,
}

impl Pool {
    /// Opens a pool by its superblock.
    ///
    /// # Errors
    /// A sentence.
    /// # Source
    /// Linux drivers/md/dm-thin-metadata.c, `struct thin_disk_superblock`.
    pub(super) fn open(metadata: Arc<dyn ReadAt>, data: Arc<dyn ReadAt>) -> Result<Self, String> {
        let mut block = vec![0; to_usize(METADATA_BLOCK)];
        metadata
            .read_at(0, &mut block)
            .map_err(|error| format!("the metadata of its thin pool cannot be read: {error}"))?;
        let fields = || {
            let covered = block.get(4..)?;
            let sound = le_u32(&block, 0)? == crc32c(!0, covered) ^ CSUM_XOR && le_u64(&block, 32)? == MAGIC;
            Some((sound, le_u64(&block, 320)?, le_u32(&block, 336)?, le_u32(&block, 340)?))
        };
        let (sound, data_mapping_root, data_block_size, metadata_block_size) =
            fields().ok_or("the metadata of its thin pool is too short")?;
        if !sound {
            return Err("the superblock of its thin pool fails its checksum".to_owned());
        }
        let sizes = u64::from(metadata_block_size).saturating_mul(SECTOR) == METADATA_BLOCK && data_block_size > 0;
        if !sizes {
            return Err("its thin pool has blocks of an impossible size".to_owned());
        }
        Ok(Self {
            tree: Tree::new(metadata),
            data,
            block: u64::from(data_block_size).saturating_mul(SECTOR),
            data_mapping_root,
        })
    }
}

/// A volume in a pool.
pub(super) struct Thin {
    pool: Arc<Pool>,
    /// Root of the volume's own map.
    root: u64,
    len: u64,
    /// Where blocks come from that the pool does not have.
    origin: Option<Arc<dyn ReadAt>>,
}

/// Where bytes of a volume are.
enum Place<'a> {
    On(&'a Arc<dyn ReadAt>, u64),
    Nowhere,
}

impl Thin {
    /// Looks up volume `device_id` of a pool, which has `len` bytes.
    ///
    /// # Errors
    /// A sentence: the pool does not have it, or is damaged.
    pub(super) fn open(
        pool: &Arc<Pool>,
        device_id: u64,
        len: u64,
        origin: Option<Arc<dyn ReadAt>>,
    ) -> Result<Self, String> {
        let root = pool
            .tree
            .get(pool.data_mapping_root, device_id)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            pool: Arc::clone(pool),
            root: root.ok_or_else(|| format!("its thin pool has no volume {device_id}"))?,
            len,
            origin,
        })
    }

    /// Where the byte `at` is, and how many bytes from it on lie there one after the other; at least 1, at most to the end.
    fn place(&self, at: u64) -> Result<(Place<'_>, u64)> {
        let block = self.pool.block;
        let Run { value, count } = self.pool.tree.run(self.root, at / block)?;
        let within = at % block;
        let rest = self.len.saturating_sub(at);
        let len = count.saturating_mul(block).saturating_sub(within).min(rest);
        let Some(value) = value else {
            return Ok(self.outside(at, len));
        };
        // The lower bits of a value are the time of its snapshot.
        let offset = (value >> 24).saturating_mul(block).saturating_add(within);
        Ok((Place::On(&self.pool.data, offset), len))
    }

    /// What the pool does not have comes from the external origin, as far as that goes.
    fn outside(&self, at: u64, len: u64) -> (Place<'_>, u64) {
        match &self.origin {
            Some(origin) if at < origin.len() => (Place::On(origin, at), len.min(origin.len().saturating_sub(at))),
            _ => (Place::Nowhere, len),
        }
    }

    /// Gives each run of bytes in a range to `visit`: where it is, its first byte in the volume, its length.
    fn each(&self, offset: u64, len: u64, visit: &mut dyn FnMut(Place<'_>, u64, u64) -> Result<()>) -> Result<()> {
        let end = offset.saturating_add(len).min(self.len);
        let mut at = offset;
        while at < end {
            let (place, len) = self.place(at)?;
            // A run never is empty; if it were, this would not end.
            let len = len.min(end.saturating_sub(at)).max(1);
            visit(place, at, len)?;
            at = at.saturating_add(len);
        }
        Ok(())
    }
}

impl ReadAt for Thin {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let mut rest = &mut *buf;
        self.each(offset, to_u64(rest.len()), &mut |place, _, len| {
            let (now, later) = std::mem::take(&mut rest)
                .split_at_mut_checked(to_usize(len))
                .unwrap_or_default();
            rest = later;
            match place {
                Place::On(image, from) => image.read_at(from, now),
                Place::Nowhere => {
                    now.fill(0);
                    Ok(())
                }
            }
        })
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        let mut at = offset;
        for _ in 0..SEARCH_MAX {
            if at >= self.len {
                return Ok(None);
            }
            let (place, len) = self.place(at)?;
            if let Place::On(image, from) = place {
                let past = from.saturating_add(len);
                if let Some(found) = image.next_data(from)?.filter(|found| *found < past) {
                    return Ok(Some(at.saturating_add(found.saturating_sub(from))));
                }
            }
            at = at.saturating_add(len.max(1));
        }
        Ok(Some(at).filter(|at| *at < self.len))
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        let mut at = offset;
        for _ in 0..SEARCH_MAX {
            if at >= self.len {
                return Ok(self.len);
            }
            let (place, len) = self.place(at)?;
            let Place::On(image, from) = place else {
                return Ok(at);
            };
            let found = image.next_hole(from)?;
            if found < from.saturating_add(len) {
                return Ok(at.saturating_add(found.saturating_sub(from)));
            }
            at = at.saturating_add(len.max(1));
        }
        Ok(self.len)
    }

    fn warm(&self, offset: u64, len: u64) {
        // Whoever reads these bytes meets the same error; reading ahead has nobody to tell.
        let _ = self.each(offset, len, &mut |place, _, len| {
            if let Place::On(image, from) = place {
                image.warm(from, len);
            }
            Ok(())
        });
    }
}

/// An error of the pool's metadata.
fn corrupt(what: &str, block: u64) -> Error {
    Error::Corrupt {
        what: format!("the metadata of a thin pool: {what}"),
        at: block.saturating_mul(METADATA_BLOCK),
    }
}
