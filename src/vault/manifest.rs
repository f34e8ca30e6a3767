//! The manifest: the stored description of one backup. The only file that names bincode.
//!
//! # Source
//! `docs/format.md`, section "Manifest".

mod tree;

pub use tree::{MAX_PROBLEM_BYTES, MAX_PROBLEMS, Problem, Tree, TreeStatistics};

use super::map::{Layout, MAX_ROOT_REFS, PageRef};
use super::name::{ResourceKind, ResourceName};
use super::tags::{self, Tags};
use super::{Address, CHUNK_SIZES, Error, Result, check_name};
use crate::clock::{Point, rfc3339};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Largest manifest payload in bytes.
pub const MAX_MANIFEST: usize = 16 << 20;
/// Most disks of one backup.
pub const MAX_DISKS: usize = 256;
/// Longest server facts in bytes.
pub const MAX_FACTS: usize = 1 << 20;

/// How consistent the content of a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Read while it was in use: like nothing in particular.
    None,
    /// All disks at one moment, as after a power cut.
    Crash,
    /// Applications were quiesced.
    Application,
}

impl Consistency {
    /// The level in one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Crash => "crash",
            Self::Application => "application",
        }
    }
}

/// What a backup holds; further kinds of content get further numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Disk images, in the order the user gave them.
    Disks(Vec<Disk>),
    /// The files of a directory tree.
    Tree(Tree),
}

/// Sizes of a whole backup in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all disks or files, holes included.
    pub logical: u64,
    /// Plain bytes that are not holes.
    pub data: u64,
    /// Plain bytes of chunks that this backup added to the vault.
    pub new: u64,
    /// Bytes that this backup added to the vault.
    pub stored: u64,
}

/// Sizes of one disk in one backup, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Plain bytes of chunks that are not holes.
    pub data: u64,
    /// Plain bytes of chunks that this backup added to the vault.
    pub new: u64,
    /// Bytes that this backup added to the vault for this disk: its new chunks, compressed, and its new map pages.
    pub stored: u64,
}

/// A disk of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name: `vda`.
    pub name: String,
    /// Its exact size in bytes.
    pub size: u64,
    /// Whether the server boots from it.
    pub bootable: bool,
    /// Bytes of its chunks.
    pub chunk_size: u32,
    /// Levels of page lists between `roots` and the pages: 0 or 1.
    pub levels: u8,
    /// Pages (level 0) or page lists (level 1), in order.
    pub roots: Vec<PageRef>,
    /// Sizes.
    pub statistics: Statistics,
}

impl Disk {
    /// Chunks and pages of this disk.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            size: self.size,
            chunk_size: self.chunk_size,
        }
    }
}

/// One backup: a resource at a point in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Kind of the resource.
    pub kind: ResourceKind,
    /// Name of the resource.
    pub name: String,
    /// Random id of the resource, the same in all its backups.
    pub resource_id: [u8; 16],
    /// The point, seconds since 1970.
    pub point: i64,
    /// When the backup began, seconds since 1970.
    pub started: i64,
    /// When it was committed, seconds since 1970.
    pub finished: i64,
    /// Whether the point was given by the user (`--at`).
    pub imported: bool,
    /// Point of the backup it was compared with.
    pub parent: Option<i64>,
    /// Consistency level.
    pub consistency: Consistency,
    /// What was backed up.
    pub content: Content,
    /// Facts about the server given by the user, JSON text.
    pub facts: Option<String>,
    /// Tags.
    pub tags: Tags,
    /// Tool and version that made the backup.
    pub tool: String,
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::legacy().with_limit::<MAX_MANIFEST>()
}

