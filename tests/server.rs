//! A real server, Debian on ext4 under GPT with a data disk of XFS, backed up twice with a day's work between: what its users
//! get back, by every way they take, is what was there.
//!
//! Without root, FUSE, loop devices or the tools the test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails
//! instead. Making the server downloads Debian packages the first time; if that fails, so does the test.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
mod files;
#[path = "server/scene.rs"]
mod scene;
#[path = "server/tools.rs"]
mod tools;

use common::mounted::Mount;
use common::program::{succeed, vaultfs};
use files::{LoopMount, Tree, assert_same as assert_tree, restorable, tree_of_directory};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use scene::{DISKS, Image, Point, Scene, for_each_chunk};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tools::{Loop, assert_prints, assert_same, digest, run};
use vaultfs::fs::Timestamp;

const MIB: u64 = 1 << 20;

/// What a file system may take for itself with a file of a gigabyte, beyond the file's blocks.
const SLACK: u64 = MIB;

type Check = fn(&Scene);

/// Checks by the names under which docs/semantics.md knows them.
macro_rules! named {
    ($($check:ident)*) => { [$((stringify!($check), $check)),*] };
}

#[test]
#[ignore = "long: makes a Debian server and backs it up twice, about two minutes"]
fn a_server_backed_up_twice_comes_back_by_every_way() {
    let began = Instant::now();
    let Some(scene) = Scene::new("a_server_backed_up_twice_comes_back_by_every_way") else {
        return;
    };
    eprintln!("the server and its backups: {:.1?}", began.elapsed());
    let checks: [(&str, Check); 11] = named!(
        every_image_is_its_source_byte_for_byte
        images_converted_by_qemu_equal_their_sources
        copies_by_cp_and_dd_equal_their_sources_and_are_as_sparse
        du_counts_data_only
        data_and_holes_are_where_the_source_has_them
        the_kernel_mounts_the_images_and_finds_the_same_trees
        volumes_and_root_are_what_the_kernel_shows
        the_root_backed_up_as_files_comes_back_by_mount_and_restore
        the_second_backup_stores_no_more_than_the_chunks_that_changed
        restored_files_and_devices_equal_their_sources
        cat_prints_the_sources
    );
    let mut failed = Vec::new();
    for (name, check) in checks {
        let began = Instant::now();
        if catch_unwind(AssertUnwindSafe(|| check(&scene))).is_err() {
            failed.push(name);
        }
        eprintln!("{name}: {:.1?}", began.elapsed());
    }
    assert!(failed.is_empty(), "{failed:?}");
    // ENOENT: the kernel did not wait for that answer any more. That every byte came is what the checks are for.
    let given_up = "Failed to send FUSE reply: No such file or directory";
    let mut complaints = scene.mount.complaints();
    complaints.retain(|line| !line.contains(given_up));
    assert_eq!(complaints, [""; 0]);
    scene.mount.end();
}

fn every_image_is_its_source_byte_for_byte(scene: &Scene) {
    for Image { path, source, .. } in scene.images() {
        assert_same(&path, &source);
    }
    let latest = std::fs::read_link(scene.mount.path("servers/web-01/latest")).unwrap();
    assert_eq!(
        Path::new("servers/web-01").join(latest),
        Path::new(scene.points[1].address())
    );
}

fn images_converted_by_qemu_equal_their_sources(scene: &Scene) {
    let converted = scene.path("converted.qcow2");
    for Image { path, source, .. } in scene.images() {
        let words = ["convert", "-f", "raw", "-O", "qcow2"].map(OsStr::new);
        run(
            "qemu-img",
            words.into_iter().chain([path.as_os_str(), converted.as_os_str()]),
        );
        let words = ["compare", "-f", "raw", "-F", "qcow2"].map(OsStr::new);
        run(
            "qemu-img",
            words.into_iter().chain([source.as_os_str(), converted.as_os_str()]),
        );
        // Only to `compare` are two sizes equal if the rest is zeros.
        let words = ["info", "--output=json"].map(OsStr::new);
        let info = run("qemu-img", words.into_iter().chain([converted.as_os_str()]));
        let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
        assert_eq!(info["virtual-size"], source.metadata().unwrap().len());
        std::fs::remove_file(&converted).unwrap();
    }
}

