//! What backups there are: the names under `backups/` without those that are deleted.

use super::{Address, AddressSpec, BACKUPS, Error, ResourceName, Result, Vault, lifecycle};
use crate::clock::Point;
use std::collections::{BTreeMap, BTreeSet};

/// Names of all backups: resource to points, both sorted.
pub type Catalogue = BTreeMap<ResourceName, Vec<Point>>;

impl Vault {
    /// Names every backup, reading none; deleted ones are left out.
    ///
    /// Objects under `backups/` whose key is no address are no backups and are passed over.
    ///
    /// # Errors
    /// `Store` if a listing is not complete.
    pub fn catalogue(&self) -> Result<Catalogue> {
        // What is deleted comes first: in the other order, a backup that is purged meanwhile would come back for a moment.
        let deleted = self.deleted()?;
        let mut catalogue = Catalogue::new();
        for address in self.addresses(BACKUPS, BACKUPS)? {
            if !deleted.contains(&address) {
                catalogue.entry(address.resource).or_default().push(address.point);
            }
        }
        catalogue.values_mut().for_each(|points| points.sort_unstable());
        Ok(catalogue)
    }

    /// The points of one resource, oldest first, without deleted ones; empty if it has none.
    ///
    /// # Errors
    /// `Store` if a listing is not complete.
    pub fn points(&self, resource: &ResourceName) -> Result<Vec<Point>> {
        let deleted = self.deleted_of(resource)?;
        let found = self.addresses(BACKUPS, &format!("{BACKUPS}{resource}/"))?;
        let left = found.into_iter().filter(|address| !deleted.contains(address));
        let mut points: Vec<Point> = left.map(|address| address.point).collect();
        points.sort_unstable();
        Ok(points)
    }

    /// Names every deleted backup that has not been removed yet, reading nothing.
    ///
    /// # Errors
    /// `Store` if the listing is not complete.
    pub fn deleted(&self) -> Result<BTreeSet<Address>> {
        Ok(self
            .addresses(lifecycle::DELETED, lifecycle::DELETED)?
            .into_iter()
            .collect())
    }

    /// Names the deleted backups of one resource.
    ///
    /// # Errors
    /// `Store` if the listing is not complete.
    pub fn deleted_of(&self, resource: &ResourceName) -> Result<BTreeSet<Address>> {
        let prefix = format!("{}{resource}/", lifecycle::DELETED);
        Ok(self.addresses(lifecycle::DELETED, &prefix)?.into_iter().collect())
    }

    /// Turns what a user wrote into the address of a backup that is not deleted; `latest` is looked up.
    ///
    /// # Errors
    /// `NoBackup` if the resource has no backup, `Deleted`, `Store`.
    pub fn resolve(&self, spec: &AddressSpec) -> Result<Address> {
        match spec {
            AddressSpec::Exact(address) if self.deleted_of(&address.resource)?.contains(address) => {
                Err(Error::Deleted {
                    address: address.to_string(),
                })
            }
            AddressSpec::Exact(address) => Ok(address.clone()),
            AddressSpec::Latest(resource) => {
                let newest = self.points(resource)?.pop();
                let point = newest.ok_or_else(|| Error::NoBackup {
                    address: format!("{resource}/latest"),
                })?;
                Ok(resource.at(point))
            }
        }
    }

    /// The addresses that the keys of a listing stand for; keys that are none are told of and passed over.
    pub(super) fn addresses(&self, root: &str, prefix: &str) -> Result<Vec<Address>> {
        let keys = self.names(root, prefix)?;
        let address = |key: &crate::store::Key| {
            let address = key.as_str().strip_prefix(root).and_then(|text| text.parse().ok());
            if address.is_none() {
                log::warn!("object {key} is no backup; it is left alone");
            }
            address
        };
        Ok(keys.iter().filter_map(address).collect())
    }
}
