//! The manifest's layout is fixed: golden bytes, and a second, independent implementation that reads and writes the same.

use vaultfs::vault::map::PageRef;
use vaultfs::vault::{Consistency, Content, Disk, Manifest, ResourceKind, Statistics};
use wincode::{SchemaRead, SchemaWrite};

fn sample() -> Manifest {
    Manifest {
        kind: ResourceKind::Server,
        name: "web-01".to_owned(),
        resource_id: [1; 16],
        point: 1_795_143_600,
        started: 1_795_143_600,
        finished: 1_795_143_700,
        imported: false,
        parent: Some(1_795_140_000),
        consistency: Consistency::Crash,
        content: Content::Disks(vec![Disk {
            name: "vda".to_owned(),
            size: 131_077,
            bootable: true,
            chunk_size: 131_072,
            levels: 0,
            roots: vec![PageRef {
                id: [5; 32],
                pack: [6; 16],
            }],
            statistics: Statistics {
                data: 7,
                new: 6,
                stored: 5,
            },
        }]),
        facts: Some("{}".to_owned()),
        tags: [("env".to_owned(), "prod".to_owned())].into(),
        tool: "vaultfs 0.1.0".to_owned(),
    }
}

/// The bytes of `sample`, once and for all: a change here is a change of the format.
const GOLDEN: &str = "0000000006000000000000007765622d303101010101010101010101010101010101b0b7ff6a00000000b0b7ff6a00000000\
14b8ff6a000000000001a0a9ff6a0000000001000000000000000100000000000000030000000000000076646105000200000000000100000200\
0001000000000000000505050505050505050505050505050505050505050505050505050505050505060606060606060606060606060606060700\
000000000000060000000000000005000000000000000102000000000000007b7d01000000000000000300000000000000656e760400000000\
00000070726f640d000000000000007661756c74667320302e312e30";

#[test]
fn manifest_bytes_are_those_of_the_first_release() {
    assert_eq!(vaultfs::bytes::hex(&sample().encode().unwrap()), GOLDEN);
}

#[derive(SchemaWrite, SchemaRead, Debug, PartialEq)]
enum KindTwin {
    Server,
    Disk,
    Filesystem,
}

#[derive(SchemaWrite, SchemaRead, Debug, PartialEq)]
enum ConsistencyTwin {
    None,
    Crash,
    Application,
}

#[derive(SchemaWrite, SchemaRead, Debug, PartialEq)]
enum ContentTwin {
    Disks(Vec<DiskTwin>),
}

#[derive(SchemaWrite, SchemaRead, Debug, PartialEq)]
struct DiskTwin {
    name: String,
    size: u64,
    bootable: bool,
    chunk_size: u32,
    levels: u8,
    roots: Vec<([u8; 32], [u8; 16])>,
    statistics: (u64, u64, u64),
}

#[derive(SchemaWrite, SchemaRead, Debug, PartialEq)]
struct ManifestTwin {
    kind: KindTwin,
    name: String,
    resource_id: [u8; 16],
    times: (i64, i64, i64),
    imported: bool,
    parent: Option<i64>,
    consistency: ConsistencyTwin,
    content: ContentTwin,
    facts: Option<String>,
    tags: Vec<(String, String)>,
    tool: String,
}

#[test]
fn wincode_reads_and_writes_the_same_manifest() {
    let twin = ManifestTwin {
        kind: KindTwin::Server,
        name: "web-01".to_owned(),
        resource_id: [1; 16],
        times: (1_795_143_600, 1_795_143_600, 1_795_143_700),
        imported: false,
        parent: Some(1_795_140_000),
        consistency: ConsistencyTwin::Crash,
        content: ContentTwin::Disks(vec![DiskTwin {
            name: "vda".to_owned(),
            size: 131_077,
            bootable: true,
            chunk_size: 131_072,
            levels: 0,
            roots: vec![([5; 32], [6; 16])],
            statistics: (7, 6, 5),
        }]),
        facts: Some("{}".to_owned()),
        tags: vec![("env".to_owned(), "prod".to_owned())],
        tool: "vaultfs 0.1.0".to_owned(),
    };
    let bytes = sample().encode().unwrap();
    assert_eq!(wincode::serialize(&twin).unwrap(), bytes);
    assert_eq!(wincode::deserialize::<ManifestTwin>(&bytes).unwrap(), twin);
}
