//! Items of a stored tree: what one file of a file-system backup is made of, as keys that sort and values.
//!
//! # Source
//! `docs/format.md`, section "Tree".

use super::ChunkId;
use super::object::ObjectId;
use crate::bytes::{field, le_u32, le_u64, to_u64};
use crate::checksum::Digest;

/// Longest file name, and longest name of an extended attribute, a user or a group, in bytes.
pub const MAX_NAME: usize = 255;
/// Longest target of a symbolic link in bytes.
pub const MAX_TARGET: usize = 4095;
/// Largest file whose content is an item of its own, in bytes.
pub const MAX_INLINE: usize = 256;
/// Longest value of an extended attribute in bytes.
pub const MAX_XATTR: usize = 1 << 16;
/// Longest key in bytes.
pub const MAX_KEY: usize = KEY_HEAD + MAX_NAME;
/// The number whose items describe the tree itself; no file has it.
pub const TREE_INODE: u64 = 0;
/// Inode numbers from this one on are not those of the source.
pub const MADE_NUMBERS: u64 = 1 << 63;

const KEY_HEAD: usize = 9;
const RECORD_LEN: usize = 128;
const CHUNK_LEN: usize = 52;
const NAME_LEN: usize = 9;
const UNKNOWN_NANOS: u32 = u32::MAX;

/// What an item says of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Its attributes: an [`InodeRecord`].
    Inode,
    /// The target of a symbolic link, or all of a small file.
    Data,
    /// An extended attribute.
    Xattr,
    /// A name in a directory: a [`NameTarget`].
    Name,
    /// A run of the file's bytes: a [`ChunkRef`].
    Chunk,
    /// Of the tree itself: the name of a user.
    User,
    /// Of the tree itself: the name of a group.
    Group,
}

const KINDS: [Kind; 7] = [
    Kind::Inode,
    Kind::Data,
    Kind::Xattr,
    Kind::Name,
    Kind::Chunk,
    Kind::User,
    Kind::Group,
];

impl Kind {
    /// The kind's number in keys.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Inode => 1,
            Self::Data => 2,
            Self::Xattr => 3,
            Self::Name => 4,
            Self::Chunk => 5,
            Self::User => 16,
            Self::Group => 17,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.code() == code)
    }
}

/// A key, taken apart. Keys sort as their bytes do: by inode, then kind, then the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// Number of the file.
    pub inode: u64,
    /// What the item says.
    pub kind: Kind,
    /// Name, offset or id, by the kind; empty for the others.
    pub rest: &'a [u8],
}

impl<'a> Key<'a> {
    /// The key's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(KEY_HEAD.saturating_add(self.rest.len()));
        out.extend(self.inode.to_be_bytes());
        out.push(self.kind.code());
        out.extend(self.rest);
        out
    }

    /// Takes a key apart; `None` if it is none that the format knows.
    #[must_use]
    pub fn decode(key: &'a [u8]) -> Option<Self> {
        let rest = key.get(KEY_HEAD..)?;
        let kind = Kind::from_code(*key.get(KEY_HEAD - 1)?)?;
        let inode = u64::from_be_bytes(field(key, 0)?);
        let sound = match kind {
            Kind::Inode | Kind::Data => rest.is_empty(),
            Kind::Xattr => (1..=MAX_NAME).contains(&rest.len()) && !rest.contains(&0),
            Kind::Name => is_name(rest),
            Kind::Chunk => rest.len() == 8,
            Kind::User | Kind::Group => rest.len() == 4,
        };
        let of_tree = matches!(kind, Kind::User | Kind::Group);
        (sound && of_tree == (inode == TREE_INODE)).then_some(Self { inode, kind, rest })
    }

    /// The offset in the file of a chunk item.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        (self.kind == Kind::Chunk).then(|| field(self.rest, 0).map(u64::from_be_bytes))?
    }
}

/// Says whether a file may have this name.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !matches!(name, b"." | b"..") && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

/// First key of all items of one kind of an inode.
#[must_use]
pub fn first_key(inode: u64, kind: Kind) -> Vec<u8> {
    let rest = &[];
    Key { inode, kind, rest }.encode()
}

/// Key of the run of bytes that starts at `offset`.
#[must_use]
pub fn chunk_key(inode: u64, offset: u64) -> Vec<u8> {
    let (kind, rest) = (Kind::Chunk, &offset.to_be_bytes());
    Key { inode, kind, rest }.encode()
}

