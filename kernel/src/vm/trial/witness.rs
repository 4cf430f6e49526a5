//! What was seen, and what follows from it.

use super::predict::{Expected, Prediction};
use super::walk::Refusal;
use core::fmt;
use hypervisor_abi::Label;
use iommu_core::{DeviceId, FaultKind, FaultReason, FaultRecord, SourceId};

/// What the hypervisor saw of one trial.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Which step, and after a dot which part of it.
    pub id: Label<32>,
    /// The device.
    pub device: DeviceId,
    /// What must have come of it.
    pub prediction: Prediction,
    /// Pages that the device changed where it had to.
    pub written: usize,
    /// Pages that it had to change.
    pub to_be_written: usize,
    /// Pages that it changed elsewhere.
    pub strays: usize,
    /// Whether the bytes are those that they had to be.
    pub bytes_match: bool,
    /// The first fault record.
    pub fault: Option<FaultRecord>,
    /// Fault records, all of them.
    pub faults: usize,
    /// Whether all fault records fit the prediction.
    pub faults_fit: bool,
    /// How often units said meanwhile that they lost faults, of whatever device.
    pub faults_lost: u64,
    /// Interrupts of the device that reached the guest.
    pub interrupts: u64,
    /// Interrupts that somebody else's message raised.
    pub foreign_interrupts: u64,
    /// Whether the hypervisor's pages between the guest's and in its image are whole.
    pub canaries_whole: bool,
    /// Whether the unit's registers are the same.
    pub registers_same: bool,
}

impl Witness {
    /// The step's name.
    pub fn step(&self) -> &str {
        let name = self.id.name();
        name.split_once('.').map_or(name, |(step, _)| step)
    }

    /// Which trial of the step.
    pub fn part(&self) -> &str {
        let name = self.id.name();
        name.split_once('.').map_or("", |(_, part)| part)
    }

    /// Whether all is as it had to be.
    pub fn holds(&self) -> bool {
        self.verdict() == Verdict::Pass
    }

    /// What follows from it.
    pub fn verdict(&self) -> Verdict {
        if !self.nothing_else_happened() {
            return Verdict::Fail;
        }
        match self.prediction.expected {
            _ if self.outcome_fits() => Verdict::Pass,
            // A unit keeps few records; when several devices are refused at once it says that
            // some are lost, and not whose.
            Expected::Refused { .. } if self.faults == 0 && self.faults_lost > 0 => Verdict::Void,
            _ => Verdict::Fail,
        }
    }

    fn nothing_else_happened(&self) -> bool {
        self.strays == 0
            && self.foreign_interrupts == 0
            && self.canaries_whole
            && self.registers_same
    }

    fn outcome_fits(&self) -> bool {
        let written = self.written == self.to_be_written && self.bytes_match;
        match self.prediction.expected {
            Expected::Nothing | Expected::Reads => self.faults == 0,
            Expected::Writes { .. } => self.faults == 0 && self.to_be_written > 0 && written,
            Expected::Interrupts => self.faults == 0 && self.interrupts > 0,
            Expected::Refused { .. } => self.faults > 0 && self.faults_fit && self.interrupts == 0,
        }
    }
}

/// What follows from a trial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All is as it had to be.
    Pass,
    /// Something is not.
    Fail,
    /// Nothing speaks against it, but the fault that it had to give was lost. To be repeated.
    Void,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Void => "void",
        }
    }
}

/// What an emulated unit records where a request carries no source id.
const NO_SOURCE: SourceId = SourceId::from_bits(u16::MAX);

/// Whether a fault record is one that the predicted refusal gives.
pub(super) fn fits(record: &FaultRecord, device: DeviceId, expected: &Expected) -> bool {
    let Expected::Refused {
        refusal,
        page,
        access,
    } = *expected
    else {
        return false;
    };
    let is_its = record.device == device;
    match record.kind {
        FaultKind::Interrupt { .. } => {
            let is_nobodys = record.device.source == NO_SOURCE;
            refusal == Refusal::ForeignInterrupt
                && (is_its || is_nobodys)
                && record.reason.is_interrupt()
        }
        FaultKind::Dma {
            address,
            access: wanted,
        } => {
            is_its
                && address.as_u64() == page
                && wanted == access
                && reason_fits(record.reason, refusal)
        }
        FaultKind::PageRequest { .. } => false,
    }
}

