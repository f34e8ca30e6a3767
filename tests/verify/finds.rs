//! What is damaged is found, by the name of the promise that it breaks, and the backups, disks and files that lose by it are named.

use crate::common::disks::CHUNK;
use crate::common::packs::{records, regions, stored};
use crate::scene::{Scene, everything, verify_vault};
use std::collections::BTreeSet;
use vaultfs::store::Store;
use vaultfs::vault::object::ObjectType;
use vaultfs::verify::{Depth, Fate, Invariant, Report, Request};

/// The promises that are broken, and what that means.
fn broken(report: &Report) -> BTreeSet<(&'static str, Fate)> {
    let findings = report.findings.iter();
    findings
        .map(|finding| (finding.invariant.word(), finding.fate))
        .collect()
}

#[test]
fn a_sound_vault_is_good_in_every_depth() {
    let scene = Scene::new();
    for depth in [Depth::Stored, Depth::Data] {
        let report = scene.verify(depth);
        assert!(!report.is_damaged() && report.is_complete(), "{report:?}");
        assert_eq!(
            (report.findings.len(), report.foreign.len(), report.unlisted_packs),
            (0, 0, 0)
        );
        assert_eq!(report.backups, 2);
        // All but the vault object, which is checked when the vault is opened.
        assert_eq!(report.objects, u64::try_from(scene.keys("").len() - 1).unwrap());
        assert!(report.references > 8);
    }
    let (stored, data) = (scene.verify(Depth::Stored), scene.verify(Depth::Data));
    assert!(stored.chunks < data.chunks, "pages only, and all chunks");
    assert!(scene.keys("quarantine/").is_empty());
}

#[test]
fn all_slices_together_are_the_whole() {
    let scene = Scene::new();
    let whole = scene.verify(Depth::Data);
    let mut sum = (0, 0, 0);
    for number in 1..=7 {
        let request = Request {
            slice: format!("{number}/7").parse().unwrap(),
            ..everything(Depth::Data)
        };
        let part = verify_vault(&scene.vault, &request).unwrap();
        assert!(!part.is_damaged());
        sum = (sum.0 + part.objects, sum.1 + part.chunks, sum.2 + part.references);
    }
    assert_eq!(sum, (whole.objects, whole.chunks, whole.references));
}

#[test]
fn damage_is_found_by_exactly_one_slice_and_named_there() {
    let scene = Scene::new();
    let key = scene.keys("packs/").remove(0);
    scene.flip(&key, 100);
    let finding = |number: u64| {
        let request = Request {
            slice: format!("{number}/5").parse().unwrap(),
            by: None,
            ..everything(Depth::Data)
        };
        verify_vault(&scene.vault, &request).unwrap()
    };
    let found: Vec<Report> = (1..=5).map(finding).filter(Report::is_damaged).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].hurt.len(), 1, "the page may be of another slice");
}

/// Flips a bit in every part of every object, and asserts what is said of it.
#[test]
fn a_flip_in_any_part_of_any_object_is_found_and_named() {
    let scene = Scene::new();
    let sound = scene.objects();
    let (mut flips, mut hurt_trees, mut hurt_disks) = (0, 0, 0);
    for (key, object) in sound.iter().filter(|(key, _)| key.as_str() != "vault") {
        let text = key.as_str();
        let is_pack = text.starts_with("packs/") || text.starts_with("meta/");
        let parts = if is_pack {
            regions(&scene.vault, key, object)
        } else {
            vec![("object", 0..object.len())]
        };
        for (part, range) in parts {
            scene.flip(key, range.start + range.len() / 2);
            let report = scene.verify(Depth::Data);
            let place = format!("{part} of {key}: {report:?}");
            assert!(report.is_damaged() && report.is_complete(), "{place}");
            assert!(report.findings.iter().any(|finding| finding.object == text), "{place}");
            match part {
                "header" | "hash" => assert_eq!(broken(&report), [("frame", Fate::Harmless)].into(), "{place}"),
                "chunk" => {
                    assert_eq!(
                        broken(&report),
                        [("chunk", Fate::Lost), ("frame", Fate::Lost)].into(),
                        "{place}"
                    );
                    assert_eq!(report.hurt.len(), 1, "{place}");
                }
                "footer" => assert_eq!(
                    broken(&report),
                    [("footer", Fate::Lost), ("frame", Fate::Lost)].into(),
                    "{place}"
                ),
                _ if text.starts_with("index/") => {
                    assert_eq!(broken(&report), [("frame", Fate::Harmless)].into(), "{place}");
                }
                _ => assert_eq!(broken(&report), [("frame", Fate::Lost)].into(), "{place}"),
            }
            let named = part == "chunk" || part == "footer" || text.starts_with("backups/");
            assert_eq!(!report.hurt.is_empty(), named, "{place}");
            for backup in &report.hurt {
                hurt_trees += usize::from(!backup.files.is_empty());
                hurt_disks += usize::from(!backup.disks.is_empty());
                let said = !(backup.files.is_empty() && backup.disks.is_empty() && backup.notes.is_empty());
                assert!(said, "{place}");
            }
            scene.put_back(&sound);
            flips += 1;
        }
    }
    println!("{flips} flips, {hurt_disks} named a disk, {hurt_trees} named files");
    assert!(hurt_disks >= 8 && hurt_trees >= 4);
}

