//! `umount`: ends a mount and names who holds on to it.

use super::super::exit::Code;
use super::super::{Context, args, output};
use crate::mount::detach::{self, Mode, Outcome};
use crate::mount::holders::Holder;
use serde_json::json;

/// Unmounts and waits for the end of the process behind the mount.
pub(in super::super) fn run(context: &Context, args: &args::Umount) -> anyhow::Result<Code> {
    let mode = if args.lazy { Mode::Lazy } else { Mode::Wait };
    let holders = match detach::run(&args.dir, mode)? {
        Outcome::Ended => Vec::new(),
        Outcome::Lingering(holders) => holders,
    };
    let names: Vec<String> = holders.iter().map(Holder::to_string).collect();
    let dir = args.dir.to_string_lossy();
    output::answer(
        context.form,
        || text(&dir, &names),
        || json!({ "directory": dir, "ended": names.is_empty(), "used_by": names }),
    )?;
    Ok(Code::Done)
}

fn text(dir: &str, names: &[String]) -> String {
    if names.is_empty() {
        format!("{dir} is unmounted\n")
    } else {
        format!(
            "{dir} is unmounted; its files stay readable until closed by {}\n",
            names.join(", ")
        )
    }
}
