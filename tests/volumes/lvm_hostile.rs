//! Volume groups that no tool would write, on disks made by hand.

#![allow(unreachable_pub)]

use std::time::{Duration, Instant};

use vaultfs::volume::Discovery;

use crate::disks::*;
use crate::hostile::Patched;
use crate::lvm_types::id;
use crate::mutations::{exercise, field, put};

/// LVM2's CRC-32, bit by bit.
fn checksum(data: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    data.iter()
        .fold(0xf597_a6cf, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Logical volumes of all types.
pub const LOGICAL: &str = "
    a { id = \"1\" status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 4 type = \"striped\" stripe_count = 2
      stripe_size = 8 stripes = [\"pv0\", 0, \"pv1\", 1] } segment2 { start_extent = 4 extent_count = 1 type = \"striped\"
      stripe_count = 1 stripes = [\"pv1\", 7] } }
    m { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 2 type = \"mirror\" mirrors = [\"i\", 0, \"j\", 0] } }
    r { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 4 type = \"raid5\" stripe_size = 8
      raids = [\"k\", \"i\", \"k\", \"j\", \"k\", \"l\"] } }
    s { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 2 type = \"raid1\" raids = [\"k\", \"i\", \"k\", \"j\"] } }
    i { segment1 { start_extent = 0 extent_count = 2 type = \"striped\" stripes = [\"pv0\", 4] } }
    j { segment1 { start_extent = 0 extent_count = 2 type = \"striped\" stripes = [\"pv1\", 4] } }
    k { segment1 { start_extent = 0 extent_count = 1 type = \"striped\" stripes = [\"pv1\", 6] } }
    l { segment1 { start_extent = 0 extent_count = 2 type = \"striped\" stripes = [\"i\", 0] } }";

/// The text of a group on two disks with 8 extents of 4 KiB each.
pub fn group(logical: &str) -> String {
    let physical = |number| format!("pv{number} {{ id = \"{}\" pe_start = 16 pe_count = 8 }}", id(number));
    let physical = format!("{} {}", physical(0), physical(1));
    format!(
        "vg0 {{ id = \"x\" seqno = 3 extent_size = 8 physical_volumes {{ {physical} }} logical_volumes {{ {logical} }} }}\0"
    )
}

/// A disk with this text in its only metadata area, which begins at 4 KiB and leaves room for it; extents begin at 8 KiB.
pub fn disk(number: usize, text: &str) -> Vec<u8> {
    let mut bytes = vec![0; (64 << 10).max(text.len() + 8192)];
    bytes[512..520].copy_from_slice(b"LABELONE");
    bytes[520] = 1;
    bytes[532] = 32;
    bytes[536..544].copy_from_slice(b"LVM2 001");
    bytes[544..576].copy_from_slice(id(number).replace('-', "").as_bytes());
    let len = u32::try_from(text.len()).unwrap();
    for (at, value) in [(584, 8192), (616, 4096_u32), (624, (len + 512).max(4096))] {
        put(&mut bytes, at, value);
    }
    bytes[4100..4116].copy_from_slice(b" LVM2 x[5A%r0N*>");
    for (at, value) in [(20, 1), (24, 4096), (32, (len + 512).max(4096)), (40, 512), (48, len)] {
        put(&mut bytes, 4096 + at, value);
    }
    bytes[4608..4608 + text.len()].copy_from_slice(text.as_bytes());
    repair(&mut bytes);
    bytes
}

/// Makes the checksums of a disk right again.
pub fn repair(bytes: &mut [u8]) {
    let (offset, size) = (field(bytes, 4096 + 40, 8), field(bytes, 4096 + 48, 8));
    let start = offset.saturating_add(4096);
    if let Some(text) = bytes.get(start..start.saturating_add(size)) {
        let sum = checksum(text);
        put(bytes, 4096 + 56, sum);
    }
    let sum = checksum(&bytes[4096 + 4..4096 + 512]);
    put(bytes, 4096, sum);
    let sum = checksum(&bytes[512 + 20..1024]);
    put(bytes, 512 + 16, sum);
}

fn found(text: &str) -> Discovery {
    found_in(vec![Patched::new(disk(0, text)), Patched::new(disk(1, text))])
}

#[test]
fn the_group_that_is_damaged_elsewhere_is_sound() {
    let found = found(&group(LOGICAL));
    assert_eq!(names(&found), ["vda", "vdb", "vg0-a", "vg0-m", "vg0-r", "vg0-s"]);
    assert!(
        found.volumes.iter().all(|volume| volume.data.is_some()),
        "{:?}",
        found.problems
    );
}

#[test]
fn impossible_volumes_are_refused_alone_and_in_words() {
    let segment =
        |body: &str| format!("x {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 2 {body} }} }}");
    let loops = "x { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 1 stripes = [\"y\", 0] type = \"striped\" } }
                 y { segment1 { start_extent = 0 extent_count = 1 stripes = [\"x\", 0] type = \"striped\" } }";
    let mut deep = "x { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 1 stripes = [\"x0\", 0] type = \"striped\" } }".to_owned();
    for number in 0..1000 {
        let next = number + 1;
        deep += &format!(
            "x{number} {{ segment1 {{ start_extent = 0 extent_count = 1 stripes = [\"x{next}\", 0] type = \"striped\" }} }}\n"
        );
    }
    let table = [
        (segment("type = \"striped\" stripes = [\"x\", 0]"), "made of itself"),
        (loops.to_owned(), "made of itself"),
        (deep, "too deep"),
        (
            segment("type = \"striped\" stripes = [\"pv0\", 7]"),
            "past the end of the physical volume",
        ),
        (
            segment("type = \"striped\" stripes = [\"pv0\", 9223372036854775807]"),
            "64 bits",
        ),
        (segment("type = \"striped\" stripes = [\"pv0\", -1]"), "negative"),
        (segment("type = \"striped\" stripes = []"), "no places"),
        (segment("type = \"striped\" stripes = [\"pv0\"]"), "no places"),
        (segment("type = \"striped\" stripes = [0, \"pv0\"]"), "no places"),
        (
            segment("type = \"striped\" stripe_size = 0 stripes = [\"pv0\", 0, \"pv1\", 0]"),
            "no size",
        ),
        (
            segment("type = \"striped\" stripe_size = 9223372036854775807 stripes = [\"pv0\", 0, \"pv1\", 0]"),
            "overflow",
        ),
        (
            segment("type = \"striped\" stripes = [\"pv0\", 0, \"pv1\", 0, \"pv0\", 3]"),
            "do not divide",
        ),
        (
            segment("type = \"striped\" stripes = [\"nobody\", 0]"),
            "no logical volume nobody",
        ),
        (segment("type = \"raid5\" raids = []"), "not supported"),
        (segment("type = \"raid1\" raids = [\"x\"]"), "no images"),
        (segment("type = \"raid9\" raids = []"), "not supported"),
        (segment("type = \"vdo\""), "\"vdo\" are not supported"),
        (segment("type = \"writecache\""), "\"writecache\" are not supported"),
        (
            segment("type = \"cache\" cache_mode = \"writeback\" origin = \"i\""),
            "\"cache\" are not supported",
        ),
        (segment(""), "not supported"),
        ("x { status = [\"VISIBLE\"] }".to_owned(), "no segments"),
        (
            "x { status = [\"VISIBLE\"] segment1 { start_extent = 1 extent_count = 1 } }".to_owned(),
            "leave gaps",
        ),
        (
            "x { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 0 } }".to_owned(),
            "leave gaps",
        ),
        (segment("type = \"striped\" stripes = [\"i\", 1]"), "outside"),
    ];
    for (logical, words) in table {
        let found = found(&group(&format!("{LOGICAL} {logical}")));
        let volume = named(&found, "vg0-x");
        let problem = volume
            .problem
            .as_deref()
            .unwrap_or_else(|| panic!("{logical} is taken"));
        assert!(volume.data.is_none() && problem.contains(words), "{logical}: {problem}");
        assert!(named(&found, "vg0-a").data.is_some());
    }
}

#[test]
fn volumes_that_multiply_inside_of_each_other_are_cut_off() {
    let mut logical = String::new();
    for number in 0..24 {
        let next = if number < 23 {
            format!("x{}", number + 1)
        } else {
            "i".to_owned()
        };
        let stripes = format!("\"{next}\", 0, \"{next}\", 0, \"{next}\", 0, \"{next}\", 0");
        logical += &format!(
            "x{number} {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 4 type = \"striped\" stripe_size = 8
             stripes = [{stripes}] }} }}\n"
        );
    }
    let began = Instant::now();
    let found = found(&group(&format!("{LOGICAL} {logical}")));
    exercise(&found);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(named(&found, "vg0-x0").problem.is_some());
    assert!(named(&found, "vg0-x22").data.is_some());
}

#[test]
fn a_write_through_cache_is_looked_past() {
    let cache =
        "x { status = [\"VISIBLE\"] segment1 { start_extent = 0 extent_count = 2 type = \"cache\" origin = \"i\"
                 cache_mode = \"writethrough\" cache_pool = \"p\" } }";
    assert_eq!(
        named(&found(&group(&format!("{LOGICAL} {cache}"))), "vg0-x").problem,
        None
    );
}

#[test]
fn names_that_are_paths_are_left_out() {
    for name in ["..", "a/b", "\"../../etc\"", "\"a b\"", "\"\"", "."] {
        let logical = format!(
            "{name} {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 1 type = \"zero\" }} }}"
        );
        assert_eq!(names(&found(&group(&logical))), ["vda", "vdb"], "{name}");
    }
}

#[test]
fn every_number_of_a_group_may_be_any_number() {
    let text = group(LOGICAL);
    let digits = |at: usize| text.as_bytes()[at].is_ascii_digit() && text.as_bytes()[at - 1] == b' ';
    let places: Vec<usize> = (1..text.len()).filter(|at| digits(*at)).collect();
    assert!(places.len() > 20, "{}", places.len());
    for at in places {
        let len = text[at..].bytes().take_while(u8::is_ascii_digit).count();
        for number in [
            "0",
            "1",
            "3",
            "-1",
            "4294967296",
            "9223372036854775807",
            "18446744073709551616",
            "0.5",
        ] {
            let changed = format!("{}{number}{}", &text[..at], &text[at + len..]);
            let began = Instant::now();
            exercise(&found(&changed));
            assert!(began.elapsed() < Duration::from_secs(1), "{number} at {at}");
        }
    }
}

#[test]
fn a_group_of_thousands_of_volumes_is_bounded_in_time_and_number() {
    let mut logical = String::new();
    for number in 0..6000 {
        logical += &format!(
            "v{number} {{ status = [\"VISIBLE\"] segment1 {{ start_extent = 0 extent_count = 2 type = \"zero\" }} }}\n"
        );
    }
    let began = Instant::now();
    let found = found(&group(&logical));
    assert_eq!(found.volumes.len(), 2 + 4096);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn metadata_without_end_is_not_read_whole() {
    // Each of the disks tells two megabytes.
    let text = format!("{}\n{}", group(LOGICAL).trim_end_matches('\0'), "#".repeat(2 << 20));
    let disks = (0..24).map(|number| Patched::new(disk(number, &text)) as std::sync::Arc<dyn vaultfs::image::ReadAt>);
    let found = found_in(disks.collect());
    assert!(named(&found, "vg0-a").data.is_some());
    assert_problem(&found, "there is too much of it");
}
