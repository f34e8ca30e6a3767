//! The text that LVM2 keeps its metadata in: sections of names with numbers, strings and lists.

use std::collections::BTreeMap;

/// Sections inside of sections; LVM2 itself needs five.
const DEPTH_MAX: u32 = 12;
/// Most names and values of one text, so that a text of megabytes stays in memory that its length announces.
const NODES_MAX: u32 = 400_000;

/// What stands behind a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A whole number.
    Number(i64),
    /// A string, as it is between its quotes.
    Text(&'a str),
    /// Values in brackets.
    List(Vec<Value<'a>>),
    /// Names in braces.
    Section(Section<'a>),
}

/// Names and what stands behind them. Of a name that comes twice, the first counts, as in LVM2.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Section<'a>(BTreeMap<&'a str, Value<'a>>);

impl<'a> Section<'a> {
    /// The section of this name.
    pub(super) fn section(&self, name: &str) -> Option<&Section<'a>> {
        match self.0.get(name)? {
            Value::Section(section) => Some(section),
            _ => None,
        }
    }

    /// All sections, by name.
    pub(super) fn sections(&self) -> impl Iterator<Item = (&'a str, &Section<'a>)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((*name, section)),
            _ => None,
        })
    }

    /// The number of this name, if it is not negative.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Value::Number(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The string of this name.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        match self.0.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The values of this name; a value without brackets is a list of one.
    pub(super) fn list(&self, name: &str) -> &[Value<'a>] {
        match self.0.get(name) {
            Some(Value::List(values)) => values,
            Some(value) => std::slice::from_ref(value),
            None => &[],
        }
    }

    /// Says whether the list of this name has this string.
    pub(super) fn has(&self, name: &str, word: &str) -> bool {
        self.list(name)
            .iter()
            .any(|value| matches!(value, Value::Text(text) if *text == word))
    }
}

/// Parses a whole text.
///
/// # Errors
/// A clause about the text that tells where it breaks.
/// # Source
/// lvm2 libdm/libdm-config.c, and the texts that `vgcfgbackup` writes.
pub(super) fn parse(text: &str) -> Result<Section<'_>, String> {
    let mut parser = Parser { rest: text, nodes: 0 };
    let parsed = parser.section(0);
    let at = text.len().saturating_sub(parser.rest.len());
    match parsed {
        Ok(section) if parser.rest.is_empty() => Ok(section),
        Ok(_) => Err(format!("has a brace too many at byte {at}")),
        Err(why) => Err(format!("{why} at byte {at}")),
    }
}

struct Parser<'a> {
    rest: &'a str,
    nodes: u32,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    /// Passes over blanks and comments, and tells what comes next.
    fn peek(&mut self) -> Option<char> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if !self.rest.starts_with('#') {
                return self.rest.chars().next();
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    /// Takes the sign that comes next if it is this one.
    fn take(&mut self, sign: char) -> bool {
        let next = self.peek();
        match self.rest.strip_prefix(sign) {
            Some(rest) if next.is_some() => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn count(&mut self) -> Parsed<()> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX {
            return Err("has too many names");
        }
        Ok(())
    }

    /// Names up to a closing brace or the end.
    fn section(&mut self, depth: u32) -> Parsed<Section<'a>> {
        let mut section = Section::default();
        while let Some(next) = self.peek() {
            if next == '}' {
                break;
            }
            self.count()?;
            let name = self.name()?;
            let value = if self.take('=') {
                self.value(depth)?
            } else if depth >= DEPTH_MAX {
                return Err("has sections too deep");
            } else if self.take('{') {
                let inner = self.section(depth.saturating_add(1))?;
                if !self.take('}') {
                    return Err("ends inside of a section");
                }
                Value::Section(inner)
            } else {
                return Err("has a name without a value");
            };
            section.0.entry(name).or_insert(value);
        }
        Ok(section)
    }

    fn name(&mut self) -> Parsed<&'a str> {
        if self.rest.starts_with('"') {
            return self.string();
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_.+-/@:!#".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end).ok_or("has a broken name")?;
        if name.is_empty() {
            return Err("has a sign where a name should be");
        }
        self.rest = rest;
        Ok(name)
    }

    fn value(&mut self, depth: u32) -> Parsed<Value<'a>> {
        self.count()?;
        match self.peek() {
            Some('"') => self.string().map(Value::Text),
            Some('[') if depth < DEPTH_MAX => self.list(depth.saturating_add(1)).map(Value::List),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number().map(Value::Number),
            _ => Err("has a sign where a value should be"),
        }
    }

    fn list(&mut self, depth: u32) -> Parsed<Vec<Value<'a>>> {
        self.take('[');
        let mut values = Vec::new();
        while !self.take(']') {
            values.push(self.value(depth)?);
            if !self.take(',') && self.peek() != Some(']') {
                return Err("has a list without an end");
            }
        }
        Ok(values)
    }

    /// A string. Escapes stay as they are: none of the names that are used here has any.
    fn string(&mut self) -> Parsed<&'a str> {
        let body = self.rest.strip_prefix('"').ok_or("has no string")?;
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            if c == '"' && !escaped {
                let (text, rest) = body.split_at_checked(at).ok_or("has a broken string")?;
                self.rest = rest.strip_prefix('"').unwrap_or(rest);
                return Ok(text);
            }
            escaped = c == '\\' && !escaped;
        }
        Err("has a string without an end")
    }

    /// A number; the digits behind a point are dropped.
    fn number(&mut self) -> Parsed<i64> {
        let is_part = |c: char| c.is_ascii_digit() || c == '-' || c == '.';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).ok_or("has a broken number")?;
        let whole = digits.split('.').next().unwrap_or_default();
        self.rest = rest;
        whole.parse().map_err(|_| "has a number that is none")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_with_its_comments_lists_and_sections() {
        let text = "# head\nvg-0 { id = \"a\\\"b\" # hint\n seqno = 7\nflags = []\n x { y = [\"pv0\", 12,\n \"pv1\", -1] } }\nn = 1.5";
        let parsed = parse(text).unwrap();
        let group = parsed.section("vg-0").unwrap();
        assert_eq!((group.text("id"), group.number("seqno")), (Some("a\\\"b"), Some(7)));
        assert_eq!(group.list("flags"), []);
        let list = group.section("x").unwrap().list("y");
        assert_eq!(
            list,
            [
                Value::Text("pv0"),
                Value::Number(12),
                Value::Text("pv1"),
                Value::Number(-1)
            ]
        );
        assert_eq!(parsed.number("n"), Some(1));
    }

    #[test]
    fn a_broken_text_is_refused_and_a_deep_one_does_not_exhaust_the_stack() {
        let deep = "a{".repeat(1 << 20);
        let lists = format!("a={}", "[".repeat(1 << 20));
        for bad in [
            "a",
            "a=",
            "a{",
            "}",
            "a=[1",
            "a=\"",
            "a=[1 2]",
            "=1",
            "a=99999999999999999999",
            &deep,
            &lists,
            "\u{e9}=1",
        ] {
            assert!(parse(bad).is_err(), "{:?}", bad.get(..8));
        }
    }

    #[test]
    fn a_text_of_nothing_but_names_is_refused_in_time() {
        let mut text = String::new();
        for number in 0..NODES_MAX {
            text.push_str(&format!("a{number}=1\n"));
        }
        assert!(parse(&text).unwrap_err().contains("too many names"));
    }
}
