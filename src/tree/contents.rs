//! What is in a backup: the volumes on its disks, which of them can be read, the server's own tree, or the files of a file system;
//! and `backup.json` that tells of it all.

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::assemble::{self, Plan, Readable};
use super::node;
use super::place::{Opened, Place, View};
use crate::chunk::Reader;
use crate::fs::stored::Stored;
use crate::fs::{self, FileSystem};
use crate::image::disk::DiskImage;
use crate::image::{self, ReadAt};
use crate::store::wait::{self, Delivery};
use crate::vault::{Address, Manifest, ResourceKind};
use crate::volume::mapped::Mapped;
use crate::volume::{self, Discovery, Holds, Volume};

/// The volumes of one backup and what is known of them.
#[derive(Debug)]
pub struct Contents {
    /// The text of `backup.json`, the same as of `vaultfs show --json`.
    pub json: Arc<str>,
    /// Readable volumes, sorted by name.
    pub(super) volumes: Vec<Shown>,
    /// Mounts of the server's own tree, its root first; empty if there is none.
    pub(super) mounts: Vec<Arc<Place>>,
    /// The files of a file system.
    pub(super) tree: Option<StoredTree>,
}

/// The files of a file system: where they are shown, and their reader, which costs nothing to keep.
#[derive(Debug)]
pub(super) struct StoredTree {
    pub(super) place: Arc<Place>,
    opened: Arc<Opened>,
}

/// A readable volume: where it is shown, and what it takes to open it again.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) place: Arc<Place>,
    pub(super) holds: Holds,
    pub(super) bytes: Bytes,
}

