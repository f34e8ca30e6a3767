//! A tree over a file system made by hand, for tests of what stands above the tree.

use std::sync::Arc;

use super::contents::{Bytes, Contents, Shown};
use super::place::{Opened, Place, View};
use super::tests::{config, manifest, server};
use super::{Content, LinkTargets, Owner, Owners, Settings, Tree};
use crate::chunk::Reader;
use crate::fs::memory::Memory;
use crate::image::handle::ReadAhead;
use crate::image::{Error, ReadAt, Result};
use crate::store::memory::MemoryStore;
use crate::vault::{Address, Vault};
use crate::volume::Holds;

/// Where [`tree_over`] shows its file system: as the volume `vda1` and as `root`.
pub(crate) const AT: &str = "servers/web/1970-01-01T00-00-05Z";

/// A volume of which no byte can be read.
struct Broken;

impl ReadAt for Broken {
    fn len(&self) -> u64 {
        1 << 40
    }
    fn read_at(&self, offset: u64, _: &mut [u8]) -> Result<()> {
        let what = "chunk 0123 (disk vda)".to_owned();
        Err(Error::Corrupt { what, at: offset })
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        Ok(Some(offset))
    }
    fn next_hole(&self, _: u64) -> Result<u64> {
        Ok(self.len())
    }
}

/// A tree with one backup that holds `memory`; bytes that are not inline are damaged.
pub(crate) fn tree_over(memory: Memory) -> (Tree, Arc<Opened>) {
    let vault = Vault::create(Arc::new(MemoryStore::new()), config()).unwrap();
    let address: Address = server("web", 5);
    vault.commit(&manifest(&address, &[("vda", 1 << 20)])).unwrap();
    let reader = Reader::new(vault, 8 << 20);
    let content = Content {
        read_ahead: Arc::new(ReadAhead::of(&reader).unwrap()),
        reader,
    };
    let settings = Settings {
        owner: Owner { uid: 3, gid: 4 },
        owners: Owners::Image,
        link_targets: LinkTargets::AsStored,
        root_attributes: Vec::new(),
        mounted_at: 99,
    };
    let tree = Tree::open(content, settings).unwrap();
    let backup = tree.backup(&address).unwrap();
    let mut contents = Contents::load(&tree.content.reader, &address, &backup.manifest).unwrap();
    let opened = Arc::new(Opened::new(Arc::new(memory), Arc::new(Broken)));
    let place = |view| {
        let place = Place::new(&address, "vda1", view, opened.file_system.root());
        *place.opened.lock() = Arc::downgrade(&opened);
        Arc::new(place)
    };
    contents.volumes = vec![Shown {
        place: place(View::Volume),
        holds: Holds::Unknown,
        bytes: Bytes(Arc::new(Broken)),
    }];
    contents.mounts = vec![place(View::Mount(0))];
    assert!(backup.contents.set(Arc::new(contents)).is_ok());
    (tree, opened)
}
