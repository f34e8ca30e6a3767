//! Copies of file systems made by hand, sound and hostile, into a directory of this machine.

mod mended;
mod update;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::fs::memory::Memory;
use crate::fs::{Inode, Place};
use crate::tree::fake::{AT, tree_over};
use crate::tree::resolve::LastLink;

const ROOT: Inode = Inode(1);
const PLAIN: Options = Options {
    depth: Depth::Trees,
    owners: Owners::Own,
    existing: Existing::Refuse,
    extra: Extra::Leave,
    act: Act::Perform,
    workers: None,
};

/// Keeps what it is told.
#[derive(Default)]
struct Told(parking_lot::Mutex<Vec<String>>);

impl Monitor for Told {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn warn(&self, message: &str) {
        self.0.lock().push(message.to_owned());
    }
}

/// A target with the copy of a file system in it, under the name `root`.
struct Copied {
    dir: TempDir,
    result: Result<Report>,
    told: Vec<String>,
}

impl Copied {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("to/root").join(below)
    }

    fn report(&self) -> &Report {
        self.result.as_ref().unwrap()
    }

    #[track_caller]
    fn tells(&self, part: &str) {
        assert!(self.told.iter().any(|line| line.contains(part)), "{:?}", self.told);
    }

    /// Everything in the target and beside it, with what leads nowhere else, sorted.
    fn everything(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.dir.path().to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.dir.path()).unwrap();
                found.push(name.to_string_lossy().into_owned());
                if path.symlink_metadata().unwrap().is_dir() {
                    waiting.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn copy_of(memory: Memory) -> Copied {
    copy_with(memory, PLAIN, |_| {})
}

/// Copies all of `memory`; `before` is given the target first.
fn copy_with(memory: Memory, options: Options, before: impl FnOnce(&Path)) -> Copied {
    let dir = TempDir::new().unwrap();
    let target = dir.path().join("to");
    fs::create_dir(&target).unwrap();
    before(&target);
    let (tree, _open) = tree_over(memory);
    let told = Told::default();
    let cancel = AtomicBool::new(false);
    let environment = Environment {
        monitor: &told,
        cancel: &cancel,
        steps: None,
    };
    let result = run(
        &tree,
        vec![source(&tree, "root", "root")],
        &target,
        options,
        environment,
    );
    Copied {
        dir,
        result,
        told: told.0.into_inner(),
    }
}

fn source<'a>(tree: &'a Tree, path: &str, name: &str) -> Source<'a> {
    let path = format!("{AT}/{path}").into_bytes();
    Source {
        held: tree.resolve(&path, LastLink::Keep).unwrap().held,
        path,
        name: name.into(),
    }
}

#[test]
fn a_tree_is_copied_with_modes_times_links_and_holes() {
    let mut memory = Memory::new();
    let etc = memory.directory(ROOT, b"etc");
    memory.edit(etc).attr.permissions = 0o1750;
    let file = memory.file(etc, b"passwd", b"root:x");
    memory.edit(file).attr.permissions = 0o640;
    memory.link(etc, b"link", b"/absolute/../raw text");
    let sparse = memory.file(ROOT, b"sparse", b"");
    memory.piece(sparse, 5 << 20, &[7; 10_000]);
    memory.edit(sparse).attr.size = 1 << 30;
    for name in [&b"one"[..], b"two"] {
        memory.name(ROOT, name, file);
    }
    memory.edit(file).attr.links = 3;
    let copied = copy_of(memory);
    let report = copied.report();
    assert_eq!(
        (
            report.files,
            report.directories,
            report.symlinks,
            report.hard_links,
            report.bytes
        ),
        (2, 2, 1, 2, 10_006)
    );
    assert_eq!((report.failures, copied.told.len()), (Failures::default(), 0));
    let stat = |path: &str| fs::symlink_metadata(copied.path(path)).unwrap();
    assert_eq!(
        (stat("etc").mode() & 0o7777, stat("etc/passwd").mode() & 0o7777),
        (0o1750, 0o640)
    );
    for path in ["", "etc", "etc/passwd", "etc/link", "sparse"] {
        let stat = stat(path);
        assert_eq!(
            (stat.mtime(), stat.mtime_nsec()),
            (1_100_000_000, 123_456_789),
            "{path}"
        );
        assert!(
            path == "etc/link" || stat.is_dir() || stat.atime() == 1_000_000_000,
            "{path}"
        );
    }
    assert_eq!(fs::read(copied.path("etc/passwd")).unwrap(), b"root:x");
    assert_eq!(
        fs::read_link(copied.path("etc/link")).unwrap().to_str().unwrap(),
        "/absolute/../raw text"
    );
    assert_eq!(
        (stat("one").ino(), stat("two").ino()),
        (stat("etc/passwd").ino(), stat("etc/passwd").ino())
    );
    assert_eq!(stat("sparse").size(), 1 << 30);
    assert!(stat("sparse").blocks() * 512 < 1 << 20, "{}", stat("sparse").blocks());
}

