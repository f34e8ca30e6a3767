//! The command line as clap sees it: raw words only; `request` gives them meaning. Only here and below is clap named.

mod care;
mod files;
mod lifecycle;
mod prune;

pub(super) use files::{Cat, Cp, Ls};
pub(super) use lifecycle::{Delete, Lock, Pin, Retain, Undelete, Unpin};
pub(super) use prune::Prune;

use super::help;
use crate::bytes::parse_size;
use crate::clock::Point;
use crate::source::Format;
pub(super) use care::{Repair, Verify};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as Group, CommandFactory, Parser, Subcommand, ValueEnum};
pub(super) use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

/// Keeps backups of servers, disks and file systems in a vault and shows them as files.
#[derive(Debug, Parser)]
#[command(name = "vaultfs", version, after_help = help::TOP, max_term_width = 100)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Copy, Group)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// Print one JSON object on standard output (errors stay text, on standard error)
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Show no progress, say nothing but errors and warnings
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a new, empty vault in a directory
    #[command(after_help = help::INIT)]
    Init(Init),
    /// Back up a server's disks, one disk, or a directory tree, into a vault
    #[command(after_help = help::BACKUP)]
    Backup(Backup),
    /// List the backups of a vault, by address
    #[command(after_help = help::LIST)]
    List(List),
    /// Show everything known about one backup
    #[command(after_help = help::SHOW)]
    Show(Show),
    /// Mount a vault as a read-only directory tree
    #[command(after_help = help::MOUNT)]
    Mount(Mount),
    /// Unmount a vault; names who keeps it busy
    #[command(after_help = help::UMOUNT)]
    Umount(Umount),
    /// Put a disk image back to a file or a block device, a file system to a directory
    #[command(after_help = help::RESTORE)]
    Restore(Restore),
    /// List files of a backup, without a mount
    #[command(after_help = help::LS)]
    Ls(Ls),
    /// Write files of a backup to standard output, without a mount
    #[command(after_help = help::CAT)]
    Cat(Cat),
    /// Copy files or whole trees out of a backup, without a mount
    #[command(after_help = help::CP)]
    Cp(Cp),
    /// Copy backups to another vault: what it has already is not copied again
    #[command(after_help = help::COPY, override_usage = help::COPY_USAGE)]
    Copy(Copy),
    /// Delete backups: they are hidden, and `vaultfs undelete` brings them back until a prune removes them
    #[command(after_help = help::DELETE)]
    Delete(Delete),
    /// Bring deleted backups back
    #[command(after_help = help::DELETE)]
    Undelete(Undelete),
    /// Protect backups from being deleted, by hand or by rules
    #[command(after_help = help::PIN)]
    Pin(Pin),
    /// Take such a protection away
    #[command(after_help = help::PIN)]
    Unpin(Unpin),
    /// Lock backups until a time: nobody can delete them before, and nobody can unlock them
    #[command(after_help = help::LOCK)]
    Lock(Lock),
    /// Delete backups of schedules that no rule keeps
    #[command(after_help = help::RETAIN)]
    Retain(Retain),
    /// Remove what no backup needs, and deleted backups when their time has come
    #[command(after_help = help::PRUNE)]
    Prune(Prune),
    /// Check that everything in a vault is as it was written; name what is not, by backup and file
    Verify(Verify),
    /// Bring back what a vault has lost, from other copies; says what it would do unless told to do it
    Repair(Repair),
    /// Print shell completions
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to; made if it is not there
        dir: PathBuf,
    },
    /// Decode and verify an image with all cores, to nowhere, and print the time it took
    #[command(hide = true)]
    BenchDecode(BenchDecode),
}

/// Arguments of `init`.
#[derive(Debug, Group)]
pub(super) struct Init {
    /// The vault: a directory, empty or not there yet
    pub(super) vault: OsString,
    /// Name of the vault [default: the directory's name]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Size of the pieces disks are cut into: a power of two, 64KiB to 4MiB [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) chunk_size: Option<u64>,
    /// Tag of the vault; may be given up to 20 times
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<String>,
}

