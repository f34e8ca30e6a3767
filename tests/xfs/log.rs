//! File systems that were in use: the log is told of, and replayed as the kernel replays it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FallocateFlags, XattrFlags};
use vaultfs::fs::FileSystem;
use vaultfs::fs::xfs::Xfs;

use crate::common::Random;
use crate::files::{self, LoopMount, assert_same, can_loop_mount};
use crate::fill;
use crate::images::{Image, kernels, open, ours};

/// Stops the file system as a power cut does; `flush` writes the log first.
fn cut_power(root: &Path, flush: bool) {
    let command = if flush { "shutdown -f" } else { "shutdown" };
    files::run(&["xfs_io", "-x", "-c", command, root.to_str().unwrap()]);
}

/// Compares what the reader makes of the log with what the kernel makes of it, in a copy.
fn compare_replayed(image: &Image, what: &str) {
    let (fs, _) = open(&image.path());
    let notes = fs.summary().notes;
    assert!(
        notes.len() == 1 && notes[0].contains("was replayed in memory."),
        "{what}: {notes:?}"
    );
    let ours = ours(&image.path());
    let copy = image.copy();
    copy.fill(|_| {});
    assert_same(&ours, &kernels(&copy.path()), what);
}

#[test]
fn a_log_that_was_flushed_is_replayed_as_the_kernel_does() {
    if !can_loop_mount() {
        return;
    }
    let sets = [
        ("", 4096),
        ("-b size=1024", 1024),
        ("-n size=65536 -i size=1024", 4096),
        ("-m bigtime=0 -i nrext64=1", 4096),
        ("-m rmapbt=1 -d su=64k,sw=4 -l su=256k", 4096),
        ("-b size=16384", 16384),
        ("-i sparse=0 -s size=4096", 4096),
    ];
    for (options, block) in sets {
        let image = Image::new(320, options);
        image.fill(|root| {
            fill::everything(root, block);
            fill::reflinks(root);
            cut_power(root, true);
        });
        compare_replayed(&image, options);
    }
}

/// Makes, changes and removes things of all kinds, without end.
fn work(root: &Path, seed: u64, stop: &AtomicBool) {
    let mut random = Random::quiet(seed);
    let worker = root.join(format!("worker {seed}"));
    let _ = fs::create_dir(&worker);
    while !stop.load(Ordering::Relaxed) {
        // Errors begin when the power is cut.
        let _ = change(&worker, &mut random);
    }
}

fn change(root: &Path, random: &mut Random) -> std::io::Result<()> {
    let dir = root.join(format!("dir {}", random.below(4)));
    let path = dir.join(format!(
        "{}{}",
        "name ".repeat(usize::try_from(random.below(20)).unwrap()),
        random.below(300)
    ));
    match random.below(14) {
        0 => fs::create_dir_all(&dir)?,
        1..=3 => drop(File::create(&path)?),
        4 => {
            let len = usize::try_from(random.below(200_000)).unwrap();
            fs::write(&path, random.bytes(len))?;
        }
        5 => fs::remove_file(&path)?,
        6 => fs::rename(&path, root.join(format!("renamed {}", random.below(50))))?,
        7 => {
            let name = format!("user.{}", random.below(30));
            let len = [5, 100, 3000][usize::try_from(random.below(3)).unwrap()];
            rustix::fs::setxattr(&path, name, &random.bytes(len), XattrFlags::empty())?;
        }
        8 => {
            let file = File::options().write(true).open(&path)?;
            for index in 0..random.below(40) {
                file.write_all_at(b"piece", index * 9000)?;
            }
        }
        9 => File::open(&path)?.sync_all()?,
        10 => std::os::unix::fs::symlink("target/".repeat(usize::try_from(1 + random.below(100)).unwrap()), &path)?,
        11 => {
            let file = File::options().write(true).open(&path)?;
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, flags, random.below(50_000), 10_000)?;
        }
        12 => fs::hard_link(&path, root.join(format!("link {}", random.below(50))))?,
        _ if random.below(20) == 0 => fs::remove_dir_all(&dir)?,
        _ => {
            let name = format!("user.{}", random.below(30));
            rustix::fs::removexattr(&path, name)?;
        }
    }
    Ok(())
}

/// Works for a time, cuts the power, compares; then the same on what is left, with a log that has been round.
fn interrupted(options: &str, rounds: u64, seed: u64) {
    let image = Image::new(120, options);
    for round in 0..rounds {
        image.fill(|root| {
            // Something is in the log however early the cut comes.
            File::create(root.join(format!("round {round}")))
                .unwrap()
                .sync_all()
                .unwrap();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for worker in 0..2 {
                    let stop = &stop;
                    scope.spawn(move || work(root, seed + round * 2 + worker, stop));
                }
                std::thread::sleep(Duration::from_millis(150 + 130 * round));
                cut_power(root, round % 3 == 2);
                stop.store(true, Ordering::Relaxed);
            });
        });
        compare_replayed(&image, &format!("{options}, round {round} of seed {seed}"));
    }
}

#[test]
fn a_power_cut_at_any_time_is_replayed_as_the_kernel_does() {
    if !can_loop_mount() {
        return;
    }
    interrupted("-l size=8m", 5, 100);
    interrupted("-b size=1024 -l size=8m", 3, 200);
}

#[test]
#[ignore = "soak: forty power cuts"]
fn soak_power_cuts_at_many_times_are_replayed_as_the_kernel_does() {
    if !can_loop_mount() {
        return;
    }
    let seed = Random::new(std::process::id().into()).next() >> 32;
    for (options, index) in [
        "-l size=8m",
        "-b size=1024 -l size=6m",
        "-n size=8192 -l size=16m",
        "-i nrext64=1",
    ]
    .into_iter()
    .zip(0..)
    {
        interrupted(options, 10, seed + index * 1000);
    }
}

#[test]
fn without_replay_an_image_in_use_reads_as_norecovery_shows_it() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    image.fill(|root| {
        fill::everything(root, 4096);
    });
    image.fill(|root| {
        // In the log only; the old state is whole on the volume.
        fs::write(root.join("new"), "content").unwrap();
        fs::remove_file(root.join("others/one")).unwrap();
        cut_power(root, true);
    });
    let volume = files::volume(&image.path());
    let as_is: Arc<dyn FileSystem> = Arc::new(Xfs::open_as_is(Arc::clone(&volume)).unwrap());
    assert!(
        as_is.summary().notes[0].contains("was not replayed"),
        "{:?}",
        as_is.summary()
    );
    assert_same(&files::tree_of(&as_is, &volume), &kernels(&image.path()), "norecovery");
    let (replayed, _) = open(&image.path());
    assert!(replayed.lookup(replayed.root(), b"new").unwrap().is_some());
    assert!(as_is.lookup(as_is.root(), b"new").unwrap().is_none());
}

#[test]
fn an_image_copied_while_mounted_and_idle_reads_as_the_kernel_recovers_it() {
    if !can_loop_mount() {
        return;
    }
    let image = Image::new(320, "");
    let mount = LoopMount::new(&image.path(), "rw,nouuid");
    fill::everything(mount.path(), 4096);
    let root = File::open(mount.path()).unwrap();
    rustix::fs::syncfs(&root).unwrap();
    drop(root);
    let copy = image.copy();
    drop(mount);
    compare_replayed(&copy, "copied while mounted");
}