#[test]
fn no_name_and_no_link_of_an_image_leads_out_of_the_target() {
    let outside = TempDir::new().unwrap();
    let away = outside.path().as_os_str().as_encoded_bytes().to_vec();
    let mut memory = Memory::new();
    memory.link(ROOT, b"x", &away);
    memory.link(ROOT, b"up", b"../..");
    // The same names again, as directories and files that would go through the links.
    for name in [&b"x"[..], b"up"] {
        let directory = memory.directory(ROOT, name);
        memory.file(directory, b"evil", b"evil");
        memory.file(ROOT, name, b"evil");
    }
    for name in [
        &b"../evil"[..],
        b"..",
        b".",
        b"",
        b"/evil",
        b"a/b",
        b"x/evil",
        b"nul\0",
        b"../../evil",
    ] {
        memory.file(ROOT, name, b"evil");
    }
    let climbing = memory.directory(ROOT, b"../..");
    memory.file(climbing, b"evil", b"evil");
    for existing in [Existing::Refuse, Existing::Replace] {
        let options = Options { existing, ..PLAIN };
        let copied = copy_with(memory.clone(), options, |_| {});
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let stray: Vec<String> = copied.everything();
        let stray: Vec<&String> = stray
            .iter()
            .filter(|path| !path.starts_with("to/root") && *path != "to")
            .collect();
        assert!(stray.is_empty(), "{stray:?}");
        assert!(copied.path("..%2Fevil").is_file() && copied.path("%2E%2E").is_file());
        assert!(copied.report().failures.other > 0);
    }
}

#[test]
fn a_directory_is_entered_once_however_many_names_it_has() {
    let mut memory = Memory::new();
    let a = memory.directory(ROOT, b"a");
    let b = memory.directory(a, b"b");
    memory.name(b, b"itself", b);
    memory.name(b, b"above", a);
    memory.name(b, b"top", ROOT);
    // Two names for each of many directories in each other: 2^40 paths.
    let mut inner = b;
    for _ in 0..40 {
        let next = memory.make(FileType::Directory, 0o755);
        memory.name(inner, b"l", next);
        memory.name(inner, b"r", next);
        inner = next;
    }
    memory.file(inner, b"file", b"x");
    let copied = copy_of(memory);
    assert_eq!((copied.report().files, copied.report().directories), (1, 43));
    assert_eq!(copied.report().failures.other, 43);
    copied.tells("has another name");
}

#[test]
fn a_tree_deeper_than_any_is_cut_and_told() {
    let mut memory = Memory::new();
    let mut inner = ROOT;
    for _ in 0..4200 {
        inner = memory.directory(inner, b"d");
    }
    memory.file(ROOT, b"file", b"x");
    let copied = copy_of(memory);
    assert_eq!(copied.report().files, 1);
    assert_eq!(copied.report().failures.other, 1, "{:?}", copied.told);
    // Deeper than the paths of the standard library go.
    let removed = std::process::Command::new("rm")
        .arg("-rf")
        .arg(copied.dir.path())
        .status();
    assert!(removed.unwrap().success());
}

#[test]
fn what_is_damaged_is_told_and_left_out_and_the_rest_is_copied() {
    let mut memory = Memory::new();
    let half = memory.file(ROOT, b"half", &[1; 1 << 20]);
    memory.extent(half, 1 << 20, 1 << 20, Place::Volume(77));
    let inode = memory.file(ROOT, b"inode", b"x");
    memory.edit(inode).damaged = true;
    let directory = memory.directory(ROOT, b"directory");
    memory.edit(directory).damaged = true;
    memory.name(ROOT, b"dangling", Inode(4711));
    memory.file(ROOT, b"sound", b"sound");
    let copied = copy_of(memory);
    assert_eq!(copied.everything(), ["to", "to/root", "to/root/sound"]);
    let report = copied.report();
    assert_eq!(
        (report.files, report.failures.damaged, report.failures.other),
        (1, 4, 0)
    );
    copied.tells(&format!(
        "{AT}/root/half cannot be read: a file of a backup cannot be read"
    ));
    copied.tells("chunk 0123 (disk vda) is corrupt at byte 77");
}

