//! What users of a mount see, with the real binary and the real kernel.
//!
//! Without FUSE each test says aloud that it is skipped; with VAULTFS_REQUIRE_FUSE=1 it fails instead.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod mounted;

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mounted::{CHUNK, PROGRAM, RUNS, Rig, VDA, is_running, kill, noise, output, stderr, wait_until};
use rustix::fs::SeekFrom as Whence;

const VDA_PATH: &str = "servers/web/latest/disks/vda.img";

#[test]
fn images_are_byte_identical_to_their_sources() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("cache=8M");
    for (image, source) in [
        (VDA_PATH, "vda.raw"),
        ("servers/web/2026-11-20T03-00-00Z/disks/vdb.img", "vdb.raw"),
        ("disks/db/latest/disk.img", "vdb.raw"),
    ] {
        let read = fs::read(rig.inside(image)).unwrap();
        assert!(read == fs::read(rig.path(source)).unwrap(), "{image} differs");
    }
}

#[test]
fn reads_at_every_edge_equal_the_source() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("cache=8M,threads=3");
    let source = fs::read(rig.path("vda.raw")).unwrap();
    let image = fs::File::open(rig.inside(VDA_PATH)).unwrap();
    let edges = RUNS.iter().flat_map(|(offset, len)| [*offset, offset + len]);
    let edges: Vec<u64> = edges.chain([CHUNK, CHUNK * 32, VDA]).collect();
    std::thread::scope(|scope| {
        for shift in [0_u64, 1, 4095, CHUNK - 1, CHUNK + 1] {
            let (image, source, edges) = (&image, &source, &edges);
            scope.spawn(move || {
                for start in edges.iter().flat_map(|edge| [edge.saturating_sub(shift), edge + shift]) {
                    for len in [1, 4096, 131_073] {
                        let mut buf = vec![0; len];
                        let read = image.read_at(&mut buf, start).unwrap();
                        let at = usize::try_from(start).unwrap().min(source.len());
                        let wanted = &source[at..(at + len).min(source.len())];
                        assert!(buf[..read] == *wanted, "{len} bytes at {start}");
                    }
                }
            });
        }
    });
}

#[test]
fn holes_are_holes_and_cost_nothing() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("cache=8M");
    let image = fs::File::open(rig.inside(VDA_PATH)).unwrap();
    let status = image.metadata().unwrap();
    let chunks = |(offset, len): &(u64, u64)| (offset / CHUNK * CHUNK, (offset + len).next_multiple_of(CHUNK).min(VDA));
    let data: u64 = RUNS.iter().map(chunks).map(|(start, end)| end - start).sum();
    assert_eq!((status.len(), status.blocks()), (VDA, data.div_ceil(512)));
    let mut at = 0;
    for (start, end) in RUNS.iter().map(chunks) {
        assert_eq!(rustix::fs::seek(&image, Whence::Data(at)).unwrap(), start);
        assert_eq!(rustix::fs::seek(&image, Whence::Hole(start)).unwrap(), end);
        at = end;
    }
    assert_eq!(
        rustix::fs::seek(&image, Whence::Data(VDA)),
        Err(rustix::io::Errno::NXIO)
    );
    let copy = rig.path("copy.raw");
    let done = Command::new("cp")
        .arg("--sparse=auto")
        .arg(rig.inside(VDA_PATH))
        .arg(&copy)
        .status()
        .unwrap();
    assert!(done.success());
    let copied = fs::metadata(&copy).unwrap();
    assert!(copied.blocks() * 512 <= data + CHUNK, "{} blocks", copied.blocks());
    assert!(fs::read(copy).unwrap() == fs::read(rig.path("vda.raw")).unwrap());
}

#[test]
fn nothing_can_be_changed() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let line = rig.table_line().unwrap();
    let options = line.split(' ').nth(5).unwrap().to_owned();
    for wanted in ["ro", "nosuid", "nodev"] {
        assert!(options.split(',').any(|option| option == wanted), "{line}");
    }
    assert!(
        line.contains(" - fuse.vaultfs ") && line.contains(rig.vault().to_str().unwrap()),
        "{line}"
    );
    let image = rig.inside(VDA_PATH);
    let read_only = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    read_only(fs::write(rig.inside("new"), "x"));
    read_only(fs::write(rig.inside("servers/web/new"), "x"));
    read_only(fs::OpenOptions::new().write(true).open(&image).map(drop));
    read_only(fs::remove_file(&image));
    read_only(fs::create_dir(rig.inside("disks/x")));
    read_only(fs::rename(rig.inside("disks"), rig.inside("d")));
}

