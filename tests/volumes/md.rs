//! Arrays of Linux md. The kernel here may have no md driver: superblocks are written by hand after the kernel's header, and
//! mdadm --examine says what they mean.

#![allow(unreachable_pub)]

use std::path::Path;
use std::process::Command;

use vaultfs::volume::{Discovery, Holds};

use crate::common::{Random, skip};
use crate::disks::*;
use crate::files::run;
use crate::lvm::interleave;

const KIB: usize = 1 << 10;

/// A member being made: its data is random, its superblock says this.
#[derive(Clone)]
pub struct Member {
    /// 0, 1, 2 for 1.x; 90 for 0.90.
    pub minor: u32,
    pub level: i32,
    pub layout: u32,
    pub chunk: usize,
    pub disks: u32,
    pub number: u16,
    pub events: u64,
    pub features: u32,
    pub name: &'static str,
    pub recovered: u64,
    /// Bytes of the whole device.
    pub device: usize,
    /// Roles of all members, by their number; `None` for all active.
    pub roles: Option<Vec<u16>>,
}

impl Member {
    pub fn new(level: i32, disks: u32, number: u16) -> Self {
        Self {
            minor: 2,
            level,
            layout: 0,
            chunk: 64 * KIB,
            disks,
            number,
            events: 40,
            features: 0,
            name: "host:data",
            recovered: 0,
            device: 4 << 20,
            roles: None,
        }
    }

    fn superblock_at(&self) -> usize {
        match self.minor {
            0 => (self.device - 8192) & !4095,
            1 => 0,
            2 => 4096,
            _ => (self.device & !0xffff) - 0x10000,
        }
    }

    fn data_at(&self) -> usize {
        if matches!(self.minor, 1 | 2) { 1 << 20 } else { 0 }
    }

    /// Bytes for data on this member.
    pub fn data_size(&self) -> usize {
        match self.minor {
            0 => self.superblock_at() & !0xffff,
            90 => self.superblock_at(),
            _ => self.device - (1 << 20),
        }
    }

    /// The bytes of the device.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = Random::quiet(u64::from(self.number) + 9).bytes(self.device);
        // Nothing else that has a meaning.
        bytes[..8 * KIB].fill(0);
        let block = if self.minor == 90 {
            self.version_0()
        } else {
            self.version_1()
        };
        bytes[self.superblock_at()..][..block.len()].copy_from_slice(&block);
        bytes
    }

    /// The part of the device that holds data.
    pub fn data<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.data_at()..][..self.data_size()]
    }

    fn version_1(&self) -> Vec<u8> {
        let mut block = vec![0; 4096];
        let sectors = |bytes: usize| (bytes / 512) as u64;
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &0xa92b_4efc_u32.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(8, &self.features.to_le_bytes());
        put(16, b"one array's uuid");
        put(32, self.name.as_bytes());
        put(72, &self.level.to_le_bytes());
        put(76, &self.layout.to_le_bytes());
        // Linear and RAID 0 have no common size.
        let size = if self.level <= 0 { 0 } else { sectors(self.data_size()) };
        put(80, &size.to_le_bytes());
        put(88, &((self.chunk / 512) as u32).to_le_bytes());
        put(92, &self.disks.to_le_bytes());
        put(128, &sectors(self.data_at()).to_le_bytes());
        put(136, &sectors(self.data_size()).to_le_bytes());
        put(144, &sectors(self.superblock_at()).to_le_bytes());
        put(152, &self.recovered.to_le_bytes());
        put(160, &u32::from(self.number).to_le_bytes());
        put(200, &self.events.to_le_bytes());
        put(220, &128_u32.to_le_bytes());
        for number in 0..128_u16 {
            let all = (u32::from(number) < self.disks).then_some(number);
            let known = self.roles.as_ref().map(|roles| roles.get(usize::from(number)).copied());
            let role = known.unwrap_or(all).unwrap_or(0xffff);
            put(256 + 2 * usize::from(number), &role.to_le_bytes());
        }
        let sum = sum(&block[..512]);
        block[216..220].copy_from_slice(&sum.to_le_bytes());
        block
    }

    fn version_0(&self) -> Vec<u8> {
        let mut words = vec![0_u32; 1024];
        words[0] = 0xa92b_4efc;
        words[2] = 90;
        words[4] = 0;
        words[5] = 0x0123_4567;
        words[7] = self.level as u32;
        words[8] = u32::try_from(self.data_size() / KIB).unwrap();
        words[9] = self.disks;
        words[10] = self.disks;
        words[11] = 3;
        words[13..16].copy_from_slice(&[0x89ab_cdef, 0x1122_3344, 0x5566_7788]);
        words[32] = 1_700_000_000;
        words[33] = 1;
        words[34] = self.disks;
        words[39] = u32::try_from(self.events).unwrap();
        words[64] = self.layout;
        words[65] = u32::try_from(self.chunk).unwrap();
        for disk in 0..self.disks {
            let at = 128 + 32 * disk as usize;
            words[at..at + 5].copy_from_slice(&[disk, 8, disk, disk, 6]);
        }
        let number = u32::from(self.number);
        words[992..997].copy_from_slice(&[number, 8, number, number, 6]);
        let mut block: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let sum = sum(&block);
        block[152..156].copy_from_slice(&sum.to_le_bytes());
        block
    }
}

