//! Live mounts of a vault in a bucket, with the real binary: the cache directory, offline, the limit, the status file, and a server that
//! falls silent.

use crate::common::mounted::Mount;
use crate::common::{Random, can_mount, program};
use crate::objects::odd::{Manner, Odd};
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const IMAGE: &str = "disks/db/latest/disk.img";
const MIB: usize = 1 << 20;

/// A server of ours with a vault of one disk.
struct Desk {
    server: Odd,
    dir: TempDir,
    bytes: Vec<u8>,
}

impl Desk {
    /// `None`, said aloud, where nothing can be mounted.
    fn new(test: &str) -> Option<Self> {
        if !can_mount(test) {
            return None;
        }
        let desk = Self {
            server: Odd::start(Manner::Honours, 7),
            dir: TempDir::new().unwrap(),
            bytes: Random::new(0x4e40_0010).bytes(24 * MIB),
        };
        let raw = desk.dir.path().join("disk.raw");
        std::fs::write(&raw, &desk.bytes).unwrap();
        program::succeed(desk.server.access.vaultfs(["init", "s3://vault/v"]));
        let words = ["backup", "s3://vault/v", "disk", "db", raw.to_str().unwrap()];
        program::succeed(desk.server.access.vaultfs(words));
        Some(desk)
    }

    /// Mounts at `name` with these options.
    fn mount(&self, name: &str, options: &str) -> Mount {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Mount::with(&dir, Path::new("s3://vault/v"), options, |command| {
            for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
                command.env_remove(name);
            }
            command.envs(&self.server.access.variables).env("HOME", "/nonexistent");
        })
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn cached(&self, more: &str) -> String {
        format!("cache_dir={}{more}", self.cache().display())
    }

    /// Reads and compares one MiB, past what the kernel keeps.
    fn read(&self, mount: &Mount, mib: usize) -> std::io::Result<()> {
        let mut options = File::options();
        let file = options
            .read(true)
            .custom_flags(libc::O_DIRECT)
            .open(mount.path(IMAGE))?;
        let mut bytes = vec![0; MIB];
        file.read_exact_at(&mut bytes, u64::try_from(mib * MIB).unwrap())?;
        assert!(bytes == self.bytes[mib * MIB..(mib + 1) * MIB], "MiB {mib} differs");
        Ok(())
    }
}

fn status(mount: &Mount) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(mount.path(".vaultfs/status")).unwrap()).unwrap()
}