/// Arguments of `backup`.
#[derive(Debug, Group)]
pub(super) struct Backup {
    /// The vault: a directory made by `vaultfs init`
    pub(super) vault: OsString,
    #[command(subcommand)]
    pub(super) resource: Resource,
}

/// What is backed up.
#[derive(Debug, Subcommand)]
pub(super) enum Resource {
    /// Back up the disks of a server at one point in time
    #[command(after_help = help::BACKUP)]
    Server(Server),
    /// Back up a single disk
    #[command(after_help = help::BACKUP)]
    Disk(Disk),
    /// Back up a directory and everything below it
    #[command(after_help = help::BACKUP_FILESYSTEM)]
    Filesystem(Filesystem),
}

/// Arguments of `backup VAULT server`.
#[derive(Debug, Group)]
pub(super) struct Server {
    /// Name of the server in the vault
    pub(super) name: String,
    /// A disk: a name and a raw file, block device or (with --format) qcow2; once for each disk
    #[arg(long = "disk", value_name = "DISK=PATH", required = true)]
    pub(super) disks: Vec<OsString>,
    /// The disk the server boots from [default: the first]
    #[arg(long, value_name = "DISK")]
    pub(super) boot: Option<String>,
    /// Format of a disk's source, raw or qcow2 [default: raw]; never guessed from its content
    #[arg(long = "format", value_name = "DISK=FORMAT")]
    pub(super) formats: Vec<String>,
    /// Backing file of a qcow2 disk, nearest first, `DISK=raw:PATH` for a raw one; a chain is followed only as far as named
    #[arg(long = "backing", value_name = "DISK=PATH")]
    pub(super) backing: Vec<OsString>,
    /// JSON file of facts about the server, kept with the backup: at most 1 MiB
    #[arg(long, value_name = "FILE")]
    pub(super) facts: Option<PathBuf>,
    #[command(flatten)]
    pub(super) options: BackupOptions,
}

/// Arguments of `backup VAULT disk`.
#[derive(Debug, Group)]
pub(super) struct Disk {
    /// Name of the disk in the vault
    pub(super) name: String,
    /// Raw file, block device or (with --format) qcow2
    pub(super) path: PathBuf,
    /// Format of the source; never guessed from its content
    #[arg(long, value_name = "FORMAT", default_value = "raw", value_parser = format_parser())]
    pub(super) format: Format,
    /// Backing file of a qcow2, nearest first, `raw:PATH` for a raw one; a chain is followed only as far as named
    #[arg(long = "backing", value_name = "PATH")]
    pub(super) backing: Vec<OsString>,
    #[command(flatten)]
    pub(super) options: BackupOptions,
}

/// Arguments of `backup VAULT filesystem`.
#[derive(Debug, Group)]
pub(super) struct Filesystem {
    /// Name of the file system in the vault
    pub(super) name: String,
    /// The directory: an NFS share, a home directory, the mount of a snapshot
    pub(super) dir: PathBuf,
    /// Leave out what matches, as in .gitignore; `/` at the beginning is DIR; may be given many times
    #[arg(short, long = "exclude", value_name = "PATTERN")]
    pub(super) exclude: Vec<String>,
    /// Leave out what matches a pattern of this file, one a line
    #[arg(long, alias = "exclude-file", value_name = "FILE")]
    pub(super) exclude_from: Vec<PathBuf>,
    /// Leave out what is in directories that hold a CACHEDIR.TAG
    #[arg(long)]
    pub(super) exclude_caches: bool,
    /// Leave out what is in directories that hold this file (which begins with HEADER)
    #[arg(long, value_name = "FILE[:HEADER]")]
    pub(super) exclude_if_present: Vec<OsString>,
    /// Stay on the file system of DIR; what is mounted below it is an empty directory in the backup
    #[arg(short = 'x', long, value_enum, value_name = "WHETHER", num_args = 0..=1, require_equals = true,
          default_value_t = YesNo::Yes, default_missing_value = "yes")]
    pub(super) one_file_system: YesNo,
    /// Read every file, also those that look as they did in the last backup
    #[arg(long)]
    pub(super) force_rehash: bool,
    #[command(flatten)]
    pub(super) options: BackupOptions,
}

