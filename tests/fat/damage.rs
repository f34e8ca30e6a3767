//! FAT images that lie: each lie costs what it is about, and nothing else; and ten thousand random lies.

use std::sync::Arc;
use std::time::Instant;

use vaultfs::fs::content::Content;
use vaultfs::fs::fat::Fat;
use vaultfs::fs::{Error, FileSystem, Inode, Result};
use vaultfs::image::ReadAt;

use crate::common::{self, Random};
use crate::files;
use crate::hostile::{Patched, walk};
use crate::images::{Disk, TIMES, mtools};
use crate::raw::{Raw, slots};

/// An image with a little of everything, its clusters all near its beginning.
fn small(width: u32) -> Option<Raw> {
    if !["mkfs.fat", "mcopy"]
        .iter()
        .all(|tool| common::have("damaged FAT images", tool))
    {
        return None;
    }
    let disk = match width {
        12 => Disk::new(256, "-F 12 -S 512 -s 1 -r 64"),
        16 => Disk::new(2304, "-F 16 -S 512 -s 1 -r 64"),
        _ => Disk::new(36864, "-F 32 -S 512 -s 1"),
    };
    let mut random = Random::quiet(u64::from(width));
    for path in [
        "A.TXT",
        "B.TXT",
        "DIR/C.TXT",
        "DIR/a long name of a file.text",
        "DIR/SUB/D.TXT",
    ] {
        let len = usize::try_from(random.below(4000)).unwrap() + 600;
        disk.file(path, &random.bytes(len), TIMES[2]);
    }
    disk.file("EMPTY.TXT", b"", TIMES[2]);
    disk.fill();
    if width == 32 {
        disk.shrink(3000);
    }
    Some(Raw::new(disk.bytes(), width))
}

fn open(raw: &Raw) -> (Arc<dyn FileSystem>, Arc<dyn ReadAt>) {
    let volume: Arc<dyn ReadAt> = Patched::new(raw.bytes.clone());
    (Arc::new(Fat::open(Arc::clone(&volume)).unwrap()), volume)
}

fn find(fs: &Arc<dyn FileSystem>, path: &str) -> Option<Inode> {
    path.split('/')
        .try_fold(fs.root(), |inode, name| fs.lookup(inode, name.as_bytes()).unwrap())
}

fn read(raw: &Raw, path: &str, at: u64, len: usize) -> Result<Vec<u8>> {
    let (fs, volume) = open(raw);
    let inode = find(&fs, path).unwrap();
    let mut buf = vec![0; len];
    Content::open(fs, volume, inode)?.read(at, &mut buf)?;
    Ok(buf)
}

fn is_corrupt<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Corrupt { .. }))
}

#[test]
fn every_damaged_fat_image_is_survived() {
    for width in [12, 16, 32] {
        let Some(raw) = small(width) else { return };
        let (mut random, began) = (Random::new(u64::from(width) + 100), Instant::now());
        let metadata = raw.metadata();
        let patched = Patched::new(raw.bytes);
        let volume: Arc<dyn ReadAt> = patched.clone();
        let (mut errors, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let undo = patched.mutate(&mut random, &metadata);
            match Fat::open(Arc::clone(&volume)) {
                Ok(fs) => errors += walk(&(Arc::new(fs) as Arc<dyn FileSystem>), &volume),
                Err(_) => refused += 1,
            }
            patched.undo(undo);
        }
        eprintln!(
            "FAT{width}: 20,000 mutations in {:?}, {refused} refused, {errors} errors",
            began.elapsed()
        );
        assert!(errors > 1000 && refused < 10_000);
    }
}

#[test]
fn a_chain_in_a_circle_ends_in_an_error() {
    for width in [12, 16, 32] {
        let Some(mut raw) = small(width) else { return };
        let entry = raw.entry(b"A       TXT");
        let first = raw.first_cluster(entry);
        let sound = read(&raw, "A.TXT", 0, 600).unwrap();
        raw.link(first + 1, first);
        raw.set_size(entry, 64 << 10);
        assert_eq!(read(&raw, "A.TXT", 0, 600).unwrap(), sound);
        assert!(is_corrupt(read(&raw, "A.TXT", 32 << 10, 10)));
        // A directory without an end: what is in its cluster is listed, and then the error.
        let dir = raw.first_cluster(raw.entry(b"DIR        "));
        let at = raw.cluster(dir);
        let slots = raw.bytes[at..at + 512].chunks_exact_mut(32);
        slots.filter(|slot| slot[0] == 0).for_each(|slot| slot[0] = 0xe5);
        raw.link(dir, dir);
        let (fs, _) = open(&raw);
        let inode = find(&fs, "DIR").unwrap();
        let mut names = 0;
        let listed = fs.read_dir(inode, 0, &mut |_| {
            names += 1;
            true
        });
        assert!(is_corrupt(listed) && names == 3);
        assert!(fs.attr(inode).is_ok() && fs.lookup(inode, b"c.txt").unwrap().is_some());
        assert!(is_corrupt(fs.lookup(inode, b"not there")));
    }
}

