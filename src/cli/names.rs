//! Names of files as a terminal may show them and as a shell takes them back.

/// The name in quotes where a shell needs them; what is not printable becomes an escape, so that no name can steer a terminal.
///
/// As `ls` does on a terminal: `a b` is `'a b'`, a line feed is `$'\n'`.
pub(super) fn quoted(name: &[u8]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "%+,-./:@_^".contains(c);
    let text = std::str::from_utf8(name).unwrap_or_default();
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = Quoted::default();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' => out.push(Run::Bare, "\\'"),
                '\n' => out.push(Run::Escaped, "\\n"),
                '\t' => out.push(Run::Escaped, "\\t"),
                '\r' => out.push(Run::Escaped, "\\r"),
                c if hidden(c) => c
                    .encode_utf8(&mut [0; 4])
                    .bytes()
                    .for_each(|byte| out.push(Run::Escaped, &format!("\\{byte:03o}"))),
                c => out.push(Run::Plain, c.encode_utf8(&mut [0; 4])),
            }
        }
        for byte in chunk.invalid() {
            out.push(Run::Escaped, &format!("\\{byte:03o}"));
        }
    }
    out.end()
}

/// Control characters, and those that turn or hide the text around them.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Run {
    #[default]
    Bare,
    Plain,
    Escaped,
}

#[derive(Default)]
struct Quoted {
    text: String,
    run: Run,
}

impl Quoted {
    fn push(&mut self, run: Run, text: &str) {
        if self.run != run {
            self.turn(run);
        }
        self.text.push_str(text);
    }

    fn turn(&mut self, run: Run) {
        if self.run != Run::Bare {
            self.text.push('\'');
        }
        self.text.push_str(match run {
            Run::Bare => "",
            Run::Plain => "'",
            Run::Escaped => "$'",
        });
        self.run = run;
    }

    fn end(mut self) -> String {
        self.turn(Run::Bare);
        if self.text.is_empty() {
            self.text.push_str("''");
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_quoted_name_back() {
        for (name, wanted) in [
            (&b"passwd"[..], "passwd"),
            (b"a b", "'a b'"),
            (b"-r", "'-r'"),
            (b"it's", r"'it'\''s'"),
            (b"a\nb", r"'a'$'\n''b'"),
            (b"\xff", r"$'\377'"),
            (b"\x1b[2J", r"$'\033''[2J'"),
            ("gr\u{fc}\u{df}e".as_bytes(), "gr\u{fc}\u{df}e"),
            ("a\u{202e}b".as_bytes(), r"'a'$'\342\200\256''b'"),
            (b"$HOME", "'$HOME'"),
            (b"", "''"),
        ] {
            assert_eq!(quoted(name), wanted);
            let script = format!("printf %s {wanted}");
            let shell = std::process::Command::new("bash").args(["-c", &script]).output();
            if let Ok(shell) = shell {
                assert_eq!(shell.stdout, name, "{wanted}");
            }
        }
    }
}
