//! Signatures of file systems, swap and encryption in the first and last bytes of a volume, FAT apart.

use crate::bytes::{be_u16, field, le_u16, le_u32, le_u64};
use crate::volume::{Holds, Signature, text};

/// A magic and what lies beside it.
struct Magic {
    holds: Holds,
    at: usize,
    magic: &'static [u8],
    uuid_at: Option<usize>,
    /// Where the label is, and its length.
    label_at: Option<(usize, usize)>,
}

const fn plain(word: &'static str, at: usize, magic: &'static [u8]) -> Magic {
    with(Holds::Other(word), (at, magic), None, None)
}

const fn with(
    holds: Holds,
    magic: (usize, &'static [u8]),
    uuid_at: Option<usize>,
    label_at: Option<(usize, usize)>,
) -> Magic {
    Magic {
        holds,
        at: magic.0,
        magic: magic.1,
        uuid_at,
        label_at,
    }
}

/// Magics of four bytes and more, those that another file system's mkfs would have overwritten first.
///
/// # Source
/// The on-disk headers of Linux fs/*, and the words of libblkid.
const MAGICS: [Magic; 33] = [
    plain("BitLocker", 3, b"-FVE-FS-"),
    plain("DM_verity_hash", 0, b"verity\0\0"),
    plain("DM_integrity", 0, b"integrt\0"),
    plain("vdo", 0, b"dmvdo001"),
    plain("stratis", 516, b"!Stra0tis\x86\xff\x02^\x41rh"),
    with(
        Holds::Other("bcache"),
        (
            4120,
            b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
        ),
        Some(4136),
        None,
    ),
    plain(
        "bcachefs",
        4120,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    with(Holds::Xfs, (0, b"XFSB"), Some(32), Some((108, 12))),
    plain("ReFS", 0, b"\0\0\0ReFS\0"),
    plain("cramfs", 0, b"\x45\x3d\xcd\x28"),
    plain("romfs", 0, b"-rom1fs-"),
    plain("squashfs", 0, b"hsqs"),
    with(Holds::Other("apfs"), (32, b"NXSB"), Some(72), None),
    with(
        Holds::Other("erofs"),
        (1024, b"\xe2\xe1\xf5\xe0"),
        Some(1072),
        Some((1088, 16)),
    ),
    with(Holds::Other("f2fs"), (1024, b"\x10\x20\xf5\xf2"), Some(1132), None),
    with(
        Holds::Btrfs,
        (0x10040, b"_BHRfS_M"),
        Some(0x10020),
        Some((0x1012b, 256)),
    ),
    with(Holds::Other("jfs"), (32768, b"JFS1"), Some(32904), Some((32920, 16))),
    with(Holds::Other("reiserfs"), (65588, b"ReIsErFs"), None, None),
    with(
        Holds::Other("reiserfs"),
        (65588, b"ReIsEr2Fs"),
        Some(65620),
        Some((65636, 16)),
    ),
    with(
        Holds::Other("reiserfs"),
        (65588, b"ReIsEr3Fs"),
        Some(65620),
        Some((65636, 16)),
    ),
    plain("reiserfs", 8244, b"ReIsErFs"),
    plain("reiser4", 65536, b"ReIsEr4"),
    plain("gfs2", 65536, b"\x01\x16\x19\x70"),
    plain("ocfs2", 2048, b"OCFSV2"),
    plain("ocfs2", 4096, b"OCFSV2"),
    plain("ocfs2", 8192, b"OCFSV2"),
    plain("ufs", 9564, b"\x54\x19\x01\0"),
    plain("ufs", 66908, b"\x54\x19\x01\0"),
    plain("udf", 32769, b"BEA01"),
    plain("hfsplus", 1024, b"H+\0\x04"),
    plain("hfsplus", 1024, b"HX\0\x05"),
    plain("LVM1_member", 0, b"HM\x01\0"),
    plain("LVM1_member", 0, b"HM\x02\0"),
];

/// Sizes of a page; swap space has its magic at the end of its first.
const PAGES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];

/// Decodes what the head of a volume says.
pub(super) fn decode(head: &[u8]) -> Option<Signature> {
    luks(head)
        .or_else(|| ntfs(head))
        .or_else(|| exfat(head))
        .or_else(|| MAGICS.iter().find_map(|magic| of_magic(magic, head)))
        .or_else(|| iso9660(head))
        .or_else(|| zfs(head))
        .or_else(|| swap(head))
        .or_else(|| ext(head))
}

/// Decodes what the last 4 KiB say, where the head says nothing: members of arrays of firmware, and of DRBD.
pub(super) fn decode_tail(tail: &[u8]) -> Option<Holds> {
    let from_end = |distance: usize| tail.get(tail.len().checked_sub(distance)?..);
    let words: [(&str, usize, &[u8]); 4] = [
        ("isw_raid_member", 1024, b"Intel Raid ISM Cfg Sig. "),
        ("ddf_raid_member", 512, b"\xde\x11\xde\x11"),
        ("drbd", 4096 - 60, b"\x83\x74\x02\x6b"),
        ("drbd", 4096 - 60, b"\x83\x74\x02\x6d"),
    ];
    let found = words
        .iter()
        .find(|(_, distance, magic)| from_end(*distance).is_some_and(|rest| rest.starts_with(magic)))?;
    Some(Holds::Other(found.0))
}

fn has(head: &[u8], at: usize, magic: &[u8]) -> bool {
    head.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

fn of_magic(magic: &Magic, head: &[u8]) -> Option<Signature> {
    has(head, magic.at, magic.magic).then(|| Signature {
        holds: magic.holds,
        uuid: magic.uuid_at.and_then(|at| text::uuid(head, at)),
        label: magic.label_at.and_then(|(at, len)| text::label(head, at, len)),
    })
}

/// LUKS 1 and 2 keep the UUID as text, version 2 a label too.
///
/// # Source
/// LUKS On-Disk Format Specification 1.2.3 and LUKS2 On-Disk Format Specification 1.0.0, binary header.
fn luks(head: &[u8]) -> Option<Signature> {
    if !has(head, 0, b"LUKS\xba\xbe") {
        return None;
    }
    let version = be_u16(head, 6).filter(|version| matches!(version, 1 | 2))?;
    let uuid = text::label(head, 168, 40).and_then(|uuid| String::from_utf8(uuid).ok());
    let label = (version == 2).then(|| text::label(head, 24, 48)).flatten();
    Some(Signature {
        holds: Holds::Luks,
        uuid,
        label,
    })
}

/// The label of NTFS is a file ($Volume) and left to the reader.
fn ntfs(head: &[u8]) -> Option<Signature> {
    if !has(head, 3, b"NTFS    ") || !head.get(510..512)?.eq(&[0x55, 0xaa]) {
        return None;
    }
    Some(Signature {
        uuid: le_u64(head, 72).map(|serial| format!("{serial:016X}")),
        ..Signature::of(Holds::Ntfs)
    })
}

/// The label of exFAT lies in its root directory and is left to the reader.
fn exfat(head: &[u8]) -> Option<Signature> {
    if !has(head, 3, b"EXFAT   ") {
        return None;
    }
    Some(Signature {
        uuid: le_u32(head, 100).and_then(text::serial),
        ..Signature::of(Holds::Exfat)
    })
}

/// ext2, ext3, ext4, or the journal of one on a device of its own. The magic is short, so that sizes are looked at too.
///
/// # Source
/// Linux Documentation/filesystems/ext4/super.rst, `struct ext4_super_block`.
fn ext(head: &[u8]) -> Option<Signature> {
    const SUPERBLOCK: usize = 1024;
    const JOURNAL_DEVICE: u32 = 0x0008;
    let s_magic = le_u16(head, SUPERBLOCK + 56)?;
    let s_log_block_size = le_u32(head, SUPERBLOCK + 24)?;
    let s_blocks_count_lo = le_u32(head, SUPERBLOCK + 4)?;
    let s_blocks_count_hi = le_u32(head, SUPERBLOCK + 336)?;
    if s_magic != 0xef53 || s_log_block_size > 6 || s_blocks_count_lo | s_blocks_count_hi == 0 {
        return None;
    }
    let s_feature_incompat = le_u32(head, SUPERBLOCK + 96)?;
    Some(Signature {
        holds: if s_feature_incompat & JOURNAL_DEVICE == 0 {
            Holds::Ext
        } else {
            Holds::Other("jbd")
        },
        uuid: text::uuid(head, SUPERBLOCK + 104),
        label: text::label(head, SUPERBLOCK + 120, 16),
    })
}

/// Swap space, in use or with a system asleep in it.
///
/// # Source
/// Linux include/linux/swap.h, `union swap_header`.
fn swap(head: &[u8]) -> Option<Signature> {
    let magic = PAGES
        .iter()
        .find_map(|page| field::<10>(head, page.checked_sub(10)?).filter(is_swap))?;
    let asleep = !magic.starts_with(b"SWAP");
    if asleep {
        return Some(Signature::of(Holds::Other("swsuspend")));
    }
    // Version 0 of the magic has no header.
    let described = &magic == b"SWAPSPACE2";
    Some(Signature {
        uuid: text::uuid(head, 1036).filter(|_| described),
        label: text::label(head, 1052, 16).filter(|_| described),
        ..Signature::of(Holds::Swap)
    })
}

fn is_swap(magic: &[u8; 10]) -> bool {
    let words: [&[u8]; 5] = [b"SWAPSPACE2", b"SWAP-SPACE", b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND"];
    words.iter().any(|word| magic.starts_with(word))
}

/// The UUID is the time of the last change, as libblkid writes it.
///
/// # Source
/// ECMA-119, section 8.4, primary volume descriptor.
fn iso9660(head: &[u8]) -> Option<Signature> {
    if !has(head, 32769, b"CD001") {
        return None;
    }
    let uuid = |at: usize| {
        let digits = field::<16>(head, at)?;
        let text = std::str::from_utf8(&digits).ok()?;
        let is_time = digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0');
        let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16].map(|part| text.get(part).unwrap_or_default());
        is_time.then(|| parts.join("-"))
    };
    Some(Signature {
        holds: Holds::Other("iso9660"),
        uuid: uuid(33598).or_else(|| uuid(33581)),
        label: text::label(head, 32808, 32),
    })
}

/// A member of a ZFS pool: the list of names and values in its first label begins with its encoding, and then with "version".
fn zfs(head: &[u8]) -> Option<Signature> {
    let list = field::<32>(head, 16384)?;
    let xdr = list.first() == Some(&1) && list.get(2..12) == Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    (xdr && list.get(24..31) == Some(b"version")).then(|| Signature::of(Holds::Other("zfs_member")))
}
