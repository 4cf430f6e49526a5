//! A guest's memory: single frames of the host in a random order, with canaries between.
//!
//! Guest-physical memory is contiguous. No two neighbouring pages of it are
//! neighbours in the host but by chance, so an address that skipped a translation leads
//! elsewhere. Every few frames one is kept by the hypervisor and filled with a pattern: a
//! stray access next to the guest's memory shows.
//!
//! The memory is reached through atomic cells only: the guest and its devices use it
//! meanwhile.

use super::copy;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{
    Access, Address, Backing, Frame, Gpa, GuestMemory, GuestMemoryError, Hpa, Order, OutOfFrames,
    PAGE_SHIFT, PAGE_SIZE, Platform,
};

/// Of so many frames one is a canary.
const CANARY_EVERY: usize = 8;

/// A page of the hypervisor's among the guest's, filled with a pattern.
#[derive(Debug)]
pub struct Canary(Frame);

impl Canary {
    fn new(frame: Frame) -> Self {
        for (cell, value) in frame.cells().iter().zip(Self::pattern(frame.hpa())) {
            cell.store(value, Ordering::Relaxed);
        }
        Self(frame)
    }

    fn pattern(page: Hpa) -> impl Iterator<Item = u64> {
        let mut random = fastrand::Rng::with_seed(page.as_u64());
        core::iter::repeat_with(move || random.u64(..))
    }

    /// Where it lies.
    pub fn hpa(&self) -> Hpa {
        self.0.hpa()
    }

    /// What no device may do.
    #[cfg(test)]
    pub(in crate::vm) fn touch(&self) {
        if let Some(cell) = self.0.cells().last() {
            cell.fetch_xor(1 << 63, Ordering::Relaxed);
        }
    }

    /// Whether nobody has touched it.
    pub fn is_whole(&self) -> bool {
        let cells = self.0.cells().iter();
        cells
            .zip(Self::pattern(self.0.hpa()))
            .all(|(cell, value)| cell.load(Ordering::Relaxed) == value)
    }
}

/// A guest's memory.
#[derive(Debug)]
pub struct GuestRam {
    base: Gpa,
    frames: Vec<Frame>,
    canaries: Vec<Canary>,
    /// One bit for each page that software wrote to on the guest's behalf: the hypervisor
    /// for a call, and the guest itself where it runs in the kernel.
    written: Vec<AtomicU64>,
}

impl GuestRam {
    /// `pages` pages of zeroes from the page-aligned `base` on, in an order that follows from
    /// `random`.
    pub fn new(
        platform: &(impl Platform + ?Sized),
        base: Gpa,
        pages: usize,
        random: &mut fastrand::Rng,
    ) -> Result<Self, OutOfFrames> {
        let mut ram = Self {
            base: base.align_down(PAGE_SHIFT),
            frames: Vec::new(),
            canaries: Vec::new(),
            written: Vec::new(),
        };
        let result = ram.fill(platform, pages);
        random.shuffle(&mut ram.frames);
        match result {
            Ok(()) => Ok(ram),
            Err(error) => {
                ram.release(platform);
                Err(error)
            }
        }
    }

    fn fill(
        &mut self,
        platform: &(impl Platform + ?Sized),
        pages: usize,
    ) -> Result<(), OutOfFrames> {
        let no_room = |_| OutOfFrames { order: Order::PAGE };
        let canaries = pages.div_ceil(CANARY_EVERY);
        self.frames.try_reserve_exact(pages).map_err(no_room)?;
        self.canaries.try_reserve_exact(canaries).map_err(no_room)?;
        let words = pages.div_ceil(64);
        self.written.try_reserve_exact(words).map_err(no_room)?;
        self.written.resize_with(words, || AtomicU64::new(0));
        for number in 0..pages {
            if number.is_multiple_of(CANARY_EVERY) {
                let frame = platform.allocate(Order::PAGE)?;
                self.canaries.push(Canary::new(frame));
            }
            self.frames.push(platform.allocate(Order::PAGE)?);
        }
        Ok(())
    }

    /// Gives the memory back. Nothing can reach it any more: no CPU, no device.
    pub fn release(self, platform: &(impl Platform + ?Sized)) {
        let canaries = self.canaries.into_iter().map(|canary| canary.0);
        for frame in self.frames.into_iter().chain(canaries) {
            platform.release(frame);
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        (self.frames.len() as u64) << PAGE_SHIFT
    }

    /// Where it begins.
    pub fn base(&self) -> Gpa {
        self.base
    }

    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.base.as_u64().saturating_add(self.bytes())
    }

