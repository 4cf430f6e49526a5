//! Which pages devices have written: what a hypervisor asks while it moves a running guest
//! to another machine, or saves its memory.

use crate::{
    AddressRange, Backend, DeviceId, DomainHandle, Iova, MapError, Order, OutOfFrames, Owed,
};

/// A bit for each page of a range, in words of the caller, the first page in bit 0 of the
/// first word.
#[derive(Debug)]
pub struct DirtyBitmap<'w> {
    range: AddressRange<Iova>,
    granule: Order,
    words: &'w mut [u64],
}

impl<'w> DirtyBitmap<'w> {
    /// A bitmap of a page-aligned range with a bit for each `granule`, counted from the
    /// range's beginning. Bits that are set already stay so. `None` if the words are too
    /// few, or the range does not begin and end at pages.
    pub fn new(range: AddressRange<Iova>, granule: Order, words: &'w mut [u64]) -> Option<Self> {
        let enough = Self::words_for(&range, granule) <= words.len() as u64;
        (range.is_page_aligned() && enough).then_some(Self {
            range,
            granule,
            words,
        })
    }

    /// How many words a bitmap of this range has.
    pub fn words_for(range: &AddressRange<Iova>, granule: Order) -> u64 {
        range.pages().div_ceil(granule.pages()).div_ceil(64)
    }

    /// The addresses that it speaks of.
    pub fn range(&self) -> AddressRange<Iova> {
        self.range
    }

    /// Sets the bits of all that lies in the range.
    pub fn mark(&mut self, written: &AddressRange<Iova>) {
        let Some(within) = self.range.intersection(written) else {
            return;
        };
        let (first, last) = (self.bit(within.first()), self.bit(within.last()));
        for index in first >> 6..=last >> 6 {
            let from = if index == first >> 6 { first & 63 } else { 0 };
            let to = if index == last >> 6 { last & 63 } else { 63 };
            let bits = (u64::MAX << from) & (u64::MAX >> (63u64.wrapping_sub(to) & 63));
            if let Some(word) = self.words.get_mut(index as usize) {
                *word |= bits;
            }
        }
    }

    /// Whether the bit of an address is set; false outside of the range.
    pub fn is_marked(&self, at: Iova) -> bool {
        let bit = self.bit(at);
        let word = self.words.get((bit >> 6) as usize);
        self.range.contains(at) && word.is_some_and(|word| word >> (bit & 63) & 1 != 0)
    }

    /// How many bits are set.
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .fold(0, u64::saturating_add)
    }

    fn bit(&self, at: Iova) -> u64 {
        let first = self.range.first().as_u64();
        at.as_u64().wrapping_sub(first) >> self.granule.shift().min(63)
    }
}

/// What becomes of large pages while writes are tracked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LargePages {
    /// They stay, and one write marks all of such a page.
    Whole,
    /// They are split into pages of 4 KiB first, and none is made as long as writes are
    /// tracked. Costs table memory; they are not joined again.
    Split,
}

/// What is done with the flags that were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DirtyRead {
    /// They are cleared: the next reading tells what was written since.
    Clear,
    /// They stay as they are.
    Keep,
}

/// Why writes of devices cannot be told. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DirtyError {
    /// No domain of this handle exists (any more).
    NoDomain(DomainHandle),
    /// The domain is none of the second stage, or its tables are kept by somebody else.
    NotSecondStage(DomainHandle),
    /// The unit of this attached device does not keep dirty flags in second-stage tables,
    /// or not in the mode that it is in.
    Unsupported(DeviceId),
    /// Nobody has asked for the domain's writes to be tracked.
    NotTracking(DomainHandle),
    /// The range is none of the domain's.
    Range(MapError),
    /// No memory for the tables of split pages.
    OutOfFrames(OutOfFrames),
}

