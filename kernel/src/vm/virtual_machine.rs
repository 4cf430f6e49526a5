//! A guest as a whole.

use super::calls::{IommuCalls, Mediated, Voice};
use super::image::{self, Entry, ImageError};
use super::interrupts::{Kick, VirtualInterrupts};
use super::nested::{Kind, NestedError, NestedTables, Walkers};
use super::passthrough::PassthroughDevice;
use super::ports::ConfigBus;
use super::ram::GuestRam;
use super::trial::{FaultNotes, Scene, Surroundings, TrialError, Watch};
use alloc::boxed::Box;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hypervisor_abi::Start;
use iommu_abi::Errno;
use iommu_core::{Gpa, Hpa, OutOfFrames, PAGE_SIZE, Platform, SourceId};

/// Devices that a guest can have.
const DEVICES: usize = 4;

/// What a guest is made of.
pub struct Setup<'a> {
    /// Memory, time and locks.
    pub platform: &'static dyn Platform,
    /// An ELF file to be put into the guest's memory; none if the program is the kernel's.
    pub program: Option<&'a [u8]>,
    /// Memory, in pages.
    pub pages: usize,
    /// All random choices follow from it: the order of pages, and what the guest is given.
    pub seed: u64,
    /// Ticks of the time-stamp counter in a millisecond.
    pub tsc_per_ms: u64,
    /// What the program is told to do.
    pub parameter: u64,
    /// Who will walk the tables that its CPUs use.
    pub walkers: Walkers,
    /// The IOMMU interface.
    pub iommu: Arc<dyn IommuCalls>,
    /// What trials are judged by; without, there are none.
    pub surroundings: Option<&'static dyn Surroundings>,
    /// Where what the guest says goes.
    pub voice: Arc<dyn Voice>,
    /// Makes a CPU that runs the guest look at what has come.
    pub kick: Kick,
}

/// Why a guest could not be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupError {
    /// No memory for the guest.
    OutOfFrames(OutOfFrames),
    /// The program cannot be loaded.
    Image(ImageError),
    /// A page could not be mapped for the guest's CPU.
    Nested(NestedError),
    /// The guest has as many devices as it can have.
    TooManyDevices,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFrames(error) => write!(f, "{error}"),
            Self::Image(error) => write!(f, "the program cannot be loaded: {error}"),
            Self::Nested(error) => write!(f, "nested page tables: {error:?}"),
            Self::TooManyDevices => f.write_str("too many devices"),
        }
    }
}

impl From<OutOfFrames> for SetupError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

impl From<ImageError> for SetupError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl From<NestedError> for SetupError {
    fn from(error: NestedError) -> Self {
        Self::Nested(error)
    }
}

/// A guest: memory, devices, interrupts. What runs it is a [`Vcpu`](crate::vcpu::Vcpu).
pub struct Vm {
    platform: &'static dyn Platform,
    ram: Arc<GuestRam>,
    nested: NestedTables,
    interrupts: Arc<VirtualInterrupts>,
    devices: ArrayVec<PassthroughDevice, DEVICES>,
    mediated: Option<Box<dyn Mediated>>,
    start: Start,
    entry: Option<Entry>,
    iommu: Arc<dyn IommuCalls>,
    surroundings: Option<&'static dyn Surroundings>,
    voice: Arc<dyn Voice>,
    /// Of the guest's own CPU; looking at all of its memory takes long.
    watch: spin::Mutex<Watch>,
    notes: Arc<FaultNotes>,
    hypercalls: AtomicU64,
    flush: AtomicBool,
}

impl Vm {
    /// Where memory begins, in the guest: so high that addresses of a small host are not
    /// addresses of the guest by chance.
    pub const MEMORY: Gpa = Gpa::new(0x4000_0000);
    /// Where BARs are placed from on, in the guest.
    pub const FIRST_BAR: u64 = 0xc000_0000;

