//! The fuzz targets: each is a function that takes any bytes and returns. What it asserts is told at its top.
//!
//! They are run by cargo-fuzz (`fuzz_targets/`, each file a wrapper) and by `tests/fuzz_corpus.rs`, which replays the corpus on a stable
//! compiler. A new target is a file here, an entry in each of the two lists below, a wrapper and a `[[bin]]` in `Cargo.toml`; one for a
//! file system is as short as `fat.rs`, and its images come from `make-images`.

#![allow(dead_code)]

pub mod config;
pub mod exfat;
pub mod ext;
pub mod fat;
pub mod file_system;
pub mod image;
pub mod lease;
pub mod manifest;
pub mod map_page;
pub mod mark;
pub mod pack_footer;
pub mod qcow2;
pub mod record;
pub mod tree_page;
pub mod volumes;
pub mod xfs;

/// A target.
pub struct Target {
    /// Its name, which its corpus has, too.
    pub name: &'static str,
    /// What is run.
    pub run: fn(&[u8]),
    /// An input that is accepted, for a fuzzer to start with: the file `seed` of the corpus.
    pub seed: fn() -> Vec<u8>,
}

/// Every target.
pub const ALL: [Target; 14] = [
    Target {
        name: "config",
        run: config::run,
        seed: config::seed,
    },
    Target {
        name: "exfat",
        run: exfat::run,
        seed: exfat::seed,
    },
    Target {
        name: "ext",
        run: ext::run,
        seed: ext::seed,
    },
    Target {
        name: "fat",
        run: fat::run,
        seed: fat::seed,
    },
    Target {
        name: "lease",
        run: lease::run,
        seed: lease::seed,
    },
    Target {
        name: "manifest",
        run: manifest::run,
        seed: manifest::seed,
    },
    Target {
        name: "map_page",
        run: map_page::run,
        seed: map_page::seed,
    },
    Target {
        name: "mark",
        run: mark::run,
        seed: mark::seed,
    },
    Target {
        name: "pack_footer",
        run: pack_footer::run,
        seed: pack_footer::seed,
    },
    Target {
        name: "qcow2",
        run: qcow2::run,
        seed: qcow2::seed,
    },
    Target {
        name: "record",
        run: record::run,
        seed: record::seed,
    },
    Target {
        name: "tree_page",
        run: tree_page::run,
        seed: tree_page::seed,
    },
    Target {
        name: "volumes",
        run: volumes::run,
        seed: volumes::seed,
    },
    Target {
        name: "xfs",
        run: xfs::run,
        seed: xfs::seed,
    },
];
