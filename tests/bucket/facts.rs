//! What is true of a vault in any bucket.

use super::Desk;
use crate::common::disks::{CHUNK, Sparse};
use crate::common::{Random, can_mount, have};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const POINT: &str = "2026-11-20T03-00-00Z";
const MIB: u64 = 1 << 20;

/// Noise, which does not shrink, with a hole in it.
fn holey(desk: &Desk, name: &str, megabytes: u64, seed: u64) -> Sparse {
    let mut random = Random::new(seed);
    let half = usize::try_from(megabytes * MIB / 2).unwrap();
    let second = megabytes * MIB + 3;
    let disk = Sparse::new(
        second + megabytes * MIB / 2 + 1,
        vec![(0, random.bytes(half)), (second, random.bytes(half + 1))],
    );
    disk.write_to(&desk.path(name));
    disk
}

#[track_caller]
fn same(one: impl AsRef<Path>, other: impl AsRef<Path>) {
    let (one, other) = (one.as_ref(), other.as_ref());
    let status = Command::new("cmp").arg(one).arg(other).status().unwrap();
    assert!(status.success(), "{} and {}", one.display(), other.display());
}

/// Compares names, kinds, modes, sizes, times, link counts and contents.
#[track_caller]
fn same_tree(one: impl AsRef<Path>, other: impl AsRef<Path>) {
    let listed = |dir: &Path| {
        let format = "%P %y %m %s %T@ %n %l\\n";
        let mut find = Command::new("find");
        let output = find
            .arg(dir)
            .args(["-mindepth", "1", "!", "-type", "d", "-printf", format]);
        let text = String::from_utf8(output.output().unwrap().stdout).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (left, right) = (listed(one.as_ref()), listed(other.as_ref()));
    let different = left.iter().zip(&right).find(|(left, right)| left != right);
    assert_eq!((different, left.len()), (None, right.len()));
    let mut diff = Command::new("diff");
    let output = diff
        .args(["-r", "--no-dereference"])
        .arg(one.as_ref())
        .arg(other.as_ref());
    let output = output.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A tree with small files, one of several packs, links, holes and odd modes.
fn plant(root: &Path, seed: u64) {
    let mut random = Random::new(seed);
    for number in 0..200 {
        let dir = root.join(format!("d{}/e{}", number % 7, number % 3));
        fs::create_dir_all(&dir).unwrap();
        let len = usize::try_from(random.below(9000)).unwrap();
        fs::write(dir.join(format!("f{number}")), random.bytes(len)).unwrap();
    }
    fs::write(root.join("large"), random.bytes(20 << 20)).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("name with space \u{e4}"), b"x").unwrap();
    symlink("d1/nowhere", root.join("link")).unwrap();
    fs::hard_link(root.join("large"), root.join("d1/also large")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_all_at(b"middle", 2 << 20).unwrap();
    // Whole seconds: mke2fs writes no others.
    let mut touch = Command::new("find");
    let touched = touch
        .arg(root)
        .args(["-exec", "touch", "-h", "-d", "@1790000000", "{}", "+"]);
    assert!(touched.status().unwrap().success());
}

/// A server of two disks: one with an ext4 file system of its own, one with nothing that is known.
pub(crate) fn a_server_comes_back_by_mount_cat_cp_and_restore(desk: &Desk) {
    let test = "a_server_comes_back_by_mount_cat_cp_and_restore";
    if !have(test, "mke2fs") || !can_mount(test) {
        return;
    }
    let files = desk.path("files");
    plant(&files, 11);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&files);
    let made = mke2fs.arg(desk.path("vda.raw")).arg("64M").status().unwrap();
    assert!(made.success());
    holey(desk, "vdb.raw", 6, 12);
    let disks = ["vda", "vdb"].map(|name| format!("{name}={}", desk.text(&format!("{name}.raw"))));
    let words = ["server", "web", "--disk", &disks[0], "--disk", &disks[1], "--at", POINT];
    let report = desk.json("backup", &words);
    let address = format!("servers/web/{POINT}");
    assert_eq!(report["address"], address.as_str());
    assert_eq!(desk.addresses(), [address.as_str()]);
    let shown = desk.json("show", &["servers/web/latest"]);
    assert_eq!(shown["disks"].as_array().unwrap().len(), 2);

    let mount = desk.mount();
    for disk in ["vda", "vdb"] {
        let raw = desk.path(&format!("{disk}.raw"));
        same(mount.path(&format!("{address}/disks/{disk}.img")), &raw);
        let path = format!("{address}/disks/{disk}.img");
        assert!(desk.succeed("cat", &[&path]) == fs::read(&raw).unwrap(), "{disk}");
        let to = desk.text(&format!("{disk}.restored"));
        desk.succeed("restore", &[&address, "--disk", disk, "--to", &to]);
        same(&to, &raw);
    }
    let volume = mount.path(&format!("{address}/volumes/vda"));
    // What mke2fs adds.
    let copied = desk.path("copied");
    desk.succeed(
        "cp",
        &["-r", &format!("{address}/volumes/vda"), copied.to_str().unwrap()],
    );
    fs::remove_dir(copied.join("lost+found")).unwrap();
    same_tree(&copied, &files);
    same(volume.join("large"), files.join("large"));
    let listed = String::from_utf8(desk.succeed("ls", &[&format!("{address}/volumes/vda/d1")])).unwrap();
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["also large", "e0", "e1", "e2"]);
    assert_eq!(mount.complaints(), Vec::<String>::new());
    mount.end();
}

