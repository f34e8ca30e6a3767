//! `pin`, `unpin` and `lock`: keep backups from being deleted.

use super::super::exit::Code;
use super::super::request::Usage;
use super::super::{Context, args};
use super::each::{self, Words};
use crate::clock::{Clock, Point, Seconds, System, rfc3339};
use crate::vault::{AddressSpec, Lock, Pin};

/// Longest reason in bytes: a sentence or two.
const MAX_REASON: usize = 1000;
/// Nobody can take a lock back, so that a slip of the pen is not to last for ever.
const MAX_LOCK: Seconds = 36_525 * 86_400;

/// Pins backups.
pub(in super::super) fn run(context: &Context, args: &args::Pin) -> anyhow::Result<Code> {
    let specs = each::specs(&args.addresses)?;
    if args.reason.len() > MAX_REASON || args.reason.trim().is_empty() {
        return Err(Usage(format!("--reason takes 1 to {MAX_REASON} bytes of text")).into());
    }
    if let Some(until) = args.until {
        in_future(until)?;
    }
    let vault = super::open(&args.vault)?;
    vault.check_writable()?;
    let words = Words {
        done: "pinned",
        already: "is pinned so already",
    };
    each::act(context, &specs, words, |spec| {
        let address = vault.resolve(spec)?;
        let pin = Pin {
            at: System.now(),
            by: each::author(),
            reason: args.reason.clone(),
            until: args.until.map(Point::seconds),
        };
        let change = vault.pin(&address, &pin)?;
        Ok((address, change))
    })
}

/// Takes pins away.
pub(in super::super) fn unpin(context: &Context, args: &args::Unpin) -> anyhow::Result<Code> {
    let specs = each::specs(&args.addresses)?;
    let vault = super::open(&args.vault)?;
    vault.check_writable()?;
    let words = Words {
        done: "unpinned",
        already: "is not pinned",
    };
    each::act(context, &specs, words, |spec| {
        let address = match spec {
            // Whether the backup is there does not matter.
            AddressSpec::Exact(address) => address.clone(),
            AddressSpec::Latest(_) => vault.resolve(spec)?,
        };
        let change = vault.unpin(&address)?;
        Ok((address, change))
    })
}

/// Locks backups.
pub(in super::super) fn lock(context: &Context, args: &args::Lock) -> anyhow::Result<Code> {
    let specs = each::specs(&args.addresses)?;
    let left = in_future(args.until)?;
    if left > MAX_LOCK {
        return Err(Usage("--until is more than 100 years away, and a lock cannot be taken back".to_owned()).into());
    }
    let vault = super::open(&args.vault)?;
    vault.check_writable()?;
    let until = rfc3339(args.until.seconds());
    let done = format!("locked until {until}");
    let words = Words {
        done: &done,
        already: "is locked until then or longer already",
    };
    each::act(context, &specs, words, |spec| {
        let address = vault.resolve(spec)?;
        let lock = Lock {
            at: System.now(),
            by: each::author(),
        };
        let change = vault.lock(&address, args.until, &lock)?;
        Ok((address, change))
    })
}

/// How far away a time is that has to be ahead.
fn in_future(until: Point) -> Result<Seconds, Usage> {
    let left = until.seconds().saturating_sub(System.now());
    if left > 0 {
        return Ok(left);
    }
    let time = rfc3339(until.seconds());
    Err(Usage(format!("--until {time} has passed; give a time in the future")))
}
