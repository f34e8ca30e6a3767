//! The tree over a vault in memory.

use std::sync::Arc;

use super::*;
use crate::fs::stored;
use crate::store::memory::MemoryStore;
use crate::store::record::{Call, RecordingStore};
use crate::store::{Key, Store};
use crate::vault::map::PageRef;
use crate::vault::{Config, Content as Disks, Disk, Features, Manifest, ResourceKind, Vault};

const SIZE: u64 = (1 << 20) + 5;

pub(crate) fn server(name: &str, seconds: i64) -> Address {
    address(ResourceKind::Server, name, seconds)
}

pub(crate) fn disk(name: &str, seconds: i64) -> Address {
    address(ResourceKind::Disk, name, seconds)
}

fn address(kind: ResourceKind, name: &str, seconds: i64) -> Address {
    let point = Point::from_seconds(seconds).unwrap();
    ResourceName::new(kind, name).unwrap().at(point)
}

/// A manifest whose disks are all holes.
pub(crate) fn manifest(address: &Address, disks: &[(&str, u64)]) -> Manifest {
    let mut manifest = vault::manifest::tests::sample();
    manifest.kind = address.resource.kind;
    manifest.name = address.resource.name.clone();
    manifest.point = address.point.seconds();
    let disk = |(name, size): &(&str, u64)| {
        let mut disk = Disk {
            size: *size,
            name: (*name).to_owned(),
            ..manifest.disks()[0].clone()
        };
        disk.statistics.data = size / 2;
        let pages = disk.layout().root_refs(0).unwrap();
        disk.roots = vec![PageRef::HOLE; pages];
        disk
    };
    manifest.content = Disks::Disks(disks.iter().map(disk).collect());
    manifest
}

pub(crate) fn config() -> Config {
    Config {
        id: [7; 16],
        name: "test".into(),
        chunk_size: 1 << 17,
        tags: crate::vault::tags::Tags::default(),
        features: Features::default(),
        created: 0,
    }
}

struct Rig {
    store: Arc<RecordingStore<MemoryStore>>,
    vault: Vault,
}

impl Rig {
    fn new() -> Self {
        let store = Arc::new(RecordingStore::new(MemoryStore::new()));
        let vault = Vault::create(Arc::<RecordingStore<MemoryStore>>::clone(&store), config()).unwrap();
        Self { store, vault }
    }

    fn with(addresses: &[Address]) -> Self {
        let rig = Self::new();
        for address in addresses {
            rig.commit(address);
        }
        rig
    }

    fn commit(&self, address: &Address) {
        let disks: &[_] = match address.resource.kind {
            ResourceKind::Disk => &[("data", SIZE)],
            _ => &[("vdb", 512), ("vda", SIZE)],
        };
        self.vault.commit(&manifest(address, disks)).unwrap();
    }

    fn delete(&self, address: &Address) {
        self.store
            .delete(&Key::new(format!("backups/{address}")).unwrap())
            .unwrap();
    }

    /// Commits the files of [`stored::tests::sample`].
    fn commit_files(&self, address: &Address) {
        let mut manifest = manifest(address, &[]);
        manifest.content = Disks::Tree(stored::tests::sample().store(&self.vault, 4));
        self.vault.commit(&manifest).unwrap();
    }

    fn tree(&self) -> Tree {
        self.tree_with(LinkTargets::AsStored)
    }

    fn tree_with(&self, link_targets: LinkTargets) -> Tree {
        let reader = Reader::new(self.vault.clone(), 8 << 20);
        let content = Content {
            read_ahead: Arc::new(ReadAhead::of(&reader).unwrap()),
            reader,
        };
        let settings = Settings {
            owner: Owner { uid: 3, gid: 4 },
            owners: Owners::Image,
            link_targets,
            root_attributes: vec![("user.vaultfs.daemon".into(), b"1 2".to_vec())],
            mounted_at: 99,
        };
        Tree::open(content, settings).unwrap()
    }

