//! Partitions against what sfdisk and sgdisk say of the same disk.

use std::path::Path;

use serde_json::Value;
use vaultfs::volume::Holds;

use crate::disks::*;
use crate::files::run;

/// A partition as a tool tells it: name, first byte, bytes, PARTUUID, PARTLABEL.
type Told = (String, u64, u64, Option<String>, Option<String>);

fn told_by_sfdisk(path: &Path) -> Vec<Told> {
    let json: Value = serde_json::from_str(&run(&["sfdisk", "--json", text(path)])).unwrap();
    let table = &json["partitiontable"];
    let id = table["id"].as_str().unwrap().trim_start_matches("0x").to_owned();
    let is_gpt = table["label"] == "gpt";
    let partitions = table["partitions"].as_array().unwrap().iter();
    let extended = |partition: &&Value| !matches!(partition["type"].as_str().unwrap(), "5" | "f" | "85");
    partitions
        .filter(extended)
        .map(|partition| {
            let number = number_of(partition["node"].as_str().unwrap(), path);
            let bytes = |field: &str| partition[field].as_u64().unwrap() * 512;
            let uuid = if is_gpt {
                partition["uuid"].as_str().unwrap().to_lowercase()
            } else {
                format!("{id}-{number:02x}")
            };
            let label = partition["name"].as_str().map(str::to_owned);
            (format!("vda{number}"), bytes("start"), bytes("size"), Some(uuid), label)
        })
        .collect()
}

/// With sectors of 4096 bytes; sfdisk cannot be told of these.
fn told_by_fdisk(path: &Path) -> Vec<Told> {
    let columns = "Device,Start,Sectors,UUID,Name";
    let lines = run(&[
        "fdisk",
        "--sector-size",
        "4096",
        "--list",
        "--output",
        columns,
        text(path),
    ]);
    let rows = lines.lines().skip_while(|line| !line.starts_with("Device")).skip(1);
    rows.map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let bytes = |text: &str| text.parse::<u64>().unwrap() * 4096;
        let name = format!("vda{}", number_of(words[0], path));
        let label = words.get(4).map(|&label| label.to_owned());
        (
            name,
            bytes(words[1]),
            bytes(words[2]),
            Some(words[3].to_lowercase()),
            label,
        )
    })
    .collect()
}

fn number_of(node: &str, path: &Path) -> u32 {
    let rest = node.strip_prefix(text(path)).unwrap();
    rest.trim_start_matches('p').parse().unwrap()
}

/// The table on `path` is told as the tool tells it, and each volume has its own bytes.
fn assert_as_told(path: &Path, told: &[Told]) {
    assert!(!told.is_empty());
    let contents: Vec<_> = told
        .iter()
        .map(|(_, start, len, ..)| fill(path, *start, *len))
        .collect();
    let found = found_on(&[path]);
    assert_eq!(found.volumes.len(), told.len(), "{:?}", names(&found));
    for ((name, _, len, uuid, label), content) in told.iter().zip(contents) {
        let volume = named(&found, name);
        assert_eq!(
            (volume.size, &volume.part_uuid, &volume.part_label),
            (*len, uuid, label),
            "{name}"
        );
        assert!(bytes_of(volume) == content, "{name} has other bytes");
        assert_eq!(volume.signature.holds, Holds::Unknown);
        assert_eq!(volume.problem, None);
    }
    assert_eq!(found.problems, [""; 0]);
}

#[test]
fn gpt_of_sgdisk_is_told_as_sfdisk_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 16 * MIB);
    run(&[
        "sgdisk",
        "-n",
        "1:0:+1M",
        "-c",
        "1:boot",
        "-t",
        "1:ef00",
        "-n",
        "3:0:+2M",
        "-c",
        "3:räksmörgås 🦀",
        "-n",
        "128:0:0",
        "-A",
        "3:set:2",
        text(&path),
    ]);
    assert_as_told(&path, &told_by_sfdisk(&path));
}

#[test]
fn gpt_with_sectors_of_4096_bytes_is_told_as_fdisk_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 32 * MIB);
    run_with_input(
        &["fdisk", "--sector-size", "4096", text(&path)],
        "g\\nn\\n1\\n\\n+4M\\nn\\n2\\n\\n+8M\\nn\\n7\\n\\n\\nx\\nn\\n2\\nmiddle\\nr\\nw\\n",
    );
    assert_as_told(&path, &told_by_fdisk(&path));
}

#[test]
fn dos_table_with_logical_partitions_is_told_as_sfdisk_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 64 * MIB);
    run_with_input(
        &["sfdisk", "--quiet", text(&path)],
        "label: dos\\nsize=4MiB\\nsize=40MiB, type=5\\nsize=2MiB\\nsize=1MiB\\nsize=8MiB\\nsize=8MiB\\nsize=4MiB\\n",
    );
    assert_as_told(&path, &told_by_sfdisk(&path));
    let found = found_on(&[&path]);
    assert_eq!(names(&found), ["vda1", "vda3", "vda4", "vda5", "vda6", "vda7"]);
}

#[test]
fn a_number_follows_a_p_when_the_disk_ends_in_a_digit() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 8 * MIB);
    run(&["sgdisk", "-n", "1:0:0", text(&path)]);
    let disk = vaultfs::volume::Disk {
        name: "nvme0n1".to_owned(),
        image: crate::files::volume(&path),
    };
    assert_eq!(names(&vaultfs::volume::discover(&[disk])), ["nvme0n1p1"]);
}

