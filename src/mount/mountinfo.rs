//! Parses `/proc/self/mountinfo` and finds the mount at a path.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The file system type of our mounts.
pub const FSTYPE: &str = "fuse.vaultfs";

/// One mount, as the kernel lists it.
///
/// # Source
/// Linux Documentation/filesystems/proc.rst, section 3.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of this mount; unique at any time.
    pub id: u64,
    /// The mount that this one sits on.
    pub parent: u64,
    /// Device number of the file system, `major:minor`.
    pub device: Device,
    /// Where it is mounted.
    pub path: PathBuf,
    /// File system type with its subtype.
    pub fstype: String,
    /// Its source; for us the vault.
    pub source: OsString,
}

/// A device number, printed `major:minor` in decimal as in sysfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// Driver.
    pub major: u32,
    /// Unit.
    pub minor: u32,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Mount {
    /// Says whether a vault is mounted here.
    #[must_use]
    pub fn is_vaultfs(&self) -> bool {
        self.fstype == FSTYPE
    }
}

/// Reads the mounts that this process sees.
///
/// # Errors
/// As reading the file.
pub fn load() -> std::io::Result<Vec<Mount>> {
    std::fs::read("/proc/self/mountinfo").map(|text| parse(&text))
}

/// Parses the whole table; lines that are not mounts are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// The topmost mount at exactly `path`: the one that a look at `path` meets.
#[must_use]
pub fn at<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let mut stacked = mounts.iter().filter(|mount| mount.path == path);
    let first = stacked.next_back()?;
    // The table is in mount order, but a moved mount may stand late: what sits on `first` at the same path is above it.
    let mut top = first;
    while let Some(above) = mounts
        .iter()
        .find(|mount| mount.parent == top.id && mount.path == path && mount.id != top.id)
    {
        top = above;
    }
    Some(top)
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let _root = fields.next()?;
    let path = PathBuf::from(unescape(fields.next()?));
    let _options = fields.next()?;
    fields.by_ref().find(|field| *field == b"-")?;
    let fstype = String::from_utf8(fields.next()?.to_vec()).ok()?;
    let source = unescape(fields.next()?);
    Some(Mount {
        id,
        parent,
        device: Device {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        },
        path,
        fstype,
        source,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's `\ooo`, which stands for space, tab, newline, backslash and `#`.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after.first_chunk::<3>()) {
            (b'\\', Some(digits)) => octal(digits),
            _ => None,
        };
        rest = match escaped {
            Some(byte) => {
                out.push(byte);
                after.get(3..).unwrap_or_default()
            }
            None => {
                out.push(*first);
                after
            }
        };
    }
    OsString::from_vec(out)
}

fn octal(digits: &[u8; 3]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

/// Says whether one of two paths lies in the other; both absolute and without symbolic links.
#[must_use]
pub fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Says whether `name`, a link text of procfs, lies in the mount at `path`.
#[must_use]
pub fn inside(name: &Path, path: &Path) -> bool {
    let bytes = name.as_os_str().as_bytes();
    let plain = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Path::new(std::ffi::OsStr::from_bytes(plain)).starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n\
        40 22 0:50 / /mnt/a\\040b ro,nosuid,nodev - fuse.vaultfs /srv/my\\134vault ro,user_id=0\n\
        41 22 0:51 / /mnt/c rw shared:5 master:2 - fuse.other src rw\n\
        42 41 0:52 / /mnt/c ro - fuse.vaultfs x,y ro\n\
        garbage\n";

    #[test]
    fn octal_escapes_and_optional_fields_are_read() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].path, Path::new("/mnt/a b"));
        assert_eq!(mounts[1].source, OsString::from(r"/srv/my\vault"));
        assert_eq!(mounts[1].device.to_string(), "0:50");
        assert!(mounts[1].is_vaultfs() && !mounts[2].is_vaultfs());
    }

    #[test]
    fn the_topmost_of_stacked_mounts_is_found() {
        let mounts = parse(TABLE);
        assert_eq!(at(&mounts, Path::new("/mnt/c")).unwrap().id, 42);
        let mut turned = mounts.clone();
        turned.reverse();
        assert_eq!(at(&turned, Path::new("/mnt/c")).unwrap().id, 42);
        assert_eq!(at(&mounts, Path::new("/mnt")), None);
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(unescape(br"a\04"), OsString::from(r"a\04"));
        assert_eq!(unescape(br"a\999\777\"), OsString::from(r"a\999\777\"));
    }

    #[test]
    fn overlap_is_by_components() {
        assert!(overlap(Path::new("/a/b"), Path::new("/a")));
        assert!(overlap(Path::new("/a"), Path::new("/a/b")));
        assert!(!overlap(Path::new("/a/bc"), Path::new("/a/b")));
        assert!(inside(Path::new("/m/x (deleted)"), Path::new("/m/x")));
    }
}
