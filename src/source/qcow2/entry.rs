//! One second-level entry: where a cluster, or a subcluster of it, has its bytes.

use super::header::{Geometry, L2Kind};

/// Where the bytes of one unit of mapping come from; a unit is a cluster, or a 32nd of it with extended entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nothing stored here: the backing file shows through.
    Unallocated,
    /// Zeros, whatever the backing file holds.
    Zero,
    /// Plain bytes at `host` of the image file.
    Data {
        /// Where the unit begins in the file.
        host: u64,
    },
    /// Part of a compressed cluster.
    Compressed {
        /// Where the compressed bytes of the whole cluster begin.
        host: u64,
        /// How many they are at most.
        len: u64,
    },
}

const COMPRESSED: u64 = 1 << 62;
const READS_AS_ZERO: u64 = 1;
/// Bits 9 to 55: the place of a table or a cluster in the file.
pub(super) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const SECTOR: u64 = 512;

/// Decodes the unit `sub` of an entry; `bitmap` is the second half of an extended entry and 0 otherwise.
///
/// # Errors
/// What is wrong with the entry, in words.
pub(super) fn decode(geometry: &Geometry, descriptor: u64, bitmap: u64, sub: u64) -> Result<Unit, &'static str> {
    if descriptor & COMPRESSED != 0 {
        return Ok(compressed(geometry, descriptor));
    }
    let host = descriptor & OFFSET_MASK;
    if !host.is_multiple_of(geometry.cluster_size()) {
        return Err("a table entry for a cluster that is not aligned");
    }
    match geometry.l2_kind {
        L2Kind::Extended => extended(geometry, host, bitmap, sub),
        L2Kind::WithoutZeroFlag if descriptor & READS_AS_ZERO != 0 => Err("a zero cluster in a version 2 image"),
        L2Kind::Standard if descriptor & READS_AS_ZERO != 0 => Ok(Unit::Zero),
        _ if host == 0 => Ok(Unit::Unallocated),
        _ => Ok(Unit::Data { host }),
    }
}

fn compressed(geometry: &Geometry, descriptor: u64) -> Unit {
    let offset_bits = 62 - (geometry.cluster_bits - 8);
    let host = descriptor & ((1 << offset_bits) - 1);
    let more_sectors = (descriptor & (COMPRESSED - 1)) >> offset_bits;
    Unit::Compressed {
        host,
        len: (more_sectors + 1) * SECTOR - host % SECTOR,
    }
}

fn extended(geometry: &Geometry, host: u64, bitmap: u64, sub: u64) -> Result<Unit, &'static str> {
    let allocated = bitmap >> sub & 1 != 0;
    let zero = bitmap >> (sub + 32) & 1 != 0;
    match (allocated, zero) {
        (true, true) => Err("a subcluster that is both allocated and zero"),
        (false, true) => Ok(Unit::Zero),
        (false, false) => Ok(Unit::Unallocated),
        (true, false) if host == 0 => Err("an allocated subcluster without a cluster"),
        (true, false) => Ok(Unit::Data {
            host: host + sub * geometry.unit_size(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(cluster_bits: u32, l2_kind: L2Kind) -> Geometry {
        Geometry { cluster_bits, l2_kind }
    }

    #[test]
    fn standard_entries_decode_as_the_format_says() {
        let v3 = geometry(16, L2Kind::Standard);
        let cases = [
            (0, Ok(Unit::Unallocated)),
            (1, Ok(Unit::Zero)),
            (0x5_0001, Ok(Unit::Zero)),
            ((1 << 63) | 0x5_0000, Ok(Unit::Data { host: 0x5_0000 })),
            (0x5_0200, Err("a table entry for a cluster that is not aligned")),
        ];
        for (descriptor, expected) in cases {
            assert_eq!(decode(&v3, descriptor, 0, 0), expected, "{descriptor:#x}");
        }
        let v2 = geometry(16, L2Kind::WithoutZeroFlag);
        assert!(decode(&v2, 1, 0, 0).is_err());
    }

    #[test]
    fn a_compressed_length_is_counted_from_the_sector_the_bytes_begin_in() {
        for cluster_bits in [9, 12, 16, 21] {
            let geometry = geometry(cluster_bits, L2Kind::Standard);
            let offset_bits = 62 - (cluster_bits - 8);
            let descriptor = COMPRESSED | (1 << offset_bits) | 0x1_2345;
            assert_eq!(
                decode(&geometry, descriptor, 0, 0),
                Ok(Unit::Compressed {
                    host: 0x1_2345,
                    len: 1024 - 0x145
                }),
                "{cluster_bits}"
            );
            let most = decode(&geometry, (COMPRESSED << 1) - 1, 0, 0).unwrap();
            let Unit::Compressed { len, .. } = most else {
                panic!("{most:?}")
            };
            assert!(len <= 2 << cluster_bits, "{cluster_bits}: {len}");
        }
    }

    #[test]
    fn subclusters_follow_their_own_bits() {
        let ext = geometry(16, L2Kind::Extended);
        let cases = [
            (0x5_0000, 0, 3, Ok(Unit::Unallocated)),
            (0x5_0000, 1 << 3, 3, Ok(Unit::Data { host: 0x5_1800 })),
            (0, 1 << 35, 3, Ok(Unit::Zero)),
            (0x5_0000, 1 << 63, 31, Ok(Unit::Zero)),
        ];
        for (descriptor, bitmap, sub, expected) in cases {
            assert_eq!(
                decode(&ext, descriptor, bitmap, sub),
                expected,
                "{descriptor:#x} {bitmap:#x}"
            );
        }
        assert!(decode(&ext, 0x5_0000, 1 << 3 | 1 << 35, 3).is_err());
        assert!(decode(&ext, 0, 1, 0).is_err());
    }
}
