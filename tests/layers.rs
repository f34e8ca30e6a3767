//! The house rules that a compiler does not know: arrows between modules only fall, each outside crate stays in its file, every file
//! says its job first and stays short. docs/design.md gives the reasons.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module of the crate may name, beside [`BASE`]; nothing here ever points up.
const ARROWS: [(&str, &[&str]); 28] = [
    ("bytes", &[]),
    ("checksum", &[]),
    ("clock", &[]),
    ("monitor", &["clock"]),
    ("logging", &[]),
    ("store", &[]),
    ("vault", &["store"]),
    ("chunk", &["vault", "store"]),
    ("image", &["chunk", "vault"]),
    ("source", &["image"]),
    ("lease", &["vault", "store"]),
    ("writer", &["lease", "chunk", "vault", "store"]),
    ("volume", &["image"]),
    ("fs", &["volume", "image", "chunk", "vault"]),
    ("tree", &["fs", "volume", "image", "chunk", "vault", "store"]),
    ("fuse", &["tree", "fs", "image", "store"]),
    (
        "mount",
        &[
            "fuse", "tree", "image", "lease", "chunk", "vault", "store", "writer", "logging",
        ],
    ),
    (
        "backup",
        &["source", "writer", "lease", "image", "chunk", "vault", "store"],
    ),
    ("copy", &["writer", "lease", "image", "chunk", "vault", "store"]),
    ("reach", &["chunk", "vault"]),
    ("lock", &["reach", "chunk", "vault", "store"]),
    ("restore", &["source", "image", "chunk", "vault"]),
    ("retain", &[]),
    ("extract", &["tree", "fs", "image", "chunk"]),
    ("verify", &["fs", "volume", "image", "chunk", "vault", "store"]),
    ("repair", &["verify", "writer", "lease", "chunk", "vault", "store"]),
    ("prune", &["lease", "writer", "reach", "chunk", "vault", "store"]),
    (
        "cli",
        &[
            "mount", "backup", "copy", "restore", "extract", "lock", "reach", "retain", "verify", "repair", "prune",
            "lease", "tree", "fs", "source", "image", "chunk", "vault", "store", "writer", "logging",
        ],
    ),
];

/// Modules that everything may use.
const BASE: [&str; 4] = ["bytes", "checksum", "clock", "monitor"];

/// Where each outside crate may be named: prefixes of paths. Most are one file.
const CRATES: [(&str, &[&str]); 32] = [
    ("anyhow", &["src/cli"]),
    ("base64", &["src/store/s3/request.rs"]),
    ("bincode", &["src/vault/"]),
    ("blake3", &["src/checksum.rs"]),
    ("bytesize", &["src/bytes.rs"]),
    ("clap", &["src/cli/args"]),
    ("clap_complete", &["src/cli/args.rs"]),
    ("clap_mangen", &["src/cli/manual.rs"]),
    ("crc32c", &["src/checksum.rs"]),
    ("crossbeam_channel", &["src/"]),
    ("env_logger", &["src/logging.rs"]),
    ("fastcdc", &["src/backup/files/cutter.rs"]),
    ("flate2", &["src/source/qcow2"]),
    ("fuser", &["src/fuse"]),
    ("http_body_util", &["src/store/s3/wire.rs"]),
    ("ignore", &["src/backup/files/exclude.rs"]),
    ("indicatif", &["src/cli/progress.rs"]),
    ("jiff", &["src/clock.rs"]),
    ("libc", &["src/fuse"]),
    ("log", &["src/"]),
    (
        "lru",
        &[
            "src/chunk",
            "src/fs",
            "src/fuse",
            "src/source/directory.rs",
            "src/source/qcow2",
            "src/store/local.rs",
            "src/tree",
        ],
    ),
    ("md5", &["src/store/s3/request.rs"]),
    ("object_store", &["src/store/s3"]),
    ("parking_lot", &["src/"]),
    ("rustix", &["src/"]),
    ("serde", &["src/"]),
    ("serde_json", &["src/"]),
    ("signal_hook", &["src/mount"]),
    ("thiserror", &["src/"]),
    ("tokio", &["src/store/s3"]),
    ("zerocopy", &["src/vault/"]),
    ("zstd", &["src/vault/codec.rs", "src/source/qcow2"]),
];

