//! Where everything lies in a qcow2 image that we write; pure.
//!
//! Header, refcount table, first-level table, refcount blocks, second-level tables, data: each in whole clusters, in this
//! order, without gaps. Every cluster is used once, so all refcounts are 1; holes have no cluster. As all of it follows
//! from the plan, threads can write data anywhere without asking each other, and tables are made one at a time.
//!
//! # Source
//! QEMU docs/interop/qcow2.rst.

use super::plan::{CHUNK_MIN, Plan, Range};
use crate::bytes::{to_u64, to_usize};
use crate::source::qcow2::MAGIC;

/// 64 KiB, QEMU's default; a chunk of a plan is one or more of these.
pub(super) const CLUSTER: u64 = CHUNK_MIN;
const CLUSTER_BITS: u32 = 16;
/// Bytes of the disk that one second-level table maps.
const SPAN: u64 = CLUSTER * ENTRIES;
const ENTRIES: u64 = CLUSTER / 8;
/// Clusters that one block of 16-bit refcounts covers.
const BLOCK_COVERS: u64 = CLUSTER / 2;
const REFCOUNT_ORDER: u32 = 4;
/// Largest first-level table that QEMU accepts: 32 MiB.
const L1_ENTRIES_MAX: u64 = 4 << 20;
const HEADER_LEN: u32 = 112;
/// Marks an entry whose cluster has refcount 1.
const COPIED: u64 = 1 << 63;

/// The place of each part, counted in clusters.
pub(super) struct Layout<'a> {
    plan: &'a Plan,
    /// For each range of data the number of clusters of data before it.
    before: Vec<u64>,
    /// Which spans of the disk have a second-level table.
    spans: Vec<u64>,
    refcount_table: u64,
    l1: u64,
    blocks: u64,
    data: u64,
}

/// A table ready to be written.
pub(super) struct Table {
    pub(super) host: u64,
    pub(super) bytes: Vec<u8>,
}

impl<'a> Layout<'a> {
    /// Lays out the image for a plan; `None` if the disk is larger than such an image can be, 2 PiB.
    pub(super) fn of(plan: &'a Plan) -> Option<Self> {
        let l1_entries = plan.disk_len().div_ceil(SPAN);
        if l1_entries > L1_ENTRIES_MAX {
            return None;
        }
        let mut before = Vec::with_capacity(plan.data().len());
        let (mut clusters, mut spans) = (0, Vec::new());
        for range in plan.data() {
            before.push(clusters);
            clusters += range.len.div_ceil(CLUSTER);
            for span in range.offset / SPAN..range.end().div_ceil(SPAN) {
                if spans.last() != Some(&span) {
                    spans.push(span);
                }
            }
        }
        let l1 = l1_entries.div_ceil(ENTRIES);
        let others = 1 + l1 + to_u64(spans.len()) + clusters;
        let (refcount_table, blocks) = refcounts(others);
        Some(Self {
            plan,
            before,
            spans,
            refcount_table,
            l1,
            blocks,
            data: clusters,
        })
    }

    fn l1_start(&self) -> u64 {
        1 + self.refcount_table
    }

    fn blocks_start(&self) -> u64 {
        self.l1_start() + self.l1
    }

    fn l2_start(&self) -> u64 {
        self.blocks_start() + self.blocks
    }

    fn data_start(&self) -> u64 {
        self.l2_start() + to_u64(self.spans.len())
    }

    fn clusters(&self) -> u64 {
        self.data_start() + self.data
    }

    /// Size of the image file.
    pub(super) fn file_len(&self) -> u64 {
        self.clusters() * CLUSTER
    }

    /// Size of the disk the image shows: QEMU counts in sectors.
    pub(super) fn virtual_len(&self) -> u64 {
        self.plan.disk_len().next_multiple_of(512)
    }

    /// Where the byte at `offset` of the disk goes; `None` in a hole. Bytes that follow in one range follow in the file.
    pub(super) fn host(&self, offset: u64) -> Option<u64> {
        let ranges = self.plan.data();
        let index = ranges.partition_point(|range| range.offset <= offset).checked_sub(1)?;
        let (range, before) = (ranges.get(index)?, self.before.get(index)?);
        let within = (offset < range.end()).then(|| offset - range.offset)?;
        Some((self.data_start() + before) * CLUSTER + within)
    }

