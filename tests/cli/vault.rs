//! `init`, `list` and `show` on vaults that are new, absent, or not there.

use super::{Desk, files, vaultfs};
use serde_json::json;
use std::sync::Arc;
use vaultfs::store::memory::MemoryStore;
use vaultfs::vault::map::PageRef;
use vaultfs::vault::{Config, Consistency, Content, Disk, Manifest, ResourceKind, Statistics, Vault};

#[test]
fn init_says_what_it_made() {
    let desk = Desk::new();
    let dir = desk.text("second");
    let ended = vaultfs([
        "init",
        &dir,
        "--name",
        "site-a",
        "--chunk-size",
        "64KiB",
        "--tag",
        "owner=ops",
        "--json",
    ])
    .succeeds();
    let made = ended.json();
    assert_eq!(made["name"], "site-a");
    assert_eq!(made["chunk_size"], 65536);
    assert_eq!(made["encrypted"], false);
    assert_eq!(made["tags"], json!({ "owner": "ops" }));
    assert_eq!(made["id"].as_str().unwrap().len(), 32);
    let text = vaultfs(["init", &desk.text("third")]).succeeds().stdout;
    assert!(text.contains("third") && text.contains("encryption  none"), "{text}");
}

#[test]
fn init_never_touches_what_is_there() {
    let desk = Desk::new();
    let before = files(&desk.vault());
    vaultfs(["init", &desk.text("vault")]).fails(1, "is a vault already");
    assert_eq!(files(&desk.vault()), before);
    std::fs::create_dir(desk.path("full")).unwrap();
    desk.file("full/file", "mine");
    vaultfs(["init", &desk.text("full")]).fails(1, "is not empty");
    vaultfs(["init", &desk.file("file", "x")]).fails(4, "file");
}

#[test]
fn an_empty_vault_lists_nothing_and_says_what_to_do() {
    let desk = Desk::new();
    let ended = desk.run("list", &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
    assert!(ended.stderr.contains("no backups yet"), "{}", ended.stderr);
    let listing = desk.run("list", &["--json"]).succeeds().json();
    assert_eq!(listing["backups"], json!([]));
    assert_eq!(listing["damaged"], json!([]));
    assert_eq!(listing["vault"]["name"], "vault");
}

#[test]
fn what_is_not_there_is_named() {
    let desk = Desk::new();
    desk.run("list", &["servers/web-01"])
        .fails(1, "there is no backup servers/web-01");
    desk.run("show", &["servers/web-01/latest"])
        .fails(1, "there is no backup servers/web-01/latest");
    desk.run("show", &["servers/web-01/2026-11-20T03-00-00Z"])
        .fails(1, "2026-11-20T03-00-00Z");
    desk.run("cat", &["disks/db/latest/disk.img"])
        .fails(1, "there is no db in disks; it is empty");
    desk.run("restore", &["disks/db/latest", "--to", &desk.text("out")])
        .fails(1, "there is no backup disks/db/latest");
    assert!(!desk.path("out").exists());
    std::fs::create_dir(desk.path("empty")).unwrap();
    vaultfs(["list", &desk.text("empty")]).fails(1, "there is no vault in");
    vaultfs(["list", &desk.text("nowhere")]).fails(4, "is not there");
}

#[test]
fn a_damaged_vault_object_is_damage() {
    let desk = Desk::new();
    let object = desk.path("vault/vault");
    let text = std::fs::read_to_string(&object).unwrap();
    std::fs::write(&object, text.replace("65536", "131072")).unwrap();
    desk.run("list", &[]).fails(3, "fails its hash");
}

#[test]
fn ten_thousand_backups_list_in_under_a_second() {
    let desk = Desk::new();
    let vault = in_memory(&desk);
    for at in 0..10_000 {
        vault.commit(&manifest(1_700_000_000 + at * 3600)).unwrap();
    }
    let dir = desk.path("vault/backups/servers/web");
    std::fs::create_dir_all(&dir).unwrap();
    for key in vault.store().list("backups/").unwrap() {
        let object = vault.store().get(&key, 1 << 20).unwrap();
        std::fs::write(desk.vault().join(key.as_str()), object).unwrap();
    }
    let started = std::time::Instant::now();
    let text = desk.run("list", &[]).succeeds().stdout;
    let taken = started.elapsed();
    assert_eq!(text.lines().count(), 10_001);
    assert!(taken.as_secs_f64() < 1.0, "{taken:?}");
}

/// The desk's vault with its store in memory, where commits cost no flush.
fn in_memory(desk: &Desk) -> Vault {
    let object = std::fs::read(desk.path("vault/vault")).unwrap();
    Vault::create(Arc::new(MemoryStore::new()), Config::decode(&object).unwrap()).unwrap()
}

fn manifest(point: i64) -> Manifest {
    let disk = Disk {
        name: "vda".to_owned(),
        size: 1 << 30,
        bootable: true,
        chunk_size: 1 << 17,
        levels: 0,
        roots: vec![PageRef::HOLE; 8],
        statistics: Statistics::default(),
    };
    Manifest {
        kind: ResourceKind::Server,
        name: "web".to_owned(),
        resource_id: [1; 16],
        point,
        started: point,
        finished: point,
        imported: false,
        parent: None,
        consistency: Consistency::Crash,
        content: Content::Disks(vec![disk]),
        facts: None,
        tags: [("env".to_owned(), "prod".to_owned())].into(),
        tool: "test".to_owned(),
    }
}
