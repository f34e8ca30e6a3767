//! Reads the command line of `mount.vaultfs`, by which mount(8) and fstab reach us.

use std::ffi::OsString;
use std::path::PathBuf;

use super::options::{self, Unknown};
use super::{MountRequest, Presence};

const USAGE: &str = "usage: mount.vaultfs VAULT DIRECTORY [-sfnv] [-t vaultfs] [-o OPTIONS]";

/// Translates the arguments of mount(8)'s helper protocol (without the program's name) into a mount.
///
/// mount(8) always passes `rw` unless told `ro`; here it asks for nothing, since a vault is read-only anyway.
///
/// # Errors
/// A sentence that names the argument.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<MountRequest, String> {
    let mut args = args.into_iter();
    let mut places = Vec::new();
    let mut lists = Vec::new();
    let mut unknown = Unknown::Refuse;
    let mut presence = Presence::Background;
    while let Some(arg) = args.next() {
        let Some(flags) = arg.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            places.push(arg);
            continue;
        };
        let mut letters = flags.chars();
        while let Some(letter) = letters.next() {
            match letter {
                's' => unknown = Unknown::Ignore,
                'f' => presence = Presence::Checked,
                'n' | 'v' => {}
                'o' | 't' | 'N' => {
                    let value = value_of(letter, letters.as_str(), &mut args)?;
                    match letter {
                        'o' => lists.push(value),
                        't' => check_type(&value)?,
                        _ => {
                            return Err(
                                "mount.vaultfs: -N is not supported; run it inside the namespace with nsenter".into(),
                            );
                        }
                    }
                    break;
                }
                other => return Err(format!("mount.vaultfs: option -{other} is not known; {USAGE}")),
            }
        }
    }
    let [vault, directory] = <[String; 2]>::try_from(places).map_err(|_| USAGE.to_owned())?;
    let lists: Vec<String> = lists.iter().map(|list| without_rw(list)).collect();
    Ok(MountRequest {
        vault: OsString::from(vault),
        directory: PathBuf::from(directory),
        options: options::parse(lists.iter().map(String::as_str), unknown)?,
        presence,
    })
}

fn value_of(letter: char, attached: &str, args: &mut impl Iterator<Item = String>) -> Result<String, String> {
    if attached.is_empty() {
        args.next()
            .ok_or_else(|| format!("mount.vaultfs: -{letter} needs a value; {USAGE}"))
    } else {
        Ok(attached.to_owned())
    }
}

fn check_type(fstype: &str) -> Result<(), String> {
    match fstype {
        "vaultfs" | "fuse.vaultfs" => Ok(()),
        other => Err(format!("mount.vaultfs: cannot mount the type {other:?}, only vaultfs")),
    }
}

fn without_rw(list: &str) -> String {
    let kept: Vec<&str> = list.split(',').filter(|option| *option != "rw").collect();
    kept.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<MountRequest, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_mount_8_passes_is_understood() {
        for line in [
            "/v /m -o rw",
            "/v /m -o rw,_netdev,cache=64M",
            "/v /m -n -o ro",
            "/v /m -sv -t fuse.vaultfs -oro",
            "/v /m -tvaultfs",
            "-v /v -o defaults /m",
        ] {
            let request = parsed(line).unwrap();
            assert_eq!(
                (request.vault.to_str(), request.directory.to_str()),
                (Some("/v"), Some("/m")),
                "{line}"
            );
            assert_eq!(request.presence, Presence::Background, "{line}");
        }
        assert_eq!(parsed("/v /m -o rw,cache=64M").unwrap().options.cache_bytes, 64 << 20);
    }

    #[test]
    fn a_fake_mount_is_only_checked() {
        assert_eq!(parsed("/v /m -fn").unwrap().presence, Presence::Checked);
    }

    #[test]
    fn sloppy_passes_over_unknown_options() {
        assert!(parsed("/v /m -o whatever").unwrap_err().contains("whatever"));
        assert!(parsed("/v /m -s -o whatever").is_ok());
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "",
            "/v",
            "/v /m /x",
            "/v /m -o",
            "/v /m -t ext4",
            "/v /m -N 5",
            "/v /m -q",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
