//! One entry of a listing: as a line of `ls -l`, as a JSON object.

use super::super::super::output;
use crate::clock::{full_time, rfc3339_nanos};
use crate::fs::{FileType, Timestamp, Xattr};
use crate::tree::Attributes;
use crate::tree::held::{Held, Part};
use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// Everything that is told of a file.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    path: Vec<u8>,
    attributes: Attributes,
    target: Option<Vec<u8>>,
    xattrs: Vec<Xattr>,
    part: Part,
}

impl Entry {
    /// Asks the tree for it; the error names the path.
    pub(super) fn new(name: &[u8], path: &[u8], held: &Held<'_>) -> anyhow::Result<Self> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        let is_link = held.attributes.file_type == FileType::Symlink;
        Ok(Self {
            name: name.to_vec(),
            path: path.to_vec(),
            attributes: held.attributes,
            target: is_link.then(|| held.link_target()).transpose().with_context(shown)?,
            xattrs: held.xattrs().with_context(shown)?,
            part: held.part(),
        })
    }

    /// The object of `ls --json`. Bytes that are no text are given in hexadecimal besides: `name_hex`, `target_hex`.
    pub(super) fn json(&self) -> Value {
        let attributes = &self.attributes;
        let mut object = Map::new();
        output::bytes(&mut object, "name", &self.name);
        output::bytes(&mut object, "path", &self.path);
        let time = |time: Timestamp| json!(rfc3339_nanos(time.seconds, time.nanos));
        // The tree gives 1970 where the file system keeps no time of creation.
        let created = Some(attributes.created).filter(|created| *created != Timestamp::default());
        let xattrs: Vec<Value> = self.xattrs.iter().map(xattr).collect();
        let fields = json!({
            "type": word(attributes.file_type),
            "mode": format!("{:04o}", attributes.mode),
            "uid": attributes.owner.uid,
            "gid": attributes.owner.gid,
            "size": attributes.size_bytes,
            "blocks_bytes": attributes.blocks.saturating_mul(512),
            "links": attributes.links,
            "mtime": time(attributes.modified),
            "atime": time(attributes.accessed),
            "ctime": time(attributes.changed),
            "btime": created.map(time),
            "xattrs": xattrs,
        });
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        if let Some(target) = &self.target {
            output::bytes(&mut object, "target", target);
        }
        if is_device(attributes) {
            let device = json!({ "major": attributes.device.major, "minor": attributes.device.minor });
            object.insert("device".into(), device);
        }
        Value::Object(object)
    }

    fn cells(&self) -> [String; 6] {
        let attributes = &self.attributes;
        let size = if is_device(attributes) {
            format!("{}, {}", attributes.device.major, attributes.device.minor)
        } else {
            attributes.size_bytes.to_string()
        };
        let modified = attributes.modified;
        [
            mode(attributes) + if self.has_acl() { "+" } else { "" },
            attributes.links.to_string(),
            attributes.owner.uid.to_string(),
            attributes.owner.gid.to_string(),
            size,
            full_time(modified.seconds, modified.nanos),
        ]
    }

    fn has_acl(&self) -> bool {
        let mut names = self.xattrs.iter().map(|(name, _)| name.as_slice());
        self.part == Part::Inside && names.any(|name| name.starts_with(b"system.posix_acl_"))
    }
}

/// Lines of `ls -l --full-time -n`, columns lined up; `show` makes names fit for where they go.
pub(super) fn long(entries: &[Entry], show: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let rows: Vec<[String; 6]> = entries.iter().map(Entry::cells).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut out = Vec::new();
    for (entry, row) in entries.iter().zip(&rows) {
        for ((cell, width), column) in row.iter().zip(widths).zip(0_u8..) {
            let padded = if column == 0 {
                format!("{cell:<width$} ")
            } else {
                format!("{cell:>width$} ")
            };
            out.extend(padded.into_bytes());
        }
        out.extend(show(&entry.name));
        if let Some(target) = &entry.target {
            out.extend(b" -> ");
            out.extend(show(target));
        }
        out.push(b'\n');
    }
    out
}