pub(crate) fn a_disk_comes_back_and_its_next_backup_stores_what_changed(desk: &Desk) {
    if !can_mount("a_disk_comes_back_and_its_next_backup_stores_what_changed") {
        return;
    }
    // Of this noise come several packs, which go up in parts.
    holey(desk, "db.raw", 40, 21);
    let raw = desk.text("db.raw");
    desk.succeed("backup", &["disk", "db", &raw, "--at", POINT]);
    let total = |desk: &Desk| desk.objects().iter().map(|(_, size)| size).sum::<u64>();
    let before = total(desk);
    assert!((40 * MIB..42 * MIB).contains(&before), "{before}");
    fs::copy(&raw, desk.path("old.raw")).unwrap();

    let mount = desk.mount();
    same(mount.path(&format!("disks/db/{POINT}/disk.img")), desk.path("old.raw"));
    let disk = fs::OpenOptions::new().write(true).open(&raw).unwrap();
    disk.write_all_at(&[7; 1000], 5 * MIB).unwrap();
    disk.write_all_at(&[8; 1000], 30 * MIB).unwrap();
    let report = desk.json("backup", &["disk", "db", &raw]);
    assert_eq!(report["new_bytes"], 2 * CHUNK);
    let grown = total(desk) - before;
    assert!(grown < 300 * 1024, "{grown}");

    // The mount follows.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while fs::read_dir(mount.path("disks/db")).unwrap().count() < 3 {
        assert!(std::time::Instant::now() < deadline, "the new backup does not appear");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    same(mount.path("disks/db/latest/disk.img"), &raw);
    same(mount.path(&format!("disks/db/{POINT}/disk.img")), desk.path("old.raw"));
    assert_eq!(mount.complaints(), Vec::<String>::new());
    mount.end();

    // The same again costs next to nothing.
    let before = total(desk);
    assert_eq!(desk.json("backup", &["disk", "db", &raw])["new_bytes"], 0);
    let grown = total(desk) - before;
    assert!(grown < 64 * 1024, "{grown}");
}

