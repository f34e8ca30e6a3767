//! Vaults of every released format, kept as files: each version of the program reads all of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::clock::Fake;
use common::stored::walk;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use vaultfs::chunk::Reader;
use vaultfs::clock::Clock;
use vaultfs::fs::stored::Stored;
use vaultfs::fs::{FileSystem, FileType};
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::lease::{self, Kind};
use vaultfs::monitor::Silent;
use vaultfs::prune::{self, Mode, Settings};
use vaultfs::store::Store;
use vaultfs::store::local::LocalStore;
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::{Address, Vault};
use vaultfs::verify::{self, Depth, Fate, Invariant, Slice};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What was on the disks when the vault was made: a pattern with a run of zeros, and a second disk with one byte changed.
fn disk(changed: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..200_001u32)
        .map(|at| ((at * 7 + at / 256) % 251).to_le_bytes()[0])
        .collect();
    bytes[70_000..140_000].fill(0);
    if changed {
        bytes[5] = 1;
    }
    bytes
}

#[test]
fn the_vault_of_format_1_reads_as_on_the_day_it_was_made() {
    let vault = Vault::open(Arc::new(LocalStore::open(&golden("v1")).unwrap())).unwrap();
    assert_eq!(
        (vault.config().name.as_str(), vault.config().chunk_size),
        ("golden", 65_536)
    );
    let reader = Reader::new(vault.clone(), 8 << 20);
    let cases = [
        ("servers/web-01/2026-11-20T03-00-00Z", "vda", disk(false)),
        ("servers/web-01/2026-11-20T03-00-00Z", "vdb", disk(true)),
        ("disks/db/2026-11-20T04-00-00Z", "disk", disk(true)),
    ];
    assert_eq!(vault.catalogue().unwrap().len(), 2);
    for (address, name, expected) in cases {
        let address: Address = address.parse().unwrap();
        let manifest = vault.load(&address).unwrap();
        let image = DiskImage::open(&reader, &address, manifest.disk(name).unwrap());
        let mut bytes = vec![0xee; expected.len()];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes == expected, "{address} {name}");
    }
    let server = vault
        .load(&"servers/web-01/2026-11-20T03-00-00Z".parse().unwrap())
        .unwrap();
    let json = server.to_json();
    assert_eq!(
        (&json["tags"]["tier"], &json["facts"]["flavor"]),
        (&"gold".into(), &"small".into())
    );
}

/// A copy of the vault with every kind of object, in memory: whoever writes to it leaves the files as they are.
///
/// The program of its day made it on a machine called `golden` from `old`, `vda` and `vdb` (of [`disk`]) and a
/// directory `home`:
///
/// ```text
/// vaultfs init vault --name golden-all --chunk-size 64KiB --tag site=here
/// vaultfs backup vault server old --disk vda=old --at 2026-11-20T01-00-00Z
/// vaultfs backup vault server web-01 --disk vda=vda --at 2026-11-20T03-00-00Z
/// vaultfs backup vault disk db vdb --at 2026-11-20T04-00-00Z
/// vaultfs backup vault filesystem home home --at 2026-11-20T05-00-00Z
/// vaultfs delete vault servers/old/2026-11-20T01-00-00Z
/// vaultfs pin vault disks/db/latest --reason 'before the upgrade' --until 2036-01-01T00-00-00Z
/// vaultfs pin vault servers/web-01/latest --reason 'for ever'
/// vaultfs lock vault filesystems/home/latest --until 2035-01-01T00-00-00Z
/// (byte 104 of the pack of web-01 is combined with 4 by exclusive or: its first chunk is damaged)
/// vaultfs verify vault --data
/// vaultfs backup vault server web-01 --disk vda=vda --at 2026-11-21T03-00-00Z
/// vaultfs prune vault --keep-deleted 0
/// vaultfs prune vault --grace 0 --keep-deleted 0     (killed at its first unlink)
/// vaultfs backup vault server next --disk vda=old --after 'cat a-pipe'     (killed before its commit)
/// ```
///
/// Then its reserve, temporary files and empty directories were removed.
fn all_in_memory() -> Arc<MemoryStore> {
    let files = LocalStore::open(&golden("v1-all")).unwrap();
    let copy = MemoryStore::new();
    for key in files.list("").unwrap() {
        copy.put_new(&key, &files.get(&key, 1 << 20).unwrap()).unwrap();
    }
    Arc::new(copy)
}

