//! Paths and links over a file system made by hand.

use super::*;
use crate::fs::memory::Memory;
use crate::tree::fake::{AT, tree_over};

/// The path that `path` leads to, without links; or the error's text.
fn found(tree: &Tree, path: &str, last: LastLink) -> Result<String, String> {
    let found = tree.resolve(path.as_bytes(), last).map_err(|error| error.to_string())?;
    Ok(shown(&found.names).replace(AT, "@"))
}

fn sample() -> Memory {
    let mut memory = Memory::new();
    let root = crate::fs::Inode(1);
    let etc = memory.directory(root, b"etc");
    memory.file(etc, b"passwd", b"root");
    memory.link(root, b"absolute", b"/etc/passwd");
    memory.link(etc, b"relative", b"../etc/./passwd");
    memory.link(etc, b"out", b"../../../../../../../etc/passwd");
    memory.link(root, b"dir", b"etc/");
    memory.link(root, b"loop", b"/loop");
    memory.link(root, b"gone", b"etc/shadow");
    memory.link(root, b"up", b"..");
    memory
}

#[test]
fn links_lead_to_files_of_their_own_tree_only() {
    let (tree, _open) = tree_over(sample());
    for view in ["root", "volumes/vda1"] {
        let at = format!("{AT}/{view}");
        for (path, wanted) in [
            ("etc/passwd", "etc/passwd"),
            ("absolute", "etc/passwd"),
            ("etc/relative", "etc/passwd"),
            ("etc/out", "etc/passwd"),
            ("dir/../etc//passwd", "etc/passwd"),
            ("up/up/dir", "etc"),
            ("../../../../etc", "etc"),
        ] {
            let wanted = format!("@/{view}/{wanted}");
            assert_eq!(
                found(&tree, &format!("{at}/{path}"), LastLink::Follow),
                Ok(wanted),
                "{path}"
            );
        }
    }
}

#[test]
fn the_last_link_is_followed_only_when_asked_or_before_a_slash() {
    let (tree, _open) = tree_over(sample());
    let at = format!("{AT}/root");
    assert_eq!(
        found(&tree, &format!("{at}/dir"), LastLink::Keep),
        Ok("@/root/dir".into())
    );
    assert_eq!(
        found(&tree, &format!("{at}/dir/"), LastLink::Keep),
        Ok("@/root/etc".into())
    );
    assert_eq!(found(&tree, "servers/web/latest", LastLink::Keep), Ok("@".into()));
    assert_eq!(
        found(&tree, "//servers/web/latest//root/", LastLink::Keep),
        Ok("@/root".into())
    );
    assert_eq!(found(&tree, "", LastLink::Follow), Ok(String::new()));
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let (tree, _open) = tree_over(sample());
    for (path, part) in [
        (
            "server",
            "there is no server in the vault; it has disks, filesystems, servers",
        ),
        ("servers/db/latest", "there is no db in servers; it has web"),
        ("disks/db", "there is no db in disks; it is empty"),
        ("servers/web/latest/volume", "it has backup.json, disks, root, volumes"),
        ("servers/web/latest/root/etc/shadow", "it has passwd, relative, out"),
        ("servers/web/latest/root/gone", "there is no shadow in"),
        (
            "servers/web/latest/root/etc/passwd/x",
            "passwd is a regular file, not a directory",
        ),
        (
            "servers/web/latest/root/absolute/",
            "passwd is a regular file, not a directory",
        ),
        ("servers/web/latest/root/loop", "more than 40 symbolic links"),
    ] {
        let error = found(&tree, path, LastLink::Follow).unwrap_err();
        assert!(error.contains(part), "{path}: {error}");
    }
}

#[test]
fn no_reference_is_left_behind() {
    let (tree, _open) = tree_over(sample());
    let file = tree
        .resolve(format!("{AT}/root/etc/relative").as_bytes(), LastLink::Follow)
        .unwrap();
    let ino = file.held.ino();
    assert!(tree.attributes(ino).is_ok());
    drop(file);
    assert!(matches!(tree.attributes(ino), Err(TreeError::Stale { .. })));
    let root = tree
        .resolve(format!("{AT}/root").as_bytes(), LastLink::Follow)
        .unwrap()
        .held
        .ino();
    assert!(matches!(tree.attributes(root), Err(TreeError::Stale { .. })));
}