#[test]
fn a_damaged_primary_gpt_leaves_the_backup_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 8 * MIB);
    run(&["sgdisk", "-n", "1:0:0", "-c", "1:data", text(&path)]);
    let sound = std::fs::read(&path).unwrap();
    let end = sound.len();
    // A byte of the signature, of the header's fields, of the entries; of the same in the backup.
    let places = [
        (512, "primary"),
        (560, "primary"),
        (1024, "primary"),
        (end - 512, "backup"),
        (end - 460, "backup"),
    ];
    for (place, copy) in places.into_iter().chain([(end - 33 * 512, "backup")]) {
        let mut bytes = sound.clone();
        bytes[place] ^= 1;
        let found = found_in_bytes(bytes);
        assert_eq!(names(&found), ["vda1"], "{place}");
        assert_eq!(named(&found, "vda1").part_label.as_deref(), Some("data"));
        assert_problem(&found, &format!("the {copy} GPT"));
    }
    let mut bytes = sound.clone();
    bytes[560] ^= 1;
    bytes[end - 460] ^= 1;
    let found = found_in_bytes(bytes);
    assert_eq!(names(&found), ["vda"]);
    assert_eq!(named(&found, "vda").signature.holds, Holds::PartitionTable);
    assert_problem(&found, "header that fails its checksum");
}

#[test]
fn a_gpt_without_its_protective_mbr_is_used_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 8 * MIB);
    run(&["sgdisk", "-n", "1:0:0", text(&path)]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..512].fill(0);
    let found = found_in_bytes(bytes);
    assert_eq!(names(&found), ["vda1"]);
    assert_problem(&found, "protective MBR is missing");
}

#[test]
fn a_disk_that_was_cut_keeps_what_is_left_of_its_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 16 * MIB);
    run(&["sgdisk", "-n", "1:0:+2M", "-n", "2:0:+8M", "-n", "3:0:+2M", text(&path)]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(8 << 20);
    let found = found_in_bytes(bytes);
    assert_eq!(names(&found), ["vda1", "vda2", "vda3"]);
    let state = |name| {
        let volume = named(&found, name);
        (volume.size, volume.data.is_some(), volume.problem.is_some())
    };
    assert_eq!(state("vda1"), (2 * MIB, true, false));
    assert_eq!(state("vda2"), (5 * MIB, true, false));
    assert_eq!(state("vda3"), (0, false, true));
    assert_problem(&found, "vda2: 3145728 of its 8388608 bytes lie past the end");
}

/// A sector with a table of these entries: type, first sector, sectors.
fn table(entries: &[(u8, u32, u32)]) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[440..444].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
    for (entry, (os_type, start, sectors)) in sector[446..510].chunks_mut(16).zip(entries) {
        entry[4] = *os_type;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn disk(sectors: usize, tables: &[(usize, [u8; 512])]) -> Vec<u8> {
    let mut bytes = vec![0; sectors * 512];
    for (at, table) in tables {
        bytes[at * 512..][..512].copy_from_slice(table);
    }
    bytes
}

#[test]
fn an_extended_partition_that_points_at_itself_ends() {
    let itself = disk(
        100,
        &[(0, table(&[(5, 10, 80)])), (10, table(&[(0x83, 1, 5), (5, 0, 80)]))],
    );
    let ring = disk(
        100,
        &[
            (0, table(&[(0x0f, 10, 80)])),
            (10, table(&[(0x83, 1, 5), (5, 20, 20)])),
            (30, table(&[(0x83, 1, 5), (5, 10, 20)])),
            (20, table(&[(0x83, 1, 5), (5, 20, 20)])),
        ],
    );
    for (bytes, expected) in [(itself, &["vda5"][..]), (ring, &["vda5", "vda6", "vda7"])] {
        let found = found_in_bytes(bytes);
        assert_eq!(names(&found), expected);
        assert_problem(&found, "comes back to itself");
    }
}

#[test]
fn overlapping_partitions_stay_and_are_told() {
    let found = found_in_bytes(disk(
        100,
        &[(0, table(&[(0x83, 10, 50), (0x83, 40, 20), (0x83, 90, 5)]))],
    ));
    assert_eq!(names(&found), ["vda1", "vda2", "vda3"]);
    assert_problem(&found, "vda: partitions 1 and 2 overlap");
    assert_eq!(named(&found, "vda3").part_uuid.as_deref(), Some("12345678-03"));
}

#[test]
fn entries_at_the_ends_of_their_range_neither_overflow_nor_hide_others() {
    let entries = [
        (0x83, u32::MAX, u32::MAX),
        (0x83, 0, u32::MAX),
        (5, u32::MAX, 1),
        (0x83, 1, 1),
    ];
    let found = found_in_bytes(disk(100, &[(0, table(&entries))]));
    assert_eq!(names(&found), ["vda1", "vda2", "vda4"]);
    assert!(named(&found, "vda1").data.is_none() && named(&found, "vda1").problem.is_some());
    assert_eq!(named(&found, "vda4").size, 512);
}

#[test]
fn a_disk_smaller_than_a_sector_is_a_volume_that_holds_nothing() {
    for len in [0, 1, 511, 512, 4096] {
        let found = found_in_bytes(vec![0; len]);
        assert_eq!(named(&found, "vda").signature.holds, Holds::Nothing, "{len}");
    }
}