/// The checksum of both versions, over whole words.
pub fn sum(block: &[u8]) -> u32 {
    let words = block
        .chunks(4)
        .map(|word| u64::from(u32::from_le_bytes(word.try_into().unwrap())));
    let sum: u64 = words.sum();
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Members with their bytes, by what `change` makes of each.
fn made(level: i32, disks: u32, change: impl Fn(&mut Member)) -> Vec<(Member, Vec<u8>)> {
    (0..disks)
        .map(|number| {
            let mut member = Member::new(level, disks, u16::try_from(number).unwrap());
            change(&mut member);
            let bytes = member.build();
            (member, bytes)
        })
        .collect()
}

fn found(members: &[(Member, Vec<u8>)]) -> Discovery {
    let images = members
        .iter()
        .map(|(_, bytes)| -> std::sync::Arc<dyn vaultfs::image::ReadAt> {
            crate::hostile::Patched::new(bytes.clone())
        });
    found_in(images.collect())
}

fn parts(members: &[(Member, Vec<u8>)]) -> Vec<Vec<u8>> {
    members
        .iter()
        .map(|(member, bytes)| member.data(bytes).to_vec())
        .collect()
}

/// What `mdadm --examine` says behind a word, if mdadm is here.
fn told_by_mdadm(bytes: &[u8], dir: &Path) -> Option<String> {
    Command::new("mdadm").arg("--version").output().ok()?;
    let path = dir.join("member");
    std::fs::write(&path, bytes).unwrap();
    Some(run(&["mdadm", "--examine", text(&path)]))
}

fn line<'a>(told: &'a str, word: &str) -> &'a str {
    let mut lines = told.lines().filter_map(|line| line.split_once(" : "));
    lines
        .find(|(name, _)| name.trim() == word)
        .unwrap_or_else(|| panic!("{word}: {told}"))
        .1
        .trim()
}

#[test]
fn superblocks_of_all_versions_mean_what_mdadm_says() {
    let dir = tempfile::tempdir().unwrap();
    for minor in [0, 1, 2, 90] {
        let members = made(1, 2, |member| member.minor = minor);
        let found = found(&members);
        let array = if minor == 90 { "md3" } else { "md_data" };
        assert_eq!(names(&found), [array, "vda", "vdb"], "{minor}");
        assert!(bytes_of(named(&found, array)) == parts(&members)[0], "{minor}");
        assert_eq!(named(&found, "vda").signature.holds, Holds::RaidMember);
        assert_eq!(found.problems, [""; 0]);
        let Some(told) = told_by_mdadm(&members[1].1, dir.path()) else {
            return skip("superblocks_of_all_versions_mean_what_mdadm_says", "no mdadm");
        };
        assert!(line(&told, "Checksum").ends_with("correct"), "{told}");
        assert_eq!(line(&told, "Raid Level"), "raid1");
        let kib: u64 = line(&told, "Array Size").split(' ').next().unwrap().parse().unwrap();
        assert_eq!(kib * 1024, named(&found, array).size, "{told}");
        let uuid = named(&found, "vda").signature.uuid.clone().unwrap().replace('-', "");
        assert_eq!(
            line(&told, if minor == 90 { "UUID" } else { "Array UUID" }).replace(':', ""),
            uuid
        );
    }
}

