//! Bytes put together from ranges of other images: a slice, a concatenation, stripes with or without parity.

use std::sync::Arc;

use super::parity::Parity;
use crate::bytes::{to_u64, to_usize};
use crate::image::{ReadAt, Result, check_range};

/// Why a segment cannot be part of a [`Mapped`], in words.
pub type Refusal = &'static str;

/// Most segments of one image; a logical volume in more pieces than that was never made by a tool.
pub const SEGMENTS_MAX: usize = 1 << 20;

const OUTSIDE: Refusal = "a part of it lies outside of the device that should hold it";
const OVERFLOW: Refusal = "its size does not fit into 64 bits";

/// A range of another image.
#[derive(Clone)]
pub struct Target {
    /// The other image.
    pub image: Arc<dyn ReadAt>,
    /// First byte in there.
    pub offset: u64,
}

impl Target {
    /// Says whether `len` bytes from `offset` on lie inside the image.
    fn holds(&self, len: u64) -> bool {
        self.offset.checked_add(len).is_some_and(|end| end <= self.image.len())
    }
}

/// Where a run of a mapped image's bytes lies.
pub struct Piece<'a> {
    /// The image that has them; `None` for zeros that nobody keeps.
    pub image: Option<&'a Arc<dyn ReadAt>>,
    /// First byte in that image.
    pub offset: u64,
    /// Bytes; never 0.
    pub len: u64,
}

/// How the bytes of a segment are spread over its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// On one target, one after the other.
    Linear,
    /// Nowhere: they read as zero.
    Zeros,
    /// In chunks of this many bytes, on each target in turn.
    Striped(u64),
    /// In chunks of this many bytes, with parity between them.
    Parity(u64, Parity),
}

struct Segment {
    /// First byte in the mapped image.
    start: u64,
    /// Bytes; never 0.
    len: u64,
    layout: Layout,
    targets: Vec<Target>,
}

/// An image made of segments that lie on other images.
#[derive(Default)]
pub struct Mapped {
    /// In order and without gaps, from 0 to `len`.
    segments: Vec<Segment>,
    len: u64,
}

impl Mapped {
    /// The bytes `offset..offset + len` of `image`.
    ///
    /// # Errors
    /// A sentence if they do not lie inside.
    pub fn slice(image: &Arc<dyn ReadAt>, offset: u64, len: u64) -> Result<Self, Refusal> {
        let mut mapped = Self::default();
        let image = Arc::clone(image);
        mapped.push_linear(Target { image, offset }, len)?;
        Ok(mapped)
    }

    /// Appends `len` bytes of one target; a run that goes on where the last one ended makes it longer.
    ///
    /// # Errors
    /// A sentence if they do not lie inside.
    pub fn push_linear(&mut self, target: Target, len: u64) -> Result<(), Refusal> {
        if !target.holds(len) {
            return Err(OUTSIDE);
        }
        if let Some(last) = self.segments.last_mut()
            && last.layout == Layout::Linear
            && let [before] = &*last.targets
            && Arc::ptr_eq(&before.image, &target.image)
            && before.offset.checked_add(last.len) == Some(target.offset)
        {
            self.len = self.len.checked_add(len).ok_or(OVERFLOW)?;
            last.len = last.len.saturating_add(len);
            return Ok(());
        }
        self.push(Layout::Linear, vec![target], len)
    }

    /// Appends `len` bytes that read as zero.
    ///
    /// # Errors
    /// A sentence if the size overflows.
    pub fn push_zeros(&mut self, len: u64) -> Result<(), Refusal> {
        self.push(Layout::Zeros, Vec::new(), len)
    }

    /// Appends `len` bytes that lie in chunks of `chunk` bytes on each target in turn.
    ///
    /// # Errors
    /// A sentence if there are no targets, `chunk` is 0, or a target ends too early.
    pub fn push_striped(&mut self, targets: Vec<Target>, chunk: u64, len: u64) -> Result<(), Refusal> {
        if let [target] = &*targets {
            return self.push_linear(target.clone(), len);
        }
        check_rows(&targets, to_u64(targets.len()), chunk, len)?;
        self.push(Layout::Striped(chunk), targets, len)
    }

