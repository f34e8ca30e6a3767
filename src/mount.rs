//! Mounts a vault: opens it, puts the mount in place, serves it until it is unmounted, and ends mounts.
//!
//! All mounting and unmounting is done here and not by fuser, whose 0.18 has faults in it: an unmount that is not lazy
//! loses its handle, and a mount ended from outside is unmounted a second time, whatever lies there by then.

pub mod attach;
pub mod daemon;
pub mod detach;
pub mod fusermount;
pub mod helper;
pub mod holders;
pub mod mountinfo;
pub mod options;
mod presence;
pub mod pulse;
mod readahead;
mod refresh;
pub mod serve;
pub mod signals;
pub mod sys;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use options::Options;

use crate::chunk::Reader;
use crate::image::handle::ReadAhead;
use crate::logging::{self, Destination};
use crate::store::location::Location;
use crate::tree::Content;
use crate::vault::{self, access};
use attach::{Place, VaultPlace};

/// A mount that a user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The vault, as the user wrote it: a directory.
    pub vault: OsString,
    /// Where to mount it.
    pub directory: PathBuf,
    /// The `-o` options.
    pub options: Options,
    /// Where the serving process stays.
    pub presence: Presence,
}

/// Where the process that serves a mount stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In the background; the command returns when the mount is ready.
    Background,
    /// In the foreground until it is unmounted.
    Foreground,
    /// Nowhere: only check whether the mount could be made (`mount -f`).
    Checked,
}

/// Why a vault could not be mounted, served or unmounted; each text says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The mount point will not do.
    #[error("mount point {} {problem}", .path.display())]
    MountPoint {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and the cure.
        problem: String,
    },
    /// FUSE is missing here or refuses.
    #[error("{problem}")]
    Fuse {
        /// What is wrong, and the cure.
        problem: String,
    },
    /// The vault could not be opened or listed.
    #[error("the vault {vault} cannot be opened")]
    Vault {
        /// The vault.
        vault: String,
        /// Its own words.
        #[source]
        source: vault::Error,
    },
    /// The system refused something else.
    #[error("{doing} failed")]
    System {
        /// What was being done.
        doing: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The background process failed and has said why on standard error: exit with its code and say nothing more.
    #[error("the background process ended with code {code}")]
    Reported {
        /// Its exit code.
        code: u8,
    },
    /// The names in the vault could not be listed.
    #[error("the backups of the vault {vault} cannot be listed")]
    Tree {
        /// The vault.
        vault: String,
        /// The tree's words.
        #[source]
        source: crate::tree::Error,
    },
    /// No vault is mounted there.
    #[error("no vault is mounted at {}", .path.display())]
    NotMounted {
        /// The directory.
        path: PathBuf,
    },
    /// The mount is in use.
    #[error("the mount at {} is in use{}; end that, or unmount with --lazy", .path.display(), names(.holders))]
    Busy {
        /// The mount point.
        path: PathBuf,
        /// Who uses it, as far as this user may see.
        holders: Vec<holders::Holder>,
    },
}

impl Error {
    fn mount_point(path: &Path, problem: impl Into<String>) -> Self {
        Self::MountPoint {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    fn fuse(problem: impl Into<String>) -> Self {
        Self::Fuse {
            problem: problem.into(),
        }
    }

    fn system(doing: String, source: std::io::Error) -> Self {
        Self::System { doing, source }
    }

    fn busy(path: &Path, holders: &[holders::Holder]) -> Self {
        Self::Busy {
            path: path.to_owned(),
            holders: holders.to_vec(),
        }
    }
}

/// Mounts a vault; in the background this returns when the mount is ready, else when it has ended.
///
/// # Errors
/// As [`Error`]; nothing is mounted then. `Reported` where the background process has said it already.
pub fn run(request: &MountRequest) -> Result<(), Error> {
    let second = daemon::this_run() == daemon::Run::Second;
    if request.presence == Presence::Background && !second {
        return daemon::launch();
    }
    let (location, place) = prepare(request)?;
    let content = open(&location, &request.options)?;
    match request.presence {
        Presence::Checked => Ok(()),
        Presence::Foreground => serve::serve(content, &place, &request.options, || Ok(())),
        Presence::Background => {
            let log = log_destination(&request.options)?;
            logging::log_panics();
            serve::serve(content, &place, &request.options, || {
                // First: who hears of the mount may read what is damaged at once, and the line about it must not be lost.
                logging::redirect(log);
                daemon::announce()
            })
        }
    }
}

/// Everything that can be checked before the vault is opened.
fn prepare(request: &MountRequest) -> Result<(Location, Place), Error> {
    let located = Location::parse(&request.vault).map_err(|error| Error::Vault {
        vault: request.vault.to_string_lossy().into_owned(),
        source: error.into(),
    })?;
    let (location, shown, vault) = match located {
        Location::Directory(path) => {
            let root = resolve_vault(&path)?;
            let shown = root.clone().into_os_string();
            (Location::Directory(root.clone()), shown, VaultPlace::Directory(root))
        }
        bucket @ Location::Bucket(_) => {
            let shown = OsString::from(bucket.to_string());
            (bucket, shown, VaultPlace::Elsewhere)
        }
    };
    let name = request.options.fsname.as_ref().map_or(shown, OsString::from);
    let place = attach::prepare(&request.directory, name, &vault, &request.options)?;
    if let Some(root) = request.options.access_to_vault.cache.root(&location)
        && root.starts_with(&place.directory)
    {
        let problem = format!(
            "would hide the cache directory {}; choose another with cache_dir=DIR, or cache_dir=none",
            root.display()
        );
        return Err(Error::mount_point(&place.directory, problem));
    }
    Ok((location, place))
}

fn resolve_vault(path: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Vault {
            vault: path.display().to_string(),
            source: vault::Error::NoVault {
                path: path.display().to_string(),
            },
        },
        _ => Error::system(format!("resolving {}", path.display()), error),
    })
}

fn open(location: &Location, options: &Options) -> Result<Content, Error> {
    let failed = |source| Error::Vault {
        vault: location.to_string(),
        source,
    };
    let vault = access::open(location, &options.access_to_vault).map_err(failed)?;
    let reader = Reader::new(vault, options.cache_bytes);
    let read_ahead = ReadAhead::of(&reader).map_err(|error| Error::system("starting threads".into(), error))?;
    Ok(Content {
        reader,
        read_ahead: Arc::new(read_ahead),
    })
}

/// Where a background mount logs: the file of its options, else the system's log.
fn log_destination(options: &Options) -> Result<Destination, Error> {
    match &options.log {
        Some(path) => {
            Destination::file(path).map_err(|error| Error::system(format!("opening the log {}", path.display()), error))
        }
        None => Ok(Destination::system()),
    }
}

fn names(holders: &[holders::Holder]) -> String {
    if holders.is_empty() {
        return " by somebody whom this user may not see".into();
    }
    let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
    format!(" by {}", names.join(", "))
}
