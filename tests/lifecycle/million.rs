//! A vault of a million chunks, put together by hand: walking it takes little memory.

use crate::mounted::PROGRAM;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vaultfs::clock::System;
use vaultfs::store::local::LocalStore;
use vaultfs::vault::codec::Codec;
use vaultfs::vault::map::{Entry, PAGE_CHUNKS, Page, PageList, PageRef, page_id};
use vaultfs::vault::object::ObjectType;
use vaultfs::vault::pack::Builder;
use vaultfs::vault::{
    ChunkId, Consistency, Content, Disk, Manifest, ResourceKind, Statistics, Vault, new_config, pack_key,
};

const PACKS: u16 = 250;
const CHUNKS_OF_A_PACK: u32 = 4000;
/// Stored bytes of each chunk: reading them is not what is measured.
const CHUNK_BYTES: usize = 64;
const CHUNK_SIZE: u32 = 64 << 10;

fn pack_id(kind: u8, number: u16) -> [u8; 16] {
    let mut id = [kind; 16];
    id[..2].copy_from_slice(&number.to_le_bytes());
    id
}

fn store_chunks(vault: &Vault) -> Vec<Entry> {
    let mut entries = Vec::new();
    for number in 0..PACKS {
        let pack = pack_id(1, number);
        let mut builder = Builder::new(vault.frame(ObjectType::Pack, pack));
        for place in 0..CHUNKS_OF_A_PACK {
            let mut plain = [u8::try_from(number % 251).unwrap(); CHUNK_BYTES];
            plain[..4].copy_from_slice(&place.to_le_bytes());
            plain[4..6].copy_from_slice(&number.to_le_bytes());
            let id = ChunkId::of(&plain);
            builder.push(id, Codec::Raw, &plain, plain.len());
            entries.push(Entry { id, pack });
        }
        let key = pack_key(ObjectType::Pack, &pack).unwrap();
        vault.store().put_new(&key, &builder.finish()).unwrap();
    }
    entries
}

/// Stores the map of a disk; gives its only page list.
fn store_map(vault: &Vault, number: u16, entries: &[Entry]) -> PageRef {
    let pack = pack_id(9, number);
    let mut builder = Builder::new(vault.frame(ObjectType::MetaPack, pack));
    let mut push = |encoded: &[u8]| {
        let id = page_id(encoded);
        builder.push(id, Codec::Raw, encoded, encoded.len());
        PageRef { id: id.0, pack }
    };
    let pages = entries
        .chunks(PAGE_CHUNKS)
        .map(|chunks| push(&Page::new(chunks.iter().copied().map(Some).collect()).encode()))
        .collect();
    let list = push(&PageList(pages).encode());
    let key = pack_key(ObjectType::MetaPack, &pack).unwrap();
    vault.store().put_new(&key, &builder.finish()).unwrap();
    list
}

fn commit(vault: &Vault, point: i64, chunks: usize, root: PageRef) {
    let disk = Disk {
        name: "disk".to_owned(),
        size: u64::try_from(chunks).unwrap() * u64::from(CHUNK_SIZE),
        bootable: true,
        chunk_size: CHUNK_SIZE,
        levels: 1,
        roots: vec![root],
        statistics: Statistics::default(),
    };
    let manifest = Manifest {
        kind: ResourceKind::Disk,
        name: "big".to_owned(),
        resource_id: [1; 16],
        point,
        started: point,
        finished: point,
        imported: true,
        parent: None,
        consistency: Consistency::Crash,
        content: Content::Disks(vec![disk]),
        facts: None,
        tags: Default::default(),
        tool: "test".to_owned(),
    };
    vault.commit(&manifest).unwrap();
}

#[test]
#[ignore = "soak: a vault of a million chunks"]
fn soak_a_million_chunks_are_walked_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vault");
    let store = Arc::new(LocalStore::create(&path).unwrap());
    let vault = Vault::create(store, new_config("big", CHUNK_SIZE, &System).unwrap()).unwrap();
    let entries = store_chunks(&vault);
    assert_eq!(entries.len(), 1_000_000);
    // Two maps of their own, one after the other and all over the packs, so that nothing is found at hand.
    let root = store_map(&vault, 0, &entries);
    commit(&vault, 1_795_143_600, entries.len(), root);
    let step = 4001;
    let scattered: Vec<Entry> = (0..entries.len())
        .map(|at| entries[at * step % entries.len()])
        .collect();
    let root = store_map(&vault, 1, &scattered);
    commit(&vault, 1_795_147_200, scattered.len(), root);
    drop((entries, scattered, vault));

    let began = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(["list", path.to_str().unwrap(), "--space", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak_kib = peak_kib.max(kib.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("two maps of a million chunks: {:?}, {peak_kib} KiB", began.elapsed());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let chunk_bytes = 1_000_000 * u64::try_from(CHUNK_BYTES).unwrap();
    for entry in list["backups"].as_array().unwrap() {
        assert_eq!(
            entry["shared_bytes"].as_u64(),
            Some(chunk_bytes),
            "all chunks and no page"
        );
    }
    assert!((1..200 << 10).contains(&peak_kib), "{peak_kib} KiB");
}
