//! Backups whose source changes or fails under their hands, and backups that are killed.

use crate::common::kills;
use crate::common::program::{self, stderr, vaultfs};
use crate::common::{Random, copy_files, have};
use crate::tree::{addresses, read};
use crate::{Desk, ended};
use std::io::Write;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A backup during which calls that name or use `path` fail as `inject` says.
fn injected(desk: &Desk, path: &str, inject: &str) -> Output {
    let (name, _) = inject.split_once(':').unwrap();
    let (trace, inject) = (format!("trace={name}"), format!("inject={inject}"));
    let options = ["-P", path, "-e", &trace, "-e", &inject];
    program::traced(Path::new("/dev/null"), &options, desk.words(&[]))
        .output()
        .unwrap()
}

fn small_tree() -> Desk {
    let desk = Desk::new();
    for name in ["good", "bad", "dir/inside", "other/file"] {
        desk.write(name, name.repeat(100));
    }
    desk
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_stored() {
    let test = "what_cannot_be_read_is_named_and_the_rest_is_stored";
    if !have(test, "strace") {
        return;
    }
    // The call that fails, what is said, and what is missing from the backup.
    let cases = [
        (
            "pread64:error=EIO",
            "bad",
            "bad: reading it failed: Input/output error",
            &["bad"][..],
        ),
        (
            "openat:error=EACCES",
            "bad",
            "bad: opening it failed: Permission denied",
            &["bad"],
        ),
        (
            "openat:error=ENOENT",
            "bad",
            "bad: it vanished before it was read",
            &["bad"],
        ),
        (
            "statx:error=ENOENT",
            "bad",
            "bad: it vanished before it was read",
            &["bad"],
        ),
        (
            "openat:error=EACCES",
            "dir",
            "dir: opening it failed: Permission denied (os error 13); it is stored as an empty directory",
            &["dir/inside"],
        ),
        (
            "openat:error=ENOENT",
            "dir",
            "dir: it vanished before it was read",
            &["dir", "dir/inside"],
        ),
        (
            "getdents64:error=EIO",
            "dir",
            "dir: listing it to its end failed",
            &["dir/inside"],
        ),
    ];
    for (inject, path, said, missing) in cases {
        let desk = small_tree();
        // Descriptors are known to strace by their paths, names in directories as they are.
        let by_descriptor = inject.starts_with("pread64") || inject.starts_with("getdents64");
        let at = desk.at(path);
        let path = if by_descriptor { at.to_str().unwrap() } else { path };
        let ended = ended(&injected(&desk, path, inject));
        assert_eq!(ended.code, Some(5), "{inject}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{inject}: {}", ended.stderr);
        assert_eq!(ended.json["tree"]["unread"], 1, "{inject}");
        assert_eq!(ended.json["tree"]["partial"], true, "{inject}");
        let backup = desk.latest();
        for path in ["good", "bad", "dir", "dir/inside", "other/file"] {
            assert_eq!(backup.has(path), !missing.contains(&path), "{inject}: {path}");
        }
        assert_eq!(backup.tree.problems.len(), 1);
        let next = desk.whole(&[]);
        next.equals(&desk.path("source"));
    }
}

#[test]
fn a_hard_link_that_fails_under_one_name_is_read_under_another() {
    let test = "a_hard_link_that_fails_under_one_name_is_read_under_another";
    if !have(test, "strace") {
        return;
    }
    for failing in ["bad", "twin"] {
        let desk = small_tree();
        std::fs::hard_link(desk.at("bad"), desk.at("twin")).unwrap();
        let ended = ended(&injected(&desk, failing, "openat:error=ENOENT"));
        let backup = desk.latest();
        // Only the name that is met first is opened.
        let met_first = ended.code == Some(5);
        assert!(backup.has("bad") && backup.has("twin"), "{failing}: {met_first}");
        assert_eq!(backup.file("bad").content(), "bad".repeat(100).as_bytes());
    }
}

#[test]
fn a_file_that_keeps_changing_is_stored_as_it_was_read_and_marked() {
    let test = "a_file_that_keeps_changing_is_stored_as_it_was_read_and_marked";
    if !have(test, "strace") {
        return;
    }
    let desk = small_tree();
    let stop = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = std::fs::File::options().append(true).open(desk.at("bad")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let output = injected(&desk, desk.at("bad").to_str().unwrap(), "pread64:delay_enter=300000");
        stop.store(true, Ordering::Relaxed);
        output
    });
    let ended = ended(&output);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("bad: it changed while it was read"),
        "{}",
        ended.stderr
    );
    let backup = desk.latest();
    assert!(backup.file("bad").record.state.changed);
    assert!(backup.file("bad").content().starts_with("bad".repeat(100).as_bytes()));
    let next = desk.whole(&[]);
    assert!(!next.file("bad").record.state.changed);
    next.equals(&desk.path("source"));
}

