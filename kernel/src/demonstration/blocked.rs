//! A device that nobody allowed cannot write to memory, and the unit says so.

use super::device::{self, Device, Obstacle};
use super::step;
use crate::host::Host;
use crate::log::report::{self, Verdict};
use crate::memory::RegisterWindow;
use crate::platform::KernelPlatform;
use crate::remapping::faults;
use crate::time::KernelClock;
use core::sync::atomic::{AtomicU64, Ordering};
use edu::{Direction, Edu, Transfer};
use iommu_core::{DeviceId, FaultKind, FaultRecord, Frame, Iova, Order, Platform};

const ID: &str = "blocked";
/// What stands in memory where the device is told to write.
const CANARY: u64 = 0x5afe_5afe_5afe_5afe;
/// Bytes that the device is told to write.
const BYTES: u16 = 8;

/// Tells the `edu` device, which is blocked, to write to a page of our own, and looks what
/// becomes of it.
pub fn blocked_by_default(host: &Host) {
    match device::with_edu(host.bus, attempt) {
        Ok(outcome) => outcome.report(),
        Err(Obstacle::NoDevice) => step(Verdict::Skip, ID, format_args!("{}", Obstacle::NoDevice)),
        Err(obstacle) => step(Verdict::Fail, ID, format_args!("{obstacle}")),
    }
}

/// What became of the attempt.
struct Outcome {
    device: DeviceId,
    address: Iova,
    canary_is_whole: bool,
    fault: Option<FaultRecord>,
}

impl Outcome {
    fn report(&self) {
        let (device, address) = (self.device, self.address);
        let Some(fault) = self.fault.filter(|fault| self.is_told_by(fault)) else {
            let text = format_args!("{device} wrote to {address} and no fault told it");
            step(Verdict::Fail, ID, text);
            return;
        };
        let verdict = Verdict::of(self.canary_is_whole);
        report::witness(
            ID,
            format_args!(
                "verdict={} fault={address} source={} reason={:#04x}",
                verdict.name(),
                device.source,
                fault.reason.0
            ),
        );
        let memory = match self.canary_is_whole {
            true => "unchanged",
            false => "changed",
        };
        step(
            verdict,
            ID,
            format_args!(
                "{device}, which nobody allowed, was told to write to {address}: {}; memory is {memory}",
                fault.reason
            ),
        );
    }

    fn is_told_by(&self, fault: &FaultRecord) -> bool {
        fault.device == self.device
            && matches!(fault.kind, FaultKind::Dma { address, access }
                if address == self.address && access.writes())
    }
}

fn attempt(device: &Device<'_>) -> Result<Outcome, Obstacle> {
    let frame = KernelPlatform
        .allocate(Order::PAGE)
        .map_err(|_| Obstacle::NoMemory)?;
    let outcome = write_to(device, &frame);
    KernelPlatform.release(frame);
    outcome
}

fn write_to(device: &Device<'_>, frame: &Frame) -> Result<Outcome, Obstacle> {
    let address = Iova::new(frame.hpa().as_u64());
    for cell in frame.cells() {
        cell.store(CANARY, Ordering::Relaxed);
    }
    let transfer =
        Transfer::new(Direction::ToMemory, address, 0, BYTES).map_err(|_| Obstacle::NoRegisters)?;
    let taken = faults::taken();
    device
        .edu()
        .copy(&transfer, &KernelClock, Edu::<RegisterWindow>::PATIENCE)
        .map_err(Obstacle::Device)?;
    device::wait_until(|| faults::taken() > taken);
    let is_whole = |cell: &AtomicU64| cell.load(Ordering::Acquire) == CANARY;
    Ok(Outcome {
        device: device.id(),
        address,
        canary_is_whole: frame.cells().iter().all(is_whole),
        fault: (faults::taken() > taken).then(faults::last).flatten(),
    })
}