    fn gets(&self) -> usize {
        let calls = self.store.take_calls();
        calls.iter().filter(|call| !matches!(call, Call::List(_))).count()
    }
}

fn walk(tree: &Tree, path: &str) -> Ino {
    path.split('/')
        .filter(|name| !name.is_empty())
        .fold(Ino::ROOT, |ino, name| {
            match tree.lookup(ino, name.as_bytes()).unwrap() {
                Found::Here(entry) => entry.attributes.ino,
                Found::Missing(_) => panic!("{name} of {path} is missing"),
            }
        })
}

fn names(tree: &Tree, path: &str) -> Vec<String> {
    let nodes = nodes(tree, walk(tree, path)).unwrap();
    nodes.into_iter().map(|(name, _)| name).collect()
}

fn nodes(tree: &Tree, directory: Ino) -> Result<Vec<(String, Node)>, Error> {
    let directory = tree.open_directory(directory)?;
    let mut nodes = Vec::new();
    tree.visit(&directory, 0, &mut |listed| {
        nodes.push((String::from_utf8(listed.name.to_vec()).unwrap(), listed.node));
        true
    })?;
    Ok(nodes)
}

#[test]
fn the_hierarchy_is_servers_and_disks_points_and_images() {
    let (one, two) = (server("web-01", 1_795_143_600), disk("db", 1_795_143_601));
    let tree = Rig::with(&[one.clone(), two.clone(), server("web-01", 0)]).tree();
    assert_eq!(names(&tree, ""), ["disks", "filesystems", "servers"]);
    assert_eq!(names(&tree, "servers"), ["web-01"]);
    assert_eq!(
        names(&tree, "servers/web-01"),
        ["1970-01-01T00-00-00Z", "2026-11-20T03-00-00Z", "latest"]
    );
    assert_eq!(names(&tree, &one.to_string()), ["backup.json", "disks", "volumes"]);
    assert_eq!(names(&tree, &format!("{one}/disks")), ["vda.img", "vdb.img"]);
    assert_eq!(names(&tree, &two.to_string()), ["backup.json", "disk.img", "volumes"]);
    let link = walk(&tree, "servers/web-01/latest");
    assert_eq!(tree.link_target(link).unwrap(), b"2026-11-20T03-00-00Z");
}

#[test]
fn an_empty_vault_shows_both_directories() {
    let tree = Rig::new().tree();
    assert_eq!(names(&tree, ""), ["disks", "filesystems", "servers"]);
    assert!(names(&tree, "disks").is_empty());
    assert_eq!(tree.attributes(Ino::ROOT).unwrap().0.modified.seconds, 99);
}

#[test]
fn listing_down_to_the_points_reads_no_manifest() {
    let rig = Rig::with(&[server("a", 1), server("a", 2), disk("b", 3)]);
    let tree = rig.tree();
    rig.gets();
    for path in ["", "servers", "disks", "servers/a"] {
        for (_, node) in nodes(&tree, walk(&tree, path)).unwrap() {
            tree.enter(&node).unwrap();
        }
    }
    assert_eq!(rig.gets(), 0);
    let image = format!("{}/disks/vda.img", server("a", 2));
    walk(&tree, &image);
    walk(&tree, &image);
    assert_eq!(rig.gets(), 1, "one manifest, once");
}

#[test]
fn what_is_not_there_is_missing_for_as_long_as_its_directory_lasts() {
    let point = server("a", 1);
    let tree = Rig::with(std::slice::from_ref(&point)).tree();
    for (path, name, lasting) in [
        ("", "a", Lasting::Shortly),
        ("servers", "b", Lasting::Shortly),
        ("servers/a", "1970-01-01T00-00-02Z", Lasting::Shortly),
        ("servers/a", "1970-1-1T0-0-1Z", Lasting::Shortly),
        (&point.to_string(), "disk.img", Lasting::Forever),
        (&format!("{point}/disks"), "vda", Lasting::Forever),
    ] {
        let parent = walk(&tree, path);
        assert_eq!(
            tree.lookup(parent, name.as_bytes()).unwrap(),
            Found::Missing(lasting),
            "{path}/{name}"
        );
    }
    let file = walk(&tree, &format!("{point}/backup.json"));
    assert!(matches!(
        tree.lookup(file, b"x"),
        Err(Error::WrongType {
            wanted: FileType::Directory,
            ..
        })
    ));
}

