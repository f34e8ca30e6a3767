//! The two levels of tables: from an offset on the disk to a run of bytes in the file.

use std::sync::Arc;

use super::corrupt;
use super::entry::{OFFSET_MASK, Unit, decode};
use super::header::{Geometry, Header};
use super::recent::Recent;
use crate::bytes::{be_u64, to_u64, to_usize};
use crate::image::{Error, ReadAt, Result};
use crate::source::raw::RawDisk;

/// Bytes of second-level tables kept; they map 256 GiB with clusters of 64 KiB.
const CACHE_BYTES: u64 = 32 << 20;

/// Bytes of the disk that come from one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Where the first byte asked for comes from: `Data::host` is the place of that byte.
    pub(super) unit: Unit,
    /// At least 1; may reach past the end of the disk.
    pub(super) len: u64,
}

/// The first-level table, whole, and the second-level tables used last.
pub(super) struct Tables {
    geometry: Geometry,
    l1: Vec<u64>,
    /// Second-level tables, as stored.
    recent: Recent,
}

impl Tables {
    /// Reads the first-level table and checks each of its entries.
    pub(super) fn load(header: &Header, file: &RawDisk) -> Result<Self> {
        let len = header.l1_entries().saturating_mul(8);
        let inside = |offset: u64, len: u64| offset.checked_add(len).is_some_and(|end| end <= file.len());
        if !inside(header.l1_offset, len) {
            return Err(corrupt(
                "the first-level table, which ends past the end of the file,",
                40,
            ));
        }
        let mut stored = vec![0; to_usize(len)];
        file.read_at(header.l1_offset, &mut stored)?;
        let (entries, _) = stored.as_chunks::<8>();
        let l1: Vec<u64> = entries
            .iter()
            .map(|entry| u64::from_be_bytes(*entry) & OFFSET_MASK)
            .collect();
        let cluster_size = header.geometry.cluster_size();
        let wrong = |table: &u64| !table.is_multiple_of(cluster_size) || !inside(*table, cluster_size);
        if let Some(index) = l1.iter().position(|table| *table != 0 && wrong(table)) {
            let at = header.l1_offset.saturating_add(to_u64(index).saturating_mul(8));
            return Err(corrupt("an entry of the first-level table", at));
        }
        refuse_shared_tables(&l1)?;
        Ok(Self {
            geometry: header.geometry,
            l1,
            recent: Recent::new(CACHE_BYTES, cluster_size),
        })
    }

    /// Finds where the byte at `offset` comes from and how far that goes on, up to about `limit` bytes and never past
    /// what one second-level table maps.
    pub(super) fn run(&self, file: &RawDisk, offset: u64, limit: u64) -> Result<Run> {
        let span = self.geometry.span();
        let within = offset % span;
        let table = self.l1.get(to_usize(offset / span)).copied().unwrap_or(0);
        if table == 0 {
            return Ok(Run {
                unit: Unit::Unallocated,
                len: span - within,
            });
        }
        let entries = self.table(file, table)?;
        let walk = Walk {
            geometry: self.geometry,
            entries: &entries,
            table,
        };
        walk.run(within, limit)
    }

    fn table(&self, file: &RawDisk, host: u64) -> Result<Arc<[u8]>> {
        self.recent.get(host, || {
            let mut stored = vec![0; to_usize(self.geometry.cluster_size())];
            file.read_at(host, &mut stored)?;
            Ok(stored)
        })
    }
}

/// Refuses two first-level entries for one table: no writer makes them, and they let a small file stand for endless work.
fn refuse_shared_tables(l1: &[u64]) -> Result<()> {
    let mut tables: Vec<u64> = l1.iter().copied().filter(|table| *table != 0).collect();
    tables.sort_unstable();
    let shared = tables.array_windows().find(|[one, next]| one == next);
    match shared {
        Some([table, _]) => Err(corrupt("a second-level table that is used twice", *table)),
        None => Ok(()),
    }
}

/// One second-level table being read.
struct Walk<'a> {
    geometry: Geometry,
    entries: &'a [u8],
    table: u64,
}

impl Walk<'_> {
    fn run(&self, within: u64, limit: u64) -> Result<Run> {
        let unit_size = self.geometry.unit_size();
        let (first, skip) = (within / unit_size, within % unit_size);
        match self.unit(first)? {
            unit @ Unit::Compressed { .. } => {
                let cluster = self.geometry.cluster_size();
                Ok(Run {
                    unit,
                    len: cluster - within % cluster,
                })
            }
            Unit::Data { host } => Ok(Run {
                unit: Unit::Data { host: host + skip },
                len: self.extend(first, limit, |step| Unit::Data {
                    host: host.saturating_add(step * unit_size),
                }) - skip,
            }),
            unit => Ok(Run {
                unit,
                len: self.extend(first, limit, |_| unit) - skip,
            }),
        }
    }

    /// Bytes of the units from `first` on that are what `expected` says of each; damage ends the run and is met later.
    fn extend(&self, first: u64, limit: u64, expected: impl Fn(u64) -> Unit) -> u64 {
        let unit_size = self.geometry.unit_size();
        let last = self.geometry.span() / unit_size;
        let wanted = last.min(first.saturating_add(limit.div_ceil(unit_size)).saturating_add(1));
        let more = (first + 1..wanted)
            .take_while(|unit| self.unit(*unit).is_ok_and(|found| found == expected(unit - first)))
            .count();
        (to_u64(more) + 1) * unit_size
    }

    fn unit(&self, index: u64) -> Result<Unit> {
        let per_cluster = self.geometry.units_per_cluster();
        let at = to_usize(index / per_cluster * self.geometry.entry_len());
        let wrong = |what: &str| -> Error { corrupt(what, self.table.saturating_add(to_u64(at))) };
        let descriptor = be_u64(self.entries, at).ok_or_else(|| wrong("a table entry"))?;
        let bitmap = match per_cluster {
            1 => 0,
            _ => be_u64(self.entries, at.saturating_add(8)).ok_or_else(|| wrong("a table entry"))?,
        };
        decode(&self.geometry, descriptor, bitmap, index % per_cluster).map_err(wrong)
    }
}
