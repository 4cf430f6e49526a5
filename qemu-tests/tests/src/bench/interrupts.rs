//! Interrupts of devices, and that they come or do not.

use core::sync::atomic::{AtomicU64, Ordering};

use kernel::cpu::apic;
use kernel::cpu::vectors::{self, Handler, Vector};
use kernel::remapping::Driver;

use iommu_core::{DeviceId, IrqHandle, IrqMessage, IrqRemapper, IrqTarget, Nanoseconds, Platform};

use vtd::InterruptSource;

use super::PLATFORM;
use crate::check::Deviation;

/// Longer than an interrupt takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(20);

/// Counts interrupts on a vector. Handlers are for ever, so a test has it as a `static`.
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// None has come.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// How many came.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for one more than there were.
    pub(crate) fn came_after(&self, before: u64) -> bool {
        let begun = PLATFORM.now();
        while self.count() == before && PLATFORM.now().since(begun) < PATIENCE {
            PLATFORM.relax();
        }
        self.count() > before
    }
}

impl Handler for Counter {
    fn handle(&self, _: Vector) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An interrupt of one device, with its handler.
pub(crate) struct Line {
    driver: &'static Driver,
    handle: IrqHandle,
    vector: Vector,
}

impl Line {
    /// An interrupt that only `source` may raise.
    pub(crate) fn allocate(
        driver: &'static Driver,
        source: DeviceId,
        handler: &'static dyn Handler,
    ) -> Result<Self, Deviation> {
        Self::allocate_from(driver, InterruptSource::Function(source), handler)
    }

    /// An interrupt that only this source may raise.
    pub(crate) fn allocate_from(
        driver: &'static Driver,
        source: InterruptSource,
        handler: &'static dyn Handler,
    ) -> Result<Self, Deviation> {
        let vector = vectors::allocate(handler)
            .map_err(|_| Deviation::failed(format_args!("no vector is left")))?;
        Ok(Self {
            driver,
            handle: driver.allocate_interrupts(source, 1)?,
            vector,
        })
    }

    /// The message that raises it, on this CPU.
    pub(crate) fn message(&self) -> Result<IrqMessage, Deviation> {
        Ok(self.driver.route(&self.handle, 0, self.target())?)
    }

    fn target(&self) -> IrqTarget {
        IrqTarget {
            apic_id: apic::id(),
            vector: self.vector.number(),
            level: false,
        }
    }

    /// The redirection table entry with which a line of an I/O APIC raises it, level-triggered.
    pub(crate) fn ioapic_entry(&self) -> Result<u64, Deviation> {
        let target = IrqTarget {
            level: true,
            ..self.target()
        };
        let message = self.driver.route(&self.handle, 0, target)?;
        Ok(vtd::ioapic_entry(&message, &target, true, false))
    }

    /// The index of its entry.
    pub(crate) fn index(&self) -> u16 {
        self.handle.first
    }

    /// Takes the entry back.
    pub(crate) fn free(self) -> Result<(), Deviation> {
        Ok(self.driver.free(self.handle)?)
    }
}
