//! `bucket/prefix`: where in an object store a vault is. Pure text.

use crate::store::is_component;
use std::fmt;

/// A bucket, and the prefix of all keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    bucket: String,
    /// Empty, or components joined by `/`, without a `/` at either end.
    prefix: String,
}

/// Longest prefix, so that prefix and key stay below the 1024 bytes of S3.
const MAX_PREFIX: usize = 500;

impl Address {
    /// Reads what follows `s3://`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and the rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        if bucket.is_empty() {
            return Err("the bucket is missing; write s3://bucket or s3://bucket/prefix".to_owned());
        }
        if !is_component(bucket) || bucket.len() > 255 {
            return Err(format!("{bucket:?} cannot be the name of a bucket"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !(prefix.is_empty() || prefix.split('/').all(is_component)) || prefix.len() > MAX_PREFIX {
            return Err(format!(
                "the prefix {prefix:?} must be names of A-Z a-z 0-9 . _ - joined by single slashes, none starting with a dot, at most {MAX_PREFIX} bytes"
            ));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The last name in it: of the prefix, or the bucket.
    #[must_use]
    pub fn name(&self) -> &str {
        let last = self.prefix.rsplit('/').next();
        last.filter(|name| !name.is_empty()).unwrap_or(&self.bucket)
    }

    /// The full name in the bucket of what the store calls `key`.
    pub(super) fn full(&self, key: &str) -> String {
        match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    /// The store's name for a full name in the bucket; `None` if it lies outside the prefix.
    pub(super) fn strip<'a>(&self, full: &'a str) -> Option<&'a str> {
        match self.prefix.as_str() {
            "" => Some(full),
            prefix => full.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => write!(f, "s3://{}", self.bucket),
            prefix => write!(f, "s3://{}/{prefix}", self.bucket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_below_the_prefix_and_nothing_else_does() {
        let address = Address::parse("bucket/a/b/").unwrap();
        assert_eq!((address.bucket(), address.name()), ("bucket", "b"));
        assert_eq!(address.full("vault"), "a/b/vault");
        assert_eq!(address.strip("a/b/packs/0a"), Some("packs/0a"));
        assert_eq!(address.strip("a/bc/packs"), None);
        let whole = Address::parse("bucket").unwrap();
        assert_eq!((whole.name(), whole.full("vault")), ("bucket", "vault".to_owned()));
        assert_eq!(whole.strip("vault"), Some("vault"));
    }

    #[test]
    fn names_that_could_leave_the_prefix_are_refused() {
        for bad in ["", "/p", "b/..", "b/a//c", "b/.x", "b/ä", "b c/p", "b/?x", "b/%2e"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert!(Address::parse(&format!("b/{}", "x".repeat(501))).is_err());
    }
}
