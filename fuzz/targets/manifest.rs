//! A manifest that decodes is the canonical encoding of what it decodes to, and lies within every limit; all else is refused.

use vaultfs::vault::manifest::{Consistency, Content, Disk, Manifest, Statistics};
use vaultfs::vault::map::PageRef;
use vaultfs::vault::name::{Address, ResourceKind};

/// Decodes the payload of a manifest stored under the addresses of those in the corpus.
pub fn run(data: &[u8]) {
    for address in [
        "servers/web-01/2026-11-20T03-00-00Z",
        "filesystems/home/2026-11-20T03-00-00Z",
    ] {
        let address: Address = address.parse().expect("an address");
        if let Ok(manifest) = Manifest::decode(data, &address) {
            assert_eq!(manifest.encode().expect("what was decoded encodes"), data);
            assert_eq!(manifest.check(), Ok(()));
            let _ = manifest.to_json();
        }
    }
}

/// A manifest with every member filled in.
pub fn seed() -> Vec<u8> {
    let disk = Disk {
        name: "vda".to_owned(),
        size: (1 << 17) + 5,
        bootable: true,
        chunk_size: 1 << 17,
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
    };
    let manifest = Manifest {
        kind: ResourceKind::Server,
        name: "web-01".to_owned(),
        resource_id: [1; 16],
        point: 1_795_143_600,
        started: 1_795_143_600,
        finished: 1_795_143_700,
        imported: false,
        parent: Some(1_795_140_000),
        consistency: Consistency::Crash,
        content: Content::Disks(vec![disk]),
        facts: Some("{}".to_owned()),
        tags: [("env".to_owned(), "prod".to_owned())].into(),
        tool: "vaultfs".to_owned(),
    };
    manifest.encode().expect("a manifest within the limits")
}
