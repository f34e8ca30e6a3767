//! The header of a qcow2 image and its extensions: bytes to checked values.

use super::corrupt;
use super::decompress::Compression;
use crate::bytes::{be_u32, be_u64, to_u64, to_usize};
use crate::image::{Error, ReadAt, Result};
use crate::source::raw::RawDisk;

/// The first four bytes of every qcow2 image.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

const V2_LEN: usize = 72;
const V3_LEN: usize = 104;
/// The fixed fields, with the one optional field this reader knows: `compression_type` at 104.
const FIXED_LEN: usize = 112;
/// Largest first-level table, 32 MiB as in QEMU: 2 PiB of disk with clusters of 64 KiB.
const L1_ENTRIES_MAX: u64 = 4 << 20;
const BACKING_NAME_MAX: usize = 1023;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXT_ENCRYPTION: u32 = 0x0537_be77;
const EXT_DATA_FILE: u32 = 0x4441_5441;

/// The header, checked for everything that does not need the rest of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) geometry: Geometry,
    pub(super) size: u64,
    pub(super) l1_offset: u64,
    pub(super) compression: Compression,
    pub(super) backing: Option<NamedBacking>,
}

/// What the header says of its backing file: information for messages, never a path to open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedBacking {
    pub(super) name: String,
    pub(super) format: Option<String>,
}

/// What second-level entries look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum L2Kind {
    /// Version 2: 8 bytes; there are no zero clusters.
    WithoutZeroFlag,
    /// Version 3: 8 bytes.
    Standard,
    /// 16 bytes, with 32 subclusters each.
    Extended,
}

/// The sizes everything else follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// 9 to 21.
    pub(super) cluster_bits: u32,
    pub(super) l2_kind: L2Kind,
}

impl Geometry {
    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    pub(super) fn entry_len(&self) -> u64 {
        match self.l2_kind {
            L2Kind::Extended => 16,
            _ => 8,
        }
    }

    pub(super) fn units_per_cluster(&self) -> u64 {
        match self.l2_kind {
            L2Kind::Extended => 32,
            _ => 1,
        }
    }

    pub(super) fn unit_size(&self) -> u64 {
        self.cluster_size() / self.units_per_cluster()
    }

    /// Bytes of the disk that one second-level table maps, at most 2^39.
    pub(super) fn span(&self) -> u64 {
        self.cluster_size() * (self.cluster_size() / self.entry_len())
    }
}

impl Header {
    /// Reads and checks the header cluster of `file`.
    pub(super) fn load(file: &RawDisk) -> Result<Self> {
        let mut head = vec![0; to_usize(file.len().min(to_u64(FIXED_LEN)))];
        file.read_at(0, &mut head)?;
        let cluster_size = cluster_bits(&head).map(|bits| 1_u64 << bits)?;
        let mut cluster = vec![0; to_usize(file.len().min(cluster_size))];
        file.read_at(0, &mut cluster)?;
        Self::decode(&cluster)
    }

    /// Number of first-level entries that map the disk; the table may be longer (it then keeps a machine's state).
    pub(super) fn l1_entries(&self) -> u64 {
        self.size.div_ceil(self.geometry.span())
    }

    /// Decodes the first cluster of an image, or all of a file that is shorter.
    fn decode(cluster: &[u8]) -> Result<Self> {
        let cluster_bits = cluster_bits(cluster)?;
        let version = u32_at(cluster, 4)?;
        if u32_at(cluster, 32)? != 0 {
            return Err(encrypted());
        }
        let (incompatible, header_len) = match version {
            2 => (0, V2_LEN),
            _ => (u64_at(cluster, 72)?, v3_header_len(cluster, cluster_bits)?),
        };
        check_features(incompatible)?;
        let geometry = Geometry {
            cluster_bits,
            l2_kind: l2_kind(version, incompatible, cluster_bits)?,
        };
        let backing = backing(cluster, header_len)?;
        let header = Self {
            geometry,
            size: u64_at(cluster, 24)?,
            l1_offset: u64_at(cluster, 40)?,
            compression: compression(cluster, incompatible, header_len)?,
            backing,
        };
        header.check_l1(u64::from(u32_at(cluster, 36)?))?;
        Ok(header)
    }

    fn check_l1(&self, l1_size: u64) -> Result<()> {
        if l1_size > L1_ENTRIES_MAX || self.l1_entries() > l1_size {
            return Err(corrupt(
                format!(
                    "the first-level table ({l1_size} entries for a disk of {} bytes)",
                    self.size
                ),
                36,
            ));
        }
        if !self.l1_offset.is_multiple_of(self.geometry.cluster_size()) {
            return Err(corrupt("the place of the first-level table", 40));
        }
        Ok(())
    }
}

fn cluster_bits(head: &[u8]) -> Result<u32> {
    if !head.starts_with(&MAGIC) {
        return Err(Error::Unsupported {
            feature: "a file without the qcow2 magic number (if it is a raw disk, drop --format qcow2, or name it as --backing raw:PATH)"
                .into(),
        });
    }
    let version = u32_at(head, 4)?;
    if !(2..=3).contains(&version) {
        return Err(Error::Unsupported {
            feature: format!("qcow2 version {version} (convert it with `qemu-img convert -O qcow2`)"),
        });
    }
    match u32_at(head, 20)? {
        bits @ 9..=21 => Ok(bits),
        bits => Err(corrupt(format!("the cluster size (2^{bits})"), 20)),
    }
}

