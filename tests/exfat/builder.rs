//! Writes files into an image of mkfs.exfat, by the text of the exFAT specification and independently of the reader.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How the clusters of a file or directory lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One after another, without a chain.
    Contiguous,
    /// One after another, in a chain.
    Chained,
    /// Every second one, in a chain.
    Scattered,
}

/// A file or directory to be written.
pub struct Node {
    pub name: Vec<u16>,
    pub layout: Layout,
    pub attributes: u16,
    pub modified: u64,
    /// Minutes east of UTC, a multiple of 15.
    pub zone: i64,
    pub what: What,
}

pub enum What {
    /// Bytes, and how many of them are valid; the rest is written as garbage that must read as zeros.
    File(Vec<u8>, u64),
    Directory(Vec<Node>),
}

impl Node {
    pub fn file(name: &str, content: &[u8]) -> Self {
        let what = What::File(content.to_vec(), content.len() as u64);
        Self::new(name, what)
    }

    pub fn directory(name: &str, nodes: Vec<Self>) -> Self {
        Self::new(name, What::Directory(nodes))
    }

    fn new(name: &str, what: What) -> Self {
        Self {
            name: name.encode_utf16().collect(),
            layout: Layout::Contiguous,
            attributes: 0x20,
            modified: 1_795_219_201,
            zone: 0,
            what,
        }
    }

    pub fn with(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }
}

/// An image in memory.
pub struct Builder {
    pub bytes: Vec<u8>,
    pub table: usize,
    pub heap: usize,
    pub cluster_size: usize,
    root: u32,
    /// Byte of the allocation bitmap.
    bitmap: usize,
    upcase: Vec<u16>,
    /// The next cluster to be given out.
    next: u32,
}

impl Builder {
    /// Starts with an image as mkfs.exfat leaves it.
    pub fn new(bytes: Vec<u8>) -> Self {
        let u32 = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let shift = bytes[108];
        let mut this = Self {
            table: (u32(80) as usize) << shift,
            heap: (u32(88) as usize) << shift,
            cluster_size: 1 << (shift + bytes[109]),
            root: u32(96),
            bitmap: 0,
            upcase: Vec::new(),
            next: u32(96) + 1,
            bytes,
        };
        let root = this.cluster(this.root);
        let slots: Vec<usize> = (root..root + 512).step_by(32).collect();
        for at in slots {
            let first = u32::from_le_bytes(this.bytes[at + 20..at + 24].try_into().unwrap());
            match this.bytes[at] {
                0x81 => this.bitmap = this.cluster(first),
                0x82 => {
                    let len = u32::from_le_bytes(this.bytes[at + 24..at + 28].try_into().unwrap()) as usize;
                    let start = this.cluster(first);
                    this.upcase = expand(&this.bytes[start..start + len]);
                }
                _ => {}
            }
        }
        this
    }

    pub fn cluster(&self, number: u32) -> usize {
        self.heap + (number as usize - 2) * self.cluster_size
    }

