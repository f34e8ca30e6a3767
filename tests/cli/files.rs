//! `ls`, `cat` and `cp` without a mount, down to the images; what lies inside images is in `tests/extract.rs`.

use super::{Desk, files, noise};
use serde_json::json;

const POINT: &str = "2026-11-19T03-00-00Z";

/// A vault with one backup of a server and one of a disk.
fn desk() -> Desk {
    let desk = Desk::new();
    let disk = desk.file("disk", noise(100_000, 3));
    let vda = format!("vda={disk}");
    desk.run("backup", &["server", "web", "--disk", &vda, "--at", POINT, "-q"])
        .succeeds();
    desk.run("backup", &["disk", "db", &disk, "--at", POINT, "-q"])
        .succeeds();
    desk
}

#[test]
fn ls_shows_the_tree_of_the_mount() {
    let desk = desk();
    let ls = |words: &[&str]| desk.run("ls", words).succeeds().stdout;
    assert_eq!(ls(&[]), "disks\nfilesystems\nservers\n");
    assert_eq!(ls(&["servers/web"]), format!("{POINT}\nlatest\n"));
    assert_eq!(ls(&["servers/web/latest"]), "backup.json\ndisks\nvolumes\n");
    assert_eq!(ls(&["-d", "servers/web/latest/disks"]), "disks\n");
    assert_eq!(
        ls(&["disks/db/latest/disk.img", "servers/web/latest/disks", "disks/db"]),
        format!("disk.img\n\nservers/web/latest/disks:\nvda.img\n\ndisks/db:\n{POINT}\nlatest\n")
    );
    let all = ls(&["-R", "disks"]);
    let wanted =
        format!("disks:\ndb\n\ndisks/db:\n{POINT}\nlatest\n\ndisks/db/{POINT}:\nbackup.json\ndisk.img\nvolumes\n");
    assert!(all.starts_with(&wanted), "{all}");
    let long = ls(&["-l", "servers/web"]);
    assert!(
        long.contains(&format!("2026-11-19 03:00:00.000000000 +0000 latest -> {POINT}\n")),
        "{long}"
    );
    assert!(ls(&["-l", "disks/db/latest"]).contains(" 100000 2026-11-19 03:00:00"));
}

#[test]
fn ls_as_json_is_a_list_of_objects() {
    let desk = desk();
    let list = desk.run("ls", &["disks/db/latest", "--json"]).succeeds().json();
    assert_eq!(list.as_array().unwrap().len(), 3);
    let image = &list[1];
    assert_eq!(
        (&image["name"], &image["path"], &image["type"]),
        (&json!("disk.img"), &json!("disks/db/latest/disk.img"), &json!("file"))
    );
    assert_eq!(
        (&image["size"], &image["mode"], &image["mtime"]),
        (
            &json!(100_000),
            &json!("0440"),
            &json!("2026-11-19T03:00:00.000000000Z")
        )
    );
    assert_eq!(
        desk.run("ls", &["disks/db/latest/volumes", "--json"]).succeeds().json(),
        json!([])
    );
}

#[test]
fn what_is_not_there_is_named_with_what_is_and_the_rest_is_listed() {
    let desk = desk();
    let ended = desk.run("ls", &["servers/web/latest/disk", "disks"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, "disks:\ndb\n"));
    assert!(
        ended.stderr.contains(&format!(
            "there is no disk in servers/web/{POINT}; it has backup.json, disks, volumes"
        )),
        "{}",
        ended.stderr
    );
}

#[test]
fn cat_takes_several_files_and_refuses_directories() {
    let desk = desk();
    let json = desk.run("cat", &["disks/db/latest/backup.json"]).succeeds().stdout;
    let twice = desk.run(
        "cat",
        &[
            "disks/db/latest/backup.json",
            "servers/web/latest/disks",
            "disks/db/latest/backup.json",
        ],
    );
    assert_eq!((twice.code, twice.stdout), (1, json.repeat(2)));
    assert!(
        twice.stderr.contains("disks is a directory; list it with vaultfs ls"),
        "{}",
        twice.stderr
    );
    desk.run("cat", &["disks/db/latest/disk"])
        .fails(1, "it has backup.json, disk.img, volumes");
}

