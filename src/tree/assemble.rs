//! Puts a server's own tree together from the file systems of its disks, as its `/etc/fstab` says.
//!
//! Nothing is guessed: a line whose device is not in the backup is listed as missing with the reason, and its directory shows
//! what lies below the mount point, as on a server where that mount has failed.

use std::collections::HashMap;
use std::sync::Arc;

use super::fstab::{self, Line};
use super::place::Opened;
use crate::bytes::to_usize;
use crate::fs::content::Content;
use crate::fs::{FileType, Inode};
use crate::volume::Volume;

/// A volume whose file system can be read.
#[derive(Clone, Copy)]
pub(super) struct Readable<'a> {
    pub(super) volume: &'a Volume,
    pub(super) opened: &'a Arc<Opened>,
}

/// A file system in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted, `/` for the first.
    pub(super) path: String,
    /// Which of the readable volumes.
    pub(super) volume: usize,
    /// The directory of the volume that is shown there.
    pub(super) root: Inode,
    /// Directories of this mount that another one covers.
    pub(super) crossings: HashMap<Inode, usize>,
}

/// A line of fstab that could not be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) path: String,
    pub(super) spec: String,
    pub(super) why: String,
}

/// The server's tree: mounts, the root first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mounts: Vec<Mount>,
    pub(super) missing: Vec<Missing>,
}

/// Most mounts of one tree.
const MAX_MOUNTS: usize = 1024;
/// Deepest path of a mount point.
const MAX_DEPTH: usize = 256;

/// File systems that a kernel makes by itself or that have no disk; they are no part of a backup and nobody misses them.
const VIRTUAL: [&str; 22] = [
    "proc",
    "sysfs",
    "tmpfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "hugetlbfs",
    "mqueue",
    "binfmt_misc",
    "efivarfs",
    "fusectl",
    "pstore",
    "ramfs",
    "bpf",
    "rpc_pipefs",
    "usbfs",
    "swap",
];
const NETWORK: [&str; 9] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "glusterfs",
    "9p",
    "virtiofs",
];