/// A back-end whose hardware marks the pages that devices write.
///
/// The order that loses nothing:
/// 1. [`track_dirty`](Self::track_dirty), settle what is owed. From here on every write
///    leaves a mark; what was written before leaves none.
/// 2. Copy everything, once.
/// 3. [`read_dirty`](Self::read_dirty) with [`DirtyRead::Clear`], settle what is owed, and
///    only then copy the pages of the bitmap. A device may write such a page without
///    leaving a new mark until the debt is settled, since hardware has it cached that the
///    page is marked; behind it, every write leaves one.
/// 4. Again from 3, until little enough is left; stop the device, and once more.
///
/// If settling fails, take all of the range for written: which of it is, hardware has not
/// confirmed. [`Backend::unmap`] forgets marks; [`unmap_dirty`](Self::unmap_dirty) does not.
pub trait DirtyTracking: Backend {
    /// Has hardware mark what is written through a second-stage domain, and through all
    /// that is nested on it. Marks of earlier times are cleared first. As long as it does,
    /// the domain can be attached only where the unit is able to.
    fn track_dirty(
        &self,
        domain: DomainHandle,
        large: LargePages,
    ) -> Result<Owed<'_, Self::Debt>, DirtyError>;

    /// Ends that. Marks that nobody has read are lost.
    fn stop_tracking(&self, domain: DomainHandle) -> Result<Owed<'_, Self::Debt>, DirtyError>;

    /// Marks in the bitmap what was written since the marks were cleared last, in one walk.
    ///
    /// A large page that reaches beyond the bitmap's range is told and keeps its mark.
    fn read_dirty(
        &self,
        domain: DomainHandle,
        read: DirtyRead,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Owed<'_, Self::Debt>, DirtyError>;

    /// Unmaps the bitmap's range, and marks in the bitmap what was written before it was
    /// taken away.
    fn unmap_dirty(
        &self,
        domain: DomainHandle,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Owed<'_, Self::Debt>, DirtyError>;
}

impl<B: DirtyTracking + ?Sized> DirtyTracking for &B {
    fn track_dirty(
        &self,
        domain: DomainHandle,
        large: LargePages,
    ) -> Result<Owed<'_, Self::Debt>, DirtyError> {
        (**self).track_dirty(domain, large)
    }

    fn stop_tracking(&self, domain: DomainHandle) -> Result<Owed<'_, Self::Debt>, DirtyError> {
        (**self).stop_tracking(domain)
    }

    fn read_dirty(
        &self,
        domain: DomainHandle,
        read: DirtyRead,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Owed<'_, Self::Debt>, DirtyError> {
        (**self).read_dirty(domain, read, bitmap)
    }

    fn unmap_dirty(
        &self,
        domain: DomainHandle,
        bitmap: &mut DirtyBitmap<'_>,
    ) -> Result<Owed<'_, Self::Debt>, DirtyError> {
        (**self).unmap_dirty(domain, bitmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(first: u64, count: u64) -> AddressRange<Iova> {
        AddressRange::of_pages(Iova::new(first), count).unwrap()
    }

    #[test]
    fn marks_are_kept_within_the_range() {
        let mut words = [0; 3];
        let mut bitmap = DirtyBitmap::new(pages(0x10_0000, 130), Order::PAGE, &mut words).unwrap();
        bitmap.mark(&pages(0xf_f000, 2));
        bitmap.mark(&pages(0x10_0000 + 60 * 0x1000, 70));
        assert!(bitmap.is_marked(Iova::new(0x10_0fff)));
        assert!(!bitmap.is_marked(Iova::new(0x10_1000)));
        assert!(!bitmap.is_marked(Iova::new(0xf_f000)));
        assert_eq!(bitmap.count(), 71);
        bitmap.mark(&pages(0x10_0000 + 130 * 0x1000, 500));
        assert_eq!(words, [1 | 0xf << 60, u64::MAX, 3]);
    }

    #[test]
    fn a_granule_is_marked_whole() {
        let mut words = [0; 1];
        let granule = Order::PAGE_2M;
        let mut bitmap = DirtyBitmap::new(pages(0x1000, 1024), granule, &mut words).unwrap();
        bitmap.mark(&pages(0x20_0000, 2));
        assert!(bitmap.is_marked(Iova::new(0x1000)));
        assert!(bitmap.is_marked(Iova::new(0x20_1000)));
        assert_eq!(words, [3]);
    }

    #[test]
    fn a_bitmap_has_room_for_its_range() {
        let mut words = [0; 1];
        assert!(DirtyBitmap::new(pages(0, 64), Order::PAGE, &mut words).is_some());
        assert!(DirtyBitmap::new(pages(0, 65), Order::PAGE, &mut words).is_none());
        let odd = AddressRange::inclusive(Iova::new(0), Iova::new(0x17ff)).unwrap();
        assert!(DirtyBitmap::new(odd, Order::PAGE, &mut words).is_none());
    }
}