    /// The header cluster's fields, version 3.
    pub(super) fn header(&self) -> Table {
        let mut bytes = Vec::with_capacity(to_usize(HEADER_LEN.into()));
        bytes.extend(MAGIC);
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend([0; 12]); // no backing file
        bytes.extend(CLUSTER_BITS.to_be_bytes());
        bytes.extend(self.virtual_len().to_be_bytes());
        bytes.extend(0_u32.to_be_bytes()); // no encryption
        bytes.extend(low_half(self.plan.disk_len().div_ceil(SPAN)).to_be_bytes());
        bytes.extend((self.l1_start() * CLUSTER).to_be_bytes());
        bytes.extend(CLUSTER.to_be_bytes()); // the refcount table is the second cluster
        bytes.extend(low_half(self.refcount_table).to_be_bytes());
        bytes.extend([0; 12]); // no snapshots
        bytes.extend([0; 24]); // no incompatible, compatible or autoclear features
        bytes.extend(REFCOUNT_ORDER.to_be_bytes());
        bytes.extend(HEADER_LEN.to_be_bytes());
        bytes.extend([0; 8]); // compression by deflate, of which there is none
        Table { host: 0, bytes }
    }

    /// The refcount table, its blocks, the first-level and all second-level tables, made one at a time.
    pub(super) fn tables(&self) -> impl Iterator<Item = Table> + '_ {
        let refcount_table = std::iter::once_with(|| self.refcount_table());
        let l1 = std::iter::once_with(|| self.l1_table());
        let blocks = (0..self.blocks).map(|index| self.refcount_block(index));
        let l2 = self.spans.iter().zip(self.l2_start()..);
        let l2 = l2.map(|(span, cluster)| self.l2_table(*span, cluster));
        refcount_table.chain(l1).chain(blocks).chain(l2)
    }

    fn refcount_table(&self) -> Table {
        let blocks = self.blocks_start()..self.l2_start();
        Table {
            host: CLUSTER,
            bytes: blocks.flat_map(|cluster| (cluster * CLUSTER).to_be_bytes()).collect(),
        }
    }

    fn refcount_block(&self, index: u64) -> Table {
        let used = self.clusters().saturating_sub(index * BLOCK_COVERS).min(BLOCK_COVERS);
        Table {
            host: (self.blocks_start() + index) * CLUSTER,
            bytes: 1_u16.to_be_bytes().repeat(to_usize(used)),
        }
    }

    fn l1_table(&self) -> Table {
        let mut tables = self.spans.iter().copied().zip(self.l2_start()..).peekable();
        let entries = (0..self.plan.disk_len().div_ceil(SPAN)).flat_map(|span| {
            let here = tables.next_if(|(used, _)| *used == span);
            here.map_or(0, |(_, cluster)| COPIED | (cluster * CLUSTER))
                .to_be_bytes()
        });
        Table {
            host: self.l1_start() * CLUSTER,
            bytes: entries.collect(),
        }
    }

    fn l2_table(&self, span: u64, cluster: u64) -> Table {
        let start = span * SPAN;
        let ranges = self.plan.data();
        let first = ranges.partition_point(|range| range.end() <= start);
        let mut bytes = vec![0; to_usize(CLUSTER)];
        let (entries, _) = bytes.as_chunks_mut::<8>();
        for range in ranges
            .iter()
            .skip(first)
            .take_while(|range| range.offset < start + SPAN)
        {
            self.fill(entries, start, range);
        }
        Table {
            host: cluster * CLUSTER,
            bytes,
        }
    }

    /// Enters the clusters of a range into the table for the disk from `start` on.
    fn fill(&self, entries: &mut [[u8; 8]], start: u64, range: &Range) {
        let from = range.offset.max(start);
        let to = range.end().min(start + SPAN);
        let places = (from..to)
            .step_by(to_usize(CLUSTER))
            .filter_map(|offset| self.host(offset));
        let skip = to_usize((from - start) / CLUSTER);
        for (entry, host) in entries.iter_mut().skip(skip).zip(places) {
            *entry = (COPIED | host).to_be_bytes();
        }
    }
}

/// Clusters of the refcount table and number of refcount blocks, which count themselves too.
fn refcounts(others: u64) -> (u64, u64) {
    let (mut table, mut blocks) = (1, 1);
    loop {
        let need = (others + table + blocks).div_ceil(BLOCK_COVERS);
        let table_need = need.div_ceil(ENTRIES);
        if need <= blocks && table_need <= table {
            return (table, blocks);
        }
        (table, blocks) = (table.max(table_need), blocks.max(need));
    }
}

/// Counts that are bounded by the largest first-level table fit the header's 32-bit fields.
fn low_half(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refcounts_cover_themselves() {
        for others in [
            3,
            32_766,
            32_767,
            32_768,
            32_769,
            1 << 20,
            (1 << 28) - 1,
            1 << 28,
            1 << 35,
        ] {
            let (table, blocks) = refcounts(others);
            assert!(blocks * BLOCK_COVERS >= others + table + blocks, "{others}");
            assert!(table * ENTRIES >= blocks, "{others}");
            assert!(
                (blocks - 1) * BLOCK_COVERS < others + table + blocks,
                "{others}: a block too many"
            );
        }
    }
}
