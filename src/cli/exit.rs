//! How the program ends: exit codes, chosen here and nowhere else by looking at the errors of the layers.

use super::request::Usage;
use crate::{
    backup, chunk, copy, extract, fs, image, lease, mount, prune, repair, restore, store, tree, vault, verify, writer,
};
use std::io;

/// How a command ended; scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// Everything asked for was done.
    Done,
    /// It was not, for a reason that has no number of its own.
    Failed,
    /// The command line is wrong; nothing was done.
    Usage,
    /// Backed-up data is corrupt or missing.
    Damaged,
    /// The store of the vault did not answer.
    Unreachable,
    /// The main thing was done, something beside it was not.
    Partial,
    /// Another process of this command ended with this status and has said why.
    Reported(u8),
}

impl Code {
    /// The process exit status.
    pub(super) fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Damaged => 3,
            Self::Unreachable => 4,
            Self::Partial => 5,
            Self::Reported(status) => status,
        }
    }

    /// The status as mount(8) wants it from its helpers.
    pub(super) fn helper_status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 1,
            Self::Reported(status) => status,
            _ => 32,
        }
    }
}

/// The code for `error`: the first cause in its chain that says what kind of failure it is.
pub(super) fn code_of(error: &anyhow::Error) -> Code {
    error.chain().find_map(code_of_cause).unwrap_or(Code::Failed)
}

fn code_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Code> {
    if cause.is::<Usage>() {
        return Some(Code::Usage);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_vault(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_backup(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_copy(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_prune(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_verify(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_repair(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_restore(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_mount(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_extract(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_tree(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_fs(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_chunk(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_image(error);
    }
    cause.downcast_ref().map(of_store)
}

/// A source that cannot be read is no damage to what is backed up.
fn of_backup(error: &backup::Error) -> Option<Code> {
    match error {
        backup::Error::AfterCommit { .. } => Some(Code::Partial),
        backup::Error::Invalid { .. } => Some(Code::Usage),
        backup::Error::Vault(error)
        | backup::Error::Lease(lease::Error::Vault(error))
        | backup::Error::Write(writer::Error::Vault(error)) => of_vault(error),
        backup::Error::Write(writer::Error::Lookup(_)) | backup::Error::ReadBack { .. } => None,
        _ => Some(Code::Failed),
    }
}

/// `None` where the layers below know better.
fn of_prune(error: &prune::Error) -> Option<Code> {
    match error {
        prune::Error::Vault(error) => of_vault(error),
        prune::Error::Manifest { .. } | prune::Error::Unreadable { .. } => None,
        prune::Error::Missing { .. } => Some(Code::Damaged),
        _ => Some(Code::Failed),
    }
}

/// `None` where the layers below know better.
fn of_copy(error: &copy::Error) -> Option<Code> {
    match error {
        copy::Error::SameVault { .. } => Some(Code::Usage),
        copy::Error::Differs { .. } => Some(Code::Partial),
        copy::Error::Interrupted { .. } => Some(Code::Failed),
        _ => None,
    }
}

/// `None` where the layers below know better.
fn of_verify(error: &verify::Error) -> Option<Code> {
    match error {
        verify::Error::Vault(error) => of_vault(error),
        verify::Error::Read(_) => None,
        verify::Error::Interrupted { .. } => Some(Code::Failed),
    }
}

/// `None` where the layers below know better.
fn of_repair(error: &repair::Error) -> Option<Code> {
    match error {
        repair::Error::Lease(lease::Error::Vault(error)) => of_vault(error),
        repair::Error::Lease(_) | repair::Error::Lapsed => Some(Code::Failed),
        repair::Error::Verify(error) => of_verify(error),
        repair::Error::Vault(error) => of_vault(error),
        repair::Error::Read { .. } | repair::Error::Write(_) => None,
        repair::Error::SameVault { .. } => Some(Code::Usage),
        repair::Error::Unreachable { .. } => Some(Code::Unreachable),
        repair::Error::Interrupted => Some(Code::Failed),
    }
}

/// Only what was backed up can be damaged; trouble with the target is plain failure.
fn of_restore(error: &restore::Error) -> Option<Code> {
    match error {
        restore::Error::Image(_) => None,
        _ => Some(Code::Failed),
    }
}

/// `None` where the vault below knows better.
fn of_mount(error: &mount::Error) -> Option<Code> {
    match error {
        mount::Error::Vault { .. } => None,
        mount::Error::Reported { code } => Some(Code::Reported(*code)),
        _ => Some(Code::Failed),
    }
}

/// Only what was backed up can be damaged; `None` where the layers below know better.
fn of_extract(error: &extract::Error) -> Option<Code> {
    match error {
        extract::Error::Read { .. } => None,
        _ => Some(Code::Failed),
    }
}

/// `None` where the layers below know better.
fn of_tree(error: &tree::Error) -> Option<Code> {
    match error {
        tree::Error::Vault { .. } | tree::Error::Image(_) | tree::Error::File(_) => None,
        _ => Some(Code::Failed),
    }
}

/// A directory that names an inode which is not there is damage, too. `None` where the layers below know better.
fn of_fs(error: &fs::Error) -> Option<Code> {
    match error {
        fs::Error::Corrupt { .. } | fs::Error::NoInode { .. } => Some(Code::Damaged),
        fs::Error::Image(_) | fs::Error::Stored { .. } => None,
        _ => Some(Code::Failed),
    }
}

/// `None` where the store below knows better.
fn of_chunk(error: &chunk::Error) -> Option<Code> {
    match error {
        chunk::Error::Corrupt { .. } | chunk::Error::Missing { .. } => Some(Code::Damaged),
        chunk::Error::Timeout { .. } => Some(Code::Unreachable),
        chunk::Error::Unavailable { .. } => None,
    }
}

/// Images are backed-up disks and sources alike; a damaged source is damaged data, too.
fn of_image(error: &image::Error) -> Option<Code> {
    match error {
        image::Error::Corrupt { .. } | image::Error::Missing { .. } => Some(Code::Damaged),
        image::Error::Unavailable { .. } => Some(Code::Unreachable),
        _ => Some(Code::Failed),
    }
}

/// `None` where the store below knows better.
fn of_vault(error: &vault::Error) -> Option<Code> {
    match error {
        vault::Error::Corrupt { .. } => Some(Code::Damaged),
        vault::Error::Store(_) => None,
        _ => Some(Code::Failed),
    }
}

fn of_store(error: &store::Error) -> Code {
    match error {
        store::Error::NotFound { .. } | store::Error::Short { .. } => Code::Damaged,
        store::Error::NoRoot { .. } | store::Error::NoStore { .. } | store::Error::Refused { .. } => Code::Unreachable,
        store::Error::InvalidLocation { .. } => Code::Usage,
        store::Error::Io { source, .. } => of_io(source),
        _ => Code::Failed,
    }
}

/// A full disk or a missing right is an answer of the store, not its silence.
fn of_io(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem => Code::Failed,
        _ => Code::Unreachable,
    }
}

/// Says whether `error` is nothing but a reader that has seen enough: `vaultfs list V | head`.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<super::output::Closed>())
}
