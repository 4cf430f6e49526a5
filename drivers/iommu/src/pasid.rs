//! PASIDs: the machine's, and each guest's own numbering of those that it has.

use alloc::vec::Vec;
use core::ops::RangeInclusive;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Pasid, PasidAllocator, Platform};

/// One bit for each PASID: the allocator for whoever has no other.
#[derive(Debug)]
pub struct PasidBitmap {
    /// A set bit is a PASID that somebody has.
    words: Mutex<Vec<u64>>,
}

impl PasidBitmap {
    /// For PASIDs of `bits` bits, at most 20. PASID 0 is taken: requests without a PASID
    /// use it. `None` without memory (2^`bits` / 8 bytes).
    pub fn new(bits: u8) -> Option<Self> {
        let count = 1usize.checked_shl(u32::from(bits.min(20)))?;
        let mut words = Vec::new();
        words.try_reserve_exact(count.div_ceil(64)).ok()?;
        words.resize(count.div_ceil(64), 0u64);
        let taken = if count < 64 {
            // Bits beyond the last PASID.
            u64::MAX.checked_shl(count as u32).unwrap_or(0) | 1
        } else {
            1
        };
        *words.first_mut()? = taken;
        Some(Self {
            words: Mutex::new(Rank::Pasids, words),
        })
    }
}

impl PasidAllocator for PasidBitmap {
    fn allocate(&self, platform: &dyn Platform, range: RangeInclusive<Pasid>) -> Option<Pasid> {
        let (first, last) = (range.start().as_u32(), range.end().as_u32());
        let mut words = self.words.lock(platform);
        let from = (first / 64) as usize;
        for (place, word) in words.iter_mut().enumerate().skip(from) {
            let base = u32::try_from(place).ok()?.checked_mul(64)?;
            if base > last {
                return None;
            }
            // Bits below the first and above the last count as taken.
            let below = low_ones(first.saturating_sub(base));
            let above = !low_ones(last.saturating_sub(base).saturating_add(1));
            let free = !(*word | below | above);
            if free != 0 {
                let bit = free.trailing_zeros();
                *word |= 1u64.checked_shl(bit)?;
                return Pasid::new(base.checked_add(bit)?);
            }
        }
        None
    }

    fn free(&self, platform: &dyn Platform, pasid: Pasid) {
        let number = pasid.as_u32();
        let mut words = self.words.lock(platform);
        if let (Some(word), Some(bit)) = (
            words.get_mut((number / 64) as usize),
            1u64.checked_shl(number % 64),
        ) && pasid != Pasid::ZERO
        {
            *word &= !bit;
        }
    }
}

fn low_ones(count: u32) -> u64 {
    1u64.checked_shl(count)
        .map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

/// The PASIDs of one guest: its own numbers, each with the host's behind it.
#[derive(Debug)]
pub(crate) struct GuestPasids {
    /// Sorted by the guest's number.
    pairs: Vec<(Pasid, HostPasid)>,
}

/// A PASID of the machine that a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostPasid {
    pub(crate) number: Pasid,
    /// A device may use it still that the guest does not share any more: nobody gets it
    /// again.
    pub(crate) retired: bool,
    /// A device that others share may have used it.
    pub(crate) shared: bool,
}

/// Why a guest cannot have a PASID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PasidError {
    Quota,
    NoneFree,
}

impl GuestPasids {
    /// Room for so many; `None` without memory.
    pub(crate) fn new(count: usize) -> Option<Self> {
        let mut pairs = Vec::new();
        pairs.try_reserve_exact(count).ok()?;
        Some(Self { pairs })
    }

    /// The lowest free number of the range, which gets `host()` behind it.
    pub(crate) fn allocate(
        &mut self,
        range: RangeInclusive<Pasid>,
        host: impl FnOnce() -> Option<Pasid>,
    ) -> Result<Pasid, PasidError> {
        if self.pairs.len() == self.pairs.capacity() {
            return Err(PasidError::Quota);
        }
        let number = self.lowest_free(&range).ok_or(PasidError::NoneFree)?;
        let place = self.pairs.partition_point(|(guest, _)| *guest < number);
        let host = host().ok_or(PasidError::NoneFree)?;
        // There is room, so this does not allocate.
        let host = HostPasid {
            number: host,
            retired: false,
            shared: false,
        };
        self.pairs.insert(place, (number, host));
        Ok(number)
    }

    fn lowest_free(&self, range: &RangeInclusive<Pasid>) -> Option<Pasid> {
        let mut number = range.start().as_u32();
        let from = self
            .pairs
            .partition_point(|(guest, _)| guest < range.start());
        for (guest, _) in self.pairs.iter().skip(from) {
            if guest.as_u32() != number {
                break;
            }
            number = number.checked_add(1)?;
        }
        Pasid::new(number).filter(|number| number <= range.end())
    }

    pub(crate) fn host(&self, guest: Pasid) -> Option<Pasid> {
        let place = self
            .pairs
            .binary_search_by_key(&guest, |(number, _)| *number)
            .ok()?;
        self.pairs.get(place).map(|(_, host)| host.number)
    }

    /// All that are behind a number.
    pub(crate) fn hosts_mut(&mut self) -> impl Iterator<Item = &mut HostPasid> {
        self.pairs.iter_mut().map(|(_, host)| host)
    }

    /// Takes a number away and returns what was behind it.
    pub(crate) fn free(&mut self, guest: Pasid) -> Option<HostPasid> {
        let place = self
            .pairs
            .binary_search_by_key(&guest, |(number, _)| *number)
            .ok()?;
        Some(self.pairs.remove(place).1)
    }

    /// Takes any number away and returns what was behind it.
    pub(crate) fn free_any(&mut self) -> Option<HostPasid> {
        self.pairs.pop().map(|(_, host)| host)
    }
}
