//! The manifest's layout is fixed: golden bytes, and a second, independent implementation that reads and writes the same.

use vaultfs::vault::manifest::{Problem, Tree, TreeStatistics};
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

fn tree_sample() -> Manifest {
    let statistics = TreeStatistics {
        files: 10,
        directories: 11,
        others: 12,
        logical: 16,
        data: 15,
        new: 14,
        stored: 13,
    };
    let tree = Tree {
        root: PageRef {
            id: [5; 32],
            pack: [6; 16],
        },
        height: 2,
        items: 99,
        root_inode: 128,
        source: b"/srv/\xff".to_vec(),
        statistics,
        unread: 2,
        problems: vec![Problem {
            path: b"a/b".to_vec(),
            why: "it vanished".to_owned(),
        }],
    };
    Manifest {
        kind: ResourceKind::Filesystem,
        name: "home".to_owned(),
        content: Content::Tree(tree),
        ..sample()
    }
}

/// The bytes of `tree_sample`, likewise.
const TREE_GOLDEN: &str = "020000000400000000000000686f6d6501010101010101010101010101010101b0b7ff6a00000000b0b7ff6a0000000014b8ff6a000000000001\
a0a9ff6a000000000100000001000000050505050505050505050505050505050505050505050505050505050505050506060606060606060606\
060606060606026300000000000000800000000000000006000000000000002f7372762fff0a000000000000000b000000000000000c00000000\
00000010000000000000000f000000000000000e000000000000000d000000000000000200000000000000010000000000000003000000000000\
00612f620b0000000000000069742076616e69736865640102000000000000007b7d01000000000000000300000000000000656e760400000000\
00000070726f640d000000000000007661756c74667320302e312e30";

#[test]
fn manifest_bytes_of_file_systems_are_those_of_the_first_release() {
    let manifest = tree_sample();
    assert_eq!(manifest.check(), Ok(()));
    assert_eq!(vaultfs::bytes::hex(&manifest.encode().unwrap()), TREE_GOLDEN);
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
    Tree(TreeTwin),
}

#[derive(SchemaWrite, SchemaRead, Debug, PartialEq)]
struct TreeTwin {
    root: ([u8; 32], [u8; 16]),
    height: u8,
    items: u64,
    root_inode: u64,
    source: Vec<u8>,
    files: (u64, u64, u64),
    sizes: (u64, u64, u64, u64),
    unread: u64,
    problems: Vec<(Vec<u8>, String)>,
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

fn twin() -> ManifestTwin {
    ManifestTwin {
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
    }
}

fn tree_twin() -> ManifestTwin {
    ManifestTwin {
        kind: KindTwin::Filesystem,
        name: "home".to_owned(),
        content: ContentTwin::Tree(TreeTwin {
            root: ([5; 32], [6; 16]),
            height: 2,
            items: 99,
            root_inode: 128,
            source: b"/srv/\xff".to_vec(),
            files: (10, 11, 12),
            sizes: (16, 15, 14, 13),
            unread: 2,
            problems: vec![(b"a/b".to_vec(), "it vanished".to_owned())],
        }),
        ..twin()
    }
}

#[test]
fn wincode_reads_and_writes_the_same_manifest() {
    for (manifest, twin) in [(sample(), twin()), (tree_sample(), tree_twin())] {
        let bytes = manifest.encode().unwrap();
        assert_eq!(wincode::serialize(&twin).unwrap(), bytes);
        assert_eq!(wincode::deserialize::<ManifestTwin>(&bytes).unwrap(), twin);
    }
}
