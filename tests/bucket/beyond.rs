//! What is asked of a server beyond objects: to keep what a locked backup needs, and to forget uploads that nobody will end.

use super::Desk;
use crate::common::Random;
use crate::objects::real;
use std::process::Command;
use std::time::Duration;
use vaultfs::store::Store;

/// Sends a request to the server by curl; returns the status, the headers and the body as one text.
fn ask(desk: &Desk, method: &str, path: &str) -> String {
    let variable = |name: &str| desk.access.variables[name].clone();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--include",
            "--request",
            method,
        ])
        .args([
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "--header",
            &format!("x-amz-content-sha256: {empty}"),
        ])
        .args([
            "--user",
            &format!(
                "{}:{}",
                variable("AWS_ACCESS_KEY_ID"),
                variable("AWS_SECRET_ACCESS_KEY")
            ),
        ])
        .arg(format!("{}/{path}", variable("AWS_ENDPOINT_URL")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn version_of(desk: &Desk, object: &str) -> String {
    let listed = ask(
        desk,
        "GET",
        &format!("worm?prefix={}&versions=", object.replace('/', "%2F")),
    );
    let (_, rest) = listed.split_once("<VersionId>").unwrap_or_else(|| panic!("{listed}"));
    rest.split_once("</VersionId>").unwrap().0.to_owned()
}

#[test]
fn a_locked_backup_is_kept_by_a_bucket_with_object_lock() {
    let Some(ceph) = real::ceph("a_locked_backup_is_kept_by_a_bucket_with_object_lock") else {
        return;
    };
    let mut desk = Desk::without_vault(&ceph.access);
    desk.place = desk.place.replacen("vault/", "worm/", 1);
    desk.succeed("init", &["--chunk-size", "64KiB"]);
    let prefix = desk.place.strip_prefix("worm/").unwrap().to_owned();
    let back_up = |name: &str, seed: u64| {
        std::fs::write(desk.path(name), Random::new(seed).bytes(300_000)).unwrap();
        desk.succeed("backup", &["disk", name, &desk.text(name)]);
    };
    back_up("free", 0x3001);
    let free = desk.objects();
    back_up("kept", 0x3002);
    let (near, far) = ("2100-01-01T00:00:00Z", "2100-01-02T00:00:00Z");
    // Later times, and earlier ones, are taken as they are meant.
    for until in [near, far, near] {
        let said = String::from_utf8(desk.succeed("lock", &["disks/kept/latest", "--until", until])).unwrap();
        assert!(until == near || said.contains("object lock"), "{said}");
    }
    let mut kept = 0;
    for (name, _) in desk.objects() {
        let is_free = name != "vault" && free.iter().any(|(other, _)| *other == name) || name.starts_with("index/");
        if name.starts_with("leases/") {
            continue;
        }
        let object = format!("{prefix}/{name}");
        let path = format!("worm/{object}?versionId={}", version_of(&desk, &object));
        let answer = ask(&desk, "DELETE", &path);
        assert_eq!(answer.contains("403 Forbidden"), !is_free, "{name}: {answer}");
        kept += usize::from(!is_free);
    }
    // The vault object, the manifest, a pack, a meta pack, and two locks.
    assert_eq!(kept, 6);
    assert!(desk.succeed("cat", &["disks/kept/latest/disk.img"]) == std::fs::read(desk.path("kept")).unwrap());
}

#[test]
fn a_prune_removes_uploads_that_nobody_will_end_and_leaves_younger_ones() {
    let Some(ceph) = real::ceph("a_prune_removes_uploads_that_nobody_will_end_and_leaves_younger_ones") else {
        return;
    };
    let desk = Desk::new(&ceph.access);
    let prefix = desk.place.strip_prefix("vault/").unwrap().to_owned();
    for number in 0..3 {
        let begun = ask(&desk, "POST", &format!("vault/{prefix}/packs/0{number}/x?uploads="));
        assert!(begun.contains("<UploadId>"), "{begun}");
    }
    let uploads = || {
        let listed = ask(&desk, "GET", "vault?uploads=");
        listed.matches(&format!("<Key>{prefix}/")).count()
    };
    assert_eq!(uploads(), 3);
    // They may belong to a writer that is at work.
    assert_eq!(desk.json("prune", &[])["litter"], 0);
    assert_eq!(uploads(), 3);
    // Those of two seconds ago do not, if one second is what is waited for.
    let store = desk.access.store(&desk.place);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(store.remove_litter(Duration::from_secs(1)).unwrap(), 3);
    assert_eq!(uploads(), 0);
}
