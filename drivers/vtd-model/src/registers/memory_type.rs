//! Memory type range registers (§11.4.12): kept, checked for reserved values, and asked for
//! the type of an address (§3.11.2).

use super::dispatch::Write;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::remapping::MemoryType;
use crate::tables::bit;
use crate::violation::Rule;

/// Variable ranges (VCNT).
const VARIABLE: usize = 10;

/// The registers' content.
#[derive(Debug, Default)]
pub(crate) struct MemoryTypes {
    default: u64,
    fixed: [u64; 11],
    variable: [[u64; 2]; VARIABLE],
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Capability,
    Default,
    Fixed(usize),
    /// PHYSBASE and PHYSMASK of a range.
    Variable(usize, usize),
}

/// The register at this offset, if there is one.
pub(crate) fn place(offset: usize) -> Option<Place> {
    match offset & !7 {
        0x100 => Some(Place::Capability),
        0x108 => Some(Place::Default),
        at @ 0x120..=0x170 => Some(Place::Fixed((at - 0x120) / 8)),
        at @ 0x180..=0x218 => Some(Place::Variable((at - 0x180) / 16, at / 8 % 2)),
        _ => None,
    }
}

fn is_type(value: u64) -> bool {
    MemoryType::decode(value).is_some()
}

/// Which fixed register says the type of an address, and in which bits from where on
/// (§11.4.12.3).
fn fixed(address: u64) -> Option<(usize, u32)> {
    let (register, byte) = match address {
        0..0x8_0000 => (0, address >> 16),
        0x8_0000..0xc_0000 => {
            let part = (address - 0x8_0000) >> 14;
            (1 + part / 8, part % 8)
        }
        0xc_0000..0x10_0000 => {
            let part = (address - 0xc_0000) >> 12;
            (3 + part / 8, part % 8)
        }
        _ => return None,
    };
    Some((register as usize, 8 * byte as u32))
}

impl MemoryTypes {
    /// The memory type of an address; `None` where ranges overlap in a way that the
    /// specification leaves undefined, or hold no type (§3.11.2).
    pub(crate) fn of(&self, address: u64) -> Option<MemoryType> {
        if !bit(self.default, 11) {
            return Some(MemoryType::Uncacheable);
        }
        if let Some((register, shift)) = fixed(address).filter(|_| bit(self.default, 10)) {
            return MemoryType::decode(self.fixed[register] >> shift & 0xff);
        }
        let mut types = Vec::new();
        for [base, mask] in self.variable {
            let mask_bits = mask & !0xfff;
            if bit(mask, 11) && address & mask_bits == base & mask_bits {
                types.push(MemoryType::decode(base & 0xff)?);
            }
        }
        types.sort_unstable();
        types.dedup();
        match types[..] {
            [] => MemoryType::decode(self.default & 0xff),
            [one] => Some(one),
            [MemoryType::Uncacheable, ..] => Some(MemoryType::Uncacheable),
            [MemoryType::WriteThrough, MemoryType::WriteBack] => Some(MemoryType::WriteThrough),
            _ => None,
        }
    }
}

impl Unit {
    pub(crate) fn read_memory_type(&self, place: Place) -> u64 {
        let held = &self.registers.memory_types;
        match place {
            // Write combining, fixed ranges, and the number of variable ones.
            Place::Capability => 0x500 | VARIABLE as u64,
            Place::Default => held.default,
            Place::Fixed(at) => held.fixed[at],
            Place::Variable(range, which) => held.variable[range][which],
        }
    }