    /// A guest without devices, its program loaded.
    pub fn new(setup: &Setup) -> Result<Self, SetupError> {
        let mut random = fastrand::Rng::with_seed(setup.seed);
        let platform = setup.platform;
        let ram = Arc::new(GuestRam::new(
            platform,
            Self::MEMORY,
            setup.pages,
            &mut random,
        )?);
        let mut nested = match NestedTables::new(platform, setup.walkers) {
            Ok(nested) => nested,
            Err(error) => {
                give_back(platform, ram, None);
                return Err(error.into());
            }
        };
        let loaded = fill(setup, &ram, &mut nested, &mut random);
        let (entry, start) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                give_back(platform, ram, Some(nested));
                return Err(error);
            }
        };
        Ok(Self {
            platform,
            ram,
            nested,
            interrupts: Arc::new(VirtualInterrupts::new(setup.kick)),
            devices: ArrayVec::new(),
            mediated: None,
            start,
            entry,
            iommu: setup.iommu.clone(),
            surroundings: setup.surroundings,
            voice: setup.voice.clone(),
            watch: spin::Mutex::new(Watch::default()),
            notes: Arc::new(FaultNotes::new(platform)),
            hypercalls: AtomicU64::new(0),
            flush: AtomicBool::new(true),
        })
    }

    /// Gives the guest a device whose registers stay with the hypervisor.
    pub fn add_mediated(
        &mut self,
        device: PassthroughDevice,
        registers: Box<dyn Mediated>,
    ) -> Result<(), SetupError> {
        self.devices
            .try_push(device)
            .map_err(|_| SetupError::TooManyDevices)?;
        self.mediated = Some(registers);
        Ok(())
    }

    /// Gives the guest a device: its registers become reachable.
    pub fn add_device(&mut self, device: PassthroughDevice) -> Result<(), SetupError> {
        if self.devices.is_full() {
            return Err(SetupError::TooManyDevices);
        }
        for bar in device.config().bars() {
            for offset in (0..bar.bytes).step_by(PAGE_SIZE as usize) {
                let gpa = Gpa::new(bar.gpa.as_u64() + offset);
                let hpa = Hpa::new(bar.hpa.as_u64() + offset);
                self.nested.map(self.platform, gpa, hpa, Kind::Registers)?;
            }
        }
        self.devices.push(device);
        Ok(())
    }

    /// The guest's memory.
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    /// What its CPU's addresses lead to.
    pub fn nested(&self) -> &NestedTables {
        &self.nested
    }

    /// Interrupts that wait for it.
    pub fn interrupts(&self) -> &Arc<VirtualInterrupts> {
        &self.interrupts
    }

    /// Its devices.
    pub fn devices(&self) -> &[PassthroughDevice] {
        &self.devices
    }

    /// The device that the guest finds at `virtual_id`.
    pub fn device(&self, virtual_id: SourceId) -> Option<&PassthroughDevice> {
        let mut devices = self.devices.iter();
        devices.find(|device| device.virtual_id() == virtual_id)
    }

    /// What it is told at its start.
    pub fn start(&self) -> Start {
        self.start
    }

    /// How its program starts, if it has one.
    pub fn entry(&self) -> Option<Entry> {
        self.entry
    }

    /// Hypercalls that it made.
    pub fn hypercalls(&self) -> u64 {
        self.hypercalls.load(Ordering::Relaxed)
    }

    pub(super) fn count_hypercall(&self) {
        self.hypercalls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn mediated(&self) -> Option<&dyn Mediated> {
        self.mediated.as_deref()
    }

    pub(super) fn iommu(&self) -> &dyn IommuCalls {
        &*self.iommu
    }

    /// To be called by whoever runs the guest, whenever the host's timer took the CPU back.
    pub fn tend(&self) {
        self.iommu.tend();
    }

    pub(super) fn voice(&self) -> &dyn Voice {
        &*self.voice
    }

    /// What trials are judged by. `ENOTTY` for a guest that is not there to try things.
    pub(super) fn surroundings(&self) -> Result<&'static dyn Surroundings, Errno> {
        self.surroundings.ok_or(Errno::ENOTTY)
    }

    /// Where faults of the guest's devices are noted.
    pub fn notes(&self) -> &Arc<FaultNotes> {
        &self.notes
    }

    /// Runs something on the trial.
    pub(super) fn watching<T>(
        &self,
        surroundings: &dyn Surroundings,
        act: impl FnOnce(&mut Watch, &Scene) -> Result<T, TrialError>,
    ) -> Result<T, Errno> {
        let scene = Scene {
            ram: &self.ram,
            nested: &self.nested,
            notes: &self.notes,
            faults_lost: surroundings.faults_lost(),
            registers: surroundings.unit_registers(),
            host_bits: surroundings.host_bits(),
            interrupts: self.interrupts_of_devices(),
            foreign_interrupts: surroundings.foreign_interrupts(),
            image_whole: surroundings.is_image_whole(),
        };
        let result = act(&mut self.watch.lock(), &scene);
        // Dirty bits were cleared, so the CPU must not remember them as set.
        self.flush.store(true, Ordering::Relaxed);
        Ok(result?)
    }

    fn interrupts_of_devices(&self) -> u64 {
        let devices = self.devices.iter();
        devices.map(|device| device.line().passed_on()).sum()
    }

    /// Whether the CPU's translations of the guest must be flushed before it runs again.
    pub fn take_flush(&self) -> bool {
        self.flush.swap(false, Ordering::Relaxed)
    }

    /// Gives the guest's memory back. Its devices are blocked, its CPUs have stopped, and
    /// nobody else holds its memory any more; if somebody does, it is leaked.
    pub fn release(self) {
        give_back(self.platform, self.ram, Some(self.nested));
    }
}