    /// All pages with their places in the host, in guest-physical order.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = (Gpa, &Frame)> {
        let numbered = self.frames.iter().enumerate();
        numbered.map(|(number, frame)| {
            let offset = (number as u64) << PAGE_SHIFT;
            (Gpa::new(self.base.as_u64() + offset), frame)
        })
    }

    /// The hypervisor's pages between the guest's.
    pub fn canaries(&self) -> &[Canary] {
        &self.canaries
    }

    /// Whether software wrote to a page on the guest's behalf since the last call.
    pub fn take_written(&self, page: usize) -> bool {
        let bit = 1 << (page % 64);
        self.written
            .get(page / 64)
            .is_some_and(|word| word.fetch_and(!bit, Ordering::Relaxed) & bit != 0)
    }

    fn frame(&self, gpa: Gpa) -> Result<&Frame, GuestMemoryError> {
        self.number(gpa)
            .and_then(|number| self.frames.get(number))
            .ok_or(GuestMemoryError::Unmapped(gpa))
    }

    /// Which page an address above the base lies in.
    fn number(&self, gpa: Gpa) -> Option<usize> {
        let offset = gpa.checked_sub(self.base)?;
        usize::try_from(offset >> PAGE_SHIFT).ok()
    }

    fn cell(&self, gpa: Gpa) -> Result<&AtomicU64, GuestMemoryError> {
        if !gpa.is_aligned(3) {
            return Err(GuestMemoryError::Misaligned(gpa));
        }
        let index = gpa.offset_in(PAGE_SHIFT) as usize / 8;
        let cells = self.frame(gpa)?.cells();
        cells.get(index).ok_or(GuestMemoryError::Unmapped(gpa))
    }

    /// Writes an aligned 64-bit value in one access, after everything written before.
    pub fn write_once(&self, gpa: Gpa, value: u64) -> Result<(), GuestMemoryError> {
        self.cell(gpa)?.store(value, Ordering::Release);
        self.note_written(gpa);
        Ok(())
    }

    fn note_written(&self, gpa: Gpa) {
        if let Some(number) = self.number(gpa)
            && let Some(word) = self.written.get(number / 64)
        {
            word.fetch_or(1 << (number % 64), Ordering::Relaxed);
        }
    }

    /// The pieces of `bytes` bytes from `gpa` on, none of which crosses a page: offset into
    /// the whole, frame, offset in the frame, length.
    fn pieces(&self, gpa: Gpa, bytes: usize) -> Result<Pieces<'_>, GuestMemoryError> {
        let unmapped = GuestMemoryError::Unmapped(gpa);
        let end = gpa.as_u64().checked_add(bytes as u64).ok_or(unmapped)?;
        if gpa < self.base || end > self.end() {
            return Err(unmapped);
        }
        Ok(Pieces {
            ram: self,
            first: gpa,
            at: gpa.as_u64(),
            end,
        })
    }
}

struct Pieces<'a> {
    ram: &'a GuestRam,
    first: Gpa,
    at: u64,
    end: u64,
}

struct Piece<'a> {
    cells: &'a [AtomicU64],
    offset: usize,
    bytes: core::ops::Range<usize>,
    page: Gpa,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.at >= self.end {
            return None;
        }
        let gpa = Gpa::new(self.at);
        let page = gpa.align_down(PAGE_SHIFT);
        let frame = self.ram.frame(gpa).ok()?;
        let beyond = self.end.min(page.as_u64().saturating_add(PAGE_SIZE));
        let from = (self.at - self.first.as_u64()) as usize;
        let to = (beyond - self.first.as_u64()) as usize;
        self.at = beyond;
        Some(Piece {
            cells: frame.cells(),
            offset: gpa.offset_in(PAGE_SHIFT) as usize,
            bytes: from..to,
            page,
        })
    }
}

impl GuestMemory for GuestRam {
    fn resolve(&self, gpa: Gpa, _access: Access) -> Result<Backing, GuestMemoryError> {
        let offset = gpa.offset_in(PAGE_SHIFT);
        let hpa = self.frame(gpa)?.hpa();
        Ok(Backing {
            hpa: Hpa::new(hpa.as_u64() | offset),
            bytes: PAGE_SIZE - offset,
            access: Access::READ_WRITE,
        })
    }

    fn hole(&self, gpa: Gpa) -> u64 {
        match self.frame(gpa) {
            Ok(_) => 0,
            Err(_) if gpa < self.base => self.base.as_u64() - gpa.as_u64(),
            // Nothing comes after the memory.
            Err(_) => u64::MAX - gpa.as_u64(),
        }
    }

    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError> {
        Ok(self.cell(gpa)?.load(Ordering::Acquire))
    }

