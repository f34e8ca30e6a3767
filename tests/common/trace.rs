//! What strace wrote: the system calls of a process in the order in which they ended.

/// One system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// Its arguments as strace writes them.
    pub arguments: String,
    /// What it returned, as strace writes it; `?` if it never did.
    pub result: String,
}

impl Call {
    /// The paths among the arguments: quoted strings and the files behind descriptors, in order.
    pub fn paths(&self) -> Vec<&str> {
        let mut paths = Vec::new();
        let mut rest = self.arguments.as_str();
        while let Some(start) = rest.find(['"', '<']) {
            let end_mark = if rest[start..].starts_with('"') { '"' } else { '>' };
            let after = &rest[start + 1..];
            let Some(end) = after.find(end_mark) else { break };
            paths.push(&after[..end]);
            rest = &after[end + 1..];
        }
        paths
    }

    /// Says whether it succeeded.
    pub fn succeeded(&self) -> bool {
        !self.result.starts_with(['-', '?'])
    }
}

/// Parses the output of `strace -f -qq -y -o`: calls in the order they ended; a call that was cut off comes last.
pub fn parse(log: &str) -> Vec<Call> {
    let (mut calls, mut begun) = (Vec::new(), Vec::<(u32, String)>::new());
    for line in log.lines() {
        let Some((thread, text)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let (Ok(thread), text) = (thread.parse(), text.trim_start()) else {
            continue;
        };
        if text.starts_with(['+', '-']) {
            continue;
        }
        if let Some(start) = text.strip_suffix(" <unfinished ...>") {
            begun.push((thread, start.to_owned()));
        } else if let Some(end) = text.strip_prefix("<... ") {
            let at = begun.iter().position(|(other, _)| *other == thread).unwrap();
            let (_, start) = begun.remove(at);
            let (_, end) = end.split_once("resumed>").unwrap();
            calls.extend(call(thread, &format!("{start}{end}")));
        } else {
            calls.extend(call(thread, text));
        }
    }
    calls.extend(
        begun
            .iter()
            .filter_map(|(thread, start)| call(*thread, &format!("{start}) = ?"))),
    );
    calls
}

fn call(thread: u32, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')').unwrap_or(arguments);
    Some(Call {
        thread,
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        result: result.to_owned(),
    })
}
