//! Arguments of the commands about files of backups: `ls`, `cat`, `cp`.

use clap::Args as Group;
use std::ffi::OsString;
use std::path::PathBuf;

/// Arguments of `ls`.
#[derive(Debug, Group)]
pub(in super::super) struct Ls {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Address of a backup and a path in it, as in the mount: `servers/web-01/latest/root/etc` [default: the whole vault]
    #[arg(value_name = "ADDRESS/PATH")]
    pub(in super::super) paths: Vec<OsString>,
    /// Mode, links, owner, size, time (UTC) and target of each
    #[arg(short, long)]
    pub(in super::super) long: bool,
    /// Directories inside directories, too
    #[arg(short = 'R', long)]
    pub(in super::super) recursive: bool,
    /// Names that begin with a dot, too
    #[arg(short, long)]
    pub(in super::super) all: bool,
    /// Directories themselves, not what is in them
    #[arg(short, long)]
    pub(in super::super) directory: bool,
    /// In the order of the file system, from the first name on: for huge directories
    #[arg(short = 'U', long)]
    pub(in super::super) unsorted: bool,
}

/// Arguments of `cat`.
#[derive(Debug, Group)]
pub(in super::super) struct Cat {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Address of a backup and a file in it, as in the mount: `servers/web-01/latest/root/etc/fstab`
    #[arg(value_name = "ADDRESS/FILE", required = true)]
    pub(in super::super) files: Vec<OsString>,
}

/// Arguments of `cp`.
#[derive(Debug, Group)]
pub(in super::super) struct Cp {
    /// The vault: a directory made by `vaultfs init`
    pub(in super::super) vault: OsString,
    /// Address of a backup and a path in it, as in the mount: `servers/web-01/latest/root/etc`
    #[arg(value_name = "ADDRESS/PATH", required = true)]
    pub(in super::super) paths: Vec<OsString>,
    /// Where to: a directory that is there, or the name of the copy
    #[arg(value_name = "DEST", required = true)]
    pub(in super::super) target: PathBuf,
    /// Directories, too, with everything in them
    #[arg(short, long)]
    pub(in super::super) recursive: bool,
    /// Copy what the named paths lead to if they are symbolic links
    #[arg(short = 'L', long)]
    pub(in super::super) dereference: bool,
    /// Replace files that are there, each when its copy is complete
    #[arg(short, long)]
    pub(in super::super) force: bool,
    /// The copies are yours: no owners, no set-user-ID bits, no capabilities
    #[arg(long)]
    pub(in super::super) no_owner: bool,
}
