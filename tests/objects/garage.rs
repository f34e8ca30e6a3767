//! Garage, which takes conditional puts and ignores the condition: one node, or three that hold each object three times.

use super::Access;
use super::real::free_port;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const ID: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How long a node may take to start.
const START: Duration = Duration::from_secs(30);

/// Where the program is: `$VAULTFS_GARAGE` or the PATH; says aloud when it is not there, which is no failure.
fn program(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        let dirs = std::env::split_paths(&path);
        dirs.map(|dir| dir.join("garage")).find(|path| path.is_file())
    };
    let found = std::env::var_os("VAULTFS_GARAGE").map(PathBuf::from).or_else(on_path);
    if found.is_none() {
        eprintln!("SKIPPED {test}: there is no garage on the PATH nor in $VAULTFS_GARAGE");
    }
    found
}

/// A node: a process with a directory and ports of its own.
struct Node {
    dir: PathBuf,
    s3: u16,
    /// Ends the process and removes its files when the pipe to it ends, by whatever end of ours; `None` while the node is down.
    watch: Option<Child>,
}

impl Node {
    fn new(copies: u32) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("vaultfs-garage-")
            .tempdir()
            .unwrap()
            .keep();
        let (rpc, s3, admin) = (free_port(), free_port(), free_port());
        let config = format!(
            "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = {copies}\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{1}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{s3}\"\n[admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
            dir.display(),
            "0a".repeat(32)
        );
        std::fs::write(dir.join("garage.toml"), config).unwrap();
        let watch = None;
        Self { dir, s3, watch }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("garage.toml")
    }

    fn start(&mut self, program: &Path, words: &[&str]) {
        let script = "program=$1 dir=$2; shift 2; \"$program\" server \"$@\" </dev/null & trap '' INT TERM; cat; kill -KILL $!; wait $!; \
                      [ -e \"$dir/kept\" ] || rm -rf \"$dir\"";
        let child = Command::new("sh")
            .args(["-c", script, "watch"])
            .arg(program)
            .arg(&self.dir)
            .args(words)
            .env("GARAGE_CONFIG_FILE", self.config())
            .env("GARAGE_DEFAULT_BUCKET", "vault")
            .env("GARAGE_DEFAULT_ACCESS_KEY", ID)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.watch = Some(child.unwrap());
        let deadline = Instant::now() + START;
        // The last that a node opens.
        while std::net::TcpStream::connect(("127.0.0.1", self.s3)).is_err() {
            assert!(Instant::now() < deadline, "garage does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the process by SIGKILL; its files stay.
    fn kill(&mut self) {
        std::fs::write(self.dir.join("kept"), "").unwrap();
        let mut watch = self.watch.take().unwrap();
        drop(watch.stdin.take());
        watch.wait().unwrap();
        std::fs::remove_file(self.dir.join("kept")).unwrap();
    }

    fn access(&self) -> Access {
        Access::new(&format!("http://127.0.0.1:{}", self.s3), ID, SECRET).with("AWS_REGION", "garage")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.watch.is_none() {
            // Whose process is down, nobody else removes.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A running Garage of one node, with the bucket `vault`.
pub struct Garage {
    pub access: Access,
    _node: Node,
}

/// The Garage of this test program; `None` where there can be none.
pub fn garage(test: &str) -> Option<&'static Garage> {
    static GARAGE: OnceLock<Garage> = OnceLock::new();
    let program = program(test)?;
    Some(GARAGE.get_or_init(|| {
        let mut node = Node::new(1);
        node.start(&program, &["--single-node", "--default-bucket"]);
        Garage {
            access: node.access(),
            _node: node,
        }
    }))
}

/// Three nodes, each of which holds everything; the bucket `vault` is there. Two of them must agree.
pub struct Cluster {
    /// The first node, which is never killed.
    pub access: Access,
    program: PathBuf,
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts one; `None` where there is no program for it.
    pub fn start(test: &str) -> Option<Self> {
        let program = program(test)?;
        let mut nodes: Vec<Node> = (0..3).map(|_| Node::new(3)).collect();
        nodes.iter_mut().for_each(|node| node.start(&program, &[]));
        let cluster = Self {
            access: nodes[0].access(),
            program,
            nodes,
        };
        let ids: Vec<String> = cluster
            .nodes
            .iter()
            .map(|node| cluster.ask(node, &["node", "id", "-q"]))
            .collect();
        for id in &ids[1..] {
            cluster.ask(&cluster.nodes[0], &["node", "connect", id.trim()]);
        }
        for (number, id) in ids.iter().enumerate() {
            let (name, _) = id.split_once('@').unwrap();
            cluster.tell(&["layout", "assign", "-z", &format!("z{number}"), "-c", "1G", name]);
        }
        cluster.tell(&["layout", "apply", "--version", "1"]);
        cluster.tell(&["key", "import", "--yes", "-n", "test", ID, SECRET]);
        cluster.tell(&["bucket", "create", "vault"]);
        cluster.tell(&["bucket", "allow", "--read", "--write", "--owner", "vault", "--key", ID]);
        Some(cluster)
    }

    fn tell(&self, words: &[&str]) {
        self.ask(&self.nodes[0], words);
    }

    /// Asks a node by its command line, until it has found the others.
    fn ask(&self, node: &Node, words: &[&str]) -> String {
        let deadline = Instant::now() + START;
        loop {
            let mut command = Command::new(&self.program);
            let output = command.arg("-c").arg(node.config()).args(words).output().unwrap();
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(Instant::now() < deadline, "garage {words:?}: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Kills node 1 or 2.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a killed node again, and waits until the first node has found it.
    pub fn start_again(&mut self, number: usize) {
        let program = self.program.clone();
        self.nodes[number].start(&program, &[]);
        let id = self.ask(&self.nodes[number], &["node", "id", "-q"]);
        let deadline = Instant::now() + START;
        let is_healthy = || {
            let status = self.ask(&self.nodes[0], &["status"]);
            let healthy = status.split("FAILED NODES").next().unwrap();
            healthy.contains(&id[..16])
        };
        while !is_healthy() {
            assert!(Instant::now() < deadline, "the node is not found again");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
