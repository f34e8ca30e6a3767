//! `delete` and `undelete`: hide backups, and show them again.

use super::super::exit::Code;
use super::super::{Context, args};
use super::each::{self, Words};
use crate::clock::{Clock, System};
use crate::vault::Tombstone;

/// Deletes backups, or says whether it would.
pub(in super::super) fn run(context: &Context, args: &args::Delete) -> anyhow::Result<Code> {
    let specs = each::points(&args.addresses)?;
    let vault = super::open(&args.vault)?;
    vault.check_writable()?;
    let words = Words {
        done: if args.dry_run { "would be deleted" } else { "deleted" },
        already: "is deleted already",
    };
    each::act(context, &specs, words, |spec| {
        let address = each::exact(spec)?;
        let change = if args.dry_run {
            vault.may_delete(&address, System.now())?
        } else {
            vault.delete(&address, &tombstone())?
        };
        Ok((address, change))
    })
}

/// Brings deleted backups back.
pub(in super::super) fn undelete(context: &Context, args: &args::Undelete) -> anyhow::Result<Code> {
    let specs = each::points(&args.addresses)?;
    let vault = super::open(&args.vault)?;
    vault.check_writable()?;
    let words = Words {
        done: "is back",
        already: "is not deleted",
    };
    each::act(context, &specs, words, |spec| {
        let address = each::exact(spec)?;
        let change = vault.undelete(&address, &tombstone())?;
        Ok((address, change))
    })
}

fn tombstone() -> Tombstone {
    Tombstone {
        at: System.now(),
        by: each::author(),
    }
}
