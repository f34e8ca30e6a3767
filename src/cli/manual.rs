//! Manual pages, one for each visible command, made from the definition of the command line. The one file that names clap_mangen.

use super::args;
use clap_mangen::Man;
use std::path::Path;

/// Writes the pages into `dir`: `vaultfs.1`, `vaultfs-init.1`, ... Returns their names.
pub(super) fn write(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut program = args::definition().disable_help_subcommand(true);
    program.build();
    let mut names = Vec::new();
    let mut waiting = vec![(program, None)];
    while let Some((command, usage)) = waiting.pop() {
        let has_words = command.get_positionals().next().is_some();
        for kind in command.get_subcommands().filter(|kind| !kind.is_hide_set()) {
            // A page of `backup server` must show that the vault comes between the two.
            let name = command
                .get_display_name()
                .unwrap_or_else(|| command.get_name())
                .replace('-', " ");
            let usage = has_words.then(|| {
                (
                    format!("{name} {}", kind.get_name()),
                    format!("{name} <VAULT> {}", kind.get_name()),
                )
            });
            waiting.push((kind.clone(), usage));
        }
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let source = concat!("vaultfs ", env!("CARGO_PKG_VERSION"));
        let page = Man::new(command).source(source).manual("vaultfs");
        let mut text = render(&page)?;
        if let Some((short, full)) = usage {
            text = text.replacen(&short, &full, 1);
        }
        let body = examples.strip_prefix("Examples:\n").unwrap_or(&examples);
        text.push_str(&verbatim("EXAMPLES", body));
        std::fs::write(dir.join(page.get_filename()), text)?;
        names.push(page.get_filename());
    }
    names.sort();
    Ok(names)
}

/// The sections that come from the definition itself.
fn render(page: &Man) -> std::io::Result<String> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    page.render_subcommands_section(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A section whose lines stay as they are; nothing in them is taken for roff.
fn verbatim(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let lines = body
        .lines()
        .map(|line| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")));
    format!(".SH {title}\n.nf\n{}.fi\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_examples_are_never_roff() {
        assert_eq!(verbatim("E", ".x \\\n'y"), ".SH E\n.nf\n\\&.x \\e\n\\&'y\n.fi\n");
    }
}
