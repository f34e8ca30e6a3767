//! What is put into images: one of everything that a server's disk has, through the kernel.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType as Kind, Mode, Timespec, Timestamps, XattrFlags};

use crate::common::Random;
use crate::files::run;

/// One of everything; `block` is the block size of the file system.
pub fn everything(root: &Path, block: u64) {
    contents(&root.join("contents"), block);
    directories(&root.join("directories"));
    attributes(&root.join("attributes"));
    owners_and_times(&root.join("owners"));
    others(&root.join("others"));
}

/// Regular files of every shape.
pub fn contents(dir: &Path, block: u64) {
    fs::create_dir(dir).unwrap();
    let mut random = Random::quiet(7);
    for len in [0_usize, 1, 511, 512, 4095, 4096, 4097, 100_000] {
        fs::write(dir.join(format!("of {len} bytes")), random.bytes(len)).unwrap();
    }
    let file = File::create(dir.join("sparse")).unwrap();
    file.write_all_at(b"far out", 1 << 30).unwrap();
    file.write_all_at(b"farther", (1 << 40) + 12_345).unwrap();
    file.set_len(1 << 43).unwrap();
    let file = File::create(dir.join("nothing but a hole")).unwrap();
    file.set_len((1 << 63) - 1).unwrap();
    let file = File::create(dir.join("many extents")).unwrap();
    for index in 0..1500 {
        file.write_all_at(&random.bytes(100), index * 2 * block).unwrap();
    }
    let file = File::create(dir.join("punched")).unwrap();
    file.write_all_at(&random.bytes(usize::try_from(64 * block).unwrap()), 0)
        .unwrap();
    file.sync_all().unwrap();
    for index in (0..64).step_by(5) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&file, flags, index * block, block).unwrap();
    }
    let file = File::create(dir.join("reserved")).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 100 * block).unwrap();
    for index in [0, 1, 7, 50, 99] {
        file.write_all_at(&random.bytes(10), index * block + 3).unwrap();
    }
    let file = File::create(dir.join("reserved past its end")).unwrap();
    file.write_all_at(b"short", 0).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 40 * block).unwrap();
}

/// Copies that share their blocks with what they were made from; where the file system can.
pub fn reflinks(root: &Path) {
    let from = root.join("contents/punched");
    let to = root.join("shared");
    run(&["cp", "--reflink=always", from.to_str().unwrap(), to.to_str().unwrap()]);
    let file = File::options().write(true).open(&to).unwrap();
    file.write_all_at(b"no longer the same", 70_000).unwrap();
}

/// Directories of every form, by their number of names, and some that shrank.
pub fn directories(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for count in [0, 1, 10, 300] {
        names(&dir.join(count.to_string()), count);
    }
    let shrunk = dir.join("shrunk");
    names(&shrunk, 1500);
    for index in (0..1500).filter(|index| index % 50 != 0) {
        fs::remove_file(shrunk.join(name(index))).unwrap();
    }
    let mut deep = dir.to_owned();
    for level in 0..60 {
        deep.push(format!("level {level}"));
        fs::create_dir(&deep).unwrap();
    }
    let odd = dir.join("odd");
    fs::create_dir(&odd).unwrap();
    let longest = [0xff; 255];
    let names: [&[u8]; 7] = [
        &longest,
        &longest[..254],
        b"a\nb",
        b"*",
        b"...",
        b" ",
        b"\xc0\xaf\x7f\x01",
    ];
    for name in names {
        File::create(odd.join(OsStr::from_bytes(name))).unwrap();
    }
}

/// Name number `index` of a large directory; lengths vary.
pub fn name(index: u64) -> String {
    format!("{index:x}-{}", "name".repeat(usize::try_from(index % 11).unwrap()))
}

/// A directory of `count` names, most of which are links to a few files.
pub fn names(dir: &Path, count: u64) {
    fs::create_dir(dir).unwrap();
    for index in 0..count {
        match index % 100 {
            0 => drop(File::create(dir.join(name(index))).unwrap()),
            _ => fs::hard_link(dir.join(name(index - index % 100)), dir.join(name(index))).unwrap(),
        }
    }
}

