//! What backups take of a vault, for `list --space` and `show --space`.

use crate::chunk::Reader;
use crate::reach::{Doubt, Needed, Walk};
use crate::vault::{self, Address, Manifest, Vault};
use std::collections::HashSet;

/// Memory for pages: those of one resource's backups are mostly the same.
const CACHE_BYTES: u64 = 64 << 20;

/// What was measured, and what could not be.
pub(super) struct Space {
    /// For each backup asked for, in their order.
    pub(super) needed: Vec<Needed>,
    /// Backups of which not all could be read: what they share with others is not known in full.
    pub(super) damaged: Vec<(Address, anyhow::Error)>,
}

/// Measures some backups of a vault against each other and against all its others. Deleted ones do not count: they go anyway.
///
/// # Errors
/// What is about the vault and not about one backup.
pub(super) fn measure(vault: &Vault, backups: &[(Address, Manifest)]) -> anyhow::Result<Space> {
    let reader = Reader::new(vault.clone(), CACHE_BYTES);
    let mut walk = Walk::new(&reader);
    let mut damaged = Vec::new();
    let asked: HashSet<&Address> = backups.iter().map(|(address, _)| address).collect();
    for (resource, points) in vault.catalogue()? {
        for address in points.into_iter().map(|point| resource.at(point)) {
            if asked.contains(&address) {
                continue;
            }
            match vault.load(&address) {
                Ok(manifest) => {
                    if let Err(error) = walk.backup(&address, &manifest, Doubt::Refuse) {
                        damaged.push((address, error.into()));
                    }
                }
                // Deleted since the others were listed.
                Err(vault::Error::NoBackup { .. }) => {}
                Err(error) => damaged.push((address, error.into())),
            }
        }
    }
    for (address, manifest) in backups {
        walk.begin_group();
        if let Err(error) = walk.backup(address, manifest, Doubt::Refuse) {
            damaged.push((address.clone(), error.into()));
        }
    }
    let needed = walk.groups().iter().skip(1).copied().collect();
    Ok(Space { needed, damaged })
}