#[test]
fn attributes_are_exact() {
    let point = server("a", 1_795_143_600);
    let tree = Rig::with(std::slice::from_ref(&point)).tree();
    let image = tree
        .attributes(walk(&tree, &format!("{point}/disks/vda.img")))
        .unwrap()
        .0;
    assert_eq!((image.size_bytes, image.blocks, image.mode), (SIZE, 1025, 0o440));
    assert_eq!(
        (image.modified.seconds, image.links, image.owner),
        (1_795_143_600, 1, Owner { uid: 3, gid: 4 })
    );
    let json = walk(&tree, &format!("{point}/backup.json"));
    let file = tree.open_file(json).unwrap();
    assert_eq!(tree.attributes(json).unwrap().0.size_bytes, file.size_bytes());
    assert!(file.read(0, 1 << 20).unwrap().starts_with(b"{\n"));
    assert!(file.read(file.size_bytes(), 10).unwrap().is_empty());
    let root = tree.attributes(Ino::ROOT).unwrap().0;
    assert_eq!((root.links, root.modified.seconds), (5, 1_795_143_600));
    assert_eq!(
        tree.attributes(walk(&tree, "servers/a/latest")).unwrap().0.size_bytes,
        20
    );
}

#[test]
fn extended_attributes_tell_of_the_backup() {
    let point = disk("db", 5);
    let tree = Rig::with(std::slice::from_ref(&point)).tree();
    let image = walk(&tree, &format!("{point}/disk.img"));
    let names = tree.xattr_names(image).unwrap();
    let values = names.iter().map(|name| {
        let value = tree.xattr(image, name).unwrap();
        format!(
            "{}={}",
            String::from_utf8_lossy(name).trim_start_matches("user.vaultfs."),
            String::from_utf8(value).unwrap()
        )
    });
    assert_eq!(
        values.collect::<Vec<_>>(),
        [
            "address=disks/db/1970-01-01T00-00-05Z",
            "chunk_size=131072",
            "consistency=crash",
            "data_bytes=524290",
            "logical_bytes=1048581"
        ]
    );
    assert!(matches!(
        tree.xattr(image, b"security.selinux"),
        Err(Error::NoAttribute)
    ));
    assert_eq!(tree.xattr(Ino::ROOT, b"user.vaultfs.daemon").unwrap(), b"1 2");
    assert!(tree.xattr_names(Ino::ROOT).unwrap().is_empty());
}

#[test]
fn space_is_the_newest_backup_of_each_resource() {
    let rig = Rig::with(&[server("a", 1), server("a", 2), disk("b", 3)]);
    let tree = rig.tree();
    rig.gets();
    let wanted = Space {
        logical_bytes: 2 * SIZE + 512,
        backups: 3,
    };
    assert_eq!(tree.space(), wanted);
    assert_eq!(rig.gets(), 2);
    assert_eq!(tree.space(), wanted);
    assert_eq!(rig.gets(), 0, "sizes are remembered");
}

#[test]
fn new_backups_appear_and_deleted_ones_go() {
    let (old, new) = (server("a", 1), server("a", 2));
    let rig = Rig::with(std::slice::from_ref(&old));
    let tree = rig.tree();
    let image = walk(&tree, &format!("{old}/disks/vda.img"));
    let open = tree.open_file(image).unwrap();
    rig.commit(&new);
    rig.delete(&old);
    assert!(!tree.refresh().unwrap().is_empty());
    assert_eq!(names(&tree, "servers/a"), [new.point.to_string(), "latest".into()]);
    assert_eq!(
        tree.link_target(walk(&tree, "servers/a/latest")).unwrap(),
        new.point.to_string().into_bytes()
    );
    assert!(
        matches!(tree.attributes(image), Err(Error::Gone { .. })),
        "the backup is gone"
    );
    assert_eq!(open.read(0, 10).unwrap().len(), 10, "who reads it goes on reading");
    assert!(tree.refresh().unwrap().is_empty());
}