/// Crates that one file alone names, wherever among its places that is.
const ONE_FILE: [&str; 8] = [
    "bincode",
    "blake3",
    "bytesize",
    "crc32c",
    "env_logger",
    "indicatif",
    "jiff",
    "signal_hook",
];

/// Most lines of a file.
const MAX_LINES: usize = 500;

struct Source {
    path: PathBuf,
    text: String,
    tokens: Vec<String>,
}

impl Source {
    /// `src/vault/pack.rs`, with `/` on every system.
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The top-level module the file belongs to: `vault`.
    fn module(&self) -> &str {
        let part = self.path.iter().nth(1).unwrap().to_str().unwrap();
        part.strip_suffix(".rs").unwrap_or(part)
    }

    /// Says whether the file is nothing but tests of its module.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
    }

    /// How many `super` lead from the file's own module to the crate: 1 for `src/vault.rs`.
    fn depth(&self) -> usize {
        self.path.iter().count() - 1
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut waiting = vec![root.join("src")];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let tokens = tokens(&text);
                let path = path.strip_prefix(root).unwrap().to_owned();
                found.push(Source { path, text, tokens });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// Identifiers, `::` and single signs; comments, strings and character literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            i += chars[i..].iter().take_while(|c| **c != '\n').count();
        } else if c == 'r' && (at(i + 1) == '"' || at(i + 1) == '#' && matches!(at(i + 2), '"' | '#')) {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            i += hashes + 2;
            while i < chars.len() && !(at(i) == '"' && chars[i + 1..].iter().take(hashes).all(|c| *c == '#')) {
                i += 1;
            }
            i += hashes + 1;
        } else if c == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' && at(i + 1) == '\\' {
            i += 3;
            i += chars[i..].iter().take_while(|c| **c != '\'').count() + 1;
        } else if c == '\'' && at(i + 2) == '\'' {
            i += 3;
        } else if word(c) {
            let len = chars[i..].iter().take_while(|c| word(**c)).count();
            tokens.push(chars[i..i + len].iter().collect());
            i += len;
        } else {
            let sign = if c == ':' && at(i + 1) == ':' {
                "::".to_owned()
            } else {
                c.to_string()
            };
            i += sign.chars().count();
            if !c.is_whitespace() {
                tokens.push(sign);
            }
        }
    }
    tokens
}

/// Names that stand directly under the crate in paths of this file: `crate::X`, `crate::{X, Y}`, `super::X` at the right depth.
fn modules_named(source: &Source) -> BTreeSet<String> {
    let tokens: Vec<&str> = source.tokens.iter().map(String::as_str).collect();
    let mut named = BTreeSet::new();
    for start in 0..tokens.len() {
        let mut end = start;
        while tokens[end..].starts_with(&["super", "::"]) {
            end += 2;
        }
        let supers = (end - start) / 2;
        if tokens[start..].starts_with(&["crate", "::"]) {
            end = start + 2;
        } else if supers == 0 || supers < source.depth() || start > 0 && tokens[start - 1] == "::" {
            continue;
        }
        if tokens.get(end) == Some(&"{") {
            named.extend(group(&tokens[end..]));
        } else if let Some(name) = tokens.get(end) {
            named.insert((*name).to_owned());
        }
    }
    named
}

/// The first names of a `{a, b::c, d::{e}}` group: `a`, `b`, `d`.
fn group(tokens: &[&str]) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    for pair in tokens.windows(2) {
        match pair[0] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(pair[0], "{" | ",") {
            names.push(pair[1].to_owned());
        }
    }
    names
}

/// Says whether the file names the outside crate: `krate::...`, `use krate;`.
fn names_crate(source: &Source, krate: &str) -> bool {
    let tokens = &source.tokens;
    (0..tokens.len()).any(|i| {
        let before = i.checked_sub(1).map_or("", |i| tokens[i].as_str());
        let after = tokens.get(i + 1).map_or("", String::as_str);
        tokens[i] == krate && before != "::" && (after == "::" || before == "use")
    })
}

/// Says whether `lower` comes before `upper` in the table; tests may set up anything below their module.
fn below(upper: &str, lower: &str) -> bool {
    let place = |module| ARROWS.iter().position(|(name, _)| *name == module);
    place(lower) < place(upper)
}