/// `-rwsr-xr-t` and so on.
fn mode(attributes: &Attributes) -> String {
    let letter = match attributes.file_type {
        FileType::File => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::CharDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
    };
    let bits = attributes.mode;
    let mut text = String::from(letter);
    for (shift, special, marks) in [
        (6, 0o4000, ('s', 'S')),
        (3, 0o2000, ('s', 'S')),
        (0, 0o1000, ('t', 'T')),
    ] {
        let set = |bit: u16| bits >> shift & bit != 0;
        text.push(if set(4) { 'r' } else { '-' });
        text.push(if set(2) { 'w' } else { '-' });
        text.push(match (set(1), bits & special != 0) {
            (true, true) => marks.0,
            (false, true) => marks.1,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn is_device(attributes: &Attributes) -> bool {
    matches!(attributes.file_type, FileType::CharDevice | FileType::BlockDevice)
}

fn word(file_type: FileType) -> &'static str {
    match file_type {
        FileType::File => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::CharDevice => "char_device",
        FileType::BlockDevice => "block_device",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    }
}

/// An attribute: its value as text if it is printable text, else in hexadecimal.
fn xattr((name, value): &Xattr) -> Value {
    let mut object = Map::new();
    output::bytes(&mut object, "name", name);
    match std::str::from_utf8(value) {
        Ok(value) if !value.chars().any(char::is_control) => object.insert("value".into(), json!(value)),
        _ => object.insert("value_hex".into(), json!(crate::bytes::hex(value))),
    };
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Inode;
    use crate::fs::memory::Memory;
    use crate::tree::fake::{AT, tree_over};
    use crate::tree::resolve::LastLink;

    fn entry(name: &[u8], change: impl FnOnce(&mut Memory, Inode)) -> Entry {
        let mut memory = Memory::new();
        let inode = memory.file(Inode(1), name, b"0123456789");
        change(&mut memory, inode);
        let (tree, _open) = tree_over(memory);
        let path = [AT.as_bytes(), b"root", name].join(&b'/');
        let found = tree.resolve(&path, LastLink::Keep).unwrap();
        Entry::new(name, &path, &found.held).unwrap()
    }

    #[test]
    fn a_long_line_is_that_of_ls() {
        let line = |entry: Entry| String::from_utf8(long(&[entry], <[u8]>::to_vec)).unwrap();
        let plain = entry(b"a", |_, _| {});
        assert_eq!(
            line(plain),
            "-rw-r--r-- 1 0 0 10 2004-11-09 11:33:20.123456789 +0000 a\n"
        );
        for (permissions, wanted) in [(0o7777, "-rwsrwsrwt"), (0o7000, "---S--S--T"), (0o4640, "-rwSr-----")] {
            let entry = entry(b"a", |memory, inode| memory.edit(inode).attr.permissions = permissions);
            assert!(line(entry).starts_with(wanted), "{permissions:o}");
        }
        let device = entry(b"null", |memory, inode| {
            let attr = &mut memory.edit(inode).attr;
            attr.file_type = FileType::CharDevice;
            attr.device = crate::fs::DeviceNumber { major: 1, minor: 3 };
        });
        assert!(line(device).starts_with("crw-r--r-- 1 0 0 1, 3 "));
        let link = entry(b"l", |memory, inode| {
            let file = memory.edit(inode);
            file.attr.file_type = FileType::Symlink;
            file.target = b"/etc".to_vec();
        });
        assert!(line(link).ends_with(" l -> /etc\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_in_hexadecimal_too() {
        let json = entry(b"\xffa", |memory, inode| {
            memory.edit(inode).xattrs = vec![
                (b"user.a".to_vec(), b"text".to_vec()),
                (b"security.capability".to_vec(), vec![1, 0, 0xff]),
            ];
        })
        .json();
        assert_eq!(
            (&json["name"], &json["name_hex"]),
            (&json!("\u{fffd}a"), &json!("ff61"))
        );
        assert_eq!(json["xattrs"][0], json!({ "name": "user.a", "value": "text" }));
        assert_eq!(json["xattrs"][1]["value_hex"], "0100ff");
        assert_eq!(
            (&json["mode"], &json["size"], &json["btime"]),
            (&json!("0644"), &json!(10), &Value::Null)
        );
        assert_eq!(json["mtime"], "2004-11-09T11:33:20.123456789Z");
    }
}
