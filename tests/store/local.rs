//! What a directory as a store promises beside the suite.

use super::common::{self, program, trace};
use super::key;
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use vaultfs::store::local::LocalStore;
use vaultfs::store::{Error, Key, Store};

#[test]
fn a_store_whose_root_is_gone_is_an_error_and_not_empty() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("root");
    let store = LocalStore::create(&root).unwrap();
    store.put_new(&key("a/b"), b"x").unwrap();
    std::fs::rename(&root, dir.path().join("elsewhere")).unwrap();
    for prefix in ["", "a/", "packs/", "a/b/c/"] {
        assert!(store.list(prefix).is_err(), "{prefix:?}");
    }
    let absent = |error: Error| assert!(!error.is_not_found(), "{error}");
    absent(store.get(&key("a/c"), 10).unwrap_err());
    absent(store.get_range(&key("a/c"), 0, 1).unwrap_err());
    absent(store.head(&key("a/c")).unwrap_err());
    absent(store.delete(&key("a/c")).unwrap_err());
    // Neither an old nor a new directory of objects brings the root back: the bytes would land on another file system.
    for name in ["a/c", "c/d/e", "top"] {
        absent(store.put_new(&key(name), b"x").unwrap_err());
    }
    assert!(!root.exists());
    assert!(matches!(LocalStore::open(&root), Err(Error::NoRoot { .. })));
}

#[test]
fn a_root_that_is_a_file_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(LocalStore::open(&file), Err(Error::NoRoot { .. })));
    assert!(LocalStore::create(&file).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

#[test]
fn temporary_files_and_foreign_names_are_never_listed() {
    let dir = TempDir::new().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    store.put_new(&key("a/b"), b"x").unwrap();
    for foreign in [".tmp-0123", "a/.tmp-4567", ".snapshot/x", "a/with space", "a/\u{e4}"] {
        let path = dir.path().join(foreign);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "y").unwrap();
    }
    std::os::unix::fs::symlink("b", dir.path().join("a/link")).unwrap();
    std::os::unix::fs::symlink("/", dir.path().join("a/root")).unwrap();
    assert_eq!(store.list("").unwrap(), [key("a/b")]);
}

#[test]
fn no_hostile_text_is_a_key() {
    for bad in [
        "../outside",
        "a/../../b",
        "/etc/passwd",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        "a/.",
        ".tmp-0",
        "a\\b/c\0",
        "a b",
        "a\nb",
        "\u{202e}a",
    ] {
        assert!(matches!(Key::new(bad), Err(Error::InvalidKey { .. })), "{bad:?}");
    }
    assert!(Key::new("a".repeat(Key::MAX_LEN)).is_ok());
    assert!(Key::new("a".repeat(Key::MAX_LEN + 1)).is_err());
}

#[test]
fn a_component_longer_than_the_system_takes_is_an_error_and_not_absent() {
    let dir = TempDir::new().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    let long = key(&"a".repeat(300));
    assert!(matches!(store.put_new(&long, b"x"), Err(Error::Io { .. })));
    assert!(store.list("").unwrap().is_empty());
}

#[test]
fn objects_are_read_only_files_without_litter_beside_them() {
    let dir = TempDir::new().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    store.put_new(&key("a/b"), b"x").unwrap();
    assert!(store.put_new(&key("a/b"), b"y").is_err());
    let mode = std::fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o222, 0, "{mode:o}");
    assert_eq!(mode & 0o400, 0o400, "{mode:o}");
    assert_eq!(common::files(dir.path()), [dir.path().join("a/b")]);
}

/// The calls of `vaultfs WORDS` that change or sync files below `dir`, under these further options of strace.
fn calls(dir: &Path, options: &[&str], words: &[&std::ffi::OsStr]) -> (std::process::Output, Vec<trace::Call>) {
    let log = dir.join("strace.log");
    let mut all = vec![
        "-e",
        "trace=openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink",
    ];
    all.extend(options);
    let output = program::traced(&log, &all, words).output().unwrap();
    (output, trace::parse(&std::fs::read_to_string(log).unwrap()))
}

#[test]
fn an_object_is_synced_before_it_is_named_and_every_directory_after() {
    let test = "an_object_is_synced_before_it_is_named_and_every_directory_after";
    if !common::have(test, "strace") {
        return;
    }
    let dir = TempDir::new().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (init, backup) = (root.join("new/deep/vault"), root.join("disk.img"));
    std::fs::write(&backup, common::Random::new(1).bytes(300_000)).unwrap();
    let disk = format!("vda={}", backup.display());
    let (made, mut calls_made) = calls(&root, &[], &["init".as_ref(), init.as_os_str()]);
    assert!(made.status.success(), "{}", program::stderr(&made));
    let (backed_up, more) = calls(&root, &[], &program::backup_words(&init, "web", &disk));
    assert!(backed_up.status.success(), "{}", program::stderr(&backed_up));
    calls_made.extend(more);
    let named = check_order(&root, &calls_made);
    // vault, lease, pack, meta pack, index, manifest.
    assert_eq!(named.len(), 6, "{named:?}");
    let places: Vec<&str> = named
        .iter()
        .map(|path| path.strip_prefix(init.to_str().unwrap()).unwrap())
        .collect();
    assert_eq!(places[0], "/vault");
    assert!(places[1].starts_with("/leases/"), "{places:?}");
    assert!(places[4].starts_with("/index/"), "{places:?}");
    assert!(places[5].starts_with("/backups/servers/web/"), "{places:?}");
}