/// What all kinds of backup take.
#[derive(Debug, Group)]
pub(super) struct BackupOptions {
    /// Tag of the backup; may be given up to 20 times
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<String>,
    /// The schedule that makes this backup, kept as the tag `schedule`; without one it is made by hand, and `vaultfs retain` keeps it
    #[arg(long, value_name = "NAME")]
    pub(super) schedule: Option<String>,
    /// What the sources promise: as after a power cut, prepared by the applications, or nothing [default: crash; none for a
    /// file system]
    #[arg(long, value_enum)]
    pub(super) consistency: Option<Consistency>,
    /// The time the backup shows, for sources that are older: 2026-11-20T03-00-00Z, RFC 3339 or @seconds [default: now]
    #[arg(long, value_name = "TIME", value_parser = Point::parse_user)]
    pub(super) at: Option<Point>,
    /// zstd level, 1 (fast) to 22 (small) [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=22))]
    pub(super) level: Option<i32>,
    /// Shell command to run first, for example to freeze or snapshot; if it fails there is no backup
    #[arg(long, value_name = "CMD")]
    pub(super) before: Option<String>,
    /// Shell command to run at the end, also when the backup fails
    #[arg(long, value_name = "CMD")]
    pub(super) after: Option<String>,
    /// Threads that read, hash and compress [default: two for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
}

/// Arguments of `list`.
#[derive(Debug, Group)]
pub(super) struct List {
    /// The vault: a directory made by `vaultfs init`
    pub(super) vault: OsString,
    /// Only what lies under this address: `servers`, `servers/web-01`, `servers/web-01/2026-11`
    #[arg(value_name = "ADDRESS-PREFIX")]
    pub(super) prefix: Option<String>,
    /// The deleted backups that have not been removed yet, and when they were deleted
    #[arg(long, conflicts_with = "space")]
    pub(super) deleted: bool,
    /// Read all maps and tell what each backup takes of the vault: by itself, and together with others
    #[arg(long)]
    pub(super) space: bool,
}

/// Arguments of `show`.
#[derive(Debug, Group)]
pub(super) struct Show {
    /// The vault: a directory made by `vaultfs init`
    pub(super) vault: OsString,
    /// The backup: `servers/web-01/2026-11-20T03-00-00Z` or `servers/web-01/latest`
    pub(super) address: String,
    /// Read all maps and tell what the backup takes of the vault: by itself, and together with others
    #[arg(long)]
    pub(super) space: bool,
}

/// Arguments of `mount`.
#[derive(Debug, Group)]
pub(super) struct Mount {
    /// The vault: a directory made by `vaultfs init`
    pub(super) vault: OsString,
    /// Where to mount it
    pub(super) dir: PathBuf,
    /// Stay in the foreground; SIGINT and SIGTERM unmount
    #[arg(short, long)]
    pub(super) foreground: bool,
    /// Where to keep what is read from a vault in a bucket, or `none` [default: vaultfs in the user's cache directory]
    #[arg(long, value_name = "DIR|none")]
    pub(super) cache_dir: Option<PathBuf>,
    /// The most bytes to fetch from a vault in a bucket; reads that need more fail
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) max_egress: Option<u64>,
    /// Mount options, separated by commas: `cache=SIZE`, `allow_other`, `threads=N`, `readahead=SIZE`, `log=FILE`, `cache_dir=DIR`,
    /// `cache_dir_size=SIZE`, `cache_data=yes`, `max_egress=SIZE`, `offline`
    #[arg(short, value_name = "OPTIONS")]
    pub(super) options: Vec<String>,
}

/// Arguments of `umount`.
#[derive(Debug, Group)]
pub(super) struct Umount {
    /// Where the vault is mounted
    pub(super) dir: PathBuf,
    /// Detach now, even if files are open there; they stay readable until closed
    #[arg(short, long)]
    pub(super) lazy: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Group)]
