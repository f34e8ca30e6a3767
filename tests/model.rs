//! A hundred thousand random reads of a disk image equal the model: a plain vector of bytes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::Random;
use common::disks::{self, CHUNK, Sparse, Ticking};
use common::reads::{self, Ranges};
use std::ops::Range;
use std::sync::Arc;
use vaultfs::chunk::Reader;
use vaultfs::image::disk::DiskImage;
use vaultfs::image::handle::{Handle, ReadAhead};
use vaultfs::image::{Error, ReadAt};
use vaultfs::store::memory::MemoryStore;

/// The disk, its bytes, and its image read through a cache of `cache` bytes.
fn image(cache: u64) -> (Sparse, Vec<u8>, Arc<DiskImage>) {
    let model = reads::disk(&mut Random::new(0x0de1_0001));
    let vault = disks::new_vault(Arc::new(MemoryStore::new()));
    let report = disks::back_up(&vault, &disks::request("web", &[("vda", &model)]), &Ticking::default()).unwrap();
    let reader = Reader::new(vault, cache);
    let image = DiskImage::open(&reader, &report.address, report.manifest.disk("vda").unwrap());
    let bytes = model.bytes(0..model.len());
    (model, bytes, Arc::new(image))
}

#[test]
fn random_reads_of_an_image_equal_the_model() {
    let (model, bytes, image) = image(64 << 20);
    let read = |seed: u64| {
        let mut ranges = Ranges::of(&model, Random::quiet(seed));
        let mut outside = 0;
        for _ in 0..25_000 {
            let (start, len) = ranges.next_range();
            let mut buffer = vec![0xee; len];
            let fits = start + disks::size(len) <= image.len();
            match image.read_at(start, &mut buffer) {
                Ok(()) => {
                    assert!(fits, "{len} bytes at {start}");
                    reads::compare(&buffer, &bytes, start, len);
                }
                Err(Error::OutOfRange { .. }) if !fits => outside += 1,
                Err(error) => panic!("{len} bytes at {start}: {error}"),
            }
            if fits {
                reads::compare(&image.read(start, len).unwrap(), &bytes, start, len);
            }
        }
        outside
    };
    let outside: u32 = std::thread::scope(|scope| {
        let read = &read;
        let threads: Vec<_> = [0x0de1_0002, 0x0de1_0003]
            .map(|seed| scope.spawn(move || read(seed)))
            .into();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((1000..40_000).contains(&outside), "{outside} reads over the end");
}

#[test]
fn random_reads_of_a_handle_equal_the_model_and_end_at_the_end() {
    // A cache smaller than the disk, so that chunks leave it and come again while streams are read ahead.
    let (model, bytes, image) = image(8 << 20);
    let read_ahead = Arc::new(ReadAhead::of(image.reader()).unwrap());
    let read = |seed: u64| {
        let handle = Handle::new(Arc::clone(&image), Arc::clone(&read_ahead));
        let mut ranges = Ranges::of(&model, Random::quiet(seed));
        let mut at = 0;
        for number in 0..25_000 {
            let (start, len) = ranges.next_range();
            // One read in four goes on where the last one ended, as a stream does.
            let start = if number % 4 == 0 { at } else { start };
            let read = handle.read(start, len).unwrap();
            reads::compare(&read, &bytes, start, len);
            at = start + disks::size(read.len());
        }
    };
    std::thread::scope(|scope| {
        let read = &read;
        for seed in [0x0de1_0004, 0x0de1_0005] {
            scope.spawn(move || read(seed));
        }
    });
    let counters = image.reader().cache().counters();
    assert!(counters.loads > 1000, "the cache was never too small: {counters:?}");
}

#[test]
fn data_and_holes_are_where_the_model_has_them() {
    let (model, _, image) = image(64 << 20);
    let data = model.data_chunks(CHUNK);
    assert!(data.len() > 8, "{data:?}");
    let mut ranges = Ranges::of(&model, Random::new(0x0de1_0006));
    for _ in 0..20_000 {
        let at = ranges.offset();
        let next_data = next_data(&data, at);
        assert_eq!(image.next_data(at).unwrap(), next_data, "data at or after {at}");
        if at < model.len() {
            let inside = data.iter().find(|range| range.contains(&at));
            let next_hole = inside.map_or(at, |range| range.end);
            assert_eq!(image.next_hole(at).unwrap(), next_hole, "hole at or after {at}");
        }
    }
}

fn next_data(data: &[Range<u64>], at: u64) -> Option<u64> {
    data.iter()
        .find(|range| range.end > at)
        .map(|range| range.start.max(at))
}