#[test]
fn without_data_a_flipped_chunk_is_found_by_the_hash_of_its_object() {
    let scene = Scene::new();
    let key = scene.keys("packs/").remove(0);
    scene.flip(&key, 100);
    let report = scene.verify(Depth::Stored);
    assert_eq!(broken(&report), [("chunk", Fate::Lost), ("frame", Fate::Lost)].into());
    assert_eq!(report.hurt.len(), 1);
}

#[test]
fn a_flipped_chunk_of_a_disk_is_named_by_its_bytes() {
    let scene = Scene::empty(9);
    let address = scene.back_up_disk().address;
    let key = scene.keys("packs/").remove(0);
    let object = scene.object(&key);
    // One thread stores the chunks of a disk in their order.
    let third = records(&scene.vault, &key, &object)[2];
    scene.flip(&key, stored(&third).start);
    let report = scene.verify(Depth::Data);
    assert_eq!(report.hurt.len(), 1);
    assert_eq!(report.hurt[0].address, address);
    assert_eq!(report.hurt[0].disks[0].name, "vda");
    assert_eq!(report.hurt[0].disks[0].ranges, [4 * CHUNK..5 * CHUNK]);
    assert_eq!(scene.keys("quarantine/").len(), 1);
    let quarantined = scene.vault.quarantined().unwrap();
    let pack = scene.vault.frame_of(&key).unwrap().object_id;
    assert!(quarantined.has(&pack, &third.id));
}

#[test]
fn a_flipped_chunk_of_a_file_is_named_by_its_path() {
    let scene = Scene::empty(9);
    scene.back_up_tree();
    let key = scene.keys("packs/").remove(0);
    let object = scene.object(&key);
    let all = records(&scene.vault, &key, &object);
    // `report.odt` is one chunk of its own length.
    let report = all.iter().find(|record| record.plain_len == 30_000).unwrap();
    let other = all.iter().find(|record| record.plain_len != 30_000).unwrap();
    for (record, path) in [(report, "tree/docs/deep/report.odt"), (other, "tree/large.bin")] {
        let sound = scene.objects();
        scene.flip(&key, stored(record).start + 10);
        let found = scene.verify(Depth::Data);
        assert_eq!(found.hurt.len(), 1);
        let files = &found.hurt[0].files;
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(String::from_utf8_lossy(&files[0].path), path);
        scene.put_back(&sound);
    }
}

#[test]
fn a_missing_pack_is_found_and_every_backup_that_needs_it_is_named() {
    let scene = Scene::new();
    for prefix in ["packs/", "meta/"] {
        for key in scene.keys(prefix) {
            let sound = scene.objects();
            scene.store.delete(&key).unwrap();
            let report = scene.verify(Depth::Stored);
            assert_eq!(report.hurt.len(), 1, "{key}: {report:?}");
            assert!(report.findings.iter().any(|finding| finding.object == key.as_str()));
            assert_eq!(scene.keys("quarantine/").len(), 1, "the pack as a whole");
            scene.put_back(&sound);
        }
    }
}

