//! Copies to and from buckets.

use super::{Desk, FIRST, SECOND, copy_command, disk, shown};
use crate::common::program::{self, stderr};
use crate::objects::odd::{Manner, Odd};
use crate::objects::within::Within;
use crate::objects::{Access, place};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// Runs a command of the program against these servers and gives its answer.
#[track_caller]
fn answer(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn words(words: &[&dyn AsRef<OsStr>]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}

/// A copy with the variables of one server, and those of another for the target.
fn between(access: &Access, target: Option<&Access>, all: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = access.vaultfs([OsStr::new("copy"), OsStr::new("--json")]);
    command.args(words(all));
    for (name, value) in target.iter().flat_map(|target| &target.variables) {
        command.env(format!("TO_{name}"), value);
    }
    command
}

#[test]
fn backups_go_to_a_bucket_to_another_server_and_back() {
    let desk = Desk::new();
    let (from, back) = (desk.vault("from", "64KiB"), desk.vault("back", "64KiB"));
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    desk.server(&from, "web", SECOND, &[("vda", &disk(2))]);
    // s3s-fs answers 500 to a range from the end that is longer than the object, which every other server gives whole.
    let (one, two) = (Odd::start(Manner::Honours, 1), Odd::start(Manner::Honours, 2));
    let [first, second] = [&one, &two].map(|server| {
        let place = format!("s3://vault/{}", place());
        program::succeed(server.access.vaultfs(["init", &place, "--chunk-size", "64KiB"]));
        place
    });
    let up = answer(between(&one.access, None, &[&"--all", &from, &first]));
    assert_eq!(
        (&up["copied"], &up["copied_chunks"]),
        (&Value::from(2), &Value::from(15))
    );
    let over = answer(between(&one.access, Some(&two.access), &[&"--all", &first, &second]));
    assert_eq!(
        (&over["copied"], &over["copied_chunks"]),
        (&Value::from(2), &Value::from(15))
    );
    let again = answer(between(&one.access, Some(&two.access), &[&"--all", &first, &second]));
    assert_eq!(
        (&again["there"], &again["copied_chunks"]),
        (&Value::from(2), &Value::from(0))
    );
    let down = answer(between(&two.access, None, &[&second, &"servers/web/latest", &back]));
    assert_eq!(
        (&down["copied"], &down["copied_chunks"]),
        (&Value::from(1), &Value::from(11))
    );
    assert_eq!(
        answer(between(&two.access, None, &[&"--all", &second, &back]))["copied"],
        1
    );
    for point in [FIRST, SECOND] {
        let address = format!("servers/web/{point}");
        let image = format!("{address}/disks/vda.img");
        assert!(super::cat(&from, &image) == super::cat(&back, &image), "{address}");
        let (mut ours, mut theirs) = (shown(&from, &address), shown(&back, &address));
        // The newer one came first, without the backup that it was compared with.
        for shown in [&mut ours, &mut theirs] {
            shown.as_object_mut().unwrap().remove("parent");
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn keys_of_one_server_are_not_sent_to_the_other() {
    let desk = Desk::new();
    let from = desk.vault("from", "64KiB");
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    let server = Within::start();
    let place = format!("s3://vault/{}", place());
    program::succeed(server.access.vaultfs(["init", &place]));
    // Its own address, and no keys: those of the other server are not tried.
    let mut command = copy_command(&[&"--all", &from, &place]);
    command
        .env("AWS_ACCESS_KEY_ID", "ACCESS")
        .env("AWS_SECRET_ACCESS_KEY", "SECRETSECRET");
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", "/nonexistent");
    command.env("TO_AWS_ENDPOINT_URL", &server.access.variables["AWS_ENDPOINT_URL"]);
    command
        .env("TO_AWS_EC2_METADATA_DISABLED", "true")
        .env("VAULTFS_WRITE_RETRY", "1");
    let output = command.output().unwrap();
    assert!(!output.status.success());
    command
        .env("TO_AWS_ACCESS_KEY_ID", "ACCESS")
        .env("TO_AWS_SECRET_ACCESS_KEY", "SECRETSECRET");
    assert_eq!(answer(command)["copied"], 1);
}
