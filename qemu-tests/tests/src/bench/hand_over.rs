//! From this kernel to the next, which runs the same test again.

use alloc::fmt::format;

use kernel::command_line::HandOver;
use kernel::log::report;
use kernel::pci::{self, Bus};
use kernel::remapping::Driver;
use kernel::{host, next};
use vtd::Statistics;

use super::{Bench, Copier, Prober};
use crate::check::{Deviation, Outcome};

/// What is done behind the driver's back before the next kernel starts, so that figures still
/// agree with QEMU's.
#[derive(Clone, Copy, Default)]
pub(crate) struct LeftBehind {
    /// Descriptors that the unit fetches.
    pub(crate) descriptors: u64,
    /// Writes to the queue's tail.
    pub(crate) doorbells: u64,
    /// Faults that the unit records.
    pub(crate) faults: u64,
}

impl Bench {
    /// Which kernel of this boot it is: 0 for the one that QEMU started.
    pub(crate) fn stage(&self) -> u8 {
        self.machine.command_line.stage
    }

    /// The `iommu-testdev` device, before the units are touched.
    pub(crate) fn prober_before_start(&mut self) -> Result<Prober, Deviation> {
        Prober::find(self.bus_before_start()?)
    }

    /// The `edu` device, before the units are touched.
    pub(crate) fn copier_before_start(&mut self) -> Result<Copier, Deviation> {
        Copier::find(self.bus_before_start()?)
    }

    /// The machine's devices, before the units are touched.
    pub(crate) fn bus_before_start(&mut self) -> Result<&'static Bus, Deviation> {
        host::find(&self.machine)
            .map_err(|error| Deviation::failed(format_args!("no machine: {error}")))?;
        pci::bus().ok_or_else(|| Deviation::failed(format_args!("no PCI")))
    }

    /// Starts the next kernel, with more words for it, after a last act. Returns only if that
    /// fails.
    pub(crate) fn hand_over(
        &mut self,
        how: HandOver,
        words: &str,
        left: LeftBehind,
        act: impl FnOnce(&mut Self) -> Outcome,
    ) -> Outcome {
        let host = self.host();
        let line = &self.machine.command_line;
        let mode = line.mode.map_or("legacy", kernel::command_line::Mode::name);
        let text = format(format_args!(
            "mode={mode} seed={:#x} test={} stage={} {words}",
            self.seed(),
            line.test.as_deref().unwrap_or_default(),
            line.stage + 1
        ));
        act(self)?;
        // A shut-down empties the caches once more, all in one round.
        let shut_down = match how {
            HandOver::Off => shutting_down(&host.remapping.driver),
            HandOver::On => Statistics::default(),
        };
        let counted = host.remapping.driver.statistics(0).unwrap_or_default();
        report::figure(
            "descriptors",
            counted.descriptors + shut_down.descriptors + left.descriptors,
        );
        report::figure(
            "doorbells",
            counted.doorbells + shut_down.doorbells + left.doorbells,
        );
        report::figure("waits", counted.waits + shut_down.waits);
        report::figure("faults", counted.faults + left.faults);
        let error = next::hand_over(&host, &self.machine, how, &text);
        Err(Deviation::failed(format_args!("no next kernel: {error}")))
    }
}

/// What the driver queues to shut a unit down: everything of each cache, and a wait.
fn shutting_down(driver: &Driver) -> Statistics {
    let scalable = driver
        .units()
        .next()
        .is_some_and(|_| kernel::remapping::remapping().is_some_and(|r| r.mode.is_scalable()));
    Statistics {
        // Context cache, IOTLB, interrupt entry cache, wait; PASID cache.
        descriptors: 4 + u64::from(scalable),
        doorbells: 1,
        waits: 1,
        ..Statistics::default()
    }
}
