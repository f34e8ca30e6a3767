//! Parses `-o` lists: our own options, the generic ones of mount(8), and nothing else.

use std::path::{Path, PathBuf};

use crate::bytes::parse_size;
use crate::chunk::{DEFAULT_CACHE, MIN_CACHE};
use crate::vault::access::{Access as VaultAccess, CacheDirectory, MIN_CACHE_DIR, Reach};
use crate::vault::kept::Scope;

/// What a mount was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Memory for decoded chunks and reads in flight, in bytes.
    pub cache_bytes: u64,
    /// Event loops; `None` leaves it to the number of cores.
    pub threads: Option<usize>,
    /// Who besides the mounting user may enter.
    pub access: Access,
    /// Read-ahead window asked of the kernel, in bytes; only root can set it.
    pub readahead_bytes: u64,
    /// Where a background mount writes its log.
    pub log: Option<PathBuf>,
    /// Name of the mount's source in the mount table; `None` means the vault.
    pub fsname: Option<String>,
    /// Owner shown for everything that is not inside an image; `None` means the mounting user.
    pub uid: Option<u32>,
    /// Group shown for everything that is not inside an image; `None` means the mounting user's.
    pub gid: Option<u32>,
    /// Owner shown for the files inside images.
    pub owner: OwnerShown,
    /// Targets shown for the absolute symbolic links inside images.
    pub links: Links,
    /// Whether programs in the mount may be run.
    pub programs: Programs,
    /// How the vault is reached, and what is kept of it on this machine.
    pub access_to_vault: VaultAccess,
}

/// Whose the files inside images are shown to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerShown {
    /// Of the users that the image names (`owner=image`).
    Image,
    /// Of the mounting user (`owner=me`).
    Me,
    /// Of these numbers (`owner=UID:GID`).
    Ids(u32, u32),
}

/// Where absolute symbolic links inside images lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Where their text says, on the machine of the reader (`links=stored`).
    Stored,
    /// To the same file of the backup (`links=inside`).
    Inside,
}

/// Who may enter a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The mounting user alone.
    Owner,
    /// Everybody whom the shown modes let in.
    Everybody,
}

/// Whether the kernel runs programs from the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// As the modes say.
    Run,
    /// Never (`noexec`).
    Refuse,
}

/// What to do with an option that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Refuse it by name.
    Refuse,
    /// Pass over it (`mount -s`).
    Ignore,
}

const MAX_THREADS: u64 = 256;
/// The last usable id; the one above it means "none" to the kernel.
const MAX_ID: u64 = 4_294_967_294;
const MAX_READAHEAD_BYTES: u64 = 64 << 20;
const KNOWN: &str = "cache=SIZE, threads=N, allow_other, readahead=SIZE, log=FILE, fsname=NAME, uid=N, gid=N, owner=image|me|UID:GID, links=stored|inside, noexec, \
    cache_dir=DIR|none, cache_dir_size=SIZE, cache_data=yes|no, offline, max_egress=SIZE";

/// Accepted because mount(8), fstab and systemd pass them around; they change nothing here.
const GENERIC: &[&str] = &[
    "defaults",
    "ro",
    "nosuid",
    "nodev",
    "exec",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "group",
    "owner",
    "_netdev",
    "nofail",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "sync",
    "async",
    "dirsync",
    "silent",
    "loud",
    "nosymfollow",
    "symfollow",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "default_permissions",
];

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: DEFAULT_CACHE,
            threads: None,
            access: Access::Owner,
            readahead_bytes: super::readahead::DEFAULT_BYTES,
            log: None,
            fsname: None,
            uid: None,
            gid: None,
            owner: OwnerShown::Image,
            links: Links::Stored,
            programs: Programs::Run,
            access_to_vault: VaultAccess::default(),
        }
    }
}

/// Reads the `-o` lists of one command, in order; a later option overrides an earlier one.
///
/// `\,` is a comma inside a value and `\\` a backslash, as fstab and fusermount write them.
///
/// # Errors
/// A sentence that names the option and says what is possible.
pub fn parse<'a>(lists: impl IntoIterator<Item = &'a str>, unknown: Unknown) -> Result<Options, String> {
    let mut options = Options::default();
    for list in lists {
        for option in split(list) {
            match apply(&mut options, &option) {
                Ok(()) => {}
                Err(Refusal::Unknown) if unknown == Unknown::Ignore => {}
                Err(Refusal::Unknown) => {
                    return Err(format!(
                        "mount option {option:?} is not known; there are {KNOWN}, and the generic options of mount(8)"
                    ));
                }
                Err(Refusal::Bad(text)) => return Err(text),
            }
        }
    }
    Ok(options)
}

