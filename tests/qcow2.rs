//! The qcow2 reader against images that QEMU writes: same bytes as `qemu-img convert`, same refusals as the format asks.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::as_conversions)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use vaultfs::image::{Error, ReadAt};
use vaultfs::source::{Backing, DiskSource, Format, open};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed by this test (apt-get install qemu-utils): {error}"));
    assert!(
        out.status.success(),
        "{program} {args:?}: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn qemu_io(image: &Path, commands: &[&str]) {
    let mut args = vec!["-f", "qcow2"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(text(image));
    run("qemu-io", &args);
}

fn create(path: &Path, options: &str, size: u64) {
    let size = size.to_string();
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-o", options, text(path), &size],
    );
}

fn qcow2(path: &Path, backing: &[&str]) -> vaultfs::image::Result<Arc<dyn ReadAt>> {
    open(&DiskSource {
        path: path.to_path_buf(),
        format: Format::Qcow2,
        backing: backing.iter().map(|text| Backing::from(OsString::from(text))).collect(),
    })
}

fn converted(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("raw");
    run("qemu-img", &["convert", "-O", "raw", text(path), text(&raw)]);
    std::fs::read(raw).unwrap()
}

fn read_all(disk: &dyn ReadAt, step: usize) -> Vec<u8> {
    let mut all = vec![0xee; usize::try_from(disk.len()).unwrap()];
    let mut offset = 0;
    for part in all.chunks_mut(step) {
        disk.read_at(offset, part).unwrap();
        offset += part.len() as u64;
    }
    all
}

/// Reads the disk in steps of several sizes and at random, compares it with QEMU's answer, and checks the map of holes.
fn assert_same(disk: &dyn ReadAt, expected: &[u8], name: &str) {
    assert_eq!(disk.len(), expected.len() as u64, "{name}");
    for step in [MIB as usize, 128 * KIB as usize, 61_441] {
        assert!(
            read_all(disk, step) == expected,
            "{name}: content differs, read by {step}"
        );
    }
    let mut seed = 0x5eed;
    for _ in 0..2_000 {
        let offset = random(&mut seed) % disk.len();
        let len = (random(&mut seed) % 5_000).min(disk.len() - offset);
        let mut buf = vec![0xee; len as usize];
        disk.read_at(offset, &mut buf).unwrap();
        assert!(
            buf == expected[offset as usize..][..len as usize],
            "{name}: {offset}+{len}"
        );
    }
    assert_holes_are_zero(disk, expected, name);
}

/// Every byte that the map calls a hole is zero, and data and holes alternate to the end.
fn assert_holes_are_zero(disk: &dyn ReadAt, expected: &[u8], name: &str) {
    let mut at = 0;
    while at < disk.len() {
        let data = disk.next_data(at).unwrap().unwrap_or(disk.len());
        let hole = &expected[at as usize..data as usize];
        assert!(hole.iter().all(|byte| *byte == 0), "{name}: {at}..{data}");
        at = disk.next_hole(data).unwrap();
        assert!(at > data || data == disk.len(), "{name}: no progress at {data}");
    }
}

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Patterns at cluster edges, inside clusters, zeroed again, and at the end.
const PATTERNS: [&str; 7] = [
    "write -P 0x11 0 64k",
    "write -P 0x22 100k 3k",
    "write -P 0x33 1M 1M",
    "write -z 1200k 256k",
    "write -P 0x44 3000k 512",
    "write -P 0x55 8191k 1k",
    "discard 1536k 128k",
];

#[test]
fn every_cluster_size_and_version_reads_as_qemu_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = [
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on",
        "compat=0.10,cluster_size=512",
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=128k",
        "cluster_size=2M",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=2M",
        "preallocation=metadata",
        "refcount_bits=1",
    ];
    for option in options {
        let path = dir.path().join("disk.qcow2");
        create(&path, option, 8 * MIB);
        qemu_io(&path, &PATTERNS);
        assert_same(&*qcow2(&path, &[]).unwrap(), &converted(&path), option);
    }
}

