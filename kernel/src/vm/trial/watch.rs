//! The trial that is under way.

use super::predict::{Expected, Places, Prediction};
use super::snapshot::{Change, Snapshot};
use super::witness::{Witness, fits};
use crate::vm::nested::NestedTables;
use crate::vm::ram::{Canary, GuestRam};
use arrayvec::ArrayVec;
use hypervisor_abi::{Announce, Label};
use iommu_abi::Errno;
use iommu_core::{DeviceId, FaultRecord, Gpa, GuestMemory, IrqMessage};

/// Fault records that one trial keeps.
const FAULTS: usize = 16;

/// What is around a guest that no trial may change, and what it may aim at.
pub trait Surroundings: Sync {
    /// Takes all fault records that hardware holds and hands them to their guests.
    fn drain_faults(&self);
    /// A digest of the unit's registers but those that hardware itself moves.
    fn unit_registers(&self) -> u64;
    /// Where a unit's registers lie.
    fn unit_base(&self) -> Option<iommu_core::Hpa>;
    /// A page of the hypervisor's image that holds a known pattern.
    fn image(&self) -> Option<iommu_core::Hpa>;
    /// An interrupt message of somebody else.
    fn foreign_message(&self) -> Option<IrqMessage>;
    /// How often the interrupt of [`foreign_message`](Self::foreign_message) came.
    fn foreign_interrupts(&self) -> u64;
    /// Whether the page at [`image`](Self::image) holds what it should.
    fn is_image_whole(&self) -> bool;
    /// Bits of host-physical address.
    fn host_bits(&self) -> u32;
}

/// Why a trial cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrialError {
    /// One is under way.
    Busy,
    /// None is under way.
    None,
    /// The announcement is not understood.
    Bad(Errno),
    /// No memory to take note of the guest's pages.
    OutOfMemory,
}

impl From<TrialError> for Errno {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Busy => Self::EBUSY,
            TrialError::None => Self::ENOENT,
            TrialError::Bad(errno) => errno,
            TrialError::OutOfMemory => Self::ENOMEM,
        }
    }
}

struct Trial {
    id: Label<32>,
    device: DeviceId,
    prediction: Prediction,
    interrupts_before: u64,
    foreign_before: u64,
    registers_before: u64,
}

/// What the hypervisor keeps to judge trials by.
#[derive(Default)]
pub struct Watch {
    snapshot: Option<Snapshot>,
    trial: Option<Trial>,
    faults: ArrayVec<FaultRecord, FAULTS>,
    fault_count: usize,
}

/// What a trial looks at.
pub(in crate::vm) struct Scene<'v> {
    pub(in crate::vm) ram: &'v GuestRam,
    pub(in crate::vm) nested: &'v NestedTables,
    /// Digest of the unit's registers.
    pub(in crate::vm) registers: u64,
    /// Bits of host-physical address.
    pub(in crate::vm) host_bits: u32,
    /// Interrupts of the guest's devices that were passed on to it so far.
    pub(in crate::vm) interrupts: u64,
    /// Interrupts so far that were raised by the message of somebody else.
    pub(in crate::vm) foreign_interrupts: u64,
    /// Nobody has written to the hypervisor's image.
    pub(in crate::vm) image_whole: bool,
}

impl Watch {
    /// Takes note of a fault of one of the guest's devices.
    pub fn note_fault(&mut self, record: &FaultRecord) {
        self.fault_count += 1;
        // More than fit are counted only.
        let _ = self.faults.try_push(*record);
    }

    /// Begins a trial. The guest's translations must be flushed afterwards.
    pub(in crate::vm) fn begin(
        &mut self,
        scene: &Scene,
        announced: &Announce,
        device: DeviceId,
        own_message: Option<u64>,
    ) -> Result<(), TrialError> {
        if self.trial.is_some() {
            return Err(TrialError::Busy);
        }
        let prediction = Prediction::new(scene.ram, announced, own_message, scene.host_bits)
            .map_err(TrialError::Bad)?;
        match &mut self.snapshot {
            Some(snapshot) => snapshot.catch_up(scene.ram, scene.nested),
            None => {
                let snapshot = Snapshot::new(scene.ram, scene.nested);
                self.snapshot = Some(snapshot.ok_or(TrialError::OutOfMemory)?);
            }
        }
        self.faults.clear();
        self.fault_count = 0;
        self.trial = Some(Trial {
            id: announced.id,
            device,
            prediction,
            interrupts_before: scene.interrupts,
            foreign_before: scene.foreign_interrupts,
            registers_before: scene.registers,
        });
        Ok(())
    }

    /// Ends the trial. The guest's translations must be flushed afterwards.
    pub(in crate::vm) fn end(&mut self, scene: &Scene) -> Result<Witness, TrialError> {
        let trial = self.trial.take().ok_or(TrialError::None)?;
        let (destination, source) = match &trial.prediction.expected {
            Expected::Writes {
                destination,
                source,
            } => (Some(destination), source.as_ref()),
            _ => (None, None),
        };
        let (mut written, mut strays) = (0, 0);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.compare(scene.ram, scene.nested, |page, change| {
                let wanted = destination.is_some_and(|places| places.touch(page));
                match change {
                    Change::ByDevice if wanted => written += 1,
                    Change::ByDevice => strays += 1,
                    Change::None | Change::BySoftware => {}
                }
            });
        }
        let expected = &trial.prediction.expected;
        let mut faults = self.faults.iter();
        let faults_fit = faults.all(|record| fits(record, trial.device, expected));
        Ok(Witness {
            id: trial.id,
            device: trial.device,
            written,
            to_be_written: destination.map_or(0, pages),
            strays,
            bytes_match: source
                .zip(destination)
                .is_none_or(|(source, destination)| same(scene.ram, source, destination)),
            fault: self.faults.first().copied(),
            faults: self.fault_count,
            faults_fit,
            interrupts: scene.interrupts.saturating_sub(trial.interrupts_before),
            foreign_interrupts: scene
                .foreign_interrupts
                .saturating_sub(trial.foreign_before),
            canaries_whole: scene.image_whole && scene.ram.canaries().iter().all(Canary::is_whole),
            registers_same: scene.registers == trial.registers_before,
            prediction: trial.prediction,
        })
    }
}

fn pages(places: &Places) -> usize {
    let mut pages: ArrayVec<Gpa, 2> = ArrayVec::new();
    for stretch in &places.0 {
        let page = iommu_core::Address::align_down(stretch.at, iommu_core::PAGE_SHIFT);
        if !pages.contains(&page) {
            // As many as there are stretches.
            let _ = pages.try_push(page);
        }
    }
    pages.len()
}

/// Whether both hold the same bytes now.
fn same(ram: &GuestRam, one: &Places, other: &Places) -> bool {
    let bytes = |places: &Places| {
        let ram_of = places.0.clone();
        ram_of.into_iter().flat_map(move |stretch| {
            (0..stretch.bytes as u64).map(move |offset| {
                let mut byte = [0];
                let at = Gpa::new(stretch.at.as_u64() + offset);
                ram.copy_in(at, &mut byte).map(|()| byte)
            })
        })
    };
    bytes(one).eq(bytes(other))
}
