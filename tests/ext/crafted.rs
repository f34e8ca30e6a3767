//! Hostile structures, one at a time: each costs what hangs from it and nothing else, and nothing is walked for ever.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::sync::{Arc, LazyLock};

use vaultfs::bytes::{le_u16, le_u32};
use vaultfs::fs::content::Content;
use vaultfs::fs::ext::Ext;
use vaultfs::fs::{Error, FileSystem, Inode, Place};
use vaultfs::image::ReadAt;

use crate::damage;
use crate::files::can_loop_mount;
use crate::hostile::{Patched, walk};

const BLOCK: usize = 1024;
const SUPERBLOCK: usize = 1024;

static PLAIN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let options = "-t ext4 -b 1024 -O ^metadata_csum,^64bit,^has_journal,^resize_inode,inline_data -I 256";
    damage::image(options, false)
});
static SUMMED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    damage::image(
        "-t ext4 -b 1024 -O metadata_csum,^64bit,^has_journal,^resize_inode -I 256",
        false,
    )
});

/// An image whose bytes a test changes.
struct Craft {
    bytes: Vec<u8>,
}

impl Craft {
    fn plain() -> Option<Self> {
        can_loop_mount().then(|| Self { bytes: PLAIN.clone() })
    }

    fn summed() -> Option<Self> {
        can_loop_mount().then(|| Self { bytes: SUMMED.clone() })
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn volume(&self) -> Arc<dyn ReadAt> {
        Patched::new(self.bytes.clone())
    }

    fn try_open(&self) -> Result<Ext, Error> {
        Ext::open(self.volume())
    }

    fn open(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.try_open().unwrap())
    }

    /// The inode at a path.
    fn inode(&self, path: &str) -> Inode {
        let fs = self.open();
        path.split('/')
            .fold(fs.root(), |at, name| fs.lookup(at, name.as_bytes()).unwrap().unwrap())
    }

    /// Byte at which an inode begins; the image has one descriptor block with descriptors of 32 bytes.
    fn at(&self, inode: Inode) -> usize {
        let index = usize::try_from(inode.0 - 1).unwrap();
        let per_group = le_u32(&self.bytes, SUPERBLOCK + 0x28).unwrap() as usize;
        let size = usize::from(le_u16(&self.bytes, SUPERBLOCK + 0x58).unwrap());
        let table = le_u32(&self.bytes, 2 * BLOCK + index / per_group * 32 + 8).unwrap() as usize;
        table * BLOCK + index % per_group * size
    }

    /// Byte of the volume at which block `index` of a file begins.
    fn block_of(&self, inode: Inode, index: u32) -> usize {
        let mut at = self.at(inode) + 0x28;
        loop {
            let count = usize::from(le_u16(&self.bytes, at + 2).unwrap());
            let mut entries = (1..=count).map(|entry| at + entry * 12);
            let entry = entries
                .rfind(|entry| le_u32(&self.bytes, *entry).unwrap() <= index)
                .unwrap();
            if le_u16(&self.bytes, at + 6) == Some(0) {
                let into = index - le_u32(&self.bytes, entry).unwrap();
                return (le_u32(&self.bytes, entry + 8).unwrap() + into) as usize * BLOCK;
            }
            at = le_u32(&self.bytes, entry + 4).unwrap() as usize * BLOCK;
        }
    }

    /// Walks everything; gives the number of errors.
    fn walk(&self) -> usize {
        walk(&self.open(), &self.volume())
    }
}

fn names(fs: &Arc<dyn FileSystem>, directory: Inode) -> (Vec<String>, bool) {
    let mut names = Vec::new();
    let read = fs.read_dir(directory, 0, &mut |entry| {
        names.push(String::from_utf8_lossy(entry.name).into_owned());
        true
    });
    (names, read.is_ok())
}

