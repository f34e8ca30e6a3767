//! `cp`: files and trees of a backup to this machine, without a mount.

use super::super::exit::Code;
use super::super::{Context, args, output, request};
use super::copied;
use crate::extract::{self, Act, Depth, Environment, Existing, Extra, Options, Owners, Source};
use crate::tree::Tree;
use crate::tree::resolve::LastLink;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Copies what the paths name and says what could not be copied.
pub(in super::super) fn run(context: &Context, args: &args::Cp) -> anyhow::Result<Code> {
    for path in &args.paths {
        if path.as_bytes().iter().all(|byte| *byte == b'/') {
            return Err(request::Usage("an empty path names no file of a backup".into()).into());
        }
    }
    let tree = super::tree(&args.vault)?;
    // By what was asked for, not by what is found: the last of several must not get the target's name.
    if args.paths.len() > 1 && !args.target.is_dir() {
        let path = args.target.display().to_string();
        let why = "it is no directory; several files need one to go to".to_owned();
        return Err(extract::Error::Target { path, why }.into());
    }
    let mut code = Code::Done;
    let mut sources = Vec::new();
    for path in &args.paths {
        match source(&tree, path, args) {
            Ok(source) => sources.push(source),
            Err(error) if args.paths.len() == 1 => return Err(error),
            Err(error) => code = super::complain(&error),
        }
    }
    let (cancel, _watch) = super::cancelled_by_signals()?;
    let monitor = context.monitor();
    let environment = Environment {
        monitor: &*monitor,
        cancel: &cancel,
        steps: None,
    };
    let report = extract::run(&tree, sources, &args.target, options(args), environment)?;
    drop(monitor);
    output::answer(
        context.form,
        || copied::text("copied", &report),
        || copied::json(&report).into(),
    )?;
    Ok(if code == Code::Done {
        copied::code_of(&report)
    } else {
        code
    })
}

fn source<'a>(tree: &'a Tree, path: &OsStr, args: &args::Cp) -> anyhow::Result<Source<'a>> {
    let path = path.as_bytes();
    let last = if args.dereference {
        LastLink::Follow
    } else {
        LastLink::Keep
    };
    let found = tree.resolve(path, last)?;
    // The name that was typed; that of what it leads to where that is none.
    let mut typed = path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let name = typed.next().filter(|name| !matches!(*name, b"." | b".."));
    let name = name.map(<[u8]>::to_vec).or_else(|| found.names.last().cloned());
    Ok(Source {
        held: found.held,
        path: path.strip_suffix(b"/").unwrap_or(path).to_vec(),
        name: name
            .ok_or_else(|| request::Usage("the whole vault has no name to copy it to; name what is in it".into()))?,
    })
}

fn options(args: &args::Cp) -> Options {
    Options {
        depth: if args.recursive { Depth::Trees } else { Depth::Files },
        owners: if args.no_owner { Owners::Own } else { Owners::Keep },
        existing: if args.force {
            Existing::Replace
        } else {
            Existing::Refuse
        },
        extra: Extra::Leave,
        act: Act::Perform,
        workers: None,
    }
}
