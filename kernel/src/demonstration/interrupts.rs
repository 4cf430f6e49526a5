//! A device raises the interrupt that it was given, and no other.
//!
//! The `edu` device's MSI is programmed with messages of entries that the host allocated: one
//! of the device's own, one of another function, and its own again once it is masked. A
//! guest cannot do this: it never sees a message.

use super::device::{self, Device, Obstacle};
use super::step;
use crate::cpu::apic;
use crate::cpu::vectors::{self, Vector};
use crate::host::Host;
use crate::log::report::{self, Verdict};
use crate::remapping::{Driver, faults};
use core::sync::atomic::{AtomicU64, Ordering};
use edu::Causes;
use iommu_core::{
    DeviceId, FaultKind, FaultReason, IrqError, IrqHandle, IrqMessage, IrqRemapper, IrqTarget,
    Segment, SourceId,
};

const ID: &str = "interrupt-source";

static OWN: AtomicU64 = AtomicU64::new(0);
static FOREIGN: AtomicU64 = AtomicU64::new(0);
static OWN_HANDLER: fn(Vector) = |_| {
    OWN.fetch_add(1, Ordering::Relaxed);
};
static FOREIGN_HANDLER: fn(Vector) = |_| {
    FOREIGN.fetch_add(1, Ordering::Relaxed);
};

/// What one raising of the device's interrupt led to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Own,
    Foreign,
    Refused { index: u16, reason: FaultReason },
    Nothing,
}

/// Lets the device raise its own entry, another's, and its own that is masked.
pub fn interrupt_source(host: &Host) {
    if !host.remapping.interrupts {
        step(
            Verdict::Skip,
            ID,
            format_args!("interrupts are not remapped"),
        );
        return;
    }
    match device::with_edu(host.bus, |device| attempt(&host.remapping.driver, device)) {
        Ok(()) => {}
        Err(Obstacle::NoDevice) => step(Verdict::Skip, ID, format_args!("{}", Obstacle::NoDevice)),
        Err(obstacle) => step(Verdict::Fail, ID, format_args!("{obstacle}")),
    }
}

/// An entry that leads to a vector of this CPU.
struct Line {
    handle: IrqHandle,
    message: IrqMessage,
}

impl Line {
    fn new(driver: &Driver, source: DeviceId, vector: Vector) -> Result<Self, IrqError> {
        let handle = driver.allocate(source, 1)?;
        let target = IrqTarget {
            apic_id: apic::id(),
            vector: vector.number(),
            level: false,
        };
        let message = driver.route(&handle, 0, target)?;
        Ok(Self { handle, message })
    }
}

fn attempt(driver: &Driver, device: &Device<'_>) -> Result<(), Obstacle> {
    let own_vector = vectors::allocate(&OWN_HANDLER).map_err(|_| Obstacle::NoVector)?;
    let foreign_vector = vectors::allocate(&FOREIGN_HANDLER).map_err(|_| Obstacle::NoVector)?;
    // The host bridge, which raises none of its own.
    let bridge = DeviceId::new(Segment(0), SourceId::from_bits(0));
    let own = Line::new(driver, device.id(), own_vector).map_err(Obstacle::Interrupt)?;
    let foreign = Line::new(driver, bridge, foreign_vector).map_err(Obstacle::Interrupt)?;

    let permitted = raise(device, &own.message)?;
    let forged = raise(device, &foreign.message)?;
    driver.mask(&own.handle, 0).map_err(Obstacle::Interrupt)?;
    let masked = raise(device, &own.message)?;

    let refusal = |line: &Line, reason| Seen::Refused {
        index: line.handle.first,
        reason,
    };
    let held = [
        (permitted, Seen::Own, "permitted"),
        (
            forged,
            refusal(&foreign, FaultReason::INTERRUPT_SOURCE),
            "forged",
        ),
        (
            masked,
            refusal(&own, FaultReason::INTERRUPT_ENTRY_NOT_PRESENT),
            "masked",
        ),
    ]
    .map(|(seen, expected, part)| witness(device.id(), seen, expected, part))
    .into_iter()
    .all(|held| held);
    step(
        Verdict::of(held),
        ID,
        format_args!(
            "{} raised its own interrupt, and was refused another's and its own once masked",
            device.id()
        ),
    );
    for line in [own, foreign] {
        driver.free(line.handle).map_err(Obstacle::Interrupt)?;
    }
    Ok(())
}

fn witness(device: DeviceId, seen: Seen, expected: Seen, part: &str) -> bool {
    let held = seen == expected;
    let verdict = Verdict::of(held).name();
    match seen {
        Seen::Refused { index, reason } => report::witness(
            ID,
            format_args!(
                "verdict={verdict} part={part} index={index} source={} reason={:#04x}",
                device.source, reason.0
            ),
        ),
        Seen::Own => report::witness(
            ID,
            format_args!("verdict={verdict} part={part} arrived=own"),
        ),
        Seen::Foreign => report::witness(
            ID,
            format_args!("verdict={verdict} part={part} arrived=foreign"),
        ),
        Seen::Nothing => report::witness(
            ID,
            format_args!("verdict={verdict} part={part} arrived=none"),
        ),
    }
    held
}

/// Programs the device's MSI with a message, raises it, and looks what comes.
fn raise(device: &Device<'_>, message: &IrqMessage) -> Result<Seen, Obstacle> {
    let before = (counted(), faults::taken());
    device.set_message(message)?;
    device.edu().raise(Causes::from_bits(1));
    device::wait_until(|| (counted(), faults::taken()) != before);
    device.edu().acknowledge();
    let ((own, foreign), taken) = before;
    let now = counted();
    Ok(if faults::taken() != taken {
        refused(device.id())
    } else if now.0 != own {
        Seen::Own
    } else if now.1 != foreign {
        Seen::Foreign
    } else {
        Seen::Nothing
    })
}

fn counted() -> (u64, u64) {
    (OWN.load(Ordering::Relaxed), FOREIGN.load(Ordering::Relaxed))
}

fn refused(device: DeviceId) -> Seen {
    match faults::last() {
        Some(fault) if fault.device == device => match fault.kind {
            FaultKind::Interrupt { index } => Seen::Refused {
                index,
                reason: fault.reason,
            },
            _ => Seen::Nothing,
        },
        _ => Seen::Nothing,
    }
}