#[test]
fn a_file_that_is_cut_off_while_it_is_read_has_the_size_that_was_read() {
    let test = "a_file_that_is_cut_off_while_it_is_read_has_the_size_that_was_read";
    if !have(test, "strace") {
        return;
    }
    let desk = small_tree();
    desk.write("bad", Random::quiet(3).bytes(30 << 20));
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::File::options().write(true).open(desk.at("bad")).unwrap();
            for len in [20 << 20, 3 << 20, 1 << 20, 1000, 100, 0] {
                std::thread::sleep(Duration::from_millis(250));
                file.set_len(len).unwrap();
            }
        });
        injected(&desk, desk.at("bad").to_str().unwrap(), "pread64:delay_enter=200000")
    });
    let ended = ended(&output);
    assert!(matches!(ended.code, Some(0 | 5)), "{}", ended.stderr);
    // Whatever was caught: sizes, chunks and digest agree, which reading it checks.
    let backup = desk.latest();
    assert_eq!(
        u64::try_from(backup.file("bad").content().len()).unwrap(),
        backup.file("bad").record.size
    );
    desk.rest();
    desk.whole(&[]).equals(&desk.path("source"));
}

/// Fills the source; a second seed changes a part of it.
fn fill(desk: &Desk, seed: u64) {
    for number in 0..60u64 {
        let seed = if number % 3 == 0 { seed } else { 0 };
        let len = if number == 30 { 5_000_000 } else { 3000 };
        desk.write(
            &format!("{}/{number}", number % 5),
            Random::quiet(seed * 100 + number).bytes(len),
        );
    }
}

#[test]
fn a_backup_of_a_tree_killed_at_any_call_leaves_every_backup_whole() {
    let test = "a_backup_of_a_tree_killed_at_any_call_leaves_every_backup_whole";
    if !have(test, "strace") {
        return;
    }
    let desk = Desk::new();
    fill(&desk, 1);
    desk.whole(&["--at", "2026-01-01T00-00-00Z"]);
    let before = desk.latest();
    let kept = desk.path("kept");
    copy_files(&desk.vault(), &kept);
    fill(&desk, 2);
    let words = ["--at", "2026-02-01T00-00-00Z", "--jobs", "2"];

    let names = [
        "openat",
        "statx",
        "getdents64",
        "pread64",
        "write",
        "fsync",
        "renameat2",
        "mkdir",
        "lseek",
        "close",
        "futex",
    ];
    let command = vaultfs(desk.words(&words));
    let places = kills::places(&kills::calls(&command, 0), |call| names.contains(&call.name.as_str()));
    let (mut kills, mut committed) = (0, 0);
    for place in kills::spread(&places, 7) {
        std::fs::remove_dir_all(desk.vault()).unwrap();
        copy_files(&kept, &desk.vault());
        let killed = kills::kill(&command, &place, 0);
        kills += usize::from(killed);
        let all = addresses(&desk.vault());
        assert_eq!(all[0].to_string(), "filesystems/home/2026-01-01T00-00-00Z", "{place:?}");
        assert_eq!(
            read(&desk.vault(), &all[0]).files.len(),
            before.files.len(),
            "{place:?}"
        );
        if let Some(second) = all.get(1) {
            committed += usize::from(killed);
            read(&desk.vault(), second).equals(&desk.path("source"));
        }
        let next = vaultfs(desk.words(&["--at", "2026-03-01T00-00-00Z"])).output().unwrap();
        assert!(next.status.success(), "{place:?}: {}", stderr(&next));
        desk.latest().equals(&desk.path("source"));
    }
    println!("{kills} kills, {committed} after the commit");
    assert!(kills >= 30, "only {kills} kills");
}
