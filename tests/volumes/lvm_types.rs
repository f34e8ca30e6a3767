//! Types of logical volume that lvm2 makes only with a device-mapper at hand: their metadata is written here and taken, checked and
//! put on disk by vgcfgrestore.

#![allow(unreachable_pub)]

use std::fmt::Write;

use vaultfs::volume::Discovery;

use crate::disks::*;
use crate::lvm::{Lab, interleave};

const EXTENT: usize = 1 << 20;

/// An identifier of LVM2 that is this number.
pub fn id(number: usize) -> String {
    format!("AAAAAA-BBBB-CCCC-DDDD-EEEE-FFFF-{number:06}")
}

/// A volume group being written: linear volumes are put one after the other on all disks in turn.
pub struct Text {
    disks: usize,
    used: Vec<u64>,
    logical: String,
    count: usize,
}

impl Text {
    pub fn new(disks: usize) -> Self {
        Self {
            disks,
            used: vec![0; disks],
            logical: String::new(),
            count: 0,
        }
    }

    /// A volume of one segment: all that is not told by its number of extents.
    pub fn volume(&mut self, name: &str, status: &str, extents: u64, segment: &str) {
        self.count += 1;
        write!(
            self.logical,
            "{name} {{ id = \"{}\" status = [{status}] flags = [] segment_count = 1
             segment1 {{ start_extent = 0 extent_count = {extents} {segment} }} }}\n",
            id(1000 + self.count),
        )
        .unwrap();
    }

    /// A linear volume on a disk.
    pub fn linear(&mut self, name: &str, status: &str, extents: u64, disk: usize) {
        let place = format!(
            "type = \"striped\" stripe_count = 1 stripes = [ \"pv{disk}\", {} ]",
            self.used[disk]
        );
        self.used[disk] += extents;
        self.volume(name, status, extents, &place);
    }

    /// An array with its hidden volumes, one on each disk.
    pub fn array(&mut self, name: &str, extents: u64, images: usize, extents_of_image: u64, segment: &str) {
        let mut names = String::new();
        for image in 0..images {
            write!(names, "\"{name}_rmeta_{image}\", \"{name}_rimage_{image}\",").unwrap();
        }
        let segment = format!(
            "{segment} region_size = 1024 raids = [ {} ]",
            names.trim_end_matches(',')
        );
        self.volume(name, VISIBLE, extents, &segment);
        for image in 0..images {
            self.linear(&format!("{name}_rmeta_{image}"), HIDDEN, 1, image);
            self.linear(&format!("{name}_rimage_{image}"), HIDDEN, extents_of_image, image);
        }
    }

    /// The whole text.
    fn finish(&self, pe_count: u64) -> String {
        let mut physical = String::new();
        for disk in 0..self.disks {
            write!(
                physical,
                "pv{disk} {{ id = \"{}\" device = \"/dev/elsewhere\" status = [\"ALLOCATABLE\"] flags = []
                 dev_size = {} pe_start = 2048 pe_count = {pe_count} }}\n",
                id(disk),
                (pe_count + 1) * 2048
            )
            .unwrap();
        }
        format!(
            "contents = \"Text Format Volume Group\"\nversion = 1\n
             vg0 {{ id = \"{}\" seqno = 7 format = \"lvm2\" status = [\"RESIZEABLE\", \"READ\", \"WRITE\"] flags = []
             extent_size = 2048 max_lv = 0 max_pv = 0 metadata_copies = 0
             physical_volumes {{ {physical} }}\nlogical_volumes {{ {} }}\n}}\n",
            id(999),
            self.logical
        )
    }
}

pub const VISIBLE: &str = "\"READ\", \"WRITE\", \"VISIBLE\"";
pub const HIDDEN: &str = "\"READ\", \"WRITE\"";

/// Disks with the group on them, by lvm2's own hand.
pub fn restored(test: &str, text: &Text) -> Option<Lab> {
    let pe_count = 30;
    let lab = Lab::new(test, text.disks, (pe_count + 1) * MIB)?;
    let path = lab.write("group.txt", &text.finish(pe_count));
    let mut commands = String::new();
    for disk in 0..text.disks {
        writeln!(commands, "pvcreate --norestorefile --uuid {} DISK{disk}", id(disk)).unwrap();
    }
    writeln!(commands, "vgcfgrestore --force -f {path} vg0").unwrap();
    let said = lab.lvm(&commands);
    assert!(said.contains("Restored volume group vg0"), "{said}");
    Some(lab)
}