fn errno(result: std::io::Result<()>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_status_file_is_hidden_and_tells_of_requests() {
    let Some(desk) = Desk::new("the_status_file_is_hidden_and_tells_of_requests") else {
        return;
    };
    let mount = desk.mount("one", &desk.cached(""));
    let names: Vec<_> = std::fs::read_dir(mount.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(std::fs::metadata(mount.path(".vaultfs/other")).is_err());
    let before = status(&mount);
    desk.read(&mount, 3).unwrap();
    let number = |status: &serde_json::Value, key: &str| status["store"][key].as_u64().unwrap();
    // What was told may be told again for a second.
    let deadline = Instant::now() + Duration::from_secs(15);
    let after = loop {
        let after = status(&mount);
        if number(&after, "fetched_bytes") >= number(&before, "fetched_bytes") + (1 << 20) {
            break after;
        }
        assert!(Instant::now() < deadline, "{after}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(number(&after, "requests") > number(&before, "requests"));
    assert!(number(&after, "requests") <= desk.server.requests());
    assert!(after["cache_directory"]["misses"].as_u64().unwrap() > 0);
    assert_eq!(after["store"]["reach"], "online");
    mount.end();
}

#[test]
fn offline_serves_what_is_cached_and_refuses_the_rest_at_once() {
    let Some(desk) = Desk::new("offline_serves_what_is_cached_and_refuses_the_rest_at_once") else {
        return;
    };
    let mount = desk.mount("one", &desk.cached(",cache_data=yes"));
    desk.read(&mount, 5).unwrap();
    mount.end();
    desk.server.hush_after(0);
    let before = desk.server.requests();
    let mount = desk.mount("two", &desk.cached(",cache_data=yes,offline"));
    desk.read(&mount, 5).unwrap();
    let began = Instant::now();
    assert_eq!(errno(desk.read(&mount, 20)), Some(libc::EIO));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(status(&mount)["store"]["reach"], "offline");
    mount.end();
    assert_eq!(desk.server.requests(), before);
    let strange = desk.dir.path().join("strange");
    let at = desk.dir.path().join("two/mnt");
    let options = format!("offline,cache_dir={}", strange.display());
    let words = ["mount", "s3://vault/v", at.to_str().unwrap(), "-o", &options];
    let refused = desk.server.access.vaultfs(words).output().unwrap();
    assert!(!refused.status.success());
    assert!(
        program::stderr(&refused).contains("is not known to the cache"),
        "{}",
        program::stderr(&refused)
    );
}

#[test]
fn a_mount_with_a_warm_cache_directory_asks_for_no_data_again() {
    let Some(desk) = Desk::new("a_mount_with_a_warm_cache_directory_asks_for_no_data_again") else {
        return;
    };
    let mount = desk.mount("one", &desk.cached(",cache_data=yes"));
    desk.read(&mount, 5).unwrap();
    mount.end();
    let mount = desk.mount("two", &desk.cached(",cache_data=yes"));
    desk.read(&mount, 5).unwrap();
    let fetched = status(&mount)["store"]["fetched_bytes"].as_u64().unwrap();
    // The vault object alone.
    assert!(fetched < 4096, "{fetched}");
    mount.end();
}

#[test]
fn no_more_is_fetched_than_the_user_allows() {
    let Some(desk) = Desk::new("no_more_is_fetched_than_the_user_allows") else {
        return;
    };
    let mount = desk.mount("one", "cache_dir=none,max_egress=6MiB");
    let results: Vec<_> = (0..24).map(|mib| errno(desk.read(&mount, mib))).collect();
    assert_eq!(results[0], None);
    assert!(
        results[12..].iter().all(|errno| *errno == Some(libc::EDQUOT)),
        "{results:?}"
    );
    let told = mount.log().matches("max_egress is reached").count();
    assert_eq!(told, 1, "{}", mount.log());
    desk.read(&mount, 0).unwrap();
    mount.end();
}

#[test]
fn readers_that_wait_hold_up_nobody_and_end_and_go_on_when_the_server_answers() {
    let Some(desk) = Desk::new("readers_that_wait_hold_up_nobody_and_end_and_go_on_when_the_server_answers") else {
        return;
    };
    let mount = desk.mount("one", "cache_dir=none");
    desk.read(&mount, 0).unwrap();
    desk.server.hush_after(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let blocked: Vec<_> = (0..48)
            .map(|number| {
                let (desk, mount) = (&desk, &mount);
                scope.spawn(move || errno(desk.read(mount, 4 + number % 20)))
            })
            .collect();
        std::thread::sleep(Duration::from_secs(2));
        // More readers wait than there are threads; what is here is served meanwhile.
        let asked = Instant::now();
        assert_eq!(std::fs::read_dir(mount.path("disks/db")).unwrap().count(), 2);
        desk.read(&mount, 0).unwrap();
        assert_eq!(status(&mount)["store"]["reach"], "online");
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        for reader in blocked {
            assert_eq!(reader.join().unwrap(), Some(libc::EIO));
        }
    });
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
    desk.server.speak();
    let deadline = Instant::now() + Duration::from_secs(30);
    while desk.read(&mount, 15).is_err() {
        assert!(Instant::now() < deadline, "{}", mount.log());
    }
    for mib in 0..24 {
        desk.read(&mount, mib).unwrap();
    }
    mount.end();
}

#[test]
fn a_mount_that_would_hide_its_cache_directory_is_refused() {
    let Some(desk) = Desk::new("a_mount_that_would_hide_its_cache_directory_is_refused") else {
        return;
    };
    let at = desk.dir.path().join("at");
    std::fs::create_dir_all(at.join("cache")).unwrap();
    let cache = at.join("cache");
    let words = [
        "mount",
        "s3://vault/v",
        at.to_str().unwrap(),
        "--cache-dir",
        cache.to_str().unwrap(),
    ];
    let refused = desk.server.access.vaultfs(words).output().unwrap();
    assert!(
        program::stderr(&refused).contains("would hide the cache directory"),
        "{}",
        program::stderr(&refused)
    );
}