#[test]
fn new_backups_appear_latest_follows_and_deleted_ones_go() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let latest = || fs::read_link(rig.inside("servers/web/latest")).unwrap();
    let names = || fs::read_dir(rig.inside("servers/web")).unwrap().count();
    assert_eq!((latest().to_str().unwrap(), names()), ("2026-11-20T03-00-00Z", 2));
    let new = rig.inside("servers/web/2026-11-20T04-00-00Z");
    assert!(!new.exists());
    mounted::write_disk(&rig.path("vda.raw"), 2);
    rig.back_up("2026-11-20T04:00:00Z");
    wait_until("the new backup is there", || new.exists());
    wait_until("latest follows", || latest() == Path::new("2026-11-20T04-00-00Z"));
    assert_eq!(names(), 3);
    assert!(fs::read(rig.inside(VDA_PATH)).unwrap() == fs::read(rig.path("vda.raw")).unwrap());
    let old = rig.inside("servers/web/2026-11-20T03-00-00Z");
    assert!(old.join("disks/vda.img").exists());
    fs::remove_file(rig.vault().join("backups/servers/web/2026-11-20T03-00-00Z")).unwrap();
    wait_until("the old backup is gone", || !old.exists());
    assert_eq!(names(), 2);
}

#[test]
fn attributes_survive_a_remount() {
    let Some(rig) = Rig::new() else { return };
    let look = || {
        rig.mount("");
        let of = |path: &str| {
            let status = fs::metadata(rig.inside(path)).unwrap();
            (
                status.ino(),
                status.len(),
                status.mtime(),
                status.mode(),
                status.nlink(),
            )
        };
        let seen = [
            "",
            "servers",
            "servers/web/latest",
            VDA_PATH,
            "disks/db/latest/backup.json",
        ]
        .map(of);
        assert!(rig.umount(&[]).status.success());
        seen
    };
    let first = look();
    assert_eq!(first, look());
    assert_eq!((first[0].0, first[2].2), (1, 1_795_143_600));
}

#[test]
fn umount_names_who_is_in_the_way_and_waits_for_the_end() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let daemon = rig.daemon();
    let image = fs::File::open(rig.inside(VDA_PATH)).unwrap();
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(image)
        .current_dir(rig.inside("disks"))
        .spawn()
        .unwrap();
    let refused = rig.umount(&[]);
    let text = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    for part in [&format!("process {} sleep", child.id()), "working directory", "vda.img"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(rig.table_line().is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    let done = rig.umount(&[]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(!is_running(daemon) && rig.table_line().is_none());
    assert!(stderr(&rig.umount(&[])).contains("no vault is mounted"));
}

#[test]
fn a_lazy_umount_leaves_open_files_readable() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let daemon = rig.daemon();
    let mut image = fs::File::open(rig.inside(VDA_PATH)).unwrap();
    let done = rig.umount(&["--lazy"]);
    assert!(done.status.success() && rig.table_line().is_none());
    assert!(
        String::from_utf8_lossy(&done.stdout).contains("vda.img"),
        "it says who uses it"
    );
    assert!(is_running(daemon));
    let mut read = Vec::new();
    image.seek(SeekFrom::Start(0)).unwrap();
    image.read_to_end(&mut read).unwrap();
    assert!(read == fs::read(rig.path("vda.raw")).unwrap());
    drop(image);
    wait_until("the daemon ends", || !is_running(daemon));
}

#[test]
fn a_daemon_that_hangs_hangs_nobody_else() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let daemon = rig.signal("-STOP");
    let began = Instant::now();
    let refused = rig.umount(&[]);
    assert!(stderr(&refused).contains("does not answer"), "{}", stderr(&refused));
    let done = rig.umount(&["--lazy"]);
    assert!(done.status.success() && rig.table_line().is_none(), "{}", stderr(&done));
    assert!(began.elapsed() < Duration::from_secs(12));
    kill(daemon, "-CONT");
    wait_until("the daemon ends", || !is_running(daemon));
}

