//! Which backups `list` takes: an address cut short.

use super::Usage;
use crate::vault::{Address, ResourceKind, check_name};
use std::fmt;

/// A kind, then a name, then the beginning of a point; each may be left out from the right.
///
/// Names are taken whole, so that `servers/web` does not list `servers/web-01`; a point may stop anywhere: `2026-11`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Filter {
    kind: Option<ResourceKind>,
    name: Option<String>,
    point: String,
}

impl Filter {
    /// Parses an address cut short; slashes at its ends do not matter.
    pub(in super::super) fn parse(text: &str) -> Result<Self, Usage> {
        let text = text.trim_matches('/');
        let mut parts = text.splitn(3, '/');
        let Some(dir) = parts.next().filter(|dir| !dir.is_empty()) else {
            return Ok(Self::default());
        };
        let kind = ResourceKind::from_dir(dir).ok_or_else(|| {
            Usage(format!(
                "{text:?} is no address prefix: it starts with servers, disks or filesystems"
            ))
        })?;
        let name = parts.next().map(str::to_owned);
        name.as_deref().map_or(Ok(()), check_name).map_err(Usage)?;
        let point = parts.next().unwrap_or_default().to_owned();
        if let Some(bad) = point
            .chars()
            .find(|c| !(c.is_ascii_digit() || matches!(c, '-' | 'T' | 'Z')))
        {
            return Err(Usage(format!(
                "{text:?} is no address prefix: {bad:?} is in no point; a point reads 2026-11-20T03-00-00Z and may be cut short"
            )));
        }
        Ok(Self {
            kind: Some(kind),
            name,
            point,
        })
    }

    /// Says whether the filter lets every backup through.
    pub(in super::super) fn takes_all(&self) -> bool {
        *self == Self::default()
    }

    /// Says whether the filter tells backups of one resource apart.
    pub(in super::super) fn names_points(&self) -> bool {
        !self.point.is_empty()
    }

    /// Says whether `address` lies under the prefix.
    pub(in super::super) fn takes(&self, address: &Address) -> bool {
        self.kind.is_none_or(|kind| kind == address.resource.kind)
            && self.name.as_ref().is_none_or(|name| *name == address.resource.name)
            && address.point.to_string().starts_with(&self.point)
    }
}

impl fmt::Display for Filter {
    /// As an address cut short, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.kind.map(ResourceKind::dir),
            self.name.as_deref(),
            Some(self.point.as_str()),
        ];
        let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_takes_whole_names_and_the_beginning_of_points() {
        let address: Address = "servers/web-01/2026-11-20T03-00-00Z".parse().unwrap();
        for prefix in [
            "",
            "/",
            "servers",
            "servers/",
            "servers/web-01",
            "servers/web-01/2026-11",
            "servers/web-01/2026-11-20T03-00-00Z",
        ] {
            assert!(Filter::parse(prefix).unwrap().takes(&address), "{prefix}");
        }
        for prefix in ["disks", "servers/web", "servers/web-010", "servers/web-01/2026-12"] {
            assert!(!Filter::parse(prefix).unwrap().takes(&address), "{prefix}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "server",
            "web-01",
            "servers//x",
            "servers/.x",
            "servers/web-01/yesterday",
            "servers/a/2026/b",
        ] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
