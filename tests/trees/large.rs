//! A tree of numbers that hurt: a directory of 200,000 entries, 100,000 names of one file.

use super::Scene;
use crate::files::{assert_same, restorable, tree_of_directory};
use std::fs;

const ENTRIES: u32 = 200_000;
const NAMES: u32 = 100_000;

#[test]
#[ignore = "long: 300,000 names stored, listed and restored, about a minute"]
fn a_huge_directory_and_a_file_of_many_names_come_back() {
    let Some(scene) = Scene::empty() else { return };
    let source = scene.source();
    fs::create_dir_all(source.join("many")).unwrap();
    for number in 0..ENTRIES {
        fs::File::create(source.join(format!("many/entry {number}"))).unwrap();
    }
    fs::create_dir(source.join("names")).unwrap();
    fs::write(source.join("names/0"), "one file").unwrap();
    for number in 1..NAMES {
        fs::hard_link(source.join("names/0"), source.join(format!("names/{number}"))).unwrap();
    }
    scene.back_up("home", &source);
    let wanted = tree_of_directory(&source);
    let mounted = scene.mount();
    let tree = mounted.0.path().join(super::TREE);
    assert_eq!(fs::read_dir(tree.join("many")).unwrap().count(), 200_000);
    assert_same(&tree_of_directory(&tree), &wanted, "the mount");
    drop(mounted);
    let to = scene.kernel.path().join("restored");
    scene.restore(&to, &[]);
    let wanted = restorable(wanted);
    assert_same(&restorable(tree_of_directory(&to)), &wanted, "restore");
    // One more entry changes some pages of the tree, not all of them.
    fs::write(source.join("many/one more"), "").unwrap();
    let vault = scene.vault();
    let words = ["backup", vault.to_str().unwrap(), "filesystem", "home", "--json"];
    let report = scene.succeed(words.into_iter().chain([source.to_str().unwrap()]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let stored = report["stored_bytes"].as_u64().unwrap();
    assert!(stored < 2 << 20, "{stored} bytes stored for one name");
}
