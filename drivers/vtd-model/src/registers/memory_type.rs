//! Memory type range registers (§11.4.12). They are kept, and checked for reserved values;
//! memory types themselves change nothing that software could see here (§3.11).

use super::dispatch::Write;
use crate::machine::unit::Unit;
use crate::machine::world::World;
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
    matches!(value, 0 | 1 | 4 | 5 | 6)
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