#[test]
fn sizes_that_are_no_multiple_of_a_cluster_read_to_their_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    for (option, size) in [
        ("cluster_size=64k", 1_000_448),
        ("cluster_size=2M", 512),
        ("extended_l2=on", 70_144),
    ] {
        let path = dir.path().join("odd.qcow2");
        create(&path, option, size);
        let last = format!("write -P 9 {} 512", size - 512);
        qemu_io(&path, &["write -P 7 0 512", &last]);
        assert_same(&*qcow2(&path, &[]).unwrap(), &converted(&path), option);
    }
}

/// A raw disk with compressible text, random bytes and holes.
fn mixed_disk() -> Vec<u8> {
    let mut disk = vec![0; 12 * MIB as usize];
    let mut seed = 7;
    for (number, chunk) in disk.chunks_mut(96 * 1024).enumerate() {
        match number % 4 {
            0 => chunk.iter_mut().for_each(|byte| *byte = random(&mut seed) as u8),
            1 => chunk
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = (i / 97) as u8),
            2 => chunk[5] = 1,
            _ => {}
        }
    }
    disk
}

#[test]
fn compressed_images_read_as_their_source() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("source.img");
    let expected = mixed_disk();
    std::fs::write(&raw, &expected).unwrap();
    let options = [
        "compression_type=zlib",
        "compression_type=zstd",
        "compression_type=zlib,cluster_size=4k",
        "compression_type=zstd,cluster_size=2M",
        "compression_type=zstd,extended_l2=on",
        "compat=0.10",
    ];
    for option in options {
        let path = dir.path().join("disk.qcow2");
        run(
            "qemu-img",
            &["convert", "-c", "-O", "qcow2", "-o", option, text(&raw), text(&path)],
        );
        assert_same(&*qcow2(&path, &[]).unwrap(), &expected, option);
    }
}

struct Chain {
    top: PathBuf,
    middle: String,
    base: String,
}

fn base(path: &Path, format: Format) {
    if format == Format::Raw {
        let pattern = |i: u64| {
            if (i / (640 * KIB)).is_multiple_of(2) {
                (i / 512) as u8
            } else {
                0
            }
        };
        std::fs::write(path, (0..5 * MIB).map(pattern).collect::<Vec<u8>>()).unwrap();
    } else {
        create(path, "cluster_size=4k", 5 * MIB);
        qemu_io(path, &["write -P 0xb0 0 2M", "write -P 0xb1 4M 1M"]);
    }
}

/// base (raw or qcow2, 5 MiB) <- middle (6 MiB) <- top (8 MiB).
fn chain(dir: &Path, base_format: Format, option: &str) -> Chain {
    let (bottom, middle, top) = (dir.join("base.img"), dir.join("middle.qcow2"), dir.join("top.qcow2"));
    base(&bottom, base_format);
    let over = |path: &Path, below: &Path, format: Format, size: u64| {
        let (format, size) = (format.to_string(), size.to_string());
        let mut args = vec!["create", "-q", "-f", "qcow2", "-o", option, "-b", text(below)];
        args.extend(["-F", &format, text(path), &size]);
        run("qemu-img", &args);
    };
    over(&middle, &bottom, base_format, 6 * MIB);
    qemu_io(
        &middle,
        &["write -P 0xc0 1M 300k", "write -z 4M 64k", "write -P 0xc1 5500k 4k"],
    );
    over(&top, &middle, Format::Qcow2, 8 * MIB);
    qemu_io(
        &top,
        &["write -P 0xd0 1100k 5k", "write -z 512k 200k", "write -P 0xd1 7M 1k"],
    );
    Chain {
        middle: text(&middle).into(),
        base: text(&bottom).into(),
        top,
    }
}