#[test]
fn a_chain_that_is_too_short_costs_the_missing_part_only() {
    for width in [12, 16, 32] {
        for end in [0x0fff_ffff, 0, 1, 0x0fff_fff7, 0x0fff_fff5] {
            let Some(mut raw) = small(width) else { return };
            let first = raw.first_cluster(raw.entry(b"A       TXT"));
            let sound = read(&raw, "A.TXT", 0, 600).unwrap();
            raw.link(first, end);
            assert_eq!(read(&raw, "A.TXT", 0, 512).unwrap(), sound[..512]);
            assert!(is_corrupt(read(&raw, "A.TXT", 512, 1)), "FAT{width}, {end:#x}");
            let (fs, volume) = open(&raw);
            assert_eq!(walk(&fs, &volume), 1);
        }
    }
}

#[test]
fn files_that_share_clusters_are_both_read() {
    let Some(mut raw) = small(16) else { return };
    let sound = read(&raw, "A.TXT", 0, 600).unwrap();
    let (a, b) = (raw.entry(b"A       TXT"), raw.entry(b"B       TXT"));
    raw.set_first_cluster(b, raw.first_cluster(a));
    assert_eq!(read(&raw, "A.TXT", 0, 600).unwrap(), sound);
    assert_eq!(read(&raw, "B.TXT", 0, 600).unwrap(), sound);
}

#[test]
fn a_chain_that_is_longer_than_the_file_is_cut_at_its_size() {
    let Some(mut raw) = small(16) else { return };
    let entry = raw.entry(b"A       TXT");
    raw.set_size(entry, 5);
    let (fs, volume) = open(&raw);
    let inode = find(&fs, "A.TXT").unwrap();
    assert_eq!(Content::open(Arc::clone(&fs), volume, inode).unwrap().size(), 5);
    let extents = fs.extents(inode, 0..u64::MAX).unwrap();
    assert_eq!(extents.iter().map(|extent| extent.len).sum::<u64>(), 5);
}

#[test]
fn first_clusters_that_do_not_exist_are_errors_of_their_file() {
    for width in [12, 16, 32] {
        for first in [0, 1, 0xfff0, 0xffff] {
            let Some(mut raw) = small(width) else { return };
            for name in [b"A       TXT", b"DIR        "] {
                let entry = raw.entry(name);
                raw.set_first_cluster(entry, first);
            }
            assert!(is_corrupt(read(&raw, "A.TXT", 0, 1)));
            let (fs, _) = open(&raw);
            let dir = find(&fs, "DIR").unwrap();
            assert!(is_corrupt(fs.read_dir(dir, 0, &mut |_| true)) && is_corrupt(fs.lookup(dir, b"C.TXT")));
            assert!(read(&raw, "B.TXT", 0, 1).is_ok());
        }
    }
}

#[test]
fn a_directory_that_holds_itself_or_its_parent_is_no_endless_tree() {
    let Some(mut raw) = small(32) else { return };
    let (dir, sub) = (raw.entry(b"DIR        "), raw.entry(b"SUB        "));
    for target in [raw.first_cluster(dir), raw.first_cluster(sub), 2] {
        raw.set_first_cluster(sub, target);
        let (fs, volume) = open(&raw);
        walk(&fs, &volume);
        // The same entry is the same inode on every path, so that a kernel sees the circle.
        let again = find(&fs, "DIR/SUB").unwrap();
        if target == raw.first_cluster(dir) {
            assert_eq!(find(&fs, "DIR/SUB/SUB/SUB"), Some(again));
        }
    }
}

