//! Headers, sound and hostile, as tables.

use super::*;

/// A sound version 3 header for a disk of 1 GiB with clusters of 64 KiB.
fn sound() -> Vec<u8> {
    let mut head = vec![0; 65536];
    head[..4].copy_from_slice(&MAGIC);
    put32(&mut head, 4, 3);
    put32(&mut head, 20, 16);
    put64(&mut head, 24, 1 << 30);
    put32(&mut head, 36, 2);
    put64(&mut head, 40, 0x3_0000);
    put64(&mut head, 48, 0x1_0000);
    put32(&mut head, 56, 1);
    put32(&mut head, 96, 4);
    put32(&mut head, 100, 112);
    head
}

fn put32(head: &mut [u8], at: usize, value: u32) {
    head[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(head: &mut [u8], at: usize, value: u64) {
    head[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

type Change = fn(&mut Vec<u8>);

fn refused(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut head = sound();
    change(&mut head);
    Header::decode(&head).expect_err("refused").to_string()
}

#[test]
fn sound_headers_decode() {
    let header = Header::decode(&sound()).unwrap();
    assert_eq!(
        (header.size, header.l1_offset, header.l1_entries()),
        (1 << 30, 0x3_0000, 2)
    );
    assert_eq!(header.geometry.l2_kind, L2Kind::Standard);
    let mut version2 = sound();
    put32(&mut version2, 4, 2);
    version2[72..112].fill(0);
    assert_eq!(
        Header::decode(&version2).unwrap().geometry.l2_kind,
        L2Kind::WithoutZeroFlag
    );
    let mut lazy = sound();
    put64(&mut lazy, 72, DIRTY);
    assert!(Header::decode(&lazy).is_ok(), "a dirty image is readable");
}

#[test]
fn hostile_headers_are_refused_with_the_field() {
    let cases: [(&str, Change); 16] = [
        ("magic", |h| h[0] = 0),
        ("version 1", |h| put32(h, 4, 1)),
        ("version 4", |h| put32(h, 4, 4)),
        ("cluster size (2^8)", |h| put32(h, 20, 8)),
        ("cluster size (2^22)", |h| put32(h, 20, 22)),
        ("cluster size (2^4294967295)", |h| put32(h, 20, u32::MAX)),
        ("first-level table (1 entries", |h| put32(h, 36, 1)),
        ("first-level table", |h| put32(h, 36, u32::MAX)),
        ("first-level table", |h| put64(h, 24, u64::MAX)),
        ("place of the first-level table", |h| put64(h, 40, 0x3_0200)),
        ("encrypted", |h| put32(h, 32, 2)),
        ("header length (96)", |h| put32(h, 100, 96)),
        ("header length (4294967288)", |h| put32(h, 100, u32::MAX - 7)),
        ("qemu-img check -r all", |h| put64(h, 72, CORRUPT)),
        ("external data file", |h| put64(h, 72, EXTERNAL_DATA)),
        ("unknown incompatible features 0x20", |h| put64(h, 72, 1 << 5)),
    ];
    for (part, change) in cases {
        let text = refused(change);
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[test]
fn compression_type_and_its_bit_agree_or_are_refused() {
    assert!(refused(|h| h[104] = 1).contains("compression type"));
    assert!(refused(|h| put64(h, 72, COMPRESSION_TYPE)).contains("compression type"));
    assert!(
        refused(|h| {
            h[104] = 9;
            put64(h, 72, COMPRESSION_TYPE);
        })
        .contains("compression type 9")
    );
    let mut zstd = sound();
    zstd[104] = 1;
    put64(&mut zstd, 72, COMPRESSION_TYPE);
    assert_eq!(Header::decode(&zstd).unwrap().compression, Compression::Zstd);
}

#[test]
fn subclusters_need_clusters_of_16_kib() {
    let small = refused(|h| {
        put64(h, 72, EXTENDED_L2);
        put32(h, 20, 12);
        put32(h, 36, 4 << 20);
    });
    assert!(small.contains("subclusters"), "{small}");
}

#[test]
fn backing_names_and_extensions_are_bounded() {
    let named = |h: &mut Vec<u8>, offset: u64, len: u32| {
        put64(h, 8, offset);
        put32(h, 16, len);
    };
    let cases: [(&str, u64, u32); 5] = [
        ("backing file", 65_530, 10),
        ("backing file", 512, 0),
        ("backing file", 512, 1024),
        ("cut short", u64::MAX, 1),
        ("cut short", 4, 1),
    ];
    for (part, offset, len) in cases {
        let text = refused(|h| named(h, offset, len));
        assert!(text.contains(part), "{offset} {len}: {text:?}");
    }
    let extension = refused(|h| {
        put32(h, 112, 0x1234);
        put32(h, 116, u32::MAX);
    });
    assert!(
        extension.contains("header extension is corrupt at byte 112"),
        "{extension}"
    );
    assert!(refused(|h| put32(h, 112, EXT_DATA_FILE)).contains("external data file"));

    let mut head = sound();
    put32(&mut head, 112, EXT_BACKING_FORMAT);
    put32(&mut head, 116, 3);
    head[120..123].copy_from_slice(b"raw");
    head[512..521].copy_from_slice(b"/etc/pass");
    named(&mut head, 512, 9);
    let backing = Header::decode(&head).unwrap().backing.unwrap();
    assert_eq!(
        (backing.name.as_str(), backing.format.as_deref()),
        ("/etc/pass", Some("raw"))
    );
}

#[test]
fn a_header_cut_anywhere_is_refused() {
    for len in 0..112 {
        assert!(Header::decode(&sound()[..len]).is_err(), "{len}");
    }
}