fn v3_header_len(cluster: &[u8], cluster_bits: u32) -> Result<usize> {
    let len = u32_at(cluster, 100)?;
    if to_usize(len.into()) < V3_LEN || len % 8 != 0 || len > 1 << cluster_bits {
        return Err(corrupt(format!("the header length ({len})"), 100));
    }
    Ok(to_usize(len.into()))
}

fn check_features(incompatible: u64) -> Result<()> {
    if incompatible & CORRUPT != 0 {
        return Err(corrupt(
            "the image, which QEMU has marked so (repair a copy with `qemu-img check -r all`),",
            72,
        ));
    }
    if incompatible & EXTERNAL_DATA != 0 {
        return Err(external_data());
    }
    let unknown = incompatible & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        return Err(Error::Unsupported {
            feature: format!(
                "an image with unknown incompatible features {unknown:#x} (convert it with `qemu-img convert -O qcow2`)"
            ),
        });
    }
    Ok(())
}

fn l2_kind(version: u32, incompatible: u64, cluster_bits: u32) -> Result<L2Kind> {
    match (version, incompatible & EXTENDED_L2 != 0) {
        (2, _) => Ok(L2Kind::WithoutZeroFlag),
        (_, false) => Ok(L2Kind::Standard),
        (_, true) if cluster_bits < 14 => Err(corrupt("the cluster size (too small for subclusters)", 20)),
        (_, true) => Ok(L2Kind::Extended),
    }
}

fn compression(cluster: &[u8], incompatible: u64, header_len: usize) -> Result<Compression> {
    let kind = if header_len > V3_LEN {
        cluster.get(V3_LEN).copied().ok_or_else(cut_short)?
    } else {
        0
    };
    match (kind, incompatible & COMPRESSION_TYPE != 0) {
        (0, false) => Ok(Compression::Deflate),
        (1, true) => Ok(Compression::Zstd),
        (0 | 1, _) => Err(corrupt(
            "the compression type, which disagrees with its feature bit,",
            104,
        )),
        _ => Err(Error::Unsupported {
            feature: format!("qcow2 compression type {kind} (convert it with `qemu-img convert -O qcow2`)"),
        }),
    }
}

/// Finds the backing file the header names, and refuses the extensions that change what clusters mean.
fn backing(cluster: &[u8], header_len: usize) -> Result<Option<NamedBacking>> {
    let offset = to_usize(u64_at(cluster, 8)?);
    let extensions_end = if offset == 0 { cluster.len() } else { offset };
    let format = extensions(
        cluster.get(header_len..extensions_end).ok_or_else(cut_short)?,
        header_len,
    )?;
    if offset == 0 {
        return Ok(None);
    }
    let len = to_usize(u32_at(cluster, 16)?.into());
    let name = offset.checked_add(len).and_then(|end| cluster.get(offset..end));
    match name {
        Some(name) if (1..=BACKING_NAME_MAX).contains(&len) => Ok(Some(NamedBacking {
            name: String::from_utf8_lossy(name).into_owned(),
            format,
        })),
        _ => Err(corrupt("the name of the backing file", 8)),
    }
}

/// Walks the header extensions; returns the backing file's format. Each step goes forward by at least 8 bytes.
fn extensions(area: &[u8], start: usize) -> Result<Option<String>> {
    let mut format = None;
    let mut at = 0_usize;
    while let (Some(kind), Some(len)) = (be_u32(area, at), be_u32(area, at.saturating_add(4))) {
        let body = at.saturating_add(8);
        let end = body.saturating_add(to_usize(len.into()));
        let content = area
            .get(body..end)
            .ok_or_else(|| corrupt("a header extension", to_u64(start.saturating_add(at))))?;
        match kind {
            0 => break,
            EXT_BACKING_FORMAT => format = Some(String::from_utf8_lossy(content).into_owned()),
            EXT_ENCRYPTION => return Err(encrypted()),
            EXT_DATA_FILE => return Err(external_data()),
            _ => {}
        }
        at = end.next_multiple_of(8);
    }
    Ok(format)
}

fn encrypted() -> Error {
    Error::Unsupported {
        feature: "an encrypted qcow2 (decrypt a copy with `qemu-img convert`)".into(),
    }
}

fn external_data() -> Error {
    Error::Unsupported {
        feature: "a qcow2 with an external data file (convert it with `qemu-img convert -O qcow2`)".into(),
    }
}

fn cut_short() -> Error {
    corrupt("the header, which is cut short,", 0)
}

fn u32_at(data: &[u8], offset: usize) -> Result<u32> {
    be_u32(data, offset).ok_or_else(cut_short)
}

fn u64_at(data: &[u8], offset: usize) -> Result<u64> {
    be_u64(data, offset).ok_or_else(cut_short)
}

#[cfg(test)]
mod tests;