#[test]
fn stripes_lie_where_md_puts_them_and_sizes_are_what_mdadm_says() {
    let dir = tempfile::tempdir().unwrap();
    let chunk = 64 * KIB;
    let left_symmetric = ["0 1 p", "1 p 0", "p 0 1"];
    let six = ["p 0 1 p", "0 1 p p", "1 p p 0", "p p 0 1"];
    // Level, layout, members, and where the chunks of each row lie.
    let table: [(i32, u32, u32, &[&str]); 6] = [
        (0, 0, 3, &["0 1 2"]),
        (4, 0, 3, &["0 1 p"]),
        (5, 2, 3, &left_symmetric),
        (6, 2, 4, &six),
        (10, 0x102, 4, &["0 p 1 p"]),
        (10, 0x103, 3, &["0 p p"]),
    ];
    for (level, layout, disks, rows) in table {
        let members = made(level, disks, |member| member.layout = layout);
        let found = found(&members);
        let expected = crate::lvm_types::drawn(&parts(&members), rows, chunk);
        assert!(bytes_of(named(&found, "md_data")) == expected, "level {level}");
        assert_eq!(found.problems, [""; 0]);
        if let Some(told) = told_by_mdadm(&members[0].1, dir.path()).filter(|_| level != 0) {
            let kib: usize = line(&told, "Array Size").split(' ').next().unwrap().parse().unwrap();
            assert_eq!(kib * KIB, expected.len(), "{told}");
        }
    }
}

#[test]
fn far_copies_are_read_from_their_first_part() {
    let members = made(10, 3, |member| member.layout = 0x201);
    let halves: Vec<Vec<u8>> = parts(&members)
        .iter()
        .map(|part| part[..part.len() / 2].to_vec())
        .collect();
    assert!(bytes_of(named(&found(&members), "md_data")) == interleave(&halves, 64 * KIB));
}

#[test]
fn members_of_different_sizes_make_zones_of_both_layouts() {
    let chunk = 64 * KIB;
    let sizes = [2, 4, 3];
    for (layout, features) in [(1, 4096), (2, 4096), (0, 0)] {
        let members = made(0, 3, |member| {
            member.device = sizes[usize::from(member.number)] * (1 << 20) + (1 << 20);
            (member.layout, member.features) = (layout, features);
        });
        let parts = parts(&members);
        let zone = |members: &[usize], from: usize, to: usize| -> Vec<Vec<u8>> {
            members
                .iter()
                .map(|member| parts[*member][from << 20..to << 20].to_vec())
                .collect()
        };
        // The first zone has 96 chunks, the second 32: both even, so that only a count of members that is odd could show a turn.
        let mut expected = interleave(&zone(&[0, 1, 2], 0, 2), chunk);
        expected.extend(interleave(&zone(&[1, 2], 2, 3), chunk));
        expected.extend(interleave(&zone(&[1], 3, 4), chunk));
        let found = found(&members);
        assert!(bytes_of(named(&found, "md_data")) == expected, "layout {layout}");
        assert_eq!(found.problems.len(), usize::from(features == 0));
    }
}

#[test]
fn the_original_layout_goes_on_with_its_turn_from_zone_to_zone() {
    let chunk = 64 * KIB;
    // Three members of one chunk more than nothing, two of which go on: the first zone has three chunks.
    let sizes = [1, 3, 3];
    let made_with = |layout| {
        made(0, 3, |member| {
            member.device = sizes[usize::from(member.number)] * chunk + (1 << 20);
            (member.layout, member.features) = (layout, 4096);
        })
    };
    for (layout, order) in [(1, [2, 1]), (2, [1, 2])] {
        let members = made_with(layout);
        let parts = parts(&members);
        let mut expected: Vec<u8> = parts.iter().flat_map(|part| part[..chunk].to_vec()).collect();
        for row in 1..3 {
            for member in order {
                expected.extend_from_slice(&parts[member][row * chunk..(row + 1) * chunk]);
            }
        }
        assert!(
            bytes_of(named(&found(&members), "md_data")) == expected,
            "layout {layout}"
        );
    }
}

#[test]
fn linear_members_follow_each_other_in_the_order_of_their_numbers() {
    let mut members = made(-1, 3, |member| member.chunk = 0);
    members.reverse();
    let expected: Vec<u8> = members
        .iter()
        .rev()
        .flat_map(|(member, bytes)| member.data(bytes).to_vec())
        .collect();
    assert!(bytes_of(named(&found(&members), "md_data")) == expected);
}