/// Maps the guest's memory for its CPU, and loads its program.
fn fill(
    setup: &Setup,
    ram: &GuestRam,
    nested: &mut NestedTables,
    random: &mut fastrand::Rng,
) -> Result<(Option<Entry>, Start), SetupError> {
    for (gpa, frame) in ram.pages() {
        nested.map(setup.platform, gpa, frame.hpa(), Kind::Memory)?;
    }
    let wanted = Start {
        magic: 0,
        memory_base: 0,
        memory_bytes: 0,
        free_from: 0,
        seed: random.u64(..),
        tsc_per_ms: setup.tsc_per_ms,
        parameter: setup.parameter,
    };
    Ok(match setup.program {
        Some(file) => {
            let (entry, start) = image::load(ram, file, wanted)?;
            (Some(entry), start)
        }
        None => (None, image::without_program(ram, wanted)?),
    })
}

/// Gives memory back. If somebody else still holds the guest's, it is leaked.
fn give_back(platform: &dyn Platform, ram: Arc<GuestRam>, nested: Option<NestedTables>) {
    if let Some(nested) = nested {
        nested.release(platform);
    }
    if let Some(ram) = Arc::into_inner(ram) {
        ram.release(platform);
    }
}

impl ConfigBus for Vm {
    fn read(&self, function: SourceId, offset: u8) -> u32 {
        self.device(function)
            .map_or(u32::MAX, |device| device.config().read(offset))
    }

