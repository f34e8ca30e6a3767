//! Replays the log into memory: all of it, or nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::transaction::{Item, Pending, Transaction};
use super::{Log, Record, Step, Stop, Stretch, buffer_item, inode_item};
use crate::bytes::{le_u64, to_u64, to_usize};
use crate::fs::Result;
use crate::fs::xfs::disk::Disk;
use crate::fs::xfs::overlay::{Overlay, SECTOR};

/// Most sectors that differ from the volume: 256 MiB.
const MAX_SECTORS: usize = 512 << 10;
/// Most bytes of the volume that are read and checked: seconds of work.
const MAX_READ: usize = 4 << 30;
/// Most buffers that were freed, and most changes that were begun.
const MAX_KNOWN: usize = 1 << 20;
const TOO_MUCH: &str = "it changes more than fits in memory";

/// Kinds of items: `XFS_LI_*`.
mod kind {
    pub(super) const INODE: u16 = 0x123b;
    pub(super) const BUFFER: u16 = 0x123c;
    pub(super) const INODE_CREATION: u16 = 0x123f;
    /// Changes of a block map, and of two against each other, that are to be made; and those that were made.
    pub(super) const INTENTS: [u16; 3] = [0x1244, 0x1246, 0x1248];
    pub(super) const DONE: [u16; 3] = [0x1245, 0x1247, 0x1249];
    /// Free space, its reverse map and counts of sharing, quotas: nothing that is read here.
    pub(super) const IRRELEVANT: [u16; 15] = [
        0x1236, 0x1237, 0x1238, 0x123d, 0x123e, 0x1240, 0x1241, 0x1242, 0x1243, 0x124a, 0x124b, 0x124c, 0x124d, 0x124e,
        0x124f,
    ];
}

/// What became of the log.
pub(in crate::fs::xfs) enum Replayed {
    /// The overlay shows what a mount would.
    Done {
        /// Inodes of which a change was begun and not ended; their maps and attributes are not to be trusted.
        unfinished: HashSet<u64>,
    },
    /// It was left alone, for this reason.
    Not(&'static str),
}

/// Replays the log into `disk`; if that is not possible for certain, leaves it as it is.
///
/// # Errors
/// `Image` if the volume cannot be read.
pub(in crate::fs::xfs) fn replay(disk: &mut Disk) -> Result<Replayed> {
    match attempt(disk) {
        Ok((overlay, unfinished)) => {
            disk.overlay = overlay;
            Ok(Replayed::Done { unfinished })
        }
        Err(Stop::Odd(reason)) => Ok(Replayed::Not(reason)),
        Err(Stop::Read(error)) => Err(error),
    }
}

fn attempt(disk: &Disk) -> Step<(Overlay, HashSet<u64>)> {
    if !disk.superblock.checksums {
        // Blocks that do not say when they were written can be newer than the log: old changes would show for a time.
        return Err(Stop::Odd("it is of version 4"));
    }
    let log = Log::new(disk).ok_or(Stop::Odd("it lies outside the volume"))?;
    let stretch = log.active()?;
    let mut cancelled = Cancelled::default();
    committed(&log, stretch, &mut |transaction| {
        for item in &transaction.items {
            if item.kind() == kind::BUFFER
                && let Some(buffer) = buffer_item::cancelled(item)
            {
                cancelled.add(buffer)?;
            }
        }
        Ok(())
    })?;
    let mut replay = Replay {
        target: Target {
            disk,
            overlay: Overlay::default(),
            left: MAX_READ,
        },
        cancelled,
        unfinished: HashMap::new(),
    };
    committed(&log, stretch, &mut |transaction| replay.transaction(&transaction))?;
    let unfinished = replay.unfinished.into_values().flatten().collect();
    Ok((replay.target.overlay, unfinished))
}

/// Gives the committed transactions of a stretch in order.
fn committed(log: &Log<'_>, stretch: Stretch, visit: &mut dyn FnMut(Transaction) -> Step<()>) -> Step<()> {
    let mut pending = Pending::default();
    let end = log.walk(stretch.first, Some(stretch.end), &mut |record: &Record, body| {
        if !record.little_endian {
            return Err(Stop::Odd("it was written by a machine of another byte order"));
        }
        let transactions = pending.take(record.lsn, record.operations, body);
        for transaction in transactions.ok_or(Stop::Odd("a transaction is damaged"))? {
            visit(transaction)?;
        }
        Ok(())
    })?;
    if end == stretch.end {
        Ok(())
    } else {
        Err(Stop::Odd("a record is damaged"))
    }
}

/// Buffers that were freed later, by first sector and number of sectors: what was written to them before is not replayed.
#[derive(Default)]
pub(super) struct Cancelled {
    counts: BTreeMap<(u64, u64), usize>,
}

impl Cancelled {
    fn add(&mut self, buffer: (u64, u64)) -> Step<()> {
        let count = self.counts.entry(buffer).or_default();
        *count = count.saturating_add(1);
        if self.counts.len() > MAX_KNOWN {
            Err(Stop::Odd(TOO_MUCH))
        } else {
            Ok(())
        }
    }

