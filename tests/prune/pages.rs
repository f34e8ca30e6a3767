//! Packs of pages of which little is needed.

use crate::common::program::{self, succeed, vaultfs};
use crate::common::{files, mounted};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FILES: usize = 6000;
const FIRST: &str = "filesystems/home/2026-01-01T00-00-00Z";
const SECOND: &str = "filesystems/home/2026-01-02T00-00-00Z";
const THIRD: &str = "filesystems/home/2026-01-03T00-00-00Z";

fn run(command: &str, vault: &Path, more: &[&OsStr]) -> String {
    let words = [OsStr::new(command), vault.as_os_str()];
    let output = succeed(vaultfs(words.into_iter().chain(more.iter().copied())));
    String::from_utf8(output).unwrap()
}

fn back_up(vault: &Path, tree: &Path, address: &str) {
    let (_, point) = address.rsplit_once('/').unwrap();
    let words = ["filesystem", "home"].map(OsStr::new);
    let more = [tree.as_os_str(), OsStr::new("--at"), OsStr::new(point)];
    run("backup", vault, &[words.as_slice(), &more].concat());
}

/// Every name of a backup with its attributes.
fn names(vault: &Path, address: &str) -> String {
    let tree = format!("{address}/tree");
    run("ls", vault, &["-lR", &tree].map(OsStr::new))
}

fn prune(vault: &Path) -> serde_json::Value {
    // The names, which are half of the pages, stay as they are.
    let words = ["--grace", "0", "--keep-deleted", "0", "--repack-below", "80", "--json"].map(OsStr::new);
    serde_json::from_str(&run("prune", vault, &words)).unwrap()
}

fn bytes_in(dir: &Path) -> u64 {
    files(dir).iter().map(|file| file.metadata().unwrap().len()).sum()
}

fn touch(files: &[PathBuf], seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    for file in files {
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
}

#[test]
fn packs_of_pages_of_which_little_is_needed_are_repacked_and_backups_read_on() {
    let dir = TempDir::new().unwrap();
    let (vault, tree) = (program::init(dir.path()), dir.path().join("home"));
    fs::create_dir(&tree).unwrap();
    let made: Vec<PathBuf> = (0..FILES)
        .map(|number| {
            let path = tree.join(format!("{number:08}-with-a-name-of-some-length"));
            fs::write(&path, []).unwrap();
            path
        })
        .collect();
    touch(&made, 1_700_000_000);
    back_up(&vault, &tree, FIRST);
    let (meta, first) = (vault.join("meta"), bytes_in(&vault.join("meta")));
    touch(&made[FILES / 8..], 1_700_000_001);
    back_up(&vault, &tree, SECOND);
    let expected = names(&vault, SECOND);
    assert_eq!(
        expected.lines().count(),
        FILES + 2,
        "a line for each file, one for the directory, one empty"
    );
    let full = bytes_in(&meta);
    let mount = mounted::Mount::new(dir.path(), &vault, "");
    let listed = || fs::read_dir(mount.path(&format!("{SECOND}/tree"))).unwrap().count();
    assert_eq!(listed(), FILES);
    run("delete", &vault, &[OsStr::new(FIRST)]);
    let mut repacked = 0;
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        repacked += prune(&vault)["repacked"]["packs"].as_u64().unwrap();
        assert!(names(&vault, SECOND) == expected);
        run("verify", &vault, &[OsStr::new("--data")]);
    }
    assert_eq!(repacked, 1);
    assert_eq!(files(&vault.join("moved")).len(), 1);
    let left = bytes_in(&meta);
    assert!(
        left < full - first / 5,
        "{left} of {full}, of which the first backup wrote {first}"
    );
    // A mount from before reads pages that are somewhere else now, and the next backup relies on them.
    assert_eq!(listed(), FILES);
    mount.end();
    back_up(&vault, &tree, THIRD);
    assert!(names(&vault, THIRD).replace(THIRD, SECOND) == expected);
    run("verify", &vault, &[OsStr::new("--data")]);
}
