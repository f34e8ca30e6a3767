//! `list`: every backup under a prefix, a line each.

use super::super::exit::{self, Code};
use super::super::output::{self, Align, Form};
use super::super::{Context, args, request};
use super::tags_text;
use crate::bytes::size_text;
use crate::clock::rfc3339;
use crate::vault::{self, Address, Manifest, Vault};
use serde_json::json;
use std::num::NonZero;
use std::thread;

/// Lists what the prefix names, damaged backups apart from the others.
pub(in super::super) fn run(context: &Context, args: &args::List) -> anyhow::Result<Code> {
    let filter = request::Filter::parse(args.prefix.as_deref().unwrap_or_default())?;
    let vault = super::open(&args.vault)?;
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
    let listing = Listing::load(&vault, &addresses);
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
    Ok(listing
        .damaged
        .first()
        .map_or(Code::Done, |(_, error)| exit::code_of(error)))
}

/// Manifests that load, and what stops the others.
struct Listing {
    backups: Vec<(Address, Manifest)>,
    damaged: Vec<(Address, anyhow::Error)>,
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
        let columns = [
            ("ADDRESS", Align::Left),
            ("CONSISTENCY", Align::Left),
            ("LOGICAL", Align::Right),
            ("DATA", Align::Right),
            ("NEW", Align::Right),
            ("TAGS", Align::Left),
        ];
        let rows: Vec<Vec<String>> = self
            .backups
            .iter()
            .map(|(address, manifest)| row(address, manifest))
            .collect();
        output::table(&columns, &rows)
    }

    fn json(&self, vault: &Vault) -> serde_json::Value {
        let backups: Vec<_> = self
            .backups
            .iter()
            .map(|(address, manifest)| entry(address, manifest))
            .collect();
        let damaged: Vec<_> = self
            .damaged
            .iter()
            .map(|(address, error)| json!({ "address": address.to_string(), "error": format!("{error:#}") }))
            .collect();
        json!({
            "vault": { "id": crate::bytes::hex(&vault.config().id), "name": vault.config().name },
            "backups": backups,
            "damaged": damaged,
        })
    }
}

fn row(address: &Address, manifest: &Manifest) -> Vec<String> {
    vec![
        address.to_string(),
        manifest.consistency.word().to_owned(),
        size_text(manifest.sizes().logical),
        size_text(manifest.sizes().data),
        size_text(manifest.sizes().new),
        tags_text(&manifest.tags),
    ]
}

fn entry(address: &Address, manifest: &Manifest) -> serde_json::Value {
    json!({
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
    })
}
