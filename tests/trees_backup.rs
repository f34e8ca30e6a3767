//! Backups of directory trees by the real program: what is stored, what is read again, what is left out, and what happens when
//! files change, vanish or cannot be read.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "trees_backup/disturbed.rs"]
mod disturbed;
#[path = "trees_backup/tree.rs"]
mod tree;

use common::program::{self, stderr, vaultfs};
use common::{Random, files, have, trace};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;
use tree::{Backup, addresses, read};

/// A vault and a directory to be backed up.
pub(crate) struct Desk {
    dir: TempDir,
}

/// How a backup ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) json: serde_json::Value,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        program::init(dir.path());
        std::fs::create_dir(dir.path().join("source")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn vault(&self) -> PathBuf {
        self.path("vault")
    }

    /// A path in the source.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path("source").join(path)
    }

    /// Writes a file in the source, and the directories above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
    }

    pub(crate) fn words(&self, more: &[&str]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["backup".into(), self.vault().into(), "filesystem".into(), "home".into()];
        words.push(self.path("source").into());
        words.push("--json".into());
        words.extend(more.iter().map(OsString::from));
        words
    }

    pub(crate) fn back_up(&self, more: &[&str]) -> Ended {
        ended(&vaultfs(self.words(more)).output().unwrap())
    }

    /// A backup that must be complete; returns it as it is stored.
    #[track_caller]
    pub(crate) fn whole(&self, more: &[&str]) -> Backup {
        let ended = self.back_up(more);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        self.latest()
    }

    pub(crate) fn latest(&self) -> Backup {
        read(&self.vault(), addresses(&self.vault()).last().unwrap())
    }

    /// A backup under strace, and the files of the source that it opened for their content.
    fn traced(&self, more: &[&str]) -> (Ended, BTreeSet<String>) {
        let log = self.path("strace.log");
        let mut command = program::traced(&log, &["-e", "trace=pread64"], self.words(more));
        let ended = ended(&command.output().unwrap());
        let source = self.path("source").canonicalize().unwrap();
        let mut opened = BTreeSet::new();
        for call in trace::parse(&std::fs::read_to_string(log).unwrap()) {
            for path in call.paths() {
                if let Ok(path) = Path::new(path).strip_prefix(&source) {
                    opened.insert(path.to_str().unwrap().to_owned());
                }
            }
        }
        (ended, opened)
    }

    /// Waits until the times of all files prove that they do not change.
    pub(crate) fn rest(&self) {
        std::thread::sleep(Duration::from_millis(3200));
    }
}

pub(crate) fn ended(output: &Output) -> Ended {
    Ended {
        code: output.status.code(),
        stderr: stderr(output),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
    }
}

fn run(program: &str, words: &[&std::ffi::OsStr]) {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program}: {}", stderr(&output));
}

