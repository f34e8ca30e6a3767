//! Copies of backups between vaults by the real program: what arrives, what is not sent twice, what is refused, and what is left
//! after damage, interruptions and kills.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
#[path = "copy/disturbed.rs"]
mod disturbed;
#[path = "copy/faults.rs"]
mod faults;
#[path = "objects/mod.rs"]
mod objects;
#[path = "copy/remote.rs"]
mod remote;
#[path = "trees_backup/tree.rs"]
mod tree;
#[path = "copy/trees.rs"]
mod trees;

use common::disks::{CHUNK, Sparse, length};
use common::mounted::Mount;
use common::program::{stderr, succeed, vaultfs};
use common::{Random, can_mount, files, have};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A directory with vaults in it.
pub(crate) struct Desk {
    dir: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) json: Value,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stderr: stderr(output),
            json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
        }
    }

    /// Asserts success without a word on standard error.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("{name} of {self:?}"))
    }

    /// Backups copied, there, failed.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.number("copied"), self.number("there"), self.number("failed"))
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a vault with chunks of this size.
    pub(crate) fn vault(&self, name: &str, chunk_size: &str) -> PathBuf {
        let at = self.path(name);
        let words = [
            OsString::from("init"),
            at.clone().into(),
            "--chunk-size".into(),
            chunk_size.into(),
        ];
        succeed(vaultfs(words));
        at
    }

    /// Two vaults with the smallest chunks.
    pub(crate) fn two(&self) -> (PathBuf, PathBuf) {
        (self.vault("from", "64KiB"), self.vault("to", "64KiB"))
    }

    /// Backs up a server with these disks at a time.
    #[track_caller]
    pub(crate) fn server(&self, vault: &Path, name: &str, at: &str, disks: &[(&str, &Sparse)]) {
        let mut words: Vec<OsString> = vec!["backup".into(), vault.into(), "server".into(), name.into()];
        words.extend(["--at", at].map(OsString::from));
        for (disk, content) in disks {
            let file = self.path(&format!("{disk}.raw"));
            content.write_to(&file);
            words.push("--disk".into());
            let mut word = OsString::from(format!("{disk}="));
            word.push(&file);
            words.push(word);
        }
        succeed(vaultfs(words));
    }
}

/// The command line of a copy, answering in JSON.
pub(crate) fn copy_command(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = vaultfs(["copy", "--json"]);
    command.args(words.iter().map(|word| word.as_ref()));
    command
}

#[track_caller]
pub(crate) fn copy(words: &[&dyn AsRef<std::ffi::OsStr>]) -> Ended {
    Ended::of(&copy_command(words).output().unwrap())
}

/// What `show` and the images of a backup tell that does not depend on the vault it is in.
#[track_caller]
pub(crate) fn shown(vault: &Path, address: &str) -> Value {
    let words = [OsString::from("show"), vault.into(), address.into(), "--json".into()];
    let mut shown: Value = serde_json::from_slice(&succeed(vaultfs(words))).unwrap();
    let strip = |value: &mut Value| {
        let object = value.as_object_mut().unwrap();
        for key in ["new_bytes", "stored_bytes"] {
            assert!(object.remove(key).is_some(), "{key} is not shown");
        }
    };
    shown["disks"].as_array_mut().unwrap().iter_mut().for_each(strip);
    strip(&mut shown);
    shown
}

/// The bytes of a file of a backup.
#[track_caller]
pub(crate) fn cat(vault: &Path, path: &str) -> Vec<u8> {
    succeed(vaultfs([OsString::from("cat"), vault.into(), path.into()]))
}

/// Every object of a vault with its length.
pub(crate) fn objects_of(vault: &Path) -> Vec<(PathBuf, u64)> {
    let len = |path: PathBuf| {
        let len = path.metadata().unwrap().len();
        (path, len)
    };
    files(vault).into_iter().map(len).collect()
}

/// The addresses of a vault's backups.
pub(crate) fn addresses(vault: &Path) -> Vec<String> {
    let found = tree::addresses(vault);
    found.iter().map(ToString::to_string).collect()
}

/// A disk with data here and there, of which each seed shares the first run with every other.
pub(crate) fn disk(seed: u64) -> Sparse {
    let mut random = Random::quiet(seed);
    let common = Random::quiet(4711).bytes(length(5 * CHUNK));
    let own = random.bytes(length(3 * CHUNK) + 77);
    Sparse::new(
        200 * (1 << 20) + 4097,
        vec![(CHUNK + 3, common), (90 << 20, own), (200 << 20, vec![7; 4097])],
    )
}

const FIRST: &str = "2026-01-01T00-00-00Z";
const SECOND: &str = "2026-01-02T00-00-00Z";

