//! What the real program does to a directory, as strace saw it: every write, sync and change of a name, with all bytes.

use crate::common::program;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One thing that was done below the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A file was made.
    Create(PathBuf),
    /// Bytes were added to it.
    Append(PathBuf, Vec<u8>),
    /// What was written to a file is on the disk.
    SyncFile(PathBuf),
    /// The names in a directory are on the disk.
    SyncDir(PathBuf),
    /// A name was given to what had another one.
    Rename(PathBuf, PathBuf),
    /// A name was removed.
    Unlink(PathBuf),
    /// A directory was made.
    Mkdir(PathBuf),
    /// The command of this number ended well: what it said is true from here on.
    Done(usize),
}

const CALLS: &str = "trace=openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,\
                     ftruncate,truncate";

/// Runs a command under strace, and returns what it did below `root`.
///
/// # Panics
/// If it fails, or makes a call that this does not know: then the test would miss something.
pub(crate) fn run(root: &Path, log: &Path, words: &[OsString]) -> Vec<Op> {
    let options = ["-xx", "-s", "33554432", "-e", CALLS];
    program::succeed(program::traced(log, &options, words));
    let text = std::fs::read_to_string(log).unwrap();
    let mut unfinished: Vec<(&str, String)> = Vec::new();
    let mut ops = Vec::new();
    for line in text.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if call.starts_with(['+', '-']) {
            continue;
        }
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            unfinished.push((thread, start.to_owned()));
            continue;
        }
        let whole = match call.strip_prefix("<... ") {
            Some(end) => {
                let at = unfinished.iter().position(|(other, _)| *other == thread).unwrap();
                let (_, end) = end.split_once("resumed>").unwrap();
                format!("{}{end}", unfinished.remove(at).1)
            }
            None => call.to_owned(),
        };
        ops.extend(op(root, &whole));
    }
    assert!(unfinished.is_empty(), "{unfinished:?}");
    ops
}

/// The texts of a call in order: paths behind descriptors, and quoted ones; all are hexadecimal.
fn texts(arguments: &str) -> Vec<Vec<u8>> {
    let parts = arguments.split(['"', '<', '>']);
    let text = |part: &str| {
        let digits = part.strip_prefix("\\x")?.split("\\x");
        digits.map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
    };
    parts.filter_map(text).collect()
}

fn op(root: &Path, call: &str) -> Option<Op> {
    use std::os::unix::ffi::OsStringExt;
    let (name, rest) = call.split_once('(').unwrap();
    let (arguments, result) = rest.rsplit_once(" = ").unwrap();
    if result.starts_with('-') {
        return None;
    }
    let texts = texts(arguments);
    let path = |number: usize| PathBuf::from(OsString::from_vec(texts[number].clone()));
    let below = |path: PathBuf| path.starts_with(root).then_some(path);
    match name {
        "openat" => {
            assert!(!arguments.contains("O_TRUNC") || below(path(1)).is_none(), "{call}");
            arguments.contains("O_CREAT").then(|| below(path(1)).map(Op::Create))?
        }
        "write" => {
            let written: usize = result.split_whitespace().next().unwrap().parse().unwrap();
            let path = below(path(0))?;
            assert_eq!(texts[1].len(), written, "a write in part, or strace cut it");
            Some(Op::Append(path, texts[1].clone()))
        }
        "fsync" | "fdatasync" => {
            let path =
                below(path(0)).or_else(|| (Some(self::parent(root)) == texts.first().cloned()).then(|| path(0)))?;
            let is_file = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(".tmp-"));
            Some(if is_file { Op::SyncFile(path) } else { Op::SyncDir(path) })
        }
        "renameat2" => below(path(1)).map(|from| Op::Rename(from, path(3))),
        "unlink" => below(path(0)).map(Op::Unlink),
        "unlinkat" => below(path(1)).map(Op::Unlink),
        "mkdir" => below(path(0)).map(Op::Mkdir),
        _ => {
            let touched = texts
                .iter()
                .any(|text| Path::new(&OsString::from_vec(text.clone())).starts_with(root));
            assert!(!touched, "a call that this test does not know: {call}");
            None
        }
    }
}

fn parent(root: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    root.parent().unwrap().as_os_str().as_bytes().to_vec()
}
