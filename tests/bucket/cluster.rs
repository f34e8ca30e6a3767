//! A store of three machines that loses one of them, and two.

use super::Desk;
use crate::common::{Random, can_mount, program};
use crate::objects::garage::Cluster;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// What is promised for a read when the store is away.
const LIMIT: Duration = Duration::from_secs(30);

fn read(file: &File, from: usize, len: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, u64::try_from(from).unwrap())
        .map(|()| buffer)
}

#[test]
#[ignore = "long: starts three servers"]
fn a_store_of_three_machines_may_lose_one_during_a_backup_and_during_a_read() {
    let test = "a_store_of_three_machines_may_lose_one_during_a_backup_and_during_a_read";
    if !can_mount(test) {
        return;
    }
    let Some(mut cluster) = Cluster::start(test) else {
        return;
    };
    let desk = Desk::new(&cluster.access);
    let bytes = Random::new(0x6c01).bytes(96 * MIB);
    std::fs::write(desk.path("db.raw"), &bytes).unwrap();
    let mut backup = desk.command("backup", &["disk", "db", &desk.text("db.raw")]);
    let child = backup.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The first packs are there, the last is not.
    let deadline = Instant::now() + Duration::from_secs(60);
    while desk
        .objects()
        .iter()
        .filter(|(name, _)| name.starts_with("packs/"))
        .count()
        < 2
    {
        assert!(Instant::now() < deadline, "no pack arrives");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        desk.addresses().is_empty(),
        "the backup ended before a machine was lost"
    );
    cluster.kill(1);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", program::stderr(&output));
    cluster.start_again(1);

    let mount = desk.mount();
    let file = File::open(mount.path("disks/db/latest/disk.img")).unwrap();
    assert!(read(&file, 0, 30 * MIB).unwrap() == bytes[..30 * MIB]);
    cluster.kill(2);
    assert!(read(&file, 30 * MIB, 66 * MIB).unwrap() == bytes[30 * MIB..]);
    assert_eq!(mount.complaints(), Vec::<String>::new());
    drop(file);
    mount.end();
}

#[test]
#[ignore = "long: starts three servers"]
fn a_store_of_three_machines_that_loses_two_is_told_as_unreachable_and_loses_nothing() {
    let test = "a_store_of_three_machines_that_loses_two_is_told_as_unreachable_and_loses_nothing";
    if !can_mount(test) {
        return;
    }
    let Some(mut cluster) = Cluster::start(test) else {
        return;
    };
    let desk = Desk::new(&cluster.access.clone().with("VAULTFS_WRITE_RETRY", "5"));
    let bytes = Random::new(0x6c02).bytes(24 * MIB);
    std::fs::write(desk.path("db.raw"), &bytes).unwrap();
    std::fs::write(desk.path("next.raw"), Random::new(0x6c03).bytes(24 * MIB)).unwrap();
    desk.succeed("backup", &["disk", "db", &desk.text("db.raw")]);
    let (addresses, objects) = (desk.addresses(), desk.objects());
    let mount = desk.mount();
    let file = File::open(mount.path("disks/db/latest/disk.img")).unwrap();
    assert!(read(&file, 0, MIB).unwrap() == bytes[..MIB]);

    cluster.kill(1);
    cluster.kill(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = Instant::now();
            let error = read(&file, 20 * MIB, 128 << 10).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5), "{error}");
            assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
            // What was read before is served.
            assert!(read(&file, 0, MIB).unwrap() == bytes[..MIB]);
        });
        scope.spawn(|| desk.fails("list", &[], 4, "503"));
        scope.spawn(|| desk.fails("backup", &["disk", "db", &desk.text("next.raw")], 4, "503"));
    });

    cluster.start_again(1);
    cluster.start_again(2);
    let deadline = Instant::now() + 2 * LIMIT;
    while let Err(error) = read(&file, 20 * MIB, MIB) {
        assert!(Instant::now() < deadline, "{error}");
    }
    assert!(read(&file, 0, 24 * MIB).unwrap() == bytes);
    assert_eq!(desk.addresses(), addresses);
    let left = desk.objects();
    assert!(
        objects.iter().all(|object| left.contains(object)),
        "{objects:?} {left:?}"
    );
    drop(file);
    mount.end();
}
