//! `completions` and `man`: what packages and `scripts/install` need.

use super::super::exit::Code;
use super::super::{Context, args, manual, output};
use anyhow::Context as _;
use serde_json::json;
use std::path::Path;

/// Prints the completion script of a shell.
pub(in super::super) fn completions(context: &Context, shell: args::Shell) -> anyhow::Result<Code> {
    context.refuse_json("completions")?;
    output::write(&args::completions(shell))?;
    Ok(Code::Done)
}

/// Writes a manual page for each command into `dir`, which is made if it is not there.
pub(in super::super) fn manual(context: &Context, dir: &Path) -> anyhow::Result<Code> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {} failed", dir.display()))?;
    let pages = manual::write(dir).with_context(|| format!("writing manual pages into {} failed", dir.display()))?;
    output::answer(
        context.form,
        || pages.iter().fold(String::new(), |text, page| text + page + "\n"),
        || json!({ "pages": pages }),
    )?;
    Ok(Code::Done)
}