impl Manifest {
    /// Encodes the payload of a manifest object.
    ///
    /// # Errors
    /// `TooLarge` above [`MAX_MANIFEST`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let data =
            bincode::serde::encode_to_vec(self, configuration()).map_err(|_| Error::TooLarge { what: "manifest" })?;
        if data.len() > MAX_MANIFEST {
            Err(Error::TooLarge { what: "manifest" })
        } else {
            Ok(data)
        }
    }

    /// Decodes and checks a payload stored under `address`.
    ///
    /// # Errors
    /// `Corrupt` if it is not the canonical encoding of a valid manifest of that backup.
    pub fn decode(payload: &[u8], address: &Address) -> Result<Self> {
        let corrupt = |what: String| Error::Corrupt {
            object: format!("backups/{address}"),
            what,
        };
        let (manifest, used): (Self, usize) = bincode::serde::decode_from_slice(payload, configuration())
            .map_err(|error| corrupt(format!("its payload does not decode: {error}")))?;
        if used != payload.len() || manifest.encode()? != payload {
            return Err(corrupt("its encoding is not canonical".to_owned()));
        }
        if manifest.kind != address.resource.kind
            || manifest.name != address.resource.name
            || manifest.point != address.point.seconds()
        {
            return Err(corrupt("it describes another backup".to_owned()));
        }
        manifest.check().map_err(corrupt)?;
        Ok(manifest)
    }

    /// Checks every limit of the format.
    ///
    /// # Errors
    /// A sentence saying which is broken.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        tags::check(&self.tags)?;
        if self.facts.as_ref().is_some_and(|facts| facts.len() > MAX_FACTS) {
            return Err(format!("the server facts are larger than {MAX_FACTS} bytes"));
        }
        match &self.content {
            Content::Tree(tree) if self.kind == ResourceKind::Filesystem => tree.check(),
            Content::Disks(disks) if self.kind != ResourceKind::Filesystem => check_disks(disks),
            Content::Tree(_) | Content::Disks(_) => Err(format!("a {} does not hold that", self.kind.word())),
        }
    }

    /// The disks of the backup; none for a file system.
    #[must_use]
    pub fn disks(&self) -> &[Disk] {
        match &self.content {
            Content::Disks(disks) => disks,
            Content::Tree(_) => &[],
        }
    }

    /// The files of the backup of a file system.
    #[must_use]
    pub fn tree(&self) -> Option<&Tree> {
        match &self.content {
            Content::Tree(tree) => Some(tree),
            Content::Disks(_) => None,
        }
    }

    /// The disk called `name`.
    #[must_use]
    pub fn disk(&self, name: &str) -> Option<&Disk> {
        self.disks().iter().find(|disk| disk.name == name)
    }

    /// Where the backup is.
    ///
    /// # Errors
    /// `Corrupt` if name or point are out of range, which no checked manifest is.
    pub fn address(&self) -> Result<Address> {
        let corrupt = |what| Error::Corrupt {
            object: "manifest".to_owned(),
            what,
        };
        let point = Point::from_seconds(self.point).ok_or_else(|| corrupt("its point is out of range".to_owned()))?;
        Ok(ResourceName::new(self.kind, &self.name).map_err(corrupt)?.at(point))
    }

    /// Path of a disk's image below the backup's address: `disks/vda.img`, or `disk.img` for a disk resource.
    #[must_use]
    pub fn image_path(&self, disk: &Disk) -> String {
        match self.kind {
            ResourceKind::Disk => "disk.img".to_owned(),
            _ => format!("disks/{}.img", disk.name),
        }
    }

    /// Sizes of the whole backup.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        match &self.content {
            Content::Tree(tree) => tree.sizes(),
            Content::Disks(disks) => disks.iter().fold(Sizes::default(), |sum, disk| Sizes {
                logical: sum.logical.saturating_add(disk.size),
                data: sum.data.saturating_add(disk.statistics.data),
                new: sum.new.saturating_add(disk.statistics.new),
                stored: sum.stored.saturating_add(disk.statistics.stored),
            }),
        }
    }

    /// The backup for people and scripts: content of `backup.json`, and of `show --json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let point = |seconds| Point::from_seconds(seconds).map(|point| point.to_string());
        let facts = self
            .facts
            .as_deref()
            .and_then(|facts| serde_json::from_str::<serde_json::Value>(facts).ok());
        let disks: Vec<_> = self.disks().iter().map(|disk| self.disk_json(disk)).collect();
        let id = point(self.point).unwrap_or_default();
        let sizes = self.sizes();
        serde_json::json!({
            "address": format!("{}/{}/{id}", self.kind.dir(), self.name),
            "kind": self.kind.word(),
            "resource": self.name,
            "resource_id": crate::bytes::hex(&self.resource_id),
            "point": id,
            "time": rfc3339(self.point),
            "started": rfc3339(self.started),
            "finished": rfc3339(self.finished),
            "imported": self.imported,
            "parent": self.parent.and_then(point),
            "consistency": self.consistency.word(),
            "logical_bytes": sizes.logical,
            "data_bytes": sizes.data,
            "new_bytes": sizes.new,
            "stored_bytes": sizes.stored,
            "disks": disks,
            "tree": self.tree().map(Tree::to_json),
            "tags": self.tags,
            "facts": facts,
            "tool": self.tool,
        })
    }

    fn disk_json(&self, disk: &Disk) -> serde_json::Value {
        serde_json::json!({
            "name": disk.name,
            "image": self.image_path(disk),
            "bootable": disk.bootable,
            "chunk_size": disk.chunk_size,
            "logical_bytes": disk.size,
            "data_bytes": disk.statistics.data,
            "new_bytes": disk.statistics.new,
            "stored_bytes": disk.statistics.stored,
        })
    }
}

