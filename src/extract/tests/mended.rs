//! Attributes, flags and owners of what is put back into a directory that was there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{IFlags, Mode, ioctl_getflags, ioctl_setflags};

use super::update::{AS_PLAN, MIRROR, Target, UPDATE, sample};
use super::{Memory, Options, Owners, PLAIN, ROOT};

#[test]
fn attributes_are_mended_without_writing_the_file() {
    let mut memory = sample();
    let file = memory.file(ROOT, b"file", b"x");
    memory.edit(file).xattrs = vec![
        (b"user.kept".to_vec(), b"1".to_vec()),
        (b"user.other".to_vec(), b"2".to_vec()),
    ];
    let target = Target::new();
    if !target.restore(&memory, PLAIN).report().not_kept.is_empty() {
        eprintln!("SKIPPED: the temporary directory takes no attributes of users");
        return;
    }
    let path = target.path("file");
    let inode = target.inode("file");
    rustix::fs::setxattr(&path, "user.other", b"changed", XATTR).unwrap();
    rustix::fs::setxattr(&path, "user.extra", b"", XATTR).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let ran = target.restore(&memory, UPDATE);
    assert_eq!(ran.steps, ["Mend file"]);
    let get = |name: &str| {
        let mut value = [0; 16];
        rustix::fs::getxattr(&path, name, &mut value[..]).map(|len| value[..len].to_vec())
    };
    assert_eq!(
        (get("user.kept").unwrap(), get("user.other").unwrap()),
        (b"1".to_vec(), b"2".to_vec())
    );
    assert!(get("user.extra").is_err());
    assert_eq!(
        (target.inode("file"), path.metadata().unwrap().mode() & 0o7777),
        (inode, 0o644)
    );
    assert_eq!(target.restore(&memory, UPDATE).steps, Vec::<String>::new());
}

const XATTR: rustix::fs::XattrFlags = rustix::fs::XattrFlags::empty();

fn flags_of(path: &Path) -> Option<IFlags> {
    let file = rustix::fs::open(path, rustix::fs::OFlags::RDONLY, Mode::empty()).ok()?;
    ioctl_getflags(file).ok()
}

fn set_flags(path: &Path, flags: IFlags) {
    let file = rustix::fs::open(path, rustix::fs::OFlags::RDONLY, Mode::empty()).unwrap();
    ioctl_setflags(file, flags).unwrap();
}

#[test]
fn files_are_locked_last_and_unlocked_to_be_changed() {
    let mut memory = sample();
    let locked = (IFlags::IMMUTABLE | IFlags::NODUMP).bits();
    let etc = memory.directory(ROOT, b"locked");
    let file = memory.file(etc, b"file", b"x");
    let twice = memory.file(etc, b"a", b"twice");
    memory.name(ROOT, b"z", twice);
    memory.edit(twice).attr.links = 2;
    for inode in [etc, file, twice] {
        memory.edit(inode).flags = locked;
    }
    let target = Target::new();
    let ran = target.restore(&memory, PLAIN);
    if !ran.report().not_kept.is_empty() {
        eprintln!(
            "SKIPPED: this test needs root and a file system with flags: {:?}",
            ran.told
        );
        return;
    }
    let paths = ["locked", "locked/file", "locked/a", "z"].map(|name| target.path(name));
    let all = IFlags::from_bits_retain(locked);
    let check = || {
        for path in &paths {
            assert!(flags_of(path).unwrap().contains(all), "{path:?}");
        }
    };
    check();
    assert_eq!(target.restore(&memory, MIRROR).steps, Vec::<String>::new());
    check();
    // Everything under a lock differs, and one lock is too many.
    for path in &paths[..3] {
        set_flags(path, IFlags::empty());
    }
    fs::write(target.path("locked/file"), "other").unwrap();
    fs::write(target.path("locked/extra"), "extra").unwrap();
    fs::set_permissions(target.path("z"), fs::Permissions::from_mode(0o600)).unwrap();
    for path in &paths[..3] {
        set_flags(path, all);
    }
    let hosts = target.path("etc/hosts");
    set_flags(&hosts, all);
    let steps = [
        "Mend etc/hosts",
        "Mend locked",
        "Mend locked/a",
        "Remove locked/extra",
        "Replace locked/file",
    ];
    let plan = target.restore(&memory, AS_PLAN);
    assert_eq!(plan.steps, steps);
    assert_eq!(target.restore(&memory, MIRROR).steps, steps);
    check();
    assert!(!flags_of(&hosts).unwrap().intersects(all));
    for path in &paths {
        set_flags(path, IFlags::empty());
    }
}

#[test]
fn owners_are_found_by_their_names() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this test needs root");
        return;
    }
    let mut memory = Memory::new();
    for (name, id) in [(&b"known"[..], 4242), (b"unknown", 4243)] {
        let file = memory.file(ROOT, name, b"x");
        (memory.edit(file).attr.uid, memory.edit(file).attr.gid) = (id, id);
    }
    memory.users.insert(4242, b"root".to_vec());
    memory.groups.insert(4242, b"root".to_vec());
    memory.users.insert(4243, b"nobody has this name".to_vec());
    let owners = |owners| {
        let target = Target::new();
        let ran = target.restore(&memory, Options { owners, ..PLAIN });
        let of = |name: &str| {
            let stat = target.path(name).metadata().unwrap();
            (stat.uid(), stat.gid())
        };
        (of("known"), of("unknown"), ran.report().not_kept.len())
    };
    assert_eq!(owners(Owners::Keep), ((4242, 4242), (4243, 4243), 0));
    assert_eq!(owners(Owners::Names), ((0, 0), (4243, 4243), 1));
    assert_eq!(owners(Owners::Own), ((0, 0), (0, 0), 0));
}
