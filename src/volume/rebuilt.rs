//! A missing member of a RAID 4 or 5: its bytes are what all others give together, whether they were data or parity.

use std::sync::Arc;

use super::mapped::Target;
use crate::bytes::scratch::Scratch;
use crate::bytes::to_u64;
use crate::image::{ReadAt, Result, check_range};

/// The exclusive or of ranges of other images.
pub struct Rebuilt {
    others: Vec<Target>,
    len: u64,
}

impl Rebuilt {
    /// The member that is missing beside `others`, which is as long as the shortest of them.
    #[must_use]
    pub fn new(others: Vec<Target>) -> Self {
        let lens = others
            .iter()
            .map(|target| target.image.len().saturating_sub(target.offset));
        let len = lens.min().unwrap_or(0);
        Self { others, len }
    }

    /// The same as a target.
    #[must_use]
    pub fn into_target(self) -> Target {
        Target {
            image: Arc::new(self),
            offset: 0,
        }
    }
}

impl ReadAt for Rebuilt {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        check_range(offset, buf.len(), self.len)?;
        buf.fill(0);
        let mut other = Scratch::take(buf.len());
        for target in &self.others {
            target.image.read_at(target.offset.saturating_add(offset), &mut other)?;
            for (byte, other) in buf.iter_mut().zip(other.iter()) {
                *byte ^= other;
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        let mut nearest = None;
        for target in &self.others {
            let from = target.offset.saturating_add(offset);
            let found = target.image.next_data(from)?;
            let found = found
                .map(|found| found.saturating_sub(target.offset))
                .filter(|found| *found < self.len);
            nearest = [nearest, found].into_iter().flatten().min();
        }
        Ok(nearest.filter(|_| offset < self.len))
    }

    fn next_hole(&self, _: u64) -> Result<u64> {
        // Where others have holes together cannot be told in few steps.
        Ok(self.len)
    }

    fn warm(&self, offset: u64, len: u64) {
        let len = len.min(self.len.saturating_sub(offset));
        for target in &self.others {
            target.image.warm(target.offset.saturating_add(offset), len);
        }
    }
}

/// Puts what can be rebuilt in the place of the one member that is missing.
///
/// # Errors
/// What `missing` says of a member's number, if there is more than one or `parities` is not 1.
pub fn complete(
    members: Vec<Option<Target>>,
    parities: u64,
    missing: impl Fn(usize) -> String,
) -> Result<Vec<Target>, String> {
    let gap = members.iter().position(Option::is_none);
    let mut there: Vec<Target> = Vec::new();
    let count = to_u64(members.len());
    there.extend(members.into_iter().flatten());
    let Some(gap) = gap else { return Ok(there) };
    if parities != 1 || to_u64(there.len()).saturating_add(1) != count {
        return Err(missing(gap));
    }
    let rebuilt = Rebuilt::new(there.clone()).into_target();
    there.insert(gap.min(there.len()), rebuilt);
    Ok(there)
}