pub(crate) fn a_tree_comes_back_by_mount_cp_and_restore(desk: &Desk) {
    if !can_mount("a_tree_comes_back_by_mount_cp_and_restore") {
        return;
    }
    let root = desk.path("home");
    plant(&root, 31);
    desk.succeed("backup", &["filesystem", "home", root.to_str().unwrap(), "--at", POINT]);
    let address = format!("filesystems/home/{POINT}");
    let mount = desk.mount();
    same_tree(mount.path(&format!("{address}/tree")), &root);
    let (copied, restored) = (desk.path("copied"), desk.path("restored"));
    desk.succeed("cp", &["-r", &format!("{address}/tree"), copied.to_str().unwrap()]);
    same_tree(&copied, &root);
    desk.succeed("restore", &[&address, "--to", restored.to_str().unwrap()]);
    same_tree(&restored, &root);
    fs::write(root.join("d1/new"), b"later").unwrap();
    let report = desk.json("backup", &["filesystem", "home", root.to_str().unwrap()]);
    assert!(report["new_bytes"].as_u64().unwrap() < 100_000, "{report}");
    let cat = desk.succeed("cat", &["filesystems/home/latest/tree/d1/new"]);
    assert_eq!(cat, b"later");
    assert_eq!(mount.complaints(), Vec::<String>::new());
    mount.end();
}

pub(crate) fn two_writers_of_one_resource_both_succeed(desk: &Desk) {
    for round in 0..4 {
        let writers: Vec<_> = (0..2)
            .map(|number| {
                let name = format!("writer-{round}-{number}");
                holey(desk, &name, 2, 100 + round * 2 + number);
                let raw = desk.text(&name);
                let mut command = desk.command("backup", &["disk", "db", &raw, "--json"]);
                (raw, command.stdout(std::process::Stdio::piped()).spawn().unwrap())
            })
            .collect();
        let mut addresses = std::collections::BTreeSet::new();
        for (raw, child) in writers {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let address = report["address"].as_str().unwrap().to_owned();
            let read = desk.succeed("cat", &[&format!("{address}/disk.img")]);
            assert!(read == fs::read(&raw).unwrap(), "round {round}: {address}");
            addresses.insert(address);
        }
        assert_eq!(addresses.len(), 2, "round {round}: {addresses:?}");
    }
    assert_eq!(desk.addresses().len(), 8);
}

pub(crate) fn deleted_backups_come_back_and_held_ones_stay(desk: &Desk) {
    holey(desk, "db.raw", 1, 41);
    let raw = desk.text("db.raw");
    let days = ["2026-11-20T03-00-00Z", "2026-11-21T03-00-00Z", "2026-11-22T03-00-00Z"];
    for day in days {
        desk.succeed("backup", &["disk", "db", &raw, "--at", day, "--schedule", "nightly"]);
    }
    let [one, two, three] = days.map(|day| format!("disks/db/{day}"));
    desk.succeed("pin", &[&one, "--reason", "audit"]);
    desk.fails("delete", &[&one], 1, "audit");
    desk.succeed("unpin", &[&one]);
    assert_eq!(desk.json("unpin", &[&one])["backups"][0]["result"], "already");
    desk.succeed("lock", &[&two, "--until", "2099-01-01T00:00:00Z"]);
    desk.succeed("retain", &["--number", "1"]);
    assert_eq!(desk.addresses(), [two.clone(), three.clone()]);
    desk.fails("delete", &[&two], 1, "is locked until 2099");
    desk.fails("show", &[&one], 1, "vaultfs undelete");
    assert_eq!(desk.json("list", &["--deleted"])["deleted"][0]["address"], one.as_str());
    desk.succeed("undelete", &[&one]);
    assert_eq!(desk.addresses(), [one.clone(), two, three]);
    let read = desk.succeed("cat", &[&format!("{one}/disk.img")]);
    assert!(read == fs::read(&raw).unwrap(), "{one} differs");
    let space = desk.json("list", &["--space"]);
    let bytes = |member: &str| space["backups"][0][member].as_u64().unwrap();
    assert_eq!(bytes("unique_bytes") + bytes("shared_bytes"), bytes("stored_bytes"));
}
