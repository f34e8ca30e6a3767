//! Thin volumes: maps written by thin_restore into pools that vgcfgrestore took, against the maps themselves.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::process::Command;

use crate::common::{Random, skip};
use crate::disks::*;
use crate::files::run;
use crate::hostile::Patched;
use crate::lvm_types::{HIDDEN, Text, VISIBLE, restored};

/// Bytes of a block of the pool.
const BLOCK: usize = 64 << 10;
/// Blocks of each volume and of the pool.
const BLOCKS: u64 = 16 * 12;

/// Block of the volume to block of the pool.
type Map = BTreeMap<u64, u64>;

/// What thin_restore reads.
fn xml(maps: &[Map]) -> String {
    let mut xml = format!(
        "<superblock uuid=\"\" time=\"3\" transaction=\"5\" data_block_size=\"128\" nr_data_blocks=\"{BLOCKS}\">\n"
    );
    for (number, map) in maps.iter().enumerate() {
        let (id, count) = (number + 1, map.len());
        xml += &format!(
            "<device dev_id=\"{id}\" mapped_blocks=\"{count}\" transaction=\"0\" creation_time=\"0\" snap_time=\"2\">\n"
        );
        for (origin, data) in map {
            xml += &format!(
                "<single_mapping origin_block=\"{origin}\" data_block=\"{data}\" time=\"{}\"/>\n",
                number + 1
            );
        }
        xml += "</device>\n";
    }
    xml + "</superblock>\n"
}

/// Maps of four volumes that share the pool: runs, scattered blocks, nothing, all.
fn maps(random: &mut Random) -> Vec<Map> {
    let mut free: Vec<u64> = (0..BLOCKS).collect();
    let mut taken = |random: &mut Random| {
        let at = random.below(free.len() as u64) as usize;
        free.swap_remove(at)
    };
    let scattered: Map = (0..40).map(|_| (random.below(BLOCKS), taken(random))).collect();
    let runs: Map = (0..30).map(|block| (block / 10 * 40 + block % 10, block + 7)).collect();
    let all: Map = (0..BLOCKS).map(|block| (block, BLOCKS - 1 - block)).collect();
    vec![scattered, runs, Map::new(), all]
}