    /// Appends `len` bytes that lie in chunks of `chunk` bytes on devices that also keep parity.
    ///
    /// # Errors
    /// As [`push_striped`](Self::push_striped); also if the number of targets is not that of `parity`.
    pub fn push_parity(&mut self, targets: Vec<Target>, parity: Parity, chunk: u64, len: u64) -> Result<(), Refusal> {
        if to_u64(targets.len()) != parity.devices() {
            return Err("its number of devices does not fit its layout");
        }
        check_rows(&targets, parity.data_devices(), chunk, len)?;
        self.push(Layout::Parity(chunk, parity), targets, len)
    }

    fn push(&mut self, layout: Layout, targets: Vec<Target>, len: u64) -> Result<(), Refusal> {
        if len == 0 {
            return Ok(());
        }
        if self.segments.len() >= SEGMENTS_MAX {
            return Err("it has too many segments");
        }
        let start = self.len;
        self.len = start.checked_add(len).ok_or(OVERFLOW)?;
        self.segments.push(Segment {
            start,
            len,
            layout,
            targets,
        });
        Ok(())
    }

    /// Where the `len` bytes at `offset` lie, in order; ends early at the end of the image.
    pub fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = Piece<'_>> {
        let mut at = offset;
        let end = offset.saturating_add(len).min(self.len);
        std::iter::from_fn(move || {
            let rest = end.checked_sub(at).filter(|rest| *rest > 0)?;
            let segment = self.segment(at)?;
            let mut piece = segment.piece(at.saturating_sub(segment.start));
            piece.len = piece.len.min(rest);
            at = at.saturating_add(piece.len);
            Some(piece)
        })
    }

    fn segment(&self, at: u64) -> Option<&Segment> {
        self.segments_from(at).first()
    }

    /// The segments that lie at or after `at`.
    fn segments_from(&self, at: u64) -> &[Segment] {
        let index = self.segments.partition_point(|segment| segment.end() <= at);
        self.segments.get(index..).unwrap_or_default()
    }
}

impl ReadAt for Mapped {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        let mut rest = &mut *buf;
        for piece in self.pieces(offset, to_u64(rest.len())) {
            let len = to_usize(piece.len).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            match piece.image {
                Some(image) => image.read_at(piece.offset, now)?,
                None => now.fill(0),
            }
            rest = later;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        for segment in self.segments_from(offset) {
            if let Some(data) = segment.next(Sought::Data, offset.saturating_sub(segment.start))? {
                return Ok(Some(segment.start.saturating_add(data)));
            }
        }
        Ok(None)
    }

    fn next_hole(&self, offset: u64) -> Result<u64> {
        for segment in self.segments_from(offset) {
            if let Some(hole) = segment.next(Sought::Hole, offset.saturating_sub(segment.start))? {
                return Ok(segment.start.saturating_add(hole));
            }
        }
        Ok(self.len)
    }

    fn warm(&self, offset: u64, len: u64) {
        for piece in self.pieces(offset, len) {
            if let Some(image) = piece.image {
                image.warm(piece.offset, piece.len);
            }
        }
    }
}

