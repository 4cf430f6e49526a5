//! Faults: that one comes, and which.

use kernel::remapping::faults;

use iommu_core::{Access, FaultKind, FaultReason, FaultRecord, Iova, Nanoseconds, Platform};

use super::{Bench, Copier, PLATFORM};
use crate::check::{Deviation, Outcome, check_eq};

/// Longer than a fault event takes.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(100);

/// Reasons for refusing a device that nothing is attached to.
pub(crate) const BLOCKED: &[FaultReason] = &[
    FaultReason::ROOT_NOT_PRESENT,
    FaultReason::CONTEXT_NOT_PRESENT,
    FaultReason::SCALABLE_ROOT_NOT_PRESENT,
    FaultReason::SCALABLE_CONTEXT_NOT_PRESENT,
    FaultReason::PASID_DIRECTORY_NOT_PRESENT,
    FaultReason::PASID_NOT_PRESENT,
    FaultReason::PASID_INVALID,
];

/// Reasons for refusing an address that nothing is mapped at. QEMU gives those of denied
/// access in the second stage, where the specification has reasons of their own.
pub(crate) const NOT_MAPPED: &[FaultReason] = &[
    FaultReason::WRITE_DENIED,
    FaultReason::READ_DENIED,
    FaultReason::SECOND_STAGE_NOT_PRESENT,
    FaultReason::FIRST_STAGE_NOT_PRESENT,
];

/// Reasons for refusing a write to a page that may be read.
pub(crate) const WRITE_DENIED: &[FaultReason] = &[
    FaultReason::WRITE_DENIED,
    FaultReason::SCALABLE_WRITE_DENIED,
];

impl Bench {
    /// Lets a device do what must be refused, and looks at the fault that tells of it.
    pub(crate) fn refused(
        &mut self,
        copier: &Copier,
        address: Iova,
        access: Access,
        reasons: &[FaultReason],
    ) -> Result<(), Deviation> {
        let fault = self.fault_of(|| access_8_bytes(copier, address, access))?;
        let kind = FaultKind::Dma { address, access };
        if fault.device != copier.id() || fault.kind != kind {
            return Err(Deviation::failed(format_args!(
                "{access} of {address} by {} was told as {:?} by {}",
                copier.id(),
                fault.kind,
                fault.device
            )));
        }
        match reasons.contains(&fault.reason) {
            true => Ok(()),
            false => Err(Deviation::failed(format_args!(
                "{access} of {address} was refused by {}",
                fault.reason
            ))),
        }
    }

    /// The fault that an act leads to.
    pub(crate) fn fault_of(
        &mut self,
        act: impl FnOnce() -> Result<(), Deviation>,
    ) -> Result<FaultRecord, Deviation> {
        let before = faults::taken();
        act()?;
        let begun = PLATFORM.now();
        while faults::taken() == before && PLATFORM.now().since(begun) < PATIENCE {
            PLATFORM.relax();
        }
        match (faults::taken() > before).then(faults::last).flatten() {
            Some(fault) => Ok(fault),
            None => Err(Deviation::failed(format_args!("no fault came"))),
        }
    }

    /// Lets a device do what must work, and looks that no fault comes.
    pub(crate) fn permitted(
        &mut self,
        act: impl FnOnce() -> Result<(), Deviation>,
    ) -> Result<(), Deviation> {
        let before = faults::taken();
        act()?;
        // What the interrupt has not brought yet.
        faults::drain();
        match faults::taken() - before {
            0 => Ok(()),
            count => Err(Deviation::failed(format_args!("{count} faults came"))),
        }
    }
}

fn access_8_bytes(copier: &Copier, address: Iova, access: Access) -> Result<(), Deviation> {
    match access.writes() {
        true => copier.store(address, 8),
        false => copier.load(address, 8),
    }
}

/// A fault is of an interrupt request, for this reason, by this entry.
pub(crate) fn refused_by_entry(fault: &FaultRecord, index: u16, reason: FaultReason) -> Outcome {
    check_eq!(fault.reason, reason, "the reason");
    check_eq!(
        fault.kind,
        FaultKind::Interrupt { index },
        "what was refused"
    );
    Ok(())
}
