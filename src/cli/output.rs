//! What goes to standard output: text or one JSON object, tables, and the quiet end when nobody reads.

use std::io::{self, Write};

/// In which form a command answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// Nothing at all: `--quiet`.
    Silent,
}

/// Whoever read standard output has gone; not a failure, but no reason to go on.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

/// Writes all of `data` to standard output.
///
/// # Errors
/// [`Closed`] in the chain when the reader is gone; anything else as the system reports it.
pub(super) fn write(data: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(data)
        .and_then(|()| stdout.flush())
        .map_err(stdout_error)
}

/// Tells the reader that left from a stream that fails.
pub(super) fn stdout_error(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        anyhow::Error::new(Closed)
    } else {
        anyhow::Error::new(error).context("writing standard output failed")
    }
}

/// Answers in `form`; only the form asked for is made.
///
/// # Errors
/// As [`write()`].
pub(super) fn answer<T, J>(form: Form, text: T, json: J) -> anyhow::Result<()>
where
    T: FnOnce() -> String,
    J: FnOnce() -> serde_json::Value,
{
    match form {
        Form::Text => write(text().as_bytes()),
        Form::Json => write(format!("{:#}\n", json()).as_bytes()),
        Form::Silent => Ok(()),
    }
}

/// Says something on standard error; there is nobody to tell if that fails.
pub(super) fn say(message: &str) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Adds bytes to an object as text; in hexadecimal, too, as `key_hex`, if they are not all text.
pub(super) fn bytes(object: &mut serde_json::Map<String, serde_json::Value>, key: &str, bytes: &[u8]) {
    object.insert(key.into(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        object.insert(format!("{key}_hex"), crate::bytes::hex(bytes).into());
    }
}

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Renders rows under their titles, two spaces between columns, nothing after the last word of a line.
pub(super) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let lines = || std::iter::once(&titles).chain(rows);
    let mut widths = vec![0_usize; columns.len()];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(&widths).zip(columns);
        let padded = cells.map(|((cell, width), (_, align))| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Makes text from a vault or an image safe to show: control characters become escapes, so no name can steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = vec![
            vec!["a".into(), "5".into(), String::new()],
            vec!["bbb".into(), "10".into(), "x".into()],
        ];
        let text = table(
            &[("NAME", Align::Left), ("N", Align::Right), ("TAGS", Align::Left)],
            &rows,
        );
        assert_eq!(text, "NAME   N  TAGS\na      5\nbbb   10  x\n");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }
}
