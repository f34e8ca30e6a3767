//! Mapped images against a map of single sectors, and how much is read to find volumes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vaultfs::image::{ReadAt, Result, check_range};
use vaultfs::volume::mapped::{Mapped, Target};
use vaultfs::volume::parity::Parity;
use vaultfs::volume::{Disk, discover};

use crate::common::Random;
use crate::disks::*;
use crate::files::run;

const SECTOR: u64 = 512;

/// An image of sectors that are data or holes; counts what is read.
struct Sectors {
    number: u64,
    is_data: Vec<bool>,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Sectors {
    fn new(number: u64, random: &mut Random) -> Arc<Self> {
        let mut is_data = Vec::new();
        while is_data.len() < 256 {
            let run = 1 + random.below(20);
            let data = random.below(2) == 0;
            is_data.extend((0..run).map(|_| data));
        }
        is_data.truncate(256);
        let (reads, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self {
            number,
            is_data,
            reads,
            bytes,
        })
    }

    /// The byte at an offset: it tells the image and the place.
    fn byte(&self, offset: u64) -> u8 {
        let place = offset / SECTOR * 7 + offset % SECTOR + self.number * 131;
        let value = (place % 251) as u8 + 1;
        if self.is_data[(offset / SECTOR) as usize] {
            value
        } else {
            0
        }
    }

    fn first(&self, offset: u64, wanted: bool) -> Option<u64> {
        let found =
            (offset / SECTOR..self.is_data.len() as u64).find(|sector| self.is_data[*sector as usize] == wanted)?;
        Some(offset.max(found * SECTOR))
    }
}

impl ReadAt for Sectors {
    fn len(&self) -> u64 {
        self.is_data.len() as u64 * SECTOR
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len())?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        for (byte, at) in buf.iter_mut().zip(offset..) {
            *byte = self.byte(at);
        }
        Ok(())
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        Ok(self.first(offset, true))
    }
    fn next_hole(&self, offset: u64) -> Result<u64> {
        Ok(self.first(offset, false).unwrap_or(self.len()))
    }
}

/// Where each sector of a mapped image lies: image and sector there; `None` for zeros.
type Model = Vec<Option<(usize, u64)>>;

/// A random image, its model, and whether holes are told exactly.
fn random_mapped(images: &[Arc<Sectors>], random: &mut Random) -> (Mapped, Model, bool) {
    let (mut mapped, mut model, mut exact) = (Mapped::default(), Model::new(), true);
    let target = |image: usize, sector: u64| Target {
        image: Arc::clone(&images[image]) as Arc<dyn ReadAt>,
        offset: sector * SECTOR,
    };
    for _ in 0..1 + random.below(5) {
        match random.below(4) {
            0 => {
                let (image, from, count) = (random.below(4) as usize, random.below(200), 1 + random.below(50));
                mapped.push_linear(target(image, from), count * SECTOR).unwrap();
                model.extend((from..from + count).map(|sector| Some((image, sector))));
            }
            1 => {
                let count = 1 + random.below(30);
                mapped.push_zeros(count * SECTOR).unwrap();
                model.extend((0..count).map(|_| None));
            }
            2 => {
                let (chunk, rows) = (1 + random.below(8), 1 + random.below(6));
                let devices: Vec<(usize, u64)> = (0..1 + random.below(5))
                    .map(|_| (random.below(4) as usize, random.below(200)))
                    .collect();
                let targets = devices.iter().map(|(image, from)| target(*image, *from)).collect();
                mapped
                    .push_striped(targets, chunk * SECTOR, chunk * rows * devices.len() as u64 * SECTOR)
                    .unwrap();
                for row in 0..rows {
                    for (image, from) in &devices {
                        model.extend((0..chunk).map(|sector| Some((*image, from + row * chunk + sector))));
                    }
                }
            }
            _ => {
                exact = false;
                let (chunk, rows) = (1 + random.below(8), 1 + random.below(6));
                let devices: Vec<(usize, u64)> = (0..3 + random.below(3))
                    .map(|_| (random.below(4) as usize, random.below(200)))
                    .collect();
                let parity = Parity::new(5, 2, devices.len() as u64).unwrap();
                let targets = devices.iter().map(|(image, from)| target(*image, *from)).collect();
                let data_devices = devices.len() as u64 - 1;
                mapped
                    .push_parity(targets, parity, chunk * SECTOR, chunk * rows * data_devices * SECTOR)
                    .unwrap();
                for row in 0..rows {
                    for index in 0..data_devices {
                        // Left symmetric: parity moves down from the last device, data goes on after it.
                        let parity_on = data_devices - row % devices.len() as u64;
                        let (image, from) = devices[((parity_on + 1 + index) % devices.len() as u64) as usize];
                        model.extend((0..chunk).map(|sector| Some((image, from + row * chunk + sector))));
                    }
                }
            }
        }
    }
    (mapped, model, exact)
}

