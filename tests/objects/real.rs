//! Real servers as processes of their own. Each is started once for a test program and ends with it, however it ends.

use super::Access;
use crate::common;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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

/// A running Garage, which takes conditional puts and ignores the condition.
pub struct Garage {
    /// Where it is; the bucket `vault` is there.
    pub access: Access,
    _watch: std::process::Child,
}

const GARAGE_ID: &str = "GK0123456789abcdef01234567";
const GARAGE_SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The Garage of this test program, from `$VAULTFS_GARAGE` or the PATH; says aloud when there is none, which is no failure.
pub fn garage(test: &str) -> Option<&'static Garage> {
    static GARAGE: OnceLock<Option<Garage>> = OnceLock::new();
    let found = GARAGE.get_or_init(|| {
        let named = std::env::var_os("VAULTFS_GARAGE").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = || {
            std::env::split_paths(&path)
                .map(|dir| dir.join("garage"))
                .find(|path| path.is_file())
        };
        named.or_else(on_path).map(|program| Garage::start(&program))
    });
    if found.is_none() {
        eprintln!("SKIPPED {test}: there is no garage on the PATH nor in $VAULTFS_GARAGE");
    }
    found.as_ref()
}

impl Garage {
    fn start(program: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("vaultfs-garage-")
            .tempdir()
            .unwrap()
            .keep();
        let port = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        };
        let (rpc, s3, admin) = (port(), port(), port());
        let config = format!(
            "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{1}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n[admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
            dir.display(),
            "0a".repeat(32)
        );
        std::fs::write(dir.join("garage.toml"), config).unwrap();
        let watch = Command::new("sh")
            .args([
                "-c",
                "\"$1\" server --single-node --default-bucket </dev/null & trap '' INT TERM; cat; kill $!; rm -rf \"$2\"",
                "watch",
            ])
            .arg(program)
            .arg(&dir)
            .env("GARAGE_CONFIG_FILE", dir.join("garage.toml"))
            .env("GARAGE_DEFAULT_BUCKET", "vault")
            .env("GARAGE_DEFAULT_ACCESS_KEY", GARAGE_ID)
            .env("GARAGE_DEFAULT_SECRET_KEY", GARAGE_SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", s3)).is_err() {
            assert!(Instant::now() < deadline, "garage does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        let access = Access::new(&format!("http://127.0.0.1:{s3}"), GARAGE_ID, GARAGE_SECRET);
        Self {
            access: access.with("AWS_REGION", "garage"),
            _watch: watch,
        }
    }
}
