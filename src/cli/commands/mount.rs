//! `mount`, and the helper that mount(8) calls.

use super::super::exit::Code;
use super::super::{Context, args, output, request};
use crate::mount::daemon::{Run, this_run};
use crate::mount::options::{self, Unknown};
use crate::mount::{self, MountRequest, Presence, helper};
use crate::vault::access::{self, CacheDirectory};
use serde_json::json;
use std::ffi::OsString;

/// Mounts a vault; returns when the mount is ready, or with `-f` when it has ended.
pub(in super::super) fn run(context: &Context, args: &args::Mount) -> anyhow::Result<Code> {
    let lists = args.options.iter().map(String::as_str);
    let mut options = options::parse(lists, Unknown::Refuse).map_err(request::Usage)?;
    let access = &mut options.access_to_vault;
    if let Some(word) = &args.cache_dir {
        access.cache = CacheDirectory::of_word(word);
    }
    access.max_egress = args.max_egress.or(access.max_egress);
    // What is wrong with the vault is said here in the same words as by every other command.
    if this_run() == Run::First {
        access::open(&request::location(&args.vault)?, access)?;
    }
    let request = MountRequest {
        vault: args.vault.clone(),
        directory: args.dir.clone(),
        options,
        presence: if args.foreground {
            Presence::Foreground
        } else {
            Presence::Background
        },
    };
    mount::run(&request)?;
    if this_run() == Run::First {
        answer_mounted(context, &request)?;
    }
    Ok(Code::Done)
}

fn answer_mounted(context: &Context, request: &MountRequest) -> anyhow::Result<()> {
    let (vault, dir) = (request.vault.to_string_lossy(), request.directory.display());
    let (state, text) = match request.presence {
        Presence::Background => (
            "mounted",
            format!("{vault} is mounted at {dir}; end it with: vaultfs umount {dir}\n"),
        ),
        _ => ("ended", format!("{vault} is not mounted at {dir} any more\n")),
    };
    output::answer(
        context.form,
        || text,
        || json!({ "vault": vault, "directory": request.directory.to_string_lossy(), "state": state }),
    )
}

/// Does what mount(8) asks, silently.
pub(in super::super) fn helper(words: Vec<OsString>) -> anyhow::Result<Code> {
    let texts = words.into_iter().skip(1).map(OsString::into_string);
    let wrong = |word: OsString| request::Usage(format!("{} is not UTF-8 text", word.display()));
    let texts = texts.collect::<Result<Vec<String>, _>>().map_err(wrong)?;
    let request = helper::parse(texts).map_err(request::Usage)?;
    if this_run() == Run::First {
        access::open(&request::location(&request.vault)?, &request.options.access_to_vault)?;
    }
    mount::run(&request)?;
    Ok(Code::Done)
}