pub(super) struct Restore {
    /// The vault: a directory made by `vaultfs init`
    pub(super) vault: OsString,
    /// The backup: `servers/web-01/2026-11-20T03-00-00Z`, `servers/web-01/latest` or `filesystems/home/latest`
    pub(super) address: String,
    /// Of a disk: a new file, or with --force an existing file or a block device; of a file system: a directory
    #[arg(long, value_name = "PATH")]
    pub(super) to: PathBuf,
    /// Overwrite what is at PATH: only what differs is written
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) disk: RestoreDisk,
    #[command(flatten)]
    pub(super) tree: RestoreTree,
}

/// Arguments of `restore` for a disk.
#[derive(Debug, Group)]
#[command(next_help_heading = "Options for disks")]
pub(super) struct RestoreDisk {
    /// Which disk; needed when the backup has more than one
    #[arg(long = "disk", value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Format to write [default: raw]
    #[arg(long, value_name = "FORMAT", value_parser = format_parser())]
    pub(super) format: Option<Format>,
}

/// Arguments of `restore` for a file system.
#[derive(Debug, Group)]
#[command(next_help_heading = "Options for file systems")]
pub(super) struct RestoreTree {
    /// Change nothing; print what would be made, replaced, mended and removed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only this file or directory of the tree, with all that is in it; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(super) include: Vec<OsString>,
    /// Remove from PATH what the backup does not have; never through links or on other file systems
    #[arg(long, requires = "force")]
    pub(super) delete: bool,
    /// Compare the content of files, not their size and time
    #[arg(long, requires = "force")]
    pub(super) checksum: bool,
    /// Whose the files are, if you are root: by number as in the backup, by name, or yours [default: numbers]
    #[arg(long, value_enum, value_name = "WHOSE")]
    pub(super) owners: Option<Owners>,
}

/// Arguments of `copy`.
#[derive(Debug, Group)]
pub(super) struct Copy {
    /// The vault copied from
    pub(super) vault: OsString,
    /// Backups, `servers/web-01/latest`, or whole resources, `servers/web-01`; and the vault copied to, the last word
    #[arg(value_name = "ADDRESS... TO-VAULT", required = true)]
    pub(super) words: Vec<OsString>,
    /// Every backup of the vault
    #[arg(long)]
    pub(super) all: bool,
    /// Change nothing; print what would be copied
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Threads that read, check and write [default: two for each core, eight or more for a bucket]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) jobs: Option<u16>,
}

/// Arguments of `bench-decode`.
#[derive(Debug, Group)]
pub(super) struct BenchDecode {
    /// The vault: a directory made by `vaultfs init`
    pub(super) vault: OsString,
    /// Address of the backup and the image in it
    #[arg(value_name = "ADDRESS/FILE")]
    pub(super) file: String,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum YesNo {
    Yes,
    No,
}

/// Words for what the sources of a backup promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Consistency {
    Crash,
    Application,
    None,
}

/// Words for whose restored files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Owners {
    Numbers,
    Names,
    Mine,
}

/// Parses a command line, program name first; the error is also how `--help` and `--version` end.
pub(super) fn parse(words: Vec<OsString>) -> Result<Args, Refusal> {
    Args::try_parse_from(words).map_err(Refusal)
}

/// A command line that leads to no command: a usage error, or a request for help.
#[derive(Debug)]
pub(super) struct Refusal(clap::Error);

impl Refusal {
    /// Says whether the user asked for this text, so that it belongs on standard output.
    pub(super) fn is_wanted(&self) -> bool {
        !self.0.use_stderr()
    }

    /// Shows the text, coloured if the stream is a terminal.
    pub(super) fn print(&self) -> std::io::Result<()> {
        self.0.print()
    }
}

/// The formats of a disk's file, so that help and completions name them.
fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["raw", "qcow2"]).try_map(|text| text.parse::<Format>())
}

/// The completion script for `shell`.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "vaultfs", &mut script);
    script
}

/// The definition as a value, for what is made from it.
pub(super) fn definition() -> clap::Command {
    Args::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }
}
