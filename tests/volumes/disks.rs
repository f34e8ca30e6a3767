//! What the tests of volumes share: disks in files and in memory, and what tools say of them.

#![allow(unreachable_pub)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vaultfs::image::ReadAt;
use vaultfs::volume::{Discovery, Disk, Volume, discover};

use crate::files::run;
use crate::hostile::Patched;

pub const MIB: u64 = 1 << 20;

/// An empty disk in a file.
pub fn blank(dir: &Path, name: &str, size: u64) -> PathBuf {
    let path = dir.join(name);
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    path
}

/// The same as text, for commands.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a tool with words on its standard input.
pub fn run_with_input(words: &[&str], input: &str) {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    run(&["sh", "-c", &format!("printf '{input}' | {}", quoted.join(" "))]);
}

/// What is found on image files, called `vda`, `vdb` and so on.
pub fn found_on(paths: &[&Path]) -> Discovery {
    let images = paths.iter().map(|path| crate::files::volume(path));
    found_in(images.collect())
}

/// What is found on images, called `vda`, `vdb` and so on.
pub fn found_in(images: Vec<Arc<dyn ReadAt>>) -> Discovery {
    let names = ('a'..='z').map(|letter| format!("vd{letter}"));
    let disks: Vec<Disk> = names.zip(images).map(|(name, image)| Disk { name, image }).collect();
    discover(&disks)
}

/// What is found on one disk of these bytes.
pub fn found_in_bytes(bytes: Vec<u8>) -> Discovery {
    found_in(vec![Patched::new(bytes)])
}

pub fn names(found: &Discovery) -> Vec<&str> {
    found.volumes.iter().map(|volume| &*volume.name).collect()
}

/// The volume of this name.
#[track_caller]
pub fn named<'a>(found: &'a Discovery, name: &str) -> &'a Volume {
    let volume = found.volumes.iter().find(|volume| volume.name == name);
    volume.unwrap_or_else(|| panic!("no {name} among {:?}; {:?}", names(found), found.problems))
}

/// All bytes of a volume.
#[track_caller]
pub fn bytes_of(volume: &Volume) -> Vec<u8> {
    let data = volume
        .data
        .as_ref()
        .unwrap_or_else(|| panic!("{}: {:?}", volume.name, volume.problem));
    assert_eq!(data.len(), volume.size, "{}", volume.name);
    let mut bytes = vec![0; usize::try_from(data.len()).unwrap()];
    data.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Fills a range of an image file with bytes that tell their place, so that a byte from elsewhere shows.
pub fn fill(path: &Path, start: u64, len: u64) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let bytes = crate::common::Random::quiet(start ^ len).bytes(usize::try_from(len).unwrap());
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&bytes, start).unwrap();
    bytes
}

/// Says whether a problem that was found has these words.
#[track_caller]
pub fn assert_problem(found: &Discovery, words: &str) {
    assert!(
        found.problems.iter().any(|problem| problem.contains(words)),
        "{words}: {:?}",
        found.problems
    );
}
