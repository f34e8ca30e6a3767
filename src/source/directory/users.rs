//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Only these files are asked: names from LDAP and the like would need the C library's lookup, and are not stored. The
//! numbers always are.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes read of either file.
const MAX_FILE: u64 = 16 << 20;
/// Longest name kept.
const MAX_NAME: usize = 255;

/// Names by number.
pub type Names = HashMap<u32, Vec<u8>>;

/// The users of this machine; none if the file cannot be read.
#[must_use]
pub fn users() -> Names {
    read(Path::new("/etc/passwd"))
}

/// The groups of this machine; none if the file cannot be read.
#[must_use]
pub fn groups() -> Names {
    read(Path::new("/etc/group"))
}

fn read(path: &Path) -> Names {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text));
    if let Err(error) = read {
        log::info!(
            "{} cannot be read, names of owners are not stored: {error}",
            path.display()
        );
        return Names::new();
    }
    parse(&text)
}

/// Lines of `name:password:number:...`; the first name of a number counts, as it does for the system.
fn parse(text: &[u8]) -> Names {
    let mut names = Names::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        let good = (1..=MAX_NAME).contains(&name.len()) && !name.starts_with(b"#") && !name.starts_with(b"+");
        if let Some(number) = number.filter(|_| good) {
            names.entry(number).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_first_line_and_odd_lines_are_passed_over() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n#ann:x:1:1\n+::::::\ntoor:x:0:0::\nann:x:1000:1000:,,,\nx:y\n:x:5:\nb:x:-1:\nno end:x:7";
        let names = parse(text);
        let mut found: Vec<_> = names.iter().map(|(number, name)| (*number, name.as_slice())).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, &b"root"[..]), (7, b"no end"), (1000, b"ann")]);
    }
}
