//! What `copy` is asked for: which backups, and where to.

use super::{Filter, Usage};
use crate::cli::args;
use crate::vault::{Address, AddressSpec, Catalogue, ResourceName};
use std::ffi::OsStr;

/// A checked request.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct CopyRequest<'a> {
    /// The words that say which backups; every one means at least one.
    words: Vec<Word>,
    /// The vault copied to.
    pub(in super::super) to: &'a OsStr,
}

/// Some backups.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    /// Those of an address cut short.
    Under(Filter),
    /// The newest of a resource.
    Latest(ResourceName),
}

/// Tells the vault copied to from the words before it.
pub(in super::super) fn copy(copy: &args::Copy) -> Result<CopyRequest<'_>, Usage> {
    let (to, words) = copy
        .words
        .split_last()
        .ok_or_else(|| Usage("name the vault to copy to".to_owned()))?;
    let words = match (copy.all, words) {
        (true, []) => vec![Word::Under(Filter::default())],
        (true, [word, ..]) => {
            return Err(Usage(format!(
                "--all copies every backup; leave out {}, or --all",
                word.display()
            )));
        }
        (false, []) => {
            return Err(Usage(format!(
                "{} is the vault to copy to; name the backups before it, or say --all",
                to.display()
            )));
        }
        (false, words) => words.iter().map(|word| parse(word)).collect::<Result<_, _>>()?,
    };
    Ok(CopyRequest { words, to })
}

fn parse(word: &OsStr) -> Result<Word, Usage> {
    let text = word
        .to_str()
        .ok_or_else(|| Usage(format!("{} is no address", word.display())))?;
    if text.trim_matches('/').is_empty() {
        return Err(Usage(
            "an empty address names nothing; --all copies every backup".to_owned(),
        ));
    }
    match text.parse() {
        Ok(AddressSpec::Latest(resource)) => Ok(Word::Latest(resource)),
        _ => Filter::parse(text).map(Word::Under),
    }
}

impl CopyRequest<'_> {
    /// The backups that the words name; the error is a word that names none.
    pub(in super::super) fn choose(&self, catalogue: &Catalogue) -> Result<Vec<Address>, String> {
        let mut chosen = Vec::new();
        for word in &self.words {
            let found = word.choose(catalogue);
            match word {
                Word::Under(filter) if filter.takes_all() => {}
                Word::Under(filter) if found.is_empty() => return Err(filter.to_string()),
                Word::Latest(resource) if found.is_empty() => return Err(format!("{resource}/latest")),
                _ => {}
            }
            chosen.extend(found);
        }
        Ok(chosen)
    }
}

impl Word {
    fn choose(&self, catalogue: &Catalogue) -> Vec<Address> {
        match self {
            Self::Latest(resource) => {
                let newest = catalogue.get(resource).and_then(|points| points.last());
                newest.map(|point| resource.at(*point)).into_iter().collect()
            }
            Self::Under(filter) => catalogue
                .iter()
                .flat_map(|(resource, points)| points.iter().map(|point| resource.at(*point)))
                .filter(|address| filter.takes(address))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn args(words: &str) -> args::Copy {
        let words = format!("vaultfs copy v {words}");
        let args::Args { command, .. } = args::parse(words.split_whitespace().map(OsString::from).collect()).unwrap();
        match command {
            args::Command::Copy(copy) => copy,
            other => panic!("{other:?}"),
        }
    }

    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::new();
        for text in [
            "servers/web/2026-01-01T00-00-00Z",
            "servers/web/2026-01-02T00-00-00Z",
            "servers/web-01/2026-01-01T00-00-00Z",
            "disks/db/2026-02-01T00-00-00Z",
        ] {
            let address: Address = text.parse().unwrap();
            catalogue.entry(address.resource).or_default().push(address.point);
        }
        catalogue
    }

    fn chosen(words: &str) -> Result<usize, String> {
        copy(&args(words))
            .unwrap()
            .choose(&catalogue())
            .map(|chosen| chosen.len())
    }

    #[test]
    fn words_name_backups_and_the_last_one_the_vault() {
        assert_eq!(chosen("--all to"), Ok(4));
        assert_eq!(chosen("servers/web to"), Ok(2));
        assert_eq!(chosen("servers/web/latest to"), Ok(1));
        assert_eq!(chosen("servers to"), Ok(3));
        assert_eq!(chosen("servers/web/2026-01-02 disks/db/2026-02-01T00-00-00Z to"), Ok(2));
        let words = args("servers/web to");
        assert_eq!(copy(&words).unwrap().to, "to");
    }

    #[test]
    fn a_word_that_names_nothing_is_told() {
        assert_eq!(chosen("servers/web servers/db to"), Err("servers/db".to_owned()));
        assert_eq!(chosen("disks/web/latest to"), Err("disks/web/latest".to_owned()));
        let empty = Catalogue::new();
        assert_eq!(copy(&args("--all to")).unwrap().choose(&empty), Ok(Vec::new()));
    }

    #[test]
    fn slips_are_told_with_the_cure() {
        for (words, part) in [
            ("to", "--all"),
            ("--all servers to", "leave out servers"),
            ("/ to", "--all"),
            ("web to", "servers, disks or filesystems"),
        ] {
            let message = copy(&args(words)).unwrap_err().0;
            assert!(message.contains(part), "{words}: {message}");
        }
    }
}
