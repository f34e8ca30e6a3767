//! Owners by name: the names that users and groups had where the backup comes from, looked up on this machine.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use parking_lot::Mutex;

use super::Job;
use crate::tree::Owner;
use crate::tree::held::{Held, Whose};

/// Numbers of the backup and what they are here.
#[derive(Default)]
pub(super) struct Names {
    known: Mutex<HashMap<Whose, u32>>,
}

/// Numbers remembered; a tree with more owners than these is asked for the rest each time.
const MAX_KNOWN: usize = 1 << 16;
/// Longest name that is looked up: what a program is called with.
const MAX_NAME: usize = 255;

impl Names {
    /// The owner of a file as this machine counts; where a name is not known here, the number stays.
    pub(super) fn owner(&self, job: &Job<'_>, held: &Held<'_>) -> Owner {
        let Owner { uid, gid } = held.attributes.owner;
        Owner {
            uid: self.number(job, held, Whose::User(uid)),
            gid: self.number(job, held, Whose::Group(gid)),
        }
    }

    /// What a number of the backup is here.
    pub(super) fn number(&self, job: &Job<'_>, held: &Held<'_>, whose: Whose) -> u32 {
        let (Whose::User(number) | Whose::Group(number)) = whose;
        if let Some(here) = self.known.lock().get(&whose) {
            return *here;
        }
        // A name that cannot be read is as good as none: the number is there.
        let name = held.owner_name(whose).ok().flatten();
        let here = name.as_deref().and_then(|name| local(whose, name));
        if let (Some(name), None) = (&name, here) {
            let name = String::from_utf8_lossy(name);
            job.tally.not_kept("names of owners", job.environment.monitor, || {
                format!("there is no {name} here (and maybe others); numbers are kept for them")
            });
        }
        let here = here.unwrap_or(number);
        let mut known = self.known.lock();
        if known.len() < MAX_KNOWN {
            known.insert(whose, here);
        }
        here
    }
}

/// The number of a name here: by the files in `/etc`, else by whatever else the system asks (LDAP and so on).
fn local(whose: Whose, name: &[u8]) -> Option<u32> {
    let (file, database) = match whose {
        Whose::User(_) => ("/etc/passwd", "passwd"),
        Whose::Group(_) => ("/etc/group", "group"),
    };
    let text = std::str::from_utf8(name).ok().filter(|name| is_plain(name))?;
    let files = std::fs::read(file).unwrap_or_default();
    number_in(&files, text).or_else(|| {
        let mut program = Command::new("getent");
        program
            .args([database, text])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        number_in(&program.output().ok()?.stdout, text)
    })
}

/// Says whether a name is one that a program may be called with; that of a hostile backup may be anything.
fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',');
    !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('-') && !name.contains(odd)
}

/// The third field of the line that begins with a name: the layout of passwd(5) and group(5) alike.
fn number_in(lines: &[u8], name: &str) -> Option<u32> {
    lines.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_whole_names_only() {
        let lines = b"root:x:0:0:root:/root:/bin/sh\n\xff:x:5:5::/:\nann:x:1000:1000::/:\nanna:x:1001::\nbad:x:y:0\n";
        assert_eq!(number_in(lines, "root"), Some(0));
        assert_eq!(number_in(lines, "ann"), Some(1000));
        assert_eq!(number_in(lines, "anna"), Some(1001));
        assert_eq!((number_in(lines, "an"), number_in(lines, "bad")), (None, None));
        assert_eq!(local(Whose::User(77), b"root"), Some(0));
        assert_eq!(local(Whose::Group(77), b"root"), Some(0));
    }

    #[test]
    fn names_that_are_options_numbers_or_not_text_lead_nowhere() {
        for name in [&b"--help"[..], b"", b"a b", b"a\nb", b"\xff", b"root:x", b"0"] {
            assert_eq!(local(Whose::User(5), name), None, "{name:?}");
        }
    }
}
