//! The command line: words in, one command, text or JSON out, an exit code at the end.
//!
//! `args` is what clap parses, `request` gives it meaning, `commands` do the work, `output` and `progress` show it, and `exit` turns
//! the errors of all layers into codes. Only here are texts and codes chosen.

mod args;
mod commands;
mod exit;
mod help;
mod manual;
mod names;
mod output;
mod progress;
mod request;

use crate::monitor::Monitor;
use crate::mount::pulse;
use args::{Command, Global};
use exit::Code;
use output::Form;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

/// Runs the command that `words` (program name first) ask for and says how the process should end.
///
/// Called as `mount.vaultfs`, it is the helper of mount(8).
#[must_use]
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    crate::logging::start();
    if let [_, word, path] = words.as_slice()
        && word == pulse::QUESTION
    {
        // Whoever asked has gone if this cannot be written.
        return ExitCode::from(u8::from(pulse::answer(path).is_err()));
    }
    let called_as = words.first().map(Path::new).and_then(Path::file_name);
    if called_as.is_some_and(|name| name == "mount.vaultfs") {
        return ExitCode::from(end(commands::mount::helper(words)).helper_status());
    }
    ExitCode::from(run(words).status())
}

fn run(words: Vec<OsString>) -> Code {
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(refusal) => {
            let printed = refusal.print();
            return match (refusal.is_wanted(), printed) {
                (false, _) => Code::Usage,
                (true, Ok(())) => Code::Done,
                (true, Err(error)) => end(Err(output::stdout_error(error))),
            };
        }
    };
    end(dispatch(&Context::new(args.global), args.command))
}

fn dispatch(context: &Context, command: Command) -> anyhow::Result<Code> {
    match command {
        Command::Init(args) => commands::init::run(context, &args),
        Command::List(args) => commands::list::run(context, &args),
        Command::Ls(args) => commands::ls::run(context, &args),
        Command::Show(args) => commands::show::run(context, &args),
        Command::Backup(args) => commands::backup::run(context, &args),
        Command::Cat(args) => commands::cat::run(context, &args),
        Command::Copy(args) => commands::copy::run(context, &args),
        Command::Cp(args) => commands::cp::run(context, &args),
        Command::Mount(args) => commands::mount::run(context, &args),
        Command::Umount(args) => commands::umount::run(context, &args),
        Command::Restore(args) => commands::restore::run(context, &args),
        Command::Delete(args) => commands::delete::run(context, &args),
        Command::Undelete(args) => commands::delete::undelete(context, &args),
        Command::Pin(args) => commands::pin::run(context, &args),
        Command::Unpin(args) => commands::pin::unpin(context, &args),
        Command::Lock(args) => commands::pin::lock(context, &args),
        Command::Retain(args) => commands::retain::run(context, &args),
        Command::Prune(args) => commands::prune::run(context, &args),
        Command::Verify(args) => commands::verify::run(context, &args),
        Command::Repair(args) => commands::repair::run(context, &args),
        Command::BenchDecode(args) => commands::bench::run(&args),
        Command::Completions { shell } => commands::house::completions(context, shell),
        Command::Man { dir } => commands::house::manual(context, &dir),
    }
}

/// Tells what went wrong, if anything did, and gives the code for it.
fn end(result: anyhow::Result<Code>) -> Code {
    match result {
        Ok(code) => code,
        Err(error) if exit::is_closed_pipe(&error) => Code::Done,
        Err(error) => {
            let code = exit::code_of(&error);
            if matches!(code, Code::Reported(_)) {
                return code;
            }
            output::say(&format!("error: {}", output::printable(&format!("{error:#}"))));
            if code == Code::Usage {
                output::say("try `vaultfs --help`, or `vaultfs COMMAND --help` with examples");
            }
            code
        }
    }
}

/// How this run talks to its user.
struct Context {
    form: Form,
    bars: Bars,
}

/// Whether progress is shown.
#[derive(Clone, Copy)]
enum Bars {
    Shown,
    Hidden,
}

impl Context {
    fn new(global: Global) -> Self {
        let form = match global {
            Global { json: true, .. } => Form::Json,
            Global { quiet: true, .. } => Form::Silent,
            Global { .. } => Form::Text,
        };
        let shown = form == Form::Text && std::io::stderr().is_terminal();
        Self {
            form,
            bars: if shown { Bars::Shown } else { Bars::Hidden },
        }
    }

    /// A monitor for one piece of long work.
    fn monitor(&self) -> Box<dyn Monitor> {
        match self.bars {
            Bars::Shown => Box::new(progress::Bar::default()),
            Bars::Hidden => Box::new(progress::WarningsOnly),
        }
    }

    /// Refuses `--json` for a command whose output is not an answer but the bytes themselves.
    fn refuse_json(&self, command: &str) -> Result<(), request::Usage> {
        if self.form == Form::Json {
            return Err(request::Usage(format!(
                "`{command}` writes the bytes themselves; --json has no meaning there"
            )));
        }
        Ok(())
    }
}
