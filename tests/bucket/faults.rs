//! A fifth of all requests goes wrong in every way, and nobody notices; what is damaged in the bucket itself is told.

use super::Desk;
use crate::common::disks::{self, Sparse, Ticking, length, size};
use crate::common::{Random, can_mount, reads};
use crate::objects::odd::{Manner, Odd, kinds};
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use vaultfs::chunk::{MIN_CACHE, Reader};
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;

const MIB: usize = 1 << 20;

/// 24 MiB of noise, and its bytes.
fn noise(seed: u64) -> (Sparse, Vec<u8>) {
    let bytes = Random::new(seed).bytes(24 * MIB + 5);
    (Sparse::new(size(bytes.len()), vec![(0, bytes.clone())]), bytes)
}

/// A place of a disk of `len` bytes, and how much to read there.
fn range(random: &mut Random, len: usize) -> (u64, usize) {
    let start = random.below(size(len));
    let bits = random.below(18);
    let most = length((size(len) - start).min(1 << bits));
    (start, length(random.below(size(most))) + 1)
}

#[test]
#[ignore = "long: some requests hang, each for seconds"]
fn ten_thousand_reads_are_right_while_a_fifth_of_all_requests_goes_wrong() {
    const READERS: u64 = 16;
    let server = Odd::start(Manner::Honours, 0x5001);
    let vault = disks::new_vault(server.access.store("vault/reads"));
    server.faults(20);
    let (disk, bytes) = noise(0x5002);
    let report = disks::back_up(&vault, &disks::request("web", &[("vda", &disk)]), &Ticking::default()).unwrap();
    let reader = Reader::new(vault, MIN_CACHE);
    let image = DiskImage::open(&reader, &report.address, report.manifest.disk("vda").unwrap());
    std::thread::scope(|scope| {
        for number in 0..READERS {
            let (image, bytes) = (&image, &bytes);
            scope.spawn(move || {
                let mut random = Random::quiet(0x5100 + number);
                for _ in 0..10_000 / READERS {
                    let (start, len) = range(&mut random, bytes.len());
                    let mut buffer = vec![0; len];
                    let read = image.read_at(start, &mut buffer);
                    read.unwrap_or_else(|error| panic!("{len} bytes at {start}: {error:?}"));
                    reads::compare(&buffer, bytes, start, len);
                }
            });
        }
    });
    let hits = server.hits();
    assert_eq!(hits.keys().copied().collect::<HashSet<_>>(), kinds(), "{hits:?}");
    assert!(hits.values().sum::<u64>() > 1000, "{hits:?}");
}

#[test]
fn a_backup_and_reads_of_a_mount_are_right_while_a_fifth_of_all_requests_goes_wrong() {
    if !can_mount("a_backup_and_reads_of_a_mount_are_right_while_a_fifth_of_all_requests_goes_wrong") {
        return;
    }
    let server = Odd::start(Manner::Honours, 0x5003);
    let desk = Desk::new(&server.access);
    server.faults(20);
    let (disk, bytes) = noise(0x5004);
    disk.write_to(&desk.path("db.raw"));
    desk.succeed("backup", &["disk", "db", &desk.text("db.raw")]);
    let mount = desk.mount();
    let file = Arc::new(File::open(mount.path("disks/db/latest/disk.img")).unwrap());
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (file, bytes) = (&file, &bytes);
            scope.spawn(move || {
                let mut random = Random::quiet(0x5200 + number);
                for _ in 0..60 {
                    let (start, len) = range(&mut random, bytes.len());
                    let mut buffer = vec![0; len];
                    let read = file.read_exact_at(&mut buffer, start);
                    read.unwrap_or_else(|error| panic!("{len} bytes at {start}: {error}"));
                    reads::compare(&buffer, bytes, start, len);
                }
            });
        }
    });
    drop(file);
    assert_eq!(mount.complaints(), Vec::<String>::new());
    assert!(server.hits().values().sum::<u64>() > 10, "{:?}", server.hits());
    server.faults(0);
    mount.end();
}

/// A vault of one disk on a server of its own.
fn small(seed: u64) -> (Odd, Desk) {
    let server = Odd::start(Manner::Honours, seed);
    let desk = Desk::new(&server.access);
    std::fs::write(desk.path("db.raw"), Random::new(seed).bytes(MIB)).unwrap();
    desk.succeed("backup", &["disk", "db", &desk.text("db.raw")]);
    (server, desk)
}

#[test]
fn what_is_damaged_in_the_bucket_is_told_as_damage() {
    for kind in ["/packs/", "/meta/", "/backups/", "/vault"] {
        let (server, desk) = small(0x5005);
        server.damage(|name, data| {
            if name.contains(kind) {
                let middle = data.len() / 2;
                data[middle] ^= 4;
            }
        });
        desk.fails("cat", &["disks/db/latest/disk.img"], 3, "corrupt");
    }
}

#[test]
fn what_is_lost_from_the_bucket_is_told_as_lost() {
    let (server, desk) = small(0x5006);
    server.lose(|name| name.contains("/packs/"));
    desk.fails("cat", &["disks/db/latest/disk.img"], 3, "missing");
}

#[test]
fn a_listing_that_goes_wrong_is_an_error_and_no_empty_vault() {
    let (server, desk) = small(0x5007);
    // A request in five still comes through: pages of the listing are asked for again one by one.
    server.faults(80);
    let list = || desk.run("list", &["--json"]);
    let outputs = [list(), list(), list()];
    for output in outputs.iter().filter(|output| output.status.success()) {
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");
    }
    for output in outputs.iter().filter(|output| !output.status.success()) {
        assert_eq!(
            output.status.code(),
            Some(4),
            "{}",
            crate::common::program::stderr(output)
        );
    }
}
