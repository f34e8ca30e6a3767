//! Damage in the vault copied from, interruptions and kills.

use super::{Desk, Ended, FIRST, SECOND, addresses, cat, copy, copy_command, disk, objects_of};
use crate::common::disks::Sparse;
use crate::common::program::stderr;
use crate::common::{Random, files, temporary_files};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The objects of a vault below a directory.
fn packs(vault: &Path, dir: &str) -> Vec<PathBuf> {
    files(&vault.join(dir))
}

/// A vault with two servers, their packs apart.
fn two_servers(desk: &Desk) -> (PathBuf, PathBuf, Vec<PathBuf>) {
    let (from, to) = desk.two();
    desk.server(&from, "db", FIRST, &[("vda", &disk(1))]);
    let before = packs(&from, "packs");
    desk.server(&from, "web", SECOND, &[("vda", &disk(2))]);
    let own = packs(&from, "packs").into_iter().filter(|pack| !before.contains(pack));
    let own: Vec<PathBuf> = own.collect();
    (from, to, own)
}

/// Makes a file writable and changes it.
fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let good = std::fs::read(path).unwrap();
    let mut bad = good.clone();
    how(&mut bad);
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bad).unwrap();
    good
}

#[test]
fn damage_is_named_and_the_other_backups_are_copied() {
    let desk = Desk::new();
    let (from, to, own) = two_servers(&desk);
    let [pack] = &own[..] else { panic!("{own:?}") };
    let good = change(pack, |bytes| bytes[64 + 100_000] ^= 1);
    let ended = copy(&[&"--all", &from, &to]);
    assert_eq!((ended.code, ended.counts()), (Some(3), (1, 0, 1)), "{}", ended.stderr);
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    for part in [
        &format!("servers/web/{SECOND}"),
        "disk vda, byte",
        &name,
        "fails its hash",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(addresses(&to), [format!("servers/db/{FIRST}")]);
    assert!(cat(&to, "servers/db/latest/disks/vda.img") == cat(&from, "servers/db/latest/disks/vda.img"));
    // Healed, the rest is copied, and what had arrived is found.
    std::fs::write(pack, good).unwrap();
    let healed = copy(&[&"--all", &from, &to]).succeeds();
    assert_eq!(healed.counts(), (1, 1, 0));
    assert!(cat(&to, "servers/web/latest/disks/vda.img") == cat(&from, "servers/web/latest/disks/vda.img"));
}

#[test]
fn a_lost_pack_a_damaged_map_and_a_damaged_manifest_fail_their_own_backup_only() {
    let desk = Desk::new();
    let (from, to, own) = two_servers(&desk);
    let manifest = from.join(format!("backups/servers/web/{SECOND}"));
    let maps = packs(&from, "meta");
    let victims = own.iter().chain([&manifest]).chain(&maps);
    for victim in victims {
        let target = desk.vault(&format!("to-{}", victim.file_name().unwrap().display()), "64KiB");
        let good = change(victim, |bytes| bytes.truncate(bytes.len() - 1));
        let ended = copy(&[&"--all", &from, &target]);
        assert_eq!(
            (ended.code, ended.number("failed")),
            (Some(3), 1),
            "{victim:?}: {}",
            ended.stderr
        );
        assert_eq!(addresses(&target).len(), 1, "{victim:?}");
        std::fs::write(victim, good).unwrap();
        assert_eq!(copy(&[&"--all", &from, &target]).succeeds().counts(), (1, 1, 0));
    }
    assert_eq!(objects_of(&to).len(), 1, "the vault that nothing was copied to");
}

#[test]
fn a_copy_that_has_lost_a_pack_is_not_taken_for_whole() {
    let desk = Desk::new();
    let (from, to) = desk.two();
    desk.server(&from, "web", FIRST, &[("vda", &disk(1))]);
    copy(&[&"--all", &from, &to]).succeeds();
    let [pack] = &packs(&to, "packs")[..] else {
        panic!("not one pack")
    };
    std::fs::remove_file(pack).unwrap();
    let ended = copy(&[&"--all", &from, &to]);
    assert_eq!(ended.code, Some(3));
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        ended.stderr.contains(&name) && ended.stderr.contains(&to.display().to_string()),
        "{}",
        ended.stderr
    );
}

/// A vault with a disk large enough to be disturbed on its way.
fn large(desk: &Desk) -> (PathBuf, PathBuf, Sparse) {
    let (from, to) = desk.two();
    let model = Sparse::new(100 << 20, vec![(1 << 20, Random::new(5).bytes(90 << 20))]);
    desk.server(&from, "web", FIRST, &[("vda", &model)]);
    (from, to, model)
}

fn start(from: &Path, to: &Path) -> Child {
    let mut command = copy_command(&[&"--all", &from, &to]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn same(to: &Path, model: &Sparse) -> bool {
    cat(to, "servers/web/latest/disks/vda.img") == model.bytes(0..vaultfs::image::ReadAt::len(model))
}

#[test]
fn an_interrupted_copy_shows_nothing_and_the_next_one_goes_on_from_there() {
    let desk = Desk::new();
    let (from, _, model) = large(&desk);
    let mut interrupted = 0;
    for round in 0..20 {
        let to = desk.vault(&format!("to-{round}"), "64KiB");
        let child = start(&from, &to);
        let begun = Instant::now();
        while !to.join("packs").is_dir() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            continue;
        }
        interrupted += 1;
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("interrupted in the copy of servers/web"),
            "{}",
            stderr(&output)
        );
        let first = Ended::of(&output);
        assert_eq!(addresses(&to), Vec::<String>::new());
        let next = copy(&[&"--all", &from, &to]).succeeds();
        // Not one chunk goes over twice.
        assert_eq!(next.number("found_chunks"), first.number("copied_chunks"));
        assert_eq!(next.number("found_chunks") + next.number("copied_chunks"), 90 << 4);
        assert!(same(&to, &model));
        if interrupted == 3 {
            return;
        }
    }
    assert!(interrupted > 0, "no copy could be interrupted");
}

#[test]
fn a_copy_killed_at_any_time_shows_nothing_half_made_and_is_completed_by_the_next() {
    let desk = Desk::new();
    let (from, _, model) = large(&desk);
    let begun = Instant::now();
    copy(&[&"--all", &from, &desk.vault("undisturbed", "64KiB")]).succeeds();
    let undisturbed = begun.elapsed();
    let mut random = Random::new(0x0c09_0001);
    let mut to = desk.vault("killed", "64KiB");
    let (mut kills, mut window) = (0, undisturbed);
    for number in 0..40 {
        let mut child = start(&from, &to);
        std::thread::sleep(window * u32::try_from(random.below(1000)).unwrap() / 1000);
        child.kill().unwrap();
        kills += u32::from(child.wait().unwrap().signal() == Some(9));
        // Visible means whole.
        if !addresses(&to).is_empty() {
            assert!(same(&to, &model));
            // A vault that has it all makes the next copy too quick to be met.
            to = desk.vault(&format!("killed-{number}"), "64KiB");
            window = window * 3 / 4;
        }
        if kills == 10 {
            break;
        }
    }
    println!("{kills} kills; temporary files left: {}", temporary_files(&to).len());
    assert_eq!(kills, 10, "the copies ended too soon");
    assert_eq!(copy(&[&"--all", &from, &to]).succeeds().counts(), (1, 0, 0));
    assert!(same(&to, &model));
}
