//! Arrays of Linux md: members by their superblocks, put together to one image.

mod layout;
pub(super) mod superblock;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::superblock::{Name, Role, Superblock};
use crate::bytes::{hex, to_usize};
use crate::image::ReadAt;

/// Most members of an array.
const MEMBERS_MAX: u32 = 2048;
/// Most parts, of arrays inside of arrays too: a search for data may have to ask each of them.
const PARTS_MAX: u64 = 16 << 10;

/// A volume that is a member of an array.
pub(super) struct Member {
    /// The volume's name, for messages.
    name: String,
    image: Arc<dyn ReadAt>,
    parts: u64,
    superblock: Superblock,
}

impl Member {
    /// Opens a volume that has the signature of a member and is made of so many parts.
    pub(super) fn open(name: &str, image: &Arc<dyn ReadAt>, parts: u64) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            image: Arc::clone(image),
            parts,
            superblock: superblock::find(&**image).ok()??,
        })
    }
}

/// An array of members.
pub(super) struct Array {
    /// Linux's name: `md0`.
    pub(super) name: String,
    /// Bytes; 0 where unknown.
    pub(super) size: u64,
    /// Images that it is made of, those of its members too.
    pub(super) parts: u64,
    /// Its bytes, or why they cannot be read.
    pub(super) data: Result<Arc<dyn ReadAt>, String>,
    /// Other names under `/dev`.
    pub(super) aliases: Vec<String>,
    /// What is odd but does no harm.
    pub(super) problems: Vec<String>,
}

/// Puts members together.
pub(super) fn assemble(members: Vec<Member>) -> Vec<Array> {
    let mut sets: BTreeMap<[u8; 16], Vec<Member>> = BTreeMap::new();
    for member in members {
        sets.entry(member.superblock.set_uuid).or_default().push(member);
    }
    sets.into_values().filter_map(|set| array(&set)).collect()
}

fn array(members: &[Member]) -> Option<Array> {
    // What the freshest member says counts; of equals the first.
    let freshest = members.iter().rev().max_by_key(|member| member.superblock.events)?;
    let description = &freshest.superblock;
    let mut problems = Vec::new();
    let parts = members
        .iter()
        .fold(0_u64, |sum, member| sum.saturating_add(member.parts));
    let data = slots(members, description, &mut problems).and_then(|slots| {
        if parts > PARTS_MAX {
            return Err("it is made of too many parts".to_owned());
        }
        if description.is_reshaping {
            return Err("its members were being rearranged, which is not supported".to_owned());
        }
        layout::map(description, &slots, &mut problems)
    });
    let (name, aliases) = names(description);
    Some(Array {
        name,
        size: data.as_ref().map_or(0, |data| data.len()),
        parts,
        data: data.map(|data| -> Arc<dyn ReadAt> { Arc::new(data) }),
        aliases,
        problems,
    })
}

/// Members by their number in the array, without those that missed changes or were being rebuilt.
fn slots<'a>(
    members: &'a [Member],
    description: &Superblock,
    problems: &mut Vec<String>,
) -> Result<Vec<Option<&'a Member>>, String> {
    if description.raid_disks > MEMBERS_MAX {
        return Err(format!("it claims {} members", description.raid_disks));
    }
    let mut slots: Vec<Option<&Member>> = vec![None; to_usize(u64::from(description.raid_disks))];
    for member in members {
        let name = &member.name;
        match standing(&member.superblock, description) {
            Standing::Spare => {}
            Standing::Stale(why) => problems.push(format!("{name} {why}, and is not read")),
            Standing::Member(number) => match slots.get_mut(to_usize(u64::from(number))) {
                Some(slot @ None) => *slot = Some(member),
                Some(Some(known)) => problems.push(format!("{name} is a copy of {}, and is not read", known.name)),
                None => problems.push(format!("{name} says that it is member {number}, which there is not")),
            },
        }
    }
    Ok(slots)
}

enum Standing {
    Member(u32),
    Spare,
    Stale(&'static str),
}

/// What a member is worth against the freshest description.
fn standing(member: &Superblock, freshest: &Superblock) -> Standing {
    let Role::Active(number) = member.role else {
        return Standing::Spare;
    };
    // One change may have reached some members only, when the machine stopped; the kernel takes those too.
    if member.events.saturating_add(1) < freshest.events {
        return Standing::Stale("missed changes of the array");
    }
    let known = freshest.roles.get(to_usize(u64::from(member.dev_number)));
    if known.is_none_or(|role| *role != member.role) {
        return Standing::Stale("has failed");
    }
    if member.recovered.is_some_and(|recovered| recovered < freshest.size) {
        return Standing::Stale("was being rebuilt");
    }
    Standing::Member(number)
}

/// Name and other names: `md0` for `host:0`, `md_data` for `host:data`.
fn names(description: &Superblock) -> (String, Vec<String>) {
    let text = match &description.name {
        Name::Number(number) => number.to_string(),
        Name::Text(text) => String::from_utf8_lossy(text).into_owned(),
    };
    let own = text.split_once(':').map_or(&*text, |(_, own)| own);
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || "_.+-".contains(c) {
            c
        } else {
            '_'
        }
    };
    let own: String = own.chars().map(allowed).collect();
    if own.is_empty() {
        let uuid = hex(&description.set_uuid);
        return (format!("md_{}", uuid.get(..8).unwrap_or_default()), Vec::new());
    }
    // `host:md0` is how some installers say 0.
    let number = own.strip_prefix("md").unwrap_or(&own);
    let is_number = (1..=6).contains(&number.len()) && number.chars().all(|c| c.is_ascii_digit());
    let name = if is_number {
        format!("md{number}")
    } else {
        format!("md_{own}")
    };
    (name, vec![format!("/dev/md/{own}")])
}