/// Extended attributes in all forms.
pub fn attributes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let mut random = Random::quiet(11);
    let mut set = |file: &str, name: &str, len: usize| {
        let path = dir.join(file);
        if !path.exists() {
            File::create(&path).unwrap();
        }
        rustix::fs::setxattr(&path, name, &random.bytes(len), XattrFlags::empty()).unwrap();
    };
    set("short", "user.origin", 10);
    set("short", "trusted.overlay.opaque", 1);
    set("short", "security.other", 0);
    for len in [100, 1000, 2000, 3000, 4000, 10_000, 65_536] {
        set(&format!("value of {len}"), "user.value", len);
        set(&format!("value of {len}"), "user.small", 3);
    }
    for index in 0..30 {
        set("some", &format!("user.number {index}"), 50);
    }
    for index in 0..400 {
        set(
            "many",
            &format!("user.number {index} {}", "x".repeat(index % 90)),
            index % 120,
        );
    }
    for index in 0..20 {
        set("large and many", &format!("trusted.number {index}"), 3000 + index * 700);
    }
    for index in 0..40 {
        set("removed", &format!("user.number {index}"), 100);
    }
    for index in 1..40 {
        rustix::fs::removexattr(dir.join("removed"), format!("user.number {index}")).unwrap();
    }
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    File::create(dir.join("capable")).unwrap();
    rustix::fs::setxattr(
        dir.join("capable"),
        "security.capability",
        &capability,
        XattrFlags::empty(),
    )
    .unwrap();
    File::create(dir.join("acl")).unwrap();
    let acl = dir.join("acl");
    run(&[
        "setfacl",
        "-m",
        "u:1000:rwx,u:70000:r,g:5:x,m:rx",
        acl.to_str().unwrap(),
    ]);
    let default = dir.join("acl of a directory");
    fs::create_dir(&default).unwrap();
    run(&["setfacl", "-m", "u:1:rw,d:u:2:r,d:g:3:-", default.to_str().unwrap()]);
    File::create(default.join("inherits")).unwrap();
    symlink("nowhere", dir.join("link")).unwrap();
    rustix::fs::lsetxattr(dir.join("link"), "trusted.on a link", b"value", XattrFlags::empty()).unwrap();
}

/// Owners, permissions, times.
pub fn owners_and_times(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for mode in [0o0, 0o777, 0o4755, 0o2755, 0o1777, 0o7777] {
        let path = dir.join(format!("mode {mode:o}"));
        File::create(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(mode), Some(4_000_000_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for seconds in [
        i64::from(i32::MIN),
        -1,
        0,
        1,
        i64::from(i32::MAX),
        1 << 31,
        1 << 33,
        16_299_260_424,
    ] {
        let path = dir.join(format!("at {seconds}"));
        File::create(&path).unwrap();
        let time = |tv_nsec| Timespec {
            tv_sec: seconds,
            tv_nsec,
        };
        let times = Timestamps {
            last_access: time(999_999_999),
            last_modification: time(1),
        };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    }
}

/// Links, devices, sockets, pipes.
pub fn others(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let lengths = (1..1023)
        .step_by(41)
        .chain([127, 128, 335, 336, 337, 455, 456, 457, 911, 912, 913, 1022, 1023]);
    for len in lengths {
        let target = "target/".repeat(147);
        let link = dir.join(format!("link of {len}"));
        if fs::symlink_metadata(&link).is_err() {
            symlink(&target[..len], link).unwrap();
        }
    }
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_bits_truncate(0o640), device).unwrap();
    };
    node("null", Kind::CharacterDevice, rustix::fs::makedev(1, 3));
    node(
        "large numbers",
        Kind::CharacterDevice,
        rustix::fs::makedev(500, 200_000),
    );
    node("disk", Kind::BlockDevice, rustix::fs::makedev(259, 17));
    node("pipe", Kind::Fifo, 0);
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
    fs::write(dir.join("one"), "content of three names").unwrap();
    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
    fs::create_dir(dir.join("inner")).unwrap();
    fs::hard_link(dir.join("one"), dir.join("inner/three")).unwrap();
}
