//! Vaults in memory behind a line that is made up, and readers of them.

use crate::common::disks::{self, Sparse, Ticking, back_up, new_vault, size};
use crate::common::slow::Slow;
use crate::common::{Random, have};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use vaultfs::chunk::Reader;
use vaultfs::image::disk::DiskImage;
use vaultfs::image::handle::ReadAhead;
use vaultfs::store::memory::MemoryStore;
use vaultfs::store::record::{Call, RecordingStore};
use vaultfs::store::{Key, Store};
use vaultfs::tree::resolve::LastLink;
use vaultfs::tree::{Content, LinkTargets, Owner, Owners, Settings, Tree};
use vaultfs::vault::access::{Access, open_store};
use vaultfs::vault::{Address, Vault};

/// A file of 1 MiB in the disk.
pub(crate) const FILE: &str = "servers/web/latest/volumes/vda1/srv/data/deep/file";
const ROUND_TRIP: Duration = Duration::from_millis(3);
const BYTES_PER_SECOND: u64 = 200_000_000;
const CACHE: u64 = 64 << 20;

type Line = RecordingStore<Slow<Arc<MemoryStore>>>;

/// A vault that is far away.
pub(crate) struct Far {
    pub(crate) line: Arc<Line>,
    pub(crate) address: Address,
    /// What [`FILE`] holds.
    pub(crate) file: Vec<u8>,
}

impl Far {
    fn of(disk: &Sparse, file: Vec<u8>) -> Self {
        Self::behind(disk, file, ROUND_TRIP, BYTES_PER_SECOND)
    }

    fn behind(disk: &Sparse, file: Vec<u8>, round_trip: Duration, bytes_per_second: u64) -> Self {
        let memory = Arc::new(MemoryStore::new());
        let store: Arc<dyn Store> = memory.clone();
        let vault = new_vault(store);
        let report = back_up(&vault, &disks::request("web", &[("vda", disk)]), &Ticking::default()).unwrap();
        let slow = Slow::new(memory, round_trip, bytes_per_second);
        Self {
            line: Arc::new(RecordingStore::new(slow)),
            address: report.address,
            file,
        }
    }

    /// A disk with a partition table and ext4 on its only partition; `None`, said aloud, where that cannot be made.
    pub(crate) fn with_files(test: &str) -> Option<Self> {
        if !["mkfs.ext4", "sfdisk"].iter().all(|tool| have(test, tool)) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random::new(0x4e40_0002);
        let tree = dir.path().join("tree");
        for number in 0..300 {
            let sub = tree.join(["etc", "usr/share", "usr/lib", "var/log", "srv/data"][number % 5]);
            std::fs::create_dir_all(&sub).unwrap();
            let len = usize::try_from(random.below(60_000)).unwrap();
            std::fs::write(sub.join(format!("file-{number}")), random.bytes(len)).unwrap();
        }
        let file = random.bytes(1 << 20);
        std::fs::create_dir_all(tree.join("srv/data/deep")).unwrap();
        std::fs::write(tree.join("srv/data/deep/file"), &file).unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        sfdisk(&image);
        let offset = format!("offset={}", 1 << 20);
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", &offset, "-d"])
            .arg(&tree)
            .arg(&image)
            .arg("250M")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bytes = std::fs::read(&image).unwrap();
        let pieces = bytes
            .chunks(1 << 20)
            .zip(0..)
            .filter(|(piece, _)| piece.iter().any(|byte| *byte != 0));
        let pieces = pieces.map(|(piece, number)| (number << 20, piece.to_vec())).collect();
        Some(Self::of(&Sparse::new(size(bytes.len()), pieces), file))
    }

    /// The vault as it is opened by whoever has this cache directory, or `none`.
    pub(crate) fn open(&self, cache: &str) -> Vault {
        self.open_with(cache, &Access::default())
    }

    pub(crate) fn open_with(&self, cache: &str, access: &Access) -> Vault {
        let root = Some(Path::new(cache)).filter(|_| cache != "none");
        let store: Arc<dyn Store> = self.line.clone();
        open_store(store, access, root).unwrap()
    }

    pub(crate) fn image(&self, cache: &str) -> Arc<DiskImage> {
        self.image_in(self.open(cache))
    }