fn copies_by_cp_and_dd_equal_their_sources_and_are_as_sparse(scene: &Scene) {
    for Image {
        point,
        disk,
        path,
        source,
    } in scene.images()
    {
        let copy = scene.path("copy.img");
        let check = |limit: u64| {
            assert_same(&copy, &source);
            let taken = blocks(&copy);
            assert!(
                taken <= limit + SLACK,
                "{taken} bytes instead of {limit}: {}",
                path.display()
            );
            std::fs::remove_file(&copy).unwrap();
        };
        let (from, to) = (path.as_os_str(), copy.as_os_str());
        run("cp", [OsStr::new("--sparse=always"), from, to]);
        check(blocks(&source));
        // Looks for no zeros itself: the holes are those that the mount tells of.
        run("cp", [OsStr::new("--sparse=auto"), from, to]);
        check(point.disk_figure(disk, "data_bytes"));
        let (from, to) = (format!("if={}", path.display()), format!("of={}", copy.display()));
        run("dd", ["bs=1M", "conv=sparse", &from, &to]);
        check(path.metadata().unwrap().len());
    }
}

fn du_counts_data_only(scene: &Scene) {
    for Image {
        point,
        disk,
        path,
        source,
    } in scene.images()
    {
        let printed = run("du", [OsStr::new("--block-size=1"), path.as_os_str()]);
        let counted = String::from_utf8(printed).unwrap();
        let counted: u64 = counted.split('\t').next().unwrap().parse().unwrap();
        let data: u64 = data_ranges(&source, chunk_size(point, disk))
            .iter()
            .map(|(start, end)| end - start)
            .sum();
        assert_eq!(counted, data.next_multiple_of(512), "{}", path.display());
        assert_eq!(point.disk_figure(disk, "data_bytes"), data, "{}", path.display());
        assert!(
            data < path.metadata().unwrap().len() / 2,
            "{} is not sparse",
            path.display()
        );
    }
}

fn data_and_holes_are_where_the_source_has_them(scene: &Scene) {
    for Image {
        point,
        disk,
        path,
        source,
    } in scene.images()
    {
        let image = File::open(&path).unwrap();
        let (mut told, mut at) = (Vec::new(), 0);
        loop {
            let start = match rustix::fs::seek(&image, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(error) => break assert_eq!(error, Errno::NXIO),
            };
            at = rustix::fs::seek(&image, SeekFrom::Hole(start)).unwrap();
            told.push((start, at));
        }
        assert!(
            told == data_ranges(&source, chunk_size(point, disk)),
            "{}",
            path.display()
        );
        assert!(told.len() > 2, "{told:?}");
    }
}

fn the_kernel_mounts_the_images_and_finds_the_same_trees(scene: &Scene) {
    for (disk, options) in [("vda", "noload"), ("vdb", "norecovery,nouuid")] {
        let mut digests = Vec::new();
        for point in &scene.points {
            let (image, source) = (scene.image(point, disk), point.source(disk));
            // Where the file system lies is read from the mount, as a user does.
            let range = if disk == "vda" { root_partition(&image) } else { (0, 0) };
            let (image, source) = (
                LoopMount::of_range(&image, range, options),
                LoopMount::of_range(&source, range, options),
            );
            let (seen, wanted) = (digest(image.path()), digest(source.path()));
            let place = format!("{disk} of {}", point.address());
            assert!(
                seen == wanted,
                "{place} differs, maybe in attributes only; diff says: {}",
                differences(source.path(), image.path())
            );
            assert!(seen.1 > 100 * MIB, "{disk} is empty: {} bytes", seen.1);
            digests.push(seen);
        }
        assert_ne!(digests[0], digests[1], "nothing changed on {disk}");
    }
}

