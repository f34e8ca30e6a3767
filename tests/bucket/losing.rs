//! Backups that lose their server: they outlast it for the time stated, and past it leave nothing half-visible.

use super::Desk;
use crate::common::{Random, program};
use crate::objects::Access;
use crate::objects::odd::{Manner, Odd};
use crate::objects::real::{self, Ceph};
use std::time::{Duration, Instant};

/// Backups of 40 MiB make packs that go up in parts; a server loses the vault after so many requests of the backup.
const PLACES: [u64; 5] = [1, 4, 9, 14, 20];

struct Scene<S = Odd> {
    server: S,
    desk: Desk,
    bytes: Vec<u8>,
}

impl Scene {
    /// A vault with one backup, a disk to be backed up, and how long the backup shall try.
    fn new(seed: u64, patience: &str) -> Self {
        let server = Odd::start(Manner::Honours, seed);
        let access = server.access.clone().with("VAULTFS_WRITE_RETRY", patience);
        Self::on(server, &access, seed)
    }
}

impl<S> Scene<S> {
    fn on(server: S, access: &Access, seed: u64) -> Self {
        let desk = Desk::new(access);
        std::fs::write(desk.path("old.raw"), b"old").unwrap();
        desk.succeed("backup", &["disk", "old", &desk.text("old.raw")]);
        let bytes = Random::new(seed).bytes(40 << 20);
        std::fs::write(desk.path("db.raw"), &bytes).unwrap();
        Self { server, desk, bytes }
    }

    fn backup(&self) -> std::process::Command {
        let mut command = self.desk.command("backup", &["disk", "db", &self.desk.text("db.raw")]);
        command
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null());
        command
    }

    fn reads_back(&self) {
        assert!(self.desk.succeed("cat", &["disks/db/latest/disk.img"]) == self.bytes);
        assert_eq!(self.desk.succeed("cat", &["disks/old/latest/disk.img"]), b"old");
    }
}

/// Waits until the server has had `requests` more.
fn wait_for_requests(server: &Odd, requests: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let from = server.requests();
    while server.requests() < from + requests {
        assert!(Instant::now() < deadline, "the backup makes no requests");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_backup_outlasts_an_outage_shorter_than_the_time_stated() {
    let scene = Scene::new(0x7001, "60");
    let child = scene.backup().spawn().unwrap();
    wait_for_requests(&scene.server, 4);
    // First nobody answers, then every request goes wrong.
    scene.server.hush_after(0);
    std::thread::sleep(Duration::from_secs(5));
    scene.server.faults(100);
    scene.server.speak();
    std::thread::sleep(Duration::from_secs(5));
    scene.server.faults(0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", program::stderr(&output));
    scene.reads_back();
}

#[test]
#[ignore = "long: starts a Ceph of its own"]
fn a_backup_outlasts_a_ceph_whose_disk_stops_answering_for_a_while() {
    if !real::can_start_ceph("a_backup_outlasts_a_ceph_whose_disk_stops_answering_for_a_while") {
        return;
    }
    let ceph = Ceph::start(&[]);
    let access = ceph.access.clone();
    let scene = Scene::on(ceph, &access, 0x7021);
    let before = scene.desk.addresses();
    let child = scene.backup().spawn().unwrap();
    // The first pack is on its way or there.
    std::thread::sleep(Duration::from_millis(700));
    scene.server.act("pause");
    std::thread::sleep(Duration::from_secs(20));
    scene.server.act("resume");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", program::stderr(&output));
    assert_eq!(scene.desk.addresses().len(), before.len() + 1);
    scene.reads_back();
}

#[test]
fn a_backup_that_loses_its_server_for_longer_fails_with_nothing_half_visible() {
    for (number, place) in PLACES.iter().enumerate() {
        let scene = Scene::new(0x7002 + u64::try_from(number).unwrap(), "4");
        let before = scene.desk.addresses();
        scene.server.hush_after(*place);
        let began = Instant::now();
        let output = scene.backup().spawn().unwrap().wait_with_output().unwrap();
        let said = program::stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{place}: {said}");
        assert!(said.contains("no answer within"), "{place}: {said}");
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{place}: {:?}",
            began.elapsed()
        );
        scene.server.speak();
        // What hung is done now, late.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(scene.desk.addresses(), before, "{place}");
        assert_eq!(scene.desk.succeed("cat", &["disks/old/latest/disk.img"]), b"old");
        scene
            .desk
            .succeed("backup", &["disk", "db", &scene.desk.text("db.raw")]);
        scene.reads_back();
    }
}

#[test]
fn a_backup_that_is_killed_leaves_nothing_half_visible_in_a_bucket() {
    for (number, place) in PLACES.iter().enumerate() {
        let scene = Scene::new(0x7012 + u64::try_from(number).unwrap(), "60");
        let before = scene.desk.addresses();
        let mut child = scene.backup().spawn().unwrap();
        wait_for_requests(&scene.server, *place);
        child.kill().unwrap();
        let killed = child.wait().unwrap();
        if !killed.success() {
            assert_eq!(scene.desk.addresses(), before, "{place}");
        }
        scene
            .desk
            .succeed("backup", &["disk", "db", &scene.desk.text("db.raw")]);
        scene.reads_back();
    }
}
