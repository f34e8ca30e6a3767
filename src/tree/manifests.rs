//! Keeps the backups that were looked at last, within a limit of bytes.

use std::sync::{Arc, OnceLock};

use lru::LruCache;
use parking_lot::Mutex;

use super::contents::Contents;
use crate::bytes::to_u64;
use crate::vault::manifest::{Problem, Tree};
use crate::vault::{Address, Manifest};

/// A loaded backup.
#[derive(Debug)]
pub(super) struct Backup {
    pub(super) manifest: Manifest,
    /// What is on its disks, once somebody has asked.
    pub(super) contents: OnceLock<Arc<Contents>>,
}

impl Backup {
    pub(super) fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            contents: OnceLock::new(),
        }
    }
}

/// Recently used backups.
#[derive(Debug)]
pub(super) struct Manifests {
    /// Never held while a manifest is loaded.
    kept: Mutex<Kept>,
    limit_bytes: u64,
}

#[derive(Debug)]
struct Kept {
    backups: LruCache<Address, Arc<Backup>>,
    bytes: u64,
}

impl Manifests {
    /// Keeps at most `limit_bytes`, by estimate.
    #[must_use]
    pub(super) fn new(limit_bytes: u64) -> Self {
        let kept = Kept {
            backups: LruCache::unbounded(),
            bytes: 0,
        };
        Self {
            kept: Mutex::new(kept),
            limit_bytes,
        }
    }

    /// The backup if it is kept.
    #[must_use]
    pub(super) fn get(&self, address: &Address) -> Option<Arc<Backup>> {
        self.kept.lock().backups.get(address).cloned()
    }

    /// Keeps a backup; the longest unused ones fall out. One above the limit is not kept.
    pub(super) fn put(&self, address: &Address, backup: &Arc<Backup>) {
        let weight = weight(backup);
        if weight > self.limit_bytes {
            return;
        }
        let mut kept = self.kept.lock();
        if let Some(before) = kept.backups.put(address.clone(), Arc::clone(backup)) {
            kept.bytes = kept.bytes.saturating_sub(self::weight(&before));
        }
        kept.bytes = kept.bytes.saturating_add(weight);
        while kept.bytes > self.limit_bytes {
            let Some((_, oldest)) = kept.backups.pop_lru() else {
                break;
            };
            kept.bytes = kept.bytes.saturating_sub(self::weight(&oldest));
        }
    }

    /// Drops a backup that is gone.
    pub(super) fn remove(&self, address: &Address) {
        let mut kept = self.kept.lock();
        if let Some(before) = kept.backups.pop(address) {
            kept.bytes = kept.bytes.saturating_sub(weight(&before));
        }
    }
}

/// Estimates a backup's memory: facts, tags, problems and fixed sums for records, and as much again for what its disks may hold,
/// which is looked at later. The map's roots are there twice: an image has its own copy.
fn weight(backup: &Backup) -> u64 {
    let manifest = &backup.manifest;
    let disks = manifest.disks().iter();
    let records = disks.fold(0, |sum, disk| sum + 8192 + 128 * to_u64(disk.roots.len()));
    let contents = backup.contents.get().map_or(0, |contents| contents.weight());
    let problem = |problem: &Problem| 256 + 2 * to_u64(problem.path.len() + problem.why.len());
    let tree = |tree: &Tree| 8192 + tree.problems.iter().map(problem).sum::<u64>();
    let tree = manifest.tree().map_or(0, tree);
    512 + 2 * to_u64(manifest.facts.as_deref().map_or(0, str::len)) + records + tree + contents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{disk, manifest};

    fn backup(len: usize) -> Arc<Backup> {
        let mut manifest = manifest(&disk("d", 1), &[]);
        manifest.facts = Some("x".repeat(len));
        Arc::new(Backup::new(manifest))
    }

    #[test]
    fn the_longest_unused_falls_out_at_the_limit() {
        let address = |seconds| disk("d", seconds);
        let each = weight(&backup(1000));
        let manifests = Manifests::new(3 * each);
        for seconds in 0..3 {
            manifests.put(&address(seconds), &backup(1000));
        }
        assert!(manifests.get(&address(0)).is_some());
        manifests.put(&address(3), &backup(1000));
        assert!(manifests.get(&address(1)).is_none());
        assert!(manifests.get(&address(0)).is_some());
        manifests.put(&address(9), &backup(10_000_000));
        assert!(manifests.get(&address(9)).is_none(), "one above the limit is not kept");
        manifests.remove(&address(0));
        assert_eq!(manifests.kept.lock().bytes, 2 * each);
    }
}
