//! Logical volumes that lvm2 made, byte for byte against the mapping that its own reports tell.

#![allow(unreachable_pub)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::common::skip;
use crate::disks::*;
use crate::files::run;

/// Disks of random bytes that lvm2 sees, and nothing else; needs root, not the device-mapper.
pub struct Lab {
    dir: tempfile::TempDir,
    pub disks: Vec<PathBuf>,
    loops: Vec<String>,
    /// Bytes from here on are what lvm2 sees of a disk.
    offset: u64,
    reports: RefCell<Option<Vec<Value>>>,
}

impl Lab {
    pub fn new(test: &str, count: usize, size: u64) -> Option<Self> {
        Self::at(test, count, size, 0)
    }

    /// lvm2 sees the disks from byte `offset` on, as if in a partition.
    pub fn at(test: &str, count: usize, size: u64, offset: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || Command::new("lvm").arg("version").output().is_err() {
            skip(test, "it needs root and lvm2");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let disks: Vec<PathBuf> = (0..count)
            .map(|number| blank(dir.path(), &format!("{number}.img"), size))
            .collect();
        for (number, disk) in disks.iter().enumerate() {
            let bytes = crate::common::Random::quiet(number as u64 + 77).bytes(usize::try_from(size).unwrap());
            std::fs::write(disk, bytes).unwrap();
            // What lvm2 would take for something of somebody's lies here.
            run(&[
                "dd",
                "if=/dev/zero",
                "bs=64K",
                "count=2",
                "conv=notrunc",
                "status=none",
                &format!("of={}", text(disk)),
            ]);
        }
        let offset_text = offset.to_string();
        let attach = |disk: &PathBuf| run(&["losetup", "--offset", &offset_text, "--show", "--find", text(disk)]);
        let loops: Vec<String> = disks.iter().map(|disk| attach(disk).trim().to_owned()).collect();
        let accepted: Vec<String> = loops.iter().map(|device| format!("\"a|^{device}$|\"")).collect();
        let config = format!(
            "devices {{ scan=[\"/dev\"] filter=[{},\"r|.*|\"] use_devicesfile=0 obtain_device_list_from_udev=0 hints=\"none\"
             external_device_info_source=\"none\" }}
             global {{ use_lvmpolld=0 event_activation=0 activation=0 locking_dir=\"{}\" }}
             activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}
             backup {{ backup=0 archive=0 }}",
            accepted.join(","),
            text(dir.path()),
        );
        std::fs::write(dir.path().join("lvm.conf"), config).unwrap();
        let reports = RefCell::new(None);
        Some(Self {
            dir,
            disks,
            loops,
            offset,
            reports,
        })
    }

    /// Runs commands of lvm2, a line each; `DISK0` and so on stand for the disks.
    pub fn lvm(&self, commands: &str) -> String {
        let mut script = commands.to_owned();
        for (number, device) in self.loops.iter().enumerate() {
            script = script.replace(&format!("DISK{number}"), device);
        }
        let path = self.dir.path().join("script");
        std::fs::write(&path, script).unwrap();
        let done = Command::new("lvm")
            .env("LVM_SYSTEM_DIR", self.dir.path())
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .stdin(std::fs::File::open(path).unwrap())
            .output()
            .unwrap();
        self.reports.replace(None);
        format!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        )
    }

    /// Writes a text for a command; gives its path.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        text(&path).to_owned()
    }