const WEB: [&str; 2] = [
    "servers/web-01/2026-11-20T03-00-00Z",
    "servers/web-01/2026-11-21T03-00-00Z",
];
const DB: &str = "disks/db/2026-11-20T04-00-00Z";
const HOME: &str = "filesystems/home/2026-11-20T05-00-00Z";
const OLD: &str = "servers/old/2026-11-20T01-00-00Z";

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// Reads every backup that is there, and compares it with what it was made of.
fn assert_backups_are_whole(vault: &Vault) {
    let reader = Reader::new(vault.clone(), 8 << 20);
    for (text, name, expected) in [
        (WEB[0], "vda", disk(false)),
        (WEB[1], "vda", disk(false)),
        (DB, "disk", disk(true)),
    ] {
        let manifest = vault.load(&address(text)).unwrap();
        let image = DiskImage::open(&reader, &address(text), manifest.disk(name).unwrap());
        let mut bytes = vec![0xee; expected.len()];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes == expected, "{text}");
    }
    let manifest = vault.load(&address(HOME)).unwrap();
    let tree: Arc<dyn FileSystem> = Arc::new(Stored::open(&reader, &address(HOME), manifest.tree().unwrap()));
    let (files, failed) = walk(&tree);
    assert_eq!(failed, Vec::<String>::new());
    let long: Vec<u8> = disk(false)[..40_000].to_vec();
    let sparse = [vec![0; 1 << 20], b"end".to_vec()].concat();
    let note = b"small enough for its item\n".to_vec();
    let expected: [(&str, FileType, u16, Vec<u8>); 9] = [
        ("", FileType::Directory, 0o755, Vec::new()),
        ("/again", FileType::File, 0o640, note.clone()),
        ("/docs", FileType::Directory, 0o755, Vec::new()),
        ("/docs/deep", FileType::Directory, 0o755, Vec::new()),
        ("/docs/deep/long", FileType::File, 0o644, long),
        ("/docs/empty", FileType::File, 0o644, Vec::new()),
        ("/link", FileType::Symlink, 0o777, b"docs/deep/long".to_vec()),
        ("/note", FileType::File, 0o640, note),
        ("/sparse", FileType::File, 0o644, sparse),
    ];
    let mut found = files.clone();
    let pipe = found.remove(b"/pipe".as_slice()).unwrap();
    assert_eq!(pipe.attr.file_type, FileType::Fifo);
    assert_eq!(found.len(), expected.len());
    for (path, file_type, permissions, content) in expected {
        let file = &found[path.as_bytes()];
        assert_eq!(
            (file.attr.file_type, file.attr.permissions),
            (file_type, permissions),
            "{path}"
        );
        assert!(file.content == content, "{path}");
        let modified = file.attr.modified;
        assert_eq!(
            (modified.seconds, modified.nanos),
            (1_795_140_000, 123_456_789),
            "{path}"
        );
    }
    let (note, long) = (&files[b"/note".as_slice()], &files[b"/docs/deep/long".as_slice()]);
    assert_eq!((note.attr.links, long.attr.uid, long.attr.gid), (2, 1000, 100));
    assert_eq!(note.xattrs, [(b"user.origin".to_vec(), b"here".to_vec())]);
}

