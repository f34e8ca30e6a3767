//! Wrong command lines: exit code 2, a sentence with the cure, and nothing done.

use super::{Desk, vaultfs};

#[test]
fn wrong_words_are_a_usage_error() {
    for (words, part) in [
        (vec![], "Usage: vaultfs"),
        (vec!["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (vec!["init"], "<VAULT>"),
        (vec!["backup", "v"], "Usage: vaultfs backup"),
        (vec!["backup", "v", "server", "web"], "--disk <DISK=PATH>"),
        (vec!["backup", "v", "disk", "db"], "<PATH>"),
        (vec!["list", "v", "servers", "x"], "unexpected argument 'x'"),
        (vec!["restore", "v", "servers/a/latest"], "--to <PATH>"),
        (vec!["init", "v", "--chunk-size", "1.5M"], "is not a size"),
        (
            vec!["init", "v", "--chunk-size", "100KiB"],
            "power of two from 64KiB to 4MiB",
        ),
        (
            vec!["init", "v", "--chunk-size", "8MiB"],
            "power of two from 64KiB to 4MiB",
        ),
        (vec!["backup", "v", "disk", "db", "p", "--level", "23"], "--level <N>"),
        (vec!["backup", "v", "disk", "db", "p", "--jobs", "0"], "--jobs <N>"),
        (
            vec!["backup", "v", "disk", "db", "p", "--at", "yesterday"],
            "is not a time",
        ),
        (
            vec!["backup", "v", "disk", "db", "p", "--consistency", "perfect"],
            "application",
        ),
        (vec!["backup", "v", "disk", "db", "p", "--format", "vmdk"], "qcow2"),
        (vec!["backup", "v", "disk", "db/x", "p"], "is not a valid name"),
        (
            vec!["backup", "v", "server", "web", "--disk", "vda"],
            "write NAME=VALUE",
        ),
        (
            vec!["backup", "v", "server", "web", "--disk", "v/a=p"],
            "is not a valid name",
        ),
        (vec!["show", "v", "web-01"], "is no backup address"),
        (vec!["show", "v", "servers/web-01"], "is no"),
        (vec!["list", "v", "web-01"], "is no address prefix"),
        (vec!["cat", "v", "servers/a/latest"], "is no file of a backup"),
        (vec!["cat", "v"], "<ADDRESS/FILE>"),
        (vec!["ls"], "<VAULT>"),
        (vec!["cp", "v", "servers/a/latest/root/etc"], "<DEST>"),
        (
            vec!["cat", "v", "servers/a/latest/disks/vda.img", "--json"],
            "--json has no meaning",
        ),
        (vec!["delete", "v"], "<ADDRESS>"),
        (vec!["delete", "v", "servers/a/latest"], "name it by its point"),
        (vec!["undelete", "v", "servers/a/latest"], "name it by its point"),
        (vec!["pin", "v", "servers/a/latest"], "--reason <TEXT>"),
        (vec!["lock", "v", "servers/a/latest"], "--until <TIME>"),
        (
            vec!["lock", "v", "servers/a/latest", "--until", "9000-01-01T00-00-00Z"],
            "100 years",
        ),
        (vec!["retain", "v"], "without a rule"),
        (vec!["retain", "v", "--age", "1y"], "is no stretch of time"),
        (vec!["retain", "v", "--number", "0"], "--number <N>"),
        (
            vec!["retain", "v", "--day", "1", "--timezone", "Mars"],
            "is no time zone",
        ),
        (
            vec!["backup", "v", "disk", "db", "p", "--schedule", "a/b"],
            "are allowed",
        ),
        (vec!["completions", "tcsh-and-friends"], "bash"),
    ] {
        let ended = vaultfs(&words);
        ended.fails(2, part);
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = vaultfs(["--version"]).succeeds().stdout;
    assert_eq!(version, format!("vaultfs {}\n", env!("CARGO_PKG_VERSION")));
    for command in [
        "init", "backup", "list", "show", "mount", "umount", "restore", "cat", "ls", "delete", "undelete", "pin",
        "unpin", "lock", "retain", "init", "backup", "list", "show", "mount", "umount", "restore", "cat", "ls",
        "verify", "repair",
    ] {
        let help = vaultfs([command, "--help"]).succeeds().stdout;
        assert!(help.contains("Examples:\n  vaultfs "), "{command}: {help}");
        assert!(help.contains("--json"), "{command}: {help}");
    }
    let help = vaultfs(["--help"]).succeeds().stdout;
    for hidden in ["completions", "man", "bench-decode"] {
        assert!(!help.contains(&format!("  {hidden}")), "{help}");
    }
}

#[test]
fn an_address_of_an_object_store_is_checked_by_every_command() {
    for words in [
        vec!["init", "s3://bucket//prefix"],
        vec!["list", "s3://"],
        vec!["show", "s3:///prefix", "servers/a/latest"],
        vec!["backup", "s3://bucket/..", "disk", "db", "/dev/null"],
        vec!["restore", "s3://bucket/.x", "disks/db/latest", "--to", "x"],
        vec!["cat", "s3://", "disks/db/latest/disk.img"],
        vec!["ls", "s3://"],
        vec!["cp", "s3://", "disks/db/latest/disk.img", "x"],
        vec!["mount", "s3://", "/mnt"],
        vec!["delete", "s3://", "disks/db/2026-11-20T03-00-00Z"],
        vec!["undelete", "s3://", "disks/db/2026-11-20T03-00-00Z"],
        vec!["pin", "s3://", "disks/db/latest", "--reason", "x"],
        vec!["unpin", "s3://", "disks/db/latest"],
        vec!["lock", "s3://", "disks/db/latest", "--until", "2099-01-01T00-00-00Z"],
        vec!["retain", "s3://", "--number", "1"],
    ] {
        vaultfs(&words).fails(2, "s3://");
    }
}

#[test]
fn tags_have_the_limits_of_the_cloud_services() {
    let desk = Desk::new();
    let disk = desk.file("disk", "x");
    let long_key = format!("{}=v", "k".repeat(37));
    let long_value = format!("k={}", "v".repeat(44));
    for (tag, part) in [
        ("env", "key=value"),
        ("=v", "1 to 36"),
        (&long_key, "1 to 36"),
        (&long_value, "at most 43"),
        ("k=a b", "letters, digits, - and _"),
        ("k=a*", "letters, digits, - and _"),
        ("k=a\\b", "letters, digits, - and _"),
    ] {
        desk.run("backup", &["disk", "db", &disk, "--tag", tag]).fails(2, part);
    }
    desk.run("backup", &["disk", "db", &disk, "--tag", "a=1", "--tag", "a=2"])
        .fails(2, "given twice");
    let many: Vec<String> = (0..21).map(|n| format!("--tag=k{n}=v")).collect();
    let words: Vec<&str> = ["disk", "db", &disk]
        .into_iter()
        .chain(many.iter().map(String::as_str))
        .collect();
    desk.run("backup", &words).fails(2, "more than the 20 allowed");
    assert_eq!(
        desk.run("list", &["--json"]).succeeds().json()["backups"],
        serde_json::json!([])
    );
}

#[test]
fn facts_must_be_json_of_at_most_a_mebibyte() {
    let desk = Desk::new();
    let disk = format!("vda={}", desk.file("disk", "x"));
    let broken = desk.file("broken.json", "{");
    let large = desk.file("large.json", format!("\"{}\"", "x".repeat(1 << 20)));
    for (facts, part) in [
        (&broken, "is not JSON"),
        (&large, "1.0 MiB"),
        (&desk.text("absent.json"), "absent.json"),
    ] {
        desk.run("backup", &["server", "web", "--disk", &disk, "--facts", facts])
            .fails(2, part);
    }
    assert_eq!(
        desk.run("list", &["--json"]).succeeds().json()["backups"],
        serde_json::json!([])
    );
}