#[test]
fn a_chain_named_by_the_user_reads_as_qemu_reads_it() {
    for (format, option) in [
        (Format::Raw, "cluster_size=64k"),
        (Format::Qcow2, "extended_l2=on"),
        (Format::Raw, "cluster_size=512"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let chain = chain(dir.path(), format, option);
        let base = match format {
            Format::Raw => format!("raw:{}", chain.base),
            Format::Qcow2 => chain.base.clone(),
        };
        let disk = qcow2(&chain.top, &[&chain.middle, &base]).unwrap();
        assert_same(&*disk, &converted(&chain.top), option);
    }
}

fn refusal(result: vaultfs::image::Result<Arc<dyn ReadAt>>) -> String {
    match result {
        Ok(_) => panic!("opened"),
        Err(error @ Error::Unsupported { .. }) => error.to_string(),
        Err(other) => panic!("not refused as unsupported: {other}"),
    }
}

#[test]
fn a_chain_that_is_not_the_one_of_the_headers_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(dir.path(), Format::Raw, "cluster_size=64k");
    let raw_base = format!("raw:{}", chain.base);
    let cases: [(&[&str], &str); 4] = [
        (&[], "this qcow2 has a backing file"),
        (&[&chain.middle], "name it with --backing PATH"),
        (&[&chain.middle, &chain.base], "--backing raw:PATH"),
        (&[&chain.middle, &raw_base, &chain.base], "drop that --backing"),
    ];
    for (backing, part) in cases {
        let said = refusal(qcow2(&chain.top, backing));
        assert!(said.contains(part), "{backing:?}: {said}");
    }
    let alone = dir.path().join("alone.qcow2");
    create(&alone, "cluster_size=64k", MIB);
    assert!(refusal(qcow2(&alone, &[&raw_base])).contains("this qcow2 has none"));
}

#[test]
fn unallocated_and_zero_clusters_are_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse.qcow2");
    create(&path, "cluster_size=64k", 1 << 40);
    qemu_io(
        &path,
        &["write -P 1 512G 64k", "write -P 1 600G 64k", "write -z 600G 64k"],
    );
    let disk = qcow2(&path, &[]).unwrap();
    assert_eq!(disk.next_data(0).unwrap(), Some(512 << 30));
    assert_eq!(disk.next_hole(512 << 30).unwrap(), (512 << 30) + 65_536);
    assert_eq!(disk.next_data((512 << 30) + 65_536).unwrap(), None);
    assert_eq!(disk.next_hole(5).unwrap(), 5);
}

#[test]
fn an_image_cut_short_is_corrupt_never_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.qcow2");
    create(&path, "cluster_size=64k", 4 * MIB);
    qemu_io(&path, &["write -P 1 0 4M"]);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 512).unwrap();
    let disk = qcow2(&path, &[]).unwrap();
    let mut buf = vec![0; 65_536];
    let failed = (0..64)
        .filter(|n| match disk.read_at(n * 65_536, &mut buf) {
            Ok(()) => false,
            Err(Error::Corrupt { .. }) => true,
            Err(other) => panic!("{other}"),
        })
        .count();
    assert_eq!(failed, 1, "only the cut cluster fails");
}

#[test]
fn encryption_and_external_data_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("luks.qcow2");
    let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let mut args = vec!["create", "-q", "--object", "secret,id=s,data=x", "-f", "qcow2"];
    args.extend(["-o", luks, text(&path), "1M"]);
    run("qemu-img", &args);
    assert!(refusal(qcow2(&path, &[])).contains("encrypted"));

    let path = dir.path().join("meta.qcow2");
    create(&path, &format!("data_file={}", text(&dir.path().join("data.img"))), MIB);
    assert!(refusal(qcow2(&path, &[])).contains("external data file"));
}

#[test]
fn snapshots_do_not_change_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snap.qcow2");
    create(&path, "cluster_size=64k", 4 * MIB);
    qemu_io(&path, &["write -P 1 0 1M"]);
    run("qemu-img", &["snapshot", "-c", "before", text(&path)]);
    qemu_io(&path, &["write -P 2 512k 1M"]);
    assert_same(&*qcow2(&path, &[]).unwrap(), &converted(&path), "snapshot");
}

#[test]
fn a_raw_disk_that_begins_like_qcow2_is_read_as_raw() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    create(&path, "cluster_size=64k", MIB);
    let disk = open(&DiskSource {
        path: path.clone(),
        ..DiskSource::default()
    })
    .unwrap();
    assert!(read_all(&*disk, 65_536) == std::fs::read(&path).unwrap());
}
