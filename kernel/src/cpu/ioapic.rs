//! I/O APICs: all of their lines are masked, since nobody here uses one, and what the
//! firmware left unmasked would be refused and reported once interrupts are remapped.

use crate::firmware::IoApic;
use crate::memory::{MapError, RegisterWindow};
use iommu_core::Mmio;

/// Bytes of registers (82093AA, 3.0).
const BYTES: usize = 0x20;
/// Selects the register that [`DATA`] shows.
const SELECT: usize = 0x00;
const DATA: usize = 0x10;

/// Bits 23:16: the number of the last line.
const VERSION: u32 = 0x01;
/// The lower half of line 0's entry; each entry takes two registers.
const FIRST_ENTRY: u32 = 0x10;
const MASKED: u32 = 1 << 16;

/// Masks all lines of an I/O APIC; returns how many were not.
pub(crate) fn mask_all(ioapic: &IoApic) -> Result<u32, MapError> {
    let window = RegisterWindow::map(ioapic.registers, BYTES)?;
    let last_line = (read(&window, VERSION) >> 16) & 0xff;
    let mut unmasked = 0;
    for line in 0..=last_line {
        let register = FIRST_ENTRY + 2 * line;
        let entry = read(&window, register);
        if entry & MASKED == 0 {
            window.write32(DATA, entry | MASKED);
            unmasked += 1;
        }
    }
    Ok(unmasked)
}

/// Leaves the register selected.
fn read(window: &RegisterWindow, register: u32) -> u32 {
    window.write32(SELECT, register);
    window.read32(DATA)
}
