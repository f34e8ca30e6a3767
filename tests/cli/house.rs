//! Completions, manual pages, and a reader that leaves early.

use super::{Desk, vaultfs};
use std::io::Read;
use std::process::{Command, Stdio};

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = vaultfs(["completions", shell]).succeeds().stdout;
        for word in ["init", "backup", "restore", "umount", "chunk-size", "consistency"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let desk = Desk::new();
    let pages = vaultfs(["man", &desk.text("man/man1"), "--json"]).succeeds().json();
    for command in [
        "",
        "-init",
        "-backup",
        "-backup-server",
        "-backup-disk",
        "-list",
        "-show",
        "-mount",
        "-umount",
        "-restore",
        "-cat",
        "-ls",
        "-cp",
        "-delete",
        "-undelete",
        "-pin",
        "-unpin",
        "-lock",
        "-retain",
    ] {
        let name = format!("vaultfs{command}.1");
        assert!(
            pages["pages"].as_array().unwrap().contains(&name.clone().into()),
            "{name}"
        );
        let page = std::fs::read_to_string(desk.path("man/man1").join(&name)).unwrap();
        assert!(
            page.contains(".TH vaultfs") && page.contains(".SH DESCRIPTION"),
            "{name}"
        );
    }
    assert!(!desk.path("man/man1/vaultfs-man.1").exists());
    let page = std::fs::read_to_string(desk.path("man/man1/vaultfs-backup-server.1")).unwrap();
    assert!(
        page.contains("vaultfs backup <VAULT> server") && page.contains(".SH EXAMPLES"),
        "{page}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vaultfs"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}