/// A volume's bytes; only there to have a `Debug` that prints none of them.
pub(super) struct Bytes(pub(super) Arc<dyn ReadAt>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// File systems that are kept open although nobody holds them at this moment.
const KEPT_OPEN: usize = 64;

/// Opens file systems and keeps those that were used last.
pub(super) struct OpenVolumes {
    kept: Mutex<LruCache<(Address, String), Arc<Opened>>>,
}

impl Default for OpenVolumes {
    fn default() -> Self {
        let kept = LruCache::new(std::num::NonZero::new(KEPT_OPEN).unwrap_or(std::num::NonZero::<usize>::MIN));
        Self { kept: Mutex::new(kept) }
    }
}

impl OpenVolumes {
    /// The file system of a place; `contents` is asked for the backup's volumes if it must be opened again.
    pub(super) fn get<E: From<fs::Error>>(
        &self,
        place: &Place,
        contents: impl FnOnce() -> Result<Arc<Contents>, E>,
    ) -> Result<Arc<Opened>, E> {
        if let Some(opened) = place.opened.lock().upgrade() {
            return Ok(opened);
        }
        let key = (place.address.clone(), place.volume.clone());
        let kept = self.kept.lock().get(&key).cloned();
        let opened = match kept {
            Some(opened) => opened,
            None => {
                let contents = contents()?;
                let opened = complete(&place.address, || contents.open(&place.volume))?;
                self.kept.lock().put(key, Arc::clone(&opened));
                opened
            }
        };
        *place.opened.lock() = Arc::downgrade(&opened);
        Ok(opened)
    }

    /// Keeps file systems that were opened to describe a backup, in the order of its volumes: who asks for one mostly goes on
    /// with the files in it, and replaying a journal twice takes twice as long.
    pub(super) fn keep(&self, contents: &Contents, opened: Vec<Arc<Opened>>) {
        let mut kept = self.kept.lock();
        for (volume, opened) in contents.volumes.iter().zip(opened) {
            let key = (volume.place.address.clone(), volume.place.volume.clone());
            kept.get_or_insert(key, || opened);
        }
    }
}

impl Contents {
    /// Looks at the disks of a backup: tables of partitions, superblocks, and `/etc/fstab`.
    ///
    /// # Errors
    /// `Unavailable` if the store does not deliver now; damage is not an error but told in the JSON.
    pub fn load(reader: &Arc<Reader>, address: &Address, manifest: &Manifest) -> image::Result<Self> {
        Ok(Self::load_open(reader, address, manifest)?.0)
    }

    /// As [`load`](Self::load), with the file systems that had to be opened for it, in the order of `volumes`.
    pub(super) fn load_open(
        reader: &Arc<Reader>,
        address: &Address,
        manifest: &Manifest,
    ) -> image::Result<(Self, Vec<Arc<Opened>>)> {
        complete(address, || Self::look(reader, address, manifest))
    }

    fn look(reader: &Arc<Reader>, address: &Address, manifest: &Manifest) -> image::Result<(Self, Vec<Arc<Opened>>)> {
        if let Some(tree) = manifest.tree() {
            let stored = Stored::open(reader, address, tree);
            return Ok((Self::of_tree(address, manifest, stored), Vec::new()));
        }
        let mut disks = Vec::new();
        for disk in manifest.disks() {
            let image: Arc<dyn ReadAt> = Arc::new(DiskImage::open(reader, address, disk));
            let len = usize::try_from(image.len().min(4096)).unwrap_or(0);
            // Damage is told below; a store that is silent now must not make a backup look as if it held nothing.
            match image.read_at(0, &mut vec![0; len]) {
                Err(error @ image::Error::Unavailable { .. }) => return Err(error),
                _ => disks.push(volume::Disk {
                    name: super::files::image_name(address.resource.kind, &disk.name).to_owned(),
                    image,
                }),
            }
        }
        let discovery = volume::discover(&disks);
        Self::of(address, manifest, &discovery)
    }

    fn of(address: &Address, manifest: &Manifest, discovery: &Discovery) -> image::Result<(Self, Vec<Arc<Opened>>)> {
        let mut opened = Vec::new();
        for volume in &discovery.volumes {
            let tried = volume.data.as_ref().and_then(|data| {
                let file_system = fs::open(volume.signature.holds, Arc::clone(data))?;
                Some(file_system.map(|file_system| Arc::new(Opened::new(file_system, Arc::clone(data)))))
            });
            if let Some(Err(fs::Error::Image(error @ image::Error::Unavailable { .. }))) = tried {
                return Err(error);
            }
            opened.push(tried);
        }
        let pairs = discovery.volumes.iter().zip(&opened);
        let readable: Vec<Readable<'_>> = pairs
            .filter_map(|(volume, opened)| match opened {
                Some(Ok(opened)) => Some(Readable { volume, opened }),
                _ => None,
            })
            .collect();
        let plan = match address.resource.kind {
            ResourceKind::Server => assemble::plan(&readable),
            ResourceKind::Disk | ResourceKind::Filesystem => Plan::default(),
        };
        let place = |name: &str, view, root| Place::new(address, name, view, root);
        let volumes = readable.iter().map(|readable| {
            let root = readable.opened.file_system.root();
            Shown {
                place: Arc::new(place(&readable.volume.name, View::Volume, root)),
                holds: readable.volume.signature.holds,
                bytes: Bytes(Arc::clone(readable.opened.neighbourhood.volume())),
            }
        });
        let mounts = plan.mounts.iter().enumerate().filter_map(|(number, mount)| {
            let name = &readable.get(mount.volume)?.volume.name;
            let mut place = place(name, View::Mount(number), mount.root);
            place.crossings.clone_from(&mount.crossings);
            Some(Arc::new(place))
        });
        let mut description = manifest.to_json();
        describe(&mut description, discovery, &opened, &plan, &readable);
        let contents = Self {
            volumes: volumes.collect(),
            mounts: mounts.collect(),
            tree: None,
            json: format!("{description:#}\n").into(),
        };
        Ok((contents, opened.into_iter().flatten().flatten().collect()))
    }

    fn of_tree(address: &Address, manifest: &Manifest, stored: Stored) -> Self {
        let place = Place::new(address, node::TREE, View::Tree, stored.root());
        // The bytes of its files are in chunks of their own, not on a volume.
        let volume = Arc::new(Mapped::default());
        Self {
            json: format!("{:#}\n", manifest.to_json()).into(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            tree: Some(StoredTree {
                place: Arc::new(place),
                opened: Arc::new(Opened::new(Arc::new(stored), volume)),
            }),
        }
    }

    fn open(&self, volume: &str) -> fs::Result<Arc<Opened>> {
        if let Some(tree) = &self.tree {
            return Ok(Arc::clone(&tree.opened));
        }
        let unknown = || fs::Error::Unsupported {
            feature: format!("volume {volume}"),
        };
        let found = self.volumes.iter().find(|shown| shown.place.volume == volume);
        let Shown { holds, bytes, .. } = found.ok_or_else(unknown)?;
        let file_system = fs::open(*holds, Arc::clone(&bytes.0)).ok_or_else(unknown)??;
        Ok(Arc::new(Opened::new(file_system, Arc::clone(&bytes.0))))
    }

    /// Memory by estimate, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let places = self.volumes.len().saturating_add(self.mounts.len());
        crate::bytes::to_u64(self.json.len().saturating_add(places.saturating_mul(1024)))
    }
}

/// Does `work`, unless a store fails on the way: what was put together around the gap, a file system without a part of its journal, a disk
/// without its last partition, would be kept and shown from then on.
fn complete<T, E: From<image::Error>>(address: &Address, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let (done, delivery) = wait::observed(work);
    let done = done?;
    match delivery {
        Delivery::Complete => Ok(done),
        Delivery::Failed => Err(E::from(image::Error::Unavailable {
            what: format!("all that is needed to look into backup {address}"),
            source: Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)),
        })),
    }
}

