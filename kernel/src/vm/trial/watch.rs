//! The trial that is under way.

use super::notes::FaultNotes;
use super::predict::{Expected, Places, Prediction};
use super::snapshot::{Change, Snapshot};
use super::walk::Refusal;
use super::witness::{Witness, fits};
use crate::vm::nested::NestedTables;
use crate::vm::ram::{Canary, GuestRam};
use arrayvec::ArrayVec;
use hypervisor_abi::{Announce, Label};
use iommu_abi::Errno;
use iommu_core::{DeviceId, Gpa, GuestMemory, IrqMessage};

/// What is around a guest that no trial may change, and what it may aim at.
pub trait Surroundings: Sync {
    /// Takes all fault records that hardware holds and hands them to their guests. On return
    /// those that another CPU had taken before have been handed over too.
    fn drain_faults(&self);
    /// How often units have said that they lost faults.
    fn faults_lost(&self) -> u64;
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
    lost_before: u64,
}

/// What the hypervisor keeps to judge trials by.
#[derive(Default)]
pub struct Watch {
    snapshot: Option<Snapshot>,
    trial: Option<Trial>,
}

/// What a trial looks at.
pub(in crate::vm) struct Scene<'v> {
    pub(in crate::vm) ram: &'v GuestRam,
    pub(in crate::vm) nested: &'v NestedTables,
    /// Where its devices' faults are noted.
    pub(in crate::vm) notes: &'v FaultNotes,
    /// How often units have lost faults so far.
    pub(in crate::vm) faults_lost: u64,
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
        let foreign_interrupt = matches!(
            prediction.expected,
            Expected::Refused {
                refusal: Refusal::ForeignInterrupt,
                ..
            }
        );
        scene.notes.restart(foreign_interrupt);
        self.trial = Some(Trial {
            id: announced.id,
            device,
            prediction,
            interrupts_before: scene.interrupts,
            foreign_before: scene.foreign_interrupts,
            registers_before: scene.registers,
            lost_before: scene.faults_lost,
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
        let noted = scene.notes.noted();
        let mut faults = noted.records.iter();
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
            fault: noted.records.first().copied(),
            faults: noted.count,
            faults_fit,
            faults_lost: scene.faults_lost.saturating_sub(trial.lost_before),
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

#[cfg(test)]
mod tests {
    use super::super::witness::Verdict;
    use super::*;
    use crate::vm::Walkers;
    use core::sync::atomic::Ordering;
    use hypervisor_abi::Deed;
    use iommu_core::{
        Access, FaultKind, FaultReason, FaultRecord, Frame, Iova, Nanoseconds, Segment, SourceId,
    };
    use test_platform::TestPlatform;

    const EDU: DeviceId = DeviceId::new(Segment(0), SourceId::from_bits(0x20));
    const OTHER: DeviceId = DeviceId::new(Segment(0), SourceId::from_bits(0x28));
    /// Where the table lies: root, three tables below, then pages.
    const ROOT: u64 = 0x1000;
    const SOURCE: u64 = 0x7000_0000_5000;
    const DESTINATION: u64 = 0x7000_0000_6000;
    const UNMAPPED: u64 = 0x7000_0000_7000;

    struct Stage {
        ram: GuestRam,
        nested: NestedTables,
        watch: Watch,
        interrupts: u64,
        foreign_interrupts: u64,
        registers: u64,
        notes: FaultNotes,
        faults_lost: u64,
        _platform: &'static TestPlatform,
    }

    impl Stage {
        /// A guest whose table leads from `SOURCE` to page 5 and from `DESTINATION` to
        /// page 6, each with bytes of its own.
        fn new() -> Self {
            let platform: &'static TestPlatform =
                std::boxed::Box::leak(std::boxed::Box::new(TestPlatform::new(128)));
            let mut random = fastrand::Rng::with_seed(9);
            let ram = GuestRam::new(platform, Gpa::new(0), 16, &mut random).unwrap();
            let nested = NestedTables::new(platform, Walkers::Cpus).unwrap();
            for (at, entry) in [
                (ROOT + 0x700, 0x2007),
                (0x2000, 0x3007),
                (0x3000, 0x4007),
                (0x4028, 0x5007),
                (0x4030, 0x6007),
            ] {
                ram.write_once(Gpa::new(at), entry).unwrap();
            }
            ram.copy_out(Gpa::new(0x5000), &[0x55; 4096]).unwrap();
            ram.copy_out(Gpa::new(0x6000), &[0x66; 4096]).unwrap();
            Self {
                ram,
                nested,
                watch: Watch::default(),
                interrupts: 3,
                foreign_interrupts: 4,
                registers: 5,
                notes: FaultNotes::new(platform),
                faults_lost: 2,
                _platform: platform,
            }
        }

        fn scene(&self) -> Scene<'_> {
            Scene {
                ram: &self.ram,
                nested: &self.nested,
                notes: &self.notes,
                faults_lost: self.faults_lost,
                registers: self.registers,
                host_bits: 40,
                interrupts: self.interrupts,
                foreign_interrupts: self.foreign_interrupts,
                image_whole: true,
            }
        }

        fn begin(&mut self, announced: Announce) {
            let mut watch = core::mem::take(&mut self.watch);
            watch
                .begin(&self.scene(), &announced, EDU, Some(0xfee0_0038))
                .unwrap();
            self.watch = watch;
        }

        fn end(&mut self) -> Witness {
            let mut watch = core::mem::take(&mut self.watch);
            let witness = watch.end(&self.scene()).unwrap();
            self.watch = watch;
            witness
        }

        fn frame(&self, page: usize) -> &Frame {
            self.ram.pages().nth(page).unwrap().1
        }

        /// What a device does: nobody takes note of it.
        fn device_writes(&self, page: usize, byte: u8) {
            for cell in self.frame(page).cells() {
                cell.store(u64::from_le_bytes([byte; 8]), Ordering::Relaxed);
            }
        }

        fn fault(&mut self, device: DeviceId, address: u64, access: Access, reason: FaultReason) {
            self.notes.note(&FaultRecord {
                unit: 0,
                device,
                pasid: None,
                kind: FaultKind::Dma {
                    address: Iova::new(address),
                    access,
                },
                reason,
                privileged: false,
                at: Nanoseconds(0),
            });
        }
    }

    fn copy() -> Announce {
        Announce {
            deed: Deed::Copy as u32,
            root: ROOT,
            source: SOURCE,
            destination: DESTINATION,
            bytes: 4096,
            ..Announce::new()
        }
    }

    fn write_to(address: u64) -> Announce {
        Announce {
            deed: Deed::Access as u32,
            access: 2,
            root: ROOT,
            destination: address,
            bytes: 8,
            ..Announce::new()
        }
    }

    #[test]
    fn a_copy_that_was_done_holds_and_one_that_was_not_does_not() {
        let mut stage = Stage::new();
        stage.begin(copy());
        stage.device_writes(6, 0x55);
        assert!(stage.end().holds());
        stage.begin(copy());
        assert!(!stage.end().holds(), "nothing was written");
    }

    #[test]
    fn a_copy_of_other_bytes_does_not_hold() {
        let mut stage = Stage::new();
        stage.begin(copy());
        stage.device_writes(6, 0x54);
        let witness = stage.end();
        assert!(!witness.bytes_match && !witness.holds());
    }

    #[test]
    fn a_copy_that_the_cpu_made_does_not_hold() {
        let mut stage = Stage::new();
        stage.begin(copy());
        stage.ram.copy_out(Gpa::new(0x6000), &[0x55; 4096]).unwrap();
        let witness = stage.end();
        assert!(witness.bytes_match && !witness.holds());
    }

    #[test]
    fn a_page_changed_elsewhere_is_a_stray_even_between_trials() {
        let mut stage = Stage::new();
        stage.begin(copy());
        stage.device_writes(6, 0x55);
        stage.device_writes(9, 1);
        assert_eq!(stage.end().strays, 1);
        stage.device_writes(9, 2);
        stage.begin(Announce::new());
        let witness = stage.end();
        assert!(witness.strays == 1 && !witness.holds());
        stage.begin(Announce::new());
        assert!(stage.end().holds());
    }

    #[test]
    fn a_refusal_holds_only_with_the_fault_that_it_must_give() {
        let reason = FaultReason::FIRST_STAGE_NOT_PRESENT;
        let refused = |fault: Option<(DeviceId, u64, Access, FaultReason)>| {
            let mut stage = Stage::new();
            stage.begin(write_to(UNMAPPED + 8));
            if let Some((device, address, access, reason)) = fault {
                stage.fault(device, address, access, reason);
            }
            stage.end().holds()
        };
        assert!(refused(Some((EDU, UNMAPPED, Access::WRITE, reason))));
        assert!(!refused(None), "no fault");
        assert!(!refused(Some((OTHER, UNMAPPED, Access::WRITE, reason))));
        assert!(!refused(Some((EDU, DESTINATION, Access::WRITE, reason))));
        assert!(!refused(Some((EDU, UNMAPPED, Access::READ, reason))));
        let blocked = FaultReason::CONTEXT_NOT_PRESENT;
        assert!(!refused(Some((EDU, UNMAPPED, Access::WRITE, blocked))));
    }

    #[test]
    fn a_refusal_whose_fault_a_unit_may_have_lost_proves_nothing_and_one_that_wrote_fails() {
        let refused = |lost: u64, wrote: bool| {
            let mut stage = Stage::new();
            stage.begin(write_to(UNMAPPED));
            stage.faults_lost += lost;
            if wrote {
                stage.device_writes(7, 1);
            }
            stage.end().verdict()
        };
        assert_eq!(refused(1, false), Verdict::Void);
        assert_eq!(refused(0, false), Verdict::Fail);
        assert_eq!(refused(1, true), Verdict::Fail);
        let mut stage = Stage::new();
        stage.begin(write_to(UNMAPPED));
        stage.faults_lost += 1;
        let reason = FaultReason::FIRST_STAGE_NOT_PRESENT;
        stage.fault(EDU, UNMAPPED, Access::WRITE, reason);
        assert_eq!(stage.end().verdict(), Verdict::Pass);
        let mut stage = Stage::new();
        stage.begin(copy());
        stage.faults_lost += 1;
        assert_eq!(stage.end().verdict(), Verdict::Fail, "nothing was written");
    }

    #[test]
    fn a_refused_write_that_went_through_does_not_hold() {
        let mut stage = Stage::new();
        stage.begin(write_to(UNMAPPED));
        let reason = FaultReason::FIRST_STAGE_NOT_PRESENT;
        stage.fault(EDU, UNMAPPED, Access::WRITE, reason);
        stage.device_writes(7, 1);
        assert!(!stage.end().holds());
    }

    #[test]
    fn a_permitted_write_that_faulted_does_not_hold() {
        let mut stage = Stage::new();
        stage.begin(write_to(DESTINATION));
        stage.device_writes(6, 1);
        let reason = FaultReason::WRITE_DENIED;
        stage.fault(EDU, DESTINATION, Access::WRITE, reason);
        assert!(!stage.end().holds());
    }

    #[test]
    fn an_interrupt_must_arrive_and_nobody_else_s_may() {
        let interrupt = Announce {
            deed: Deed::Interrupt as u32,
            ..Announce::new()
        };
        let mut stage = Stage::new();
        stage.begin(interrupt);
        assert!(!stage.end().holds());
        stage.begin(interrupt);
        stage.interrupts += 1;
        assert!(stage.end().holds());
        stage.begin(interrupt);
        stage.interrupts += 1;
        stage.foreign_interrupts += 1;
        assert!(!stage.end().holds());
    }

    #[test]
    fn a_message_that_is_not_the_device_s_own_must_be_refused() {
        let mut stage = Stage::new();
        let interrupt_fault = |stage: &mut Stage, device| {
            stage.notes.note(&FaultRecord {
                unit: 0,
                device,
                pasid: None,
                kind: FaultKind::Interrupt { index: 3 },
                reason: FaultReason::INTERRUPT_SOURCE,
                privileged: false,
                at: Nanoseconds(0),
            });
        };
        stage.begin(write_to(0xfee0_0018));
        interrupt_fault(&mut stage, EDU);
        assert!(stage.end().holds());
        stage.begin(write_to(0xfee0_0018));
        assert!(!stage.end().holds());
        stage.begin(write_to(0xfee0_0018));
        interrupt_fault(&mut stage, OTHER);
        assert!(!stage.end().holds());
    }

    #[test]
    fn a_touched_canary_or_register_fails_any_trial() {
        let mut stage = Stage::new();
        stage.begin(Announce::new());
        stage.registers += 1;
        assert!(!stage.end().holds());
        stage.begin(Announce::new());
        let canary = stage.ram.canaries().first().unwrap();
        canary.touch();
        assert!(!stage.end().holds());
    }

    #[test]
    fn there_is_one_trial_at_a_time() {
        let mut stage = Stage::new();
        stage.begin(copy());
        let mut watch = core::mem::take(&mut stage.watch);
        let scene = stage.scene();
        let again = watch.begin(&scene, &copy(), EDU, None);
        assert_eq!(again, Err(TrialError::Busy));
        assert!(watch.end(&scene).is_ok());
        assert_eq!(watch.end(&scene).err(), Some(TrialError::None));
    }

    #[test]
    fn an_announcement_that_is_not_understood_is_refused() {
        let stage = Stage::new();
        let mut watch = Watch::default();
        for bad in [
            Announce { deed: 9, ..copy() },
            Announce {
                bytes: 4097,
                ..copy()
            },
            Announce {
                access: 3,
                ..write_to(0)
            },
        ] {
            let begun = watch.begin(&stage.scene(), &bad, EDU, None);
            assert_eq!(begun, Err(TrialError::Bad(Errno::EINVAL)));
        }
    }
}
