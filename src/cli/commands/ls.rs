//! `ls`: names and attributes of files of a backup, without a mount.

mod entry;

use super::super::exit::Code;
use super::super::names::quoted;
use super::super::output::{self, Form};
use super::super::{Context, args};
use crate::tree::held::Held;
use crate::tree::resolve::{self, LastLink};
use crate::tree::{Ino, Node, Tree};
use entry::Entry;
use std::collections::HashSet;
use std::io::{BufWriter, IsTerminal, StdoutLock, Write};
use std::os::unix::ffi::OsStrExt;

/// Entries that are laid out together: columns line up among these, and memory holds so many attributes at most.
const BATCH: usize = 1024;
/// Deepest directory that is listed below another.
const MAX_DEPTH: usize = 4096;

/// Lists what the paths name; what cannot be read is told and does not keep the rest back.
pub(in super::super) fn run(context: &Context, args: &args::Ls) -> anyhow::Result<Code> {
    let tree = super::tree(&args.vault)?;
    let mut paths: Vec<&[u8]> = args.paths.iter().map(|path| path.as_bytes()).collect();
    if paths.is_empty() {
        paths.push(b"");
    }
    let form = match (context.form, args.long) {
        (Form::Text, true) => Shape::Long,
        (Form::Text, false) => Shape::Names,
        (Form::Json, _) => Shape::Json,
        (Form::Silent, _) => Shape::Nothing,
    };
    let mut lister = Lister {
        tree: &tree,
        args,
        shape: form,
        names: if std::io::stdout().is_terminal() {
            Names::Quoted
        } else {
            Names::Raw
        },
        out: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()),
        printed: 0,
        code: Code::Done,
    };
    lister.all(&paths)?;
    Ok(lister.code)
}

/// What is printed of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Names,
    Long,
    Json,
    Nothing,
}

/// How names are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// As they are, for programs.
    Raw,
    /// For eyes and shells.
    Quoted,
}

/// A name of a directory.
struct Item {
    name: Vec<u8>,
    node: Node,
}

struct Lister<'a> {
    tree: &'a Tree,
    args: &'a args::Ls,
    shape: Shape,
    names: Names,
    out: BufWriter<StdoutLock<'static>>,
    /// Entries and headers so far.
    printed: u64,
    /// The first failure's.
    code: Code,
}

impl<'a> Lister<'a> {
    fn all(&mut self, paths: &[&[u8]]) -> anyhow::Result<()> {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        for path in paths {
            match find(self.tree, path) {
                Ok(held) if held.is_directory() && !self.args.directory => directories.push((path, held)),
                Ok(held) => files.push((path, held)),
                Err(error) => self.fail(&error.into())?,
            }
        }
        if self.shape == Shape::Json {
            self.write(b"[")?;
        }
        let entries = files.iter().map(|(path, held)| Entry::new(last_name(path), path, held));
        let entries: Vec<_> = entries.collect();
        self.entries(entries)?;
        let headers = self.args.recursive || paths.len() > 1;
        for (path, held) in directories {
            self.below(path, held, headers)?;
        }
        if self.shape == Shape::Json {
            self.write(if self.printed == 0 { b"]\n" } else { b"\n]\n" })?;
        }
        self.out.flush().map_err(output::stdout_error)
    }

    /// Lists a directory and, if asked for, all below it: each in turn, as `ls -R` does.
    fn below(&mut self, path: &[u8], top: Held<'a>, headers: bool) -> anyhow::Result<()> {
        let headers = headers && !matches!(self.shape, Shape::Json | Shape::Nothing);
        let mut seen = HashSet::from([top.ino()]);
        let mut waiting = Vec::new();
        let mut next = Some((path.to_vec(), 0_usize, top));
        while let Some((path, depth, held)) = next.take() {
            if headers {
                self.header(&path)?;
            }
            let inside = self.directory(&path, &held)?;
            let below = inside.into_iter().rev();
            waiting.extend(below.map(|item| (joined(&path, &item.name), depth.saturating_add(1), item.node)));
            while next.is_none() {
                let Some((path, depth, node)) = waiting.pop() else {
                    break;
                };
                match self.enter(&node, depth, &mut seen) {
                    Ok(held) => next = held.map(|held| (path, depth, held)),
                    Err(error) => self.fail(&error.context(String::from_utf8_lossy(&path).into_owned()))?,
                }
            }
        }
        Ok(())
    }

