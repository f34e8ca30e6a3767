//! A qcow2 image, versions 2 and 3, as the plain disk it holds.
//!
//! The image is hostile input: every size from it is bounded before it allocates, every table is inside the file, no table
//! stands in the first-level table twice, so that walking all of them costs no more than reading the file once. Refcounts
//! and snapshots play no part in reading; the dirty bit speaks of refcounts only and is no obstacle.
//!
//! # Source
//! QEMU docs/interop/qcow2.rst.

mod decompress;
mod entry;
mod header;
mod recent;
mod tables;

use std::path::Path;
use std::sync::Arc;

use self::decompress::decompress;
use self::entry::Unit;
pub use self::header::MAGIC;
use self::header::{Header, NamedBacking};
use self::recent::Recent;
use self::tables::{Run, Tables};
use super::raw::RawDisk;
use super::{Backing, Format};
use crate::bytes::{to_u64, to_usize};
use crate::image::{Error, ReadAt, Result, check_range};

/// Bytes of decompressed clusters kept, so that reads smaller than a cluster decompress it once.
const CLUSTER_CACHE_BYTES: u64 = 8 << 20;

/// An open qcow2 image with everything under it.
pub struct Qcow2 {
    header: Header,
    tables: Tables,
    file: RawDisk,
    backing: Option<Arc<dyn ReadAt>>,
    /// Decompressed clusters, by the place of their compressed bytes.
    clusters: Recent,
}

impl Qcow2 {
    /// Opens the image at `path` over the user's chain of backing files, top to bottom.
    ///
    /// # Errors
    /// `Unsupported` for encryption, external data files, unknown features, and where the chain is not the one the
    /// headers ask for: a backing file too few or too many, or of another format. `Corrupt` for a header or first-level
    /// table that breaks the format, or an image marked corrupt. `Io` as [`RawDisk::open`].
    pub fn open(path: &Path, backing: &[Backing]) -> Result<Self> {
        Self::from_raw(RawDisk::open(path)?, backing)
    }

    /// Reads a qcow2 image out of an open file or device; otherwise as [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_raw(file: RawDisk, backing: &[Backing]) -> Result<Self> {
        let header = Header::load(&file).map_err(|error| named(&file, error))?;
        check_chain(header.backing.as_ref(), backing).map_err(|error| named(&file, error))?;
        let tables = Tables::load(&header, &file).map_err(|error| named(&file, error))?;
        Ok(Self {
            tables,
            backing: open_chain(backing)?,
            clusters: Recent::new(CLUSTER_CACHE_BYTES, header.geometry.cluster_size()),
            header,
            file,
        })
    }

    fn run(&self, offset: u64, limit: u64) -> Result<Run> {
        self.tables
            .run(&self.file, offset, limit)
            .map_err(|error| named(&self.file, error))
    }

    /// Reads stored bytes; the end of the file inside a cluster means a file cut short, never zeros.
    fn read_stored(&self, host: u64, buf: &mut [u8]) -> Result<()> {
        match self.file.read_at(host, buf) {
            Err(Error::OutOfRange { .. }) => Err(named(
                &self.file,
                corrupt(
                    "a cluster that ends past the end of the file (is the copy complete?)",
                    host,
                ),
            )),
            other => other,
        }
    }

    fn read_compressed(&self, (host, len): (u64, u64), within: usize, buf: &mut [u8]) -> Result<()> {
        let cluster = self.clusters.get(host, || self.decompressed(host, len))?;
        let plain = within
            .checked_add(buf.len())
            .and_then(|end| cluster.get(within..end))
            .ok_or_else(|| named(&self.file, corrupt("a compressed cluster", host)))?;
        buf.copy_from_slice(plain);
        Ok(())
    }

    fn decompressed(&self, host: u64, len: u64) -> Result<Vec<u8>> {
        // The length is counted in whole sectors and may name more than the file's last one.
        let stored = len.min(self.file.len().saturating_sub(host));
        let mut packed = vec![0; to_usize(stored)];
        self.read_stored(host, &mut packed)?;
        let size = to_usize(self.header.geometry.cluster_size());
        decompress(self.header.compression, &packed, size)
            .ok_or_else(|| named(&self.file, corrupt("a compressed cluster", host)))
    }

    /// Reads what lies under an unallocated range: the backing file, and zeros where there is none or past its end.
    fn read_below(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let Some(below) = &self.backing else {
            buf.fill(0);
            return Ok(());
        };
        let inside = below.len().saturating_sub(offset).min(to_u64(buf.len()));
        let (head, tail) = buf.split_at_mut(to_usize(inside));
        tail.fill(0);
        if head.is_empty() {
            return Ok(());
        }
        below.read_at(offset, head)
    }

    fn read_run(&self, run: &Run, offset: u64, buf: &mut [u8]) -> Result<()> {
        match run.unit {
            Unit::Data { host } => self.read_stored(host, buf),
            Unit::Compressed { host, len } => {
                let within = offset % self.header.geometry.cluster_size();
                self.read_compressed((host, len), to_usize(within), buf)
            }
            Unit::Zero => {
                buf.fill(0);
                Ok(())
            }
            Unit::Unallocated => self.read_below(offset, buf),
        }
    }
}