#[test]
fn thin_volumes_have_the_blocks_that_their_maps_name() {
    let test = "thin_volumes_have_the_blocks_that_their_maps_name";
    if Command::new("thin_restore").arg("--version").output().is_err() {
        return skip(test, "no thin_restore");
    }
    let mut text = Text::new(1);
    let pool =
        "type = \"thin-pool\" metadata = \"pool_tmeta\" pool = \"pool_tdata\" transaction_id = 5 chunk_size = 128
                discards = \"passdown\" zero_new_blocks = 1";
    text.volume("pool", VISIBLE, BLOCKS / 16, pool);
    text.linear("pool_tmeta", HIDDEN, 4, 0);
    text.linear("pool_tdata", HIDDEN, BLOCKS / 16, 0);
    for number in 1..=4 {
        let thin = format!("type = \"thin\" thin_pool = \"pool\" transaction_id = 0 device_id = {number}");
        text.volume(&format!("thin{number}"), VISIBLE, BLOCKS / 16, &thin);
    }
    text.linear("base", VISIBLE, 2, 0);
    text.volume(
        "grown",
        VISIBLE,
        BLOCKS / 16,
        "type = \"thin\" thin_pool = \"pool\" transaction_id = 0 device_id = 1 external_origin = \"base\"",
    );
    text.volume(
        "lost",
        VISIBLE,
        1,
        "type = \"thin\" thin_pool = \"pool\" transaction_id = 0 device_id = 77",
    );
    let Some(lab) = restored(test, &text) else { return };

    let maps = maps(&mut Random::new(3));
    let map = lab.write("map.xml", &xml(&maps));
    let metadata = lab.write("metadata", "");
    std::fs::File::options()
        .write(true)
        .open(&metadata)
        .unwrap()
        .set_len(4 * MIB)
        .unwrap();
    run(&["thin_restore", "--input", &map, "--output", &metadata]);
    // The metadata is the first volume on the disk, the data the next.
    let disk = std::fs::File::options().write(true).open(&lab.disks[0]).unwrap();
    disk.write_all_at(&std::fs::read(&metadata).unwrap(), MIB).unwrap();
    let found = lab.found();
    let data = lab.expected("pool_tdata");
    let base = lab.expected("base");
    for (number, map) in maps.iter().enumerate() {
        for (name, origin) in [
            (format!("vg0-thin{}", number + 1), &[][..]),
            ("vg0-grown".to_owned(), &base),
        ] {
            if number > 0 && !origin.is_empty() {
                continue;
            }
            let volume = named(&found, &name);
            let mut expected = vec![0; BLOCKS as usize * BLOCK];
            expected[..origin.len()].copy_from_slice(origin);
            for (block, place) in map {
                let place = *place as usize * BLOCK;
                expected[*block as usize * BLOCK..][..BLOCK].copy_from_slice(&data[place..place + BLOCK]);
            }
            assert!(bytes_of(volume) == expected, "{name} has other bytes");
            let image = volume.data.as_ref().unwrap();
            let mut random = Random::quiet(9);
            for _ in 0..500 {
                let at = random.below(expected.len() as u64);
                let mut buf = vec![0; random.below(200_000).min(expected.len() as u64 - at) as usize];
                image.read_at(at, &mut buf).unwrap();
                assert!(buf == expected[at as usize..at as usize + buf.len()]);
                if origin.is_empty() {
                    let first = |wanted: bool| {
                        let blocks = at / BLOCK as u64..BLOCKS;
                        let found = blocks.into_iter().find(|block| map.contains_key(block) == wanted);
                        found.map(|block| at.max(block * BLOCK as u64))
                    };
                    assert_eq!(image.next_data(at).unwrap(), first(true), "{name} at {at}");
                    assert_eq!(
                        image.next_hole(at).unwrap(),
                        first(false).unwrap_or(volume.size),
                        "{name} at {at}"
                    );
                }
            }
        }
    }
    assert!(
        named(&found, "vg0-pool")
            .problem
            .as_ref()
            .unwrap()
            .contains("is a thin pool")
    );
    assert!(
        named(&found, "vg0-lost")
            .problem
            .as_ref()
            .unwrap()
            .contains("has no volume 77")
    );
    assert_eq!(found.problems, [""; 0]);
    survive_damage(std::fs::read(&lab.disks[0]).unwrap());
}

/// Damages the pool's metadata, half of it with checksums made right again.
fn survive_damage(disk: Vec<u8>) {
    let start = MIB as usize;
    let blocks: Vec<usize> = (0..1024)
        .map(|number| start + number * 4096)
        .filter(|at| disk[*at..*at + 4096].iter().any(|byte| *byte != 0))
        .collect();
    let mut metadata: Vec<_> = blocks.iter().map(|at| *at..*at + 64).collect();
    metadata.push(start + 320..start + 344);
    let nodes = blocks.clone();
    let repair = move |bytes: &mut [u8]| {
        for at in &nodes {
            let xor = if *at == start { 160_774 } else { 121_107 };
            let sum = vaultfs::checksum::crc32c(!0, &bytes[*at + 4..*at + 4096]) ^ xor;
            bytes[*at..*at + 4].copy_from_slice(&sum.to_le_bytes());
        }
    };
    let image = Patched::new(disk);
    let mut random = Random::new(0x7419);
    let mut read = 0;
    for round in 0..2000 {
        let began = std::time::Instant::now();
        let undo = image.mutate(&mut random, &metadata);
        let mut repaired = Vec::new();
        image.change(|bytes| {
            repaired.extend(blocks.iter().map(|at| (*at, bytes[*at..*at + 4].to_vec())));
            if round % 2 == 0 {
                repair(bytes);
            }
        });
        let found = found_in(vec![std::sync::Arc::clone(&image) as _]);
        read += crate::mutations::exercise(&found);
        image.change(|bytes| {
            for (at, sum) in repaired {
                bytes[at..at + 4].copy_from_slice(&sum);
            }
        });
        image.undo(undo);
        assert!(began.elapsed().as_secs() < 2, "round {round}");
    }
    assert!(read > 10_000, "{read}");
}
