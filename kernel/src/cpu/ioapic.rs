//! I/O APICs. All of their lines are masked at the start: what the firmware left unmasked
//! would be refused and reported once interrupts are remapped. Whoever wants a line programs
//! it with an entry that the remapping driver made.

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

/// A line of an I/O APIC. Its registers are reached by selecting them, so lines of one
/// I/O APIC are for one CPU at a time.
pub struct Line {
    window: RegisterWindow,
    register: u32,
}

impl Line {
    /// The line of this number, counted within the I/O APIC; `None` if it has fewer.
    pub fn of(ioapic: &IoApic, number: u32) -> Result<Option<Self>, MapError> {
        let window = RegisterWindow::map(ioapic.registers, BYTES)?;
        let last_line = (read(&window, VERSION) >> 16) & 0xff;
        let register = FIRST_ENTRY.saturating_add(number.saturating_mul(2));
        Ok((number <= last_line).then_some(Self { window, register }))
    }

    /// Raises what the redirection table entry says, which a remapping driver made.
    pub fn program(&self, entry: u64) {
        // Masked until both halves are there.
        self.mask();
        self.window.write32(SELECT, self.register.saturating_add(1));
        self.window.write32(DATA, (entry >> 32) as u32);
        self.window.write32(SELECT, self.register);
        self.window.write32(DATA, entry as u32);
    }

    /// Raises nothing.
    pub fn mask(&self) {
        let entry = read(&self.window, self.register);
        self.window.write32(DATA, entry | MASKED);
    }
}

/// Leaves the register selected.
fn read(window: &RegisterWindow, register: u32) -> u32 {
    window.write32(SELECT, register);
    window.read32(DATA)
}