impl ReadAt for Qcow2 {
    fn len(&self) -> u64 {
        self.header.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.header.size)?;
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let run = self.run(offset, to_u64(rest.len()))?;
            let len = run.len.min(to_u64(rest.len()));
            let (part, after) = rest.split_at_mut(to_usize(len));
            self.read_run(&run, offset, part)?;
            (offset, rest) = (offset.saturating_add(len), after);
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        let mut at = offset;
        // First data at or after the last asked-for place of the backing file: asked again only once it is passed, so
        // that an image alternating between two kinds of hole does not scan the backing file once per cluster.
        let mut below = 0;
        while at < self.header.size {
            let run = self.run(at, u64::MAX)?;
            let end = at.saturating_add(run.len).min(self.header.size);
            match (run.unit, &self.backing) {
                (Unit::Data { .. } | Unit::Compressed { .. }, _) => return Ok(Some(at)),
                (Unit::Unallocated, Some(backing)) => {
                    if below <= at {
                        below = backing.next_data(at)?.unwrap_or(u64::MAX);
                    }
                    if below < end {
                        return Ok(Some(below));
                    }
                }
                (Unit::Zero | Unit::Unallocated, _) => {}
            }
            at = end;
        }
        Ok(None)
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        let mut at = offset;
        // As in `next_data`, for the next hole of the backing file, whose end is a hole here.
        let mut below = 0;
        while at < self.header.size {
            let run = self.run(at, u64::MAX)?;
            let end = at.saturating_add(run.len).min(self.header.size);
            match (run.unit, &self.backing) {
                (Unit::Data { .. } | Unit::Compressed { .. }, _) => {}
                (Unit::Unallocated, Some(backing)) => {
                    if below <= at {
                        below = backing.next_hole(at)?.max(at);
                    }
                    if below < end {
                        return Ok(below);
                    }
                }
                (Unit::Zero | Unit::Unallocated, _) => return Ok(at),
            }
            at = end;
        }
        Ok(self.header.size)
    }
}

/// Compares the backing file a header names with what the user named for it.
fn check_chain(header: Option<&NamedBacking>, user: &[Backing]) -> Result<()> {
    let refuse = |feature: String| Err(Error::Unsupported { feature });
    match (header, user.first()) {
        (None, None) => Ok(()),
        (Some(named), None) => refuse(format!(
            "reading it alone (this qcow2 has a backing file, {:?}; name it with --backing PATH)",
            named.name
        )),
        (None, Some(backing)) => refuse(format!(
            "the backing file {} (this qcow2 has none; drop that --backing)",
            backing.path.display()
        )),
        (Some(named), Some(backing)) => match &named.format {
            Some(format) if *format != backing.format.to_string() => refuse(format!(
                "the backing file {} as {} (this qcow2 says it is {format:?}; write --backing raw:PATH for a raw file, --backing PATH for a qcow2)",
                backing.path.display(),
                backing.format,
            )),
            _ => Ok(()),
        },
    }
}

fn open_chain(chain: &[Backing]) -> Result<Option<Arc<dyn ReadAt>>> {
    let Some((first, rest)) = chain.split_first() else {
        return Ok(None);
    };
    match (first.format, rest.first()) {
        (Format::Qcow2, _) => Ok(Some(Arc::new(Qcow2::open(&first.path, rest)?))),
        (Format::Raw, None) => Ok(Some(Arc::new(RawDisk::open(&first.path)?))),
        (Format::Raw, Some(under)) => Err(Error::Unsupported {
            feature: format!(
                "the backing file {} under the raw disk {} (a raw file has none; drop that --backing)",
                under.path.display(),
                first.path.display()
            ),
        }),
    }
}

fn corrupt(what: impl Into<String>, at: u64) -> Error {
    Error::Corrupt { what: what.into(), at }
}

/// Puts the file's name before what the parsers, which know no names, say of it.
fn named(file: &RawDisk, error: Error) -> Error {
    let path = file.path().display();
    match error {
        Error::Corrupt { what, at } => corrupt(format!("{path}: {what}"), at),
        Error::Unsupported { feature } => Error::Unsupported {
            feature: format!("{path}: {feature}"),
        },
        other => other,
    }
}
