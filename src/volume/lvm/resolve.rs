//! From the segments of a volume group to images: each logical volume is put together once, those that it is made of first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::{Group, Kind, LogicalVolume, Place, Raid, Segment};
use super::raid;
use super::thin::{Pool, Thin};
use crate::image::ReadAt;
use crate::volume::mapped::{Mapped, Target};

/// Volumes inside of volumes; LVM2 itself makes less than ten.
const DEPTH_MAX: u32 = 24;

/// Most places, of volumes inside of volumes too, that one volume may lead to: a search for data may have to ask each of them.
pub(super) const PARTS_MAX: u64 = 16 << 10;

/// An image, or why there is none.
pub(super) type Resolved = Result<Arc<dyn ReadAt>, String>;

/// An image that others are made of, and how many it is made of itself.
pub(super) struct Part {
    /// The image.
    pub(super) image: Arc<dyn ReadAt>,
    /// At least 1.
    pub(super) parts: u64,
}

/// A group with the images of its physical volumes.
pub(super) struct Resolver<'a> {
    group: &'a Group,
    /// Images by UUID.
    physical: &'a BTreeMap<String, Part>,
    /// Images of logical volumes, and the number of their parts.
    done: BTreeMap<&'a str, (Resolved, u64)>,
    pools: BTreeMap<&'a str, Result<Arc<Pool>, String>>,
    depth: u32,
    /// Parts of the volume that is being put together, so far.
    parts: u64,
    /// What is odd, in sentences.
    pub(super) problems: Vec<String>,
}

impl<'a> Resolver<'a> {
    /// Begins with nothing put together.
    pub(super) fn new(group: &'a Group, physical: &'a BTreeMap<String, Part>) -> Self {
        Self {
            group,
            physical,
            done: BTreeMap::new(),
            pools: BTreeMap::new(),
            depth: 0,
            parts: 0,
            problems: Vec::new(),
        }
    }

    /// The image of a logical volume.
    pub(super) fn logical(&mut self, name: &str) -> Resolved {
        let Some((name, volume)) = self.group.logical.get_key_value(name) else {
            return Err(format!("there is no logical volume {name}"));
        };
        if let Some((done, parts)) = self.done.get(&**name) {
            self.parts = self.parts.saturating_add(*parts);
            return done.clone();
        }
        if self.depth >= DEPTH_MAX {
            return Err("it is made of volumes too deep".to_owned());
        }
        // Whoever comes back here while this one is being put together finds this.
        self.done.insert(name, (Err("it is made of itself".to_owned()), 0));
        self.depth = self.depth.saturating_add(1);
        let outer = std::mem::take(&mut self.parts);
        let mut resolved = self.map(volume);
        if self.parts > PARTS_MAX {
            resolved = Err("it is made of too many parts".to_owned());
        }
        self.depth = self.depth.saturating_sub(1);
        self.done.insert(name, (resolved.clone(), self.parts));
        self.parts = self.parts.saturating_add(outer);
        resolved
    }

    fn map(&mut self, volume: &'a LogicalVolume) -> Resolved {
        let segments = volume.segments.as_ref().map_err(Clone::clone)?;
        let mut mapped = Mapped::default();
        for segment in segments {
            self.push(segment, &mut mapped)?;
        }
        Ok(Arc::new(mapped))
    }

    fn push(&mut self, segment: &'a Segment, mapped: &mut Mapped) -> Result<(), String> {
        let len = self.bytes(segment.count)?;
        match &segment.kind {
            Kind::Striped(chunk, places) => {
                let count = crate::bytes::to_u64(places.len());
                let each = segment.count.checked_div(count).unwrap_or(0);
                if each.checked_mul(count) != Some(segment.count) {
                    return Err("its stripes do not divide its extents".to_owned());
                }
                let targets = self.places(places, each)?;
                mapped.push_striped(targets, *chunk, len)?;
            }
            Kind::Mirror(places) => {
                let target = self.first_leg(places, segment.count)?;
                mapped.push_linear(target, len)?;
            }
            Kind::Raid(array) => self.array(array, len, mapped)?,
            Kind::Zero => mapped.push_zeros(len)?,
            Kind::Same(name) => {
                let image = self.logical(name)?;
                mapped.push_linear(Target { image, offset: 0 }, len)?;
            }
            Kind::Thin {
                pool,
                device_id,
                external_origin,
            } => {
                let origin = external_origin.as_ref().map(|name| self.logical(name)).transpose()?;
                let thin = Thin::open(&self.pool(pool)?, *device_id, len, origin)?;
                let image: Arc<dyn ReadAt> = Arc::new(thin);
                mapped.push_linear(Target { image, offset: 0 }, len)?;
            }
            Kind::ThinPool { .. } => return Err("it is a thin pool; volumes in it are shown by themselves".to_owned()),
            Kind::Snapshot(_) => return Err("snapshots of LVM are not supported; their origins are".to_owned()),
            Kind::Unsupported(word) => return Err(format!("logical volumes of type {word:?} are not supported")),
        }
        Ok(())
    }