    fn cells(&self, gpa: Gpa) -> Option<&[AtomicU64]> {
        let frame = self.frame(gpa).ok()?;
        gpa.is_aligned(PAGE_SHIFT).then(|| frame.cells())
    }

    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError> {
        for piece in self.pieces(gpa, buffer.len())? {
            if let Some(bytes) = buffer.get_mut(piece.bytes) {
                copy::from_cells(piece.cells, piece.offset, bytes);
            }
        }
        Ok(())
    }

    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        for piece in self.pieces(gpa, bytes.len())? {
            if let Some(bytes) = bytes.get(piece.bytes) {
                copy::into_cells(piece.cells, piece.offset, bytes);
                self.note_written(piece.page);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use test_platform::TestPlatform;

    fn ram(pages: usize, seed: u64) -> (GuestRam, TestPlatform) {
        let platform = TestPlatform::new(128);
        let mut random = fastrand::Rng::with_seed(seed);
        (
            GuestRam::new(&platform, Gpa::new(0), pages, &mut random).unwrap(),
            platform,
        )
    }

    fn order(ram: &GuestRam) -> std::vec::Vec<u64> {
        ram.pages().map(|(_, frame)| frame.hpa().as_u64()).collect()
    }

    #[test]
    fn pages_lie_in_another_order_for_each_seed() {
        let (one, platform) = ram(64, 1);
        let (other, _) = ram(64, 2);
        assert_ne!(order(&one), order(&other));
        let sorted: BTreeSet<_> = order(&one).into_iter().collect();
        assert_eq!(sorted.len(), 64);
        one.release(&platform);
    }

    #[test]
    fn bytes_written_across_pages_are_read_back() {
        let (ram, _platform) = ram(4, 3);
        let text: std::vec::Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
        let mut back = std::vec![0; text.len()];
        ram.copy_out(Gpa::new(0x123), &text).unwrap();
        ram.copy_in(Gpa::new(0x123), &mut back).unwrap();
        assert_eq!(back, text);
    }

    #[test]
    fn a_range_that_leaves_memory_is_refused_before_a_byte_is_written() {
        let (ram, _platform) = ram(2, 3);
        assert_eq!(
            ram.copy_out(Gpa::new(0x1fff), &[1, 2]),
            Err(GuestMemoryError::Unmapped(Gpa::new(0x1fff)))
        );
        let mut byte = [9];
        ram.copy_in(Gpa::new(0x1fff), &mut byte).unwrap();
        assert_eq!(byte, [0]);
        assert!(ram.copy_out(Gpa::new(0x1fff), &[1]).is_ok());
        assert!(ram.copy_in(Gpa::new(u64::MAX), &mut [0, 0]).is_err());
    }

    #[test]
    fn memory_that_begins_higher_has_a_hole_below() {
        let platform = TestPlatform::new(128);
        let base = Gpa::new(0x4000_0000);
        let mut random = fastrand::Rng::with_seed(1);
        let ram = GuestRam::new(&platform, base, 2, &mut random).unwrap();
        assert_eq!(ram.hole(Gpa::new(0x3fff_f000)), 0x1000);
        assert_eq!(ram.hole(base), 0);
        assert!(ram.copy_out(Gpa::new(0x3fff_ffff), &[1, 2]).is_err());
        assert!(ram.copy_out(Gpa::new(0x4000_1ffe), &[1, 2]).is_ok());
        assert!(ram.copy_out(Gpa::new(0x4000_1fff), &[1, 2]).is_err());
        assert!(ram.take_written(1) && !ram.take_written(0));
    }

    #[test]
    fn a_single_value_is_aligned_and_within() {
        let (ram, _platform) = ram(1, 3);
        ram.write_once(Gpa::new(0xff8), 7).unwrap();
        assert_eq!(ram.read_once(Gpa::new(0xff8)), Ok(7));
        let misaligned = Gpa::new(0xffc);
        assert_eq!(
            ram.read_once(misaligned),
            Err(GuestMemoryError::Misaligned(misaligned))
        );
        assert!(ram.read_once(Gpa::new(0x1000)).is_err());
    }

    #[test]
    fn what_software_wrote_is_known_once() {
        let (ram, _platform) = ram(3, 3);
        ram.copy_out(Gpa::new(0x1ffe), &[1, 2, 3]).unwrap();
        let written = |page| ram.take_written(page);
        assert_eq!([written(0), written(1), written(2)], [false, true, true]);
        assert_eq!([written(0), written(1), written(2)], [false; 3]);
    }

    #[test]
    fn a_touched_canary_is_not_whole() {
        let (ram, _platform) = ram(16, 3);
        let canary = ram.canaries().first().unwrap();
        assert!(canary.is_whole());
        canary.touch();
        assert!(!canary.is_whole());
    }

    #[test]
    fn memory_that_cannot_be_had_leaves_nothing_behind() {
        let platform = TestPlatform::new(128);
        platform.fail_allocation(10);
        let mut random = fastrand::Rng::with_seed(1);
        assert!(GuestRam::new(&platform, Gpa::new(0), 16, &mut random).is_err());
        assert_eq!(platform.outstanding(), 0);
    }
}
