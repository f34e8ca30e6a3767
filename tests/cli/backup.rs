//! Backups from the command line: what they show, how they are read back, and how they fail.

use super::{Desk, files, noise};
use serde_json::{Value, json};

const POINT: &str = "2026-11-19T03-00-00Z";

/// Makes a backup of `data` as server `web` with one disk and gives its JSON.
fn back_up(desk: &Desk, data: &[u8], words: &[&str]) -> Value {
    let disk = format!("vda={}", desk.file("disk", data));
    let all: Vec<&str> = ["server", "web", "--json", "--disk", &disk]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    desk.run("backup", &all).succeeds().json()
}

/// The addresses that `list` shows.
fn addresses(desk: &Desk, words: &[&str]) -> Vec<String> {
    let words: Vec<&str> = ["--json"].iter().chain(words).copied().collect();
    let listing = desk.run("list", &words).succeeds().json();
    let backups = listing["backups"].as_array().unwrap().iter();
    backups
        .map(|backup| backup["address"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_was_backed_up_is_shown_the_same_everywhere() {
    let desk = Desk::new();
    let facts = desk.file("facts.json", r#"{"cpus": 2, "zone": "b"}"#);
    let made = back_up(
        &desk,
        &noise(300_000, 1),
        &["--at", POINT, "--tag", "env=prod", "--tag", "a=1", "--facts", &facts],
    );
    assert_eq!(made["address"], format!("servers/web/{POINT}"));
    assert_eq!(made["logical_bytes"], 300_000);
    assert_eq!(made["tags"], json!({ "a": "1", "env": "prod" }));
    assert_eq!(made["facts"]["cpus"], 2);
    assert_eq!(made["imported"], true);
    assert_eq!(made["disks"][0]["bootable"], true);
    assert_eq!(made["disks"][0]["image"], "disks/vda.img");
    let shown = desk.run("show", &["servers/web/latest", "--json"]).succeeds();
    for (key, value) in made.as_object().unwrap() {
        assert_eq!(shown.json()[key], *value, "{key}");
    }
    let described = desk.run("cat", &["servers/web/latest/backup.json"]).succeeds();
    assert_eq!(described.stdout, shown.stdout);
    let text = desk.run("show", &[&format!("servers/web/{POINT}")]).succeeds().stdout;
    for part in [
        "a=1,env=prod",
        "crash",
        "2026-11-19T03:00:00Z",
        "disks/vda.img",
        "\"zone\": \"b\"",
        "it is the first",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_image_reads_back_as_it_was_and_the_next_backup_adds_what_changed() {
    let desk = Desk::new();
    let mut data = noise(3 << 20, 2);
    data.resize(8 << 20, 0);
    let first = back_up(&desk, &data, &["--at", POINT]);
    data[2_000_000] ^= 1;
    let second = back_up(&desk, &data, &[]);
    assert_eq!(
        (first["new_bytes"].as_u64(), first["data_bytes"].as_u64()),
        (Some(3 << 20), Some(3 << 20))
    );
    assert_eq!(second["new_bytes"], 64 << 10);
    assert_eq!(second["parent"], POINT);
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_vaultfs"))
        .args(["cat", &desk.text("vault"), "servers/web/latest/disks/vda.img"])
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout == data);
}

#[test]
fn lists_are_sorted_and_cut_by_prefix() {
    let desk = Desk::new();
    let disk = desk.file("disk", "x");
    for (kind, name, at) in [
        ("server", "web-02", "2026-11-20T00-00-00Z"),
        ("server", "web-01", "2026-12-01T00-00-00Z"),
        ("server", "web-01", "2026-11-20T00-00-00Z"),
        ("disk", "web-01", "2026-11-20T00-00-00Z"),
    ] {
        let source = format!("vda={disk}");
        let source = if kind == "server" {
            ["--disk", &source]
        } else {
            ["--quiet", &disk]
        };
        desk.run(
            "backup",
            &[
                kind, name, "--at", at, "--tag", "b=2", "--tag", "a=1", source[0], source[1],
            ],
        )
        .succeeds();
    }
    let servers = [
        "servers/web-01/2026-11-20T00-00-00Z",
        "servers/web-01/2026-12-01T00-00-00Z",
        "servers/web-02/2026-11-20T00-00-00Z",
    ];
    assert_eq!(addresses(&desk, &["servers"]), servers);
    assert_eq!(addresses(&desk, &["servers/web-01"]), servers[..2]);
    assert_eq!(addresses(&desk, &["servers/web-01/2026-12"]), servers[1..2]);
    assert_eq!(addresses(&desk, &[]).len(), 4);
    let text = desk.run("list", &["servers/web-02"]).succeeds().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("ADDRESS ") && lines[0].ends_with("  TAGS"),
        "{text}"
    );
    assert!(
        lines[1].starts_with(servers[2]) && lines[1].ends_with("  a=1,b=2"),
        "{text}"
    );
}

#[test]
fn several_disks_keep_their_order_and_the_named_one_boots() {
    let desk = Desk::new();
    let [vdb, vda] = ["vdb", "vda"].map(|name| format!("{name}={}", desk.file(name, name)));
    desk.run(
        "backup",
        &["server", "web", "--disk", &vdb, "--disk", &vda, "--boot", "vda"],
    )
    .succeeds();
    let shown = desk.run("show", &["servers/web/latest", "--json"]).succeeds().json();
    let disks: Vec<_> = shown["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| (disk["name"].clone(), disk["bootable"].clone()))
        .collect();
    assert_eq!(disks, [(json!("vdb"), json!(false)), (json!("vda"), json!(true))]);
    desk.run("restore", &["servers/web/latest", "--to", &desk.text("out")])
        .fails(2, "--disk with one of vdb, vda");
    desk.run(
        "restore",
        &["servers/web/latest", "--disk", "vdc", "--to", &desk.text("out")],
    )
    .fails(2, "it has vdb, vda");
    desk.run("cat", &["servers/web/latest/disk.img"])
        .fails(1, "it has backup.json, disks, volumes");
}

#[test]
fn a_time_is_taken_once() {
    let desk = Desk::new();
    back_up(&desk, b"x", &["--at", POINT]);
    let disk = format!("vda={}", desk.text("disk"));
    for same in [POINT, "2026-11-19T04:00:00+01:00", "@1795057200"] {
        desk.run("backup", &["server", "web", "--disk", &disk, "--at", same])
            .fails(1, "there is already a backup");
    }
    assert_eq!(addresses(&desk, &[]).len(), 1);
}

#[test]
fn without_the_command_before_there_is_no_backup_and_the_one_after_still_runs() {
    let desk = Desk::new();
    let disk = desk.file("disk", "x");
    let after = format!("echo \"$VAULTFS_STATUS\" >> {}", desk.text("after"));
    desk.run(
        "backup",
        &["disk", "db", &disk, "--before", "exit 7", "--after", &after],
    )
    .fails(1, "exit 7");
    desk.run("backup", &["disk", "db", &desk.text("absent"), "--after", &after])
        .fails(1, "absent");
    assert_eq!(addresses(&desk, &[]).len(), 0);
    // The command before may make what is backed up.
    let made = desk.text("made");
    desk.run(
        "backup",
        &[
            "disk",
            "db",
            &made,
            "--before",
            &format!("echo data > {made}"),
            "--after",
            &after,
        ],
    )
    .succeeds();
    assert_eq!(
        std::fs::read_to_string(desk.path("after")).unwrap(),
        "failed\nfailed\nok\n"
    );
    assert_eq!(
        desk.run("cat", &["disks/db/latest/disk.img"]).succeeds().stdout,
        "data\n"
    );
}

#[test]
fn a_backup_whose_command_after_fails_is_there_and_done_in_part() {
    let desk = Desk::new();
    let ended = desk.run(
        "backup",
        &["disk", "db", &desk.file("disk", "x"), "--after", "exit 3", "--json"],
    );
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("is committed, but the --after command failed"),
        "{}",
        ended.stderr
    );
    assert_eq!(addresses(&desk, &[]), [ended.json()["address"].as_str().unwrap()]);
}

#[test]
fn quiet_says_nothing() {
    let desk = Desk::new();
    let ended = desk
        .run("backup", &["disk", "db", &desk.file("disk", "x"), "-q"])
        .succeeds();
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_damaged_manifest_is_named_and_hides_no_other_backup() {
    let desk = Desk::new();
    back_up(&desk, b"x", &["--at", POINT]);
    let good = back_up(&desk, b"y", &[]);
    let manifest = desk.path("vault").join("backups/servers/web").join(POINT);
    let mut object = std::fs::read(&manifest).unwrap();
    let middle = object.len() / 2;
    object[middle] ^= 1;
    std::fs::write(&manifest, object).unwrap();
    let ended = desk.run("list", &["--json"]);
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(
        ended.stderr.contains(POINT) && ended.stderr.contains("corrupt"),
        "{}",
        ended.stderr
    );
    let listing = ended.json();
    assert_eq!(listing["backups"][0]["address"], good["address"]);
    assert_eq!(listing["damaged"][0]["address"], format!("servers/web/{POINT}"));
    desk.run("show", &[&format!("servers/web/{POINT}")]).fails(3, "corrupt");
}

#[test]
fn missing_or_damaged_chunks_are_an_error_and_never_other_bytes() {
    let desk = Desk::new();
    back_up(&desk, &noise(100_000, 3), &["--at", POINT]);
    let pack = files(&desk.path("vault/packs")).pop().unwrap();
    let mut object = std::fs::read(&pack).unwrap();
    object[5000] ^= 1;
    std::fs::write(&pack, &object).unwrap();
    let image = "servers/web/latest/disks/vda.img";
    desk.run("cat", &[image]).fails(3, "disk vda");
    std::fs::remove_file(&pack).unwrap();
    desk.run("cat", &[image]).fails(3, "missing");
    desk.run("restore", &["servers/web/latest", "--to", &desk.text("out")])
        .fails(3, "missing");
    assert!(!desk.path("out").exists());
}

#[test]
fn a_restore_makes_the_disk_again_and_overwrites_only_when_told() {
    let desk = Desk::new();
    let mut data = noise(1 << 20, 4);
    data.resize(5 << 20, 0);
    back_up(&desk, &data, &[]);
    let out = desk.text("out.img");
    let report = desk
        .run(
            "restore",
            &["servers/web/latest", "--disk", "vda", "--to", &out, "--json"],
        )
        .succeeds()
        .json();
    assert_eq!((&report["bytes"], &report["verified"]), (&json!(5 << 20), &json!(true)));
    assert!(std::fs::read(&out).unwrap() == data);
    desk.run("restore", &["servers/web/latest", "--to", &out])
        .fails(1, "--force");
    std::fs::write(&out, noise(5 << 20, 5)).unwrap();
    let text = desk
        .run("restore", &["servers/web/latest", "--to", &out, "--force"])
        .succeeds()
        .stdout;
    assert!(
        text.contains("verified") && std::fs::read(&out).unwrap() == data,
        "{text}"
    );
}

#[test]
fn decoding_for_the_bench_prints_bytes_and_seconds() {
    let desk = Desk::new();
    let mut data = noise(1 << 20, 6);
    data.resize(3 << 20, 0);
    back_up(&desk, &data, &[]);
    let result = desk
        .run("bench-decode", &["servers/web/latest/disks/vda.img"])
        .succeeds()
        .json();
    assert_eq!(result["bytes"], 1 << 20);
    assert!(result["seconds"].as_f64().unwrap() > 0.0);
}
