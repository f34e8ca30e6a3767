//! How far damage reaches: a wrong sum, a broken record or a missing end costs its structure, and is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::sync::Arc;

use vaultfs::bytes::le_u32;
use vaultfs::fs::ext::Ext;
use vaultfs::fs::{Error, FileSystem};
use vaultfs::image::ReadAt;

use crate::crafted::{BLOCK, Craft, SUPERBLOCK, names};
use crate::hostile::{Patched, walk};

#[test]
fn a_listing_in_parts_tells_of_damage_at_its_end() {
    let Some(mut craft) = Craft::plain() else { return };
    let large = craft.inode("large");
    let at = craft.block_of(large, 1);
    craft.put(at + 4, &[0, 0]);
    let fs = craft.open();
    let (all, _) = names(&fs, large);
    let (mut cookie, mut count) = (0, 0);
    let end = loop {
        let before = count;
        let read = fs.read_dir(large, cookie, &mut |entry| {
            cookie = entry.next;
            count += 1;
            count < before + 7
        });
        if read.is_err() || count == before {
            break read;
        }
    };
    assert!(matches!(end, Err(Error::Corrupt { .. })));
    assert_eq!(count, all.len());
}

#[test]
fn a_volume_cut_short_loses_what_was_behind_its_end() {
    let Some(craft) = Craft::plain() else { return };
    let volume = Patched::new(craft.bytes[..craft.bytes.len() / 2].to_vec());
    let fs: Arc<dyn FileSystem> = Arc::new(Ext::open(Arc::<Patched>::clone(&volume)).unwrap());
    assert!(
        fs.summary()
            .notes
            .iter()
            .any(|note| note.contains("larger than the volume")),
        "{:?}",
        fs.summary()
    );
    let volume: Arc<dyn ReadAt> = volume;
    walk(&fs, &volume);
    assert!(names(&fs, fs.root()).0.len() > 5);
}

#[test]
fn a_wrong_checksum_costs_its_structure_only() {
    let Some(craft) = Craft::summed() else { return };
    assert_eq!(craft.walk(), 0);
    let changed = |at: usize| {
        let mut bad = Craft {
            bytes: craft.bytes.clone(),
        };
        let byte = bad.bytes[at] ^ 1;
        bad.put(at, &[byte]);
        bad
    };
    // A byte of the superblock that nothing reads.
    assert!(matches!(
        changed(SUPERBLOCK + 0x90).try_open(),
        Err(Error::Corrupt { .. })
    ));
    // Free blocks of the group: the descriptor is used, and told of.
    let group = changed(2 * BLOCK + 0xc);
    assert_eq!(group.walk(), 0);
    let fs = group.open();
    fs.attr(fs.root()).unwrap();
    assert!(
        fs.summary().notes.iter().any(|note| note.contains("descriptors")),
        "{:?}",
        fs.summary()
    );
    // An inode's time.
    let inode = changed(craft.at(craft.inode("some")) + 0x10);
    assert_eq!(inode.walk(), 1);
    // A block of the extent tree.
    let root = craft.at(craft.inode("some")) + 0x28;
    let child = le_u32(&craft.bytes, root + 16).unwrap() as usize * BLOCK;
    assert_eq!(changed(child + 30).walk(), 1);
    // The free space of a block of a directory.
    let large = craft.inode("large");
    let leaf = changed(craft.block_of(large, 2) + 8);
    let (found, is_sound) = names(&leaf.open(), large);
    assert!(!is_sound && found.len() > 50, "{}", found.len());
    // A block of attributes.
    let file = craft.inode("file 100");
    let block = le_u32(&craft.bytes, craft.at(file) + 0x68).unwrap() as usize * BLOCK;
    assert!(block > 0);
    let attributes = changed(block + BLOCK - 1);
    assert!(attributes.open().xattrs(file).is_err());
    assert_eq!(attributes.walk(), 1);
}
