//! Lines of the I/O APIC, as devices of PCI pull them.

use alloc::vec::Vec;
use kernel::cpu::ioapic;
use kernel::cpu::vectors::{Handler, Vector};
use kernel::firmware::Firmware;
use spin::Once;

use iommu_core::DeviceId;

use super::{Bench, Counter};
use crate::check::Deviation;

/// Lines that devices of PCI are wired to on this chipset (ICH9, 5.10.3).
const OF_PCI: core::ops::Range<u32> = 16..24;

/// Counts interrupts that come by lines, and masks the lines at each: who pulls one does not
/// let go by itself.
pub(crate) struct LineCounter {
    count: Counter,
    lines: Once<Vec<ioapic::Line>>,
}

impl LineCounter {
    /// None has come.
    pub(crate) const fn new() -> Self {
        Self {
            count: Counter::new(),
            lines: Once::new(),
        }
    }

    /// Lets all lines raise what this entry says.
    pub(crate) fn program(&self, lines: Vec<ioapic::Line>, entry: u64) {
        self.lines.call_once(|| lines);
        self.program_again(entry);
    }

    /// The same once more.
    pub(crate) fn program_again(&self, entry: u64) {
        let lines = self.lines.get().into_iter().flatten();
        lines.for_each(|line| line.program(entry));
    }

    /// What has come.
    pub(crate) fn count(&self) -> &Counter {
        &self.count
    }
}

impl Handler for LineCounter {
    fn handle(&self, vector: Vector) {
        let lines = self.lines.get().into_iter().flatten();
        lines.for_each(ioapic::Line::mask);
        self.count.handle(vector);
    }
}

impl Bench {
    /// The lines of PCI, and the id under which their I/O APIC raises interrupts.
    pub(crate) fn lines(&mut self) -> Result<(DeviceId, Vec<ioapic::Line>), Deviation> {
        let missing = || Deviation::failed(format_args!("no I/O APIC is known"));
        let host = self.host();
        let firmware = Firmware::new(self.machine.boot.acpi).map_err(|_| missing())?;
        let found = firmware.interrupt_controllers().map_err(|_| missing())?;
        let ioapic = found.ioapics.first().ok_or_else(missing)?;
        let scope = host.remapping.dmar.io_apic(ioapic.id, host.bus);
        let source = scope.ok_or_else(missing)?.source;
        let mut lines = Vec::new();
        for number in OF_PCI {
            lines.extend(ioapic::Line::of(ioapic, number)?);
        }
        Ok((source, lines))
    }
}
