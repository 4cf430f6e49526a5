//! The `edu` device, for as long as the host uses it itself.

use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use core::fmt;
use edu::Edu;
use iommu_core::{DeviceId, IrqError, IrqMessage, Nanoseconds, Platform};
use pci::capability::MsiCapability;
use pci::{CommandRegister, Config};

/// Longer than an interrupt takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(100);

/// Why a step could not be made.
pub(super) enum Obstacle {
    NoDevice,
    NoRegisters,
    NoMsi,
    Device(edu::EduError),
    Interrupt(IrqError),
    NoMemory,
    NoVector,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("the machine has no edu device"),
            Self::NoRegisters => f.write_str("the edu device's registers cannot be reached"),
            Self::NoMsi => f.write_str("the edu device has no MSI capability"),
            Self::Device(error) => write!(f, "the edu device does not work: {error:?}"),
            Self::Interrupt(error) => write!(f, "its interrupt cannot be had: {error:?}"),
            Self::NoMemory => f.write_str("no memory"),
            Self::NoVector => f.write_str("no interrupt vector is left"),
        }
    }
}

/// The device, its registers decoded and a bus master.
pub(super) struct Device<'a> {
    bus: &'a Bus,
    id: DeviceId,
    msi: Option<MsiCapability>,
    edu: Edu<RegisterWindow>,
}

impl Device<'_> {
    pub(super) fn id(&self) -> DeviceId {
        self.id
    }

    pub(super) fn edu(&self) -> &Edu<RegisterWindow> {
        &self.edu
    }

    /// Programs the device's MSI with a message and turns it on.
    pub(super) fn set_message(&self, message: &IrqMessage) -> Result<(), Obstacle> {
        let msi = self.msi.ok_or(Obstacle::NoMsi)?;
        msi.set_enabled(false, &self.bus.ecam);
        msi.set_message_info(message.address, message.data, &self.bus.ecam);
        msi.set_enabled(true, &self.bus.ecam);
        Ok(())
    }
}

/// Runs `act` with the machine's first `edu` device, and leaves its configuration as it was,
/// its MSI off.
pub(super) fn with_edu<T>(
    bus: &Bus,
    act: impl FnOnce(&Device<'_>) -> Result<T, Obstacle>,
) -> Result<T, Obstacle> {
    let function = bus
        .topology
        .find(edu::VENDOR, edu::DEVICE)
        .ok_or(Obstacle::NoDevice)?;
    let bar = function.bar(0).ok_or(Obstacle::NoRegisters)?;
    let window =
        RegisterWindow::map(bar.base, bar.size as usize).map_err(|_| Obstacle::NoRegisters)?;
    let config = Config::new(&bus.ecam, function.id);
    let before = config.command();
    config
        .set_command(before | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE);
    let result = Edu::new(window).map_err(Obstacle::Device).and_then(|edu| {
        act(&Device {
            bus,
            id: function.id,
            msi: function.capabilities.msi,
            edu,
        })
    });
    if let Some(msi) = function.capabilities.msi {
        msi.set_enabled(false, &bus.ecam);
    }
    config.set_command(before);
    result
}

/// Waits until `done`, as long as an interrupt may take.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    let begun = KernelPlatform.now();
    while !done() && KernelPlatform.now().since(begun) < PATIENCE {
        KernelPlatform.relax();
    }
}
