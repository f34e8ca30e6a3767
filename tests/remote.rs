//! Reading a vault that is far away: how many requests and bytes it takes, what the cache directory saves, and what happens when the
//! store goes away. Counts, not times.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
#[path = "remote/scene.rs"]
mod scene;

use common::Random;
use common::disks::{CHUNK, size};
use scene::{FILE, Far, image_of_noise};
use vaultfs::image::ReadAt;
use vaultfs::image::disk::DiskImage;
use vaultfs::image::handle::{Handle, ReadAhead};

#[test]
fn the_first_listing_inside_a_disk_takes_few_requests_and_a_file_not_many_more() {
    let test = "the_first_listing_inside_a_disk_takes_few_requests_and_a_file_not_many_more";
    let Some(far) = Far::with_files(test) else { return };
    let view = far.view("none");
    let names = view.list("servers/web/latest/volumes/vda1");
    assert!(names.contains(&"srv".to_owned()), "{names:?}");
    let listing = far.requests();
    let bytes = view.read(FILE);
    assert!(bytes == far.file, "the file differs");
    let copying = far.requests();
    eprintln!("listing {listing:#?}, then copying {copying:#?}");
    assert!(listing.len() <= 12, "{}", listing.len());
    assert!(listing.len() + copying.len() <= 20);
}

#[test]
fn random_reads_fetch_little_more_than_the_chunks_they_need() {
    let (far, model) = image_of_noise(256 << 20);
    let image = far.image("none");
    let read_ahead = ReadAhead::of(image.reader()).unwrap();
    let handle = Handle::new(image, read_ahead.into());
    let mut random = Random::new(0x4e40_0001);
    let (mut needed, len) = (std::collections::BTreeSet::new(), 64 << 10);
    far.take_bytes();
    for _ in 0..200 {
        let at = random.below(model.len() - size(len)) / 4096 * 4096;
        let slice = handle.read(at, len).unwrap();
        assert!(slice[..] == model.bytes(at..at + size(len))[..], "{at}");
        needed.extend(at / CHUNK..(at + size(len)).div_ceil(CHUNK));
    }
    drop(handle);
    let (fetched, needed) = (far.take_bytes(), size(needed.len()) * CHUNK);
    eprintln!("{fetched} bytes fetched, {needed} needed");
    assert!(fetched <= needed * 3 / 2, "{fetched} bytes fetched, {needed} needed");
}

#[test]
fn a_stream_is_fetched_in_large_ranges_many_at_once_and_each_byte_once() {
    let (far, model) = image_of_noise(64 << 20);
    let image: std::sync::Arc<DiskImage> = far.image("none");
    let read_ahead = ReadAhead::of(image.reader()).unwrap();
    let handle = Handle::new(image, read_ahead.into());
    far.take_bytes();
    let mut at = 0;
    while at < model.len() {
        let slice = handle.read(at, 128 << 10).unwrap();
        assert!(slice[..] == model.bytes(at..at + size(slice.len()))[..], "{at}");
        at += size(slice.len());
    }
    let (calls, bytes) = (far.requests(), far.take_bytes());
    eprintln!(
        "{} requests, {bytes} bytes, {} at once",
        calls.len(),
        far.most_at_once()
    );
    assert!(bytes <= model.len() + model.len() / 50, "{bytes}");
    assert!(size(calls.len()) <= model.len() / CHUNK / 4, "{}", calls.len());
    assert!(far.most_at_once() >= 4, "{}", far.most_at_once());
}
