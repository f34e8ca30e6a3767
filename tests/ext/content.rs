//! What the images hold: files of every kind, made through the kernel.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stderr,
    unreachable_pub
)]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::common::Random;

/// Makes files of every kind below `root`; what a file system cannot hold is left out.
pub fn fill(root: &Path) {
    sizes(root);
    sparse(root);
    special(root);
    links(root);
    names(root);
    attributes(root);
    times(root);
    let mut deep = root.to_path_buf();
    for level in 0..40 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
}

fn sizes(root: &Path) {
    let dir = root.join("sizes");
    fs::create_dir(&dir).unwrap();
    let mut random = Random::quiet(1);
    for size in [0, 1, 59, 60, 61, 100, 150, 1000, 4095, 4096, 4097, 100_000, 1 << 20] {
        fs::write(dir.join(size.to_string()), random.bytes(size)).unwrap();
    }
}

fn sparse(root: &Path) {
    let dir = root.join("sparse");
    fs::create_dir(&dir).unwrap();
    let holes = File::create(dir.join("holes")).unwrap();
    for at in [5 << 20, 70 << 20, 1 << 30, (4 << 30) + 4096] {
        if holes.write_all_at(b"island", at).is_err() {
            break;
        }
    }
    let tail = File::create(dir.join("tail")).unwrap();
    tail.write_all_at(b"data", 0).unwrap();
    tail.set_len(12_345_678).unwrap();
    let many = File::create(dir.join("many extents")).unwrap();
    let piece = [7; 4096];
    for index in 0..1500_u64 {
        many.write_all_at(&piece, index * 12_288).unwrap();
    }
    let unwritten = File::create(dir.join("unwritten")).unwrap();
    if rustix::fs::fallocate(&unwritten, FallocateFlags::empty(), 0, 3 << 20).is_ok() {
        unwritten.write_all_at(b"written", 1 << 20).unwrap();
        let kept = File::create(dir.join("beyond the size")).unwrap();
        kept.write_all_at(b"short", 0).unwrap();
        rustix::fs::fallocate(&kept, FallocateFlags::KEEP_SIZE, 0, 1 << 20).unwrap();
        let punched = File::create(dir.join("punched")).unwrap();
        punched.write_all_at(&vec![9; 1 << 18], 0).unwrap();
        let flags = FallocateFlags::KEEP_SIZE | FallocateFlags::PUNCH_HOLE;
        rustix::fs::fallocate(&punched, flags, 5000, 90_000).unwrap();
    }
}

fn special(root: &Path) {
    let dir = root.join("special");
    fs::create_dir(&dir).unwrap();
    let make = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("null", FileType::CharacterDevice, 1, 3);
    make("disk", FileType::BlockDevice, 8, 1);
    make("large numbers", FileType::BlockDevice, 300, 70_000);
    make("large minor", FileType::CharacterDevice, 4, 500);
    make("pipe", FileType::Fifo, 0, 0);
    make("socket", FileType::Socket, 0, 0);
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2750), ("sticky", 0o1777), ("none", 0)] {
        fs::write(dir.join(name), name).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::write(dir.join("owned"), "by others").unwrap();
    std::os::unix::fs::chown(dir.join("owned"), Some(70_000), Some(4_000_000_000)).unwrap();
    for (name, flags) in [("immutable", "+i"), ("append only", "+a"), ("no dump", "+d")] {
        fs::write(dir.join(name), name).unwrap();
        let _ = Command::new("chattr").arg(flags).arg(dir.join(name)).output();
    }
}

fn links(root: &Path) {
    let dir = root.join("links");
    fs::create_dir(&dir).unwrap();
    for len in [1, 10, 58, 59, 60, 61, 120, 500, 1000, 1023, 2000, 4000, 4095] {
        // Longer than a block is refused.
        let _ = symlink("x".repeat(len), dir.join(len.to_string()));
    }
    symlink("../sizes/100", dir.join("relative")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe\n"), dir.join("bytes")).unwrap();
    fs::write(dir.join("a"), "one file").unwrap();
    for name in ["b", "c", "../hard"] {
        fs::hard_link(dir.join("a"), dir.join(name)).unwrap();
    }
}

fn names(root: &Path) {
    let dir = root.join("names");
    fs::create_dir(&dir).unwrap();
    for name in [
        &[0xff; 255][..],
        b"new\nline",
        b"\xe9t\xe9",
        b" ",
        b"-rf",
        "ünïcödé".as_bytes(),
        b"...",
        b"~",
    ] {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let many = root.join("many");
    fs::create_dir(&many).unwrap();
    for index in 0..400 {
        File::create(many.join(format!("{index}-{}", "n".repeat(index % 200)))).unwrap();
    }
    // Free space between entries.
    for index in (0..400).step_by(3) {
        fs::remove_file(many.join(format!("{index}-{}", "n".repeat(index % 200)))).unwrap();
    }
    for index in 0..30 {
        fs::create_dir(many.join(format!("directory {index}"))).unwrap();
    }
}

fn attributes(root: &Path) {
    let dir = root.join("attributes");
    fs::create_dir(&dir).unwrap();
    let set = |file: &str, name: &str, value: &[u8]| {
        let path = dir.join(file);
        if !path.exists() {
            fs::write(&path, file).unwrap();
        }
        rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty()).is_ok()
    };
    set("small", "user.origin", b"somewhere");
    set("small", "user.empty", b"");
    set("small", "trusted.secret", &[0, 255, 1]);
    set(
        "small",
        "security.capability",
        &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let mut random = Random::quiet(2);
    for len in [40, 300, 900, 3000, 4000, 20_000, 60_000] {
        // What does not fit is refused.
        set(&format!("large {len}"), "user.large", &random.bytes(len));
    }
    for index in 0..40 {
        set("many", &format!("user.{index}"), &random.bytes(index));
    }
    for index in 0..6 {
        // The same block of attributes for several files.
        set(&format!("shared {index}"), "user.shared", &[5; 400]);
    }
    let acl = |words: &[&str]| {
        let _ = Command::new("setfacl").args(words).output();
    };
    let path = |name: &str| dir.join(name).display().to_string();
    fs::create_dir(dir.join("defaults")).unwrap();
    acl(&["-m", "u:1000:rw,u:70000:r,g:5:x,m::rwx", &path("small")]);
    acl(&["-m", "d:u:1000:rwx,d:g:100:r-x,u:2:rwx", &path("defaults")]);
    fs::write(dir.join("defaults/inherits"), "").unwrap();
    let _ = symlink("small", dir.join("link"));
    let _ = rustix::fs::lsetxattr(dir.join("link"), "trusted.link", b"value", XattrFlags::empty());
}

fn times(root: &Path) {
    let dir = root.join("times");
    fs::create_dir(&dir).unwrap();
    for seconds in [
        -3_000_000_000_i64,
        -2_147_483_648,
        -1,
        0,
        1_700_000_000,
        2_147_483_648,
        8_589_934_592,
        15_032_385_535,
        20_000_000_000,
    ] {
        let path = dir.join(seconds.to_string());
        fs::write(&path, "").unwrap();
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: seconds,
                tv_nsec: 999_999_999,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: 1,
            },
        };
        rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
    }
}