    fn remove(&mut self, buffer: (u64, u64)) {
        if let Some(count) = self.counts.get_mut(&buffer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&buffer);
            }
        }
    }

    pub(super) fn has(&self, buffer: (u64, u64)) -> bool {
        self.counts.contains_key(&buffer)
    }

    /// Says whether a buffer that begins among `len` sectors from `first` on was freed.
    pub(super) fn has_in(&self, first: u64, len: u64) -> bool {
        let end = first.saturating_add(len);
        self.counts.range((first, 0)..(end, 0)).next().is_some()
    }
}

/// The volume as it is so far.
pub(super) struct Target<'a> {
    pub(super) disk: &'a Disk,
    overlay: Overlay,
    /// Bytes that may still be read.
    left: usize,
}

impl Target<'_> {
    /// Reads sectors; callers bound the number.
    pub(super) fn read(&mut self, sector: u64, count: u64) -> Step<Vec<u8>> {
        let at = sector
            .checked_mul(to_u64(SECTOR))
            .ok_or(Stop::Odd("it names a place outside the volume"))?;
        let len = to_usize(count).saturating_mul(SECTOR);
        self.left = self
            .left
            .checked_sub(len)
            .ok_or(Stop::Odd("it changes more than can be read in time"))?;
        let mut bytes = self.disk.read(at, len)?;
        self.overlay.apply(at, &mut bytes);
        Ok(bytes)
    }

    /// Writes sectors.
    pub(super) fn write(&mut self, sector: u64, bytes: &[u8]) -> Step<()> {
        self.overlay.put(sector.saturating_mul(to_u64(SECTOR)), bytes);
        if self.overlay.len() > MAX_SECTORS {
            return Err(Stop::Odd(TOO_MUCH));
        }
        Ok(())
    }
}

struct Replay<'a> {
    target: Target<'a>,
    cancelled: Cancelled,
    /// Intents by kind and number, with the inodes that they change.
    unfinished: HashMap<(u16, u64), Vec<u64>>,
}

impl Replay<'_> {
    /// Replays a transaction: buffers, then inodes, then what was freed.
    fn transaction(&mut self, transaction: &Transaction) -> Step<()> {
        let is_first = |item: &&Item| matches!(item.kind(), kind::BUFFER | kind::INODE_CREATION);
        for item in transaction.items.iter().filter(is_first) {
            self.first(item, transaction.lsn)?;
        }
        for item in transaction.items.iter().filter(|item| !is_first(item)) {
            self.second(item, transaction.lsn)?;
        }
        for item in transaction.items.iter().filter(|item| item.kind() == kind::BUFFER) {
            if let Some(buffer) = buffer_item::cancelled(item) {
                self.cancelled.remove(buffer);
            }
        }
        Ok(())
    }

    fn first(&mut self, item: &Item, lsn: u64) -> Step<()> {
        if item.kind() == kind::BUFFER {
            return buffer_item::replay(&mut self.target, &self.cancelled, item, lsn);
        }
        inode_item::create(&mut self.target, &self.cancelled, item)
    }

    fn second(&mut self, item: &Item, lsn: u64) -> Step<()> {
        let kind = item.kind();
        if kind == kind::INODE {
            return inode_item::replay(&mut self.target, &self.cancelled, item, lsn);
        }
        if kind == 0 && item.regions.is_empty() || kind::IRRELEVANT.contains(&kind) {
            return Ok(());
        }
        let format = item.region(0).unwrap_or_default();
        let id = le_u64(format, 8).ok_or(Stop::Odd("an intent is damaged"))?;
        if kind::INTENTS.contains(&kind) {
            self.unfinished.insert((kind, id), inodes_of(kind, format));
            if self.unfinished.len() > MAX_KNOWN {
                return Err(Stop::Odd(TOO_MUCH));
            }
        } else if kind::DONE.contains(&kind) {
            self.unfinished.remove(&(kind.saturating_sub(1), id));
        } else {
            return Err(Stop::Odd("it has changes of an unknown kind"));
        }
        Ok(())
    }
}

/// The inodes that an intent changes.
///
/// # Source
/// fs/xfs/libxfs/xfs_log_format.h, `struct xfs_bui_log_format`, `xfs_attri_log_format`, `xfs_xmi_log_format`.
fn inodes_of(kind: u16, format: &[u8]) -> Vec<u64> {
    let [block_map, attribute, _] = kind::INTENTS;
    let places = match kind {
        _ if kind == block_map => (16..format.len()).step_by(32).collect(),
        _ if kind == attribute => vec![16],
        _ => vec![16, 24],
    };
    places.into_iter().filter_map(|at| le_u64(format, at)).collect()
}