/// Chunks of `chunk` bytes gathered by a drawing: in each row the number of the data chunk on each image, `p` for parity.
pub fn drawn(images: &[Vec<u8>], rows: &[&str], chunk: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in 0..images[0].len() / chunk {
        let drawing = rows[row % rows.len()].split(' ').enumerate();
        let mut data: Vec<(u32, usize)> = drawing
            .filter_map(|(image, word)| Some((word.parse().ok()?, image)))
            .collect();
        data.sort_unstable();
        for (_, image) in data {
            bytes.extend_from_slice(&images[image][row * chunk..(row + 1) * chunk]);
        }
    }
    bytes
}

/// The exclusive or of all.
pub fn all_together(parts: &[Vec<u8>]) -> Vec<u8> {
    let xor = |at: usize| parts.iter().fold(0, |byte, part| byte ^ part[at]);
    (0..parts[0].len()).map(xor).collect()
}

fn images(lab: &Lab, name: &str, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|image| lab.expected(&format!("{name}_rimage_{image}")))
        .collect()
}

#[track_caller]
fn assert_bytes(found: &Discovery, name: &str, expected: &[u8]) {
    assert!(bytes_of(named(found, name)) == expected, "{name} has other bytes");
}

#[track_caller]
fn assert_refused(found: &Discovery, name: &str, words: &str) {
    let volume = named(found, name);
    assert!(volume.data.is_none(), "{name}");
    let problem = volume.problem.as_deref().unwrap();
    assert!(problem.contains(words), "{name}: {problem}");
}

#[test]
fn arrays_have_their_chunks_where_each_layout_puts_them() {
    let chunk = "stripe_size = 128";
    let mut text = Text::new(5);
    text.array("r1", 2, 2, 2, "type = \"raid1\" device_count = 2");
    text.array(
        "r10",
        4,
        4,
        2,
        &format!("type = \"raid10\" stripe_count = 4 {chunk} data_copies = 2"),
    );
    text.array("r4", 4, 3, 2, &format!("type = \"raid4\" stripe_count = 3 {chunk}"));
    text.array("r5", 6, 4, 2, &format!("type = \"raid5\" stripe_count = 4 {chunk}"));
    text.array(
        "r5ra",
        6,
        4,
        2,
        &format!("type = \"raid5_ra\" stripe_count = 4 {chunk}"),
    );
    text.array("r6", 6, 5, 2, &format!("type = \"raid6\" stripe_count = 5 {chunk}"));
    let Some(lab) = restored("arrays_have_their_chunks_where_each_layout_puts_them", &text) else {
        return;
    };
    let found = lab.found();
    let images = |name, count| images(&lab, name, count);
    let chunk = 64 << 10;
    assert_bytes(&found, "vg0-r1", &images("r1", 2)[0]);
    let [first, _, third, _] = <[_; 4]>::try_from(images("r10", 4)).unwrap();
    assert_bytes(&found, "vg0-r10", &interleave(&[first, third], chunk));
    assert_bytes(&found, "vg0-r4", &drawn(&images("r4", 3), &["p 0 1"], chunk));
    let left_symmetric = ["0 1 2 p", "1 2 p 0", "2 p 0 1", "p 0 1 2"];
    assert_bytes(&found, "vg0-r5", &drawn(&images("r5", 4), &left_symmetric, chunk));
    let right_asymmetric = ["p 0 1 2", "0 p 1 2", "0 1 p 2", "0 1 2 p"];
    assert_bytes(&found, "vg0-r5ra", &drawn(&images("r5ra", 4), &right_asymmetric, chunk));
    let zero_restart = ["p p 0 1 2", "0 p p 1 2", "0 1 p p 2", "0 1 2 p p", "p 0 1 2 p"];
    assert_bytes(&found, "vg0-r6", &drawn(&images("r6", 5), &zero_restart, chunk));
    assert_eq!(found.problems, [""; 0]);

    let without = |disk: usize| {
        let paths: Vec<_> = (0..5)
            .filter(|other| *other != disk)
            .map(|other| &*lab.disks[other])
            .collect();
        found_on(&paths)
    };
    let found = without(0);
    assert_bytes(&found, "vg0-r1", &images("r1", 2)[1]);
    let [_, second, third, _] = <[_; 4]>::try_from(images("r10", 4)).unwrap();
    assert_bytes(&found, "vg0-r10", &interleave(&[second, third], chunk));
    let mut rebuilt = images("r5", 4);
    rebuilt[0] = all_together(&rebuilt[1..]);
    assert_bytes(&found, "vg0-r5", &drawn(&rebuilt, &left_symmetric, chunk));
    assert_refused(&found, "vg0-r6", "is missing");
    let found = found_on(&[&lab.disks[2], &lab.disks[3], &lab.disks[4]]);
    assert_refused(&found, "vg0-r5", "is missing");
}