    /// A thin pool by the name of its volume.
    fn pool(&mut self, name: &'a str) -> Result<Arc<Pool>, String> {
        if let Some(done) = self.pools.get(name) {
            return done.clone();
        }
        let volume = self.group.logical.get(name);
        let first = volume.and_then(|volume| volume.segments.as_ref().ok()?.first());
        let pool = match first.map(|segment| &segment.kind) {
            Some(Kind::ThinPool { metadata, data }) => {
                let images = self
                    .logical(metadata)
                    .and_then(|metadata| Ok((metadata, self.logical(data)?)));
                images
                    .and_then(|(metadata, data)| Pool::open(metadata, data))
                    .map(Arc::new)
            }
            _ => Err(format!("there is no thin pool {name}")),
        };
        self.pools.insert(name, pool.clone());
        pool
    }

    fn bytes(&self, extents: u64) -> Result<u64, String> {
        let bytes = extents.checked_mul(self.group.extent);
        bytes.ok_or_else(|| "its size does not fit into 64 bits".to_owned())
    }

    fn places(&mut self, places: &[Place], count: u64) -> Result<Vec<Target>, String> {
        places.iter().map(|place| self.place(place, count)).collect()
    }

    /// Where `count` extents at a place begin.
    fn place(&mut self, (name, extent): &Place, count: u64) -> Result<Target, String> {
        let offset = self.bytes(*extent)?;
        let Some(volume) = self.group.physical.get(name) else {
            let image = self.logical(name).map_err(|why| about(name, &why))?;
            return Ok(Target { image, offset });
        };
        let part = self.physical.get(&volume.uuid);
        let part = part.ok_or_else(|| format!("the physical volume {} is missing", volume.uuid))?;
        let end = extent.checked_add(count);
        if end.is_none_or(|end| end > volume.pe_count) {
            return Err(format!("it lies past the end of the physical volume {}", volume.uuid));
        }
        self.parts = self.parts.saturating_add(part.parts);
        let offset = offset.checked_add(volume.pe_start);
        Ok(Target {
            image: Arc::clone(&part.image),
            offset: offset.ok_or("its place does not fit into 64 bits")?,
        })
    }

    /// The first leg of a mirror that is there: LVM2 reads from it while the others catch up.
    fn first_leg(&mut self, places: &[Place], count: u64) -> Result<Target, String> {
        let mut refused = None;
        for place in places {
            match self.place(place, count) {
                Ok(target) => {
                    if refused.is_some() {
                        let leg = &place.0;
                        self.problems.push(format!(
                            "the first leg of a mirror is missing; {leg} is read and may be older"
                        ));
                    }
                    return Ok(target);
                }
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Err(refused.unwrap_or_else(|| "a mirror has no legs".to_owned()))
    }

    fn array(&mut self, array: &'a Raid, len: u64, mapped: &mut Mapped) -> Result<(), String> {
        let images: Vec<raid::Image> = array
            .images
            .iter()
            .map(|(state, image)| raid::Image {
                state: state
                    .as_ref()
                    .and_then(|state| raid::State::load(&*self.logical(state).ok()?)),
                data: self.logical(image).map_err(|why| about(image, &why)),
            })
            .collect();
        if images.iter().any(|image| image.data.is_err()) {
            // What is rebuilt asks all others once more.
            self.parts = self.parts.saturating_mul(2);
        }
        let stale = raid::push(&array.level, array.chunk, images, len, mapped)?;
        for index in stale {
            if let Some((_, image)) = array.images.get(index) {
                self.problems
                    .push(format!("{image} is out of date or was being rebuilt, and is not read"));
            }
        }
        Ok(())
    }
}

fn about(name: &str, why: &str) -> String {
    // A chain of reasons is told once, from its end.
    if why.contains("missing") || why.contains("itself") {
        why.to_owned()
    } else {
        format!("{name}: {why}")
    }
}