#[test]
fn a_damaged_manifest_hides_nothing_but_its_own_point() {
    let (bad, good) = (server("a", 1), server("a", 2));
    let rig = Rig::with(&[bad.clone(), good.clone()]);
    let key = Key::new(format!("backups/{bad}")).unwrap();
    rig.store.delete(&key).unwrap();
    rig.store.put_new(&key, b"garbage").unwrap();
    let tree = rig.tree();
    assert_eq!(names(&tree, "servers/a").len(), 3);
    assert!(matches!(
        nodes(&tree, walk(&tree, &format!("{bad}/disks"))),
        Err(Error::Vault { .. })
    ));
    walk(&tree, &format!("{good}/disks/vda.img"));
}

#[test]
fn inode_numbers_are_the_same_in_every_mount() {
    let point = server("a", 1);
    let path = format!("{point}/disks/vda.img");
    let rig = Rig::with(std::slice::from_ref(&point));
    assert_eq!(walk(&rig.tree(), &path), walk(&rig.tree(), &path));
}

#[test]
fn a_file_system_is_shown_as_its_files() {
    let point = address(ResourceKind::Filesystem, "home", 5);
    let rig = Rig::new();
    rig.commit_files(&point);
    let tree = rig.tree();
    assert_eq!(names(&tree, "filesystems"), ["home"]);
    assert_eq!(names(&tree, &point.to_string()), ["backup.json", "tree"]);
    assert_eq!(names(&tree, &format!("{point}/tree")), ["a", "b", "d", "l"]);
    let at = |path: &str| walk(&tree, &format!("{point}/tree/{path}"));
    assert_eq!(at("a"), at("d/again"), "a hard link is one file");
    let text = tree.open_file(at("a")).unwrap();
    assert_eq!(*text.read(0, 100).unwrap(), *b"hello");
    let pieces = tree.open_file(at("b")).unwrap();
    assert_eq!(pieces.read(5000, 6000).unwrap().len(), 6000);
    assert_eq!(pieces.next_data(0).unwrap(), Some(5000));
    assert_eq!(
        tree.xattr(at("b"), b"user.origin").unwrap(),
        b"https://example.org".to_vec()
    );
    let attributes = tree.attributes(at("")).unwrap().0;
    assert_eq!((attributes.mode, attributes.owner.uid), (0o755, 1000));
    assert_eq!(tree.space().logical_bytes, 1 << 20);
    assert_eq!(
        at("d"),
        walk(&rig.tree(), &format!("{point}/tree/d")),
        "as in every mount"
    );
    let json = tree.open_file(walk(&tree, &format!("{point}/backup.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.read(0, 1 << 20).unwrap()).unwrap();
    assert_eq!(
        (&json["tree"]["source"], &json["tree"]["unread"]),
        (&"/srv/data".into(), &2.into())
    );
    assert!(matches!(
        tree.lookup(walk(&tree, &point.to_string()), b"volumes"),
        Ok(Found::Missing(_))
    ));
}

#[test]
fn absolute_links_of_a_file_system_lead_into_its_tree() {
    let point = address(ResourceKind::Filesystem, "home", 5);
    let rig = Rig::new();
    let mut files = stored::tests::sample();
    files.link(1, b"etc", 9, b"/d/again");
    let mut described = manifest(&point, &[]);
    described.content = Disks::Tree(files.store(&rig.vault, 4));
    rig.vault.commit(&described).unwrap();
    let tree = rig.tree_with(LinkTargets::Within(b"/mnt".to_vec()));
    let target = |name: &str| tree.link_target(walk(&tree, &format!("{point}/tree/{name}"))).unwrap();
    assert_eq!(target("etc"), format!("/mnt/{point}/tree/d/again").into_bytes());
    assert_eq!(target("l"), b"b/c");
}