#[test]
fn an_image_that_missed_changes_is_not_read() {
    let mut text = Text::new(3);
    text.array("r1", 2, 3, 2, "type = \"raid1\" device_count = 3");
    let Some(lab) = restored("an_image_that_missed_changes_is_not_read", &text) else {
        return;
    };
    let state = |events: u64, failed: u64, recovered: u64| {
        let mut block = [0; 512];
        block[..4].copy_from_slice(&0x6452_6d44_u32.to_le_bytes());
        for (at, field) in [(16, events), (24, failed), (32, recovered)] {
            block[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        block
    };
    let all = u64::MAX;
    // What each image says of itself and of the others, and which of them is read.
    let table = [
        ([(5, 0, all), (9, 0, all), (9, 0, all)], 1),
        ([(9, 1, all), (9, 1, all), (9, 1, all)], 1),
        ([(9, 0, 0), (9, 0, 4096), (9, 0, all)], 2),
        ([(9, 0, all), (9, 0, all), (5, 0, all)], 0),
        ([(9, 0, 0), (9, 0, 0), (9, 0, 0)], 0),
    ];
    let images = images(&lab, "r1", 3);
    for (states, read) in table {
        for (disk, (events, failed, recovered)) in states.into_iter().enumerate() {
            use std::os::unix::fs::FileExt;
            let file = std::fs::File::options().write(true).open(&lab.disks[disk]).unwrap();
            file.write_all_at(&state(events, failed, recovered), MIB).unwrap();
        }
        let found = lab.found();
        assert!(bytes_of(named(&found, "vg0-r1")) == images[read], "{states:?}");
    }
}

#[test]
fn mirrors_are_read_from_their_first_leg_and_a_move_from_both_its_places() {
    let mut text = Text::new(2);
    let mirror = "type = \"mirror\" mirror_count = 2 region_size = 1024";
    text.volume(
        "m",
        VISIBLE,
        2,
        &format!("{mirror} mirrors = [ \"m_mimage_0\", 0, \"m_mimage_1\", 0 ]"),
    );
    text.linear("m_mimage_0", HIDDEN, 2, 1);
    text.linear("m_mimage_1", HIDDEN, 2, 0);
    let Some(lab) = restored("mirrors_are_read_from_their_first_leg", &text) else {
        return;
    };
    assert_bytes(&lab.found(), "vg0-m", &lab.expected("m_mimage_0"));
    let found = found_on(&[&lab.disks[0]]);
    assert_bytes(&found, "vg0-m", &lab.expected("m_mimage_1"));
    assert_problem(&found, "the first leg of a mirror is missing");
}

#[test]
fn a_snapshot_is_refused_by_name_and_its_origin_is_read() {
    let mut text = Text::new(1);
    text.linear("root", VISIBLE, 3, 0);
    text.linear("before", VISIBLE, 1, 0);
    text.volume(
        "snapshot0",
        HIDDEN,
        3,
        "type = \"snapshot\" chunk_size = 8 origin = \"root\" cow_store = \"before\"",
    );
    let Some(lab) = restored("a_snapshot_is_refused_by_name_and_its_origin_is_read", &text) else {
        return;
    };
    let found = lab.found();
    assert_eq!(names(&found), ["vda", "vg0-before", "vg0-root"]);
    assert_bytes(&found, "vg0-root", &lab.expected("root"));
    assert_refused(&found, "vg0-before", "snapshots");
    assert_eq!(lab.expected("root").len(), 3 * EXTENT);
}
