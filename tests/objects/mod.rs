//! S3 servers for tests: Ceph and Garage as processes of their own, s3s-fs and a server of ours in this process.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

pub mod garage;
pub mod odd;
pub mod real;
pub mod within;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use vaultfs::store::s3::{Address, S3Store, Settings};
use vaultfs::store::{Exclusion, Store};

/// Where a server is and who may ask, as environment variables.
#[derive(Debug, Clone)]
pub struct Access {
    /// Name and value.
    pub variables: HashMap<String, String>,
}

impl Access {
    /// A server at `endpoint` that wants these keys.
    pub fn new(endpoint: &str, id: &str, secret: &str) -> Self {
        let pairs = [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", id),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ];
        Self {
            variables: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    /// The same with one more variable, or another value of it.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A store at `address` (`bucket/prefix`) in this process.
    pub fn store(&self, address: &str) -> Arc<S3Store> {
        Arc::new(S3Store::open(&Address::parse(address).unwrap(), &self.settings()).unwrap())
    }

    /// The same as the program would read them from its environment.
    pub fn settings(&self) -> Settings {
        Settings::from_lookup(|name| self.variables.get(name).cloned()).unwrap()
    }

    /// A store in a place of its own in the bucket `vault`, which knows how well the server keeps writers apart.
    pub fn fresh(&self, exclusion: Exclusion) -> Arc<S3Store> {
        let store = self.store(&format!("vault/{}", place()));
        store.set_exclusion(exclusion);
        store
    }

    /// A command of the program under test with these variables and no others of their kind.
    pub fn vaultfs<W: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = W>) -> std::process::Command {
        let mut command = super::common::program::vaultfs(words);
        self.lend(&mut command);
        command
    }

    /// Gives a command these variables and no others of their kind.
    pub fn lend(&self, command: &mut std::process::Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("HOME", "/nonexistent")
            .envs(&self.variables);
    }
}

/// A prefix that no other test uses.
pub fn place() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
