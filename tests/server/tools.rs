//! The tools users take, and what must be undone after them: loop devices and mounts by the kernel.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a program that must succeed and returns its standard output.
#[track_caller]
pub(crate) fn run<W: AsRef<OsStr>>(program: &str, words: impl IntoIterator<Item = W>) -> Vec<u8> {
    let mut command = Command::new(program);
    let output = command.args(words).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    output.stdout
}

/// Compares two files or devices to their ends.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    run("cmp", [one, other]);
}

/// Compares what a command prints with a file.
#[track_caller]
pub(crate) fn assert_prints(mut command: Command, file: &Path) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let printed = child.stdout.take().unwrap();
    let compared = Command::new("cmp").arg("-").arg(file).stdin(printed).output().unwrap();
    let printer = child.wait().unwrap();
    let said = String::from_utf8_lossy(&compared.stdout);
    assert!(compared.status.success(), "{command:?} and {}: {said}", file.display());
    assert!(printer.success(), "{command:?}: {printer}");
}

/// A loop device, detached when it is dropped.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
}

impl Loop {
    /// Whether this machine gives loop devices; if not, why.
    pub(crate) fn possible() -> Result<(), String> {
        match Command::new("losetup").arg("--find").output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(format!("losetup: {error}")),
        }
    }

    /// A device over a whole file.
    #[track_caller]
    pub(crate) fn writable(file: &Path) -> Self {
        let printed = run(
            "losetup",
            [OsStr::new("--find"), OsStr::new("--show"), file.as_os_str()],
        );
        let device = PathBuf::from(String::from_utf8(printed).unwrap().trim());
        Self { device }
    }

    /// The file behind the device, as long as there is one.
    fn backing_file(&self) -> Option<String> {
        let name = self.device.file_name()?.to_str()?;
        std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()
    }
}

impl Drop for Loop {
    /// Detaches, and waits: whoever looks at a new device for a moment (udev does) puts the end off, and the file stays in use.
    fn drop(&mut self) {
        let file = self.backing_file();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while file.is_some() && self.backing_file() == file && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Everything in a tree as one tar stream, by hash and length: names, content, owners, modes, all three times to
/// the nanosecond, hard links, devices, extended attributes and ACLs.
#[track_caller]
pub(crate) fn digest(dir: &Path) -> (blake3::Hash, u64) {
    let mut tar = Command::new("tar");
    // Nothing of tar's own: it would put its process number into the names of headers (and of sparse files).
    tar.args([
        "--create",
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f",
    ])
    .args([
        "--sort=name",
        "--numeric-owner",
        "--acls",
        "--xattrs",
        "--xattrs-include=*",
    ])
    .arg("--directory")
    .arg(dir)
    .arg(".");
    let mut child = tar.stdout(Stdio::piped()).spawn().unwrap();
    let mut stream = child.stdout.take().unwrap();
    let (mut hasher, mut len, mut buf) = (blake3::Hasher::new(), 0, vec![0; 1 << 18]);
    loop {
        let count = stream.read(&mut buf).unwrap();
        if count == 0 {
            break;
        }
        hasher.update(&buf[..count]);
        len += u64::try_from(count).unwrap();
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "{tar:?}: {status}");
    (hasher.finalize(), len)
}