#[test]
fn cp_copies_images_and_descriptions_and_says_what_it_did() {
    let desk = desk();
    let out = desk.text("out");
    let image = "disks/db/latest/disk.img";
    let copied = desk.run("cp", &[image, &out]).succeeds().stdout;
    assert_eq!(copied, "copied 1 files; 97.7 KiB of data\n");
    assert!(std::fs::read(&out).unwrap() == noise(100_000, 3));
    let again = desk.run("cp", &[image, &out]);
    assert_eq!(again.code, 5);
    assert!(again.stderr.contains("add --force to replace it"), "{}", again.stderr);
    std::fs::write(&out, "other").unwrap();
    desk.run("cp", &[image, &out, "--force", "-q"]).succeeds();
    assert!(std::fs::read(&out).unwrap() == noise(100_000, 3));
    let tree = desk.text("tree");
    let refused = desk.run("cp", &["servers/web/latest", &tree]);
    assert_eq!(refused.code, 5);
    assert!(refused.stderr.contains("add -r to copy it"), "{}", refused.stderr);
    let json = desk
        .run("cp", &["-r", "servers/web/latest", &tree, "--json"])
        .succeeds()
        .json();
    assert_eq!(
        (
            &json["files"],
            &json["directories"],
            json["bytes"].as_u64().unwrap() > 100_000
        ),
        (&json!(2), &json!(3), true)
    );
    assert!(std::fs::read(desk.path("tree/disks/vda.img")).unwrap() == noise(100_000, 3));
    assert!(desk.path("tree/volumes").is_dir());
}

#[test]
fn cp_leaves_no_part_of_a_damaged_file_and_copies_the_rest() {
    let desk = desk();
    let pack = files(&desk.path("vault/packs")).pop().unwrap();
    let mut object = std::fs::read(&pack).unwrap();
    object[5000] ^= 1;
    std::fs::write(&pack, &object).unwrap();
    let ended = desk.run("cp", &["-r", "disks/db/latest", &desk.text("out"), "--json"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert_eq!(
        ended.json()["errors"],
        json!({ "damaged": 1, "unreachable": 0, "other": 0 })
    );
    assert!(
        ended
            .stderr
            .starts_with("error: disks/db/latest/disk.img cannot be read: "),
        "{}",
        ended.stderr
    );
    let copied: Vec<_> = files(&desk.path("out"))
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(copied, ["backup.json"]);
}

#[test]
fn cp_refuses_what_cannot_be_meant() {
    let desk = desk();
    let out = desk.text("out");
    desk.run("cp", &["", &out]).fails(2, "an empty path names no file");
    desk.run("cp", &["disks/db/now/disk.img", &out])
        .fails(1, "it has 2026-11-19T03-00-00Z, latest");
    desk.run("cp", &["disks/db/latest/disk.img", "disks/db/latest/backup.json", &out])
        .fails(1, "several files need one to go to");
    desk.run("cp", &["disks/db/latest/disk.img", "/dev/null"])
        .fails(1, "vaultfs restore");
    desk.run("cp", &["disks/db/latest/absent", "disks/db/latest/backup.json", &out])
        .fails(1, "several files need one to go to");
    assert!(!desk.path("out").exists());
    std::fs::create_dir(desk.path("there")).unwrap();
    let half = desk.run(
        "cp",
        &[
            "disks/db/latest/absent",
            "disks/db/latest/backup.json",
            &desk.text("there"),
        ],
    );
    assert_eq!(
        (half.code, desk.path("there/backup.json").exists()),
        (1, true),
        "{}",
        half.stderr
    );
}