#[test]
fn signals_unmount_and_end_well() {
    let Some(rig) = Rig::new() else { return };
    for signal in ["-TERM", "-INT", "-HUP"] {
        let mut words = Command::new(PROGRAM);
        words.arg("mount").arg(rig.vault()).arg(rig.mount_point()).arg("-f");
        let mut child = words.stderr(Stdio::piped()).spawn().unwrap();
        wait_until("it is mounted", || rig.inside("servers").exists());
        kill(child.id(), signal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(rig.table_line().is_none(), "{signal}");
    }
}

#[test]
fn a_crash_leaves_no_empty_directory_and_the_next_mount_clears_it() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let crash = || {
        let daemon = rig.signal("-KILL");
        wait_until("it is dead", || !is_running(daemon));
        // A killed process counts as dead while its last threads still hold the connection: what they were asked is aborted.
        wait_until("all requests fail with ENOTCONN", || {
            fs::read_dir(rig.mount_point()).unwrap_err().kind() == ErrorKind::NotConnected
        });
    };
    crash();
    rig.mount("");
    assert!(rig.inside(VDA_PATH).exists());
    crash();
    assert!(rig.umount(&[]).status.success());
    assert_eq!(fs::read_dir(rig.mount_point()).unwrap().count(), 0);
    rig.mount("fsname=another");
    crash();
    let refused = rig.try_mount(&rig.mount_point(), "");
    assert!(
        stderr(&refused).contains("umount -l"),
        "the dead mount of another is left alone: {}",
        stderr(&refused)
    );
}

#[test]
fn an_unmount_from_outside_ends_the_daemon() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let daemon = rig.daemon();
    let program = if rustix::process::geteuid().is_root() {
        "umount"
    } else {
        "fusermount3"
    };
    let flags: &[&str] = if program == "umount" { &[] } else { &["-u"] };
    assert!(
        Command::new(program)
            .args(flags)
            .arg(rig.mount_point())
            .status()
            .unwrap()
            .success()
    );
    wait_until("the daemon ends", || !is_running(daemon));
    rig.mount("");
}

#[test]
fn bad_mount_points_are_refused_with_the_cure() {
    let Some(rig) = Rig::new() else { return };
    let vault = rig.vault();
    for (at, words) in [
        (vault.clone(), "would hide the vault"),
        (vault.join("packs"), "would hide the vault"),
        (rig.path(""), "would hide the vault"),
        (rig.path("nowhere"), "mkdir"),
        (rig.path("vda.raw"), "not a directory"),
    ] {
        let refused = rig.try_mount(&at, "");
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(words), "{at:?}: {}", stderr(&refused));
    }
    for (options, words) in [
        ("rw", "ro,nosuid,nodev"),
        ("chache=1G", "chache=1G"),
        ("cache=1K", "too small"),
    ] {
        let refused = rig.try_mount(&rig.mount_point(), options);
        assert_eq!(refused.status.code(), Some(2), "{options}");
        assert!(stderr(&refused).contains(words), "{options}: {}", stderr(&refused));
    }
    let none = output([
        "mount".as_ref(),
        rig.path("mnt").as_os_str(),
        rig.directory.path().as_os_str(),
    ]);
    assert!(!none.status.success());
    rig.mount("");
    let twice = rig.try_mount(&rig.mount_point(), "");
    assert!(stderr(&twice).contains("already a mount"), "{}", stderr(&twice));
}