/// What to look for on a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sought {
    Data,
    Hole,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// The run of bytes from `at`, counted from the segment's start, to the end of its chunk or of the segment.
    fn piece(&self, at: u64) -> Piece<'_> {
        let rest = self.len.saturating_sub(at);
        let (chunk, device, row) = match self.layout {
            Layout::Linear => {
                return self.on_target(0, at, rest);
            }
            Layout::Zeros => {
                return Piece {
                    image: None,
                    offset: 0,
                    len: rest,
                };
            }
            Layout::Striped(chunk) => {
                let count = to_u64(self.targets.len());
                let number = at / chunk;
                (chunk, number % count, number / count)
            }
            Layout::Parity(chunk, parity) => {
                let count = parity.data_devices();
                let number = at / chunk;
                let row = number / count;
                (chunk, parity.device_of(row, number % count), row)
            }
        };
        let within = at % chunk;
        let offset = row.saturating_mul(chunk).saturating_add(within);
        self.on_target(device, offset, rest.min(chunk.saturating_sub(within)))
    }

    fn on_target(&self, device: u64, at: u64, len: u64) -> Piece<'_> {
        let target = self.targets.get(to_usize(device));
        Piece {
            image: target.map(|target| &target.image),
            offset: target.map_or(0, |target| target.offset.saturating_add(at)),
            len,
        }
    }

    /// The first byte at or after `at` that is data, or a hole; both counted from the segment's start.
    ///
    /// With parity the answer may come early for data (at the start of its row), and no hole is ever told.
    fn next(&self, sought: Sought, at: u64) -> Result<Option<u64>> {
        let found = match self.layout {
            Layout::Zeros => (sought == Sought::Hole).then_some(at),
            Layout::Linear => self.seek(sought, 0, at)?,
            Layout::Striped(chunk) => self.next_striped(sought, at, chunk)?,
            Layout::Parity(..) if sought == Sought::Hole => None,
            Layout::Parity(chunk, parity) => self.next_row(at, chunk, parity.data_devices())?,
        };
        Ok(found.filter(|found| *found < self.len))
    }

    /// Asks each target once from where its part of the rest begins; the nearest answer is the segment's.
    fn next_striped(&self, sought: Sought, at: u64, chunk: u64) -> Result<Option<u64>> {
        let count = to_u64(self.targets.len());
        let (row, column) = (at / chunk / count, at / chunk % count);
        let mut nearest: Option<u64> = None;
        for device in 0..count {
            let from = match device.cmp(&column) {
                std::cmp::Ordering::Less => row.saturating_add(1).saturating_mul(chunk),
                std::cmp::Ordering::Equal => row.saturating_mul(chunk).saturating_add(at % chunk),
                std::cmp::Ordering::Greater => row.saturating_mul(chunk),
            };
            let Some(found) = self.seek(sought, device, from)? else {
                continue;
            };
            let number = (found / chunk).checked_mul(count).and_then(|n| n.checked_add(device));
            let found = number.and_then(|number| number.checked_mul(chunk)?.checked_add(found % chunk));
            nearest = [nearest, found].into_iter().flatten().min();
        }
        Ok(nearest)
    }

    /// The start of the first row that has data on any device, or `at` if it lies after that.
    fn next_row(&self, at: u64, chunk: u64, data_devices: u64) -> Result<Option<u64>> {
        let from = (at / chunk / data_devices).saturating_mul(chunk);
        let mut nearest = None;
        for device in 0..to_u64(self.targets.len()) {
            nearest = [nearest, self.seek(Sought::Data, device, from)?]
                .into_iter()
                .flatten()
                .min();
        }
        let row_start = |found: u64| (found / chunk).saturating_mul(data_devices).saturating_mul(chunk);
        Ok(nearest.map(|found| row_start(found).max(at)))
    }

    /// Asks one target; positions are counted from where its part begins.
    fn seek(&self, sought: Sought, device: u64, at: u64) -> Result<Option<u64>> {
        let Some(target) = self.targets.get(to_usize(device)) else {
            return Ok(None);
        };
        let from = target.offset.saturating_add(at);
        if from >= target.image.len() {
            return Ok(None);
        }
        let found = match sought {
            Sought::Data => target.image.next_data(from)?,
            Sought::Hole => Some(target.image.next_hole(from)?).filter(|hole| *hole < target.image.len()),
        };
        Ok(found.map(|found| found.max(from).saturating_sub(target.offset)))
    }
}

/// Checks that each target holds the rows that `len` bytes take.
fn check_rows(targets: &[Target], data_devices: u64, chunk: u64, len: u64) -> Result<(), Refusal> {
    if chunk == 0 || data_devices == 0 {
        return Err("it has stripes of no size");
    }
    let row_len = chunk.checked_mul(data_devices).ok_or(OVERFLOW)?;
    let needed = len.div_ceil(row_len).checked_mul(chunk).ok_or(OVERFLOW)?;
    if targets.iter().all(|target| target.holds(needed)) {
        Ok(())
    } else {
        Err(OUTSIDE)
    }
}