/// Checks the order of calls and returns the names objects got, in order.
fn check_order(root: &Path, calls: &[trace::Call]) -> Vec<String> {
    // Threads work at once: a name that another thread has just made elsewhere in the same directory is no concern of this one.
    let (mut synced, mut unsynced, mut named) = (HashSet::new(), Vec::<String>::new(), Vec::new());
    let parent = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    let inside = |path: &str| path.starts_with(root.to_str().unwrap());
    for call in calls.iter().filter(|call| call.succeeded()) {
        let paths = call.paths();
        let last = paths.last().copied().unwrap_or_default();
        match call.name.as_str() {
            "mkdir" | "mkdirat" if inside(last) => unsynced.push(last.to_owned()),
            "write" | "pwrite64" if paths.first().is_some_and(|path| inside(path)) => {
                assert!(!synced.contains(paths[0]), "written after it was synced: {call:?}");
            }
            "fsync" => {
                synced.insert(paths[0].to_owned());
                unsynced.retain(|name| parent(name) != paths[0]);
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let texts: Vec<&str> = paths.iter().copied().filter(|path| inside(path)).collect();
                let [from, to] = texts.as_slice() else {
                    panic!("{call:?}")
                };
                assert!(from.contains("/.tmp-"), "{call:?}");
                assert!(
                    call.arguments.contains("RENAME_NOREPLACE") || call.name.starts_with("link"),
                    "{call:?}"
                );
                assert!(synced.contains(*from), "named before it was synced: {call:?}");
                assert!(
                    unsynced.iter().all(|dir| !Path::new(to).starts_with(dir)),
                    "{unsynced:?} at {call:?}"
                );
                if to.contains("/backups/") {
                    assert!(
                        unsynced.is_empty(),
                        "the manifest is named before {unsynced:?} are synced"
                    );
                }
                unsynced.push((*to).to_owned());
                named.push((*to).to_owned());
            }
            _ => {}
        }
    }
    assert!(unsynced.is_empty(), "never synced: {unsynced:?}");
    named
}

#[test]
fn a_directory_that_is_found_is_synced_into_its_parent_before_it_is_relied_on() {
    let test = "a_directory_that_is_found_is_synced_into_its_parent_before_it_is_relied_on";
    if !common::have(test, "strace") {
        return;
    }
    // As after a writer that was killed between making a directory and syncing it.
    let dir = TempDir::new().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let vault = program::init(&root);
    for (kind, fan) in ["packs", "meta"]
        .iter()
        .flat_map(|kind| (0..256).map(move |fan| (kind, fan)))
    {
        std::fs::create_dir_all(vault.join(kind).join(format!("{fan:02x}"))).unwrap();
    }
    std::fs::write(root.join("disk.img"), [1; 1000]).unwrap();
    let disk = format!("vda={}", root.join("disk.img").display());
    let (output, calls) = calls(&root, &[], &program::backup_words(&vault, "web", &disk));
    assert!(output.status.success(), "{}", program::stderr(&output));
    let (mut synced, mut packs) = (HashSet::new(), 0);
    for call in &calls {
        let paths = call.paths();
        match call.name.as_str() {
            "fsync" => drop(synced.insert(paths[0].to_owned())),
            "renameat2" => {
                let to = Path::new(paths.last().unwrap());
                // Below the fan directory and the vault: its parent, and the parent's.
                let above: Vec<&Path> = to
                    .ancestors()
                    .skip(2)
                    .take_while(|above| above.starts_with(&vault))
                    .collect();
                assert!(
                    above.iter().all(|dir| synced.contains(dir.to_str().unwrap())),
                    "{call:?}"
                );
                packs += usize::from(to.starts_with(vault.join("packs")) || to.starts_with(vault.join("meta")));
            }
            _ => {}
        }
    }
    assert_eq!(packs, 2);
}

#[test]
fn a_put_that_fails_leaves_no_object_and_no_temporary_file() {
    let test = "a_put_that_fails_leaves_no_object_and_no_temporary_file";
    if !common::have(test, "strace") {
        return;
    }
    let faults = [
        "write:error=ENOSPC",
        "write:retval=0",
        "fsync:error=EIO",
        "renameat2:error=EIO",
    ];
    for fault in faults {
        let (mut hits, mut number) = (0, 1);
        loop {
            let dir = TempDir::new().unwrap();
            let place = dir.path().canonicalize().unwrap();
            let vault = place.join("vault");
            let inject = format!("inject={fault}:when={number}");
            let (output, calls) = calls(dir.path(), &["-e", &inject], &["init".as_ref(), vault.as_os_str()]);
            let injected: Vec<_> = calls.iter().filter(|call| call.result.contains("(INJECTED)")).collect();
            if injected.is_empty() {
                break;
            }
            assert!(common::temporary_files(dir.path()).is_empty(), "{inject}: {calls:?}");
            // The last writes of the program are its words for the user: those may fail without any harm to the vault, and so may the
            // reserve for a full disk.
            let is_vault = |path: &&str| Path::new(path).starts_with(&place) && !path.ends_with("/.reserve");
            if injected[0].paths().iter().any(is_vault) {
                hits += 1;
                assert!(!output.status.success(), "{inject}: {calls:?}");
                let named = vault.join("vault").exists();
                let last_sync = fault.starts_with("fsync") && named;
                assert!(!named || last_sync, "{inject}: {calls:?}");
            }
            number += 1;
        }
        assert!(hits > 0, "{fault} never hit the vault");
    }
}
