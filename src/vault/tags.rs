//! Tags: `key=value` pairs on vaults and backups, with the limits of the cloud services people come from.

use std::collections::BTreeMap;

/// Tags, sorted by key.
pub type Tags = BTreeMap<String, String>;

/// Most tags on one backup or vault.
pub const MAX_TAGS: usize = 20;
/// Longest key, in characters.
pub const MAX_KEY: usize = 36;
/// Longest value, in characters.
pub const MAX_VALUE: usize = 43;

/// The tag that names the schedule a backup was made by.
pub const SCHEDULE: &str = "schedule";

/// Splits `key=value` and checks both; outer spaces are dropped.
///
/// # Errors
/// A sentence saying which rule is broken.
pub fn parse(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("tag {text:?} is not of the form key=value"))?;
    let (key, value) = (key.trim(), value.trim());
    check_pair(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Checks a whole set of tags.
///
/// # Errors
/// A sentence saying which rule is broken.
pub fn check(tags: &Tags) -> Result<(), String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("{} tags are more than the {MAX_TAGS} allowed", tags.len()));
    }
    tags.iter().try_for_each(|(key, value)| check_pair(key, value))
}

fn check_pair(key: &str, value: &str) -> Result<(), String> {
    let key_len = key.chars().count();
    if key_len == 0 || key_len > MAX_KEY {
        return Err(format!(
            "tag key {key:?} has {key_len} characters; 1 to {MAX_KEY} are allowed"
        ));
    }
    let value_len = value.chars().count();
    if value_len > MAX_VALUE {
        return Err(format!(
            "tag value {value:?} has {value_len} characters; at most {MAX_VALUE} are allowed"
        ));
    }
    match key
        .chars()
        .chain(value.chars())
        .find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_')))
    {
        Some(bad) => Err(format!(
            "tag {key}={value} has the character {bad:?}; letters, digits, - and _ are allowed"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_the_limits_of_the_cloud_services() {
        assert_eq!(parse(" env = prod "), Ok(("env".to_owned(), "prod".to_owned())));
        assert_eq!(parse("env="), Ok(("env".to_owned(), String::new())));
        assert!(parse(&format!("{}={}", "k".repeat(36), "v".repeat(43))).is_ok());
        let long_key = format!("{}=v", "k".repeat(37));
        let long_value = format!("k={}", "v".repeat(44));
        for bad in [
            "",
            "k",
            "=v",
            "k=a b",
            "k=a,b",
            "k=a=b",
            "k=<",
            "k=a/b",
            "k\u{1}=v",
            &long_key,
            &long_value,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn at_most_twenty_tags() {
        let mut tags: Tags = (0..20).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(check(&tags).is_ok());
        tags.insert("one-more".to_owned(), String::new());
        assert!(check(&tags).is_err());
    }
}
