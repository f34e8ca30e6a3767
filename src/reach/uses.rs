//! What is needed of a pack, record by record, and by how many groups of backups.

use crate::bytes::to_usize;

/// Stored bytes of chunks and pages that the backups of one group need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needed {
    /// All of them, each counted once.
    pub total: u64,
    /// Those that no other group needs: what is free once these backups are gone.
    pub unique: u64,
}

impl Needed {
    /// What other groups need, too.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.total.saturating_sub(self.unique)
    }
}

/// Who needs a record, by the numbers of groups.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    /// The only group, 0 before the first, or [`SEVERAL`].
    owner: u32,
    /// The group that came last.
    last: u32,
}

/// The owner of a record that more than one group needs.
pub(super) const SEVERAL: u32 = u32::MAX;

/// What is needed of one pack.
#[derive(Debug, Clone)]
pub struct Uses {
    /// In the order of [`Footer::records`](crate::vault::pack::Footer::records).
    records: Vec<Use>,
    needed_records: usize,
    needed_bytes: u64,
    /// Something is needed that is not among the records, or nobody knows the records.
    is_needed_whole: bool,
}

impl Uses {
    pub(super) fn new(records: usize) -> Self {
        Self {
            records: vec![Use::default(); records],
            needed_records: 0,
            needed_bytes: 0,
            is_needed_whole: false,
        }
    }

    /// Says whether more of the pack is needed than [`is_needed`](Self::is_needed) tells of.
    #[must_use]
    pub fn is_needed_whole(&self) -> bool {
        self.is_needed_whole
    }

    /// Says whether any backup needs the record with this number in [`Footer::records`](crate::vault::pack::Footer::records).
    #[must_use]
    pub fn is_needed(&self, number: usize) -> bool {
        self.records.get(number).is_some_and(|found| found.owner != 0)
    }

    /// Records of the pack.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Records that are needed.
    #[must_use]
    pub fn needed_records(&self) -> usize {
        self.needed_records
    }

    /// Stored bytes of these.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.needed_bytes
    }

    /// Makes room for this many records.
    pub(super) fn reach(&mut self, records: usize) {
        if self.records.len() < records {
            self.records.resize(records, Use::default());
        }
    }

    pub(super) fn note_whole(&mut self) {
        self.is_needed_whole = true;
    }

    /// Takes note that a group needs a record of `stored_len` bytes; says whether it does for the first time.
    pub(super) fn note(&mut self, group: u32, (number, stored_len): (u32, u32), groups: &mut [Needed]) -> bool {
        let record = self.records.get_mut(to_usize(u64::from(number)));
        let Some(record) = record.filter(|record| record.last != group) else {
            return false;
        };
        record.last = group;
        let bytes = u64::from(stored_len);
        let mut count = |owner: u32, change: &dyn Fn(&mut Needed)| {
            let place = to_usize(u64::from(owner)).checked_sub(1);
            if let Some(needed) = place.and_then(|place| groups.get_mut(place)) {
                change(needed);
            }
        };
        count(group, &|needed| needed.total = needed.total.saturating_add(bytes));
        match record.owner {
            0 => {
                record.owner = group;
                self.needed_records = self.needed_records.saturating_add(1);
                self.needed_bytes = self.needed_bytes.saturating_add(bytes);
                count(group, &|needed| needed.unique = needed.unique.saturating_add(bytes));
            }
            SEVERAL => {}
            owner => {
                record.owner = SEVERAL;
                count(owner, &|needed| needed.unique = needed.unique.saturating_sub(bytes));
            }
        }
        true
    }
}
