//! Tables of command lines and what they come to.

use super::*;
use args::{Args, Command, Resource};
use std::path::Path;

fn server(words: &str) -> Box<args::Server> {
    let words = format!("vaultfs backup v server web {words}");
    let Args { command, .. } = args::parse(words.split_whitespace().map(OsString::from).collect()).unwrap();
    match command {
        Command::Backup(args::Backup {
            resource: Resource::Server(server),
            ..
        }) => Box::new(server),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_place_of_a_vault_is_a_slip() {
    for bad in ["http://host", "", "s3://", "s3://b/../c"] {
        assert!(location(OsStr::new(bad)).is_err(), "{bad}");
    }
    assert_eq!(
        location(OsStr::new("s3://bucket/prefix")).unwrap().to_string(),
        "s3://bucket/prefix"
    );
    assert_eq!(
        location(OsStr::new("/srv/vault")),
        Ok(Location::Directory("/srv/vault".into()))
    );
}

#[test]
fn disks_keep_their_order_and_the_first_boots() {
    let disks = disks(&server(
        "--disk vdb=/b --disk vda=/a=1 --format vda=qcow2 --backing vda=/x --backing vda=raw:/y",
    ))
    .unwrap();
    let names: Vec<_> = disks.iter().map(|disk| (disk.name.as_str(), disk.boot)).collect();
    assert_eq!(names, [("vdb", Boot::Yes), ("vda", Boot::No)]);
    let source = &disks[1].source;
    assert_eq!(
        (source.path.as_path(), source.format),
        (Path::new("/a=1"), Format::Qcow2)
    );
    let backing: Vec<_> = source
        .backing
        .iter()
        .map(|file| (file.path.to_str().unwrap(), file.format))
        .collect();
    assert_eq!(backing, [("/x", Format::Qcow2), ("/y", Format::Raw)]);
}

#[test]
fn the_named_disk_boots() {
    let disks = disks(&server("--disk vda=/a --disk vdb=/b --boot vdb")).unwrap();
    assert_eq!(disks[0].boot, Boot::No);
    assert_eq!(disks[1].boot, Boot::Yes);
}

#[test]
fn slips_are_named() {
    for (words, part) in [
        ("--disk vda", "write NAME=VALUE"),
        ("--disk =x", "write NAME=VALUE"),
        ("--disk vda=", "write NAME=VALUE"),
        ("--disk vda=x --disk vda=y", "given twice"),
        ("--disk vda=x --format vdb=raw", "no --disk vdb=PATH"),
        ("--disk vda=x --format vda=vmdk", "vda=raw or vda=qcow2"),
        ("--disk vda=x --format vda=raw --format vda=raw", "given twice"),
        ("--disk vda=x --backing vda=y", "--format qcow2"),
        ("--disk vda=x --backing vdb=y", "no --disk vdb=PATH"),
        ("--disk vda=x --boot vdb", "no --disk vdb=PATH"),
    ] {
        let message = disks(&server(words)).unwrap_err().0;
        assert!(message.contains(part), "{words}: {message}");
    }
}
