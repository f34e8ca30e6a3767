//! Names from images as names that a directory may show: what a path cannot hold is escaped like in a URL.

use std::borrow::Cow;

/// The name under which an entry is shown: unchanged unless it is empty, `.`, `..`, or holds `/` or NUL.
///
/// An empty name is shown as `%`. Only what must be is escaped, so a name with a percent sign stays as it is.
#[must_use]
pub fn shown(name: &[u8]) -> Cow<'_, [u8]> {
    match name {
        b"" => Cow::Borrowed(b"%"),
        b"." => Cow::Borrowed(b"%2E"),
        b".." => Cow::Borrowed(b"%2E%2E"),
        _ if name.contains(&b'/') || name.contains(&0) => {
            let mut escaped = Vec::with_capacity(name.len().saturating_add(8));
            for byte in name {
                match byte {
                    b'/' => escaped.extend(b"%2F"),
                    0 => escaped.extend(b"%00"),
                    other => escaped.push(*other),
                }
            }
            Cow::Owned(escaped)
        }
        _ => Cow::Borrowed(name),
    }
}

/// The name on the volume that is shown as `name`, if that is another one than `name` itself.
#[must_use]
pub fn hidden_behind(name: &[u8]) -> Option<Vec<u8>> {
    let raw = match name {
        b"%" => Vec::new(),
        b"%2E" => b".".to_vec(),
        b"%2E%2E" => b"..".to_vec(),
        _ => unescaped(name),
    };
    (shown(&raw) == name && raw != name).then_some(raw)
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, left) = match rest {
            [b'%', b'2', b'F', left @ ..] => (b'/', left),
            [b'%', b'0', b'0', left @ ..] => (0, left),
            _ => (*first, tail),
        };
        raw.push(byte);
        rest = left;
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_path_cannot_hold_is_escaped() {
        for (raw, wanted) in [
            (&b"passwd"[..], &b"passwd"[..]),
            (b"100%", b"100%"),
            (b"a%2Fb", b"a%2Fb"),
            (b"a/b", b"a%2Fb"),
            (b"a\0", b"a%00"),
            (b"", b"%"),
            (b".", b"%2E"),
            (b"..", b"%2E%2E"),
            (b"...", b"..."),
            (b"\xff\n", b"\xff\n"),
        ] {
            assert_eq!(shown(raw), wanted);
            let back = hidden_behind(wanted);
            assert!(raw == wanted || back.as_deref() == Some(raw), "{raw:?}");
        }
        assert_eq!(hidden_behind(b"100%"), None);
        assert_eq!(hidden_behind(b"passwd"), None);
    }
}
