//! exFAT images that lie: each lie costs what it is about, and nothing else; and ten thousand random lies.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use vaultfs::fs::content::Content;
use vaultfs::fs::exfat::Exfat;
use vaultfs::fs::{Error, FileSystem, Inode, Result};
use vaultfs::image::ReadAt;

use crate::builder::{Builder, Layout, Node, What, seal, seal_boot};
use crate::common::Random;
use crate::files;
use crate::hostile::{Patched, walk};

/// A small image with a little of everything.
fn small() -> Option<Builder> {
    let dir = tempfile::tempdir().unwrap();
    let image = crate::mkfs(dir.path(), 4, "-c 512")?;
    let mut random = Random::quiet(7);
    let mut builder = Builder::new(fs::read(image).unwrap());
    let mut half = Node::file("half of it is valid", &[]);
    half.what = What::File(random.bytes(3000), 1000);
    let files = |random: &mut Random, layout| {
        let names = (0..8).map(|number| format!("{}number {number}", "a long name ".repeat(number % 3)));
        let nodes = names.map(|name| Node::file(&name, &random.bytes(700)).with(layout));
        nodes.collect::<Vec<_>>()
    };
    // In the root directory no set crosses the end of a cluster, so that tests can change it in place.
    builder.write(&[
        Node::file("plain", &random.bytes(2000)),
        Node::file("chained", &random.bytes(2000)).with(Layout::Scattered),
        half,
        Node::directory("one", files(&mut random, Layout::Contiguous)),
        Node::directory("two", files(&mut random, Layout::Scattered)).with(Layout::Scattered),
        Node::file("empty", &[]),
    ]);
    Some(builder)
}

fn open(bytes: &[u8]) -> Result<(Arc<dyn FileSystem>, Arc<dyn ReadAt>)> {
    let volume: Arc<dyn ReadAt> = Patched::new(bytes.to_vec());
    Ok((Arc::new(Exfat::open(Arc::clone(&volume))?), volume))
}

fn find(fs: &Arc<dyn FileSystem>, name: &str) -> Option<Inode> {
    fs.lookup(fs.root(), name.as_bytes()).unwrap()
}

fn read(bytes: &[u8], name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
    let (fs, volume) = open(bytes)?;
    let inode = find(&fs, name).unwrap();
    let mut buf = vec![0; len];
    Content::open(fs, volume, inode)?.read(at, &mut buf)?;
    Ok(buf)
}

fn is_corrupt<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Corrupt { .. }))
}

/// Changes the entry set of a file and makes its checksum right again.
fn change(builder: &mut Builder, name: &str, at: usize, bytes: &[u8]) {
    let entry = builder.find(name);
    let len = (1 + usize::from(builder.bytes[entry + 1])) * 32;
    builder.bytes[entry + at..entry + at + bytes.len()].copy_from_slice(bytes);
    seal(&mut builder.bytes[entry..entry + len]);
}

#[test]
fn every_damaged_exfat_image_is_survived() {
    let Some(builder) = small() else { return };
    let (table, heap) = (builder.table, builder.heap);
    let directories = heap..heap + 120 * 512;
    // Sound and damaged checksums alike: half of the mutations of entry sets are sealed again.
    for is_sealed in [false, true] {
        let (mut random, began) = (Random::new(200 + u64::from(is_sealed)), Instant::now());
        let mut metadata = vec![table..table + 1024, directories.clone(), directories.clone()];
        if !is_sealed {
            metadata.push(0..512 * 24);
        }
        let patched = Patched::new(builder.bytes.clone());
        let volume: Arc<dyn ReadAt> = patched.clone();
        let (mut errors, mut refused) = (0, 0);
        for _ in 0..10_000 {
            let undo = patched.mutate(&mut random, &metadata);
            // What undoes a change can make one, too.
            let unseal = if is_sealed {
                seals(&patched, heap..heap + 120 * 512)
            } else {
                Vec::new()
            };
            match Exfat::open(Arc::clone(&volume)) {
                Ok(fs) => {
                    let fs: Arc<dyn FileSystem> = Arc::new(fs);
                    errors += walk(&fs, &volume);
                }
                Err(_) => refused += 1,
            }
            patched.undo(unseal);
            patched.undo(undo);
        }
        eprintln!(
            "exFAT: 10,000 mutations in {:?}, {refused} refused, {errors} errors",
            began.elapsed()
        );
        assert!(errors > 1000 && refused < 6000);
    }
}

/// Makes the checksum right of every entry set that lies as one within `range`; gives what undoes that.
fn seals(patched: &Patched, range: Range<usize>) -> Vec<(usize, u8)> {
    let mut bytes = vec![0; range.len()];
    patched.read_at(range.start as u64, &mut bytes).unwrap();
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for at in (0..bytes.len()).step_by(32) {
        let end = at + (1 + usize::from(bytes[at + 1])) * 32;
        if bytes[at] == 0x85 && end <= bytes.len() {
            let place = range.start + at;
            old.extend([(place + 2, bytes[at + 2]), (place + 3, bytes[at + 3])]);
            seal(&mut bytes[at..end]);
            new.extend([(place + 2, bytes[at + 2]), (place + 3, bytes[at + 3])]);
        }
    }
    patched.undo(new);
    old
}

