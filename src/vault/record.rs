//! Records: small facts beside the backups, each an object under a key that says what it is about.
//!
//! The payload is JSON with one spelling: compact, members sorted by name, none that is unknown. Whatever reads otherwise was not
//! written by a vaultfs that knows this kind of record, and is refused.
//!
//! # Source
//! `docs/format.md`, section "Records".

use super::object::{FRAME_LEN, ObjectType};
use super::{Error, Result, Vault, read_checked};
use crate::bytes::to_u64;
use crate::store::Key;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest payload of a record in bytes.
pub const MAX_RECORD: usize = 1 << 20;

impl Vault {
    /// Stores a record durably under a key that is free.
    ///
    /// # Errors
    /// `Store` with `AlreadyExists` if there is an object of that key, `TooLarge`, `Store`.
    pub fn put_record<T: Serialize>(&self, key: &Key, record: &T) -> Result<()> {
        let payload = encode(key, record)?;
        if payload.len() > MAX_RECORD {
            return Err(Error::TooLarge { what: "record" });
        }
        let object = self.named_frame(ObjectType::Record, key).seal(&payload);
        Ok(self.store().put_new(key, &object)?)
    }

    /// Reads and checks a record.
    ///
    /// # Errors
    /// `Store` with `NotFound` if there is none, `Corrupt`, `FromTheFuture`, `Store`.
    pub fn record<T: Serialize + DeserializeOwned>(&self, key: &Key) -> Result<T> {
        let frame = self.named_frame(ObjectType::Record, key);
        let limit = to_u64(MAX_RECORD + FRAME_LEN);
        read_checked(self.store(), key, limit, |object| {
            decode(key, frame.open(object, key.as_str())?)
        })
    }

    /// Removes a record durably; says whether there was one.
    ///
    /// # Errors
    /// `Store`.
    pub fn remove_record(&self, key: &Key) -> Result<bool> {
        match self.store().delete(key) {
            Err(error) if error.is_not_found() => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }
}

/// Encodes the payload of a record.
///
/// # Errors
/// `Corrupt` if it cannot be written as JSON, which no record can.
pub fn encode<T: Serialize>(key: &Key, record: &T) -> Result<Vec<u8>> {
    // A `Value` keeps its members sorted.
    let value = serde_json::to_value(record).map_err(|error| corrupt(key, &error.to_string()))?;
    Ok(value.to_string().into_bytes())
}

/// Decodes the payload of a record.
///
/// # Errors
/// `Corrupt` if it is not the one spelling of a record of this kind.
pub fn decode<T: Serialize + DeserializeOwned>(key: &Key, payload: &[u8]) -> Result<T> {
    let record = serde_json::from_slice(payload).map_err(|error| corrupt(key, &error.to_string()))?;
    if encode(key, &record)? != payload {
        return Err(corrupt(key, "it is not spelled as records are"));
    }
    Ok(record)
}

fn corrupt(key: &Key, what: &str) -> Error {
    Error::Corrupt {
        object: key.to_string(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::vault;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fact {
        zeta: String,
        alpha: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maybe: Option<i64>,
    }

    fn fact() -> Fact {
        Fact {
            zeta: "\u{e4}\n".to_owned(),
            alpha: 7,
            maybe: None,
        }
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn a_record_reads_back_and_is_never_replaced() {
        let vault = vault();
        let at = key("facts/one");
        vault.put_record(&at, &fact()).unwrap();
        assert_eq!(vault.record::<Fact>(&at).unwrap(), fact());
        let again = vault.put_record(&at, &fact());
        assert!(matches!(
            again,
            Err(Error::Store(crate::store::Error::AlreadyExists { .. }))
        ));
        assert!(vault.remove_record(&at).unwrap());
        assert!(!vault.remove_record(&at).unwrap());
        let gone = vault.record::<Fact>(&at);
        assert!(matches!(gone, Err(Error::Store(error)) if error.is_not_found()));
    }

    #[test]
    fn members_are_sorted_and_any_other_spelling_is_refused() {
        let vault = vault();
        let at = key("facts/one");
        let wanted = "{\"alpha\":7,\"zeta\":\"\u{e4}\\n\"}";
        assert_eq!(encode(&at, &fact()).unwrap(), wanted.as_bytes());
        for (number, bad) in [
            "{\"zeta\":\"\u{e4}\\n\",\"alpha\":7}",
            "{\"alpha\":7, \"zeta\":\"\"}",
            "{\"alpha\":7,\"maybe\":null,\"zeta\":\"\"}",
            "{\"alpha\":7,\"zeta\":\"\\u00e4\"}",
            "{\"alpha\":7,\"more\":1,\"zeta\":\"\"}",
            "{\"alpha\":7}",
            "{\"alpha\":7,\"alpha\":7,\"zeta\":\"\"}",
            "{\"alpha\":7,\"zeta\":\"\"}\n",
            "[7,\"\"]",
            "",
        ]
        .into_iter()
        .enumerate()
        {
            let at = key(&format!("facts/bad{number}"));
            let object = vault.named_frame(ObjectType::Record, &at).seal(bad.as_bytes());
            vault.store().put_new(&at, &object).unwrap();
            let read = vault.record::<Fact>(&at);
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{bad}");
        }
    }

    #[test]
    fn a_record_passes_for_no_other_and_for_no_manifest() {
        let vault = vault();
        let (one, two) = (key("facts/one"), key("facts/two"));
        vault.put_record(&one, &fact()).unwrap();
        let object = vault.store().get(&one, 1 << 20).unwrap();
        vault.store().put_new(&two, &object).unwrap();
        assert!(matches!(vault.record::<Fact>(&two), Err(Error::Corrupt { .. })));
        let frame = vault.named_frame(ObjectType::Manifest, &one);
        assert!(frame.open(&object, "facts/one").is_err());
    }

    #[test]
    fn more_than_a_mebibyte_is_neither_written_nor_read() {
        let vault = vault();
        let at = key("facts/large");
        let large = Fact {
            zeta: "x".repeat(MAX_RECORD),
            ..fact()
        };
        assert!(matches!(vault.put_record(&at, &large), Err(Error::TooLarge { .. })));
        let object = vault
            .named_frame(ObjectType::Record, &at)
            .seal(&encode(&at, &large).unwrap());
        vault.store().put_new(&at, &object).unwrap();
        assert!(matches!(vault.record::<Fact>(&at), Err(Error::Store(_))));
    }
}