    pub(crate) fn write_memory_type(&mut self, world: &mut World, place: Place, write: Write) {
        let above = self.config.above_host();
        let held = &mut self.registers.memory_types;
        let (register, reserved, types): (&mut u64, u64, &[u32]) = match place {
            Place::Capability => {
                let message = "write of MTRRCAP, which is read-only";
                world.violate(Rule::Reserved, "§11.4.12.1", message);
                return;
            }
            Place::Default => (&mut held.default, !0xcff, &[0]),
            Place::Fixed(at) => (&mut held.fixed[at], 0, &[0, 8, 16, 24, 32, 40, 48, 56]),
            Place::Variable(range, 0) => (&mut held.variable[range][0], above | 0xf00, &[0]),
            Place::Variable(range, which) => (&mut held.variable[range][which], above | 0x7ff, &[]),
        };
        let value = write.over(*register);
        *register = value & !reserved;
        let whole = write.mask == u64::MAX;
        let wrong = |shift: &&u32| !is_type(value >> **shift & 0xff);
        if let Some(shift) = types.iter().find(wrong).filter(|_| whole) {
            let message = format!("{place:?}: no memory type in bits {shift} up of {value:#x}");
            world.violate(Rule::Value, "§11.4.12", message);
        }
        self.reserved(
            world,
            &format!("MTRR {place:?}"),
            "§11.4.12",
            value,
            reserved,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryType::{Uncacheable, WriteBack, WriteCombining, WriteProtected, WriteThrough};

    /// On, with fixed ranges, default WB.
    const DEFAULT: u64 = 0xc06;

    fn types(default: u64, variable: &[[u64; 2]]) -> MemoryTypes {
        let mut held = MemoryTypes {
            default,
            fixed: [0x0606_0606_0606_0606; 11],
            ..MemoryTypes::default()
        };
        held.variable[..variable.len()].copy_from_slice(variable);
        held
    }

    /// A range of 1 MiB at 4 GiB.
    fn range(kind: u64) -> [u64; 2] {
        [0x1_0000_0000 | kind, 0x3fff_fff0_0800]
    }

    #[test]
    fn without_ranges_everything_is_uncacheable_and_with_them_the_default_counts() {
        let anywhere = 0x2_0000_0000;
        assert_eq!(types(0x006, &[]).of(anywhere), Some(Uncacheable));
        assert_eq!(types(DEFAULT, &[]).of(anywhere), Some(WriteBack));
        assert_eq!(types(0xc02, &[]).of(anywhere), None);
    }

    #[test]
    fn fixed_ranges_have_the_places_of_their_registers() {
        let places = [
            (0x0_0000, 0, 0),
            (0x0_ffff, 0, 0),
            (0x7_0000, 0, 56),
            (0x8_0000, 1, 0),
            (0x9_c000, 1, 56),
            (0xa_0000, 2, 0),
            (0xb_ffff, 2, 56),
            (0xc_0000, 3, 0),
            (0xc_7000, 3, 56),
            (0xc_8000, 4, 0),
            (0xf_ffff, 10, 56),
        ];
        for (address, register, shift) in places {
            let mut held = types(DEFAULT, &[]);
            assert_eq!(held.of(address), Some(WriteBack));
            held.fixed[register] ^= 0x7 << shift;
            assert_eq!(held.of(address), Some(WriteCombining), "{address:#x}");
            // FE is clear: the first megabyte is like the rest.
            held.default &= !(1 << 10);
            assert_eq!(held.of(address), Some(WriteBack), "{address:#x}");
        }
        assert_eq!(fixed(0x10_0000), None);
    }

    #[test]
    fn ranges_that_overlap_come_to_what_section_3_11_2_says() {
        let inside = 0x1_0008_0000;
        let cases = [
            (&[4][..], Some(WriteThrough)),
            (&[5], Some(WriteProtected)),
            (&[4, 4], Some(WriteThrough)),
            (&[6, 0], Some(Uncacheable)),
            (&[1, 4, 0], Some(Uncacheable)),
            (&[6, 4], Some(WriteThrough)),
            (&[4, 6, 4], Some(WriteThrough)),
            (&[6, 1], None),
            (&[5, 6], None),
            (&[1, 4, 6], None),
        ];
        for (kinds, expected) in cases {
            let ranges: Vec<_> = kinds.iter().map(|kind| range(*kind)).collect();
            let held = types(0xc00, &ranges);
            assert_eq!(held.of(inside), expected, "{kinds:?}");
            assert_eq!(held.of(0x1_0010_0000), Some(Uncacheable), "behind it");
            let invalid: Vec<_> = ranges
                .iter()
                .map(|[base, mask]| [*base, mask & !0x800])
                .collect();
            assert_eq!(types(0xc00, &invalid).of(inside), Some(Uncacheable));
        }
    }
}