#[test]
fn a_reference_that_leads_to_a_chunk_of_another_length_is_found() {
    // A disk of another size whose manifest names the same pages: its last chunk must be shorter.
    let scene = Scene::empty(3);
    let report = scene.back_up_disk();
    let mut manifest = report.manifest.clone();
    manifest.point += 1;
    let vaultfs::vault::Content::Disks(disks) = &mut manifest.content else {
        panic!("disks were backed up")
    };
    disks[0].size = 1099 * CHUNK + 5;
    disks[0].roots.swap(0, 1);
    scene.vault.commit(&manifest).unwrap();
    let found = scene.verify(Depth::Stored);
    assert!(broken(&found).contains(&("map", Fate::Lost)), "{found:?}");
    assert_eq!(found.hurt.len(), 1);
    assert_eq!(found.hurt[0].address, manifest.address().unwrap());
}

#[test]
fn an_index_that_lies_is_found() {
    use vaultfs::vault::index::{self, Record};
    let scene = Scene::new();
    let key = scene.keys("packs/").remove(0);
    let pack = scene.vault.frame_of(&key).unwrap().object_id;
    let record = records(&scene.vault, &key, &scene.object(&key))[0];
    let lie = Record {
        id: record.id,
        pack,
        offset: record.offset + 1,
        stored_len: record.stored_len,
        plain_len: record.plain_len,
    };
    let ahead = Record {
        pack: [5; 16],
        id: vaultfs::vault::ChunkId([5; 32]),
        ..lie
    };
    for (records, wanted) in [(vec![lie], 1), (vec![ahead], 0)] {
        let id = [9; 16];
        let at = vaultfs::vault::index_key(&id).unwrap();
        let object = scene.vault.frame(ObjectType::Index, id).seal(&index::encode(records));
        scene.store.overwrite(&at, object);
        let report = scene.verify(Depth::Stored);
        let findings: Vec<_> = report.findings.iter().map(|finding| finding.invariant).collect();
        assert_eq!(
            findings,
            vec![Invariant::Index; wanted],
            "a pack that is not there yet is no lie"
        );
    }
}

#[test]
fn a_pack_that_no_index_lists_and_objects_of_others_are_told_and_no_damage() {
    let scene = Scene::new();
    for key in scene.keys("index/") {
        scene.store.delete(&key).unwrap();
    }
    let foreign = vaultfs::store::Key::new("photos/cat.jpeg").unwrap();
    scene.store.put_new(&foreign, b"meow").unwrap();
    let report = scene.verify(Depth::Stored);
    assert!(!report.is_damaged());
    assert_eq!(
        report.unlisted_packs,
        u64::try_from(scene.keys("packs/").len()).unwrap()
    );
    assert_eq!(report.foreign, ["photos/cat.jpeg"]);
}

#[test]
fn one_backup_is_verified_with_the_packs_that_it_needs() {
    let scene = Scene::new();
    let tree = scene.vault.catalogue().unwrap();
    let address = |kind: &str| {
        let (resource, points) = tree
            .iter()
            .find(|(resource, _)| resource.to_string().starts_with(kind))
            .unwrap();
        resource.at(points[0])
    };
    let packs = scene.keys("packs/");
    assert_eq!(packs.len(), 2, "one of each backup");
    for key in &packs {
        let sound = scene.objects();
        scene.flip(key, 100);
        let damaged = ["servers", "filesystems"].map(|kind| {
            let request = Request {
                backups: Some(vec![address(kind)]),
                ..everything(Depth::Data)
            };
            verify_vault(&scene.vault, &request).unwrap().is_damaged()
        });
        assert!(damaged[0] != damaged[1], "{damaged:?}");
        scene.put_back(&sound);
    }
}

#[test]
fn what_no_file_system_holds_is_said_to_be_no_file() {
    let scene = Scene::empty(11);
    scene.back_up_disk();
    let key = scene.keys("packs/").remove(0);
    scene.flip(&key, 100);
    let report = scene.verify(Depth::Data);
    assert_eq!(report.hurt[0].files, []);
    let notes = report.hurt[0].notes.join(" ");
    assert!(
        notes.contains("cannot be told") || notes.contains("no file lies there"),
        "{notes}"
    );
}