enum Refusal {
    Unknown,
    Bad(String),
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self::Bad(text)
    }
}

/// Cuts a list at its commas; empty pieces fall away.
fn split(list: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut current = String::new();
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => current.extend(letters.next()),
            ',' => options.push(std::mem::take(&mut current)),
            other => current.push(other),
        }
    }
    options.push(current);
    options.retain(|option| !option.is_empty());
    options
}

fn apply(options: &mut Options, option: &str) -> Result<(), Refusal> {
    let (key, value) = option
        .split_once('=')
        .map_or((option, None), |(key, value)| (key, Some(value)));
    match (key, value) {
        ("cache", Some(value)) => options.cache_bytes = size(option, value, MIN_CACHE, u64::MAX)?,
        ("readahead", Some(value)) => options.readahead_bytes = size(option, value, 4096, MAX_READAHEAD_BYTES)?,
        ("threads", Some(value)) => {
            let threads = number(option, value, MAX_THREADS)?;
            if threads == 0 {
                return Err(Refusal::Bad(format!(
                    "mount option {option:?}: at least one thread is needed"
                )));
            }
            options.threads = usize::try_from(threads).ok();
        }
        ("uid", Some(value)) => options.uid = u32::try_from(number(option, value, MAX_ID)?).ok(),
        ("gid", Some(value)) => options.gid = u32::try_from(number(option, value, MAX_ID)?).ok(),
        ("owner", Some(value)) => options.owner = owner(option, value)?,
        ("links", Some("stored")) => options.links = Links::Stored,
        ("links", Some("inside")) => options.links = Links::Inside,
        ("links", _) => {
            return Err(Refusal::Bad(format!(
                "mount option {option:?}: links=stored shows symbolic links as they are, links=inside lets absolute ones lead into \
                 the backup"
            )));
        }
        ("log", Some(value)) if !value.is_empty() => options.log = Some(PathBuf::from(value)),
        ("fsname", Some(value)) if !value.is_empty() => options.fsname = Some(value.to_owned()),
        ("allow_other", None) => options.access = Access::Everybody,
        ("noexec", None) => options.programs = Programs::Refuse,
        ("cache_dir", Some(value)) if !value.is_empty() => {
            options.access_to_vault.cache = CacheDirectory::of_word(Path::new(value));
        }
        ("cache_dir_size", Some(value)) => {
            options.access_to_vault.cache_bytes = size(option, value, MIN_CACHE_DIR, u64::MAX)?;
        }
        ("cache_data", Some("yes")) => options.access_to_vault.scope = Scope::Data,
        ("cache_data", Some("no")) => options.access_to_vault.scope = Scope::Metadata,
        ("cache_data", _) => {
            return Err(Refusal::Bad(format!(
                "mount option {option:?}: cache_data=yes keeps the data that is read in the cache directory too, cache_data=no only \
                 what leads to it"
            )));
        }
        ("offline", None) => options.access_to_vault.reach = Reach::Offline,
        ("max_egress", Some(value)) => {
            options.access_to_vault.max_egress = Some(size(option, value, 1, u64::MAX)?);
        }
        (
            "cache" | "readahead" | "threads" | "uid" | "gid" | "log" | "fsname" | "cache_dir" | "cache_dir_size"
            | "max_egress",
            _,
        ) => {
            return Err(Refusal::Bad(format!(
                "mount option {key:?} needs a value; there are {KNOWN}"
            )));
        }
        ("rw" | "suid" | "dev", None) => {
            return Err(Refusal::Bad(format!(
                "mount option {key:?} is refused: a vault is always mounted ro,nosuid,nodev, for backups never change"
            )));
        }
        _ if key.starts_with("x-") || key.starts_with("X-") || key == "comment" || GENERIC.contains(&option) => {}
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

fn owner(option: &str, value: &str) -> Result<OwnerShown, String> {
    let ids = || {
        let (uid, gid) = value.split_once(':').unwrap_or((value, value));
        let id = |text| u32::try_from(number(option, text, MAX_ID).ok()?).ok();
        Some(OwnerShown::Ids(id(uid)?, id(gid)?))
    };
    match value {
        "image" => Ok(OwnerShown::Image),
        "me" => Ok(OwnerShown::Me),
        _ => ids().ok_or_else(|| format!("mount option {option:?}: there are owner=image, owner=me and owner=UID:GID")),
    }
}

fn size(option: &str, value: &str, least: u64, most: u64) -> Result<u64, String> {
    let bytes = parse_size(value).map_err(|error| format!("mount option {option:?}: {error}"))?;
    if bytes < least {
        return Err(format!(
            "mount option {option:?} is too small; the least is {}",
            crate::bytes::size_text(least)
        ));
    }
    Ok(bytes.min(most))
}

fn number(option: &str, value: &str, most: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(format!("mount option {option:?} needs a number from 0 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Result<Options, String> {
        parse([list], Unknown::Refuse)
    }

    #[test]
    fn every_option_of_ours_is_read() {
        let options =
            parsed(r"cache=64M,threads=3,allow_other,readahead=2MiB,log=/l,fsname=a\,b\\c,uid=5,gid=6,noexec,owner=7:8,links=inside").unwrap();
        assert_eq!(options.owner, OwnerShown::Ids(7, 8));
        assert_eq!(options.links, Links::Inside);
        assert_eq!(options.cache_bytes, 64 << 20);
        assert_eq!(options.threads, Some(3));
        assert_eq!(options.access, Access::Everybody);
        assert_eq!(options.readahead_bytes, 2 << 20);
        assert_eq!(options.log, Some(PathBuf::from("/l")));
        assert_eq!(options.fsname.as_deref(), Some(r"a,b\c"));
        assert_eq!((options.uid, options.gid), (Some(5), Some(6)));
        assert_eq!(options.programs, Programs::Refuse);
    }

    #[test]
    fn how_the_vault_is_reached_can_be_said() {
        let access = parsed("cache_dir=/c,cache_dir_size=64M,cache_data=yes,offline,max_egress=1G").unwrap();
        let expected = VaultAccess {
            cache: CacheDirectory::At("/c".into()),
            cache_bytes: 64 << 20,
            scope: Scope::Data,
            reach: Reach::Offline,
            max_egress: Some(1 << 30),
        };
        assert_eq!(access.access_to_vault, expected);
        let none = parsed("cache_dir=none,cache_data=no").unwrap().access_to_vault;
        assert_eq!((none.cache, none.scope), (CacheDirectory::Nowhere, Scope::Metadata));
    }

    #[test]
    fn generic_options_change_nothing() {
        let list = "defaults,ro,nosuid,nodev,exec,noauto,users,_netdev,nofail,x-systemd.automount,x-gvfs-hide,comment=a b,noatime,sync,";
        assert_eq!(parsed(list), Ok(Options::default()));
        assert_eq!(parsed(""), Ok(Options::default()));
    }

    #[test]
    fn later_lists_override_earlier_ones() {
        let options = parse(["cache=16M,threads=2", "cache=32M"], Unknown::Refuse).unwrap();
        assert_eq!((options.cache_bytes, options.threads), (32 << 20, Some(2)));
    }

    #[test]
    fn what_a_vault_cannot_be_is_refused_by_name() {
        for bad in ["rw", "suid", "dev"] {
            let text = parsed(bad).unwrap_err();
            assert!(text.contains(bad) && text.contains("ro,nosuid,nodev"), "{text}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for bad in [
            "cache=1M",
            "cache=",
            "cache",
            "cache=lots",
            "threads=0",
            "threads=-1",
            "threads=99999",
            "readahead=1",
            "log=",
            "fsname=",
            "uid=x",
            "uid=4294967296",
            "allow_other=1",
            "noexec=yes",
            "owner=you",
            "owner=1:",
            "links",
            "links=raw",
            "cache_dir=",
            "cache_dir_size=1M",
            "cache_data",
            "cache_data=all",
            "offline=yes",
            "max_egress=0",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_options_are_named_with_the_known_ones_unless_sloppy() {
        let text = parsed("ro,cahce=1G").unwrap_err();
        assert!(text.contains("cahce=1G") && text.contains("cache=SIZE"), "{text}");
        assert_eq!(parse(["cahce=1G"], Unknown::Ignore), Ok(Options::default()));
    }
}