    /// The rows of a report of lvm2.
    fn report(&self, words: &[&str], kind: &str) -> Vec<Value> {
        let done = Command::new("lvm")
            .args(words)
            .args(["--units", "b", "--nosuffix", "--reportformat", "json"])
            .env("LVM_SYSTEM_DIR", self.dir.path())
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .output()
            .unwrap();
        let json: Value = serde_json::from_slice(&done.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&done.stderr)));
        json["report"][0][kind].as_array().unwrap().clone()
    }

    /// The bytes of a logical volume by lvm2's report of its segments.
    pub fn expected(&self, volume: &str) -> Vec<u8> {
        let columns = "lv_name,seg_start_pe,seg_size_pe,stripes,stripe_size,seg_pe_ranges,vg_extent_size";
        let rows = self.reports.borrow().clone();
        let rows = rows.unwrap_or_else(|| self.report(&["lvs", "--all", "--segments", "-o", columns], "seg"));
        self.reports.replace(Some(rows.clone()));
        let mut segments: Vec<_> = rows
            .iter()
            .filter(|row| row["lv_name"].as_str().unwrap().trim_matches(['[', ']']) == volume)
            .collect();
        assert!(!segments.is_empty(), "lvm2 does not know {volume}");
        segments.sort_by_key(|row| number(row, "seg_start_pe"));
        segments.iter().flat_map(|row| self.segment(row)).collect()
    }

    fn segment(&self, row: &Value) -> Vec<u8> {
        let extent = number(row, "vg_extent_size");
        let ranges = row["seg_pe_ranges"].as_str().unwrap().split(' ');
        let parts: Vec<Vec<u8>> = ranges.map(|range| self.range(range, extent)).collect();
        let chunk = match number(row, "stripe_size") {
            0 => return parts.concat(),
            chunk => usize::try_from(chunk).unwrap(),
        };
        interleave(&parts, chunk)
    }

    /// `/dev/loop0:3-4`, or the same of a logical volume.
    fn range(&self, range: &str, extent: u64) -> Vec<u8> {
        let (name, range) = range.rsplit_once(':').unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let first: u64 = first.parse().unwrap();
        let len = (last.parse::<u64>().unwrap() + 1 - first) * extent;
        let (bytes, start) = match self.loops.iter().position(|device| device == name) {
            Some(disk) => (std::fs::read(&self.disks[disk]).unwrap(), MIB + self.offset),
            None => (self.expected(name), 0),
        };
        let start = usize::try_from(start + first * extent).unwrap();
        bytes[start..start + usize::try_from(len).unwrap()].to_vec()
    }

    /// What is found on the disks.
    pub fn found(&self) -> vaultfs::volume::Discovery {
        found_on(&self.disks.iter().map(|path| &**path).collect::<Vec<_>>())
    }

    /// The volume found has the bytes that lvm2's report leads to.
    #[track_caller]
    pub fn assert_same(&self, volume: &str, group: &str) {
        let found = self.found();
        let name = format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"));
        let expected = self.expected(volume);
        assert!(bytes_of(named(&found, &name)) == expected, "{name} has other bytes");
        assert_eq!(found.problems, [""; 0]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for device in &self.loops {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

fn number(row: &Value, field: &str) -> u64 {
    let text = row[field].as_str().unwrap();
    text.parse().unwrap_or_else(|_| panic!("{field} is {text:?}"))
}

/// Chunks of each part in turn.
pub fn interleave(parts: &[Vec<u8>], chunk: usize) -> Vec<u8> {
    let rows = parts[0].len() / chunk;
    let row = |row: usize| parts.iter().map(move |part| &part[row * chunk..(row + 1) * chunk]);
    (0..rows).flat_map(row).flatten().copied().collect()
}

#[test]
fn linear_striped_and_raid0_volumes_have_the_bytes_that_lvm2_reports() {
    let Some(lab) = Lab::new("linear_striped_and_raid0_volumes", 3, 24 * MIB) else {
        return;
    };
    lab.lvm(
        "pvcreate DISK0 DISK1 DISK2
         vgcreate -s 1m vg-0 DISK0 DISK1 DISK2
         lvcreate -an -Zn -n root -L 5m vg-0 DISK0
         lvcreate -an -Zn -n data-x -i 3 -I 4k -L 6m vg-0
         lvcreate -an -Zn -n wide -i 2 -I 64k -L 4m vg-0 DISK1 DISK2
         lvextend -L +3m vg-0/root DISK2
         lvextend -L +2m -i 2 -I 16k vg-0/root DISK1 DISK2
         lvcreate -an -Zn -n r0 --type raid0 -i 2 -I 128k -L 4m vg-0",
    );
    for volume in ["root", "data-x", "wide", "r0"] {
        lab.assert_same(volume, "vg-0");
    }
    let found = lab.found();
    assert_eq!(
        names(&found),
        [
            "vda",
            "vdb",
            "vdc",
            "vg--0-data--x",
            "vg--0-r0",
            "vg--0-root",
            "vg--0-wide"
        ]
    );
    let volume = named(&found, "vg--0-data--x");
    assert_eq!(volume.aliases, ["/dev/mapper/vg--0-data--x", "/dev/vg-0/data-x"]);
    // Reads that begin and end anywhere, across segments and stripes.
    let expected = lab.expected("root");
    let data = named(&found, "vg--0-root").data.clone().unwrap();
    let mut random = crate::common::Random::new(5);
    for _ in 0..2000 {
        let start = usize::try_from(random.below(expected.len() as u64)).unwrap();
        let len = usize::try_from(random.below(300_000))
            .unwrap()
            .min(expected.len() - start);
        let mut buf = vec![0; len];
        data.read_at(start as u64, &mut buf).unwrap();
        assert!(buf == expected[start..start + len], "{start}+{len}");
    }
    assert!(data.read_at(expected.len() as u64 - 1, &mut [0; 2]).is_err());
}

#[test]
fn a_physical_volume_in_a_partition_is_found() {
    let Some(lab) = Lab::at("a_physical_volume_in_a_partition_is_found", 1, 24 * MIB, 4 * MIB) else {
        return;
    };
    lab.lvm("pvcreate DISK0\n vgcreate -s 1m vg0 DISK0\n lvcreate -an -Zn -n root -L 5m vg0");
    run_with_input(
        &[
            "sfdisk",
            "--quiet",
            "--no-reread",
            "--no-tell-kernel",
            "--wipe",
            "never",
            text(&lab.disks[0]),
        ],
        "label: dos\\nstart=4MiB, type=8e\\n",
    );
    lab.assert_same("root", "vg0");
    assert_eq!(names(&lab.found()), ["vda1", "vg0-root"]);
}

#[test]
fn metadata_that_goes_round_its_ring_is_read_whole() {
    let Some(lab) = Lab::new("metadata_that_goes_round_its_ring_is_read_whole", 1, 8 * MIB) else {
        return;
    };
    lab.lvm("pvcreate DISK0\n vgcreate -s 1m vg0 DISK0\n lvcreate -an -Zn -n root -L 2m vg0");
    // A command of lvm2's shell has room for four of these.
    let tag = |number: u64| format!(" --addtag {number}{}", "t".repeat(900));
    let line = |line: u64| {
        format!(
            "vgchange{} vg0\n",
            (0..4).map(|number| tag(line * 4 + number)).collect::<String>()
        )
    };
    lab.lvm(&(0..30).map(line).collect::<String>());
    let wraps = || {
        let bytes = std::fs::read(&lab.disks[0]).unwrap();
        let field = |at: usize| u64::from_le_bytes(bytes[4096 + at..][..8].try_into().unwrap());
        field(40) + field(48) > field(32)
    };
    for round in 0..12 {
        lab.lvm(&format!("vgchange --addtag round{round} vg0"));
        lab.assert_same("root", "vg0");
        if wraps() {
            return;
        }
    }
    panic!("the metadata never reached the end of its area");
}

#[test]
fn the_newest_metadata_wins_and_the_older_is_told() {
    let Some(lab) = Lab::new("the_newest_metadata_wins_and_the_older_is_told", 2, 16 * MIB) else {
        return;
    };
    lab.lvm("pvcreate DISK0 DISK1\n vgcreate -s 1m vg0 DISK0 DISK1\n lvcreate -an -Zn -n root -L 2m vg0 DISK0");
    let old = std::fs::read(&lab.disks[0]).unwrap();
    lab.lvm("lvextend -L +4m vg0/root DISK1");
    let expected = lab.expected("root");
    let mut bytes = std::fs::read(&lab.disks[0]).unwrap();
    bytes[4096..MIB as usize].copy_from_slice(&old[4096..MIB as usize]);
    let other = crate::files::volume(&lab.disks[1]);
    let found = found_in(vec![crate::hostile::Patched::new(bytes), other]);
    assert!(bytes_of(named(&found, "vg0-root")) == expected);
    assert_problem(
        &found,
        "vda: the metadata of vg0 is older (2) than elsewhere (3), which is used",
    );
}

#[test]
fn a_missing_disk_leaves_the_volumes_that_do_not_need_it() {
    let Some(lab) = Lab::new("a_missing_disk_leaves_the_volumes_that_do_not_need_it", 2, 16 * MIB) else {
        return;
    };
    lab.lvm(
        "pvcreate DISK0 DISK1\n vgcreate -s 1m vg0 DISK0 DISK1\n lvcreate -an -Zn -n here -L 2m vg0 DISK0
         lvcreate -an -Zn -n gone -L 2m vg0 DISK1\n lvcreate -an -Zn -n half -i2 -L 2m vg0",
    );
    let expected = lab.expected("here");
    let found = found_on(&[&lab.disks[0]]);
    assert!(bytes_of(named(&found, "vg0-here")) == expected);
    for name in ["vg0-gone", "vg0-half"] {
        let volume = named(&found, name);
        assert!(volume.data.is_none() && volume.size == 2 * MIB);
        assert!(
            volume.problem.as_ref().unwrap().contains("is missing"),
            "{:?}",
            volume.problem
        );
    }
    assert_problem(&found, "vg0: the physical volume ");
}