/// A tree with something of everything.
fn everything(desk: &Desk) {
    let mut random = Random::quiet(5);
    desk.write("small", "hello");
    desk.write("256", vec![7; 256]);
    desk.write("257", vec![7; 257]);
    desk.write("empty", "");
    desk.write("deep/er/file", random.bytes(70_000));
    desk.write("big", random.bytes(9_000_000));
    desk.write("zeros", vec![0; 3 << 20]);
    std::fs::create_dir(desk.at("empty directory")).unwrap();
    std::fs::hard_link(desk.at("big"), desk.at("deep/link")).unwrap();
    symlink("../small", desk.at("deep/symlink")).unwrap();
    symlink("x".repeat(4095), desk.at("long symlink")).unwrap();
    desk.write(&"n".repeat(255), "a long name");
    std::fs::write(
        desk.path("source").join(std::ffi::OsStr::from_bytes(b"raw\xff\n\x01")),
        "raw",
    )
    .unwrap();
    run("mkfifo", &[desk.at("fifo").as_os_str()]);
    drop(std::os::unix::net::UnixListener::bind(desk.at("socket")).unwrap());
    let sparse = std::fs::File::create(desk.at("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"in the middle", 1 << 39).unwrap();
    std::fs::File::create(desk.at("hole")).unwrap().set_len(200).unwrap();
    rustix::fs::setxattr(
        desk.at("small"),
        "user.colour",
        b"green",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    rustix::fs::setxattr(
        desk.at("deep"),
        "user.large",
        &[9; 3000],
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let old = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH - Duration::new(1_000_000, 5));
    std::fs::File::options()
        .write(true)
        .open(desk.at("256"))
        .unwrap()
        .set_times(old)
        .unwrap();
}

#[test]
fn everything_of_a_tree_is_stored() {
    let desk = Desk::new();
    everything(&desk);
    let backup = desk.whole(&[]);
    backup.equals(&desk.path("source"));
    assert_eq!(backup.file("small").xattrs[&b"user.colour"[..]], b"green");
    assert_eq!(backup.file("deep").xattrs[&b"user.large"[..]], [9; 3000]);
    assert_eq!(backup.file("big").number, backup.file("deep/link").number);
    let middle: Vec<_> = backup.file("sparse").runs.keys().copied().collect();
    assert!(
        middle.iter().all(|at| (1 << 39) - (1 << 20) < *at && *at <= 1 << 39),
        "{middle:?}"
    );
    assert!(backup.file("hole").runs.is_empty(), "a hole is no data");
    let zeros: usize = backup.file("zeros").runs.values().map(Vec::len).sum();
    assert_eq!(zeros, 3 << 20, "zeros that were written are data");
    assert_eq!(backup.users.get(&0).map(Vec::as_slice), Some(&b"root"[..]));
    let counted = backup.tree.statistics;
    assert_eq!((counted.directories, counted.others), (4, 4));
    assert_eq!(counted.files, 11);
    assert!(counted.data < 13 << 20 && counted.logical > 1 << 40);
}

#[test]
fn an_unchanged_tree_is_not_read_again_and_costs_a_manifest() {
    let test = "an_unchanged_tree_is_not_read_again_and_costs_a_manifest";
    if !have(test, "strace") {
        return;
    }
    let desk = Desk::new();
    everything(&desk);
    for number in 0..2000 {
        desk.write(
            &format!("many/{}/{number}", number % 7),
            format!("{number}").repeat(300),
        );
    }
    desk.rest();
    let first = desk.whole(&[]);
    let before: BTreeSet<_> = files(&desk.vault()).into_iter().collect();
    let (ended, opened) = desk.traced(&[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(opened, BTreeSet::new());
    let new: Vec<_> = files(&desk.vault())
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    assert!(
        matches!(&new[..], [one] if one.starts_with(desk.vault().join("backups"))),
        "{new:?}"
    );
    assert_eq!(ended.json["stored_bytes"], 0);
    let second = desk.latest();
    second.equals(&desk.path("source"));
    assert_eq!(second.tree.root.id, first.tree.root.id);
    assert_eq!(
        (second.tree.statistics.data, second.tree.statistics.logical),
        (first.tree.statistics.data, first.tree.statistics.logical)
    );

    let (ended, opened) = desk.traced(&["--force-rehash"]);
    assert_eq!((ended.code, ended.json["new_bytes"].as_u64()), (Some(0), Some(0)));
    assert!(opened.len() > 2000, "{} files were read", opened.len());
}

#[test]
fn only_what_changed_is_read_and_what_moved_is_not() {
    let test = "only_what_changed_is_read_and_what_moved_is_not";
    if !have(test, "strace") {
        return;
    }
    let desk = Desk::new();
    for number in 0..1000 {
        desk.write(
            &format!("many/{}/{number}", number % 7),
            format!("{number}").repeat(300),
        );
    }
    desk.rest();
    desk.whole(&[]);
    std::fs::rename(desk.at("many/3"), desk.at("moved")).unwrap();
    let append = std::fs::File::options().append(true).open(desk.at("many/5/5")).unwrap();
    std::io::Write::write_all(&mut &append, b"more").unwrap();
    // Same size, and its times set back: the time of the last change of attributes tells.
    let modified = desk.at("many/6/6").metadata().unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(desk.at("many/6/6")).unwrap();
    file.write_all_at(b"X", 0).unwrap();
    file.set_modified(modified).unwrap();
    desk.write("new", "new");
    std::fs::remove_file(desk.at("many/0/7")).unwrap();
    let (ended, opened) = desk.traced(&[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let expected = ["many/5/5", "many/6/6", "new"].map(str::to_owned);
    assert_eq!(opened, BTreeSet::from(expected));
    desk.latest().equals(&desk.path("source"));
}

#[test]
fn a_file_changed_right_before_the_backup_is_read_by_the_next_one() {
    let desk = Desk::new();
    desk.write("file", "one");
    let first = desk.whole(&[]);
    assert!(first.file("file").record.state.recent);
    desk.rest();
    let second = desk.whole(&[]);
    assert!(!second.file("file").record.state.recent);
    second.equals(&desk.path("source"));
}

#[test]
fn what_is_excluded_is_left_out_and_counted() {
    let desk = Desk::new();
    for path in [
        "a.o",
        "a.c",
        "keep.o",
        "build/x",
        "sub/build/y",
        "home/cache/z",
        "home/.nobackup",
        "home/other/file",
    ] {
        desk.write(path, path);
    }
    desk.write(
        "cache/CACHEDIR.TAG",
        "Signature: 8a477f597d28d172789f06886806bc55\n# more",
    );
    desk.write("cache/deep/er", "x");
    desk.write("not/CACHEDIR.TAG", "something else");
    desk.write("not/kept", "x");
    desk.write("marked/tag", "HEAD and more");
    desk.write("marked/gone", "x");
    std::fs::write(desk.path("patterns"), "# what is made\n*.o\n!keep.o\n").unwrap();
    let from = desk.path("patterns");
    let more = [
        "--exclude-from",
        from.to_str().unwrap(),
        "-e",
        "/build/",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup",
        "--exclude-if-present",
        "tag:HEAD",
    ];
    let ended = desk.back_up(&more);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    // a.o, build, home/cache, home/other, cache/deep, marked/gone.
    assert_eq!(ended.json["tree"]["excluded"], 6);
    let backup = desk.latest();
    let kept: Vec<_> = backup.files.keys().map(|path| String::from_utf8_lossy(path)).collect();
    let expected = [
        "",
        "a.c",
        "cache",
        "cache/CACHEDIR.TAG",
        "home",
        "home/.nobackup",
        "keep.o",
        "marked",
        "marked/tag",
        "not",
        "not/CACHEDIR.TAG",
        "not/kept",
        "sub",
        "sub/build",
        "sub/build/y",
    ];
    assert_eq!(kept, expected);
}

#[test]
fn wrong_words_are_told_before_anything_is_done() {
    let desk = Desk::new();
    for (words, part) in [
        (&["-e", "[z-a]"][..], "--exclude: \"[z-a]\" is not a pattern"),
        (
            &["--exclude-from", "/nonexistent"],
            "the patterns in /nonexistent cannot be read",
        ),
        (&["--exclude-if-present", "a/b"], "write the name of a file"),
        (&["--one-file-system=maybe"], "invalid value"),
    ] {
        let ended = desk.back_up(words);
        assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{words:?}: {}", ended.stderr);
    }
    assert!(addresses(&desk.vault()).is_empty());
}

#[test]
fn a_directory_that_is_not_there_is_an_error_and_an_empty_one_a_warning() {
    let desk = Desk::new();
    desk.write("file", "x");
    desk.whole(&[]);
    std::fs::remove_file(desk.at("file")).unwrap();
    let ended = desk.back_up(&[]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("is empty, but filesystems/home/"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("is the file system mounted?"), "{}", ended.stderr);
    std::fs::remove_dir(desk.path("source")).unwrap();
    let ended = desk.back_up(&[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("source cannot be opened"), "{}", ended.stderr);
    assert_eq!(addresses(&desk.vault()).len(), 2);
}

#[test]
fn the_directory_may_be_made_by_the_hook_before() {
    let desk = Desk::new();
    std::fs::remove_dir(desk.path("source")).unwrap();
    let source = desk.path("source");
    let before = format!("mkdir {0} && echo made > {0}/file", source.display());
    let after = format!("rm -r {}", source.display());
    let backup = desk.whole(&["--before", &before, "--after", &after]);
    assert_eq!(backup.file("file").content(), b"made\n");
    assert!(!source.exists());
}

#[test]
fn interrupting_commits_nothing() {
    let desk = Desk::new();
    everything(&desk);
    let ended = desk.back_up(&["--before", "kill -INT $PPID; sleep 0.2"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("interrupted; nothing was committed"),
        "{}",
        ended.stderr
    );
    assert!(addresses(&desk.vault()).is_empty());
}

#[test]
fn wide_and_deep_trees_and_many_links_are_stored_whole() {
    const DEPTH: usize = 400;
    let desk = Desk::new();
    std::fs::create_dir(desk.at("wide")).unwrap();
    for number in 0..20_000 {
        std::fs::write(desk.at(&format!("wide/{number}")), "").unwrap();
    }
    desk.write("linked", "one file");
    std::fs::create_dir(desk.at("links")).unwrap();
    for number in 0..3000 {
        std::fs::hard_link(desk.at("linked"), desk.at(&format!("links/{number}"))).unwrap();
    }
    let deep = ["d"; DEPTH].join("/");
    desk.write(&format!("{deep}/file"), "deep down");
    let backup = desk.whole(&["--jobs", "3"]);
    backup.equals(&desk.path("source"));
    assert_eq!(backup.file("linked").record.links, 3001);
    assert_eq!(backup.tree.statistics.files, 20_002);
}

#[test]
fn few_descriptors_are_enough() {
    let desk = Desk::new();
    for number in 0..50 {
        let deep = format!("{number}/{}", ["d"; 40].join("/"));
        desk.write(&format!("{deep}/file"), "deep down");
    }
    let words: Vec<String> = desk
        .words(&[])
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let script = format!(
        "ulimit -n 40; exec {} {}",
        env!("CARGO_BIN_EXE_vaultfs"),
        words.join(" ")
    );
    let ended = ended(&Command::new("sh").args(["-c", &script]).output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    desk.latest().equals(&desk.path("source"));
}

#[test]
fn other_file_systems_are_left_out_unless_asked_for() {
    let test = "other_file_systems_are_left_out_unless_asked_for";
    let desk = Desk::new();
    desk.write("file", "x");
    std::fs::create_dir(desk.at("mounted")).unwrap();
    let at = desk.at("mounted");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&at)
        .output()
        .unwrap();
    if !mounted.status.success() {
        common::skip(test, "mounting needs root");
        return;
    }
    std::fs::write(at.join("inside"), "y").unwrap();
    let kept = desk.back_up(&[]);
    let crossed = desk.back_up(&["--one-file-system=no"]);
    run("umount", &[at.as_os_str()]);
    assert_eq!((kept.code, crossed.code), (Some(0), Some(0)));
    let all = addresses(&desk.vault());
    let (kept, crossed) = (read(&desk.vault(), &all[0]), read(&desk.vault(), &all[1]));
    assert!(kept.has("mounted") && !kept.has("mounted/inside"));
    assert_eq!(crossed.file("mounted/inside").content(), b"y");
    assert!(crossed.file("mounted/inside").number >= 1 << 63);
    assert_eq!(kept.file("file").number, desk.at("file").metadata().unwrap().ino());
}

#[test]
fn lost_packs_are_healed_by_reading_again() {
    let desk = Desk::new();
    everything(&desk);
    desk.rest();
    desk.whole(&[]);
    for pack in files(&desk.vault().join("packs")) {
        std::fs::remove_file(pack).unwrap();
    }
    let source = desk.path("source");
    desk.whole(&[]).equals(&source);
    for pack in files(&desk.vault().join("meta")) {
        std::fs::remove_file(pack).unwrap();
    }
    let ended = desk.back_up(&[]);
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("cannot be compared with everywhere"),
        "{}",
        ended.stderr
    );
    desk.latest().equals(&source);
}