#[test]
fn the_vault_of_every_kind_of_object_reads_as_on_the_day_it_was_made() {
    let store = all_in_memory();
    let mut kinds = BTreeMap::<String, usize>::new();
    for key in store.list("").unwrap() {
        let kind = key.as_str().split('/').next().unwrap().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    let counts = [
        ("backups", 5),
        ("deleted", 1),
        ("index", 6),
        ("leases", 3),
        ("locks", 1),
        ("marks", 1),
        ("meta", 6),
        ("moved", 1),
        ("packs", 6),
        ("pins", 2),
        ("quarantine", 1),
        ("sweeps", 1),
        ("vault", 1),
    ];
    assert_eq!(kinds, counts.map(|(kind, count)| (kind.to_owned(), count)).into());
    let vault = Vault::open(store).unwrap();
    let points = vault.catalogue().unwrap();
    let listed = points
        .iter()
        .flat_map(|(resource, points)| points.iter().map(|point| resource.at(*point).to_string()));
    assert_eq!(listed.collect::<Vec<_>>(), [WEB[0], WEB[1], DB, HOME]);
    assert_backups_are_whole(&vault);
    // What is beside the backups.
    assert_eq!(vault.deleted().unwrap(), [address(OLD)].into());
    let tombstone = vault.tombstone(&address(OLD)).unwrap().unwrap();
    let (now, by) = (tombstone.at, "root@golden".to_owned());
    assert_eq!(tombstone.by, by);
    let protections = vault.protections().unwrap();
    let pin = |text| {
        protections
            .pin(&address(text), now)
            .map(|pin| (pin.reason.as_str(), pin.until, pin.by.as_str()))
    };
    assert_eq!(pin(DB), Some(("before the upgrade", Some(2_082_758_400), by.as_str())));
    assert_eq!(pin(WEB[0]), Some(("for ever", None, by.as_str())));
    assert_eq!(pin(HOME), None);
    let locked = protections.lock(&address(HOME), now).unwrap();
    assert_eq!(locked.to_string(), "2035-01-01T00-00-00Z");
    let marks = vault.marks().unwrap();
    assert_eq!(vault.sweeps().unwrap(), marks);
    let mark = vault.mark(&marks[0]).unwrap();
    assert_eq!(
        (mark.purge, mark.packs.len(), mark.meta_packs.len()),
        (vec![address(OLD)], 1, 1)
    );
    assert_eq!(mark.backups, [WEB[0], WEB[1], DB, HOME].map(address));
    let leases = lease::all(&vault).unwrap();
    let mut held: Vec<(&str, usize)> = leases
        .iter()
        .map(|seen| seen.record.as_ref().unwrap())
        .map(|record| (record.kind.word(), record.seen.len()))
        .collect();
    held.sort_unstable();
    assert_eq!(held, [(Kind::Backup.word(), 1), (Kind::Prune.word(), 0)]);
    let quarantined = vault.quarantined().unwrap();
    let (pack, chunks) = quarantined.packs().next().unwrap();
    assert_eq!((chunks.len(), vault.moved_from(pack).unwrap().len()), (1, 1));
    let record = vault.quarantine(pack, chunks.first().unwrap()).unwrap();
    assert_eq!(
        (record.by.as_str(), record.what.as_str()),
        ("vaultfs 0.1.0 verify", "its bytes are damaged")
    );
}

#[test]
fn the_vault_of_every_kind_of_object_is_verified_and_pruned() {
    let store = all_in_memory();
    let vault = Vault::open(Arc::<MemoryStore>::clone(&store)).unwrap();
    let clock = Fake::default();
    let request = verify::Request {
        backups: None,
        depth: Depth::Data,
        slice: Slice::WHOLE,
        jobs: 1,
        rate: None,
        state: None,
        by: None,
    };
    let cancel = AtomicBool::new(false);
    let verify = || {
        let environment = verify::Environment {
            monitor: &Silent,
            clock: &clock,
            cancel: &cancel,
        };
        verify::run(&vault, &request, environment).unwrap()
    };
    let report = verify();
    assert!(
        !report.is_damaged() && report.is_complete() && report.foreign.is_empty(),
        "{report:?}"
    );
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.fate, finding.invariant))
        .collect();
    assert_eq!(
        findings,
        [(Fate::Healed, Invariant::Frame), (Fate::Healed, Invariant::Chunk)],
        "{report:?}"
    );
    // Ten days later.
    clock.pass(Duration::from_secs(10 * 86_400));
    assert!(clock.now() > vault.tombstone(&address(OLD)).unwrap().unwrap().at);
    let settings = Settings {
        grace: Duration::ZERO,
        keep_deleted: Duration::ZERO,
        repack_below: 30,
    };
    let mut purged = Vec::new();
    for _ in 0..4 {
        clock.pass(Duration::from_secs(86_400));
        let environment = prune::Environment {
            monitor: &Silent,
            clock: &clock,
            cancel: &cancel,
        };
        purged.extend(prune::run(&vault, settings, Mode::Run, environment).unwrap().purged);
    }
    assert_eq!(purged, [address(OLD)]);
    for prefix in ["leases/", "marks/", "sweeps/", "deleted/"] {
        assert_eq!(store.list(prefix).unwrap(), [], "{prefix}");
    }
    assert_backups_are_whole(&vault);
    assert!(!verify().is_damaged());
}

#[test]
fn every_golden_vault_has_its_test() {
    let mut names: Vec<_> = std::fs::read_dir(golden(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["v1", "v1-all"], "a golden vault without a test, or a lost one");
}