#[test]
fn mount_8_reaches_us_through_the_helper() {
    let Some(rig) = Rig::new() else { return };
    let helper = rig.path("mount.vaultfs");
    std::os::unix::fs::symlink(PROGRAM, &helper).unwrap();
    let call = |words: &[&str]| {
        let mut command = Command::new(&helper);
        command
            .arg(rig.vault())
            .arg(rig.mount_point())
            .args(words)
            .stdin(Stdio::null());
        command.output().unwrap()
    };
    assert!(call(&["-f", "-o", "rw"]).status.success());
    assert!(rig.table_line().is_none(), "a fake mount mounts nothing");
    let done = call(&["-n", "-o", "rw,_netdev,nofail,x-systemd.automount,cache=16M"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(rig.inside(VDA_PATH).exists());
    // The code of mount(8) for a wrong invocation.
    assert_eq!(call(&["-o", "bad=1"]).status.code(), Some(1));
}

/// Mounts, compares, and unmounts as nobody; `$1` is our directory. Its own mount namespace gets a device as udev makes it.
const AS_NOBODY: &str = r#"
set -eu
cd "$1"
mknod device c 10 229
chmod 666 device
mount --bind device /dev/fuse
chown nobody mnt
as_nobody() { setpriv --reuid nobody --regid nogroup --clear-groups "$@"; }
as_nobody ./program mount vault mnt -o 'fsname=a\,b'
grep -F ' - fuse.vaultfs a,b ro,user_id=65534' /proc/self/mountinfo
as_nobody cmp vdb.raw mnt/disks/db/latest/disk.img
test "$(as_nobody stat -c %U mnt/disks/db/latest/disk.img)" = nobody
if ls mnt; then echo "root entered a private mount"; exit 1; fi
if as_nobody ./program mount vault mnt -o allow_other 2>words; then exit 1; fi
grep user_allow_other words
kill -KILL "$(as_nobody getfattr --only-values -n user.vaultfs.daemon mnt | cut -d' ' -f1)"
as_nobody ./program mount vault mnt -o 'fsname=a\,b'
as_nobody cmp vdb.raw mnt/disks/db/latest/disk.img
as_nobody ./program umount mnt
if grep -F fuse.vaultfs /proc/self/mountinfo | grep -F "$1/mnt"; then exit 1; fi
"#;

#[test]
fn an_ordinary_user_mounts_through_fusermount3() {
    let Some(rig) = Rig::new() else { return };
    if !rustix::process::geteuid().is_root() {
        // Then every other test here goes that way.
        return;
    }
    if fs::read_to_string("/etc/fuse.conf").is_ok_and(|text| text.lines().any(|line| line == "user_allow_other")) {
        eprintln!("SKIPPED: /etc/fuse.conf lets users share their mounts");
        return;
    }
    fs::copy(PROGRAM, rig.path("program")).unwrap();
    fs::set_permissions(rig.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", AS_NOBODY, "sh"])
        .arg(rig.path(""))
        .stdin(Stdio::null());
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        stderr(&done)
    );
}

#[test]
fn damage_is_an_error_on_its_own_range_only_and_one_line_tells_of_it() {
    let Some(rig) = Rig::new() else { return };
    // In the middle of the largest pack lies a chunk of the third run.
    let packs = walk(&rig.vault().join("packs"));
    let pack = packs
        .iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();
    let log = rig.path("log");
    rig.mount(&format!("cache=8M,log={}", log.display()));
    let source = fs::read(rig.path("vda.raw")).unwrap();
    let image = fs::File::open(rig.inside(VDA_PATH)).unwrap();
    let mut failed = Vec::new();
    for (number, wanted) in (0_u64..).zip(source.chunks(usize::try_from(CHUNK).unwrap())) {
        let mut buf = vec![0; wanted.len()];
        match image.read_exact_at(&mut buf, number * CHUNK) {
            Ok(()) => assert!(buf == wanted, "chunk {number} differs"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
                failed.push(number);
            }
        }
    }
    assert_eq!(failed.len(), 1, "{failed:?}");
    let text = fs::read_to_string(&log).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("ERROR"))
        .unwrap_or_else(|| panic!("{text}"));
    for part in [
        "servers/web/2026-11-20T03-00-00Z/disks/vda.img",
        "at byte",
        "packs/",
        "fails its hash",
    ] {
        assert!(
            line.contains(part) || part == "fails its hash" && line.contains("does not decode"),
            "{line}"
        );
    }
    assert!(fs::read(rig.inside("servers/web/latest/backup.json")).is_ok());
}

#[test]
fn extended_attributes_and_space_tell_of_the_backup() {
    let Some(rig) = Rig::new() else { return };
    rig.mount("");
    let mut value = [0; 128];
    let len = rustix::fs::getxattr(rig.inside(VDA_PATH), "user.vaultfs.address", &mut value).unwrap();
    assert_eq!(&value[..len], b"servers/web/2026-11-20T03-00-00Z");
    let small: &mut [u8] = &mut [0; 4];
    let short = rustix::fs::getxattr(rig.inside(VDA_PATH), "user.vaultfs.address", small);
    assert_eq!(short, Err(rustix::io::Errno::RANGE));
    let space = rustix::fs::statvfs(rig.mount_point()).unwrap();
    let logical = VDA + 2 * 100_001;
    assert_eq!(
        (space.f_blocks, space.f_bfree, space.f_namemax),
        (logical.div_ceil(4096), 0, 255)
    );
}

#[test]
fn a_thousand_points_are_listed_whole_and_in_order() {
    let Some(rig) = Rig::new() else { return };
    // Names are all that a list needs: the manifests are not even looked at.
    let directory = rig.vault().join("backups/servers/many");
    fs::create_dir_all(&directory).unwrap();
    let names: Vec<String> = (0..1000)
        .map(|n| format!("2025-01-01T{:02}-{:02}-00Z", n / 60 % 24, n % 60))
        .collect();
    for name in &names {
        fs::write(directory.join(name), noise(10, 1)).unwrap();
    }
    rig.mount("");
    for _ in 0..2 {
        let listed = fs::read_dir(rig.inside("servers/many")).unwrap();
        let mut listed: Vec<String> = listed
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(listed.pop().unwrap(), "latest");
        assert_eq!(listed, names);
    }
    let damaged = fs::metadata(rig.inside("servers/many/latest/backup.json")).unwrap_err();
    assert_eq!(damaged.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}
