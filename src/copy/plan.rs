//! Which backups are copied, and which are there already: pure, from two listings.

use crate::vault::{Address, Catalogue};
use std::collections::BTreeSet;

/// What is done for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It is copied.
    Copy,
    /// One of that address is there, and must be the same.
    Compare,
    /// It was deleted there, and is left alone.
    Leave,
}

/// One backup of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The backup.
    pub address: Address,
    /// What is done.
    pub work: Work,
    /// Its bytes that are not holes.
    pub data_bytes: u64,
}

/// The backups to be copied or compared, oldest first: what a later one shares with an earlier one is then there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    /// The steps in their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Bytes of all backups that are not holes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.steps
            .iter()
            .fold(0, |sum, step| sum.saturating_add(step.data_bytes))
    }
}

/// Makes the plan for backups with their sizes, `there` being what the other vault has and `deleted` what was deleted from it; who
/// is named twice is copied once.
pub(super) fn plan(backups: Vec<(Address, u64)>, there: &Catalogue, deleted: &BTreeSet<Address>) -> Plan {
    let step = |(address, data_bytes): (Address, u64)| {
        let points = there.get(&address.resource);
        let is_there = points.is_some_and(|points| points.contains(&address.point));
        Step {
            work: if deleted.contains(&address) {
                Work::Leave
            } else if is_there {
                Work::Compare
            } else {
                Work::Copy
            },
            address,
            data_bytes,
        }
    };
    let mut steps: Vec<Step> = backups.into_iter().map(step).collect();
    steps.sort_by(|a, b| (a.address.point, &a.address.resource).cmp(&(b.address.point, &b.address.resource)));
    steps.dedup_by(|a, b| a.address == b.address);
    Plan { steps }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn backups_are_copied_oldest_first_and_once_those_there_are_compared_and_deleted_ones_left() {
        let names = [
            "servers/b/2026-01-02T00-00-00Z",
            "servers/a/2026-01-02T00-00-00Z",
            "filesystems/z/2026-01-01T00-00-00Z",
            "servers/b/2026-01-02T00-00-00Z",
        ];
        let mut there = Catalogue::new();
        let known = address(names[1]);
        there.insert(known.resource.clone(), vec![known.point]);
        let backups = names.iter().map(|name| (address(name), 10)).collect();
        let plan = plan(backups, &there, &BTreeSet::from([address(names[2])]));
        let steps: Vec<_> = plan
            .steps()
            .iter()
            .map(|step| (step.address.to_string(), step.work))
            .collect();
        assert_eq!(
            steps,
            [
                (names[2].to_owned(), Work::Leave),
                (names[1].to_owned(), Work::Compare),
                (names[0].to_owned(), Work::Copy),
            ]
        );
        assert_eq!(plan.data_bytes(), 30);
    }

    #[test]
    fn sizes_that_lie_do_not_overflow() {
        let backups = ["disks/a/2026-01-01T00-00-00Z", "disks/b/2026-01-01T00-00-00Z"];
        let plan = plan(
            backups.iter().map(|name| (address(name), u64::MAX)).collect(),
            &Catalogue::new(),
            &BTreeSet::new(),
        );
        assert_eq!(plan.data_bytes(), u64::MAX);
    }
}
