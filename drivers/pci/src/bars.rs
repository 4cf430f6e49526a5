//! Base address registers (PCI 3.0, 6.2.5.1).

use crate::Config;
use iommu_core::Hpa;
use pci_types::{CommandRegister, ConfigRegionAccess};

/// BARs of an endpoint.
pub const BARS: usize = 6;

/// Offset of BAR 0.
const FIRST: u16 = 0x10;
const IO: u32 = 1;
const TYPE: u32 = 0b110;
const TYPE_32: u32 = 0b000;
const TYPE_64: u32 = 0b100;
const PREFETCHABLE: u32 = 1 << 3;
const IO_FLAGS: u32 = 0b11;
const MEMORY_FLAGS: u32 = 0b1111;

/// What a BAR decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; the next BAR holds the upper half of the address.
    Memory64,
}

/// A base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Its number, 0 to 5: the lower one, if it takes two.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// Where: a host physical address, or an I/O port. 0 if the firmware assigned none.
    pub base: Hpa,
    /// Bytes, a power of two.
    pub size: u64,
    /// Reading has no side effects.
    pub prefetchable: bool,
}

/// Reads and sizes the first `count` BARs of a function (6 of an endpoint, 2 of a bridge).
///
/// The function's decoding is off meanwhile, since sizing writes all ones as an address.
pub(crate) fn read<A: ConfigRegionAccess>(
    config: &Config<'_, A>,
    count: usize,
) -> [Option<Bar>; BARS] {
    let command = config.command();
    let decoding = CommandRegister::IO_ENABLE | CommandRegister::MEMORY_ENABLE;
    config.set_command(command.difference(decoding));
    let mut bars = [None; BARS];
    let mut skip = false;
    for (index, slot) in (0u8..).zip(bars.iter_mut().take(count)) {
        if skip {
            skip = false;
            continue;
        }
        let has_next = usize::from(index).saturating_add(1) < count;
        *slot = size(config, index, has_next);
        skip = slot.is_some_and(|bar| bar.kind == BarKind::Memory64);
    }
    config.set_command(command);
    bars
}

fn size<A: ConfigRegionAccess>(config: &Config<'_, A>, index: u8, has_next: bool) -> Option<Bar> {
    let offset = FIRST.saturating_add(u16::from(index).saturating_mul(4));
    let upper_offset = offset.saturating_add(4);
    let value = config.read32(offset);
    let probe = |offset: u16, value: u32| {
        config.write32(offset, u32::MAX);
        let mask = config.read32(offset);
        config.write32(offset, value);
        mask
    };

    if value & IO != 0 {
        // The upper 16 bits of an I/O mask may be hard-wired to 0.
        let mask = probe(offset, value) & !IO_FLAGS;
        let size = size_of_mask(u64::from(mask) | 0xffff_ffff_ffff_0000)?;
        return Some(Bar {
            index,
            kind: BarKind::Io,
            base: Hpa::new(u64::from(value & !IO_FLAGS)),
            size,
            prefetchable: false,
        });
    }
    let low_base = u64::from(value & !MEMORY_FLAGS);
    let prefetchable = value & PREFETCHABLE != 0;
    let (kind, base, size) = match value & TYPE {
        TYPE_32 => {
            let mask = u64::from(probe(offset, value) & !MEMORY_FLAGS);
            if mask == 0 {
                return None;
            }
            let size = size_of_mask(mask | 0xffff_ffff_0000_0000)?;
            (BarKind::Memory32, low_base, size)
        }
        TYPE_64 if has_next => {
            let upper = config.read32(upper_offset);
            let low_mask = u64::from(probe(offset, value) & !MEMORY_FLAGS);
            let mask = low_mask | (u64::from(probe(upper_offset, upper)) << 32);
            let base = low_base | (u64::from(upper) << 32);
            (BarKind::Memory64, base, size_of_mask(mask)?)
        }
        // Reserved types, and a 64-bit BAR that would need a seventh.
        _ => return None,
    };
    Some(Bar {
        index,
        kind,
        base: Hpa::new(base),
        size,
        prefetchable,
    })
}

/// The size that a mask of writable address bits means: `None` if no bit is writable or
/// the bits are not contiguous.
fn size_of_mask(mask: u64) -> Option<u64> {
    let size = 1u64.checked_shl(mask.trailing_zeros())?;
    (mask == size.wrapping_neg()).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Machine;

    #[test]
    fn sizes_of_all_kinds_are_found() {
        let machine = Machine::new();
        let device = machine
            .endpoint(0, 4, 0)
            .bar32(0, 0xfeb0_0000, 0x10_0000)
            .bar64(1, 0x14_0000_0000, 1 << 34)
            .bar_io(3, 0xc000, 0x20)
            .id();
        let bars = read(&Config::new(&machine, device), BARS);
        let found: std::vec::Vec<_> = bars
            .iter()
            .flatten()
            .map(|bar| (bar.index, bar.kind, bar.base.as_u64(), bar.size))
            .collect();
        assert_eq!(
            found,
            [
                (0, BarKind::Memory32, 0xfeb0_0000, 0x10_0000),
                (1, BarKind::Memory64, 0x14_0000_0000, 1 << 34),
                (3, BarKind::Io, 0xc000, 0x20),
            ]
        );
    }

    #[test]
    fn sizing_leaves_registers_and_decoding_as_they_were() {
        let machine = Machine::new();
        let device = machine
            .endpoint(0, 4, 0)
            .bar64(0, 0x12_0000_0000, 0x1000)
            .command(0b110)
            .id();
        let before = machine.bytes(device);
        read(&Config::new(&machine, device), BARS);
        assert_eq!(machine.bytes(device), before);
        assert!(!machine.was_sized_while_decoding());
    }

    #[test]
    fn reserved_types_and_impossible_masks_are_no_bars() {
        let machine = Machine::new();
        let device = machine
            .endpoint(0, 4, 0)
            .raw(0x10, 0b010) // type 01
            .raw(0x14, 0b110) // type 11
            .bar64_in_last_slot()
            .id();
        assert_eq!(read(&Config::new(&machine, device), BARS), [None; BARS]);
        assert_eq!(size_of_mask(0xffff_f0ff_0000_0000), None);
        assert_eq!(size_of_mask(0), None);
    }
}