#[test]
fn arrows_between_modules_only_fall() {
    let arrows = BTreeMap::from(ARROWS);
    let mut rising = Vec::new();
    for source in sources() {
        let module = source.module();
        if module == "lib" {
            continue;
        }
        if module == "main" {
            let named: Vec<_> = ARROWS
                .iter()
                .filter(|(name, _)| source.text.contains(&format!("vaultfs::{name}")))
                .collect();
            assert!(
                named.iter().all(|(name, _)| *name == "cli"),
                "src/main.rs names {named:?}"
            );
            continue;
        }
        let allowed = arrows
            .get(module)
            .unwrap_or_else(|| panic!("{}: add `{module}` to ARROWS", source.name()));
        for named in modules_named(&source) {
            let known = arrows.contains_key(named.as_str());
            let permitted = if source.is_test() {
                below(module, &named)
            } else {
                allowed.contains(&&*named)
            };
            if known && named != module && !permitted && !BASE.contains(&&*named) {
                rising.push(format!("{}: {module} -> {named}", source.name()));
            }
        }
    }
    assert!(
        rising.is_empty(),
        "arrows that rise or were never drawn:\n{}",
        rising.join("\n")
    );
}

#[test]
fn the_table_of_arrows_has_no_cycle() {
    for (index, (module, allowed)) in ARROWS.iter().enumerate() {
        for below in *allowed {
            let at = ARROWS.iter().position(|(name, _)| name == below).unwrap();
            let lateral = (*module, *below) == ("restore", "source");
            assert!(at < index || lateral, "{module} -> {below} rises");
        }
    }
}

#[test]
fn outside_crates_stay_in_their_files() {
    let sources = sources();
    let mut strays = Vec::new();
    for (krate, places) in CRATES {
        let naming: Vec<String> = sources
            .iter()
            .filter(|source| names_crate(source, krate))
            .map(Source::name)
            .collect();
        strays.extend(
            naming
                .iter()
                .filter(|name| !places.iter().any(|place| name.starts_with(place)))
                .map(|name| format!("{krate} in {name}")),
        );
        if ONE_FILE.contains(&krate) && naming.len() > 1 {
            strays.push(format!("{krate} in more than one file: {naming:?}"));
        }
        if naming.is_empty() {
            strays.push(format!("{krate} in no file at all: take it out of Cargo.toml"));
        }
    }
    assert!(strays.is_empty(), "outside crates out of place:\n{}", strays.join("\n"));
}

#[test]
fn every_dependency_has_a_place_and_a_line_in_the_design() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let design = fs::read_to_string(root.join("docs/design.md")).unwrap();
    let dependencies = manifest
        .split("\n[")
        .find_map(|table| table.strip_prefix("dependencies]"))
        .unwrap();
    for line in dependencies.lines().filter(|line| line.contains('=')) {
        let name = line.split([' ', '=']).next().unwrap();
        assert!(
            CRATES.iter().any(|(krate, _)| *krate == name.replace('-', "_")),
            "add {name} to CRATES"
        );
        assert!(
            design.contains(&format!("`{name}`")),
            "docs/design.md does not say what {name} is for"
        );
    }
}

#[test]
fn every_file_says_its_job_and_is_short() {
    for source in sources() {
        assert!(
            source.text.starts_with("//! "),
            "{} does not begin with its job",
            source.name()
        );
        let lines = source.text.lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines, more than {MAX_LINES}",
            source.name()
        );
    }
}

#[test]
fn every_claim_of_the_semantics_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/semantics.md")).unwrap();
    let claims = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| claim"));
    let mut checked = 0;
    for claim in claims {
        let (_, tests) = claim.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        for test in tests.split(", ") {
            let (file, name) = test
                .trim_matches('`')
                .split_once("`: `")
                .unwrap_or_else(|| panic!("{claim}"));
            let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}");
            checked += 1;
        }
    }
    assert!(checked > 30, "the claims were not found");
}

#[test]
fn the_reader_of_sources_sees_code_only() {
    let text = "// crate::a\nuse crate::{b, c::{d, e}, f};\nlet s = \"crate::g\"; let r = r#\"crate::h\"#; let q = '\"'; crate::i::j();";
    let source = Source {
        path: "src/x.rs".into(),
        text: text.to_owned(),
        tokens: tokens(text),
    };
    let named: Vec<String> = modules_named(&source).into_iter().collect();
    assert_eq!(named, ["b", "c", "f", "i"]);
}
