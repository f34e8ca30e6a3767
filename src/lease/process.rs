//! Which process holds a lease, so that another one of the same machine can say for sure that it is gone.

use serde::{Deserialize, Serialize};
use std::fs;

/// A process as others of the same machine can find it. Nothing here is a secret, and nothing is believed of another machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Name of the machine, for people.
    pub host: String,
    /// Random id of this boot of it; empty if unknown.
    pub boot: String,
    /// Where the number counts: process numbers of two containers are different things. Empty if unknown.
    pub pid_namespace: String,
    /// Number of the process.
    pub pid: u32,
    /// When it started, in clock ticks since the boot: numbers are used again.
    pub pid_start: u64,
}

impl Process {
    /// This process; what the system does not tell stays empty.
    #[must_use]
    pub fn own() -> Self {
        let pid = std::process::id();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: boot_id(),
            pid_namespace: namespace.to_string_lossy().into_owned(),
            pid,
            pid_start: stat_of(pid).map_or(0, |stat| stat.start),
        }
    }

    /// Says whether the process has certainly ended; `own` is who asks.
    #[must_use]
    pub fn is_gone(&self, own: &Self) -> bool {
        let is_here = !self.boot.is_empty()
            && !self.pid_namespace.is_empty()
            && self.boot == own.boot
            && self.pid_namespace == own.pid_namespace;
        is_here
            && match stat_of(self.pid) {
                Some(stat) => stat.is_zombie || stat.start != self.pid_start,
                // Hidden from this user, or not there: a signal that is none tells the two apart.
                None => !exists(self.pid),
            }
    }

    /// The boot as bytes; zeros if unknown.
    #[must_use]
    pub fn boot_bytes(&self) -> [u8; 16] {
        crate::bytes::unhex(&self.boot.replace('-', "")).unwrap_or_default()
    }
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// What the system tells of a process.
struct Stat {
    /// It has ended, and its parent has not asked about it yet.
    is_zombie: bool,
    /// When it started, in clock ticks since the boot.
    start: u64,
}

fn stat_of(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X" | "x");
    let start = fields.nth(18)?.parse().ok()?;
    Some(Stat { is_zombie, start })
}

/// Says whether there is a process with this number; where nobody can say, there is.
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_not_gone_and_an_earlier_one_of_its_number_is() {
        let own = Process::own();
        assert!(own.pid_start > 0 && !own.boot.is_empty() && own.boot_bytes() != [0; 16]);
        assert!(!own.is_gone(&own));
        let earlier = Process {
            pid_start: own.pid_start - 1,
            ..own.clone()
        };
        assert!(earlier.is_gone(&own));
    }

    #[test]
    fn a_process_that_was_killed_is_gone_before_its_parent_asks() {
        let own = Process::own();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let lease = Process {
            pid: child.id(),
            pid_start: stat_of(child.id()).unwrap().start,
            ..own.clone()
        };
        assert!(!lease.is_gone(&own));
        child.kill().unwrap();
        while stat_of(child.id()).is_some_and(|stat| !stat.is_zombie) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(lease.is_gone(&own));
        assert!(exists(child.id()));
        child.wait().unwrap();
        assert!(lease.is_gone(&own) && !exists(child.id()));
    }

    #[test]
    fn nothing_is_known_of_other_machines_boots_and_containers() {
        let own = Process::own();
        let gone = Process {
            pid_start: own.pid_start + 1,
            ..own.clone()
        };
        assert!(gone.is_gone(&own));
        for other in [
            Process {
                boot: "0".to_owned(),
                ..gone.clone()
            },
            Process {
                boot: String::new(),
                ..gone.clone()
            },
            Process {
                pid_namespace: "pid:[1]".to_owned(),
                ..gone.clone()
            },
        ] {
            assert!(!other.is_gone(&own));
        }
        let nowhere = Process {
            boot: String::new(),
            ..gone
        };
        assert!(!nowhere.is_gone(&nowhere));
    }
}
