//! A block device as the target: only if it is large enough and nobody uses it.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;

use super::{Error, Job, Result, io};
use crate::bytes::size_text;

/// Opens a device exclusively for writing; nobody can mount it while it is open.
///
/// # Errors
/// `Busy` if it or a partition of it is mounted, swapped to or part of something; `TooSmall`; `Unusable` if it is
/// write-protected; `Io` as the system reports.
pub(super) fn open(path: &Path, needed: u64) -> Result<File> {
    if let Some(by) = user(path) {
        return Err(busy(path, by));
    }
    if write_protected(path) {
        return Err(Error::Unusable {
            path: path.to_path_buf(),
            why: format!(
                "the device is read-only; clear its switch, or run `blockdev --setrw {}`",
                path.display()
            ),
        });
    }
    // On a block device O_EXCL without O_CREAT asks the kernel for the claim that mount, LVM and RAID take.
    let excl = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).write(true).custom_flags(excl).open(path);
    let file = opened.map_err(|error| match error.kind() {
        ErrorKind::ResourceBusy => busy(
            path,
            "the kernel or another program holds it (LVM, RAID, multipath, another mount namespace?); release it first"
                .into(),
        ),
        _ => io("opening", path, error),
    })?;
    let size = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| io("sizing", path, error.into()))?;
    if size < needed {
        return Err(Error::TooSmall {
            path: path.to_path_buf(),
            size,
            needed,
        });
    }
    Ok(file)
}

/// Tells the user that a larger device keeps what lies behind the image.
pub(super) fn say_if_larger(file: &File, path: &Path, job: &Job) {
    let is_device = file.metadata().is_ok_and(|found| found.file_type().is_block_device());
    let Ok(size) = rustix::fs::seek(file, SeekFrom::End(0)) else {
        return;
    };
    let more = size.saturating_sub(job.plan.disk_len());
    if is_device && more > 0 {
        job.monitor.warn(&format!(
            "{} is {} larger than the image; what lies behind the image stays as it is (a GPT wants `sgdisk -e` afterwards)",
            path.display(),
            size_text(more)
        ));
    }
}

/// Refuses a new file among the device nodes: there it is a misspelt or missing device, and the disk would land in memory.
///
/// # Errors
/// `Unusable` for a path under `/dev`, other than in `/dev/shm`.
pub(super) fn refuse_missing(path: &Path, directory: &Path) -> Result<()> {
    let directory = std::fs::canonicalize(directory).unwrap_or_default();
    if directory.starts_with("/dev") && !directory.starts_with("/dev/shm") {
        return Err(Error::Unusable {
            path: path.to_path_buf(),
            why: "there is no such device; attach it, or check the name with `lsblk`".into(),
        });
    }
    Ok(())
}

/// The kernel lets a read-only device be opened for writing and fails the first write.
fn write_protected(path: &Path) -> bool {
    let state = device_number(path).map(|number| PathBuf::from("/sys/dev/block").join(number).join("ro"));
    let state = state.and_then(|file| std::fs::read_to_string(file).ok());
    state.is_some_and(|text| text.trim() == "1")
}

fn busy(path: &Path, by: String) -> Error {
    Error::Busy {
        path: path.to_path_buf(),
        by,
    }
}

/// Says who uses the device or one of its partitions, as far as the system tells; the exclusive open is what decides.
fn user(path: &Path) -> Option<String> {
    let number = device_number(path)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    family(&number).into_iter().find_map(|(number, name)| {
        mount_point(&mounts, &number)
            .map(|point| format!("{name} is mounted on {point}; unmount it first (umount {point})"))
            .or_else(|| swapped(&swaps, &number).map(|swap| format!("{swap} is swapped to; run swapoff {swap} first")))
            .or_else(|| holder(&number).map(|by| format!("{name} is part of {by}; take {by} down first")))
    })
}

/// `major:minor` of the device at `path`.
fn device_number(path: &Path) -> Option<String> {
    let found = std::fs::metadata(path).ok()?;
    let number = found.rdev();
    let device = found.file_type().is_block_device();
    device.then(|| format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number)))
}

/// The device and its partitions, as `major:minor` and name.
fn family(number: &str) -> Vec<(String, String)> {
    let sys = PathBuf::from("/sys/dev/block").join(number);
    let name = std::fs::canonicalize(&sys).ok();
    let name = name.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let mut found = vec![(number.to_owned(), name.unwrap_or_else(|| number.to_owned()))];
    for entry in std::fs::read_dir(sys).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists()
            && let Ok(number) = std::fs::read_to_string(entry.path().join("dev"))
        {
            found.push((
                number.trim().to_owned(),
                entry.file_name().to_string_lossy().into_owned(),
            ));
        }
    }
    found
}

/// Where a device is mounted: field 3 of a mountinfo line is its number, field 5 the place.
fn mount_point(mountinfo: &str, number: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let here = fields.next() == Some(number);
        here.then(|| fields.nth(1).map(unescaped)).flatten()
    })
}

/// Undoes what mountinfo does to the four characters that would break its lines.
fn unescaped(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes
        .iter()
        .fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

fn swapped<'a>(swaps: &'a str, number: &str) -> Option<&'a str> {
    let files = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    files
        .into_iter()
        .find(|file| device_number(Path::new(file)).as_deref() == Some(number))
}

/// The device mapper or RAID device that is built on this one.
fn holder(number: &str) -> Option<String> {
    let holders = PathBuf::from("/sys/dev/block").join(number).join("holders");
    let first = std::fs::read_dir(holders).ok()?.flatten().next()?;
    Some(first.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_searched_by_device_number() {
        let text = "21 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n\
                    90 21 7:3 / /mnt/with\\040blank rw - ext4 /dev/loop3 rw\n\
                    91 21 0:45 / /proc rw - proc proc rw\nshort\n";
        let cases = [
            ("254:1", Some("/")),
            ("7:3", Some("/mnt/with blank")),
            ("7:30", None),
            ("4:1", None),
            ("", None),
        ];
        for (number, point) in cases {
            assert_eq!(mount_point(text, number).as_deref(), point, "{number}");
        }
    }

    #[test]
    fn a_file_is_no_device() {
        assert_eq!(device_number(Path::new("/proc/self/status")), None);
        assert_eq!(user(Path::new("/nonexistent")), None);
    }
}
