//! A device that nobody allowed cannot write to memory, and the unit says so.

use super::step;
use crate::host::Host;
use crate::log::report::{self, Verdict};
use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use crate::remapping::faults;
use core::fmt;
use core::sync::atomic::Ordering;
use edu::{Direction, Edu, Transfer};
use iommu_core::{DeviceId, FaultKind, FaultRecord, Frame, Iova, Nanoseconds, Order, Platform};
use pci::{CommandRegister, Config, Function};

const ID: &str = "blocked";
/// What stands in memory where the device is told to write.
const CANARY: u64 = 0x5afe_5afe_5afe_5afe;
/// Bytes that the device is told to write.
const BYTES: u16 = 8;
/// Longer than a fault event takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(100);

/// Why the step could not be made.
enum Obstacle {
    NoDevice,
    NoRegisters,
    Device(edu::EduError),
    NoMemory,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("the machine has no edu device"),
            Self::NoRegisters => f.write_str("the edu device's registers cannot be reached"),
            Self::Device(error) => write!(f, "the edu device does not work: {error:?}"),
            Self::NoMemory => f.write_str("no memory"),
        }
    }
}

struct Clock;

impl edu::Clock for Clock {
    fn now(&self) -> Nanoseconds {
        KernelPlatform.now()
    }

    fn relax(&self) {
        KernelPlatform.relax();
    }
}

/// Tells the `edu` device, which is blocked, to write to a page of our own, and looks what
/// becomes of it.
pub fn blocked_by_default(host: &Host) {
    let Some(function) = host.bus.topology.find(edu::VENDOR, edu::DEVICE) else {
        step(Verdict::Skip, ID, format_args!("{}", Obstacle::NoDevice));
        return;
    };
    match attempt(host.bus, function) {
        Ok(outcome) => outcome.report(function.id),
        Err(obstacle) => step(Verdict::Fail, ID, format_args!("{obstacle}")),
    }
}

/// What became of the attempt.
struct Outcome {
    address: Iova,
    canary_is_whole: bool,
    fault: Option<FaultRecord>,
}

impl Outcome {
    fn report(&self, device: DeviceId) {
        let address = self.address;
        let is_expected = |fault: &FaultRecord| {
            fault.device == device
                && matches!(fault.kind, FaultKind::Dma { address: at, access }
                    if at == address && access.writes())
        };
        let Some(fault) = self.fault.filter(is_expected) else {
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
        step(
            verdict,
            ID,
            format_args!(
                "{device}, which nobody allowed, was told to write to {address}: {}; memory is {}",
                fault.reason,
                if self.canary_is_whole {
                    "unchanged"
                } else {
                    "changed"
                }
            ),
        );
    }
}

fn attempt(bus: &Bus, function: &Function) -> Result<Outcome, Obstacle> {
    let bar = function.bar(0).ok_or(Obstacle::NoRegisters)?;
    let config = Config::new(&bus.ecam, function.id);
    let before = config.command();
    config
        .set_command(before | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE);
    let frame = KernelPlatform
        .allocate(Order::PAGE)
        .map_err(|_| Obstacle::NoMemory)?;
    let outcome = RegisterWindow::map(bar.base, bar.size as usize)
        .map_err(|_| Obstacle::NoRegisters)
        .and_then(|window| write_to(window, &frame));
    config.set_command(before);
    KernelPlatform.release(frame);
    outcome
}

fn write_to(window: RegisterWindow, frame: &Frame) -> Result<Outcome, Obstacle> {
    let edu = Edu::new(window).map_err(Obstacle::Device)?;
    let address = Iova::new(frame.hpa().as_u64());
    for cell in frame.cells() {
        cell.store(CANARY, Ordering::Relaxed);
    }
    let transfer =
        Transfer::new(Direction::ToMemory, address, 0, BYTES).map_err(|_| Obstacle::NoRegisters)?;
    let taken = faults::taken();
    edu.copy(&transfer, &Clock, Edu::<RegisterWindow>::PATIENCE)
        .map_err(Obstacle::Device)?;
    wait_for_fault_after(taken);
    let is_whole = |cell: &core::sync::atomic::AtomicU64| cell.load(Ordering::Acquire) == CANARY;
    Ok(Outcome {
        address,
        canary_is_whole: frame.cells().iter().all(is_whole),
        fault: (faults::taken() > taken).then(faults::last).flatten(),
    })
}

/// The fault event is an interrupt: it may come a little later than the device's end.
fn wait_for_fault_after(taken: u64) {
    let begun = KernelPlatform.now();
    while faults::taken() == taken && KernelPlatform.now().since(begun) < PATIENCE {
        KernelPlatform.relax();
    }
}