#[test]
fn superblocks_out_of_bounds_are_refused() {
    let Some(craft) = Craft::plain() else { return };
    assert_eq!(craft.walk(), 0);
    for (what, offset, value) in [
        ("block size", 0x18, vec![7, 0, 0, 0]),
        ("block size", 0x18, vec![0xff; 4]),
        ("blocks per group", 0x20, vec![0; 4]),
        ("blocks per group", 0x20, vec![0xff; 4]),
        ("inodes per group", 0x28, vec![0; 4]),
        ("inodes per group", 0x28, vec![0xff; 4]),
        ("inode size", 0x58, vec![0, 0]),
        ("inode size", 0x58, vec![64, 0]),
        ("inode size", 0x58, vec![0xff, 0xff]),
        ("inode size", 0x58, vec![0, 8]),
        ("first data block", 0x14, vec![0xff; 4]),
        ("magic", 0x38, vec![0, 0]),
        ("block count", 0x4, vec![0; 4]),
        ("inode count", 0x0, vec![0xff; 4]),
    ] {
        let mut bad = Craft {
            bytes: craft.bytes.clone(),
        };
        bad.put(SUPERBLOCK + offset, &value);
        let opened = bad.try_open();
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{what} {value:?}");
    }
}

#[test]
fn unknown_incompat_features_are_refused_by_name() {
    let Some(mut craft) = Craft::plain() else { return };
    let features = le_u32(&craft.bytes, SUPERBLOCK + 0x60).unwrap();
    for (flag, name) in [
        (0x1, "compression"),
        (0x1000, "dirdata"),
        (0x8000_0000, "0x80000000"),
        (0x8, "journal"),
    ] {
        craft.put(SUPERBLOCK + 0x60, &(features | flag).to_le_bytes());
        let Err(error) = craft.try_open() else { panic!("{name}") };
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    craft.put(SUPERBLOCK + 0x60, &features.to_le_bytes());
    // What a reader may ignore.
    craft.put(SUPERBLOCK + 0x64, &[0xff, 0xd9, 0xff, 0xff]);
    craft.open();
}

#[test]
fn extent_trees_that_are_too_deep_or_contain_themselves_end() {
    let Some(craft) = Craft::plain() else { return };
    let many = craft.inode("some");
    let root = craft.at(many) + 0x28;
    assert_eq!(le_u16(&craft.bytes, root + 6), Some(1), "depth");
    let child = le_u32(&craft.bytes, root + 16).unwrap() as usize * BLOCK;
    let fails = |what: &str, change: &dyn Fn(&mut Craft)| {
        let mut bad = Craft {
            bytes: craft.bytes.clone(),
        };
        change(&mut bad);
        let fs = bad.open();
        assert!(
            matches!(fs.extents(many, 6000..7000), Err(Error::Corrupt { .. })),
            "{what}"
        );
        fs.attr(many).unwrap();
        assert_eq!(bad.walk(), 1, "{what}: only this file is lost");
    };
    fails("depth 6", &|bad| {
        bad.put(root + 6, &[6, 0]);
    });
    fails("depth 65535", &|bad| {
        bad.put(root + 6, &[0xff, 0xff]);
    });
    fails("more entries than room", &|bad| {
        bad.put(root + 2, &[5, 0]);
    });
    fails("no magic", &|bad| {
        bad.put(child, &[0, 0]);
    });
    fails("a child as deep as its parent", &|bad| {
        bad.put(child + 6, &[1, 0]);
    });
    fails("a child that is its own child", &|bad| {
        let block = u32::try_from(child / BLOCK).unwrap().to_le_bytes();
        bad.put(child + 6, &[1, 0])
            .put(child + 12, &[0; 4])
            .put(child + 16, &block);
    });
    fails("outside the volume", &|bad| {
        bad.put(root + 16, &[0xff; 4]);
    });
    fails("extents that overlap", &|bad| {
        bad.put(child + 24, &[0; 4]);
    });
    fails("an empty extent", &|bad| {
        bad.put(child + 16, &[0, 0]);
    });
}

#[test]
fn damage_in_a_later_extent_leaves_the_earlier_ones() {
    let Some(mut craft) = Craft::plain() else { return };
    let many = craft.inode("some");
    let root = craft.at(many) + 0x28;
    let child = le_u32(&craft.bytes, root + 16).unwrap() as usize * BLOCK;
    craft.put(child + 12 + 10 * 12 + 8, &[0xff; 4]);
    let (fs, volume) = (craft.open(), craft.volume());
    let content = Content::open(fs, volume, many).unwrap();
    let mut byte = [0];
    content.read(3000, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    assert!(content.read(3000 * 10, &mut byte).is_err());
}

#[test]
fn trees_of_hashes_with_cycles_are_left_for_the_list() {
    let Some(craft) = Craft::plain() else { return };
    let large = craft.inode("large");
    let root = craft.block_of(large, 0);
    let name = b"77 with a name of some length";
    let count = usize::from(le_u16(&craft.bytes, root + 34).unwrap());
    assert!(count > 2, "a tree of {count}");
    let changes: [(&str, usize, &[u8]); 6] = [
        ("the root as its own leaf", 36, &[0; 4]),
        ("two levels that are not there", 30, &[2]),
        ("no entries", 34, &[0, 0]),
        ("more entries than room", 34, &[0xff, 0xff]),
        ("an unknown hash", 28, &[9]),
        ("a block outside the directory", 36, &[0xff, 0xff, 0xff, 0]),
    ];
    for (what, offset, value) in changes {
        let mut bad = Craft {
            bytes: craft.bytes.clone(),
        };
        bad.put(root + offset, value);
        if what == "the root as its own leaf" {
            // One level, whose node is the root again, in every entry.
            bad.put(root + 30, &[1]);
            for entry in 0..count {
                bad.put(root + 36 + entry * 8, &[0; 4]);
            }
        }
        let fs = bad.open();
        assert_eq!(
            fs.lookup(large, name).unwrap(),
            Some(craft.inode("large/77 with a name of some length")),
            "{what}"
        );
        assert_eq!(fs.lookup(large, b"absent").unwrap(), None, "{what}");
    }
}

#[test]
fn records_of_length_zero_or_odd_hide_the_rest_of_their_block_only() {
    let Some(craft) = Craft::plain() else { return };
    let large = craft.inode("large");
    let (all, _) = names(&craft.open(), large);
    for len in [0_u16, 1, 6, 13, 2000, 0xffff] {
        let mut bad = Craft {
            bytes: craft.bytes.clone(),
        };
        let at = bad.block_of(large, 2);
        bad.put(at + 4, &len.to_le_bytes());
        let (found, is_sound) = names(&bad.open(), large);
        assert!(
            !is_sound && found.len() < all.len() && found.len() > all.len() / 2,
            "{len}: {}",
            found.len()
        );
    }
}

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
fn a_directory_inside_itself_is_one_inode() {
    let Some(mut craft) = Craft::plain() else { return };
    let small = craft.inode("small");
    let name = "0 with a name of some length";
    let root = craft.open().root();
    let block = craft.block_of(small, 0);
    let place = (block..block + BLOCK)
        .find(|at| craft.bytes[*at + 8..].starts_with(name.as_bytes()))
        .unwrap();
    craft.put(place, &2_u32.to_le_bytes());
    let fs = craft.open();
    assert_eq!(fs.lookup(small, name.as_bytes()).unwrap(), Some(root));
    assert_eq!(craft.walk(), 0);
}

#[test]
fn lists_of_orphans_with_cycles_end() {
    let Some(mut craft) = Craft::plain() else { return };
    let (a, b) = (craft.inode("some"), craft.inode("hole"));
    let number = |inode: Inode| u32::try_from(inode.0).unwrap().to_le_bytes();
    let (at_a, at_b) = (craft.at(a), craft.at(b));
    craft.put(SUPERBLOCK + 0xe8, &number(a));
    craft.put(at_a + 0x14, &number(b)).put(at_b + 0x14, &number(a));
    assert_eq!(craft.walk(), 0);
    craft.put(at_a + 0x14, &number(a));
    assert_eq!(craft.walk(), 0);
    craft.put(SUPERBLOCK + 0xe8, &[0xff; 4]);
    assert_eq!(craft.walk(), 0);
}

#[test]
fn inline_data_outside_the_inode_is_refused() {
    let Some(mut craft) = Craft::plain() else { return };
    let file = craft.inode("file 100");
    let at = craft.at(file);
    let extra = usize::from(le_u16(&craft.bytes, at + 128).unwrap());
    let body = at + 128 + extra + 4;
    let entry = (body..at + 256)
        .find(|at| craft.bytes[*at..].starts_with(&[4, 7]) && craft.bytes[*at + 16..].starts_with(b"data"));
    let entry = entry.unwrap();
    for (offset, value) in [
        (2, vec![0xff, 0xff]),
        (2, vec![120, 0]),
        (8, vec![0xff; 4]),
        (8, vec![200, 0, 0, 0]),
    ] {
        let mut bad = Craft {
            bytes: craft.bytes.clone(),
        };
        bad.put(entry + offset, &value);
        assert!(
            matches!(bad.open().extents(file, 0..100), Err(Error::Corrupt { .. })),
            "{offset} {value:?}"
        );
    }
    // A size beyond what is there reads as zeros, for the kernel too.
    craft.put(at + 4, &[0xff; 4]);
    let extents = craft.open().extents(file, 0..u64::MAX).unwrap();
    assert_eq!(extents.last().unwrap().place, Place::Zeros);
    craft.put(at + 128, &[0xff, 0xff]);
    assert!(matches!(craft.open().attr(file), Err(Error::Corrupt { .. })));
}

#[test]
fn sizes_of_2_to_the_63_are_refused() {
    let Some(mut craft) = Craft::plain() else { return };
    let hole = craft.inode("hole");
    let at = craft.at(hole);
    craft.put(at + 0x6c, &[0, 0, 0, 0x80]);
    assert!(matches!(craft.open().attr(hole), Err(Error::Corrupt { .. })));
    // The largest size that is one: a hole without end.
    craft.put(at + 4, &[0xff; 4]).put(at + 0x6c, &[0xff, 0xff, 0xff, 0x7f]);
    let (fs, volume) = (craft.open(), craft.volume());
    let size = u64::MAX >> 1;
    assert_eq!(fs.attr(hole).unwrap().size, size);
    let extents = fs.extents(hole, 2 << 30..u64::MAX).unwrap();
    assert_eq!((extents.len(), extents[0].place.clone()), (1, Place::Zeros));
    assert_eq!(extents[0].start + extents[0].len, size);
    let content = Content::open(fs, volume, hole).unwrap();
    assert_eq!(content.next_data(2 << 30).unwrap(), None);
}

#[test]
fn links_that_are_too_long_or_hold_nul_are_refused() {
    let Some(craft) = Craft::plain() else { return };
    for name in ["link 5", "link 59", "link 60", "link 200"] {
        let link = craft.inode(name);
        let at = craft.at(link);
        for size in [0_u32, 1 << 20, 4096, 0xffff_ffff] {
            let mut bad = Craft {
                bytes: craft.bytes.clone(),
            };
            bad.put(at + 4, &size.to_le_bytes());
            assert!(
                matches!(bad.open().read_link(link), Err(Error::Corrupt { .. })),
                "{name} {size}"
            );
        }
    }
    let mut bad = Craft {
        bytes: craft.bytes.clone(),
    };
    let at = craft.at(craft.inode("link 5"));
    bad.put(at + 0x2a, &[0]);
    assert!(bad.open().read_link(craft.inode("link 5")).is_err());
}

#[test]
fn inodes_that_users_never_see_are_not_there() {
    let Some(craft) = Craft::plain() else { return };
    let fs = craft.open();
    let last = u64::from(le_u32(&craft.bytes, SUPERBLOCK).unwrap());
    for number in [0, 1, 3, 7, 8, 10, last, last + 1, u64::MAX] {
        assert!(matches!(fs.attr(Inode(number)), Err(Error::NoInode { .. })), "{number}");
    }
    let file = craft.inode("some");
    assert!(matches!(
        fs.read_dir(file, 0, &mut |_| true),
        Err(Error::WrongType { .. })
    ));
    assert!(matches!(fs.extents(fs.root(), 0..1), Err(Error::WrongType { .. })));
    assert!(matches!(fs.read_link(file), Err(Error::WrongType { .. })));
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
