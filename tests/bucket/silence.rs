//! A server that takes connections and does not answer: every command and every read ends, mounts go on, and go away at once.

use super::Desk;
use crate::common::mounted::Mount;
use crate::common::{Random, can_mount, program};
use crate::objects::odd::{Manner, Odd};
use crate::objects::real::{self, Ceph};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// Runs commands side by side; each must end in time, with the code of a vault that cannot be reached.
fn all_end_in_time(desk: &Desk, commands: &[&[&str]]) {
    std::thread::scope(|scope| {
        for words in commands {
            scope.spawn(move || {
                let began = Instant::now();
                let output = desk.run(words[0], &words[1..]);
                let (took, said) = (began.elapsed(), program::stderr(&output));
                assert_eq!(output.status.code(), Some(4), "{words:?}: {said}");
                assert!(said.contains("no answer within"), "{words:?}: {said}");
                assert!(took < LIMIT, "{words:?} took {took:?}");
            });
        }
    });
}

#[test]
fn every_command_ends_within_half_a_minute_when_nothing_answers() {
    let server = Odd::start(Manner::Honours, 5);
    server.hush_after(0);
    let desk = Desk::without_vault(&server.access);
    std::fs::write(desk.path("disk"), b"x").unwrap();
    std::fs::create_dir(desk.path("mnt")).unwrap();
    let (disk, to, mnt) = (desk.text("disk"), desk.text("to"), desk.text("mnt"));
    all_end_in_time(
        &desk,
        &[
            &["init"],
            &["list"],
            &["show", "disks/db/latest"],
            &["ls"],
            &["cat", "disks/db/latest/disk.img"],
            &["cp", "disks/db/latest/disk.img", &to],
            &["restore", "disks/db/latest", "--to", &to],
            &["backup", "disk", "db", &disk],
            &["mount", &mnt],
        ],
    );
    server.speak();
}

/// Reads 128 KiB at `offset`.
fn read(file: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 128 << 10];
    file.read_exact_at(&mut buffer, offset).map(|()| buffer)
}

/// What a mount does while its server is silent between `pause` and `resume`.
fn outlives(desk: &Desk, pause: impl FnOnce(), resume: impl FnOnce()) {
    let bytes = Random::new(0x6001).bytes(24 << 20);
    let expected = |offset: u64| {
        let from = usize::try_from(offset).unwrap();
        &bytes[from..from + (128 << 10)]
    };
    std::fs::write(desk.path("db.raw"), &bytes).unwrap();
    desk.succeed("backup", &["disk", "db", &desk.text("db.raw")]);
    let mount = |name: &str| {
        let dir = desk.path(name);
        std::fs::create_dir(&dir).unwrap();
        Mount::with(&dir, desk.vault().as_ref(), "", |command| desk.access.lend(command))
    };
    let (mount, other) = (mount("one"), mount("other"));
    let path = mount.path("disks/db/latest/disk.img");
    let file = File::open(&path).unwrap();
    assert!(read(&file, 0).unwrap() == expected(0));

    pause();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let file = &file;
            scope.spawn(move || {
                let began = Instant::now();
                let error = read(file, (6 + 4 * number) * MIB).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(5), "{error}");
                assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
            });
        }
        scope.spawn(|| all_end_in_time(desk, &[&["list"], &["cat", "disks/db/latest/disk.img"]]));
        // What is in memory is served meanwhile, and a mount that nobody uses goes at once.
        let began = Instant::now();
        assert!(read(&file, 0).unwrap() == expected(0));
        assert_eq!(std::fs::read_dir(mount.path("disks/db")).unwrap().count(), 2);
        other.end();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    });
    // It is known by now that nobody answers: the next one waits less.
    let began = Instant::now();
    assert!(read(&file, 3 * MIB).is_err());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    resume();
    let deadline = Instant::now() + LIMIT;
    let again = loop {
        match read(&file, 6 * MIB) {
            Ok(read) => break read,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert!(again == expected(6 * MIB));
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert!(mount.log().contains("no answer within"), "{}", mount.log());
    drop(file);
    mount.end();
}

#[test]
fn a_mount_outlives_a_server_that_stops_answering() {
    if !can_mount("a_mount_outlives_a_server_that_stops_answering") {
        return;
    }
    let server = Odd::start(Manner::Honours, 6);
    outlives(&Desk::new(&server.access), || server.hush_after(0), || server.speak());
}

#[test]
fn a_mount_outlives_a_server_that_answers_byte_by_byte() {
    if !can_mount("a_mount_outlives_a_server_that_answers_byte_by_byte") {
        return;
    }
    let server = Odd::start(Manner::Honours, 8);
    outlives(&Desk::new(&server.access), || server.drip(), || server.speak());
}

#[test]
#[ignore = "long: starts a Ceph of its own"]
fn a_mount_outlives_a_ceph_whose_disk_stops_answering() {
    let test = "a_mount_outlives_a_ceph_whose_disk_stops_answering";
    if !can_mount(test) || !real::can_start_ceph(test) {
        return;
    }
    let ceph = Ceph::start(&[]);
    outlives(&Desk::new(&ceph.access), || ceph.act("pause"), || ceph.act("resume"));
}

#[test]
fn a_silent_server_does_not_hold_up_the_end_of_a_mount_in_use() {
    if !can_mount("a_silent_server_does_not_hold_up_the_end_of_a_mount_in_use") {
        return;
    }
    let server = Odd::start(Manner::Honours, 7);
    let desk = Desk::new(&server.access);
    std::fs::write(desk.path("db.raw"), Random::new(0x6002).bytes(24 << 20)).unwrap();
    desk.succeed("backup", &["disk", "db", &desk.text("db.raw")]);
    let mount = desk.mount();
    let daemon = mount.daemon();
    let file = File::open(mount.path("disks/db/latest/disk.img")).unwrap();
    server.hush_after(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(&file, 10 * MIB));
        std::thread::sleep(Duration::from_secs(1));
        let began = Instant::now();
        let words = ["umount", mount.path("").to_str().unwrap(), "--lazy"].map(str::to_owned);
        let output = program::vaultfs(words).output().unwrap();
        assert!(output.status.success(), "{}", program::stderr(&output));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let ended = reader.join().unwrap();
        assert!(ended.is_err() && began.elapsed() < LIMIT, "{:?}", began.elapsed());
    });
    drop(file);
    let deadline = Instant::now() + LIMIT;
    while std::path::Path::new(&format!("/proc/{daemon}")).exists() {
        assert!(Instant::now() < deadline, "the daemon does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.speak();
}