fn the_root_backed_up_as_files_comes_back_by_mount_and_restore(scene: &Scene) {
    let dir = scene.path("files");
    std::fs::create_dir(&dir).unwrap();
    let (mut sources, mut stored) = (Vec::new(), Vec::new());
    for point in &scene.points {
        let source = point.source("vda");
        let kernel = LoopMount::of_range(&source, root_partition(&source), "noload,noatime");
        let words = [
            "backup".as_ref(),
            scene.vault.as_os_str(),
            "filesystem".as_ref(),
            "root".as_ref(),
        ];
        let words = words.into_iter().chain([kernel.path().as_os_str(), "--json".as_ref()]);
        let report: serde_json::Value = serde_json::from_slice(&succeed(vaultfs(words))).unwrap();
        sources.push((
            report["address"].as_str().unwrap().to_owned(),
            tree_of_directory(kernel.path()),
        ));
        stored.push(report["new_bytes"].as_u64().unwrap());
    }
    assert!(stored[1] < stored[0] / 2, "{stored:?}");
    let mount = Mount::new(&dir, &scene.vault, "");
    let back = scene.path("back");
    for (address, source) in &mut sources {
        assert!(source.len() > 5000, "{address} has {} files", source.len());
        // A file that was not read again keeps the time of access that it had when it was.
        let shown = not_accessed(tree_of_directory(&mount.path(address).join("tree")));
        *source = not_accessed(std::mem::take(source));
        assert_tree(&shown, source, address);
        let words = [
            "restore".as_ref(),
            scene.vault.as_os_str(),
            OsStr::new(address),
            "--to".as_ref(),
        ];
        let options = ["--force", "--delete"].map(OsStr::new);
        succeed(vaultfs(words.into_iter().chain([back.as_os_str()]).chain(options)));
        // And reading it by one of its names, as this test does, changes that of a copy.
        let back = restorable(not_accessed(tree_of_directory(&back)));
        assert_tree(&back, &restorable(std::mem::take(source)), address);
    }
    mount.end();
}

fn not_accessed(mut tree: Tree) -> Tree {
    tree.values_mut()
        .for_each(|facts| facts.accessed = Timestamp::default());
    tree
}

fn volumes_and_root_are_what_the_kernel_shows(scene: &Scene) {
    for point in &scene.points {
        let shown = scene.mount.path(point.address());
        let root = tree_of_directory(&shown.join("root"));
        for (disk, volume, options, place) in [
            ("vda", "vda2", "noload", ""),
            ("vdb", "vdb", "norecovery,nouuid", "srv/data"),
        ] {
            let source = point.source(disk);
            let range = if disk == "vda" { root_partition(&source) } else { (0, 0) };
            let kernels = tree_of_directory(LoopMount::of_range(&source, range, options).path());
            let what = format!("{volume} of {}", point.address());
            assert!(kernels.len() > 100, "{what} is empty");
            assert_tree(&tree_of_directory(&shown.join("volumes").join(volume)), &kernels, &what);
            // What is in its place below root is the same; hard links have their first name in another directory there.
            for (path, facts) in &kernels {
                let covered = place.is_empty() && ["srv/data", "boot/efi"].iter().any(|mount| path.starts_with(mount));
                let seen = root.get(&Path::new(place).join(path));
                assert!(
                    covered || seen.is_some_and(|seen| seen.content == facts.content && seen.owner == facts.owner),
                    "root/{place}/{} of {}",
                    path.display(),
                    point.address()
                );
            }
        }
        let efi = tree_of_directory(&shown.join("root/boot/efi"));
        assert_eq!(efi, tree_of_directory(&shown.join("volumes/vda1")));
    }
}

