//! A display device's memory, as the firmware set it up.

use ::pci::Config;
use iommu_core::{DeviceId, Hpa, Mmio};
use kernel::memory::RegisterWindow;

use super::Bench;
use crate::check::Deviation;

/// Bytes of it that tests use.
const BYTES: usize = 4096;
/// Offset of BAR 0, and its bits that are no address.
const BAR0: u16 = 0x10;
const FLAGS: u32 = 0xf;

/// The beginning of a frame buffer.
pub(crate) struct Screen(RegisterWindow);

impl Bench {
    /// A display device's memory, before the units are touched.
    pub(crate) fn screen(&mut self, device: DeviceId) -> Result<Screen, Deviation> {
        let bus = self.bus_before_start()?;
        let bar = Config::new(&bus.ecam, device).read32(BAR0) & !FLAGS;
        Ok(Screen(RegisterWindow::map(Hpa::new(bar.into()), BYTES)?))
    }
}

impl Screen {
    /// Fills it with a colour.
    pub(crate) fn draw(&self, colour: u32) {
        for at in (0..BYTES).step_by(4) {
            self.0.write32(at, colour);
        }
    }

    /// Whether all of it has the colour.
    pub(crate) fn shows(&self, colour: u32) -> bool {
        (0..BYTES).step_by(4).all(|at| self.0.read32(at) == colour)
    }
}
