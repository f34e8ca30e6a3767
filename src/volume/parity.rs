//! Where the data of a RAID 4, 5 or 6 lies among its parity.

/// How parity moves from row to row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    /// Data goes on after the parity, round the devices; parity starts on the last device and moves down.
    LeftSymmetric,
    /// The same with parity moving up.
    RightSymmetric,
    /// Data fills the devices from the first, passing over the parity, which moves down.
    LeftAsymmetric,
    /// The same with parity moving up.
    RightAsymmetric,
    /// As left asymmetric, one row ahead (RAID 6 only).
    NRestart,
    /// As left symmetric with Q before P (RAID 6 only).
    NContinue,
    /// Parity stays on the first devices.
    First,
    /// Parity stays on the last devices.
    Last,
}

/// The arrangement of one array.
///
/// # Source
/// Linux drivers/md/raid5.c (`raid5_compute_sector`) and raid5.h (`ALGORITHM_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parity {
    devices: u64,
    parities: u64,
    rotation: Rotation,
    /// The last device keeps Q and the others are a RAID 5.
    fixed_q: bool,
}

impl Parity {
    /// The arrangement that md numbers `algorithm` at `level` 4, 5 or 6; `None` if there is none, or too few devices.
    #[must_use]
    pub fn new(level: u32, algorithm: u32, devices: u64) -> Option<Self> {
        let parities = match level {
            4 | 5 => 1,
            6 => 2,
            _ => return None,
        };
        let (rotation, fixed_q) = match (level, algorithm) {
            (4, _) => (Rotation::Last, false),
            (5 | 6, 0) => (Rotation::LeftAsymmetric, false),
            (5 | 6, 1) => (Rotation::RightAsymmetric, false),
            (5 | 6, 2) => (Rotation::LeftSymmetric, false),
            (5 | 6, 3) => (Rotation::RightSymmetric, false),
            (5 | 6, 4) => (Rotation::First, false),
            (5 | 6, 5) => (Rotation::Last, false),
            (6, 8) => (Rotation::RightAsymmetric, false),
            (6, 9) => (Rotation::NRestart, false),
            (6, 10) => (Rotation::NContinue, false),
            (6, 16) => (Rotation::LeftAsymmetric, true),
            (6, 17) => (Rotation::RightAsymmetric, true),
            (6, 18) => (Rotation::LeftSymmetric, true),
            (6, 19) => (Rotation::RightSymmetric, true),
            (6, 20) => (Rotation::First, true),
            _ => return None,
        };
        (devices > parities && devices <= 4096).then_some(Self {
            devices,
            parities,
            rotation,
            fixed_q,
        })
    }

    /// Devices' worth of parity in a row.
    #[must_use]
    pub fn parities(&self) -> u64 {
        self.parities
    }

    /// Devices in all.
    #[must_use]
    pub fn devices(&self) -> u64 {
        self.devices
    }

    /// Devices' worth of data in a row; at least 1.
    #[must_use]
    pub fn data_devices(&self) -> u64 {
        self.devices.saturating_sub(self.parities).max(1)
    }

    /// The device that keeps chunk `index` of a row.
    #[must_use]
    pub fn device_of(&self, row: u64, index: u64) -> u64 {
        // A fixed Q leaves a RAID 5 on the devices before it.
        let (devices, parities) = if self.fixed_q {
            (self.devices.saturating_sub(1).max(1), 1)
        } else {
            (self.devices.max(1), self.parities)
        };
        let last = devices.saturating_sub(1);
        let up = row % devices;
        let down = last.saturating_sub(up);
        match self.rotation {
            Rotation::First => index.saturating_add(parities),
            Rotation::Last => index,
            Rotation::LeftSymmetric => round(down.saturating_add(parities), index, devices),
            Rotation::RightSymmetric => round(up.saturating_add(parities), index, devices),
            Rotation::NContinue => round(down.saturating_add(1), index, devices),
            Rotation::LeftAsymmetric => past(down, index, parities, last),
            Rotation::RightAsymmetric => past(up, index, parities, last),
            Rotation::NRestart => {
                let next = row.saturating_add(1) % devices;
                past(last.saturating_sub(next), index, parities, last)
            }
        }
    }
}

/// Device `index` after `first`, going round.
fn round(first: u64, index: u64, devices: u64) -> u64 {
    first.saturating_add(index) % devices
}

/// Device `index` of those that keep no parity; parity begins on device `parity` and may go on from the first device.
fn past(parity: u64, index: u64, parities: u64, last: u64) -> u64 {
    if parities == 2 && parity == last {
        return index.saturating_add(1);
    }
    if index >= parity {
        index.saturating_add(parities)
    } else {
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of letters as documents draw them: each data chunk by its number, parity as `p`.
    fn drawn(level: u32, algorithm: u32, devices: u64, rows: u64) -> Vec<String> {
        let parity = Parity::new(level, algorithm, devices).unwrap();
        let row = |row: u64| {
            let mut line = vec!["p".to_owned(); usize::try_from(devices).unwrap()];
            for index in 0..parity.data_devices() {
                let device = usize::try_from(parity.device_of(row, index)).unwrap();
                assert_eq!(line[device], "p", "two chunks on one device");
                line[device] = (row * parity.data_devices() + index).to_string();
            }
            line.join(" ")
        };
        (0..rows).map(row).collect()
    }

    #[test]
    fn chunks_lie_where_the_drawings_of_each_layout_show_them() {
        let table: [(u32, u32, u64, &[&str]); 8] = [
            (4, 0, 3, &["0 1 p", "2 3 p"]),
            (5, 0, 4, &["0 1 2 p", "3 4 p 5", "6 p 7 8", "p 9 10 11", "12 13 14 p"]),
            (5, 1, 4, &["p 0 1 2", "3 p 4 5", "6 7 p 8", "9 10 11 p", "p 12 13 14"]),
            (5, 2, 4, &["0 1 2 p", "4 5 p 3", "8 p 6 7", "p 9 10 11", "12 13 14 p"]),
            (5, 3, 4, &["p 0 1 2", "5 p 3 4", "7 8 p 6", "9 10 11 p", "p 12 13 14"]),
            (
                6,
                2,
                5,
                &["p 0 1 2 p", "3 4 5 p p", "7 8 p p 6", "11 p p 9 10", "p p 12 13 14"],
            ),
            (
                6,
                8,
                5,
                &["p p 0 1 2", "3 p p 4 5", "6 7 p p 8", "9 10 11 p p", "p 12 13 14 p"],
            ),
            (
                6,
                10,
                5,
                &["0 1 2 p p", "4 5 p p 3", "8 p p 6 7", "p p 9 10 11", "p 12 13 14 p"],
            ),
        ];
        for (level, algorithm, devices, rows) in table {
            let count = u64::try_from(rows.len()).unwrap();
            assert_eq!(
                drawn(level, algorithm, devices, count),
                rows,
                "level {level} layout {algorithm}"
            );
        }
    }

    #[test]
    fn every_layout_puts_each_chunk_of_a_row_on_a_device_of_its_own() {
        for level in [4, 5, 6] {
            for algorithm in 0..32 {
                for devices in 0..9 {
                    if Parity::new(level, algorithm, devices).is_some() {
                        assert_eq!(drawn(level, algorithm, devices, 64).len(), 64);
                    }
                }
            }
        }
    }
}