#[test]
fn a_damaged_main_boot_region_is_replaced_by_the_backup() {
    let Some(builder) = small() else { return };
    let sound = read(&builder.bytes, "plain", 0, 2000).unwrap();
    let damages: [(usize, usize, u8); 4] = [(100, 1, 0x55), (512, 512, 0x55), (0, 512, 0), (108, 1, 200)];
    for (at, len, value) in damages {
        let mut bytes = builder.bytes.clone();
        bytes[at..at + len].fill(value);
        assert_eq!(read(&bytes, "plain", 0, 2000).unwrap(), sound, "{at}");
        let (fs, _) = open(&bytes).unwrap();
        assert!(fs.summary().notes[0].contains("backup"));
        bytes[12 * 512 + 200] ^= 1;
        assert!(open(&bytes).is_err());
    }
    // Another file system that left the backup of a former exFAT in place.
    let mut bytes = builder.bytes.clone();
    bytes[3..11].copy_from_slice(b"NTFS    ");
    assert!(is_corrupt(open(&bytes)));
}

#[test]
fn boot_regions_that_lie_with_a_right_checksum_are_refused() {
    let lies: [(usize, &[u8]); 12] = [
        (11, &[1]),
        (80, &[0; 4]),
        (84, &[0; 4]),
        (84, &[0xff; 4]),
        (88, &[1, 0, 0, 0]),
        (92, &[0; 4]),
        (92, &[0xff; 4]),
        (109, &[17]),
        (109, &[255]),
        (110, &[0]),
        (110, &[3]),
        (510, &[0, 0]),
    ];
    let Some(builder) = small() else { return };
    for (at, lie) in lies {
        let mut bytes = builder.bytes.clone();
        for region in [0, 12 * 512] {
            bytes[region + at..region + at + lie.len()].copy_from_slice(lie);
            seal_boot(&mut bytes[region..region + 12 * 512]);
        }
        assert!(is_corrupt(open(&bytes)), "{at}: {lie:?}");
    }
    let mut bytes = builder.bytes.clone();
    bytes[105] = 2;
    seal_boot(&mut bytes[..12 * 512]);
    assert!(matches!(open(&bytes), Err(Error::Unsupported { .. })));
}

#[test]
fn a_wrong_checksum_costs_its_file_only() {
    let Some(mut builder) = small() else { return };
    let entry = builder.find("plain");
    builder.bytes[entry + 56] ^= 1;
    let (fs, volume) = open(&builder.bytes).unwrap();
    let names = files::names_of(&fs, fs.root()).len();
    assert_eq!(names, 6);
    assert!(is_corrupt(fs.attr(find(&fs, "plain").unwrap())));
    assert_eq!(walk(&fs, &volume), 1);
    // A set of which only the first entry is left is still told.
    builder.bytes[entry + 32] = 0x40;
    let (fs, _) = open(&builder.bytes).unwrap();
    assert_eq!(files::names_of(&fs, fs.root()).len(), names);
}

#[test]
fn lengths_and_clusters_that_lie_cost_their_file_only() {
    let lies: [(usize, &[u8]); 6] = [
        (56, &[0xff; 8]),
        (52, &[0xff; 4]),
        (52, &[0; 4]),
        (52, &[1, 0, 0, 0]),
        (52, &[0, 0xff, 0, 0]),
        (4, &[0x10]),
    ];
    for name in ["plain", "chained", "two"] {
        for (at, lie) in lies.iter().filter(|(at, _)| *at != 4 || name != "two") {
            let Some(mut builder) = small() else { return };
            change(&mut builder, name, *at, lie);
            let (fs, volume) = open(&builder.bytes).unwrap();
            assert!(walk(&fs, &volume) >= usize::from(*at != 4), "{name}, {at}: {lie:?}");
            assert!(read(&builder.bytes, "half of it is valid", 0, 3000).is_ok());
        }
    }
}

#[test]
fn what_was_never_written_reads_as_zeros() {
    let Some(builder) = small() else { return };
    let content = read(&builder.bytes, "half of it is valid", 0, 3000).unwrap();
    assert!(content[..1000].iter().any(|byte| *byte != 0) && content[1000..].iter().all(|byte| *byte == 0));
    let (fs, volume) = open(&builder.bytes).unwrap();
    let inode = find(&fs, "half of it is valid").unwrap();
    let content = Content::open(fs, volume, inode).unwrap();
    assert_eq!(
        (content.next_hole(0).unwrap(), content.next_data(1000).unwrap()),
        (1000, None)
    );
}

#[test]
fn a_chain_in_a_circle_or_too_short_is_an_error_where_it_breaks() {
    for circle in [true, false] {
        let Some(mut builder) = small() else { return };
        let entry = builder.find("chained");
        let first = u32::from_le_bytes(builder.bytes[entry + 52..entry + 56].try_into().unwrap());
        let sound = read(&builder.bytes, "chained", 0, 1000).unwrap();
        builder.link(first + 2, if circle { first } else { 0 });
        change(&mut builder, "chained", 56, &100_000_u64.to_le_bytes());
        change(&mut builder, "chained", 40, &100_000_u64.to_le_bytes());
        assert_eq!(read(&builder.bytes, "chained", 0, 1000).unwrap(), sound);
        assert!(is_corrupt(read(&builder.bytes, "chained", 50_000, 1)));
    }
}