    pub(crate) fn image_in(&self, vault: Vault) -> Arc<DiskImage> {
        let manifest = vault.load(&self.address).unwrap();
        let reader = Reader::new(vault, CACHE);
        Arc::new(DiskImage::open(&reader, &self.address, &manifest.disks()[0]))
    }

    /// The tree as a mount shows it.
    pub(crate) fn view(&self, cache: &str) -> View {
        View::of(self.open(cache))
    }

    /// The requests since the last time.
    pub(crate) fn requests(&self) -> Vec<Call> {
        self.line.take_calls()
    }

    /// Bytes that came since the last time.
    pub(crate) fn take_bytes(&self) -> u64 {
        self.line.inner().take_bytes()
    }

    /// Names and sizes of all packs of data.
    pub(crate) fn packs(&self) -> Vec<(Key, u64)> {
        let keys = self.line.list("packs/").unwrap();
        keys.into_iter()
            .map(|key| (key.clone(), self.line.head(&key).unwrap()))
            .collect()
    }

    /// Fetches objects in pieces of 1 MiB, sixteen at once.
    pub(crate) fn download(&self, objects: &[(Key, u64)]) {
        let pieces: Vec<(&Key, u64, u64)> = objects
            .iter()
            .flat_map(|(key, len)| {
                (0..*len)
                    .step_by(1 << 20)
                    .map(move |at| (key, at, (len - at).min(1 << 20)))
            })
            .collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while let Some((key, at, len)) = pieces.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
                    {
                        self.line.get_range(key, *at, usize::try_from(*len).unwrap()).unwrap();
                    }
                });
            }
        });
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.line.inner().most_under_way()
    }
}

/// A disk without holes that does not compress.
pub(crate) fn image_of_noise(len: usize) -> (Far, Sparse) {
    let disk = Sparse::new(size(len), vec![(0, Random::new(0x4e40_0003).bytes(len))]);
    (Far::of(&disk, Vec::new()), disk)
}

/// The same behind a line of this speed.
pub(crate) fn noise_behind(len: usize, round_trip: Duration, bytes_per_second: u64) -> (Far, Sparse) {
    let disk = Sparse::new(size(len), vec![(0, Random::new(0x4e40_0003).bytes(len))]);
    (Far::behind(&disk, Vec::new(), round_trip, bytes_per_second), disk)
}

fn sfdisk(image: &Path) {
    use std::io::Write;
    let mut child = Command::new("sfdisk")
        .args(["-q", "--no-reread", "--no-tell-kernel"])
        .arg(image)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"label: gpt\nstart=2048\n")
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// A tree, asked as the kernel asks it.
pub(crate) struct View {
    tree: Tree,
}

impl View {
    pub(crate) fn of(vault: Vault) -> Self {
        let reader = Reader::new(vault, CACHE);
        let content = Content {
            read_ahead: Arc::new(ReadAhead::of(&reader).unwrap()),
            reader,
        };
        let settings = Settings {
            owner: Owner { uid: 0, gid: 0 },
            owners: Owners::Image,
            link_targets: LinkTargets::AsStored,
            root_attributes: Vec::new(),
            mounted_at: 0,
        };
        Self {
            tree: Tree::open(content, settings).unwrap(),
        }
    }

    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        self.try_list(path).unwrap()
    }

    pub(crate) fn try_list(&self, path: &str) -> Result<Vec<String>, String> {
        let found = self.tree.resolve(path.as_bytes(), LastLink::Follow);
        let directory = found.map_err(|error| error.to_string())?.held.directory();
        let mut names = Vec::new();
        let visited = self
            .tree
            .visit(&directory.map_err(|error| error.to_string())?, 0, &mut |listed| {
                names.push(String::from_utf8_lossy(listed.name).into_owned());
                true
            });
        visited.map(|()| names).map_err(|error| error.to_string())
    }

    /// The whole file, read as the kernel reads it for `cp`.
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let found = self.tree.resolve(path.as_bytes(), LastLink::Follow).unwrap();
        let file = found.held.file().unwrap();
        let mut bytes = Vec::new();
        loop {
            let part = file.read(size(bytes.len()), 128 << 10).unwrap();
            if part.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(&part);
        }
    }
}
