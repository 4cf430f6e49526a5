//! PVH's start information for the next kernel, in one page (Xen's `hvm_start_info`, version
//! 1; 64-bit little-endian words).

use boot::{MemoryKind, MemoryRegion};
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{AddressRange, Hpa};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

/// Where in the page things lie, in words.
const MODULES: usize = 8;
const MEMORY: usize = 16;
const MEMORY_WORDS: usize = 3;
const COMMAND_LINE: usize = 320;

/// Regions that fit.
const REGIONS: usize = (COMMAND_LINE - MEMORY) / MEMORY_WORDS;
/// Bytes of command line that fit, with the zero behind it.
const COMMAND_LINE_BYTES: usize = (512 - COMMAND_LINE) * 8;

/// What the next kernel is told.
pub(super) struct Information<'a> {
    /// What firmware and devices have: kept as it is.
    pub(super) kept: &'a [MemoryRegion],
    /// Memory that the next kernel may use.
    pub(super) usable: &'a [AddressRange<Hpa>],
    /// The boot module.
    pub(super) module: Option<AddressRange<Hpa>>,
    /// Where the RSDP lies.
    pub(super) rsdp: Hpa,
    /// Its command line.
    pub(super) command_line: &'a str,
}

/// It does not fit a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooMuch;

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// PVH's numbers for kinds of memory: those of E820.
const fn number(kind: MemoryKind) -> u64 {
    match kind {
        MemoryKind::Usable => 1,
        MemoryKind::Reserved => 2,
        MemoryKind::Acpi => 3,
        MemoryKind::AcpiNvs => 4,
    }
}

impl Information<'_> {
    /// Writes it into a zeroed page that lies at `at`.
    pub(super) fn write(&self, page: &[AtomicU64], at: Hpa) -> Result<(), TooMuch> {
        let address = |word: usize| at.as_u64().wrapping_add(word as u64 * 8);
        let put = |word: usize, value: u64| {
            if let Some(cell) = page.get(word) {
                cell.store(value, Ordering::Relaxed);
            }
        };
        let kept = self
            .kept
            .iter()
            .filter(|region| region.kind != MemoryKind::Usable)
            .map(|region| (region.range, number(region.kind)));
        let usable = self
            .usable
            .iter()
            .map(|range| (*range, number(MemoryKind::Usable)));
        let mut regions = 0usize;
        for (range, kind) in kept.chain(usable) {
            if regions >= REGIONS {
                return Err(TooMuch);
            }
            let word = MEMORY + regions * MEMORY_WORDS;
            put(word, range.first().as_u64());
            put(word + 1, range.bytes().unwrap_or(0));
            put(word + 2, kind);
            regions += 1;
        }
        if let Some(module) = self.module {
            put(MODULES, module.first().as_u64());
            put(MODULES + 1, module.bytes().unwrap_or(0));
        }
        let line = self.command_line.as_bytes();
        if line.len() >= COMMAND_LINE_BYTES {
            return Err(TooMuch);
        }
        for (word, bytes) in (COMMAND_LINE..).zip(line.chunks(8)) {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            put(word, u64::from_le_bytes(padded));
        }
        put(0, pair(MAGIC, VERSION));
        put(1, pair(0, u32::from(self.module.is_some())));
        put(2, address(MODULES));
        put(3, address(COMMAND_LINE));
        put(4, self.rsdp.as_u64());
        put(5, address(MEMORY));
        put(6, regions as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn page() -> Vec<AtomicU64> {
        (0..512).map(|_| AtomicU64::new(0)).collect()
    }

    fn range(first: u64, bytes: u64) -> AddressRange<Hpa> {
        AddressRange::of_bytes(Hpa::new(first), bytes).unwrap()
    }

    #[test]
    fn usable_memory_is_only_what_is_given_up() {
        let kept = [
            MemoryRegion {
                range: range(0x10_0000, 0x1000_0000),
                kind: MemoryKind::Usable,
            },
            MemoryRegion {
                range: range(0xf_0000, 0x1_0000),
                kind: MemoryKind::Reserved,
            },
        ];
        let page = page();
        let information = Information {
            kept: &kept,
            usable: &[range(0x40_0000, 0x40_0000)],
            module: Some(range(0x900_0000, 0x200)),
            rsdp: Hpa::new(0xf_5000),
            command_line: "stage=1",
        };
        information.write(&page, Hpa::new(0x7000)).unwrap();
        let word = |index: usize| page[index].load(Ordering::Relaxed);
        assert_eq!(word(0), 0x1_336e_c578);
        assert_eq!(word(1), 1 << 32);
        assert_eq!((word(2), word(MODULES)), (0x7040, 0x900_0000));
        assert_eq!(word(3), 0x7000 + 320 * 8);
        assert_eq!(word(320), u64::from_le_bytes(*b"stage=1\0"));
        assert_eq!((word(5), word(6)), (0x7080, 2));
        let regions: Vec<u64> = (MEMORY..MEMORY + 6).map(word).collect();
        assert_eq!(regions, [0xf_0000, 0x1_0000, 2, 0x40_0000, 0x40_0000, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let region = MemoryRegion {
            range: range(0xf_0000, 0x1000),
            kind: MemoryKind::Reserved,
        };
        let kept = [region; REGIONS + 1];
        let mut information = Information {
            kept: &kept,
            usable: &[],
            module: None,
            rsdp: Hpa::new(0),
            command_line: "",
        };
        assert_eq!(information.write(&page(), Hpa::new(0)), Err(TooMuch));
        information.kept = &kept[..REGIONS];
        assert_eq!(information.write(&page(), Hpa::new(0)), Ok(()));
        let long = "x".repeat(COMMAND_LINE_BYTES);
        information.command_line = &long;
        assert_eq!(information.write(&page(), Hpa::new(0)), Err(TooMuch));
    }
}
