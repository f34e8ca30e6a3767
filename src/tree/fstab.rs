//! Reads `/etc/fstab`: pure, from text to lines. What a line means for a backup is decided by `assemble`.
//!
//! # Source
//! fstab(5), getmntent(3) for the escapes.

/// A line of fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is mounted: `UUID=…`, `/dev/…`, a directory for bind mounts.
    pub spec: String,
    /// Where.
    pub path: String,
    /// Type of the file system.
    pub kind: String,
    /// Options, without the commas.
    pub options: Vec<String>,
}

impl Line {
    /// Says whether the option is there.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|own| own == option)
    }
}

/// The longest text that is read; a real one has a few KiB.
pub const MAX_BYTES: u64 = 1 << 20;
/// Most lines that are looked at.
const MAX_LINES: usize = 4096;

/// Reads the lines that have at least a spec and a path; comments and broken lines fall away, as in mount(8).
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Line> {
    let text = String::from_utf8_lossy(text);
    text.lines().take(MAX_LINES).filter_map(line).collect()
}

fn line(text: &str) -> Option<Line> {
    let text = text.trim_start();
    if text.starts_with('#') {
        return None;
    }
    let mut fields = text.split_ascii_whitespace();
    let mut field = || fields.next().map(unescape);
    Some(Line {
        spec: field()?,
        path: field()?,
        kind: field().unwrap_or_else(|| "auto".to_owned()),
        options: field()
            .unwrap_or_default()
            .split(',')
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// Turns `\040` into a space and so on: three octal digits after a backslash.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let (byte, left) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..] => {
                let digit = |digit: &u8| digit.saturating_sub(b'0');
                ((digit(a) << 6) | (digit(b) << 3) | digit(c), left)
            }
            _ => (*first, tail),
        };
        out.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_mount_reads_them() {
        let text = b"# comment\n\nUUID=1-2 /  ext4 defaults,noatime 0 1\n/dev/vdb1\t/srv/my\\040data xfs\nlonely\n  #x\n/a /b none bind,ro 0 0\n";
        let lines = parse(text);
        let paths: Vec<&str> = lines.iter().map(|line| line.path.as_str()).collect();
        assert_eq!(paths, ["/", "/srv/my data", "/b"]);
        assert!(lines[0].has("noatime") && !lines[0].has("bind"));
        assert_eq!((lines[1].kind.as_str(), lines[1].options.len()), ("xfs", 0));
        assert!(lines[2].has("bind"));
    }

    #[test]
    fn a_text_that_is_no_fstab_gives_nothing_or_little() {
        assert!(parse(b"\0\xff\xfe").is_empty());
        assert_eq!(parse(b"a b\\").len(), 1);
        assert_eq!(parse(&b"a b\n".repeat(10_000)).len(), MAX_LINES);
    }
}
