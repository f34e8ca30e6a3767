//! Which parts of a tree are wanted: all of it, or some paths with everything below them.

use std::collections::BTreeMap;

/// A directory and which names in it are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Everything.
    All,
    /// These names, each with its own parts.
    Named(BTreeMap<Vec<u8>, Parts>),
}

impl Parts {
    /// The parts that paths name, each given as its names from the top; all if there is no path.
    ///
    /// A path that leads to the top itself, or above another one, takes what is below with it.
    #[must_use]
    pub fn of(paths: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Self {
        let mut top = Self::Named(BTreeMap::new());
        for path in paths {
            top.add(path);
        }
        match top {
            Self::Named(names) if names.is_empty() => Self::All,
            other => other,
        }
    }

    fn add(&mut self, path: Vec<Vec<u8>>) {
        let mut here = self;
        for name in path {
            match here {
                Self::All => return,
                Self::Named(names) => here = names.entry(name).or_insert_with(|| Self::Named(BTreeMap::new())),
            }
        }
        *here = Self::All;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(paths: &[&str]) -> Parts {
        let names = |path: &&str| path.split('/').filter(|name| !name.is_empty()).map(Vec::from).collect();
        Parts::of(paths.iter().map(names))
    }

    #[test]
    fn the_wider_of_two_paths_wins_in_any_order() {
        assert_eq!(parts(&[]), Parts::All);
        assert_eq!(parts(&["etc", ""]), Parts::All);
        assert_eq!(parts(&["", "etc"]), Parts::All);
        let etc = Parts::Named(BTreeMap::from([(b"etc".to_vec(), Parts::All)]));
        assert_eq!(parts(&["etc", "etc/ssl"]), etc);
        assert_eq!(parts(&["etc/ssl", "etc"]), etc);
        let Parts::Named(top) = parts(&["etc/ssl", "etc/apt", "home"]) else {
            panic!("all");
        };
        assert_eq!(top.len(), 2);
        assert_eq!(top[&b"home"[..]], Parts::All);
    }
}