    /// A directory that is to be listed below another; `None` if it turns out to be none.
    fn enter(&self, node: &Node, depth: usize, seen: &mut HashSet<Ino>) -> anyhow::Result<Option<Held<'a>>> {
        let held = self.tree.hold(node)?;
        if !held.is_directory() {
            return Ok(None);
        }
        // Two names of one directory are damage, and without an end if one is inside the other.
        anyhow::ensure!(
            seen.insert(held.ino()),
            "the directory was listed already; it is not listed again"
        );
        anyhow::ensure!(depth <= MAX_DEPTH, "it lies more than {MAX_DEPTH} directories deep");
        Ok(Some(held))
    }

    /// Lists one directory and gives the directories in it if they are wanted.
    fn directory(&mut self, path: &[u8], held: &Held<'_>) -> anyhow::Result<Vec<Item>> {
        let mut directories = Vec::new();
        let mut batch = Vec::new();
        let mut failed = Ok(());
        let (tree, all, unsorted) = (self.tree, self.args.all, self.args.unsorted);
        let listed = held.directory().and_then(|opened| {
            tree.visit(&opened, 0, &mut |listed| {
                if !all && listed.name.starts_with(b".") {
                    return true;
                }
                batch.push(Item {
                    name: listed.name.to_vec(),
                    node: listed.node,
                });
                if unsorted && batch.len() == BATCH {
                    failed = self.batch(path, std::mem::take(&mut batch), &mut directories);
                }
                failed.is_ok()
            })
        });
        failed?;
        if !unsorted {
            batch.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        }
        let mut batch = batch.into_iter();
        while batch.len() > 0 {
            let part = batch.by_ref().take(BATCH).collect();
            self.batch(path, part, &mut directories)?;
        }
        if let Err(error) = listed {
            let error = anyhow::Error::from(error).context(String::from_utf8_lossy(path).into_owned());
            self.fail(&error)?;
        }
        Ok(directories)
    }

    /// Prints some entries of a directory and keeps the directories among them if they are wanted.
    fn batch(&mut self, path: &[u8], items: Vec<Item>, directories: &mut Vec<Item>) -> anyhow::Result<()> {
        if matches!(self.shape, Shape::Names) {
            for item in &items {
                self.name_line(&item.name)?;
            }
        } else {
            let mut entries = Vec::with_capacity(items.len());
            for item in &items {
                let full = joined(path, &item.name);
                match self.tree.hold(&item.node) {
                    Ok(held) => entries.push(Entry::new(&item.name, &full, &held)),
                    Err(error) => {
                        let error = anyhow::Error::from(error);
                        self.fail(&error.context(String::from_utf8_lossy(&full).into_owned()))?;
                    }
                }
            }
            self.entries(entries)?;
        }
        if self.args.recursive {
            // The kind that a directory tells of an entry is a hint; who enters looks again.
            directories.extend(
                items
                    .into_iter()
                    .filter(|item| item.node.file_type() == crate::fs::FileType::Directory),
            );
        }
        Ok(())
    }

    fn entries(&mut self, entries: Vec<anyhow::Result<Entry>>) -> anyhow::Result<()> {
        let mut whole = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry {
                Ok(entry) => whole.push(entry),
                Err(error) => self.fail(&error)?,
            }
        }
        match self.shape {
            Shape::Nothing => {}
            Shape::Names => {
                for entry in &whole {
                    self.name_line(&entry.name)?;
                }
            }
            Shape::Long => {
                let quote = |name: &[u8]| self.shown(name);
                let lines = entry::long(&whole, quote);
                self.printed = self.printed.saturating_add(1);
                self.write(&lines)?;
            }
            Shape::Json => {
                for entry in &whole {
                    let text = format!("{}{:#}", if self.printed == 0 { "\n" } else { ",\n" }, entry.json());
                    self.printed = self.printed.saturating_add(1);
                    self.write(text.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn header(&mut self, path: &[u8]) -> anyhow::Result<()> {
        let mut line = if self.printed == 0 { Vec::new() } else { b"\n".to_vec() };
        line.extend(self.shown(if path.is_empty() { b"." } else { path }));
        line.extend(b":\n");
        self.printed = self.printed.saturating_add(1);
        self.write(&line)
    }

    fn name_line(&mut self, name: &[u8]) -> anyhow::Result<()> {
        let mut line = self.shown(name);
        line.push(b'\n');
        self.printed = self.printed.saturating_add(1);
        self.write(&line)
    }

    fn shown(&self, name: &[u8]) -> Vec<u8> {
        match self.names {
            Names::Raw => name.to_vec(),
            Names::Quoted => quoted(name).into_bytes(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes).map_err(output::stdout_error)
    }

    /// Tells of something that cannot be listed, after what was.
    fn fail(&mut self, error: &anyhow::Error) -> anyhow::Result<()> {
        self.out.flush().map_err(output::stdout_error)?;
        let code = super::complain(error);
        if self.code == Code::Done {
            self.code = code;
        }
        Ok(())
    }
}

/// The file at a path; a link at its end is followed if it leads to a directory, else it is the link that is listed.
fn find<'a>(tree: &'a Tree, path: &[u8]) -> Result<Held<'a>, resolve::Error> {
    let kept = tree.resolve(path, LastLink::Keep)?.held;
    if kept.attributes.file_type != crate::fs::FileType::Symlink {
        return Ok(kept);
    }
    match tree.resolve(path, LastLink::Follow) {
        Ok(led) if led.held.is_directory() => Ok(led.held),
        _ => Ok(kept),
    }
}

fn last_name(path: &[u8]) -> &[u8] {
    let mut names = path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty());
    names.next().unwrap_or_default()
}

/// The path of a name in a directory.
fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut directory = directory;
    while let Some(cut) = directory.strip_suffix(b"/") {
        directory = cut;
    }
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, name].join(&b'/')
}
