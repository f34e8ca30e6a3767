//! `list`: every backup under a prefix, a line each.

use super::super::exit::{self, Code};
use super::super::output::{self, Align, Form};
use super::super::{Context, args, request};
use super::space::{self, Space};
use super::{complain, tags_text};
use crate::bytes::size_text;
use crate::clock::{Clock, System, rfc3339};
use crate::reach::Needed;
use crate::vault::{self, Address, Manifest, Pin, Protections, Vault};
use serde_json::json;
use std::num::NonZero;
use std::thread;

/// Lists what the prefix names, damaged backups apart from the others.
pub(in super::super) fn run(context: &Context, args: &args::List) -> anyhow::Result<Code> {
    let filter = request::Filter::parse(args.prefix.as_deref().unwrap_or_default())?;
    let vault = super::open(&args.vault)?;
    if args.deleted {
        return deleted(context, &vault, &filter);
    }
    let addresses: Vec<Address> = vault
        .catalogue()?
        .into_iter()
        .flat_map(|(resource, points)| points.into_iter().map(move |point| resource.at(point)))
        .filter(|address| filter.takes(address))
        .collect();
    if addresses.is_empty() && !filter.takes_all() {
        let address = filter.to_string();
        return Err(vault::Error::NoBackup { address }.into());
    }
    let mut listing = Listing::load(&vault, &addresses);
    listing.protections = vault.protections().map_err(anyhow::Error::new);
    if args.space {
        let Space { needed, mut damaged } = space::measure(&vault, &listing.backups)?;
        damaged.retain(|(address, _)| listing.damaged.iter().all(|(told, _)| told != address));
        listing.needed = Some(needed);
        listing.damaged.extend(damaged);
    }
    if addresses.is_empty() && context.form == Form::Text {
        output::say("no backups yet; make one with: vaultfs backup VAULT server NAME --disk vda=PATH");
    } else {
        output::answer(context.form, || listing.text(), || listing.json(&vault))?;
    }
    for (address, error) in &listing.damaged {
        output::say(&format!(
            "error: {address}: {:#}",
            output::printable(&error.to_string())
        ));
    }
    if let Err(error) = &listing.protections {
        return Ok(complain(error));
    }
    Ok(listing
        .damaged
        .first()
        .map_or(Code::Done, |(_, error)| exit::code_of(error)))
}