#[test]
fn the_freshest_member_of_a_mirror_is_read() {
    // Events, recovered bytes and the freshest member's roles; which is read.
    type Case = ([u64; 2], [bool; 2], Option<Vec<u16>>, usize);
    let table: [Case; 5] = [
        ([40, 50], [false, false], None, 1),
        ([50, 40], [false, false], None, 0),
        ([40, 41], [false, false], None, 1),
        ([50, 50], [true, false], None, 1),
        ([49, 50], [false, false], Some(vec![0xfffe, 1]), 1),
    ];
    for (events, rebuilding, roles, read) in table {
        let members = made(1, 2, |member| {
            let number = usize::from(member.number);
            member.events = events[number];
            member.features = if rebuilding[number] { 2 } else { 0 };
            member.roles = roles.clone().filter(|_| number == 1);
        });
        let found = found(&members);
        assert!(
            bytes_of(named(&found, "md_data")) == parts(&members)[read],
            "{events:?}"
        );
        let whole = events[0].abs_diff(events[1]) < 2 && rebuilding == [false; 2] && roles.is_none();
        assert_eq!(found.problems.is_empty(), whole, "{:?}", found.problems);
    }
}

#[test]
fn an_array_that_lacks_data_is_told_and_not_read() {
    let stripes = made(0, 2, |_| {});
    for members in [&stripes[..1], &made(5, 3, |_| {})[..2]] {
        let found = found(members);
        let array = named(&found, "md_data");
        assert!(array.data.is_none());
        assert!(array.problem.as_ref().unwrap().contains("is missing or out of date"));
    }
    let reshaping = made(5, 3, |member| member.features = 4);
    assert!(named(&found(&reshaping), "md_data").data.is_none());
}

#[test]
fn arrays_are_called_as_linux_calls_them_and_have_partitions() {
    let table = [
        ("host:0", "md0", "/dev/md/0"),
        ("127", "md127", "/dev/md/127"),
        ("a:b/../c", "md_b_.._c", "/dev/md/b_.._c"),
    ];
    for (name, expected, alias) in table {
        let found = found(&made(1, 1, |member| member.name = name));
        assert_eq!(named(&found, expected).aliases, [alias]);
    }
    let mut members = made(1, 2, |member| member.name = "host:0");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("array.img");
    std::fs::write(&path, members[0].0.data(&members[0].1)).unwrap();
    run(&["sgdisk", "--zap-all", "-n", "1:0:0", text(&path)]);
    let array = std::fs::read(&path).unwrap();
    for (_, bytes) in &mut members {
        bytes[1 << 20..].copy_from_slice(&array);
    }
    assert_eq!(names(&found(&members)), ["md0p1", "vda", "vdb"]);
    assert_eq!(named(&found(&members), "md0p1").aliases, ["/dev/md/0p1"]);
}

#[test]
fn a_superblock_at_the_end_of_the_last_partition_is_not_one_of_the_disk() {
    let members: Vec<_> = made(1, 2, |member| member.minor = 90);
    let disks = members.iter().map(|(_, bytes)| {
        let dir = tempfile::tempdir().unwrap();
        let path = blank(dir.path(), "disk.img", MIB + bytes.len() as u64);
        run_with_input(
            &["sfdisk", "--quiet", text(&path)],
            "label: dos\\nstart=1MiB, type=fd\\n",
        );
        let mut disk = std::fs::read(&path).unwrap();
        disk[1 << 20..].copy_from_slice(bytes);
        crate::hostile::Patched::new(disk) as std::sync::Arc<dyn vaultfs::image::ReadAt>
    });
    let found = found_in(disks.collect());
    assert_eq!(names(&found), ["md3", "vda1", "vdb1"]);
    assert!(bytes_of(named(&found, "md3")) == parts(&members)[0]);
}

#[test]
fn a_volume_group_on_an_array_is_found() {
    let member = Member::new(0, 2, 0);
    let Some(lab) = crate::lvm::Lab::new("a_volume_group_on_an_array_is_found", 1, 2 * member.data_size() as u64)
    else {
        return;
    };
    lab.lvm("pvcreate DISK0\n vgcreate -s 512k vg0 DISK0\n lvcreate -an -Zn -n root -L 2m vg0");
    let array = std::fs::read(&lab.disks[0]).unwrap();
    let mut members = made(0, 2, |_| {});
    for (number, (member, bytes)) in members.iter_mut().enumerate() {
        let chunks = array.chunks(member.chunk).skip(number).step_by(2);
        bytes[1 << 20..].copy_from_slice(&chunks.collect::<Vec<_>>().concat());
    }
    let found = found(&members);
    assert_eq!(names(&found), ["md_data", "vda", "vdb", "vg0-root"]);
    assert_eq!(named(&found, "md_data").signature.holds, Holds::LvmMember);
    assert!(bytes_of(named(&found, "vg0-root")) == lab.expected("root"));
}
