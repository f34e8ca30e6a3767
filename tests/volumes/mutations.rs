//! Damaged tables: whatever their bytes say, what is found is found in time, within bounds and without a panic.

#![allow(unreachable_pub)]

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vaultfs::image::ReadAt;
use vaultfs::volume::{Discovery, Disk, discover};

use crate::common::Random;
use crate::disks::*;
use crate::files::run;
use crate::hostile::Patched;
use crate::lvm_hostile;
use crate::md::{Member, sum};

/// Mutated images of each kind of table.
const ROUNDS: u32 = 10_000;
/// Longest that one of them may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Images and the bytes that are damaged in them.
struct Target {
    what: &'static str,
    disks: Vec<Vec<u8>>,
    /// Ranges of each disk.
    metadata: Vec<Range<usize>>,
    /// Makes the checksums of a disk right again.
    repair: fn(&mut [u8]),
}

/// The CRC-32 of another library: the one that is tested is not asked to check itself.
fn crc32(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

pub fn field(bytes: &[u8], at: usize, len: usize) -> usize {
    let mut value = [0; 8];
    value[..len].copy_from_slice(&bytes[at..at + len]);
    usize::try_from(u64::from_le_bytes(value)).unwrap_or(usize::MAX)
}

pub fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn repair_gpt(bytes: &mut [u8]) {
    let last = bytes.len() - 512;
    for header in [512, last] {
        let entries = field(bytes, header + 72, 8).saturating_mul(512);
        let len = field(bytes, header + 80, 4).saturating_mul(field(bytes, header + 84, 4));
        if let Some(entries) = bytes.get(entries..entries.saturating_add(len.min(1 << 20))) {
            let crc = crc32(entries);
            put(bytes, header + 88, crc);
        }
        let size = field(bytes, header + 12, 4).clamp(92, 512);
        put(bytes, header + 16, 0);
        let crc = crc32(&bytes[header..header + size]);
        put(bytes, header + 16, crc);
    }
}

fn repair_md(bytes: &mut [u8]) {
    put(bytes, 4096 + 216, 0);
    let roles = field(bytes, 4096 + 220, 4).min(1920);
    if roles.is_multiple_of(2) {
        let sum = sum(&bytes[4096..4096 + 256 + 2 * roles]);
        put(bytes, 4096 + 216, sum);
    }
}

/// A table with primary, extended and logical partitions in 128 KiB; and a GPT as small.
fn tables() -> Vec<Target> {
    let dir = tempfile::tempdir().unwrap();
    let gpt = blank(dir.path(), "gpt", 1 << 18);
    run(&[
        "sgdisk",
        "-a",
        "1",
        "-n",
        "1:40:+10",
        "-n",
        "2:0:+20",
        "-n",
        "3:0:0",
        text(&gpt),
    ]);
    let dos = blank(dir.path(), "dos", 1 << 18);
    run_with_input(
        &["sfdisk", "--quiet", text(&dos)],
        "label: dos\\nstart=10, size=10\\nstart=40, size=300, type=5\\nstart=50, size=20\\nstart=90, size=20\\nstart=130, size=9\\n",
    );
    let dos = std::fs::read(dos).unwrap();
    let record = |sector: usize| sector * 512 + 440..sector * 512 + 512;
    let records = (40..200).filter(|sector| dos[sector * 512 + 510] == 0x55).map(record);
    let dos_metadata: Vec<_> = std::iter::once(record(0)).chain(records).collect();
    assert!(dos_metadata.len() >= 4);
    let end = (1 << 18) - 33 * 512;
    vec![
        Target {
            what: "GPT",
            disks: vec![std::fs::read(gpt).unwrap()],
            metadata: vec![
                446..512,
                512..604,
                1024..1024 + 512,
                end..end + 512,
                (1 << 18) - 512..(1 << 18) - 420,
            ],
            repair: repair_gpt,
        },
        Target {
            what: "MBR",
            disks: vec![dos],
            metadata: dos_metadata,
            repair: |_| {},
        },
    ]
}

fn arrays() -> Vec<Target> {
    [(0, 0), (1, 0), (5, 2), (10, 0x102), (-1, 0)]
        .into_iter()
        .map(|(level, layout)| {
            let member = |number| {
                let mut member = Member::new(level, 4, number);
                (member.layout, member.device) = (layout, (1 << 20) + (256 << 10));
                member.build()
            };
            Target {
                what: "md",
                disks: (0..4).map(member).collect(),
                metadata: vec![4096..4096 + 264, 4096..4096 + 128],
                repair: repair_md,
            }
        })
        .collect()
}

/// A volume group of all types that are read: small, because each round parses all of it.
fn groups() -> Vec<Target> {
    let text = lvm_hostile::group(lvm_hostile::LOGICAL);
    let end = 4608 + text.len();
    vec![Target {
        what: "LVM",
        disks: vec![lvm_hostile::disk(0, &text), lvm_hostile::disk(1, &text)],
        metadata: vec![512..640, 4096..4160, 4608..end, 4608..end],
        repair: lvm_hostile::repair,
    }]
}

/// A head with signatures of everything, one at a time.
fn signatures() -> Vec<Target> {
    let dir = tempfile::tempdir().unwrap();
    let makers = ["mkfs.vfat -F 16", "mkfs.vfat -F 32 -s 1", "mkfs.ext4 -q", "mkswap"];
    let make = |maker: &&str| {
        let path = blank(dir.path(), &maker.replace(' ', ""), 40 * MIB);
        run(&["sh", "-c", &format!("{maker} {}", text(&path))]);
        let mut bytes = std::fs::read(path).unwrap();
        bytes.truncate(1 << 20);
        Target {
            what: "signature",
            disks: vec![bytes],
            metadata: vec![0..90, 440..512, 1024..1500, 0..4096],
            repair: |_| {},
        }
    };
    makers.iter().map(make).collect()
}

/// Reads the ends of each volume, and asks where data and holes are.
pub fn exercise(found: &Discovery) -> usize {
    let mut read = 0;
    let mut buf = [0; 4096];
    for volume in &found.volumes {
        assert!(
            volume.data.is_some() || volume.problem.is_some(),
            "{} has neither data nor a problem",
            volume.name
        );
        let Some(data) = &volume.data else { continue };
        for at in [0, data.len() / 2, data.len().saturating_sub(4096)] {
            let len = usize::try_from((data.len() - at).min(4096)).unwrap();
            read += usize::from(data.read_at(at, &mut buf[..len]).is_ok());
            if let Ok(Some(data_at)) = data.next_data(at) {
                assert!(data_at >= at && data_at < data.len());
                assert!(
                    data.next_hole(data_at)
                        .is_ok_and(|hole| hole >= data_at && hole <= data.len())
                );
            }
        }
    }
    let mut names = names(found);
    names.dedup();
    assert_eq!(names.len(), found.volumes.len(), "names are not unique");
    read
}

fn survive(targets: &[Target], seed: u64) {
    let mut random = Random::new(seed);
    let rounds = ROUNDS / u32::try_from(targets.len()).unwrap();
    let (mut found_after, mut began) = (0, Instant::now());
    let start = began;
    for target in targets {
        let images: Vec<_> = target.disks.iter().map(|bytes| Patched::new(bytes.clone())).collect();
        let disks = images.iter().zip('a'..).map(|(image, letter)| Disk {
            name: format!("vd{letter}"),
            image: Arc::clone(image) as Arc<dyn ReadAt>,
        });
        let disks: Vec<_> = disks.collect();
        for round in 0..=rounds {
            let mut undo = Vec::new();
            for image in &images {
                if images.len() == 1 || random.below(3) > 0 {
                    undo.push((image, image.mutate(&mut random, &target.metadata)));
                    // Half of the damage gets past the checksums.
                    if round % 2 == 0 {
                        image.change(target.repair);
                    }
                }
            }
            let found = discover(&disks);
            found_after += exercise(&found);
            for (image, undo) in undo {
                image.undo(undo);
                image.change(target.repair);
            }
            assert!(
                began.elapsed() < DEADLINE,
                "{} of seed {seed}, round {round}: takes too long",
                target.what
            );
            began = Instant::now();
        }
    }
    eprintln!("{}: {:?}, {found_after} reads", targets[0].what, start.elapsed());
    assert!(found_after > 1000, "nothing was found: the damage is no test");
}

#[test]
fn every_damaged_table_is_survived() {
    for target in tables() {
        survive(&[target], 0x7ab1e);
    }
}

#[test]
fn every_damaged_superblock_of_an_array_is_survived() {
    survive(&arrays(), 0x3d);
}

#[test]
fn every_damaged_volume_group_is_survived() {
    survive(&groups(), 0x1e5);
}

#[test]
fn every_damaged_signature_is_survived() {
    survive(&signatures(), 0x516);
}

#[test]
fn a_thousand_partitions_over_each_other_are_found_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 4 * MIB);
    run(&["sgdisk", "--resize-table=1024", "-a", "1", "-n", "1:300:0", text(&path)]);
    let mut bytes = std::fs::read(&path).unwrap();
    let entry = bytes[1024..1152].to_vec();
    for number in 1..1024 {
        bytes[1024 + number * 128..][..128].copy_from_slice(&entry);
        // Each begins a sector later.
        put(
            &mut bytes,
            1024 + number * 128 + 32,
            300 + u32::try_from(number).unwrap(),
        );
    }
    repair_gpt(&mut bytes);
    let began = Instant::now();
    let found = found_in_bytes(bytes.clone());
    assert_eq!(found.volumes.len(), 1024);
    assert!(found.problems.len() < 32, "{:?}", found.problems.len());
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    for (count, size) in [
        (u32::MAX, 128),
        (1 << 20, 128),
        (128, 0),
        (128, 1),
        (128, u32::MAX),
        (1024, 4096),
    ] {
        for header in [512, bytes.len() - 512] {
            put(&mut bytes, header + 80, count);
            put(&mut bytes, header + 84, size);
        }
        repair_gpt(&mut bytes);
        let found = found_in_bytes(bytes.clone());
        assert_eq!(names(&found), ["vda"], "{count} entries of {size}");
        assert_problem(&found, "the primary GPT");
    }
}
