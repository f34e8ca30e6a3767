//! Sectors that stand in for those of the volume: what the log says they should be.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

use crate::bytes::{to_u64, to_usize};

/// Bytes of a sector, whatever the sectors of the volume are.
pub(super) const SECTOR: usize = 512;

/// Sectors by the byte of the volume at which they begin.
#[derive(Default)]
pub(super) struct Overlay {
    sectors: BTreeMap<u64, [u8; SECTOR]>,
}

impl Overlay {
    /// Number of sectors.
    pub(super) fn len(&self) -> usize {
        self.sectors.len()
    }

    /// Puts sectors in place of those from byte `at` on; `at` and the length are multiples of [`SECTOR`].
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        let (sectors, _) = bytes.as_chunks::<SECTOR>();
        for (sector, index) in sectors.iter().zip(0..) {
            let at = at.saturating_add(to_u64(SECTOR).saturating_mul(index));
            self.sectors.insert(at, *sector);
        }
    }

    /// Changes the bytes of the volume from byte `at` on to what they should be.
    pub(super) fn apply(&self, at: u64, bytes: &mut [u8]) {
        if self.sectors.is_empty() {
            return;
        }
        let end = at.saturating_add(to_u64(bytes.len()));
        let first = at - at % to_u64(SECTOR);
        for (sector_at, sector) in self.sectors.range((Included(first), Excluded(end))) {
            let skip = to_usize(at.saturating_sub(*sector_at));
            let into = to_usize(sector_at.saturating_sub(at));
            let (Some(from), Some(to)) = (sector.get(skip..), bytes.get_mut(into..)) else {
                continue;
            };
            let len = from.len().min(to.len());
            if let (Some(from), Some(to)) = (from.get(..len), to.get_mut(..len)) {
                to.copy_from_slice(from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_stand_in_wherever_a_read_begins_and_ends() {
        let mut overlay = Overlay::default();
        overlay.put(1024, &[7; 2 * SECTOR]);
        for (at, len) in [
            (0, 4096),
            (1000, 100),
            (1024, 512),
            (1500, 1),
            (1500, 2000),
            (2047, 1),
            (2048, 10),
            (0, 1024),
        ] {
            let mut bytes = vec![0; len];
            overlay.apply(at, &mut bytes);
            for (byte, place) in bytes.iter().zip(at..) {
                assert_eq!(*byte == 7, (1024..2048).contains(&place), "{place} of {at}..+{len}");
            }
        }
    }
}