/// The reasons that a unit may give, in any mode and with shadow or hardware nesting. A
/// shadow has nothing where the guest's table is refused, so there most refusals look like
/// an entry that is not present.
fn reason_fits(reason: FaultReason, refusal: Refusal) -> bool {
    use FaultReason as Reason;
    let absent = [
        Reason::FIRST_STAGE_NOT_PRESENT,
        Reason::SECOND_STAGE_NOT_PRESENT,
        Reason::READ_DENIED,
        Reason::WRITE_DENIED,
        Reason::SCALABLE_READ_DENIED,
        Reason::SCALABLE_WRITE_DENIED,
    ];
    match refusal {
        Refusal::Blocked => [
            Reason::ROOT_NOT_PRESENT,
            Reason::CONTEXT_NOT_PRESENT,
            Reason::SCALABLE_ROOT_NOT_PRESENT,
            Reason::SCALABLE_CONTEXT_NOT_PRESENT,
            Reason::PASID_DIRECTORY_NOT_PRESENT,
            Reason::PASID_NOT_PRESENT,
            // What QEMU gives for a PASID entry that is all zero.
            Reason::PASID_INVALID,
        ]
        .contains(&reason),
        Refusal::WriteDenied => {
            [Reason::WRITE_DENIED, Reason::SCALABLE_WRITE_DENIED].contains(&reason)
        }
        Refusal::NotCanonical => {
            let widths = [
                Reason::NOT_CANONICAL,
                Reason::BEYOND_WIDTH,
                Reason::SCALABLE_BEYOND_WIDTH,
            ];
            widths.contains(&reason)
        }
        Refusal::NotPresent => absent.contains(&reason),
        Refusal::Supervisor => reason == Reason::USER_DENIED || absent.contains(&reason),
        Refusal::Reserved => reason == Reason::FIRST_STAGE_RESERVED || absent.contains(&reason),
        Refusal::Outside => {
            let nested = [
                Reason::NESTED_BEYOND_WIDTH,
                Reason::NESTED_ROOT_DENIED,
                Reason::NESTED_TABLE_DENIED,
            ];
            nested.contains(&reason) || absent.contains(&reason)
        }
        Refusal::ForeignInterrupt => false,
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verdict={}", self.verdict().name())?;
        if !self.part().is_empty() {
            write!(f, " part={}", self.part())?;
        }
        match &self.prediction.expected {
            Expected::Nothing => write!(f, " expected=nothing")?,
            Expected::Reads => write!(f, " expected=read")?,
            Expected::Interrupts => write!(f, " expected=interrupt")?,
            Expected::Writes { .. } => write!(f, " expected=write")?,
            Expected::Refused { refusal, .. } => write!(f, " expected={}", refusal.name())?,
        }
        if let Some(record) = &self.fault {
            match record.kind {
                FaultKind::Dma { address, .. } | FaultKind::PageRequest { address } => {
                    write!(f, " fault={:#x}", address.as_u64())?;
                }
                FaultKind::Interrupt { index } => write!(f, " index={index}")?,
            }
            let (source, reason) = (record.device.source, record.reason.0);
            write!(f, " source={source} reason={reason:#x}")?;
        }
        let whole = if self.canaries_whole {
            "whole"
        } else {
            "broken"
        };
        let registers = if self.registers_same {
            "same"
        } else {
            "changed"
        };
        if self.faults_lost > 0 {
            write!(f, " lost={}", self.faults_lost)?;
        }
        write!(
            f,
            " faults={} written={}/{} bytes={} strays={} interrupts={} foreign-interrupts={} canaries={whole} registers={registers}",
            self.faults,
            self.written,
            self.to_be_written,
            if self.bytes_match { "match" } else { "differ" },
            self.strays,
            self.interrupts,
            self.foreign_interrupts,
        )
    }
}