#[test]
fn a_directory_that_holds_itself_is_no_endless_tree() {
    let Some(mut builder) = small() else { return };
    let entry = builder.find("one");
    let first = builder.bytes[entry + 52..entry + 56].to_vec();
    let at = builder.cluster(u32::from_le_bytes(first.try_into().unwrap()));
    let set = builder.bytes[entry..entry + 96].to_vec();
    // Over the first file, whose set is longer: what is left of it belongs to nothing.
    builder.bytes[at..at + 96].copy_from_slice(&set);
    let (fs, volume) = open(&builder.bytes).unwrap();
    walk(&fs, &volume);
    let one = find(&fs, "one").unwrap();
    let inner = fs.lookup(one, b"one").unwrap().unwrap();
    assert_eq!(fs.lookup(inner, b"ONE").unwrap(), Some(inner));
}

#[test]
fn the_second_table_is_used_where_its_flag_says_so() {
    let Some(mut builder) = small() else { return };
    let sound = read(&builder.bytes, "chained", 0, 2000).unwrap();
    let boot = &builder.bytes;
    let word = |at: usize| u32::from_le_bytes(boot[at..at + 4].try_into().unwrap());
    // The new table goes before the clusters, where mkfs leaves room.
    let need = (word(92) + 2) * 4;
    let sectors = need.div_ceil(512);
    let start = word(80) as usize * 512;
    let second = start + sectors as usize * 512;
    assert!(second + sectors as usize * 512 <= builder.heap);
    builder.bytes.copy_within(start..start + need as usize, second);
    builder.bytes[start..start + need as usize].fill(0);
    builder.bytes[84..88].copy_from_slice(&sectors.to_le_bytes());
    (builder.bytes[110], builder.bytes[106]) = (2, 1);
    seal_boot(&mut builder.bytes[..12 * 512]);
    assert_eq!(read(&builder.bytes, "chained", 0, 2000).unwrap(), sound);
}

#[test]
fn a_damaged_table_of_capitals_leaves_ascii() {
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = crate::mkfs(dir.path(), 8, "-c 4K") else {
        return;
    };
    let mut builder = Builder::new(fs::read(image).unwrap());
    let mut odd = Node::file("x", b"");
    odd.name = vec![0xd83d, 0x3a];
    builder.write(&[Node::file("Größe", b""), odd]);
    let (fs, _) = open(&builder.bytes).unwrap();
    assert!(find(&fs, "GRÖßE").is_some() && find(&fs, ":D83D:003A").is_some() && find(&fs, "GROSSE").is_none());
    assert_eq!(
        Exfat::open(Patched::new(builder.bytes.clone())).unwrap().label(),
        Some("Völume")
    );
    let at = builder.cluster(4);
    let table = (builder.heap..at + 8192)
        .step_by(2)
        .find(|at| builder.bytes[*at..*at + 6] == [0, 0, 1, 0, 2, 0])
        .unwrap();
    builder.bytes[table + 100] ^= 1;
    let (fs, _) = open(&builder.bytes).unwrap();
    assert!(find(&fs, "GRÖßE").is_none() && find(&fs, "gRöSSE").is_none() && find(&fs, "gRößE").is_some());
    assert!(fs.summary().notes[0].contains("capital"));
}

#[test]
fn attributes_are_those_that_linux_gives() {
    let Some(mut builder) = small() else { return };
    change(&mut builder, "plain", 4, &[0x21]);
    // Read two days after 1980 began, in a zone of -1 h.
    change(&mut builder, "plain", 16, &[0, 0, 0x23, 0]);
    change(&mut builder, "plain", 24, &[0xfc]);
    let (fs, _) = open(&builder.bytes).unwrap();
    let of = |name: &str| fs.attr(find(&fs, name).unwrap()).unwrap();
    let plain = of("plain");
    assert_eq!(
        (plain.permissions, plain.links, plain.size, plain.blocks),
        (0o555, 1, 2000, 4)
    );
    assert_eq!(plain.accessed.seconds, 315_532_800 + 2 * 86_400 + 3600);
    assert_eq!((plain.modified.seconds, plain.modified.nanos), (1_795_219_201, 0));
    assert_eq!(
        (
            of("one").permissions,
            of("one").links,
            fs.attr(fs.root()).unwrap().links
        ),
        (0o755, 2, 4)
    );
    let file = find(&fs, "plain").unwrap();
    assert!(matches!(fs.read_link(file), Err(Error::WrongType { .. })) && fs.xattrs(file).unwrap().is_empty());
    assert!(matches!(fs.lookup(file, b"x"), Err(Error::WrongType { .. })));
    for number in [0, 2, 1000, u64::MAX, u64::MAX / 32, file.0 + 1] {
        assert!(matches!(fs.attr(Inode(number)), Err(Error::NoInode { .. })), "{number}");
    }
}
