//! The exFAT reader against what was put into images, by a builder of its own and by the FUSE driver of exFAT.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions,
    unreachable_pub
)]

#[path = "exfat/builder.rs"]
mod builder;
mod common;
#[path = "exfat/damage.rs"]
mod damage;
mod files;
mod hostile;
#[path = "fat/kept.rs"]
mod kept;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use builder::{Builder, Layout, Node, What, make_directory};
use common::Random;
use kept::{kept, same};
use vaultfs::fs::FileSystem;
use vaultfs::fs::content::Content;
use vaultfs::fs::exfat::Exfat;
use vaultfs::image::ReadAt;

/// Makes an empty image, or says that the tool is missing.
fn mkfs(dir: &Path, mib: u64, words: &str) -> Option<PathBuf> {
    if !["mkfs.exfat", "fsck.exfat"]
        .iter()
        .all(|tool| common::have("exFAT images", tool))
    {
        return None;
    }
    let image = dir.join("image");
    fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
    let mut command = vec!["mkfs.exfat", "-L", "Völume"];
    command.extend(words.split_whitespace());
    command.push(image.to_str().unwrap());
    files::run(&command);
    Some(image)
}

fn open(image: &Path) -> (Arc<dyn FileSystem>, Arc<dyn ReadAt>) {
    let volume = files::volume(image);
    (Arc::new(Exfat::open(Arc::clone(&volume)).unwrap()), volume)
}

/// Compares the reader with a directory, and asks fsck.exfat whether the image is sound; gives the number of paths.
fn check(image: &Path, source: &Path) -> usize {
    // Version 1.2 of it repeats some errors for ever.
    files::run(&["timeout", "60", "fsck.exfat", "-n", image.to_str().unwrap()]);
    let (fs, volume) = open(image);
    assert_eq!(fs.summary().notes, [""; 0]);
    let ours = kept(&files::tree_of(&fs, &volume));
    same(
        &ours,
        &kept(&files::tree_of_directory(source)),
        &image.display().to_string(),
        "the directory",
    );
    ours.len()
}

/// A volume that the FUSE driver has mounted; unmounted with the value. As root the driver takes block devices only.
struct Driver {
    at: tempfile::TempDir,
    device: String,
}

