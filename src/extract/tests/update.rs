//! Trees put back into a directory of this machine: what is made, what stays, what is mended and what goes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

pub(super) const UPDATE: Options = Options {
    existing: Existing::Update(Compare::Times),
    ..PLAIN
};
pub(super) const MIRROR: Options = Options {
    extra: Extra::Remove,
    ..UPDATE
};
pub(super) const AS_PLAN: Options = Options {
    act: Act::Plan,
    ..MIRROR
};

/// A target that trees are put back into, one after the other.
pub(super) struct Target {
    dir: TempDir,
}

/// What one run did.
#[derive(Debug)]
pub(super) struct Ran {
    result: Result<Report, String>,
    pub(super) told: Vec<String>,
    /// Action and path, sorted.
    pub(super) steps: Vec<String>,
}

impl Ran {
    #[track_caller]
    pub(super) fn report(&self) -> &Report {
        let report = self.result.as_ref().unwrap();
        assert_eq!(report.failures, Failures::default(), "{:?}", self.told);
        report
    }

    #[track_caller]
    fn tells(&self, part: &str) {
        assert!(self.told.iter().any(|line| line.contains(part)), "{:?}", self.told);
    }
}

impl Target {
    pub(super) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    /// One with the copy of a tree.
    fn with(memory: &Memory) -> Self {
        let target = Self::new();
        target.restore(memory, PLAIN).report();
        target
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        let top = self.dir.path().join("to");
        if below.is_empty() { top } else { top.join(below) }
    }

    pub(super) fn restore(&self, memory: &Memory, options: Options) -> Ran {
        self.restore_parts(memory, options, Parts::All)
    }

    fn restore_parts(&self, memory: &Memory, options: Options, parts: Parts) -> Ran {
        let (tree, _open) = tree_over(memory.clone());
        let told = Told::default();
        let steps = parking_lot::Mutex::new(Vec::new());
        let cancel = AtomicBool::new(false);
        let path = format!("{AT}/root").into_bytes();
        let whole = Whole {
            held: tree.resolve(&path, LastLink::Keep).unwrap().held,
            path,
            parts,
            total_bytes: 0,
        };
        let tell = |action: Action, path: &[u8]| {
            let text = format!("{action:?} {}", String::from_utf8_lossy(path));
            steps.lock().push(text);
        };
        let environment = Environment {
            monitor: &told,
            cancel: &cancel,
            steps: Some(&tell),
        };
        let result = restore(&tree, whole, &self.path(""), options, environment);
        let mut steps = steps.into_inner();
        steps.sort();
        Ran {
            result: result.map_err(|error| error.to_string()),
            told: told.0.into_inner(),
            steps,
        }
    }

    pub(super) fn inode(&self, below: &str) -> u64 {
        fs::symlink_metadata(self.path(below)).unwrap().ino()
    }

    /// All paths with inode, mode, times and content or target.
    fn state(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![self.path("")];
        while let Some(path) = waiting.pop() {
            let stat = path.symlink_metadata().unwrap();
            let content = match stat.file_type() {
                kind if kind.is_file() => fs::read(&path).unwrap(),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().as_bytes().to_vec(),
                _ => Vec::new(),
            };
            let text = format!(
                "{} {:o} {}.{} {} {content:?}",
                stat.ino(),
                stat.mode(),
                stat.mtime(),
                stat.mtime_nsec(),
                stat.nlink()
            );
            if stat.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            found.insert(path, text);
        }
        found
    }
}

/// Size of a file with little data.
const SPARSE: u64 = 16 << 20;

/// A directory with a file, a link, a sparse file, and a file with two names.
pub(super) fn sample() -> Memory {
    let mut memory = Memory::new();
    memory.edit(ROOT).attr.permissions = 0o751;
    let etc = memory.directory(ROOT, b"etc");
    memory.file(etc, b"passwd", b"root:x");
    memory.file(etc, b"hosts", b"::1");
    memory.link(etc, b"link", b"passwd");
    let sparse = memory.file(ROOT, b"sparse", b"");
    memory.piece(sparse, 5 << 20, &[7; 10_000]);
    memory.edit(sparse).attr.size = SPARSE;
    let twice = memory.file(ROOT, b"one", b"twice");
    memory.name(etc, b"two", twice);
    memory.edit(twice).attr.links = 2;
    memory
}

