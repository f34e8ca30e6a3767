//! `init`: makes a vault.

use super::super::exit::Code;
use super::super::{Context, args, output, request};
use super::{exact_size, fields, tags_text};
use crate::clock;
use crate::store::location::Location;
use crate::store::s3;
use crate::vault::{self, Config, Vault, check_name};
use serde_json::json;

/// Makes the vault and says what it is.
pub(in super::super) fn run(context: &Context, args: &args::Init) -> anyhow::Result<Code> {
    let location = request::location(&args.vault)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&location),
    };
    check_name(&name).map_err(request::Usage)?;
    let chunk_size = args.chunk_size.unwrap_or(request::DEFAULT_CHUNK_SIZE);
    let chunk_size = Config::check_chunk_size(chunk_size).map_err(request::Usage)?;
    let tags = request::tags(&args.tags)?;
    let mut config = vault::new_config(&name, chunk_size, &clock::System)?;
    config.tags = tags;
    let vault = Vault::create(location.create(s3::Settings::from_environment)?, config)?;
    if let Err(error) = vault.store().keep_reserve() {
        // The vault is as good without it, until its disk is full.
        output::say(&format!(
            "no space, or too little, is kept back for a prune on a full disk: {error}"
        ));
    }
    output::answer(context.form, || text(&vault), || json(&vault))?;
    Ok(Code::Done)
}

/// The own name of directory, prefix or bucket where it can be a vault's, else `vault`.
fn name_of(location: &Location) -> String {
    let name = match location {
        Location::Directory(dir) => {
            let full = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            full.file_name().map(|name| name.to_string_lossy().into_owned())
        }
        Location::Bucket(address) => Some(address.name().to_owned()),
    };
    name.filter(|name| check_name(name).is_ok())
        .unwrap_or_else(|| "vault".to_owned())
}

fn text(vault: &Vault) -> String {
    let config = vault.config();
    let made = format!("made the vault {} in {}\n", config.name, vault.store().describe());
    made + &fields(&[
        ("id", crate::bytes::hex(&config.id)),
        ("chunk size", exact_size(u64::from(config.chunk_size))),
        (
            "encryption",
            "none: whoever reads the vault's objects reads the backups".to_owned(),
        ),
        ("tags", tags_text(&config.tags)),
    ])
}

fn json(vault: &Vault) -> serde_json::Value {
    let config = vault.config();
    json!({
        "id": crate::bytes::hex(&config.id),
        "name": config.name,
        "location": vault.store().describe(),
        "chunk_size": config.chunk_size,
        "encrypted": false,
        "tags": config.tags,
    })
}
