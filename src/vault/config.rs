//! The vault object: what a vault is, as JSON that people can read.
//!
//! # Source
//! `docs/format.md`, section "Vault object".

use super::tags::{self, Tags};
use super::{Error, Result, VaultId};
use crate::bytes::{hex, unhex};
use crate::checksum::Digest;
use crate::clock::Point;
use crate::store::Exclusion;
use serde::{Deserialize, Serialize};

/// Largest vault object in bytes.
pub const MAX_CONFIG: u64 = 1 << 20;
/// The `format` member of every vault object.
const FORMAT: &str = "vaultfs";
/// The `compat` flag of a vault whose store was seen to keep two writers of one name apart by itself (`If-None-Match: *`).
pub(super) const CONDITIONAL_PUT: &str = "conditional-put";
/// The `ro_compat` flag of a vault in which records may hide and protect backups.
pub(super) const RECORDS: &str = "records";
/// Smallest and largest chunk size of disks, powers of two.
pub const CHUNK_SIZES: std::ops::RangeInclusive<u32> = (64 << 10)..=(4 << 20);

/// Feature flags in three sets, as ext4 has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// Unknown ones may be ignored.
    pub compat: Vec<String>,
    /// Unknown ones forbid writing.
    pub ro_compat: Vec<String>,
    /// Unknown ones forbid reading.
    pub incompat: Vec<String>,
}

/// What a vault is; fixed when it is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Random id, in the header of every object of the vault.
    pub id: VaultId,
    /// Name for people.
    pub name: String,
    /// Chunk size of disks in bytes.
    pub chunk_size: u32,
    /// Tags of the vault.
    pub tags: Tags,
    /// Feature flags.
    pub features: Features,
    /// When it was created, seconds since 1970.
    pub created: i64,
}

/// The vault object as stored; `blake3` covers every other member.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: String,
    version: u16,
    id: String,
    name: String,
    created: String,
    chunk_size: u32,
    tags: Tags,
    features: Features,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    blake3: String,
}

impl Config {
    /// How the store of this vault keeps two writers of one name apart, as it was found when the vault was made.
    pub(super) fn exclusion(&self) -> Exclusion {
        if self.features.compat.iter().any(|flag| flag == CONDITIONAL_PUT) {
            Exclusion::Atomic
        } else {
            Exclusion::Checked
        }
    }

    /// Says whether `size` can be the chunk size of a vault.
    ///
    /// # Errors
    /// A sentence saying what is allowed.
    pub fn check_chunk_size(size: u64) -> Result<u32, String> {
        u32::try_from(size)
            .ok()
            .filter(|size| size.is_power_of_two() && CHUNK_SIZES.contains(size))
            .ok_or_else(|| format!("chunk size {size} is not a power of two from 64KiB to 4MiB"))
    }

    /// Encodes the vault object.
    ///
    /// # Errors
    /// `Corrupt` if the values cannot be written as JSON, which no checked values do.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut stored = Stored {
            format: FORMAT.to_owned(),
            version: super::object::VERSION,
            id: hex(&self.id),
            name: self.name.clone(),
            created: crate::clock::rfc3339(self.created),
            chunk_size: self.chunk_size,
            tags: self.tags.clone(),
            features: self.features.clone(),
            blake3: String::new(),
        };
        let failed = |error: serde_json::Error| corrupt(&error.to_string());
        stored.blake3 = digest(serde_json::to_value(&stored).map_err(failed)?)?;
        let mut text = serde_json::to_string_pretty(&stored).map_err(failed)?;
        text.push('\n');
        Ok(text.into_bytes())
    }

    /// Decodes and checks a vault object.
    ///
    /// # Errors
    /// `Corrupt`, `FromTheFuture` for a newer version, `UnknownFeature` for an `incompat` flag this version does not know.
    pub fn decode(data: &[u8]) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_slice(data).map_err(|error| corrupt(&error.to_string()))?;
        if value.get("format").and_then(serde_json::Value::as_str) != Some(FORMAT) {
            return Err(corrupt("it is not the object of a vaultfs vault"));
        }
        let expected = value
            .get("blake3")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if digest(value.clone())? != expected {
            return Err(corrupt("it fails its hash"));
        }
        // Version and features are looked at before the rest: a vault from the future is refused as that, not as garbage.
        let version = value
            .get("version")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default();
        if version != u64::from(super::object::VERSION) {
            let version = u16::try_from(version).unwrap_or(u16::MAX);
            return Err(Error::FromTheFuture {
                object: "vault".to_owned(),
                version,
            });
        }
        let stored: Stored = serde_json::from_value(value).map_err(|error| corrupt(&error.to_string()))?;
        if let Some(feature) = stored.features.incompat.first() {
            return Err(Error::UnknownFeature {
                feature: feature.clone(),
            });
        }
        stored.check()
    }
}