type Tried = Option<fs::Result<Arc<Opened>>>;

/// Adds `volumes`, `root` and `problems` to a description.
fn describe(to: &mut Value, found: &Discovery, opened: &[Tried], plan: &Plan, readable: &[Readable<'_>]) {
    let Some(object) = to.as_object_mut() else { return };
    let volumes = found.volumes.iter().zip(opened);
    let volumes: Vec<Value> = volumes.map(|(volume, tried)| volume_json(volume, tried)).collect();
    object.insert("volumes".into(), Value::Array(volumes));
    let mounts = plan.mounts.iter().map(|mount| {
        let volume = readable.get(mount.volume).map(|readable| readable.volume.name.as_str());
        json!({ "path": mount.path, "volume": volume })
    });
    let missing = plan.missing.iter();
    let missing = missing.map(|line| json!({ "path": line.path, "spec": line.spec, "why": line.why }));
    let root = json!({ "mounts": mounts.collect::<Vec<_>>(), "missing": missing.collect::<Vec<_>>() });
    object.insert("root".into(), if plan.mounts.is_empty() { Value::Null } else { root });
    object.insert("problems".into(), json!(found.problems));
}

fn volume_json(volume: &Volume, tried: &Tried) -> Value {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let mut value = json!({
        "name": volume.name,
        "logical_bytes": volume.size,
        "holds": volume.signature.holds.word(),
        "uuid": volume.signature.uuid,
        "label": volume.signature.label.as_ref().map(text),
        "partuuid": volume.part_uuid,
        "partlabel": volume.part_label,
        "path": Value::Null,
        "problem": volume.problem,
    });
    let Some(object) = value.as_object_mut() else {
        return value;
    };
    match tried {
        Some(Ok(opened)) => {
            let summary = opened.file_system.summary();
            object.insert("path".into(), json!(format!("volumes/{}", volume.name)));
            object.insert("free_bytes".into(), json!(summary.free));
            object.insert("notes".into(), json!(summary.notes));
        }
        Some(Err(error)) => {
            object.insert("problem".into(), json!(error.to_string()));
        }
        None => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{disk, manifest};
    use crate::volume::Signature;

    /// A FAT12 volume without a file: the boot sector, one sector of table, one of root directory.
    struct Fat;

    impl ReadAt for Fat {
        fn len(&self) -> u64 {
            64 * 512
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> image::Result<()> {
            let mut volume = vec![0; 64 * 512];
            let fields: [(usize, &[u8]); 11] = [
                (0, &[0xeb, 0x3c, 0x90]),
                (11, &512_u16.to_le_bytes()),
                (13, &[1]),
                (14, &1_u16.to_le_bytes()),
                (16, &[1]),
                (17, &16_u16.to_le_bytes()),
                (19, &64_u16.to_le_bytes()),
                (21, &[0xf8]),
                (22, &1_u16.to_le_bytes()),
                (510, &[0x55, 0xaa]),
                (512, &[0xf8, 0xff, 0xff]),
            ];
            for (at, bytes) in fields {
                volume[at..at + bytes.len()].copy_from_slice(bytes);
            }
            let start = crate::bytes::to_usize(offset);
            buf.copy_from_slice(&volume[start..start + buf.len()]);
            Ok(())
        }
        fn next_data(&self, offset: u64) -> image::Result<Option<u64>> {
            Ok(Some(offset))
        }
        fn next_hole(&self, _: u64) -> image::Result<u64> {
            Ok(self.len())
        }
    }

    #[test]
    fn what_was_opened_to_describe_a_backup_is_not_opened_again() {
        let address = disk("card", 5);
        let volume = Volume {
            name: "disk1".into(),
            data: Some(Arc::new(Fat)),
            size: Fat.len(),
            signature: Signature {
                holds: Holds::Fat,
                uuid: None,
                label: None,
            },
            part_uuid: None,
            part_label: None,
            aliases: Vec::new(),
            problem: None,
        };
        let broken = Volume {
            name: "disk0".into(),
            signature: Signature {
                holds: Holds::Ext,
                ..volume.signature.clone()
            },
            ..volume.clone()
        };
        let discovery = Discovery {
            volumes: vec![broken, volume],
            problems: Vec::new(),
        };
        let (contents, opened) = Contents::of(&address, &manifest(&address, &[]), &discovery).unwrap();
        let names: Vec<_> = contents.volumes.iter().map(|shown| &shown.place.volume).collect();
        assert_eq!(names, ["disk1"]);
        let first = Arc::clone(&opened[0]);
        let volumes = OpenVolumes::default();
        volumes.keep(&contents, opened);
        let got = volumes.get::<fs::Error>(&contents.volumes[0].place, || panic!("it is opened again"));
        assert!(Arc::ptr_eq(&got.unwrap(), &first));
    }
}
