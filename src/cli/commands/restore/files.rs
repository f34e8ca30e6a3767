//! `restore` of a file system: its tree into a directory, or a plan of that.

use super::super::super::exit::Code;
use super::super::super::names::quoted;
use super::super::super::output::{self, Form};
use super::super::super::{Context, args, request};
use super::super::copied;
use crate::extract::{
    self, Act, Action, Compare, Depth, Environment, Existing, Extra, Options, Owners, Parts, Report, Whole,
};
use crate::store::location::Location;
use crate::tree::Tree;
use crate::tree::resolve::LastLink;
use crate::vault::{Address, AddressSpec};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Names between the top of the vault and the content of a tree: `filesystems/NAME/POINT/tree`.
const ABOVE: usize = 4;

/// Puts the tree back and says what could not be.
pub(super) fn run(context: &Context, args: &args::Restore, spec: &AddressSpec) -> anyhow::Result<Code> {
    refuse_own_vault(args)?;
    let vault = super::super::open(&args.vault)?;
    let address = vault.resolve(spec)?;
    let total_bytes = vault.load(&address)?.tree().map_or(0, |tree| tree.statistics.logical);
    let tree = super::super::tree(&args.vault)?;
    let whole = whole(&tree, &address, args, total_bytes)?;
    let (cancel, _watch) = super::super::cancelled_by_signals()?;
    let monitor = context.monitor();
    let told = Told::new(context.form);
    let tell = |action: Action, path: &[u8]| told.step(action, path);
    let environment = Environment {
        monitor: &*monitor,
        cancel: &cancel,
        steps: args.tree.dry_run.then_some(&tell),
    };
    let report = extract::restore(&tree, whole, &args.to, options(args), environment)?;
    drop(monitor);
    let steps = told.end()?;
    output::answer(
        context.form,
        || text(&address, args, &report),
        || json(&address, args, &report, steps),
    )?;
    Ok(copied::code_of(&report))
}

/// The tree of a backup, and which parts of it are asked for. Links on the way to these lead where they do in the backup.
fn whole<'a>(tree: &'a Tree, address: &Address, args: &args::Restore, total_bytes: u64) -> anyhow::Result<Whole<'a>> {
    let path = format!("{address}/tree").into_bytes();
    let mut parts = Vec::new();
    for part in &args.tree.include {
        let path = [path.as_slice(), part.as_bytes()].join(&b'/');
        let found = tree.resolve(&path, LastLink::Keep)?;
        parts.push(found.names.into_iter().skip(ABOVE).collect());
    }
    Ok(Whole {
        held: tree.resolve(&path, LastLink::Keep)?.held,
        path,
        parts: Parts::of(parts),
        // Of parts nobody knows before.
        total_bytes: if args.tree.include.is_empty() { total_bytes } else { 0 },
    })
}

fn options(args: &args::Restore) -> Options {
    let compare = if args.tree.checksum {
        Compare::Content
    } else {
        Compare::Times
    };
    Options {
        depth: Depth::Trees,
        owners: match args.tree.owners {
            None | Some(args::Owners::Numbers) => Owners::Keep,
            Some(args::Owners::Names) => Owners::Names,
            Some(args::Owners::Mine) => Owners::Own,
        },
        existing: if args.force {
            Existing::Update(compare)
        } else {
            Existing::Refuse
        },
        extra: if args.tree.delete { Extra::Remove } else { Extra::Leave },
        act: if args.tree.dry_run { Act::Plan } else { Act::Perform },
        // A plan is read in the order of the tree, as far as may be.
        workers: NonZeroUsize::new(1).filter(|_| args.tree.dry_run),
    }
}

/// Refuses to write into the vault that is read, and to remove what holds it.
fn refuse_own_vault(args: &args::Restore) -> anyhow::Result<()> {
    let Location::Directory(vault) = request::location(&args.vault)? else {
        return Ok(());
    };
    let real = |path: &Path| path.canonicalize().ok();
    // What is not there yet will be where its nearest parent is, and holds nothing.
    let (Ok(vault), Some(nearest)) = (vault.canonicalize(), args.to.ancestors().find_map(real)) else {
        return Ok(());
    };
    let why = if nearest.starts_with(&vault) {
        "it lies in the vault"
    } else if args.tree.delete && real(&args.to).is_some_and(|to| vault.starts_with(to)) {
        "the vault lies in it, and --delete would remove it"
    } else {
        return Ok(());
    };
    let path = args.to.display().to_string();
    let why = format!("{why}; choose another directory");
    Err(extract::Error::Target { path, why }.into())
}

/// The steps of a plan: printed as they come, or kept for the one JSON object.
struct Told {
    form: Form,
    out: Mutex<Out>,
}

struct Out {
    lines: BufWriter<std::io::Stdout>,
    objects: Vec<Value>,
    failed: Option<std::io::Error>,
}

impl Told {
    fn new(form: Form) -> Self {
        let out = Out {
            lines: BufWriter::with_capacity(64 << 10, std::io::stdout()),
            objects: Vec::new(),
            failed: None,
        };
        Self {
            form,
            out: Mutex::new(out),
        }
    }

    fn step(&self, action: Action, path: &[u8]) {
        let word = match action {
            Action::Make => "make",
            Action::Replace => "replace",
            Action::Mend => "mend",
            Action::Remove => "remove",
        };
        let out = &mut *self.out.lock();
        match self.form {
            Form::Text => {
                let path: &[u8] = if path.is_empty() { b"." } else { path };
                if let Err(error) = writeln!(out.lines, "{word:<8}{}", quoted(path)) {
                    out.failed.get_or_insert(error);
                }
            }
            Form::Json => {
                let mut object = serde_json::Map::new();
                object.insert("action".into(), json!(word));
                output::bytes(&mut object, "path", path);
                out.objects.push(Value::Object(object));
            }
            Form::Silent => {}
        }
    }

    fn end(self) -> anyhow::Result<Vec<Value>> {
        let mut out = self.out.into_inner();
        let flushed = out.lines.flush();
        match out.failed.map_or(flushed, Err) {
            Ok(()) => Ok(out.objects),
            Err(error) => Err(output::stdout_error(error)),
        }
    }
}

fn text(address: &Address, args: &args::Restore, report: &Report) -> String {
    let to = args.to.display();
    if args.tree.dry_run {
        let counts = copied::text("would make", report);
        return format!("nothing was changed; restoring {address} to {to}\n{counts}");
    }
    format!("restored {address} to {to}\n{}", copied::text("made", report))
}

fn json(address: &Address, args: &args::Restore, report: &Report, steps: Vec<Value>) -> Value {
    let mut fields = copied::json(report);
    let more = [
        ("address", json!(address.to_string())),
        ("to", json!(args.to.to_string_lossy())),
        ("dry_run", json!(args.tree.dry_run)),
        ("unchanged", json!(report.unchanged)),
        ("mended", json!(report.mended)),
        ("removed", json!(report.removed)),
    ];
    fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
    if args.tree.dry_run {
        fields.insert("steps".into(), steps.into());
    }
    Value::Object(fields)
}
