//! `mount`, `umount` and the helper of mount(8), from the command line.

use super::{Desk, Ended, noise, vaultfs};
use serde_json::json;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A desk with one backup, its image, and a mount point; unmounts when it goes.
struct MountDesk {
    desk: Desk,
    data: Vec<u8>,
}

impl MountDesk {
    /// `None`, said aloud, where there is no FUSE and nobody insists.
    fn new() -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            assert!(
                std::env::var_os("VAULTFS_REQUIRE_FUSE").is_none(),
                "there is no /dev/fuse"
            );
            eprintln!("SKIPPED: there is no /dev/fuse");
            return None;
        }
        let desk = Desk::new();
        let data = noise(300_000, 7);
        let disk = format!("vda={}", desk.file("disk", &data));
        desk.run("backup", &["server", "web", "--disk", &disk, "-q"]).succeeds();
        fs::create_dir(desk.path("mnt")).unwrap();
        Some(Self { desk, data })
    }

    fn mount(&self, words: &[&str]) -> Ended {
        let dir = self.desk.text("mnt");
        let words: Vec<&str> = [dir.as_str()].into_iter().chain(words.iter().copied()).collect();
        self.desk.run("mount", &words)
    }

    fn umount(&self, words: &[&str]) -> Ended {
        let dir = self.desk.text("mnt");
        vaultfs(["umount", &dir].iter().chain(words))
    }

    /// Asserts that the mount is up and shows what was backed up.
    #[track_caller]
    fn shows(&self) {
        let latest = self.desk.path("mnt/servers/web/latest");
        assert!(fs::read(latest.join("disks/vda.img")).unwrap() == self.data);
        let description = self
            .desk
            .run("cat", &["servers/web/latest/backup.json"])
            .succeeds()
            .stdout;
        assert_eq!(fs::read_to_string(latest.join("backup.json")).unwrap(), description);
        let shown = self.desk.run("show", &["servers/web/latest", "--json"]).succeeds();
        assert_eq!(shown.stdout, description);
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.contains(&format!(
            " {} fuse.vaultfs ",
            fs::canonicalize(self.desk.dir.path()).unwrap().join("mnt").display()
        ))
    }
}

impl Drop for MountDesk {
    fn drop(&mut self) {
        if self.is_mounted() {
            self.umount(&["--lazy", "-q"]);
        }
    }
}

#[test]
fn mount_returns_when_ready_and_umount_when_it_is_over() {
    let Some(desk) = MountDesk::new() else { return };
    let mounted = desk.mount(&["--json"]).succeeds().json();
    assert_eq!(mounted["state"], "mounted");
    desk.shows();
    assert!(desk.is_mounted());
    let ended = desk.umount(&["--json"]).succeeds().json();
    assert_eq!((&ended["ended"], &ended["used_by"]), (&json!(true), &json!([])));
    assert!(!desk.is_mounted());
    desk.umount(&[]).fails(1, "no vault is mounted at");
}

#[test]
fn umount_names_who_keeps_the_mount_busy() {
    let Some(desk) = MountDesk::new() else { return };
    desk.mount(&["-q"]).succeeds();
    let open = fs::File::open(desk.desk.path("mnt/servers/web/latest/disks/vda.img")).unwrap();
    desk.umount(&[]).fails(1, &format!("process {}", std::process::id()));
    desk.shows();
    let lazy = desk.umount(&["--lazy"]).succeeds();
    assert!(lazy.stdout.contains("files stay readable"), "{}", lazy.stdout);
    drop(open);
}

#[test]
fn what_cannot_be_mounted_is_refused_with_the_cure() {
    let Some(desk) = MountDesk::new() else { return };
    desk.mount(&["-o", "frobnicate"]).fails(2, "cache=SIZE");
    desk.mount(&["-o", "cache=lots"]).fails(2, "cache");
    desk.desk
        .run("mount", &[&desk.desk.text("absent")])
        .fails(1, "does not exist");
    vaultfs(["mount", &desk.desk.text("nowhere"), &desk.desk.text("mnt")]).fails(4, "is not there");
    desk.desk.run("mount", &[&desk.desk.text("vault")]).fails(1, "vault");
    assert!(!desk.is_mounted());
}

#[test]
fn a_mount_in_the_foreground_ends_on_sigterm() {
    let Some(desk) = MountDesk::new() else { return };
    let mut child = Command::new(env!("CARGO_BIN_EXE_vaultfs"))
        .args(["mount", "-f", &desk.desk.text("vault"), &desk.desk.text("mnt")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !desk.is_mounted() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    desk.shows();
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!desk.is_mounted());
}

#[test]
fn called_by_mount_8_it_takes_its_words_and_answers_with_its_codes() {
    let Some(desk) = MountDesk::new() else { return };
    let helper = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vaultfs"));
        let output = command.arg0("/sbin/mount.vaultfs").args(words).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (vault, dir) = (desk.desk.text("vault"), desk.desk.text("mnt"));
    let (code, stderr) = helper(&[&vault, &dir, "-o", "rw,nofail,_netdev,cache=64MiB"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    desk.shows();
    desk.umount(&[]).code.eq(&0).then_some(()).unwrap();
    assert_eq!(helper(&[&vault]).0, 1);
    assert_eq!(helper(&[&desk.desk.text("nowhere"), &dir]).0, 32);
}

#[test]
fn an_interrupted_backup_commits_nothing_and_runs_the_command_after() {
    let desk = Desk::new();
    let disk = desk.file("disk", "x");
    let (ready, after) = (desk.text("ready"), desk.text("after"));
    let child = Command::new(env!("CARGO_BIN_EXE_vaultfs"))
        .args(["backup", &desk.text("vault"), "disk", "db", &disk])
        .args(["--before", &format!("touch {ready}; sleep 1")])
        .args(["--after", &format!("echo $VAULTFS_STATUS > {after}")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !desk.path("ready").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    assert_eq!(fs::read_to_string(after).unwrap(), "failed\n");
    assert_eq!(desk.run("list", &["--json"]).succeeds().json()["backups"], json!([]));
}
