//! The main job on vaults in buckets, with the real binary: on Ceph, on Garage where there is one, on s3s-fs in this process and
//! on a server that ignores conditions; what is said when a bucket cannot be used; and servers that err, fall silent or go away.
//!
//! What is missing is said aloud; with VAULTFS_REQUIRE_FUSE=1 a missing Ceph or FUSE fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "bucket/beyond.rs"]
mod beyond;
#[path = "bucket/cluster.rs"]
mod cluster;
mod common;
#[path = "bucket/facts.rs"]
mod facts;
#[path = "bucket/faults.rs"]
mod faults;
#[path = "bucket/losing.rs"]
mod losing;
#[path = "objects/mod.rs"]
mod objects;
#[path = "bucket/refused.rs"]
mod refused;
#[path = "bucket/silence.rs"]
mod silence;

use common::program;
use objects::Access;
use objects::garage;
use objects::odd::{Manner, Odd};
use objects::real;
use objects::within::Within;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;
use tempfile::TempDir;
use vaultfs::store::Store;

/// A directory of its own for a test, and a vault in a bucket.
struct Desk {
    dir: TempDir,
    access: Access,
    /// `vault/PREFIX`.
    place: String,
}

impl Desk {
    /// A new vault with chunks of 64 KiB.
    fn new(access: &Access) -> Self {
        let desk = Self::without_vault(access);
        desk.succeed("init", &["--chunk-size", "64KiB", "--name", "test"]);
        desk
    }

    fn without_vault(access: &Access) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            access: access.clone(),
            place: format!("vault/{}", objects::place()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The vault as a word of the command line.
    fn vault(&self) -> String {
        format!("s3://{}", self.place)
    }

    fn command(&self, command: &str, words: &[&str]) -> std::process::Command {
        let vault = self.vault();
        let first = [OsStr::new(command), OsStr::new(&vault)];
        self.access
            .vaultfs(first.into_iter().chain(words.iter().map(OsStr::new)))
    }

    fn run(&self, command: &str, words: &[&str]) -> Output {
        self.command(command, words).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its standard output.
    #[track_caller]
    fn succeed(&self, command: &str, words: &[&str]) -> Vec<u8> {
        program::succeed(self.command(command, words))
    }

    /// The answer of a command as JSON.
    #[track_caller]
    fn json(&self, command: &str, words: &[&str]) -> serde_json::Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        serde_json::from_slice(&self.succeed(command, &words)).unwrap()
    }

    /// Asserts that a command fails with this code, and that what it says holds `part`.
    #[track_caller]
    fn fails(&self, command: &str, words: &[&str], code: i32, part: &str) {
        let output = self.run(command, words);
        let said = program::stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{command}: {said}");
        assert!(said.contains(part), "{command}: {part:?} is not in {said:?}");
    }

    /// Addresses of all backups.
    #[track_caller]
    fn addresses(&self) -> Vec<String> {
        let listed = self.json("list", &[]);
        let backups = listed["backups"].as_array().unwrap();
        backups
            .iter()
            .map(|backup| backup["address"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Names and sizes of all objects of the vault.
    fn objects(&self) -> Vec<(String, u64)> {
        let store = self.access.store(&self.place);
        let keys = store.list("").unwrap();
        keys.iter()
            .map(|key| (key.to_string(), store.head(key).unwrap()))
            .collect()
    }

    fn mount(&self) -> common::mounted::Mount {
        common::mounted::Mount::with(self.dir.path(), self.vault().as_ref(), "", |command| {
            self.access.lend(command);
        })
    }
}

/// A test for each fact on each server.
macro_rules! on {
    ($($server:ident: $start:expr; $($fact:ident)*;)*) => {$(
        mod $server {
            use super::*;
            $(
                #[test]
                fn $fact() {
                    let test = concat!(stringify!($server), "::", stringify!($fact));
                    if let Some((_server, access)) = ($start)(test) {
                        facts::$fact(&Desk::new(&access));
                    }
                }
            )*
        }
    )*};
}

on! {
    on_ceph: |test: &str| real::ceph(test).map(|ceph| ((), ceph.access.clone()));
        a_server_comes_back_by_mount_cat_cp_and_restore
        a_disk_comes_back_and_its_next_backup_stores_what_changed
        a_tree_comes_back_by_mount_cp_and_restore
        two_writers_of_one_resource_both_succeed
        deleted_backups_come_back_and_held_ones_stay;
    on_garage: |test: &str| garage::garage(test).map(|garage| ((), garage.access.clone()));
        a_server_comes_back_by_mount_cat_cp_and_restore
        a_disk_comes_back_and_its_next_backup_stores_what_changed
        a_tree_comes_back_by_mount_cp_and_restore;
    on_s3s: |_: &str| { let server = Within::start(); let access = server.access.clone(); Some((server, access)) };
        a_server_comes_back_by_mount_cat_cp_and_restore
        a_disk_comes_back_and_its_next_backup_stores_what_changed
        a_tree_comes_back_by_mount_cp_and_restore;
    on_a_server_that_ignores_conditions: |_: &str| {
        let server = Odd::start(Manner::Ignores, 3);
        let access = server.access.clone();
        Some((server, access))
    };
        a_disk_comes_back_and_its_next_backup_stores_what_changed
        deleted_backups_come_back_and_held_ones_stay;
}