/// Key of the name of a user or a group, by its id.
#[must_use]
pub fn owner_key(kind: Kind, id: u32) -> Vec<u8> {
    let (inode, rest) = (TREE_INODE, &id.to_be_bytes());
    Key { inode, kind, rest }.encode()
}

/// A time: seconds since 1970, and nanoseconds below 1,000,000,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after these.
    pub nanos: u32,
}

/// How far the times and the content of a file can be relied upon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// It had changed so shortly before it was read that another change could have left the same times.
    pub recent: bool,
    /// It changed while it was read.
    pub changed: bool,
}

impl State {
    fn bits(self) -> u32 {
        u32::from(self.recent) | (u32::from(self.changed) << 1)
    }

    fn from_bits(bits: u32) -> Option<Self> {
        (bits < 4).then_some(Self {
            recent: bits & 1 != 0,
            changed: bits & 2 != 0,
        })
    }
}

/// Attributes of a file, as stat(2) told them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InodeRecord {
    /// Type and permissions: `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names it had in the source.
    pub links: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space it took in the source, in units of 512 bytes.
    pub blocks: u64,
    /// Which device a device file stands for: major and minor number.
    pub device: (u32, u32),
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of the attributes.
    pub changed: Time,
    /// Creation, where the source told it.
    pub created: Option<Time>,
    /// `FS_IOC_GETFLAGS`, 0 where the source has none.
    pub flags: u32,
    /// How far all this can be relied upon.
    pub state: State,
    /// BLAKE3 of a regular file's bytes that are not holes, in order; zeros for other types.
    pub digest: Digest,
}

impl InodeRecord {
    /// The value of the inode's item.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let created = self.created.unwrap_or(Time {
            seconds: 0,
            nanos: UNKNOWN_NANOS,
        });
        let times = [self.accessed, self.modified, self.changed, created];
        let mut out = Vec::with_capacity(RECORD_LEN);
        for word in [self.mode, self.uid, self.gid, self.links] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.size.to_le_bytes());
        out.extend(self.blocks.to_le_bytes());
        out.extend(self.device.0.to_le_bytes());
        out.extend(self.device.1.to_le_bytes());
        times.iter().for_each(|time| out.extend(time.seconds.to_le_bytes()));
        times.iter().for_each(|time| out.extend(time.nanos.to_le_bytes()));
        out.extend(self.flags.to_le_bytes());
        out.extend(self.state.bits().to_le_bytes());
        out.extend(self.digest.0);
        out
    }

    /// Reads the value of an inode's item; `None` if it is none.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        if value.len() != RECORD_LEN {
            return None;
        }
        let word = |at| le_u32(value, at);
        let time = |number: usize| {
            let seconds = i64::from_le_bytes(field(value, 40 + number * 8)?);
            let nanos = word(72 + number * 4)?;
            Some(Time { seconds, nanos })
        };
        let sound = |time: Time| Some(time).filter(|time| time.nanos < 1_000_000_000);
        let created = time(3)?;
        Some(Self {
            mode: word(0)?,
            uid: word(4)?,
            gid: word(8)?,
            links: word(12)?,
            size: le_u64(value, 16)?,
            blocks: le_u64(value, 24)?,
            device: (word(32)?, word(36)?),
            accessed: sound(time(0)?)?,
            modified: sound(time(1)?)?,
            changed: sound(time(2)?)?,
            created: match created.nanos {
                UNKNOWN_NANOS => None,
                _ => Some(sound(created)?),
            },
            flags: word(88)?,
            state: State::from_bits(word(92)?)?,
            digest: Digest(field(value, 96)?),
        })
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTarget {
    /// Number of the file.
    pub inode: u64,
    /// Its type: the upper four bits of `st_mode`, shifted down.
    pub type_code: u8,
}

impl NameTarget {
    /// The value of the name's item.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.inode.to_le_bytes().to_vec();
        out.push(self.type_code);
        out
    }

    /// Reads the value of a name's item; `None` if it is none.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        if value.len() != NAME_LEN {
            return None;
        }
        let (inode, type_code) = (le_u64(value, 0)?, *value.get(8)?);
        (inode != TREE_INODE && type_code < 16).then_some(Self { inode, type_code })
    }
}

/// A run of a file's bytes: one chunk, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk.
    pub id: ChunkId,
    /// Hint: the pack that held it when the item was written.
    pub pack: ObjectId,
    /// Its plain bytes; 1 .. 4 MiB.
    pub len: u32,
}