impl Stored {
    fn check(self) -> Result<Config> {
        let id = unhex(&self.id).ok_or_else(|| corrupt("its id is not 32 hexadecimal digits"))?;
        super::check_name(&self.name).map_err(|error| corrupt(&error))?;
        tags::check(&self.tags).map_err(|error| corrupt(&error))?;
        let created = Point::parse_user(&self.created)
            .map_err(|error| corrupt(&error))?
            .seconds();
        let chunk_size = Config::check_chunk_size(u64::from(self.chunk_size)).map_err(|error| corrupt(&error))?;
        let Self {
            name, tags, features, ..
        } = self;
        Ok(Config {
            id,
            name,
            chunk_size,
            tags,
            features,
            created,
        })
    }
}

/// BLAKE3 of the members but `blake3`, sorted by name, as compact JSON.
fn digest(mut value: serde_json::Value) -> Result<String> {
    let members = value
        .as_object_mut()
        .ok_or_else(|| corrupt("it is not a JSON object"))?;
    members.remove("blake3");
    Ok(Digest::of(value.to_string().as_bytes()).to_string())
}

fn corrupt(what: &str) -> Error {
    Error::Corrupt {
        object: "vault".to_owned(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Config {
        Config {
            id: [0xab; 16],
            name: "main".to_owned(),
            chunk_size: 1 << 17,
            tags: [("env".to_owned(), "prod".to_owned())].into(),
            features: Features::default(),
            created: 1_795_143_600,
        }
    }

    #[test]
    fn every_flipped_bit_is_refused_or_changes_nothing() {
        let data = sample().encode().unwrap();
        assert_eq!(Config::decode(&data).unwrap(), sample());
        for at in 0..data.len() {
            for bit in 0..8 {
                let mut bad = data.clone();
                bad[at] ^= 1 << bit;
                if let Ok(config) = Config::decode(&bad) {
                    assert_eq!(config, sample(), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn unknown_incompat_flag_is_refused_and_unknown_compat_is_not() {
        let with = |features| Config { features, ..sample() }.encode().unwrap();
        let flag = || vec!["teleport".to_owned()];
        let incompat = with(Features {
            incompat: flag(),
            ..Features::default()
        });
        assert!(matches!(Config::decode(&incompat), Err(Error::UnknownFeature { feature }) if feature == "teleport"));
        let compat = with(Features {
            compat: flag(),
            ro_compat: flag(),
            ..Features::default()
        });
        assert!(Config::decode(&compat).is_ok());
    }

    #[test]
    fn a_vault_from_the_future_is_refused_as_that() {
        let mut value: serde_json::Value = serde_json::from_slice(&sample().encode().unwrap()).unwrap();
        value["version"] = 2.into();
        value["new_member"] = true.into();
        value["blake3"] = digest(value.clone()).unwrap().into();
        let data = serde_json::to_vec(&value).unwrap();
        assert!(matches!(
            Config::decode(&data),
            Err(Error::FromTheFuture { version: 2, .. })
        ));
    }
}