fn check_disks(disks: &[Disk]) -> Result<(), String> {
    if disks.is_empty() || disks.len() > MAX_DISKS {
        return Err(format!("{} disks: a backup has 1 to {MAX_DISKS}", disks.len()));
    }
    let mut names = HashSet::new();
    for disk in disks {
        disk.check()?;
        if !names.insert(disk.name.as_str()) {
            return Err(format!("two disks are called {}", disk.name));
        }
    }
    Ok(())
}

impl Disk {
    fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if !self.chunk_size.is_power_of_two() || !CHUNK_SIZES.contains(&self.chunk_size) {
            return Err(format!("disk {} has chunks of {} bytes", self.name, self.chunk_size));
        }
        let refs = self
            .layout()
            .root_refs(self.levels)
            .filter(|refs| *refs <= MAX_ROOT_REFS);
        if refs != Some(self.roots.len()) {
            return Err(format!("the map of disk {} does not fit its size", self.name));
        }
        if self.statistics.data > self.size {
            return Err(format!("disk {} has more data than bytes", self.name));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A manifest with every member filled in.
    pub(crate) fn sample() -> Manifest {
        let disk = |name: &str, bootable| Disk {
            name: name.to_owned(),
            size: (1 << 17) + 5,
            bootable,
            chunk_size: 1 << 17,
            levels: 0,
            roots: vec![PageRef {
                id: [5; 32],
                pack: [6; 16],
            }],
            statistics: Statistics {
                data: 7,
                new: 6,
                stored: 5,
            },
        };
        Manifest {
            kind: ResourceKind::Server,
            name: "web-01".to_owned(),
            resource_id: [1; 16],
            point: 1_795_143_600,
            started: 1_795_143_600,
            finished: 1_795_143_700,
            imported: false,
            parent: Some(1_795_140_000),
            consistency: Consistency::Crash,
            content: Content::Disks(vec![disk("vda", true), disk("vdb", false)]),
            facts: Some("{\"flavor\":\"s3.large\"}".to_owned()),
            tags: [("env".to_owned(), "prod".to_owned())].into(),
            tool: "vaultfs 0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_manifest_decodes_to_what_was_encoded_and_only_at_its_address() {
        let manifest = sample();
        let data = manifest.encode().unwrap();
        let address = manifest.address().unwrap();
        assert_eq!(Manifest::decode(&data, &address).unwrap(), manifest);
        let other = ResourceName::new(ResourceKind::Server, "web-02")
            .unwrap()
            .at(address.point);
        assert!(Manifest::decode(&data, &other).is_err());
        let mut longer = data.clone();
        longer.push(0);
        assert!(Manifest::decode(&longer, &address).is_err());
        for len in 0..data.len() {
            assert!(Manifest::decode(&data[..len], &address).is_err());
        }
    }

    #[test]
    fn hostile_lengths_are_refused_before_they_allocate() {
        let data = sample().encode().unwrap();
        let address = sample().address().unwrap();
        for at in 0..data.len().saturating_sub(8) {
            let mut bad = data.clone();
            bad[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
            let _ = Manifest::decode(&bad, &address);
        }
    }

    #[test]
    fn limits_of_the_format_are_checked() {
        let broken = |change: fn(&mut Manifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            manifest.check().is_err()
        };
        assert!(sample().check().is_ok());
        assert!(broken(|m| m.name = ".x".to_owned()));
        assert!(broken(|m| m.content = Content::Disks(Vec::new())));
        assert!(broken(
            |m| m.content = Content::Disks(vec![m.disks()[0].clone(), m.disks()[0].clone()])
        ));
        assert!(broken(|m| m.facts = Some("x".repeat(MAX_FACTS + 1))));
        let disk = |change: fn(&mut Disk)| {
            let mut manifest = sample();
            let mut disk = manifest.disks()[0].clone();
            change(&mut disk);
            manifest.content = Content::Disks(vec![disk]);
            manifest.check().is_err()
        };
        assert!(disk(|d| d.roots.push(PageRef::HOLE)));
        assert!(disk(|d| d.chunk_size = 3 << 16));
        assert!(disk(|d| d.size = u64::MAX));
        assert!(disk(|d| d.levels = 2));
        assert!(disk(|d| d.statistics.data = d.size + 1));
    }
}