    fn write(&self, function: SourceId, offset: u8, value: u32) {
        if let Some(device) = self.device(function) {
            device.config().write(offset, value);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::vm::trial::Witness;
    use hypervisor_abi::Outcome;
    use iommu_core::IrqMessage;
    use std::boxed::Box;
    use std::string::{String, ToString};
    use std::sync::Mutex as StdMutex;
    use std::vec::Vec;
    use test_platform::TestPlatform;

    #[derive(Clone, PartialEq, Eq, Debug)]
    pub(in crate::vm) enum Heard {
        Claim(Outcome, String, String),
        Log(usize),
        Witness(String),
    }

    #[derive(Default)]
    pub(in crate::vm) struct Ear(StdMutex<Vec<Heard>>);

    impl Ear {
        pub(in crate::vm) fn heard(&self) -> Vec<Heard> {
            self.0.lock().unwrap().clone()
        }

        fn hear(&self, heard: Heard) {
            self.0.lock().unwrap().push(heard);
        }
    }

    impl Voice for Ear {
        fn log(&self, frames: &[u8], _lost: u32) {
            self.hear(Heard::Log(frames.len()));
        }

        fn claim(&self, outcome: Outcome, id: &str, text: &str) {
            self.hear(Heard::Claim(outcome, id.to_string(), text.to_string()));
        }

        fn witness(&self, witness: &Witness) {
            self.hear(Heard::Witness(witness.to_string()));
        }
    }

    struct Echo;

    impl IommuCalls for Echo {
        fn call(&self, operation: u64, argument: Gpa) -> Option<i64> {
            Some(operation.wrapping_add(argument.as_u64()).cast_signed())
        }

        fn tend(&self) {}
    }

    struct Nothing;

    impl Surroundings for Nothing {
        fn drain_faults(&self) {}
        fn faults_lost(&self) -> u64 {
            0
        }
        fn unit_registers(&self) -> u64 {
            0
        }
        fn unit_base(&self) -> Option<Hpa> {
            None
        }
        fn image(&self) -> Option<Hpa> {
            None
        }
        fn foreign_message(&self) -> Option<IrqMessage> {
            None
        }
        fn host_bits(&self) -> u32 {
            40
        }
        fn foreign_interrupts(&self) -> u64 {
            0
        }
        fn is_image_whole(&self) -> bool {
            true
        }
    }

    pub(in crate::vm) fn small_vm() -> (Vm, Arc<Ear>) {
        let voice = Arc::new(Ear::default());
        let vm = Vm::new(&Setup {
            platform: Box::leak(Box::new(TestPlatform::new(64))),
            program: None,
            pages: 16,
            seed: 1,
            tsc_per_ms: 1,
            parameter: 0,
            walkers: Walkers::Cpus,
            iommu: Arc::new(Echo),
            surroundings: Some(&Nothing),
            voice: voice.clone(),
            kick: |_| {},
        });
        (vm.unwrap(), voice)
    }

    #[test]
    fn a_guest_that_cannot_be_made_leaves_no_memory_behind() {
        let platform: &'static TestPlatform = Box::leak(Box::new(TestPlatform::new(64)));
        let make = || {
            Vm::new(&Setup {
                platform,
                program: None,
                pages: 16,
                seed: 1,
                tsc_per_ms: 1,
                parameter: 0,
                walkers: Walkers::Cpus,
                iommu: Arc::new(Echo),
                surroundings: Some(&Nothing),
                voice: Arc::new(Ear::default()),
                kick: |_| {},
            })
        };
        let before = platform.allocations();
        make().unwrap().release();
        let needed = platform.allocations() - before;
        assert!(needed > 16);
        assert_eq!(platform.outstanding(), 0);
        for n in 1..=needed {
            platform.fail_allocation(n);
            assert!(make().is_err(), "allocation {n}");
            assert_eq!(platform.outstanding(), 0, "allocation {n}");
        }
        // One more, and nothing fails.
        make().unwrap().release();
        assert_eq!(platform.outstanding(), 0);
    }

    #[test]
    fn the_cpu_sees_the_same_pages_as_the_hypervisor() {
        let (vm, _) = small_vm();
        for (gpa, frame) in vm.ram().pages() {
            assert_eq!(vm.nested().translate(gpa), Some(frame.hpa()));
        }
        assert_eq!(vm.nested().translate(Gpa::new(vm.ram().end())), None);
    }
}