fn the_second_backup_stores_no_more_than_the_chunks_that_changed(scene: &Scene) {
    let [first, second] = &scene.points;
    let mut changed = 0;
    for disk in DISKS {
        let chunk = chunk_size(second, disk);
        let before = File::open(first.source(disk)).unwrap();
        let (mut old, mut bytes_changed) = (vec![0; usize::try_from(chunk).unwrap()], 0);
        for_each_chunk(&second.source(disk), chunk, |(start, end), new| {
            let old = &mut old[..new.len()];
            before.read_exact_at(old, start).unwrap();
            if new != old && !is_zero(new) {
                bytes_changed += end - start;
            }
        });
        let new = second.disk_figure(disk, "new_bytes");
        assert!(
            0 < new && new <= bytes_changed,
            "{disk}: {new} bytes are new, {bytes_changed} changed"
        );
        changed += bytes_changed;
    }
    let (new, stored) = (second.figure("new_bytes"), second.figure("stored_bytes"));
    let before = first.figure("stored_bytes");
    eprintln!(
        "first: {before} bytes stored; then {changed} changed, {new} new, {stored} stored, vault grew {}",
        scene.growth
    );
    assert!(
        stored <= new && stored < before / 4,
        "{stored} bytes stored, first {before}, new {new}"
    );
    // What goes with the chunks: pages of the map, footers, the index, the manifest.
    assert!(
        scene.growth < stored + stored / 8 + MIB,
        "the vault grew by {} for {stored}",
        scene.growth
    );
}

fn restored_files_and_devices_equal_their_sources(scene: &Scene) {
    let [first, second] = &scene.points;
    let restore = |point: &Point, disk, to: &Path, more: &[&str]| {
        let words = [
            "restore",
            scene.vault.to_str().unwrap(),
            point.address(),
            "--disk",
            disk,
            "--to",
        ];
        let words = words
            .into_iter()
            .chain([to.to_str().unwrap()])
            .chain(more.iter().copied());
        succeed(vaultfs(words));
    };
    let file = scene.path("restored.img");
    restore(first, "vda", &file, &[]);
    assert_same(&file, &first.source("vda"));
    let data = first.disk_figure("vda", "data_bytes");
    assert!(
        blocks(&file) <= data + SLACK,
        "{} bytes instead of {data}",
        blocks(&file)
    );

    // A disk in use until now: it holds the server as it was, and goes to the next point.
    let replaced = scene.path("device.img");
    std::fs::copy(first.source("vdb"), &replaced).unwrap();
    let device = Loop::writable(&replaced);
    restore(second, "vdb", &device.device, &["--force"]);
    assert_same(&device.device, &second.source("vdb"));
    drop(device);
    assert_same(&replaced, &second.source("vdb"));
}

fn cat_prints_the_sources(scene: &Scene) {
    for Image {
        point, disk, source, ..
    } in scene.images()
    {
        let file = format!("{}/disks/{disk}.img", point.address());
        assert_prints(vaultfs(["cat", scene.vault.to_str().unwrap(), &file]), &source);
    }
}

/// What `diff` says of two trees; of FIFOs and devices it says that they are what they are.
fn differences(one: &Path, other: &Path) -> String {
    let mut diff = Command::new("diff");
    diff.args(["--recursive", "--brief", "--no-dereference"])
        .args([one, other]);
    String::from_utf8_lossy(&diff.output().unwrap().stdout).into_owned()
}

/// The bytes a file takes on its file system.
fn blocks(file: &Path) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

fn chunk_size(point: &Point, disk: &str) -> u64 {
    point.disk_figure(disk, "chunk_size")
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The runs of chunks of a disk that are not all zeros.
fn data_ranges(disk: &Path, chunk: u64) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for_each_chunk(disk, chunk, |(start, end), bytes| match ranges.last_mut() {
        _ if is_zero(bytes) => {}
        Some(last) if last.1 == start => last.1 = end,
        _ => ranges.push((start, end)),
    });
    ranges
}

/// Offset and length in bytes of the partition named `root`.
fn root_partition(image: &Path) -> (u64, u64) {
    let printed = run("sfdisk", [OsStr::new("--json"), image.as_os_str()]);
    let table: serde_json::Value = serde_json::from_slice(&printed).unwrap();
    let table = &table["partitiontable"];
    assert_eq!(table["label"], "gpt");
    let mut partitions = table["partitions"].as_array().unwrap().iter();
    let root = partitions.find(|partition| partition["name"] == "root").unwrap();
    let bytes = |field: &str| root[field].as_u64().unwrap() * table["sectorsize"].as_u64().unwrap_or(512);
    (bytes("start"), bytes("size"))
}
