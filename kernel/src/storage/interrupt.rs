//! The disk's interrupt: a message of its MSI-X table, which a remapping entry of its own lets pass to
//! a vector of its own.

use super::StorageError;
use crate::cpu::vectors::{self, Handler, Vector};
use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::remapping::{self, Remapping};
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{IrqHandle, IrqMessage, IrqRemapper};
use nvme::Signal;
use pci::capability::MsixCapability;
use pci::{Function, MsixTable};
use spin::Once;

/// Counts the disk's interrupts.
struct Arrivals(AtomicU64);

impl Handler for Arrivals {
    fn handle(&self, _: Vector) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Signal for Arrivals {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

static ARRIVALS: Arrivals = Arrivals(AtomicU64::new(0));
/// There is one disk, and handlers are for ever.
static VECTOR: Once<Vector> = Once::new();

/// A message that reaches its vector, until it is given back.
pub(super) struct DiskInterrupt {
    bus: &'static Bus,
    remapping: &'static Remapping,
    capability: MsixCapability,
    table: MsixTable<RegisterWindow>,
    index: u16,
    entry: IrqHandle,
}

impl DiskInterrupt {
    /// Programs and turns on the function's interrupt. None where that takes what the machine
    /// does not have: MSI-X, or interrupts that are remapped.
    pub(super) fn take(
        bus: &'static Bus,
        remapping: &'static Remapping,
        function: &Function,
    ) -> Result<Option<Self>, StorageError> {
        let Some(capability) = function.capabilities.msix.filter(|_| remapping.interrupts) else {
            return Ok(None);
        };
        let bar = function.bar(capability.table_bar());
        let bar = bar.ok_or(StorageError::NoRegisters)?;
        let size = usize::try_from(bar.size).unwrap_or(usize::MAX);
        let window = RegisterWindow::map(bar.base, size).map_err(StorageError::Registers)?;
        let table = MsixTable::new(window, &capability).map_err(|_| StorageError::NoRegisters)?;
        let vector = VECTOR
            .try_call_once(|| vectors::allocate(&ARRIVALS))
            .map_err(|_| StorageError::OutOfVectors)?;
        let source = remapping::interrupt_source(bus, function.id);
        let (entry, message) = remapping::route(&remapping.driver, source, *vector)
            .map_err(StorageError::Interrupt)?;
        // Message 0 is the admin queue's too, which is polled.
        let index = u16::from(table.entries() > 1);
        let mut taken = Self {
            bus,
            remapping,
            capability,
            table,
            index,
            entry,
        };
        taken.capability.set_function_mask(true, &bus.ecam);
        taken.capability.set_enabled(true, &bus.ecam);
        taken.table.mask_all();
        taken.send(message);
        taken.capability.set_function_mask(false, &bus.ecam);
        Ok(Some(taken))
    }

    /// What the disk's driver wants to know of it.
    pub(super) fn for_driver(&self) -> nvme::Interrupt<'static> {
        nvme::Interrupt {
            vector: self.index,
            signal: &ARRIVALS,
        }
    }

    /// Makes the disk send this message from now on.
    pub(super) fn send(&self, message: IrqMessage) {
        // The index is one of the table's.
        let _ = self.table.program(self.index, message);
    }

    /// The disk, which has been stopped, raises no more.
    pub(super) fn give_back(mut self) -> Result<(), StorageError> {
        self.table.mask_all();
        self.capability.set_enabled(false, &self.bus.ecam);
        let driver = &self.remapping.driver;
        driver.free(self.entry).map_err(StorageError::Interrupt)
    }
}