impl ChunkRef {
    /// The value of the chunk's item.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CHUNK_LEN);
        out.extend(self.id.0);
        out.extend(self.pack);
        out.extend(self.len.to_le_bytes());
        out
    }

    /// Reads the value of a chunk's item; `None` if it is none.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let len = le_u32(value, 48)?;
        (value.len() == CHUNK_LEN && (1..=super::MAX_CHUNK).contains(&len)).then_some(Self {
            id: ChunkId(field(value, 0)?),
            pack: field(value, 32)?,
            len,
        })
    }

    /// Its plain length.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        u64::from(self.len)
    }
}

/// Says whether a value has a length that its kind of item allows.
#[must_use]
pub fn value_fits(kind: Kind, value: &[u8]) -> bool {
    match kind {
        Kind::Inode => value.len() == RECORD_LEN,
        Kind::Data => (1..=MAX_TARGET).contains(&value.len()),
        Kind::Xattr => to_u64(value.len()) <= to_u64(MAX_XATTR),
        Kind::Name => value.len() == NAME_LEN,
        Kind::Chunk => value.len() == CHUNK_LEN,
        Kind::User | Kind::Group => (1..=MAX_NAME).contains(&value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> InodeRecord {
        let time = |seconds| Time {
            seconds,
            nanos: 999_999_999,
        };
        InodeRecord {
            mode: 0o104_755,
            uid: 1,
            gid: u32::MAX,
            links: 2,
            size: u64::MAX,
            blocks: 3,
            device: (8, 1),
            accessed: time(-1),
            modified: time(i64::MIN),
            changed: time(i64::MAX),
            created: None,
            flags: 0x10,
            state: State {
                recent: false,
                changed: true,
            },
            digest: Digest::of(b"x"),
        }
    }

    #[test]
    fn values_decode_to_what_was_encoded_and_nothing_else_does() {
        let record = record();
        let encoded = record.encode();
        assert_eq!(InodeRecord::decode(&encoded), Some(record));
        assert!(value_fits(Kind::Inode, &encoded));
        for (at, bad) in [(76, 0xff), (92, 4), (95, 1)] {
            let mut changed = encoded.clone();
            changed[at..at + 1].fill(bad);
            let nanos_too_large = at == 76;
            if nanos_too_large {
                changed[76..80].fill(bad);
            }
            assert_eq!(InodeRecord::decode(&changed), None, "byte {at}");
        }
        assert_eq!(InodeRecord::decode(&encoded[..127]), None);

        let name = NameTarget { inode: 7, type_code: 8 };
        assert_eq!(NameTarget::decode(&name.encode()), Some(name));
        assert_eq!(NameTarget::decode(&[0; 9]), None);

        let chunk = ChunkRef {
            id: ChunkId::of(b"x"),
            pack: [3; 16],
            len: 4 << 20,
        };
        assert_eq!(ChunkRef::decode(&chunk.encode()), Some(chunk));
        let longer = ChunkRef {
            len: (4 << 20) + 1,
            ..chunk
        };
        assert_eq!(ChunkRef::decode(&longer.encode()), None);
    }

    #[test]
    fn keys_sort_by_inode_then_kind_then_rest() {
        let name = |inode, rest| {
            let kind = Kind::Name;
            Key { inode, kind, rest }.encode()
        };
        let sorted = [
            owner_key(Kind::User, 0),
            owner_key(Kind::User, 1000),
            owner_key(Kind::Group, 0),
            first_key(1, Kind::Inode),
            name(1, b"a"),
            name(1, b"a\x01"),
            name(1, b"b"),
            chunk_key(1, 0),
            chunk_key(1, 255),
            chunk_key(1, 256),
            first_key(256, Kind::Inode),
        ];
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
        for key in &sorted {
            assert_eq!(&Key::decode(key).unwrap().encode(), key);
        }
        assert_eq!(Key::decode(&sorted[8]).unwrap().offset(), Some(255));
    }

    #[test]
    fn hostile_names_are_no_keys() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            let (inode, kind, rest) = (1, Kind::Name, bad);
            assert_eq!(Key::decode(&Key { inode, kind, rest }.encode()), None, "{bad:?}");
        }
        assert!(Key::decode(&first_key(TREE_INODE, Kind::Inode)).is_none());
    }
}
