//! What is said when a bucket cannot be used: the exit code, and the cure.

use super::Desk;
use crate::common::program;
use crate::objects::Access;
use crate::objects::odd::{Manner, Odd};
use crate::objects::real::{self, Ceph};
use std::time::{Duration, Instant};

#[test]
fn wrong_credentials_are_told_with_the_variables_to_check() {
    let Some(ceph) = real::ceph("wrong_credentials_are_told_with_the_variables_to_check") else {
        return;
    };
    let desk = Desk::new(&ceph.access);
    for (name, value) in [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ACCESS_KEY_ID", "NOBODY")] {
        let stranger = Desk {
            access: desk.access.clone().with(name, value),
            place: desk.place.clone(),
            dir: tempfile::TempDir::new().unwrap(),
        };
        for command in ["list", "init", "ls"] {
            stranger.fails(command, &[], 4, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        }
    }
    assert_eq!(desk.addresses(), Vec::<String>::new());
}

#[test]
fn a_missing_bucket_is_told_and_is_no_empty_one() {
    let Some(ceph) = real::ceph("a_missing_bucket_is_told_and_is_no_empty_one") else {
        return;
    };
    let desk = Desk {
        place: "no-such-bucket/x".to_owned(),
        ..Desk::without_vault(&ceph.access)
    };
    for command in ["init", "list", "ls"] {
        desk.fails(command, &[], 4, "there is no such bucket; make it, or check the name");
    }
}

#[test]
fn a_place_without_a_vault_and_one_with_are_told() {
    let Some(ceph) = real::ceph("a_place_without_a_vault_and_one_with_are_told") else {
        return;
    };
    let desk = Desk::without_vault(&ceph.access);
    desk.fails("list", &[], 1, &format!("make one with: vaultfs init {}", desk.vault()));
    desk.succeed("init", &[]);
    desk.fails("init", &[], 1, "is a vault already");
    assert_eq!(desk.objects().len(), 1, "{:?}", desk.objects());
}

#[test]
fn an_address_where_nobody_answers_is_told_within_seconds() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let desk = Desk::without_vault(&Access::new(&endpoint, "A", "S"));
    let began = Instant::now();
    desk.fails("list", &[], 4, "check AWS_ENDPOINT_URL");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn missing_credentials_and_plain_http_to_far_away_are_refused_before_any_request() {
    let server = Odd::start(Manner::Honours, 4);
    let mut access = server.access.clone();
    access.variables.remove("AWS_ACCESS_KEY_ID");
    Desk::without_vault(&access).fails(
        "list",
        &[],
        4,
        "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not",
    );
    access.variables.remove("AWS_SECRET_ACCESS_KEY");
    Desk::without_vault(&access).fails("list", &[], 4, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    let far = Access::new("http://192.0.2.1", "A", "S");
    Desk::without_vault(&far).fails("list", &[], 4, "VAULTFS_ALLOW_HTTP=1");
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_certificate_is_trusted_when_its_authority_is_named_and_not_before() {
    let test = "a_certificate_is_trusted_when_its_authority_is_named_and_not_before";
    if !real::can_start_ceph(test) {
        return;
    }
    let ceph = Ceph::start(&["--tls"]);
    let mut blind = ceph.access.clone();
    assert!(blind.variables.remove("AWS_CA_BUNDLE").is_some());
    Desk::without_vault(&blind).fails("init", &[], 4, "AWS_CA_BUNDLE=FILE");
    let desk = Desk::new(&ceph.access);
    std::fs::write(desk.path("disk"), b"content").unwrap();
    desk.succeed("backup", &["disk", "db", &desk.text("disk")]);
    assert_eq!(desk.succeed("cat", &["disks/db/latest/disk.img"]), b"content");
    // Plain HTTP to the same port is no vault either, and says so.
    let plain = ceph.access.clone().variables["AWS_ENDPOINT_URL"].replace("https://", "http://");
    let output = Desk::without_vault(&ceph.access.clone().with("AWS_ENDPOINT_URL", &plain)).run("list", &[]);
    assert_eq!(output.status.code(), Some(4), "{}", program::stderr(&output));
}