/// Makes the plan; no mounts if no volume looks like the root of a system.
pub(super) fn plan(volumes: &[Readable<'_>]) -> Plan {
    let Some(root) = find_root(volumes) else {
        return Plan::default();
    };
    let Some(opened) = volumes.get(root).map(|root| root.opened) else {
        return Plan::default();
    };
    let mut plan = Plan {
        mounts: vec![Mount {
            path: "/".into(),
            volume: root,
            root: opened.file_system.root(),
            crossings: HashMap::new(),
        }],
        missing: Vec::new(),
    };
    let lines = read_fstab(opened).map(|text| fstab::parse(&text)).unwrap_or_default();
    let mut lines: Vec<&Line> = lines.iter().filter(|line| wanted(line)).collect();
    // Parents before what is mounted in them, directories that are shown twice when all is in place.
    lines.sort_by_key(|line| (is_bind(line), components(&line.path).len()));
    for line in lines {
        if let Err(why) = mount(&mut plan, volumes, line) {
            plan.missing.push(Missing {
                path: line.path.clone(),
                spec: line.spec.clone(),
                why,
            });
        }
    }
    plan
}

/// The volume with `/etc/fstab`; among several the one whose own fstab calls it the root, else the first.
fn find_root(volumes: &[Readable<'_>]) -> Option<usize> {
    let mut first = None;
    for (number, readable) in volumes.iter().enumerate() {
        let Some(text) = read_fstab(readable.opened) else {
            continue;
        };
        let lines = fstab::parse(&text);
        let own = lines.iter().find(|line| line.path == "/");
        if own.is_some_and(|line| find(volumes, &line.spec) == Ok(number)) {
            return Some(number);
        }
        first = first.or(Some(number));
    }
    let has_release = |readable: &Readable<'_>| {
        ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .any(|path| walk_plain(readable.opened, path).is_some())
    };
    first.or_else(|| volumes.iter().position(has_release))
}

fn read_fstab(opened: &Arc<Opened>) -> Option<Vec<u8>> {
    let inode = walk_plain(opened, "etc/fstab")?;
    let content = Content::open(
        Arc::clone(&opened.file_system),
        Arc::clone(opened.neighbourhood.volume()),
        inode,
    )
    .ok()?;
    let mut text = vec![0; to_usize(content.size().min(fstab::MAX_BYTES))];
    content.read(0, &mut text).ok()?;
    Some(text)
}

fn walk_plain(opened: &Opened, path: &str) -> Option<Inode> {
    let file_system = &opened.file_system;
    path.split('/').try_fold(file_system.root(), |directory, name| {
        file_system.lookup(directory, name.as_bytes()).ok().flatten()
    })
}

fn is_bind(line: &Line) -> bool {
    line.has("bind") || line.has("rbind")
}

/// Says whether a line asks for something that could be in a backup.
fn wanted(line: &Line) -> bool {
    line.path.starts_with('/') && line.path != "/" && !VIRTUAL.contains(&line.kind.as_str())
}

fn components(path: &str) -> Vec<&str> {
    path.split('/')
        .filter(|name| !name.is_empty() && *name != ".")
        .collect()
}

/// Adds one mount to the plan, or says why not.
fn mount(plan: &mut Plan, volumes: &[Readable<'_>], line: &Line) -> Result<(), String> {
    if plan.mounts.len() >= MAX_MOUNTS {
        return Err(format!("there are more than {MAX_MOUNTS} mounts"));
    }
    if line.has("noauto") {
        return Err("it is marked noauto: the server does not mount it by itself".into());
    }
    if NETWORK.contains(&line.kind.as_str()) || line.kind.starts_with("fuse") || line.kind == "overlay" {
        return Err(format!("{} is no file system on a disk of the backup", line.kind));
    }
    let (volume, root) = if is_bind(line) {
        let (mount, inode) = walk(plan, volumes, &line.spec)?;
        let volume = plan.mounts.get(mount).map(|mount| mount.volume);
        (volume.ok_or("its source is not mounted")?, inode)
    } else {
        let volume = find(volumes, &line.spec)?;
        let opened = volumes.get(volume).map(|readable| readable.opened);
        (volume, opened.ok_or("its volume is gone")?.file_system.root())
    };
    let (parent, inode) = walk(plan, volumes, &line.path)?;
    let number = plan.mounts.len();
    let covered = plan.mounts.get_mut(parent).ok_or("its parent is not mounted")?;
    if covered.root == inode {
        // Over the root of another mount: what the later line says is what is seen.
        return Err("another file system is mounted at the same path".into());
    }
    covered.crossings.insert(inode, number);
    plan.mounts.push(Mount {
        path: line.path.clone(),
        volume,
        root,
        crossings: HashMap::new(),
    });
    Ok(())
}

/// Finds a directory in the tree as far as it is put together; symbolic links are not followed.
fn walk(plan: &Plan, volumes: &[Readable<'_>], path: &str) -> Result<(usize, Inode), String> {
    let names = components(path);
    if names.len() > MAX_DEPTH || names.contains(&"..") {
        return Err(format!("the path {path} is not one that can be followed"));
    }
    let resolve = |number: usize| {
        let mount = plan.mounts.get(number).ok_or("a mount is gone")?;
        let opened = volumes.get(mount.volume).ok_or("a volume is gone")?.opened;
        Ok::<_, String>((mount, opened))
    };
    let mut number = 0;
    let (mut mount, mut opened) = resolve(number)?;
    let mut inode = mount.root;
    for name in names {
        inode = opened
            .file_system
            .lookup(inode, name.as_bytes())
            .map_err(|error| format!("{path} cannot be looked up: {error}"))?
            .ok_or_else(|| format!("there is no directory {path}"))?;
        if let Some(crossed) = mount.crossings.get(&inode) {
            number = *crossed;
            (mount, opened) = resolve(number)?;
            inode = mount.root;
        }
    }
    match opened.file_system.attr(inode) {
        Ok(attr) if attr.file_type == FileType::Directory => Ok((number, inode)),
        Ok(attr) => Err(format!("{path} is a {}, not a directory", attr.file_type)),
        Err(error) => Err(format!("{path} cannot be read: {error}")),
    }
}

/// Which volume a spec of fstab means.
fn find(volumes: &[Readable<'_>], spec: &str) -> Result<usize, String> {
    let by = |matches: &dyn Fn(&Volume) -> bool| volumes.iter().position(|readable| matches(readable.volume));
    let same = |have: Option<&String>, value: &str| have.is_some_and(|have| have.eq_ignore_ascii_case(value));
    let label = |volume: &Volume, value: &str| volume.signature.label.as_deref() == Some(value.as_bytes());
    let tagged = spec.split_once('=').map(|(tag, value)| (tag, value.trim_matches('"')));
    let linked = spec
        .strip_prefix("/dev/disk/")
        .and_then(|rest| rest.split_once('/'))
        .map(|(by, name)| (by, udev_unescape(name)));
    let found = match (tagged, &linked) {
        (Some(("UUID", value)), _) => by(&|volume| same(volume.signature.uuid.as_ref(), value)),
        (Some(("LABEL", value)), _) => by(&|volume| label(volume, value)),
        (Some(("PARTUUID", value)), _) => by(&|volume| same(volume.part_uuid.as_ref(), value)),
        (Some(("PARTLABEL", value)), _) => by(&|volume| volume.part_label.as_deref() == Some(value)),
        (_, Some(("by-uuid", value))) => by(&|volume| same(volume.signature.uuid.as_ref(), value)),
        (_, Some(("by-label", value))) => by(&|volume| label(volume, value)),
        (_, Some(("by-partuuid", value))) => by(&|volume| same(volume.part_uuid.as_ref(), value)),
        (_, Some(("by-partlabel", value))) => by(&|volume| volume.part_label.as_deref() == Some(value)),
        _ => by(&|volume| {
            let name = spec.strip_prefix("/dev/");
            name == Some(volume.name.as_str()) || volume.aliases.iter().any(|alias| alias == spec)
        }),
    };
    found.ok_or_else(|| format!("no readable volume of the backup is {spec}"))
}

/// Turns udev's `\x20` into a space and so on.
fn udev_unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.extend(b"\\x");
                rest = after;
            }
        }
    }
    out.extend(rest.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}
