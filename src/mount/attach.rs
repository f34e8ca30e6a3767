//! Puts a vault's mount in place: checks everything first, mounts by mount(2) or fusermount3, returns the kernel's connection.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::mountinfo::{self, Mount};
use super::options::{Access, Options, Programs};
use super::pulse::{self, Pulse};
use super::sys::{self, Detach};
use super::{Error, fusermount};

const FUSE_DEVICE: &str = "/dev/fuse";
const FUSE_CONF: &str = "/etc/fuse.conf";

/// A mount that has passed every check which needs no vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The mount point, absolute and without symbolic links.
    pub directory: PathBuf,
    /// The source shown in the mount table.
    pub source: OsString,
}

/// Where a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultPlace {
    /// A directory, absolute and without symbolic links.
    Directory(PathBuf),
    /// Not in the file system.
    Elsewhere,
}

/// Checks mount point, FUSE and permissions, and clears a dead mount of the same vault.
///
/// # Errors
/// `MountPoint` or `Fuse`, each with its cure.
pub fn prepare(directory: &Path, source: OsString, vault: &VaultPlace, options: &Options) -> Result<Place, Error> {
    let resolved = resolve(directory)?;
    refuse_overlap(&resolved, vault)?;
    let place = Place {
        directory: resolved,
        source,
    };
    check_fuse(options)?;
    let mounts = load_mounts()?;
    if let Some(mount) = mountinfo::at(&mounts, &place.directory) {
        check_present(mount, &place)?;
    }
    check_directory(&place.directory)?;
    Ok(place)
}

/// Makes `path` absolute without symbolic links, also where a dead mount sits on it.
///
/// # Errors
/// `MountPoint` if it is not there.
pub fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::mount_point(path, "does not exist; create it with mkdir"),
        io::ErrorKind::PermissionDenied => Error::mount_point(path, "may not be entered by this user"),
        _ => Error::system(format!("resolving {}", path.display()), error),
    };
    match std::fs::canonicalize(path) {
        Err(error) if sys::is_not_connected(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
            let absolute = std::path::absolute(path).map_err(missing)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent).map_err(missing)?.join(name)),
                _ => Err(missing(error)),
            }
        }
        other => other.map_err(missing),
    }
}

/// Mounts at a prepared place.
///
/// # Errors
/// `Fuse` or `System`, in the words of whoever refused.
pub fn attach(place: &Place, options: &Options) -> Result<OwnedFd, Error> {
    if sys::user_and_group().0 == 0 {
        attach_as_root(place, options)
    } else {
        attach_as_user(place, options)
    }
}

fn refuse_overlap(directory: &Path, vault: &VaultPlace) -> Result<(), Error> {
    match vault {
        VaultPlace::Directory(vault) if mountinfo::overlap(directory, vault) => Err(Error::mount_point(
            directory,
            format!(
                "and the vault {} lie in one another, the mount would hide the vault; choose a directory outside it",
                vault.display()
            ),
        )),
        VaultPlace::Directory(_) | VaultPlace::Elsewhere => Ok(()),
    }
}

/// Judges a mount that is already there: ours and dead is cleared, other mounts that live may be mounted over.
fn check_present(mount: &Mount, place: &Place) -> Result<(), Error> {
    let path = &place.directory;
    let dead = pulse::feel(path)? == Pulse::Dead;
    match (dead, mount.is_vaultfs()) {
        (true, true) if mount.source == place.source => {
            log::warn!("{}: clearing the dead mount of this vault", path.display());
            super::detach::unmount(path, Detach::Lazily)
        }
        (true, _) => Err(Error::mount_point(
            path,
            format!(
                "holds a dead mount of {:?} ({}); remove it with: umount -l {}",
                mount.source,
                mount.fstype,
                path.display()
            ),
        )),
        (false, true) => Err(Error::mount_point(
            path,
            format!(
                "is already a mount of the vault {:?}; end it with: vaultfs umount {}",
                mount.source,
                path.display()
            ),
        )),
        (false, false) => Ok(()),
    }
}