impl Driver {
    fn mount(image: &Path, options: &str) -> Self {
        let at = tempfile::tempdir().unwrap();
        let device = files::run(&["losetup", "--find", "--show", image.to_str().unwrap()]);
        let device = device.trim().to_owned();
        let mut command = Command::new("mount.exfat-fuse");
        command.args(["-o", options, &device]).arg(at.path()).env("TZ", "UTC");
        let done = command.output().unwrap();
        let this = Self { at, device };
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        this
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at.path()).status();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

fn have_driver(test: &str) -> bool {
    common::have(test, "mount.exfat-fuse") && files::can_loop_mount() && common::can_mount(test)
}

/// Nodes of every layout, with names and sizes around what fits into a slot and a cluster.
fn ordinary(random: &mut Random, cluster: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for layout in [Layout::Contiguous, Layout::Chained, Layout::Scattered] {
        let mut files: Vec<Node> = [0, 1, cluster - 1, cluster, cluster + 1, 5 * cluster + 7]
            .iter()
            .map(|len| Node::file(&format!("{len} bytes"), &random.bytes(*len)).with(layout))
            .collect();
        for valid in [0, 1, cluster / 2 + 1, cluster, 2 * cluster + 100] {
            let mut node = Node::file(&format!("{valid} valid bytes"), &[]).with(layout);
            node.what = What::File(random.bytes(3 * cluster), valid as u64);
            files.push(node);
        }
        // Enough that the directory takes several clusters, and sets cross their ends.
        let names = (0..cluster / 32).map(|number| format!("{}{number}", "long name ".repeat(number % 25)));
        files.extend(names.map(|name| Node::file(&name, name.as_bytes()).with(layout)));
        nodes.push(Node::directory(&format!("{layout:?}"), files).with(layout));
    }
    for name in [
        "a",
        "exactly15 chars",
        "sixteen letters!",
        "Ünïcödé ÄÖÜ ß",
        "中文文件名",
        "emoji 😀🦀",
        &"n".repeat(150),
    ] {
        nodes.push(Node::file(name, name.as_bytes()));
    }
    if cluster > 512 {
        // fsck.exfat 1.2 cannot read a set that takes three clusters.
        nodes.push(Node::file(&"N".repeat(255), b"the longest name"));
    }
    let deep = (0..12).fold(Node::file("leaf", b"deep"), |node, level| {
        Node::directory(&format!("level {level}"), vec![node])
    });
    nodes.extend([deep, Node::directory("empty", Vec::new())]);
    for (zone, modified) in [
        (0, 315_532_800),
        (60, 951_868_798),
        (-720, 1_795_219_201),
        (840, 4_102_444_798),
    ] {
        let mut node = Node::file(&format!("zone {zone}"), b"");
        (node.zone, node.modified) = (zone, modified);
        nodes.push(node);
    }
    nodes
}

#[test]
fn every_layout_shows_what_was_put_in() {
    let mut random = Random::new(1);
    for (mib, words, cluster) in [
        (8, "-c 512", 512),
        (16, "-c 4K", 4096),
        (64, "-c 32K", 32768),
        (160, "-c 128K -b 1M", 131_072),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(image) = mkfs(dir.path(), mib, words) else {
            return;
        };
        let nodes = ordinary(&mut random, cluster.min(4096));
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        make_directory(&nodes, &source);
        let mut builder = Builder::new(fs::read(&image).unwrap());
        assert_eq!(builder.cluster_size, cluster);
        builder.write(&nodes);
        fs::write(&image, &builder.bytes).unwrap();
        assert!(check(&image, &source) > 80);
        if have_driver("exFAT images against the FUSE driver") {
            let driver = Driver::mount(&image, "ro");
            let (fs, volume) = open(&image);
            let mut ours = kept(&files::tree_of(&fs, &volume));
            let copy = tempfile::tempdir().unwrap();
            // It has no extended attributes, not even to list: what it shows is copied to where there are.
            let all = format!("{}/.", driver.at.path().display());
            files::run(&["cp", "-r", "--preserve=timestamps", &all, copy.path().to_str().unwrap()]);
            let mut theirs = kept(&files::tree_of_directory(copy.path()));
            // It does not know of ValidDataLength.
            for (path, kept) in ours.iter_mut().chain(theirs.iter_mut()) {
                kept.content
                    .take_if(|_| path.to_string_lossy().ends_with("valid bytes"));
            }
            same(&ours, &theirs, words, "the FUSE driver");
        }
    }
}

#[test]
fn what_the_driver_wrote_is_read() {
    if !have_driver("what_the_driver_wrote_is_read") {
        return;
    }
    let mut random = Random::new(2);
    for (mib, words) in [(32, "-c 512"), (64, "-c 4K"), (256, "-c 64K")] {
        let dir = tempfile::tempdir().unwrap();
        let Some(image) = mkfs(dir.path(), mib, words) else {
            return;
        };
        let source = dir.path().join("source");
        fs::create_dir(&source).unwrap();
        let driver = Driver::mount(&image, "rw");
        for number in 0..1000 {
            let len = usize::try_from(random.below(9000)).unwrap();
            let (path, content) = (format!("d{}/file {number} Ä", number % 7), random.bytes(len));
            for root in [&source, driver.at.path()] {
                let path = root.join(&path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &content).unwrap();
                if number % 3 == 1 {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        drop(driver);
        let (fs, volume) = open(&image);
        let mut ours = kept(&files::tree_of(&fs, &volume));
        let mut theirs = kept(&files::tree_of_directory(&source));
        // The driver gives files the time at which it writes them.
        ours.values_mut()
            .chain(theirs.values_mut())
            .for_each(|kept| kept.modified = None);
        same(&ours, &theirs, words, "the directory");
        assert!(ours.len() > 600);
    }
}

#[test]
fn a_directory_of_five_thousand_files_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = mkfs(dir.path(), 64, "-c 4K") else {
        return;
    };
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let many = (0..5000)
        .map(|number| Node::file(&format!("file number {number:04} of many"), &[]))
        .collect();
    let nodes = [Node::directory("many", many).with(Layout::Scattered)];
    make_directory(&nodes, &source);
    let mut builder = Builder::new(fs::read(&image).unwrap());
    builder.write(&nodes);
    fs::write(&image, &builder.bytes).unwrap();
    assert_eq!(check(&image, &source), 5002);
}

#[test]
fn sets_that_take_three_clusters_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = mkfs(dir.path(), 8, "-c 512") else {
        return;
    };
    let mut builder = Builder::new(fs::read(&image).unwrap());
    for layout in [Layout::Contiguous, Layout::Scattered] {
        let files = (10..30).map(|number| Node::file(&format!("{}{number}", "n".repeat(253)), b"content"));
        builder.write(&[Node::directory(&format!("{layout:?}"), files.collect()).with(layout)]);
    }
    fs::write(&image, &builder.bytes).unwrap();
    let (fs, volume) = open(&image);
    assert_eq!(files::tree_of(&fs, &volume).len(), 43);
}

#[test]
fn a_scattered_file_is_read_at_any_place() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = mkfs(dir.path(), 64, "-c 512") else {
        return;
    };
    let mut random = Random::new(3);
    // More runs than are remembered of a chain, so that some are forgotten and walked again.
    let content = random.bytes(12 << 20);
    let mut builder = Builder::new(fs::read(&image).unwrap());
    builder.write(&[Node::file("scattered", &content).with(Layout::Scattered)]);
    fs::write(&image, &builder.bytes).unwrap();
    let (fs, volume) = open(&image);
    let inode = fs.lookup(fs.root(), b"SCATTERED").unwrap().unwrap();
    assert_eq!(fs.extents(inode, 0..u64::MAX).unwrap().len(), vaultfs::fs::MAX_EXTENTS);
    let file = Content::open(fs, volume, inode).unwrap();
    for _ in 0..500 {
        let at = usize::try_from(random.below(12 << 20)).unwrap();
        let mut buf = vec![0; (content.len() - at).min(5000)];
        file.read(at as u64, &mut buf).unwrap();
        assert!(buf == content[at..at + buf.len()], "at {at}");
    }
}