    pub fn link(&mut self, cluster: u32, value: u32) {
        let at = self.table + cluster as usize * 4;
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Takes clusters for `content`, chains them if need be, and writes it; gives the first.
    fn store(&mut self, content: &[u8], layout: Layout) -> u32 {
        let count = content.len().div_ceil(self.cluster_size);
        let step = if layout == Layout::Scattered { 2 } else { 1 };
        let clusters: Vec<u32> = (0..count as u32).map(|number| self.next + number * step).collect();
        self.next += count as u32 * step;
        for (piece, cluster) in content.chunks(self.cluster_size).zip(&clusters) {
            let at = self.cluster(*cluster);
            self.bytes[at..at + piece.len()].copy_from_slice(piece);
            let bit = *cluster as usize - 2;
            self.bytes[self.bitmap + bit / 8] |= 1 << (bit % 8);
        }
        if layout != Layout::Contiguous {
            for pair in clusters.windows(2) {
                self.link(pair[0], pair[1]);
            }
            if let Some(last) = clusters.last() {
                self.link(*last, 0xffff_ffff);
            }
        }
        clusters.first().copied().unwrap_or(0)
    }

    fn slots(&mut self, node: &Node) -> Vec<u8> {
        let (content, valid, is_directory) = match &node.what {
            What::File(content, valid) => (content.clone(), *valid, false),
            What::Directory(nodes) => {
                let mut content: Vec<u8> = nodes.iter().flat_map(|node| self.slots(node)).collect();
                let len = content.len().max(1).div_ceil(self.cluster_size) * self.cluster_size;
                content.resize(len, 0);
                (content, len as u64, true)
            }
        };
        let first = self.store(&content, node.layout);
        let attributes = node.attributes | if is_directory { 0x10 } else { 0 };
        self.entries(node, attributes, [u64::from(first), content.len() as u64, valid])
    }

    /// The entry set of a node whose clusters are written.
    fn entries(&self, node: &Node, attributes: u16, [first, len, valid]: [u64; 3]) -> Vec<u8> {
        let names = node.name.len().div_ceil(15);
        let mut set = vec![0_u8; (2 + names) * 32];
        (set[0], set[1], set[4]) = (0x85, 1 + names as u8, attributes as u8);
        let (packed, hundredths) = pack(node.modified as i64 + node.zone * 60);
        for at in [8, 12, 16] {
            set[at..at + 4].copy_from_slice(&packed.to_le_bytes());
        }
        (set[20], set[21]) = (hundredths, hundredths);
        set[22..25].fill(0x80 | (node.zone / 15) as u8 & 0x7f);
        let flags = if len == 0 {
            1
        } else {
            1 | u8::from(node.layout == Layout::Contiguous) << 1
        };
        (set[32], set[33], set[35]) = (0xc0, flags, node.name.len() as u8);
        let hash = node
            .name
            .iter()
            .flat_map(|unit| self.upcase[usize::from(*unit)].to_le_bytes());
        let hash = hash.fold(0_u16, |sum, byte| sum.rotate_right(1).wrapping_add(u16::from(byte)));
        set[36..38].copy_from_slice(&hash.to_le_bytes());
        set[40..48].copy_from_slice(&valid.to_le_bytes());
        set[52..56].copy_from_slice(&(first as u32).to_le_bytes());
        set[56..64].copy_from_slice(&len.to_le_bytes());
        for (number, units) in node.name.chunks(15).enumerate() {
            let at = 64 + number * 32;
            set[at] = 0xc1;
            for (place, unit) in units.iter().enumerate() {
                set[at + 2 + place * 2..][..2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        seal(&mut set);
        set
    }

    /// Writes nodes into the root directory, after what mkfs.exfat put there.
    pub fn write(&mut self, nodes: &[Node]) {
        let slots: Vec<u8> = nodes.iter().flat_map(|node| self.slots(node)).collect();
        let at = self.cluster(self.root);
        let root = self.bytes[at..at + self.cluster_size].chunks(32);
        let used = 32 * root.take_while(|slot| slot[0] != 0).count();
        let (here, rest) = slots.split_at(slots.len().min(self.cluster_size - used));
        self.bytes[at + used..at + used + here.len()].copy_from_slice(here);
        if !rest.is_empty() {
            let next = self.store(rest, Layout::Chained);
            self.link(self.root, next);
        }
    }

    /// Byte of the File entry of the only file of this name.
    pub fn find(&self, name: &str) -> usize {
        let mut first = [0_u8; 30];
        for (place, unit) in name.encode_utf16().take(15).enumerate() {
            first[place * 2..place * 2 + 2].copy_from_slice(&unit.to_le_bytes());
        }
        let slots = self.bytes[self.heap..].chunks_exact(32).enumerate();
        let found: Vec<usize> = slots
            .filter(|(_, slot)| slot[0] == 0xc1 && slot[2..] == first)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(found.len(), 1, "{name}");
        self.heap + (found[0] - 2) * 32
    }
}

/// Gives an entry set its checksum.
pub fn seal(set: &mut [u8]) {
    let bytes = set.iter().enumerate().filter(|(place, _)| !matches!(place, 2 | 3));
    let sum = bytes.fold(0_u16, |sum, (_, byte)| {
        sum.rotate_right(1).wrapping_add(u16::from(*byte))
    });
    set[2..4].copy_from_slice(&sum.to_le_bytes());
}

/// Gives a boot region of 12 sectors its checksum.
pub fn seal_boot(region: &mut [u8]) {
    let (sectors, checksums) = region.split_at_mut(region.len() / 12 * 11);
    let bytes = sectors
        .iter()
        .enumerate()
        .filter(|(place, _)| !matches!(place, 106 | 107 | 112));
    let sum = bytes.fold(0_u32, |sum, (_, byte)| {
        sum.rotate_right(1).wrapping_add(u32::from(*byte))
    });
    checksums
        .chunks_mut(4)
        .for_each(|kept| kept.copy_from_slice(&sum.to_le_bytes()));
}

fn expand(table: &[u8]) -> Vec<u16> {
    let mut upcase: Vec<u16> = (0..=0xffff).collect();
    let mut values = table.chunks(2).map(|value| u16::from_le_bytes([value[0], value[1]]));
    let mut letter = 0;
    while let Some(value) = values.next() {
        if value == 0xffff && letter < 0xffff {
            letter += usize::from(values.next().unwrap());
        } else {
            upcase[letter] = value;
            letter += 1;
        }
    }
    upcase
}

/// A time of a zone as two packed words and hundredths of a second.
fn pack(seconds: i64) -> (u32, u8) {
    let time = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let clock = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    let date = (time[0] - 1980) << 9 | time[1] << 5 | time[2];
    ((date << 16 | clock) as u32, (second % 2 * 100) as u8)
}

/// Year, month and day of a number of days since 1970, by counting.
fn civil(mut days: i64) -> [i64; 3] {
    let is_leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + i64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    [year, month as i64 + 1, days + 1]
}

/// Makes the directory that a reader must show.
pub fn make_directory(nodes: &[Node], at: &Path) {
    for node in nodes {
        let path: PathBuf = at.join(String::from_utf16(&node.name).unwrap());
        match &node.what {
            What::Directory(nodes) => {
                fs::create_dir(&path).unwrap();
                make_directory(nodes, &path);
            }
            What::File(content, valid) => {
                let mut content = content.clone();
                content[usize::try_from(*valid).unwrap()..].fill(0);
                fs::write(&path, content).unwrap();
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(node.modified);
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            }
        }
    }
}
