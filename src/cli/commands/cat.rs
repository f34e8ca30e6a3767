//! `cat`: files of a backup to standard output.

use super::super::exit::{self, Code};
use super::super::{Context, args, output, request};
use crate::bytes::to_u64;
use crate::fs::FileType;
use crate::image::handle::LARGE_READ;
use crate::monitor::Monitor;
use crate::tree::held::{Held, Part};
use crate::tree::resolve::LastLink;
use crate::tree::{OpenFile, Tree};
use anyhow::Context as _;
use std::io::{IsTerminal, Write};

/// Bytes of one read: below what counts as large, since nobody but our own threads reads ahead here.
const STEP: usize = LARGE_READ / 2;

/// Writes the files one after another, each from its first byte to its last; one that fails does not keep the others back.
pub(in super::super) fn run(context: &Context, args: &args::Cat) -> anyhow::Result<Code> {
    context.refuse_json("cat")?;
    let paths: Vec<&[u8]> = args
        .files
        .iter()
        .map(|word| request::inside(word))
        .collect::<Result<_, _>>()?;
    let tree = super::tree(&args.vault)?;
    let mut code = Code::Done;
    for path in paths {
        match print(context, &tree, path) {
            Ok(()) => {}
            Err(error) if exit::is_closed_pipe(&error) || error.is::<request::Usage>() => return Err(error),
            Err(error) => {
                let failed = super::complain(&error);
                code = if code == Code::Done { failed } else { code };
            }
        }
    }
    Ok(code)
}

fn print(context: &Context, tree: &Tree, path: &[u8]) -> anyhow::Result<()> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let found = tree.resolve(path, LastLink::Follow)?;
    check(&found.held, &shown())?;
    let file = found.held.file().with_context(shown)?;
    let monitor = context.monitor();
    let name = found.names.last().map(|name| String::from_utf8_lossy(name));
    let name = output::printable(&name.unwrap_or_default());
    monitor.begin(&format!("cat {name}"), file.size_bytes());
    copy(&file, &*monitor).with_context(shown)?;
    monitor.end();
    Ok(())
}

/// Refuses what has no content, and images that nobody wants on a terminal.
fn check(held: &Held<'_>, path: &str) -> anyhow::Result<()> {
    match held.attributes.file_type {
        FileType::File => {}
        FileType::Directory => {
            anyhow::bail!("{path} is a directory; list it with vaultfs ls, copy it with vaultfs cp -r")
        }
        other => anyhow::bail!("{path} is a {other} and has no content in a backup"),
    }
    if held.part() == Part::Image && std::io::stdout().is_terminal() {
        let text = "standard output is a terminal; send the image to a file or a pipe";
        return Err(request::Usage(text.into()).into());
    }
    Ok(())
}

/// Copies the file in order; the threads that read ahead decode it on all cores.
fn copy(file: &OpenFile, monitor: &dyn Monitor) -> anyhow::Result<()> {
    let len = file.size_bytes();
    let mut stdout = std::io::stdout().lock();
    let mut offset = 0;
    while offset < len {
        let bytes = file.read(offset, STEP)?;
        anyhow::ensure!(!bytes.is_empty(), "the file ends at byte {offset} instead of {len}");
        stdout.write_all(&bytes).map_err(output::stdout_error)?;
        offset = offset.saturating_add(to_u64(bytes.len()));
        monitor.advance(to_u64(bytes.len()));
    }
    stdout.flush().map_err(output::stdout_error)
}
