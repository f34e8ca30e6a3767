//! What all tables of partitions tell, and what is wrong between their partitions.

/// A partition as its table describes it; not yet checked against the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// Linux's number.
    pub(super) number: u32,
    /// First byte on the disk.
    pub(super) start: u64,
    /// Bytes.
    pub(super) len: u64,
    /// As `PARTUUID=` writes it.
    pub(super) uuid: Option<String>,
    /// As `PARTLABEL=` writes it.
    pub(super) label: Option<String>,
}

/// A table of partitions, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// By number.
    pub(super) partitions: Vec<Partition>,
    /// Damage, each a clause about the table.
    pub(super) problems: Vec<String>,
}

impl Table {
    /// Pairs of partitions that share bytes, the first few: an overlap is a fault of the table, both stay readable.
    pub(super) fn overlaps(&self) -> Vec<(u32, u32)> {
        let mut by_start: Vec<&Partition> = self.partitions.iter().filter(|partition| partition.len > 0).collect();
        by_start.sort_by_key(|partition| (partition.start, partition.number));
        let mut found = Vec::new();
        let mut furthest: Option<&Partition> = None;
        for partition in by_start {
            let end = |partition: &Partition| partition.start.saturating_add(partition.len);
            if let Some(before) = furthest.filter(|before| end(before) > partition.start) {
                found.push((before.number, partition.number));
            }
            if furthest.is_none_or(|before| end(before) < end(partition)) {
                furthest = Some(partition);
            }
        }
        found.truncate(16);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_found_behind_a_partition_that_ends_early() {
        let partition = |number, start, len| Partition {
            number,
            start,
            len,
            uuid: None,
            label: None,
        };
        let partitions = vec![
            partition(1, 0, 100),
            partition(2, 10, 5),
            partition(3, 50, 10),
            partition(4, 100, 1),
        ];
        let table = Table {
            partitions,
            problems: Vec::new(),
        };
        assert_eq!(table.overlaps(), [(1, 2), (1, 3)]);
    }
}