#[test]
fn a_server_arrives_as_it_was_in_show_cat_and_the_mount() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    let (vda, vdb) = (disk(1), Sparse::new(5 * CHUNK, Vec::new()));
    desk.server(&from, "web", FIRST, &[("vda", &vda), ("vdb", &vdb)]);
    let ended = copy(&[&from, &"servers/web/latest", &to]).succeeds();
    assert_eq!(ended.counts(), (1, 0, 0));
    // 5 and 3 chunks that begin within one, and the two at the end of the disk.
    assert_eq!((ended.number("copied_chunks"), ended.number("found_chunks")), (11, 0));
    let address = format!("servers/web/{FIRST}");
    assert_eq!(shown(&from, &address), shown(&to, &address));
    for (name, model) in [("vda", &vda), ("vdb", &vdb)] {
        let bytes = cat(&to, &format!("{address}/disks/{name}.img"));
        let size = vaultfs::image::ReadAt::len(model);
        assert!(bytes == model.bytes(0..size), "{name} differs");
    }
    let test = "a_server_arrives_as_it_was_in_show_cat_and_the_mount";
    if !can_mount(test) || !have(test, "cmp") {
        return;
    }
    let mounts = [("one", &from), ("two", &to)].map(|(name, vault)| {
        std::fs::create_dir(desk.path(name)).unwrap();
        Mount::new(&desk.path(name), vault, "cache=16MiB")
    });
    let image = |mount: &Mount, disk: &str| mount.path(&format!("servers/web/latest/disks/{disk}.img"));
    for disk in ["vda", "vdb"] {
        let [ours, theirs] = [&mounts[0], &mounts[1]].map(|mount| image(mount, disk));
        let mut compare = Command::new("cmp");
        compare.arg(&ours).arg(&theirs);
        succeed(compare);
        use std::os::unix::fs::MetadataExt;
        let blocks = |path: &Path| path.metadata().unwrap().blocks();
        assert_eq!(blocks(&ours), blocks(&theirs), "holes of {disk}");
    }
}

#[test]
fn a_second_copy_transfers_nothing_and_writes_nothing() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    for (number, at) in [FIRST, SECOND].into_iter().enumerate() {
        desk.server(&from, "web", at, &[("vda", &disk(u64::try_from(number).unwrap()))]);
    }
    let first = copy(&[&"--all", &from, &to]).succeeds();
    assert_eq!(first.counts(), (2, 0, 0));
    // What the second backup shares with the first is not sent again.
    assert_eq!(
        (first.number("copied_chunks"), first.number("found_chunks")),
        (11 + 4, 7)
    );
    let before = objects_of(&to);
    let again = copy(&[&"--all", &from, &to]).succeeds();
    assert_eq!(again.counts(), (0, 2, 0));
    assert_eq!((again.number("copied_chunks"), again.number("found_chunks")), (0, 0));
    assert_eq!(objects_of(&to), before);
    let single = copy(&[&from, &"servers/web", &to]).succeeds();
    assert_eq!((single.counts(), objects_of(&to)), ((0, 2, 0), before));
}

#[test]
fn parents_are_kept_where_they_are_and_the_next_copy_finds_what_is_there() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    for (number, at) in (1..).zip([FIRST, SECOND, "2026-01-03T00-00-00Z"]) {
        desk.server(&from, "web", at, &[("vda", &disk(number))]);
    }
    copy(&[&from, &format!("servers/web/{SECOND}"), &to]).succeeds();
    let parent = |at: &str| {
        let words = [
            OsString::from("show"),
            to.clone().into(),
            format!("servers/web/{at}").into(),
            "--json".into(),
        ];
        let shown: Value = serde_json::from_slice(&succeed(vaultfs(words))).unwrap();
        shown["parent"].clone()
    };
    assert_eq!(parent(SECOND), Value::Null);
    let ended = copy(&[&from, &"servers/web/latest", &to]).succeeds();
    assert_eq!(parent("2026-01-03T00-00-00Z"), SECOND);
    assert_eq!((ended.number("copied_chunks"), ended.number("found_chunks")), (4, 7));
    let all = copy(&[&"--all", &from, &to]).succeeds();
    assert_eq!(all.counts(), (1, 2, 0));
    for number in 1..=3u64 {
        let model = disk(number);
        let path = format!("servers/web/2026-01-{number:02}T00-00-00Z/disks/vda.img");
        assert!(
            cat(&to, &path) == model.bytes(0..vaultfs::image::ReadAt::len(&model)),
            "{path}"
        );
    }
    // The vault is one that backups go on in.
    desk.server(&to, "web", "2026-02-01T00-00-00Z", &[("vda", &disk(3))]);
    assert_eq!(addresses(&to).len(), 4);
}