/// Sets the time that files of [`Memory`] have.
fn set_time(path: &Path) {
    let time = |seconds| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 123_456_789,
    };
    let times = rustix::fs::Timestamps {
        last_access: time(1_000_000_000),
        last_modification: time(1_100_000_000),
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn the_content_goes_into_a_new_directory_which_is_like_the_top() {
    let target = Target::new();
    let ran = target.restore(&sample(), PLAIN);
    let report = ran.report();
    assert_eq!((report.files, report.directories), (4, 2));
    assert_eq!((report.symlinks, report.hard_links), (1, 1));
    let top = target.path("").metadata().unwrap();
    assert_eq!((top.mode() & 0o7777, top.mtime()), (0o751, 1_100_000_000));
    assert_eq!(target.inode("one"), target.inode("etc/two"));
    assert!(fs::metadata(target.path("sparse")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn only_an_empty_directory_is_taken_without_force() {
    let target = Target::new();
    fs::create_dir_all(target.path("lost+found")).unwrap();
    target.restore(&sample(), PLAIN).report();
    let again = target.restore(&sample(), PLAIN).result.unwrap_err();
    assert!(again.contains("it is not empty; with --force"), "{again}");
    let file = Target::new();
    fs::write(file.path(""), "x").unwrap();
    let error = file.restore(&sample(), PLAIN).result.unwrap_err();
    assert!(error.contains("it is no directory"), "{error}");
    let dangling = Target::new();
    symlink("nowhere", dangling.path("")).unwrap();
    let error = dangling.restore(&sample(), PLAIN).result.unwrap_err();
    assert!(error.contains("leads nowhere"), "{error}");
}

#[test]
fn what_is_there_already_is_left_as_it_is() {
    let target = Target::with(&sample());
    let before = target.state();
    let ran = target.restore(&sample(), MIRROR);
    let report = ran.report();
    assert_eq!(target.state(), before);
    assert_eq!((report.unchanged, report.mended, report.removed), (8, 0, 0));
    assert_eq!((report.files, report.bytes, report.hard_links), (0, 0, 0));
    assert_eq!(ran.steps, Vec::<String>::new());
}

#[test]
fn only_what_differs_is_written_mended_and_removed_and_a_plan_says_it_before() {
    let target = Target::with(&sample());
    let path = |below| target.path(below);
    fs::write(path("etc/passwd"), "changed").unwrap();
    fs::set_permissions(path("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(path("etc/link")).unwrap();
    symlink("elsewhere", path("etc/link")).unwrap();
    fs::remove_file(path("sparse")).unwrap();
    fs::create_dir_all(path("extra/deep")).unwrap();
    fs::write(path("extra/deep/file"), "x").unwrap();
    fs::write(path("etc/extra"), "x").unwrap();
    let hosts = target.inode("etc/hosts");
    let before = target.state();
    let plan = target.restore(&sample(), AS_PLAN);
    assert_eq!(target.state(), before, "a plan changes nothing");
    let ran = target.restore(&sample(), MIRROR);
    assert_eq!(plan.steps, ran.steps);
    assert_eq!(
        ran.steps,
        [
            "Make sparse",
            "Mend ",
            "Mend etc",
            "Mend etc/hosts",
            "Remove etc/extra",
            "Remove extra",
            "Remove extra/deep",
            "Remove extra/deep/file",
            "Replace etc/link",
            "Replace etc/passwd",
        ]
    );
    assert_eq!(target.inode("etc/hosts"), hosts);
    assert_eq!(target.restore(&sample(), MIRROR).steps, Vec::<String>::new());
    let fresh = Target::with(&sample());
    let plain = |target: &Target| {
        let state = target.state().into_iter();
        let cut = |(path, text): (PathBuf, String)| {
            let path = path.strip_prefix(target.path("")).unwrap().to_owned();
            (path, text.split_once(' ').unwrap().1.to_owned())
        };
        state.map(cut).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(plain(&target), plain(&fresh));
}

#[test]
fn a_plan_for_a_directory_that_is_not_there_makes_none() {
    let target = Target::new();
    let plan = target.restore(
        &sample(),
        Options {
            act: Act::Plan,
            ..PLAIN
        },
    );
    assert_eq!(plan.report().files, 4);
    assert!(!target.path("").exists());
    let steps = target.restore(&sample(), PLAIN).steps;
    assert_eq!(plan.steps, steps);
}

#[test]
fn content_is_compared_only_if_asked_for() {
    let mut memory = Memory::new();
    memory.file(ROOT, b"other", b"backup");
    memory.file(ROOT, b"touched", b"backup");
    let sparse = memory.file(ROOT, b"sparse", b"begin");
    memory.edit(sparse).attr.size = 3 << 20;
    let target = Target::with(&memory);
    fs::write(target.path("other"), "edited").unwrap();
    set_time(&target.path("other"));
    fs::write(target.path("touched"), "backup").unwrap();
    let touched = target.inode("touched");
    assert_eq!(target.restore(&memory, UPDATE).steps, ["Replace touched"]);
    assert_eq!(fs::read(target.path("other")).unwrap(), b"edited");
    fs::write(target.path("touched"), "backup").unwrap();
    let written = target.inode("touched");
    assert_ne!(written, touched);
    let content = Options {
        existing: Existing::Update(Compare::Content),
        ..UPDATE
    };
    let ran = target.restore(&memory, content);
    assert_eq!(ran.steps, ["Mend touched", "Replace other"]);
    assert_eq!(
        target.inode("touched"),
        written,
        "what has the same content is not written"
    );
    // A byte where the backup has a hole.
    let file = fs::OpenOptions::new().write(true).open(target.path("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 2 << 20).unwrap();
    set_time(&target.path("sparse"));
    assert_eq!(target.restore(&memory, UPDATE).steps, Vec::<String>::new());
    assert_eq!(target.restore(&memory, content).steps, ["Replace sparse"]);
}

#[test]
fn names_are_linked_and_separated_as_in_the_backup() {
    let target = Target::with(&sample());
    // Two files of the same content where the backup has one with two names.
    fs::remove_file(target.path("etc/two")).unwrap();
    fs::write(target.path("etc/two"), "twice").unwrap();
    set_time(&target.path("etc/two"));
    // One file with two names where the backup has one.
    fs::hard_link(target.path("etc/passwd"), target.path("outside")).unwrap();
    let ran = target.restore(&sample(), UPDATE);
    let first = ran.steps.iter().filter(|step| step.starts_with("Replace")).count();
    assert_eq!(first, 2, "{:?}", ran.steps);
    assert_eq!(target.inode("one"), target.inode("etc/two"));
    assert_ne!(target.inode("etc/passwd"), target.inode("outside"));
    assert_eq!(fs::symlink_metadata(target.path("one")).unwrap().nlink(), 2);
    // Two files of the backup that are one in the target.
    let mut two = Memory::new();
    for names in [[&b"a"[..], b"b"], [b"c", b"d"]] {
        let file = two.file(ROOT, names[0], b"same");
        two.name(ROOT, names[1], file);
        two.edit(file).attr.links = 2;
    }
    let target = Target::with(&two);
    for name in ["b", "c", "d"] {
        fs::remove_file(target.path(name)).unwrap();
        fs::hard_link(target.path("a"), target.path(name)).unwrap();
    }
    target.restore(&two, UPDATE).report();
    let inode = |name| target.inode(name);
    assert_eq!((inode("a"), inode("c")), (inode("b"), inode("d")));
    assert_ne!(inode("a"), inode("c"));
}

#[test]
fn a_link_in_the_target_is_replaced_and_never_gone_through() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("passwd"), "old").unwrap();
    fs::create_dir(outside.path().join("kept")).unwrap();
    for options in [UPDATE, MIRROR] {
        let target = Target::with(&sample());
        fs::remove_dir_all(target.path("etc")).unwrap();
        symlink(outside.path(), target.path("etc")).unwrap();
        fs::remove_file(target.path("sparse")).unwrap();
        symlink(outside.path().join("passwd"), target.path("sparse")).unwrap();
        symlink(outside.path(), target.path("stray")).unwrap();
        let ran = target.restore(&sample(), options);
        ran.report();
        assert!(target.path("etc").symlink_metadata().unwrap().is_dir());
        assert_eq!(fs::read(target.path("etc/passwd")).unwrap(), b"root:x");
        assert_eq!(target.path("sparse").symlink_metadata().unwrap().len(), SPARSE);
        assert_eq!(
            target.path("stray").symlink_metadata().is_ok(),
            options.extra == Extra::Leave
        );
    }
    assert_eq!(fs::read(outside.path().join("passwd")).unwrap(), b"old");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
}

#[test]
fn a_directory_in_the_place_of_a_file_goes_if_it_is_empty_or_all_that_is_extra_goes() {
    let before = || {
        let target = Target::with(&sample());
        for name in ["sparse", "etc/link"] {
            fs::remove_file(target.path(name)).unwrap();
            fs::create_dir(target.path(name)).unwrap();
        }
        fs::write(target.path("sparse/mine"), "mine").unwrap();
        target
    };
    let target = before();
    for options in [
        Options {
            act: Act::Plan,
            ..UPDATE
        },
        UPDATE,
    ] {
        let ran = target.restore(&sample(), options);
        assert_eq!(ran.result.as_ref().unwrap().failures.other, 1);
        ran.tells("add --delete to remove it");
    }
    assert!(target.path("etc/link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read(target.path("sparse/mine")).unwrap(), b"mine");
    let target = before();
    target.restore(&sample(), MIRROR).report();
    assert_eq!(target.path("sparse").metadata().unwrap().len(), SPARSE);
}

#[test]
fn only_the_parts_asked_for_are_put_back() {
    let mut memory = sample();
    let etc = memory.directory(ROOT, b"usr");
    let deep = memory.directory(etc, b"share");
    memory.file(deep, b"file", b"x");
    memory.file(etc, b"not this", b"x");
    let parts = |paths: &[&[&str]]| {
        let names = |path: &&[&str]| path.iter().map(|name| name.as_bytes().to_vec()).collect();
        Parts::of(paths.iter().map(names))
    };
    let target = Target::new();
    fs::create_dir(target.path("")).unwrap();
    fs::set_permissions(target.path(""), fs::Permissions::from_mode(0o700)).unwrap();
    let ran = target.restore_parts(&memory, PLAIN, parts(&[&["usr", "share"], &["etc", "passwd"]]));
    assert_eq!((ran.report().files, ran.report().directories), (2, 3));
    let names: Vec<PathBuf> = target.state().into_keys().collect();
    let expected = ["", "etc", "etc/passwd", "usr", "usr/share", "usr/share/file"];
    assert_eq!(
        names,
        expected
            .map(|name| target.path(name))
            .map(|path| path.components().collect::<PathBuf>())
    );
    // A directory on the way that was there stays as it was, one that was made is like the original.
    let mode = |below| target.path(below).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("etc"), mode("usr")), (0o700, 0o755, 0o755));
    fs::write(target.path("usr/extra"), "x").unwrap();
    fs::write(target.path("usr/share/extra"), "x").unwrap();
    let ran = target.restore_parts(&memory, MIRROR, parts(&[&["usr", "share"]]));
    assert_eq!(ran.steps, ["Mend usr/share", "Remove usr/share/extra"]);
    let ran = target.restore_parts(&memory, UPDATE, parts(&[&["etc", "passwd", "x"], &["no", "such"]]));
    ran.tells("it is no directory");
    ran.tells("nothing of this name");
}

#[test]
fn nothing_is_removed_that_damage_may_hide() {
    let target = Target::with(&sample());
    let mut memory = sample();
    let damaged = memory.directory(ROOT, b"damaged");
    memory.file(damaged, b"file", b"x");
    fs::create_dir(target.path("damaged")).unwrap();
    fs::write(target.path("damaged/file"), "x").unwrap();
    fs::write(target.path("extra"), "x").unwrap();
    memory.edit(damaged).damaged = true;
    let ran = target.restore(&memory, MIRROR);
    assert_eq!(
        ran.result.unwrap().failures.damaged,
        2,
        "the directory, and whether its name is extra"
    );
    assert!(target.path("damaged/file").exists() && !target.path("extra").exists());
}

#[test]
fn extra_trees_of_any_shape_are_removed_but_not_what_links_in_them_lead_to() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("file"), "x").unwrap();
    let target = Target::with(&sample());
    let mut deep = target.path("extra");
    for _ in 0..100 {
        fs::create_dir(&deep).unwrap();
        symlink(outside.path(), deep.join("out")).unwrap();
        fs::write(deep.join(OsStr::from_bytes(b"\xff\n")), "x").unwrap();
        deep.push("d");
    }
    fs::create_dir(target.path("wide")).unwrap();
    for number in 0..5000 {
        fs::write(target.path(&format!("wide/{number}")), "").unwrap();
    }
    let ran = target.restore(&sample(), MIRROR);
    assert_eq!(ran.report().removed, 300 + 5001);
    assert_eq!(target.restore(&sample(), MIRROR).steps, Vec::<String>::new());
    assert!(outside.path().join("file").exists());
}
