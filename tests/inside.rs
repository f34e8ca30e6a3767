//! Files inside disk images through a live mount: `volumes/` and `root/` against the kernel's own mount of the same images.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod files;
mod mounted;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use files::{LoopMount, Tree, assert_same, run, tree_of_directory};
use mounted::{Rig, output, stderr};

const ROOT_UUID: &str = "11111111-2222-3333-4444-555555555555";
const DATA_UUID: &str = "99999999-8888-7777-6666-555555555555";
const FSTAB: &str = "\
# a server's own words
UUID=11111111-2222-3333-4444-555555555555 / ext4 errors=remount-ro 0 1
UUID=99999999-8888-7777-6666-555555555555 /srv/my\\040data ext4 defaults 0 2
/srv/my\\040data/deep /var/lib/bound none bind 0 0
UUID=dead-beef /mnt/lost ext4 nofail 0 0
nas:/export /mnt/nas nfs defaults 0 0
tmpfs /tmp tmpfs defaults 0 0
/dev/vda3 none swap sw 0 0
";

/// A server of two disks: GPT with an ext4 root and swap on `vda`, ext4 on the whole of `vdb`.
struct Server {
    rig: Rig,
    point: PathBuf,
}

impl Server {
    fn new(options: &str) -> Option<Self> {
        if !files::can_loop_mount() {
            return None;
        }
        let rig = Rig::new()?;
        let tree = rig.path("tree");
        make_root(&tree);
        let data = rig.path("data");
        make_data(&data);
        let (vda, vdb, part) = (rig.path("root.img"), rig.path("data.img"), rig.path("part.img"));
        make_ext4(&part, 30 << 20, ROOT_UUID, &tree);
        make_ext4(&vdb, 16 << 20, DATA_UUID, &data);
        let file = fs::File::create(&vda).unwrap();
        file.set_len(64 << 20).unwrap();
        let table = [
            "-o",
            "-n",
            "1:2048:+2M",
            "-t",
            "1:ef02",
            "-n",
            "2:8192:+30M",
            "-n",
            "3:0:+8M",
            "-t",
            "3:8200",
        ];
        let words: Vec<&str> = ["sgdisk"]
            .into_iter()
            .chain(table)
            .chain([vda.to_str().unwrap()])
            .collect();
        run(&words);
        let (from, to) = (format!("if={}", part.display()), format!("of={}", vda.display()));
        run(&["dd", &from, &to, "bs=1M", "seek=4", "conv=notrunc", "status=none"]);
        let disks = [("vda", &vda), ("vdb", &vdb)].map(|(name, path)| format!("{name}={}", path.display()));
        let vault = rig.vault();
        let words = [
            "backup",
            vault.to_str().unwrap(),
            "server",
            "app",
            "--disk",
            &disks[0],
            "--disk",
            &disks[1],
        ];
        let done = output(words);
        assert!(done.status.success(), "{}", stderr(&done));
        rig.mount(options);
        let point = rig.inside("servers/app/latest");
        Some(Self { rig, point })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.point.join(path)
    }

    fn description(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.at("backup.json")).unwrap()).unwrap()
    }
}

fn make_ext4(image: &Path, size: u64, uuid: &str, tree: &Path) {
    fs::File::create(image).unwrap().set_len(size).unwrap();
    let (image, tree) = (image.to_str().unwrap(), tree.to_str().unwrap());
    run(&[
        "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-U", uuid, "-d", tree, image,
    ]);
}

