//! What of a tree is left out: patterns as in `.gitignore`, and directories that say so themselves; the only file that names
//! `ignore`.

use crate::source::directory::Directory;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Name and beginning of the file that marks a cache (bford.info/cachedir).
const CACHE_TAG: (&CStr, &[u8]) = (c"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

/// A file whose presence leaves out whatever else is in its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    name: CString,
    header: Vec<u8>,
}

impl Tag {
    /// The tag of caches, `CACHEDIR.TAG` with its signature.
    #[must_use]
    pub fn cache() -> Self {
        Self {
            name: CACHE_TAG.0.to_owned(),
            header: CACHE_TAG.1.to_vec(),
        }
    }

    /// Reads `FILE` or `FILE:HEADER`, where the file begins with that header.
    ///
    /// # Errors
    /// A sentence saying what was expected.
    pub fn parse(word: &OsStr) -> Result<Self, String> {
        let bytes = word.as_bytes();
        let (name, header) = match bytes.iter().position(|byte| *byte == b':') {
            Some(at) => (bytes.get(..at), bytes.get(at.saturating_add(1)..)),
            None => (Some(bytes), None),
        };
        let name = name.filter(|name| !name.is_empty() && !name.contains(&b'/') && !matches!(*name, b"." | b".."));
        let name = name.and_then(|name| CString::new(name).ok());
        let wrong = || format!("{}: write the name of a file, or NAME:HEADER", word.display());
        Ok(Self {
            name: name.ok_or_else(wrong)?,
            header: header.unwrap_or_default().to_vec(),
        })
    }

    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> &CStr {
        &self.name
    }
}

/// What is left out of a backup.
#[derive(Clone)]
pub struct Excludes {
    patterns: Gitignore,
    tags: Vec<Tag>,
}

impl Excludes {
    /// Takes patterns, each with where it comes from, and tags.
    ///
    /// Patterns are those of `gitignore(5)`, relative to the root of the tree: the last that matches counts, `!` takes back,
    /// a `/` at the beginning or in the middle binds a pattern to its place, one at the end means directories only.
    ///
    /// # Errors
    /// A sentence saying which pattern is wrong and how.
    pub fn new<'a>(patterns: impl Iterator<Item = (String, &'a str)>, tags: Vec<Tag>) -> Result<Self, String> {
        let mut builder = GitignoreBuilder::new("");
        for (source, pattern) in patterns {
            builder
                .add_line(None, pattern)
                .map_err(|error| format!("{source}: {pattern:?} is not a pattern: {error}"))?;
        }
        let patterns = builder
            .build()
            .map_err(|error| format!("the patterns are too much: {error}"))?;
        Ok(Self { patterns, tags })
    }

    /// Excludes nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            patterns: Gitignore::empty(),
            tags: Vec::new(),
        }
    }

    /// Says whether there are patterns, so that paths are worth putting together.
    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Says whether patterns leave out the directory, or anything else, at `path` in the tree.
    pub(super) fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.patterns.matched(path, is_directory).is_ignore()
    }

    /// The tag in `directory` that leaves out everything else in it.
    pub(super) fn tag(&self, directory: &Directory) -> Option<&Tag> {
        self.tags.iter().find(|tag| directory.holds(&tag.name, &tag.header))
    }
}

impl fmt::Debug for Excludes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Excludes({} patterns, {:?})", self.patterns.len(), self.tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str]) -> Excludes {
        Excludes::new(patterns.iter().map(|pattern| ("test".to_owned(), *pattern)), Vec::new()).unwrap()
    }

    #[test]
    fn patterns_mean_what_gitignore_says() {
        let cases: [(&[&str], &[&str], &[&str]); 8] = [
            (&["*.o"], &["a.o", "deep/er/b.o", ".o"], &["a.c", "o"]),
            (&["/build"], &["build"], &["sub/build"]),
            (&["cache/"], &["cache/", "sub/cache/"], &["cache", "sub/cache"]),
            (&["a/b"], &["a/b"], &["x/a/b"]),
            (&["**/tmp/*.log"], &["tmp/a.log", "x/y/tmp/b.log"], &["tmp/x/a.log"]),
            (&["*.log", "!keep.log"], &["a.log"], &["keep.log", "x/keep.log"]),
            (
                &["# comment", "", "\\#real", "\\!bang"],
                &["#real", "!bang"],
                &["# comment"],
            ),
            (&["[ab]?c"], &["axc", "d/bxc"], &["xac", "ac"]),
        ];
        for (patterns, excluded, kept) in cases {
            let excludes = excludes(patterns);
            let matches = |path: &str| {
                let name = path.strip_suffix('/');
                excludes.matches(name.unwrap_or(path).as_bytes(), name.is_some())
            };
            for path in excluded {
                assert!(matches(path), "{patterns:?} leaves out {path}");
            }
            for path in kept {
                assert!(!matches(path), "{patterns:?} keeps {path}");
            }
        }
        assert!(
            excludes(&["*.o"]).matches(b"caf\xe9.o", false),
            "names need not be UTF-8"
        );
        assert!(!excludes(&[]).has_patterns());
    }

    #[test]
    fn wrong_patterns_are_named() {
        let wrong = Excludes::new([("--exclude".to_owned(), "[z-a]")].into_iter(), Vec::new());
        assert!(wrong.unwrap_err().contains("--exclude: \"[z-a]\""));
    }

    #[test]
    fn a_tag_is_a_name_and_maybe_a_header() {
        let tag = Tag::parse(OsStr::new(".nobackup")).unwrap();
        assert_eq!((tag.name(), tag.header.as_slice()), (c".nobackup", &b""[..]));
        let tag = Tag::parse(OsStr::new("x:Signature: y")).unwrap();
        assert_eq!((tag.name(), tag.header.as_slice()), (c"x", &b"Signature: y"[..]));
        for wrong in ["", ":x", "a/b", ".", ".."] {
            assert!(Tag::parse(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }
}
