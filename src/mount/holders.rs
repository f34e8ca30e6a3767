//! Finds who keeps a mount busy: processes by their files, directories and maps, loop devices, mounts on top.

use std::fmt;
use std::fs;
use std::path::Path;

use super::mountinfo::{self, Mount};

/// Somebody who uses a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who: a process with its number and command, a loop device, another mount.
    pub who: String,
    /// What it holds there.
    pub what: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.who, self.what)
    }
}

/// Lists who uses `mount`, as far as this user may look.
///
/// Nothing in the mount itself is touched, so that a hanging daemon cannot hang the search.
#[must_use]
pub fn find(mount: &Mount, mounts: &[Mount]) -> Vec<Holder> {
    let mut found: Vec<Holder> = mounts
        .iter()
        .filter(|other| other.parent == mount.id)
        .map(|other| Holder {
            who: format!("the mount at {}", other.path.display()),
            what: other.fstype.clone(),
        })
        .collect();
    found.extend(loop_devices(&mount.path));
    let own = std::process::id();
    for pid in processes().filter(|pid| *pid != own) {
        let what = uses(pid, mount);
        if !what.is_empty() {
            found.push(Holder {
                who: format!("process {pid} {}", command(pid)),
                what: what.join(", "),
            });
        }
    }
    found
}

fn processes() -> impl Iterator<Item = u32> {
    names_in(Path::new("/proc")).filter_map(|name| name.parse().ok())
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "?".into(), |text| text.trim().to_owned())
}

fn uses(pid: u32, mount: &Mount) -> Vec<String> {
    let mut what = Vec::new();
    for (link, word) in [
        ("cwd", "working directory"),
        ("root", "root directory"),
        ("exe", "program"),
    ] {
        if fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|name| mountinfo::inside(&name, &mount.path)) {
            what.push(word.to_owned());
        }
    }
    let fds = format!("/proc/{pid}/fdinfo");
    for fd in names_in(Path::new(&fds)) {
        if fs::read_to_string(format!("{fds}/{fd}")).is_ok_and(|text| mount_of_fdinfo(&text) == Some(mount.id)) {
            let name = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            what.push(format!("open {}", name.display()));
        }
    }
    if fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|text| maps_device(&text, mount)) {
        what.push("memory map".to_owned());
    }
    what
}

fn mount_of_fdinfo(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:"))?
        .trim()
        .parse()
        .ok()
}

/// Says whether a process's map list names the mount's device (hexadecimal there).
fn maps_device(text: &str, mount: &Mount) -> bool {
    let device = format!("{:02x}:{:02x}", mount.device.major, mount.device.minor);
    text.lines()
        .any(|line| line.split_whitespace().nth(3) == Some(device.as_str()))
}

fn loop_devices(path: &Path) -> Vec<Holder> {
    names_in(Path::new("/sys/block"))
        .filter(|name| name.starts_with("loop"))
        .filter_map(|name| {
            let file = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
            let file = file.trim_end_matches('\n').to_owned();
            mountinfo::inside(Path::new(&file), path).then(|| Holder {
                who: format!("loop device /dev/{name}"),
                what: file,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount() -> Mount {
        Mount {
            id: 77,
            parent: 1,
            device: mountinfo::Device { major: 0, minor: 0x1a7 },
            path: "/m".into(),
            fstype: mountinfo::FSTYPE.into(),
            source: "/v".into(),
        }
    }

    #[test]
    fn fdinfo_and_maps_are_matched_by_number() {
        assert_eq!(mount_of_fdinfo("pos:\t0\nflags:\t02\nmnt_id:\t77\nino:\t5\n"), Some(77));
        assert_eq!(mount_of_fdinfo("pos:\t0\n"), None);
        let line = "7f00-7f01 r--s 00000000 00:1a7 12  /m/x\n";
        assert!(maps_device(line, &mount()));
        assert!(!maps_device("7f00-7f01 r--s 00000000 08:02 12  /m/x\n", &mount()));
    }

    #[test]
    fn a_process_in_a_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(directory.path())
            .spawn()
            .unwrap();
        let mut mount = mount();
        mount.path = fs::canonicalize(directory.path()).unwrap();
        mount.id = u64::MAX;
        let found = find(&mount, &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].to_string().contains("sleep (working directory)"),
            "{}",
            found[0]
        );
    }
}