#[test]
fn boot_sectors_that_lie_are_refused_or_bounded() {
    let lies: [(usize, &[u8]); 12] = [
        (11, &[0, 0]),
        (11, &[0x01, 0x02]),
        (11, &[0, 0x20]),
        (13, &[0]),
        (13, &[3]),
        (14, &[0, 0]),
        (16, &[0]),
        (19, &[0, 0]),
        (19, &[1, 0]),
        (21, &[0x12]),
        (22, &[0xff, 0xff]),
        (510, &[0, 0]),
    ];
    for (at, bytes) in lies {
        let Some(mut raw) = small(16) else { return };
        raw.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let opened = Fat::open(Patched::new(raw.bytes));
        assert!(is_corrupt(opened), "{at}: {bytes:?}");
    }
    // 65,535 root entries and 255 tables are allowed where the volume is large enough for them.
    for (at, len) in [(16, 1), (17, 2)] {
        let disk = Disk::new(8192, "-F 16 -S 512 -s 1 -r 32");
        let mut bytes = disk.bytes();
        bytes[at..at + len].fill(0xff);
        let volume: Arc<dyn ReadAt> = Patched::new(bytes);
        let fs: Arc<dyn FileSystem> = Arc::new(Fat::open(Arc::clone(&volume)).unwrap());
        walk(&fs, &volume);
    }
    let no_fat: [Vec<u8>; 3] = [vec![0; 4096], vec![0xff; 4096], vec![0; 100]];
    for bytes in no_fat {
        assert!(Fat::open(Patched::new(bytes)).is_err());
    }
}

#[test]
fn the_active_table_is_used_where_tables_are_no_mirrors() {
    let Some(mut raw) = small(32) else { return };
    let sound = read(&raw, "A.TXT", 0, 600).unwrap();
    raw.bytes[40] = 0x81;
    let (start, len) = raw.table();
    raw.bytes[start..start + len].fill(0);
    assert_eq!(read(&raw, "A.TXT", 0, 600).unwrap(), sound);
    raw.bytes[40] = 0x82;
    assert!(is_corrupt(Fat::open(Patched::new(raw.bytes))));
}

#[test]
fn inode_numbers_from_nowhere_are_refused() {
    let Some(raw) = small(16) else { return };
    let (fs, _) = open(&raw);
    let inside = raw.cluster(2) as u64 / 32;
    let label = raw.root() as u64 / 32;
    for number in [0, 2, 16, label - 1, label, inside + 1_000_000, u64::MAX, u64::MAX / 32] {
        let inode = Inode(number);
        assert!(matches!(fs.attr(inode), Err(Error::NoInode { .. })), "{number}");
        assert!(fs.read_dir(inode, 0, &mut |_| true).is_err() && fs.extents(inode, 0..1).is_err());
    }
    for number in inside..inside + 3000 {
        let _ = fs.attr(Inode(number));
        let _ = fs.read_dir(Inode(number), 0, &mut |_| true);
    }
}

