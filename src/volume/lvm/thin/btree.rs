//! B+trees of the device-mapper's persistent data: keys and values of 64 bits, in blocks of 4 KiB with checksums.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{METADATA_BLOCK, corrupt};
use crate::bytes::{field, le_u32, le_u64, to_usize};
use crate::checksum::crc32c;
use crate::image::{ReadAt, Result};

const INTERNAL_NODE: u32 = 1;
const LEAF_NODE: u32 = 1 << 1;
/// A node's checksum is changed by this.
const CSUM_XOR: u32 = 121_107;
const HEADER_LEN: usize = 32;
const VALUE_LEN: usize = 8;
/// Levels of a tree; four reach any pool that can be made.
const DEPTH_MAX: u32 = 12;
/// Nodes that are kept, 4 KiB each.
const KEPT_MAX: usize = 256;

/// A node whose checksum is right and whose sizes fit.
///
/// # Source
/// Linux drivers/md/persistent-data/dm-btree-internal.h, `struct node_header`.
struct Node {
    is_leaf: bool,
    nr_entries: usize,
    max_entries: usize,
    block: Vec<u8>,
}

impl Node {
    fn decode(block: Vec<u8>, number: u64) -> Option<Self> {
        let flags = le_u32(&block, 4)?;
        let nr_entries = to_usize(u64::from(le_u32(&block, 16)?));
        let max_entries = to_usize(u64::from(le_u32(&block, 20)?));
        let value_size = to_usize(u64::from(le_u32(&block, 24)?));
        let end = max_entries
            .checked_mul(8_usize.checked_add(VALUE_LEN)?)?
            .checked_add(HEADER_LEN)?;
        let sound = crc32c(!0, block.get(4..)?) ^ CSUM_XOR == le_u32(&block, 0)?
            && le_u64(&block, 8)? == number
            && value_size == VALUE_LEN
            && nr_entries <= max_entries
            && end <= block.len()
            && (flags & LEAF_NODE != 0) != (flags & INTERNAL_NODE != 0);
        sound.then_some(Self {
            is_leaf: flags & LEAF_NODE != 0,
            nr_entries,
            max_entries,
            block,
        })
    }

    fn keys(&self) -> &[[u8; 8]] {
        let keys = self.block.get(HEADER_LEN..).unwrap_or_default().as_chunks::<8>().0;
        keys.get(..self.nr_entries).unwrap_or_default()
    }

    fn key(&self, index: usize) -> Option<u64> {
        self.keys().get(index).map(|key| u64::from_le_bytes(*key))
    }

    fn value(&self, index: usize) -> Option<u64> {
        if index >= self.nr_entries {
            return None;
        }
        let values = self.max_entries.checked_mul(8)?.checked_add(HEADER_LEN)?;
        field(&self.block, index.checked_mul(VALUE_LEN)?.checked_add(values)?).map(u64::from_le_bytes)
    }

    /// Number of keys that are not above `key`.
    fn keys_up_to(&self, key: u64) -> usize {
        self.keys().partition_point(|known| u64::from_le_bytes(*known) <= key)
    }
}

/// Keys one after the other that have blocks one after the other, or none.
pub(super) struct Run {
    /// The value of the first key.
    pub(super) value: Option<u64>,
    /// Keys; at least 1.
    pub(super) count: u64,
}

/// The trees on one device; nodes that were read lately are kept.
pub(super) struct Tree {
    metadata: Arc<dyn ReadAt>,
    kept: Mutex<HashMap<u64, Arc<Node>>>,
}

impl Tree {
    /// Trees in this metadata.
    pub(super) fn new(metadata: Arc<dyn ReadAt>) -> Self {
        Self {
            metadata,
            kept: Mutex::default(),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// `Corrupt` where a node is damaged.
    pub(super) fn get(&self, root: u64, key: u64) -> Result<Option<u64>> {
        self.run(root, key).map(|run| run.value)
    }

    /// The run that begins at `key`, as far as its leaf tells.
    ///
    /// # Errors
    /// `Corrupt` where a node is damaged.
    pub(super) fn run(&self, root: u64, key: u64) -> Result<Run> {
        let mut number = root;
        // No key of this subtree reaches this.
        let mut bound = u64::MAX;
        for _ in 0..DEPTH_MAX {
            let node = self.node(number)?;
            let after = node.keys_up_to(key);
            bound = node.key(after).unwrap_or(bound).min(bound);
            if node.is_leaf {
                return Ok(run_in(&node, key, after, bound));
            }
            let child = after.checked_sub(1).and_then(|index| node.value(index));
            match child {
                Some(child) => number = child,
                None => {
                    return Ok(Run {
                        value: None,
                        count: count_to(key, bound),
                    });
                }
            }
        }
        Err(corrupt("a tree is too deep", number))
    }

    fn node(&self, number: u64) -> Result<Arc<Node>> {
        if let Some(node) = self.kept.lock().get(&number) {
            return Ok(Arc::clone(node));
        }
        let mut block = vec![0; to_usize(METADATA_BLOCK)];
        self.metadata
            .read_at(number.saturating_mul(METADATA_BLOCK), &mut block)?;
        let node = Node::decode(block, number).ok_or_else(|| corrupt("a node fails its checksum", number))?;
        let node = Arc::new(node);
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(number, Arc::clone(&node));
        Ok(node)
    }
}

/// The run at `key` in a leaf, of which `after` keys are not above it.
fn run_in(node: &Node, key: u64, after: usize, bound: u64) -> Run {
    let found = after.checked_sub(1).filter(|index| node.key(*index) == Some(key));
    let Some(index) = found else {
        return Run {
            value: None,
            count: count_to(key, bound),
        };
    };
    let value = node.value(index);
    let follows = |steps: u64| {
        let index = index.checked_add(to_usize(steps))?;
        let next = (key.checked_add(steps)?, (value? >> 24).checked_add(steps)?);
        ((node.key(index)?, node.value(index)? >> 24) == next).then_some(())
    };
    let mut count = 1;
    while follows(count).is_some() {
        count = count.saturating_add(1);
    }
    Run { value, count }
}

fn count_to(key: u64, bound: u64) -> u64 {
    bound.saturating_sub(key).max(1)
}
