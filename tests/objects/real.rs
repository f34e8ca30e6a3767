//! Real servers as processes of their own. Each is started once for a test program and ends with it, however it ends.

use super::Access;
use crate::common;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

/// A running Ceph.
pub struct Ceph {
    dir: PathBuf,
    /// Where its gateway is; the bucket `vault` is there.
    pub access: Access,
    /// Holds the pipe whose end ends the server; `None` if somebody else does.
    _watch: Option<std::process::Child>,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/servers/ceph")
}

/// The Ceph that `$VAULTFS_CEPH` names, or one for this test program; skips the test where there can be none.
pub fn ceph(test: &str) -> Option<&'static Ceph> {
    static CEPH: OnceLock<Ceph> = OnceLock::new();
    let started = || match std::env::var_os("VAULTFS_CEPH") {
        Some(dir) => Ceph::running(dir.into(), None),
        None => Ceph::start(&[]),
    };
    can_start_ceph(test).then(|| CEPH.get_or_init(started))
}

/// Says whether all is there that a Ceph needs; if not, skips the test.
pub fn can_start_ceph(test: &str) -> bool {
    let all = ["radosgw", "ceph-mon", "ceph-osd", "uuidgen", "curl", "openssl"];
    all.iter().all(|program| common::have(test, program))
}

impl Ceph {
    /// Starts one, which ends with this process.
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("vaultfs-ceph-")
            .tempdir()
            .unwrap()
            .keep();
        // Ends the server and removes its files when this process is gone, by whatever signal to all of us.
        let watch = Command::new("sh")
            .args([
                "-c",
                "trap '' INT TERM; cat; \"$1\" stop \"$2\"; rm -rf \"$2\"",
                "watch",
            ])
            .arg(script())
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let mut start = Command::new(script());
        let output = start.arg("start").arg(&dir).args(options).output().unwrap();
        assert!(output.status.success(), "{}", common::program::stderr(&output));
        eprintln!("Ceph was started in {:.1} s", began.elapsed().as_secs_f32());
        Self::running(dir, Some(watch))
    }

    fn running(dir: PathBuf, watch: Option<std::process::Child>) -> Self {
        let text = std::fs::read_to_string(dir.join("access")).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self {
            access: Access {
                variables: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            },
            dir,
            _watch: watch,
        }
    }

    /// Runs `scripts/servers/ceph ACTION`: `pause`, `resume` or `stop`.
    pub fn act(&self, action: &str) {
        let status = Command::new(script()).arg(action).arg(&self.dir).status().unwrap();
        assert!(status.success(), "{action}");
    }
}

/// A port that nobody listens on; another may take it before we do.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