#[test]
fn chunks_that_the_other_vault_has_from_elsewhere_are_not_sent() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    desk.server(&to, "db", FIRST, &[("vda", &disk(2))]);
    let ended = copy(&[&"--all", &from, &to]).succeeds();
    // The run that is their own; that at the end is in both.
    assert_eq!((ended.number("copied_chunks"), ended.number("found_chunks")), (4, 7));
    assert!(cat(&to, "servers/web/latest/disks/vda.img") == cat(&from, "servers/web/latest/disks/vda.img"));
}

#[test]
fn a_vault_of_another_chunk_size_takes_backups_as_they_are() {
    let desk = Desk::new();
    let (from, to) = (desk.vault("from", "64KiB"), desk.vault("to", "256KiB"));
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    copy(&[&"--all", &from, &to]).succeeds();
    assert_eq!(shown(&from, "servers/web/latest"), shown(&to, "servers/web/latest"));
    assert!(cat(&to, "servers/web/latest/disks/vda.img") == cat(&from, "servers/web/latest/disks/vda.img"));
    // The next backup there has that vault's own chunks, and both can be read.
    desk.server(&to, "web", SECOND, &[("vda", &disk(1))]);
    assert!(cat(&to, "servers/web/latest/disks/vda.img") == cat(&from, "servers/web/latest/disks/vda.img"));
    copy(&[&to, &format!("servers/web/{SECOND}"), &from]).succeeds();
    assert!(cat(&from, &format!("servers/web/{SECOND}/disks/vda.img")) == cat(&to, "servers/web/latest/disks/vda.img"));
}

#[test]
fn another_backup_at_the_same_address_is_named_and_left_alone() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    // The same resource in both vaults, then the same second, size and amount of data, and one chunk that differs.
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    copy(&[&"--all", &from, &to]).succeeds();
    desk.server(&from, "web", SECOND, &[("vda", &disk(2))]);
    desk.server(&to, "web", SECOND, &[("vda", &disk(3))]);
    desk.server(&from, "web", "2026-01-03T00-00-00Z", &[("vda", &disk(4))]);
    let ended = copy(&[&"--all", &from, &to]);
    assert_eq!((ended.code, ended.counts()), (Some(5), (1, 1, 1)), "{}", ended.stderr);
    for part in [
        SECOND,
        "differs at byte",
        &from.display().to_string(),
        &to.display().to_string(),
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let path = format!("servers/web/{SECOND}/disks/vda.img");
    let theirs = disk(3);
    assert!(cat(&to, &path) == theirs.bytes(0..vaultfs::image::ReadAt::len(&theirs)));
    // Other words about the same bytes are another backup, too.
    let tagged = desk.vault("tagged", "64KiB");
    desk.server(&tagged, "web", FIRST, &[("vda", &disk(1))]);
    assert_eq!(copy(&[&"--all", &tagged, &to]).succeeds().counts(), (0, 1, 0));
}

#[test]
fn the_same_vault_and_missing_ones_are_refused_before_anything_is_done() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    let twin = desk.path("twin");
    let mut cp = Command::new("cp");
    cp.arg("-a").arg(&from).arg(&twin);
    succeed(cp);
    for same in [&from, &twin] {
        let ended = copy(&[&"--all", &from, same]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("the same vault"), "{}", ended.stderr);
    }
    let before = objects_of(&to);
    for (words, code, part) in [
        (vec!["servers/none"], 1, "no backup servers/none"),
        (vec!["web"], 2, "servers, disks or filesystems"),
        (vec!["--all", "servers"], 2, "--all"),
    ] {
        let mut command = vaultfs([OsString::from("copy"), from.clone().into()]);
        let output = command.args(words).arg(&to).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let nowhere = copy(&[&"--all", &from, &desk.path("nowhere")]);
    assert_eq!(nowhere.code, Some(4), "{}", nowhere.stderr);
    assert_eq!(objects_of(&to), before);
}

#[test]
fn a_dry_run_says_what_would_be_copied_and_changes_nothing() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    copy(&[&"--all", &from, &to]).succeeds();
    desk.server(&from, "db", SECOND, &[("vda", &disk(2))]);
    let before = objects_of(&to);
    let planned = copy(&[&"--dry-run", &"--all", &from, &to]).succeeds();
    let work: Vec<_> = planned.json["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["work"])
        .collect();
    assert_eq!(work, ["compare", "copy"]);
    assert_eq!(objects_of(&to), before);
    let words = [OsString::from("copy"), from.into(), "--all".into(), to.into()];
    let text = String::from_utf8(succeed(vaultfs(words))).unwrap();
    assert!(text.contains("copied         1\nthere already  1\n"), "{text}");
}