/// Lists what is deleted and not removed yet.
fn deleted(context: &Context, vault: &Vault, filter: &request::Filter) -> anyhow::Result<Code> {
    let (mut rows, mut entries, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    for address in vault.deleted()?.into_iter().filter(|address| filter.takes(address)) {
        let (at, by) = match vault.tombstone(&address) {
            Ok(Some(tombstone)) => (rfc3339(tombstone.at), tombstone.by),
            // Brought back or removed since it was listed.
            Ok(None) => continue,
            Err(error) => {
                codes.push(complain(&anyhow::Error::new(error)));
                ("unknown".to_owned(), String::new())
            }
        };
        entries.push(json!({ "address": address.to_string(), "deleted_at": at, "by": by }));
        rows.push(vec![address.to_string(), at, output::printable(&by)]);
    }
    if rows.is_empty() && context.form == Form::Text {
        output::say("no deleted backups");
    } else {
        let columns = [("ADDRESS", Align::Left), ("DELETED", Align::Left), ("BY", Align::Left)];
        output::answer(
            context.form,
            || output::table(&columns, &rows),
            || json!({ "vault": vault_json(vault), "deleted": entries }),
        )?;
    }
    Ok(codes.first().copied().unwrap_or(Code::Done))
}

fn vault_json(vault: &Vault) -> serde_json::Value {
    json!({ "id": crate::bytes::hex(&vault.config().id), "name": vault.config().name })
}

/// Manifests that load, and what stops the others.
struct Listing {
    backups: Vec<(Address, Manifest)>,
    damaged: Vec<(Address, anyhow::Error)>,
    /// What keeps some of them from being deleted.
    protections: anyhow::Result<Protections>,
    /// What each takes of the vault, if that was asked for.
    needed: Option<Vec<Needed>>,
}

impl Listing {
    /// Loads the manifests with as many threads as there are cores; their order stays.
    fn load(vault: &Vault, addresses: &[Address]) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let share = addresses.len().div_ceil(cores).max(1);
        let load = |address: &Address| (address.clone(), vault.load(address));
        let mut listing = Self {
            backups: Vec::with_capacity(addresses.len()),
            damaged: Vec::new(),
            protections: Ok(Protections::default()),
            needed: None,
        };
        thread::scope(|scope| {
            let shares = addresses.chunks(share);
            let threads: Vec<_> = shares
                .map(|share| scope.spawn(move || share.iter().map(load).collect::<Vec<_>>()))
                .collect();
            for (address, manifest) in threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            {
                match manifest {
                    Ok(manifest) => listing.backups.push((address, manifest)),
                    // Deleted between the two looks: it is simply not there any more.
                    Err(vault::Error::NoBackup { .. }) => {}
                    Err(error) => listing.damaged.push((address, error.into())),
                }
            }
        });
        listing
    }

    fn text(&self) -> String {
        let held: Vec<String> = self.backups.iter().map(|(address, _)| self.held(address)).collect();
        let is_held = held.iter().any(|held| !held.is_empty());
        let mut columns = vec![
            ("ADDRESS", Align::Left),
            ("CONSISTENCY", Align::Left),
            ("LOGICAL", Align::Right),
            ("DATA", Align::Right),
            ("NEW", Align::Right),
        ];
        if self.needed.is_some() {
            columns.extend([("UNIQUE", Align::Right), ("SHARED", Align::Right)]);
        }
        // Most vaults have no pins and no locks, and the addresses are long.
        columns.extend(is_held.then_some(("HELD", Align::Left)));
        columns.push(("TAGS", Align::Left));
        let row = |(number, held): (usize, String)| {
            let (address, manifest) = self.backups.get(number)?;
            let sizes = manifest.sizes();
            let mut row = vec![address.to_string(), manifest.consistency.word().to_owned()];
            row.extend([sizes.logical, sizes.data, sizes.new].map(size_text));
            if let Some(needed) = self.needed(number) {
                row.extend([needed.unique, needed.shared()].map(size_text));
            }
            row.extend(is_held.then_some(held));
            row.push(tags_text(&manifest.tags));
            Some(row)
        };
        let rows: Vec<Vec<String>> = held.into_iter().enumerate().filter_map(row).collect();
        output::table(&columns, &rows)
    }

    /// `pinned`, `locked until ...`, or nothing.
    fn held(&self, address: &Address) -> String {
        let Ok(protections) = &self.protections else {
            return "unknown".to_owned();
        };
        let now = System.now();
        let until = protections.lock(address, now);
        let locked = until.map(|until| format!("locked until {}", rfc3339(until.seconds())));
        let pinned = protections.pin(address, now).map(|_| "pinned".to_owned());
        let words: Vec<String> = [pinned, locked].into_iter().flatten().collect();
        words.join(", ")
    }

    fn needed(&self, number: usize) -> Option<&Needed> {
        self.needed.as_ref()?.get(number)
    }

    fn json(&self, vault: &Vault) -> serde_json::Value {
        let backups: Vec<_> = (0..)
            .zip(&self.backups)
            .map(|(number, (address, manifest))| self.entry(number, address, manifest))
            .collect();
        let damaged: Vec<_> = self
            .damaged
            .iter()
            .map(|(address, error)| json!({ "address": address.to_string(), "error": format!("{error:#}") }))
            .collect();
        json!({
            "vault": vault_json(vault),
            "backups": backups,
            "damaged": damaged,
        })
    }

    fn entry(&self, number: usize, address: &Address, manifest: &Manifest) -> serde_json::Value {
        let mut entry = json!({
            "address": address.to_string(),
            "kind": manifest.kind.word(),
            "resource": manifest.name,
            "point": address.point.to_string(),
            "time": rfc3339(manifest.point),
            "consistency": manifest.consistency.word(),
            "logical_bytes": manifest.sizes().logical,
            "data_bytes": manifest.sizes().data,
            "new_bytes": manifest.sizes().new,
            "stored_bytes": manifest.sizes().stored,
            "tags": manifest.tags,
        });
        let Some(members) = entry.as_object_mut() else {
            return entry;
        };
        if let Ok(protections) = &self.protections {
            let now = System.now();
            let until = protections.lock(address, now).map(|until| rfc3339(until.seconds()));
            members.insert("locked_until".to_owned(), json!(until));
            members.insert("pin".to_owned(), json!(protections.pin(address, now).map(pin_json)));
        }
        if let Some(needed) = self.needed(number) {
            members.insert("unique_bytes".to_owned(), needed.unique.into());
            members.insert("shared_bytes".to_owned(), needed.shared().into());
        }
        entry
    }
}

fn pin_json(pin: &Pin) -> serde_json::Value {
    json!({ "at": rfc3339(pin.at), "by": pin.by, "reason": pin.reason, "until": pin.until.map(rfc3339) })
}