fn make_root(tree: &Path) {
    for dir in ["etc", "srv/my data", "var/lib/bound", "mnt/lost", "mnt/nas", "usr/bin"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    fs::write(tree.join("etc/fstab"), FSTAB).unwrap();
    fs::write(tree.join("etc/hostname"), "app\n").unwrap();
    fs::write(tree.join("srv/my data/covered"), "seen only where nothing is mounted").unwrap();
    fs::write(tree.join("usr/bin/tool"), mounted::noise(3_000_001, 5)).unwrap();
    fs::hard_link(tree.join("usr/bin/tool"), tree.join("usr/bin/tool2")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", tree.join("usr/absolute")).unwrap();
    std::os::unix::fs::symlink("../etc/hostname", tree.join("usr/relative")).unwrap();
    run(&["mkfifo", tree.join("usr/fifo").to_str().unwrap()]);
    run(&["mknod", tree.join("usr/null").to_str().unwrap(), "c", "1", "3"]);
    run(&["chown", "1234:4321", tree.join("etc/hostname").to_str().unwrap()]);
    run(&["chmod", "4711", tree.join("usr/bin/tool").to_str().unwrap()]);
    run(&[
        "setfattr",
        "-n",
        "user.origin",
        "-v",
        "test",
        tree.join("etc/hostname").to_str().unwrap(),
    ]);
    run(&["setfacl", "-m", "u:77:rw", tree.join("etc/hostname").to_str().unwrap()]);
    let sparse = fs::File::create(tree.join("usr/sparse")).unwrap();
    sparse.set_len(100 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 50 << 20).unwrap();
}

fn make_data(data: &Path) {
    fs::create_dir_all(data.join("deep/er")).unwrap();
    fs::write(data.join("deep/file"), mounted::noise(200_000, 9)).unwrap();
    for number in 0..2000 {
        fs::write(
            data.join(format!("deep/er/{number:04}")),
            format!("{number}\n").repeat(number % 50),
        )
        .unwrap();
    }
}

/// Times of access differ: the kernel writes them, we do not.
fn without_access(mut tree: Tree) -> Tree {
    for facts in tree.values_mut() {
        facts.accessed = facts.modified;
    }
    tree
}

#[test]
fn volumes_are_what_the_kernel_shows_of_them() {
    let Some(server) = Server::new("") else { return };
    for (volume, image) in [("vda2", "part.img"), ("vdb", "data.img")] {
        let kernels = LoopMount::new(&server.rig.path(image), "ro,noload");
        let ours = without_access(tree_of_directory(&server.at("volumes").join(volume)));
        assert_same(&ours, &without_access(tree_of_directory(kernels.path())), volume);
    }
    let names: Vec<_> = fs::read_dir(server.at("volumes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["vda2", "vdb"]);
}

#[test]
fn root_is_put_together_by_the_servers_fstab() {
    let Some(server) = Server::new("") else { return };
    assert_eq!(fs::read_to_string(server.at("root/etc/hostname")).unwrap(), "app\n");
    let covered = fs::read_dir(server.at("root/srv/my data")).unwrap();
    let mut names: Vec<_> = covered.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["deep", "lost+found"]);
    assert!(server.at("volumes/vda2/srv/my data/covered").exists());
    let (file, bound) = (
        server.at("root/srv/my data/deep/file"),
        server.at("root/var/lib/bound/file"),
    );
    assert_eq!(fs::read(file).unwrap(), fs::read(bound).unwrap());
    let ours = without_access(tree_of_directory(&server.at("root/var/lib/bound")));
    assert_same(
        &ours,
        &without_access(tree_of_directory(&server.at("volumes/vdb/deep"))),
        "the bind mount",
    );
}

#[test]
fn what_is_not_shown_is_told_in_backup_json() {
    let Some(server) = Server::new("") else { return };
    let description = server.description();
    let missing: Vec<&str> = description["root"]["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    assert_eq!(missing, ["/mnt/lost", "/mnt/nas"]);
    let holds: Vec<(&str, &str)> = description["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| (volume["name"].as_str().unwrap(), volume["holds"].as_str().unwrap()))
        .collect();
    assert_eq!(
        holds,
        [
            ("vda1", "nothing"),
            ("vda2", "ext"),
            ("vda3", "nothing"),
            ("vdb", "ext")
        ]
    );
    let shown = output([
        "show",
        server.rig.vault().to_str().unwrap(),
        "servers/app/latest",
        "--json",
    ]);
    assert_eq!(shown.stdout, fs::read(server.at("backup.json")).unwrap());
}

#[test]
fn a_disk_without_any_file_system_is_shown_with_its_image_alone() {
    let Some(server) = Server::new("") else { return };
    // A disk without any table or file system is described, and its point is listed.
    let names: Vec<_> = fs::read_dir(server.rig.inside("servers/web/latest"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["backup.json", "disks", "volumes"]);
    assert_eq!(
        fs::read_dir(server.rig.inside("servers/web/latest/volumes"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn inode_numbers_inside_images_survive_a_remount() {
    let Some(server) = Server::new("") else { return };
    let numbers = || {
        [
            "root",
            "root/usr/bin/tool",
            "volumes/vda2/usr/bin/tool",
            "volumes",
            "root/srv/my data",
        ]
        .map(|path| fs::metadata(server.at(path)).unwrap().ino())
    };
    let before = numbers();
    assert!(server.rig.umount(&[]).status.success());
    server.rig.mount("");
    assert_eq!(numbers(), before);
    let hard = ["root/usr/bin/tool", "root/usr/bin/tool2"].map(|path| fs::metadata(server.at(path)).unwrap());
    assert_eq!((hard[0].ino(), hard[0].nlink()), (hard[1].ino(), 2));
}

#[test]
fn owners_can_be_the_images_the_mounting_users_or_any() {
    for (options, wanted) in [
        ("", (1234, 4321)),
        ("owner=image", (1234, 4321)),
        (
            "owner=me",
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        ),
        ("owner=5:6", (5, 6)),
    ] {
        let Some(server) = Server::new(options) else { return };
        let file = fs::metadata(server.at("root/etc/hostname")).unwrap();
        assert_eq!((file.uid(), file.gid()), wanted, "{options}");
    }
}

#[test]
fn absolute_links_lead_into_the_backup_if_asked() {
    let Some(server) = Server::new("links=inside") else {
        return;
    };
    for path in ["root/usr/absolute", "root/usr/relative", "volumes/vda2/usr/absolute"] {
        assert_eq!(fs::read_to_string(server.at(path)).unwrap(), "app\n", "{path}");
    }
    assert!(server.rig.umount(&[]).status.success());
    server.rig.mount("");
    assert_eq!(
        fs::read_link(server.at("root/usr/absolute")).unwrap(),
        Path::new("/etc/hostname")
    );
}

#[test]
fn with_allow_other_modes_and_acls_of_the_image_bind_other_users() {
    let Some(server) = Server::new("allow_other") else {
        return;
    };
    let path = server.at("root/etc/hostname");
    run(&["setpriv", "--version"]);
    let read_as = |user: &str| {
        let words = ["--reuid", user, "--regid", user, "--clear-groups", "cat"];
        let done = std::process::Command::new("setpriv")
            .args(words)
            .arg(&path)
            .output()
            .unwrap();
        done.status.success()
    };
    // 0644 with an entry for user 77: everybody reads; a file of 0600 nobody else.
    assert!(read_as("1234") && read_as("77") && read_as("5"));
    let image = server.at("disks/vda.img");
    let words = ["--reuid", "5", "--regid", "5", "--clear-groups", "head", "-c1"];
    let done = std::process::Command::new("setpriv")
        .args(words)
        .arg(&image)
        .output()
        .unwrap();
    assert!(!done.status.success(), "an image is the owner's alone");
}

#[test]
fn holes_of_a_file_inside_an_image_cost_nothing() {
    let Some(server) = Server::new("") else { return };
    let path = server.at("root/usr/sparse");
    let metadata = fs::metadata(&path).unwrap();
    assert!(
        metadata.len() == 100 << 20 && metadata.blocks() <= 16,
        "{}",
        metadata.blocks()
    );
    let file = fs::File::open(&path).unwrap();
    use rustix::fs::SeekFrom;
    assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(0)).unwrap(), 50 << 20);
    assert_eq!(
        rustix::fs::seek(&file, SeekFrom::Hole(50 << 20)).unwrap(),
        (50 << 20) + 4096
    );
    let copy = server.rig.path("copy");
    run(&["cp", "--sparse=auto", path.to_str().unwrap(), copy.to_str().unwrap()]);
    assert!(fs::metadata(&copy).unwrap().blocks() <= 16);
    assert_eq!(
        fs::read(&copy).unwrap(),
        fs::read(server.rig.path("tree/usr/sparse")).unwrap()
    );
}