fn check_directory(path: &Path) -> Result<(), Error> {
    let status =
        std::fs::metadata(path).map_err(|error| Error::system(format!("looking at {}", path.display()), error))?;
    if !status.is_dir() {
        return Err(Error::mount_point(path, "is not a directory"));
    }
    let entries = std::fs::read_dir(path).map(Iterator::count);
    match entries {
        Ok(0) => {}
        Ok(count) => log::warn!(
            "{}: the mount hides the {count} entries of this directory",
            path.display()
        ),
        Err(error) => log::debug!("{}: cannot be listed: {error}", path.display()),
    }
    Ok(())
}

fn check_fuse(options: &Options) -> Result<(), Error> {
    if !Path::new(FUSE_DEVICE).exists() {
        return Err(Error::fuse(
            "/dev/fuse is not there; load the module with modprobe fuse, or give the container the device (--device /dev/fuse)",
        ));
    }
    let user = sys::user_and_group().0;
    if user != 0 && options.access == Access::Everybody {
        let text = std::fs::read_to_string(FUSE_CONF).unwrap_or_default();
        if !allows_others(&text) {
            return Err(Error::fuse(
                "allow_other needs root, or a line user_allow_other in /etc/fuse.conf",
            ));
        }
    }
    Ok(())
}

/// Says whether a fuse.conf lets ordinary users open their mounts to others.
fn allows_others(conf: &str) -> bool {
    conf.lines().any(|line| line.trim() == "user_allow_other")
}

/// Reads the mount table.
///
/// # Errors
/// `System`.
pub fn load_mounts() -> Result<Vec<Mount>, Error> {
    mountinfo::load().map_err(|error| Error::system("reading the mount table".into(), error))
}

fn attach_as_root(place: &Place, options: &Options) -> Result<OwnedFd, Error> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(FUSE_DEVICE)
        .map_err(|error| Error::system(format!("opening {FUSE_DEVICE}"), error))?;
    let (user, group) = sys::user_and_group();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},max_read={}",
        device.as_raw_fd(),
        crate::fuse::MAX_REQUEST_BYTES
    );
    if options.access == Access::Everybody {
        data.push_str(",allow_other,default_permissions");
    }
    sys::mount(&place.source, &place.directory, &data, options.programs).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::fuse("the kernel refuses to mount here; it needs CAP_SYS_ADMIN, which containers lack by default")
        }
        _ if sys::is_no_device(&error) => Error::fuse("the kernel has no FUSE; load it with modprobe fuse"),
        _ => Error::system(format!("mounting at {}", place.directory.display()), error),
    })?;
    Ok(OwnedFd::from(device))
}

fn attach_as_user(place: &Place, options: &Options) -> Result<OwnedFd, Error> {
    let max_read = format!("max_read={}", crate::fuse::MAX_REQUEST_BYTES);
    let mut flags = vec!["ro", "nosuid", "nodev", max_read.as_str()];
    if options.access == Access::Everybody {
        // Who is not the mounting user is held to the modes; the mounting user reads every backup, whoever owned its files.
        flags.extend(["allow_other", "default_permissions"]);
    }
    if options.programs == Programs::Refuse {
        flags.push("noexec");
    }
    let list = fusermount::option_list(&place.source.to_string_lossy(), &flags);
    fusermount::mount(&place.directory, &list).map_err(|failure| {
        let words = failure.to_string();
        let cure = if words.contains("open /dev/fuse") {
            "; users need access to that device: chmod 666 /dev/fuse is what udev does"
        } else {
            ""
        };
        Error::fuse(format!(
            "mounting at {} failed: {words}{cure}",
            place.directory.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_of_its_own_allows_others() {
        assert!(allows_others("# x\nuser_allow_other\n"));
        assert!(!allows_others("#user_allow_other\nmount_max = 5\n"));
    }

    #[test]
    fn a_mount_point_in_the_vault_or_above_it_is_refused() {
        let vault = VaultPlace::Directory("/srv/vault".into());
        for bad in ["/srv/vault", "/srv/vault/packs", "/srv", "/"] {
            let text = refuse_overlap(Path::new(bad), &vault).unwrap_err().to_string();
            assert!(text.contains("/srv/vault"), "{text}");
        }
        assert!(refuse_overlap(Path::new("/srv/vault2"), &vault).is_ok());
        assert!(refuse_overlap(Path::new("/"), &VaultPlace::Elsewhere).is_ok());
    }

    #[test]
    fn a_missing_mount_point_says_so() {
        let text = resolve(Path::new("/nonexistent/here")).unwrap_err().to_string();
        assert!(text.contains("does not exist"), "{text}");
    }
}