#[test]
fn nothing_is_replaced_unless_told_and_directories_are_merged() {
    let sample = || {
        let mut memory = Memory::new();
        let etc = memory.directory(ROOT, b"etc");
        memory.file(etc, b"passwd", b"new");
        memory.file(etc, b"shadow", b"new");
        memory.link(etc, b"link", b"new");
        memory
    };
    let before = |target: &Path| {
        fs::create_dir_all(target.join("root/etc")).unwrap();
        fs::write(target.join("root/etc/passwd"), "old").unwrap();
        fs::write(target.join("root/etc/mine"), "mine").unwrap();
        std::os::unix::fs::symlink("old", target.join("root/etc/link")).unwrap();
    };
    let copied = copy_with(sample(), PLAIN, before);
    assert_eq!(fs::read(copied.path("etc/passwd")).unwrap(), b"old");
    assert_eq!(fs::read(copied.path("etc/shadow")).unwrap(), b"new");
    assert_eq!(copied.report().failures.other, 2);
    copied.tells("add --force to replace it");

    let options = Options {
        existing: Existing::Replace,
        ..PLAIN
    };
    let copied = copy_with(sample(), options, before);
    assert_eq!(copied.report().failures, Failures::default());
    assert_eq!(fs::read(copied.path("etc/passwd")).unwrap(), b"new");
    assert_eq!(fs::read(copied.path("etc/mine")).unwrap(), b"mine");
    assert_eq!(fs::read_link(copied.path("etc/link")).unwrap().to_str(), Some("new"));
    assert_eq!(copied.everything().len(), 7);
}

#[test]
fn a_link_that_is_there_is_never_written_through() {
    let mut memory = Memory::new();
    let etc = memory.directory(ROOT, b"etc");
    memory.file(etc, b"passwd", b"new");
    memory.file(ROOT, b"file", b"new");
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("file"), "old").unwrap();
    let options = Options {
        existing: Existing::Replace,
        ..PLAIN
    };
    let copied = copy_with(memory, options, |target| {
        fs::create_dir(target.join("root")).unwrap();
        std::os::unix::fs::symlink(outside.path(), target.join("root/etc")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("file"), target.join("root/file")).unwrap();
    });
    copied.tells("no directory");
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"old");
    assert!(!outside.path().join("passwd").exists());
    assert!(copied.path("file").symlink_metadata().unwrap().is_file());
}

#[test]
fn without_the_owner_there_are_no_set_user_id_bits_and_no_capabilities() {
    let mut memory = Memory::new();
    let file = memory.file(ROOT, b"su", b"x");
    memory.edit(file).attr.permissions = 0o6755;
    memory.edit(file).xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2])];
    let copied = copy_of(memory);
    assert_eq!(
        copied.path("su").metadata().unwrap().permissions().mode() & 0o7777,
        0o755
    );
    let not_kept: Vec<_> = copied
        .report()
        .not_kept
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(not_kept, [("capabilities", 1), ("set-user-ID bits", 1)]);
    assert_eq!(copied.told.len(), 2);
}

#[test]
fn a_run_that_is_cancelled_leaves_nothing_half_made() {
    let mut memory = Memory::new();
    for number in 0..100 {
        memory.file(ROOT, format!("{number}").as_bytes(), &[1; 1 << 16]);
    }
    let dir = TempDir::new().unwrap();
    let (tree, _open) = tree_over(memory);
    let cancel = AtomicBool::new(true);
    let environment = Environment {
        monitor: &Told::default(),
        cancel: &cancel,
        steps: None,
    };
    let ended = run(
        &tree,
        vec![source(&tree, "root", "root")],
        dir.path(),
        PLAIN,
        environment,
    );
    assert!(matches!(ended, Err(Error::Interrupted)));
    let names = fs::read_dir(dir.path().join("root")).map_or(0, Iterator::count);
    assert_eq!(names, 0);
}

#[test]
fn the_target_is_a_directory_that_is_there_or_a_new_name() {
    let mut memory = Memory::new();
    memory.file(ROOT, b"one", b"1");
    memory.file(ROOT, b"two", b"2");
    let (tree, _open) = tree_over(memory);
    let dir = TempDir::new().unwrap();
    let cancel = AtomicBool::new(false);
    let copy = |names: &[&str], target: &str, depth| {
        let sources = names
            .iter()
            .map(|name| source(&tree, &format!("root/{name}"), name))
            .collect();
        let options = Options { depth, ..PLAIN };
        let monitor = Told::default();
        let environment = Environment {
            monitor: &monitor,
            cancel: &cancel,
            steps: None,
        };
        let ran = run(&tree, sources, &dir.path().join(target), options, environment);
        ran.map(|report| report.files).map_err(|error| error.to_string())
    };
    assert_eq!(copy(&["one"], "new", Depth::Files), Ok(1));
    assert_eq!(copy(&["one", "two"], "", Depth::Files), Ok(2));
    assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"1");
    assert_eq!(fs::read(dir.path().join("two")).unwrap(), b"2");
    for (names, target, part) in [
        (&["one", "two"][..], "absent", "several files need one"),
        (&["one"], "absent/", "make it first"),
        (&["one"], "absent/x", "No such file"),
        (&["one", "two"], "new", "several files need one"),
    ] {
        let error = copy(names, target, Depth::Files).unwrap_err();
        assert!(error.contains(part), "{target}: {error}");
    }
    assert_eq!(copy(&[""], "tree", Depth::Files), Ok(0), "a directory needs -r");
    assert!(!dir.path().join("tree").exists());
    assert_eq!(copy(&[""], "tree", Depth::Trees), Ok(2));
}
