//! vaultfs keeps backups of servers and disks in a vault and shows them as files.
//!
//! The layers, top to bottom (arrows only fall; `tests/layers.rs` keeps it so):
//!
//! ```text
//! cli -> mount . backup . copy . restore . extract . reach . retain . verify . repair . prune
//!        extract        -> tree
//!        mount  -> fuse -> tree -> fs -> volume -> image -> chunk -> vault -> store
//!        backup -> source, writer        -> chunk -> vault -> store
//!        copy   -> writer, image         -> chunk -> vault -> store
//!        reach                           -> chunk -> vault -> store
//!        verify -> fs, volume, image     -> chunk -> vault -> store
//!        repair -> verify, writer        -> chunk -> vault -> store
//!        base, for everybody: bytes . checksum . clock . monitor
//! ```
//!
//! `docs/format.md` is the normative text for every stored byte; `docs/design.md` says why things are where they are.

pub mod backup;
pub mod bytes;
pub mod checksum;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod copy;
pub mod extract;
pub mod fs;
pub mod fuse;
pub mod image;
pub mod lease;
pub mod lock;
pub mod logging;
pub mod monitor;
pub mod mount;
pub mod prune;
pub mod reach;
pub mod repair;
pub mod restore;
pub mod retain;
pub mod source;
pub mod store;
pub mod tree;
pub mod vault;
pub mod verify;
pub mod volume;
pub mod writer;