#[test]
fn mapped_images_read_and_seek_as_a_map_of_single_sectors_says() {
    let mut random = Random::new(20);
    for _ in 0..400 {
        let images: Vec<_> = (0..4).map(|number| Sectors::new(number, &mut random)).collect();
        let (mapped, model, exact) = random_mapped(&images, &mut random);
        let len = model.len() as u64 * SECTOR;
        assert_eq!(mapped.len(), len);
        let is_data =
            |sector: u64| model[sector as usize].is_some_and(|(image, sector)| images[image].is_data[sector as usize]);
        let byte = |at: u64| {
            let place = model[(at / SECTOR) as usize];
            place.map_or(0, |(image, sector)| images[image].byte(sector * SECTOR + at % SECTOR))
        };
        for _ in 0..40 {
            let at = random.below(len + 1);
            let mut buf = vec![0xee; random.below(len - at + 1).min(20_000) as usize];
            mapped.read_at(at, &mut buf).unwrap();
            let wrong = buf.iter().zip(at..).find(|(read, at)| **read != byte(*at));
            assert_eq!(wrong, None, "read {at}+{}", buf.len());

            let first = |wanted: bool| {
                let found = (at / SECTOR..model.len() as u64).find(|sector| is_data(*sector) == wanted);
                found.map(|sector| at.max(sector * SECTOR))
            };
            let (data, hole) = (mapped.next_data(at).unwrap(), mapped.next_hole(at).unwrap());
            if exact {
                assert_eq!((data, hole), (first(true), first(false).unwrap_or(len)), "at {at}");
            } else {
                assert!(
                    data.unwrap_or(len) >= at && data.unwrap_or(len) <= first(true).unwrap_or(len),
                    "at {at}"
                );
                assert!(hole >= at && (hole == len || !is_data(hole / SECTOR)), "at {at}");
            }
        }
        assert!(mapped.read_at(len, &mut [0]).is_err() && mapped.read_at(u64::MAX, &mut [0]).is_err());
        assert_eq!(
            (mapped.next_data(len).unwrap(), mapped.next_hole(len).unwrap()),
            (None, len)
        );
    }
}

#[test]
fn a_run_that_goes_on_is_one_read() {
    let image = Sectors::new(0, &mut Random::new(1));
    let mut mapped = Mapped::default();
    for part in 0..64 {
        let target = Target {
            image: Arc::clone(&image) as Arc<dyn ReadAt>,
            offset: part * 1024,
        };
        mapped.push_linear(target, 1024).unwrap();
    }
    mapped.read_at(100, &mut vec![0; 60_000]).unwrap();
    assert_eq!(image.reads.load(Ordering::Relaxed), 1);
}

#[test]
fn impossible_maps_are_refused() {
    let image: Arc<dyn ReadAt> = Sectors::new(0, &mut Random::new(1));
    let target = |offset| Target {
        image: Arc::clone(&image),
        offset,
    };
    let size = image.len();
    let mut mapped = Mapped::default();
    assert!(mapped.push_linear(target(1), size).is_err());
    assert!(mapped.push_linear(target(u64::MAX), 2).is_err());
    assert!(mapped.push_striped(vec![target(0), target(0)], 0, 512).is_err());
    assert!(
        mapped
            .push_striped(vec![target(0), target(0)], u64::MAX, u64::MAX)
            .is_err()
    );
    assert!(mapped.push_striped(Vec::new(), 512, 512).is_err());
    assert!(
        mapped
            .push_striped(vec![target(0), target(512)], 512, 2 * size)
            .is_err()
    );
    let parity = Parity::new(5, 2, 3).unwrap();
    assert!(mapped.push_parity(vec![target(0)], parity, 512, 512).is_err());
    mapped.push_zeros(u64::MAX).unwrap();
    assert!(mapped.push_zeros(1).is_err() && mapped.push_linear(target(0), 1).is_err());
    assert_eq!(mapped.len(), u64::MAX);
}

/// Counts what is read of an image.
struct Counted {
    image: Arc<dyn ReadAt>,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl ReadAt for Counted {
    fn len(&self) -> u64 {
        self.image.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.image.read_at(offset, buf)
    }
    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        self.image.next_data(offset)
    }
    fn next_hole(&self, offset: u64) -> Result<u64> {
        self.image.next_hole(offset)
    }
}

#[test]
fn finding_the_volumes_of_a_disk_reads_some_tens_of_kib_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = blank(dir.path(), "disk.img", 1 << 40);
    run(&["sgdisk", "-n", "1:0:+1G", "-n", "2:0:+100G", "-n", "3:0:0", text(&path)]);
    let counted = Arc::new(Counted {
        image: crate::files::volume(&path),
        reads: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    });
    let found = discover(&[Disk {
        name: "vda".to_owned(),
        image: Arc::clone(&counted) as Arc<dyn ReadAt>,
    }]);
    assert_eq!(names(&found), ["vda1", "vda2", "vda3"]);
    let (reads, bytes) = (
        counted.reads.load(Ordering::Relaxed),
        counted.bytes.load(Ordering::Relaxed),
    );
    eprintln!("{reads} reads, {bytes} bytes");
    assert!(reads < 45 && bytes < 450 << 10, "{reads} reads, {bytes} bytes");
}
