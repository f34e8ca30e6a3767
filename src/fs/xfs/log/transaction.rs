//! Transactions: operations of records put together to items, until one says that they are committed.

use std::collections::HashMap;

use crate::bytes::{be_u32, le_u16, le_u32, to_usize};

/// Bytes of `struct xlog_op_header`.
const OPERATION: usize = 12;
/// Marks of operations.
const START: u8 = 0x01;
const COMMIT: u8 = 0x02;
const CONTINUE: u8 = 0x04;
const WAS_CONTINUED: u8 = 0x08;
const END: u8 = 0x10;
/// Mark of the operation that a clean unmount writes.
pub(super) const UNMOUNT: u8 = 0x20;
/// Bytes of `struct xfs_trans_header`, and its magic: `TRAN`.
const HEADER: usize = 16;
const HEADER_MAGIC: u32 = 0x5452_414e;
/// Most bytes of transactions that are not committed yet, what a region takes beside its bytes, and most such transactions.
const MAX_PENDING: usize = 256 << 20;
const OVERHEAD: usize = 64;
const MAX_TRANSACTIONS: usize = 4096;

/// A change of one thing: a format, then what it describes.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// Number of regions that it has when it is whole.
    total: usize,
    /// The regions: the format is the first.
    pub(super) regions: Vec<Vec<u8>>,
}

impl Item {
    /// What it is a change of: `XFS_LI_*`.
    pub(super) fn kind(&self) -> u16 {
        self.regions.first().and_then(|format| le_u16(format, 0)).unwrap_or(0)
    }

    /// A region.
    pub(super) fn region(&self, index: usize) -> Option<&[u8]> {
        self.regions.get(index).map(Vec::as_slice)
    }

    fn is_whole(&self) -> bool {
        self.total != 0 && self.regions.len() == self.total
    }
}

/// A committed transaction.
pub(super) struct Transaction {
    /// Place of the record in which it began.
    pub(super) lsn: u64,
    header: Vec<u8>,
    /// Memory that it takes.
    bytes: usize,
    /// Its items in the order in which they were written.
    pub(super) items: Vec<Item>,
}

/// Transactions that have begun.
#[derive(Default)]
pub(super) struct Pending {
    by_id: HashMap<u32, Transaction>,
    bytes: usize,
}

impl Pending {
    /// Takes the operations of a record's body; gives the transactions that became committed, `None` if the format is broken.
    ///
    /// # Source
    /// XFS Algorithms & Data Structures, "Log Operations"; fs/xfs/xfs_log_recover.c.
    pub(super) fn take(&mut self, lsn: u64, operations: u32, body: &[u8]) -> Option<Vec<Transaction>> {
        let mut committed = Vec::new();
        let mut rest = body;
        for _ in 0..operations {
            if rest.is_empty() {
                break;
            }
            let (head, after) = rest.split_at_checked(OPERATION)?;
            let len = to_usize(u64::from(be_u32(head, 4)?));
            let (data, after) = after.split_at_checked(len)?;
            rest = after;
            committed.extend(self.operation(lsn, be_u32(head, 0)?, *head.get(9)?, data)?);
        }
        Some(committed)
    }

    /// One operation; gives the transaction that it commits.
    fn operation(&mut self, lsn: u64, id: u32, flags: u8, data: &[u8]) -> Option<Option<Transaction>> {
        let Some(transaction) = self.by_id.get_mut(&id) else {
            // One that began before the oldest record that is needed is done already.
            if flags & START != 0 {
                let (header, items, bytes) = (Vec::new(), Vec::new(), 0);
                let transaction = Transaction {
                    lsn,
                    header,
                    bytes,
                    items,
                };
                self.by_id.insert(id, transaction);
                if self.by_id.len() > MAX_TRANSACTIONS {
                    return None;
                }
            }
            return Some(None);
        };
        let size = data.len().checked_add(OVERHEAD)?;
        transaction.bytes = transaction.bytes.checked_add(size)?;
        self.bytes = self.bytes.checked_add(size).filter(|bytes| *bytes <= MAX_PENDING)?;
        let flags = flags & !END;
        let flags = if flags & WAS_CONTINUED != 0 {
            flags & !CONTINUE
        } else {
            flags
        };
        match flags {
            COMMIT => {
                let done = self.by_id.remove(&id)?;
                self.bytes = self.bytes.saturating_sub(done.bytes);
                done.is_whole().then_some(Some(done))
            }
            0 | CONTINUE => transaction.add(data).map(|()| None),
            WAS_CONTINUED => transaction.go_on(data).map(|()| None),
            UNMOUNT => {
                let gone = self.by_id.remove(&id)?;
                self.bytes = self.bytes.saturating_sub(gone.bytes);
                Some(None)
            }
            _ => None,
        }
    }
}

impl Transaction {
    fn is_whole(&self) -> bool {
        // After the header an item is begun that stays empty if nothing follows.
        self.items.iter().all(|item| item.is_whole() || item.total == 0)
    }

    /// A new region: of the header, of the last item, or of a new one.
    fn add(&mut self, data: &[u8]) -> Option<()> {
        if data.is_empty() {
            return Some(());
        }
        if self.header.len() < HEADER {
            return self.add_header(data);
        }
        if self.items.last().is_none_or(Item::is_whole) {
            self.items.push(Item::default());
        }
        let item = self.items.last_mut()?;
        if item.total == 0 {
            // Even the first region may be cut, but never before its count.
            item.total = usize::from(le_u16(data, 2)?);
            if item.total == 0 {
                return None;
            }
        }
        item.regions.push(data.to_vec());
        Some(())
    }

    /// The rest of a region that was cut at the end of a record.
    fn go_on(&mut self, data: &[u8]) -> Option<()> {
        if self.header.len() < HEADER {
            return self.add_header(data);
        }
        self.items.last_mut()?.regions.last_mut()?.extend_from_slice(data);
        Some(())
    }

    fn add_header(&mut self, data: &[u8]) -> Option<()> {
        self.header.extend_from_slice(data);
        let is_header = self.header.len() < 4 || le_u32(&self.header, 0) == Some(HEADER_MAGIC);
        (is_header && self.header.len() <= HEADER).then_some(())
    }
}