#[test]
fn long_names_that_lie_leave_the_short_name() {
    let Some(mut raw) = small(16) else { return };
    let at = raw.cluster(raw.first_cluster(raw.entry(b"DIR        "))) + 64;
    raw.bytes[at..at + 448].fill(0);
    let name: Vec<u16> = "a name of two pieces".encode_utf16().collect();
    let lone: Vec<u16> = [0x61, 0xd83d, 0x62, 0x3a].to_vec();
    let pair: Vec<u16> = "😀".encode_utf16().collect();
    let mut wrong_sum = slots(b"WRONGSUMTXT", &name);
    wrong_sum[13] ^= 1;
    let mut wrong_order = slots(b"ORDER   TXT", &name);
    wrong_order[32] = 3;
    let mut orphan = slots(b"ORPHAN  TXT", &name);
    orphan.truncate(32);
    let mut small_letters = slots(b"SMALL   TXT", &[]);
    small_letters[12] = 0x18;
    let kanji = slots(b"\x05KANJI  TXT", &[]);
    let parts = [
        wrong_sum,
        wrong_order,
        orphan,
        small_letters,
        kanji,
        slots(b"LONE    TXT", &lone),
        slots(b"PAIR    TXT", &pair),
    ];
    let content = parts.concat();
    raw.bytes[at..at + content.len().min(448)].copy_from_slice(&content[..content.len().min(448)]);
    assert!(content.len() <= 448, "{}", content.len());
    let (fs, _) = open(&raw);
    let dir = find(&fs, "DIR").unwrap();
    let names: Vec<String> = files::names_of(&fs, dir)
        .into_iter()
        .map(|(name, _)| String::from_utf8(name).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "WRONGSUM.TXT",
            "ORDER.TXT",
            "small.txt",
            "σKANJI.TXT",
            "a:d83db:003a",
            "😀"
        ]
    );
    for (name, same) in [
        ("LONE.TXT", "a:d83db:003a"),
        ("pair.txt", "😀"),
        ("SMALL.TXT", "small.txt"),
        ("A:D83DB:003A", "lone.txt"),
    ] {
        let found = fs.lookup(dir, name.as_bytes()).unwrap();
        assert!(
            found.is_some() && found == fs.lookup(dir, same.as_bytes()).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn entries_without_a_name_that_can_be_shown_are_listed_as_lost() {
    let Some(mut raw) = small(16) else { return };
    let at = raw.cluster(raw.first_cluster(raw.entry(b"DIR        "))) + 64;
    raw.bytes[at..at + 448].fill(0);
    let content = [
        b".\0         ",
        b"..      \0  ",
        b"           ",
        b".          ",
        b"..         ",
    ]
    .map(|name| slots(name, &[]));
    raw.bytes[at..at + 160].copy_from_slice(&content.concat());
    let (fs, _) = open(&raw);
    let dir = find(&fs, "DIR").unwrap();
    let names: Vec<_> = files::names_of(&fs, dir).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [b":lost-2", b":lost-3", b":lost-4"]);
    assert!(fs.lookup(dir, b".").unwrap().is_none() && fs.lookup(dir, b":lost-3").unwrap().is_some());
}

#[test]
fn attributes_are_those_that_linux_gives() {
    let Some(mut raw) = small(16) else { return };
    let (entry, dir) = (raw.entry(b"A       TXT"), raw.entry(b"DIR        "));
    raw.bytes[entry + 11] |= 0x01 | 0x02 | 0x04;
    raw.bytes[dir + 11] |= 0x01;
    // Created 1999-12-31 23:59:58 and 1.99 s, read on 2000-02-29.
    raw.bytes[entry + 13] = 199;
    raw.bytes[entry + 14..entry + 20].copy_from_slice(&[0x7d, 0xbf, 0x9f, 0x27, 0x5d, 0x28]);
    let (fs, _) = open(&raw);
    let attr = fs.attr(find(&fs, "a.txt").unwrap()).unwrap();
    assert_eq!((attr.permissions, attr.links, attr.uid, attr.gid), (0o555, 1, 0, 0));
    assert_eq!(attr.blocks, attr.size.div_ceil(512));
    let created = attr.created.unwrap();
    assert_eq!((created.seconds, created.nanos), (946_684_799, 990_000_000));
    assert_eq!(attr.accessed.seconds, 951_782_400);
    assert_eq!(
        (attr.modified.seconds, attr.changed),
        (i64::try_from(TIMES[2]).unwrap(), attr.modified)
    );
    let of = |path: &str| fs.attr(find(&fs, path).unwrap()).unwrap();
    assert_eq!(
        (of("DIR").permissions, of("DIR").links, of("DIR/SUB").links),
        (0o755, 3, 2)
    );
    assert_eq!((of("DIR").size % 512, fs.attr(fs.root()).unwrap().links), (0, 3));
    assert_eq!((of("EMPTY.TXT").size, of("EMPTY.TXT").blocks), (0, 0));
    let file = find(&fs, "A.TXT").unwrap();
    assert!(matches!(fs.read_link(file), Err(Error::WrongType { .. })) && fs.xattrs(file).unwrap().is_empty());
    assert!(matches!(
        fs.extents(find(&fs, "DIR").unwrap(), 0..1),
        Err(Error::WrongType { .. })
    ));
    assert!(matches!(fs.lookup(file, b"x"), Err(Error::WrongType { .. })));
}

#[test]
fn the_volume_tells_its_label_its_size_and_its_free_space() {
    for width in [12, 16, 32] {
        let Some(mut raw) = small(width) else { return };
        let said = |raw: &Raw| Fat::open(Patched::new(raw.bytes.clone())).unwrap();
        assert_eq!(said(&raw).label().unwrap().as_deref(), Some("VOLUME"));
        let summary = said(&raw).summary();
        assert_eq!(summary.size, raw.bytes.len() as u64);
        assert_eq!(summary.notes.is_empty(), width != 32, "{:?}", summary.notes);
        raw.link(1, 0x03ff_3fff);
        let failed = said(&raw).summary().notes.join(" ").contains("has failed");
        assert_eq!(failed, width != 12);
        raw.link(1, 0x0fff_ffff);
        raw.bytes[if width == 32 { 65 } else { 37 }] |= 1;
        raw.bytes.truncate(200 << 10);
        let notes = said(&raw).summary().notes.join(" ");
        let told = ["in use", "only the first", "has failed"].map(|words| notes.contains(words));
        assert_eq!(told, [true, true, false], "{notes}");
    }
    let disk = Disk::new(4096, "-F 16 -S 512 -s 1");
    let told: String = mtools(&disk.image(), &["mdir", "::/"], &[])
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let free = disk.open().summary().free.to_string();
    assert!(told.ends_with(&free), "{told}: {free}");
}
