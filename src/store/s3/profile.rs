//! The profile files of the AWS tools, `~/.aws/config` and `~/.aws/credentials`: as much of them as names a store and its keys.
//!
//! # Source
//! AWS SDKs and Tools Reference Guide, "Shared config and credentials files".

use std::collections::BTreeMap;

/// The settings of one profile, by lower-case name; a setting nested below `s3 =` is named `s3.NAME`.
pub(super) type Profile = BTreeMap<String, String>;

/// What a file is: its sections are named differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `config`: sections are `[default]` and `[profile NAME]`.
    Config,
    /// `credentials`: sections are `[NAME]`.
    Credentials,
}

/// The settings of the profile `name` in the text of a file; `None` if it has no such section.
pub(super) fn parse(text: &str, kind: Kind, name: &str) -> Option<Profile> {
    let mut found: Option<Profile> = None;
    let mut inside = false;
    let mut parent = String::new();
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = content.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = is_section(section.trim(), kind, name);
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        let (Some(profile), Some((key, value))) = (found.as_mut().filter(|_| inside), content.split_once('=')) else {
            continue;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value_of(value));
        if line.starts_with([' ', '\t']) && !parent.is_empty() {
            profile.insert(format!("{parent}.{key}"), value);
        } else {
            parent = if value.is_empty() { key.clone() } else { String::new() };
            profile.insert(key, value);
        }
    }
    found
}

fn is_section(section: &str, kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Credentials => section == name,
        Kind::Config => {
            let named = section
                .strip_prefix("profile")
                .filter(|rest| rest.starts_with([' ', '\t']));
            named.map(str::trim) == Some(name) || (name == "default" && section == name)
        }
    }
}

/// A value without the comment after it.
fn value_of(text: &str) -> String {
    let end = text.find(" #").or_else(|| text.find(" ;")).unwrap_or(text.len());
    text.get(..end).unwrap_or(text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# comment\n[default]\nregion = eu-west-1\n\n[profile lab]\nregion=us-east-2 # here\nendpoint_url = http://127.0.0.1:7480\n\
        s3 =\n  addressing_style = virtual\noutput = json\n[sso-session lab]\nregion = no\n[profile  other ]\nregion = x\n";

    #[test]
    fn a_profile_is_found_by_its_name_in_the_spelling_of_each_file() {
        let lab = parse(CONFIG, Kind::Config, "lab").unwrap();
        assert_eq!(lab["region"], "us-east-2");
        assert_eq!(lab["endpoint_url"], "http://127.0.0.1:7480");
        assert_eq!(lab["s3.addressing_style"], "virtual");
        assert_eq!(lab["output"], "json");
        assert_eq!(parse(CONFIG, Kind::Config, "default").unwrap()["region"], "eu-west-1");
        assert_eq!(parse(CONFIG, Kind::Config, "other").unwrap()["region"], "x");
        assert_eq!(parse(CONFIG, Kind::Config, "missing"), None);
        let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = s=/+\n[lab]\naws_access_key_id=B\n";
        assert_eq!(
            parse(keys, Kind::Credentials, "default").unwrap()["aws_secret_access_key"],
            "s=/+"
        );
        assert_eq!(parse(keys, Kind::Credentials, "lab").unwrap()["aws_access_key_id"], "B");
        assert_eq!(parse(keys, Kind::Config, "lab"), None);
    }

    #[test]
    fn any_text_is_read_without_harm() {
        for text in [
            "",
            "[",
            "[]",
            "=\n",
            "[default]\n=\n = \nx",
            "[default\nregion=1",
            "\u{0}[default]",
        ] {
            let _ = parse(text, Kind::Config, "default");
        }
    }
}
