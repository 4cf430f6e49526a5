//! Making a guest, running it, and taking everything back.

use super::faults::Faults;
use super::lines::Interrupt;
use super::meter::Meter;
use super::policy::{Caller, Policy, policy};
use super::seats::Seat;
use super::surroundings::MachineAround;
use super::voice::{StreamVoice, Trials};
use super::{GuestError, assign};
use crate::archive::Archive;
use crate::cpu::{self, apic};
use crate::host::Host;
use crate::platform::KernelPlatform;
use crate::remapping::{self, Driver};
use crate::time;
use crate::turns::{self, Task};
use crate::vcpu::direct::{self, DirectVcpu};
use crate::vcpu::svm::SvmVcpu;
use crate::vcpu::{Ending, ExitCounters, Turn, Vcpu};
use crate::vm::{Setup, Surroundings, VirtualInterrupts, Vm, Walkers};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use core::fmt;
use iommu::{Progress, Quota};
use iommu_core::{DeviceId, LeafSizes, Nanoseconds, TableFormat, VmId};
use spin::Once;
use vtd::SharedTables;

/// Memory of a guest, in pages, unless it is told otherwise.
const PAGES: usize = 768;
/// Devices that a guest is given.
const DEVICES: usize = 4;

static PLATFORM: KernelPlatform = KernelPlatform;

/// How a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum BackEnd {
    /// As a virtual machine, by SVM.
    Svm,
    /// As a function of the kernel's.
    Direct,
}

impl BackEnd {
    /// SVM where the CPU has it with nested paging, else direct.
    pub fn best() -> Self {
        let cpuid = raw_cpuid::CpuId::new();
        let nested = cpuid
            .get_svm_info()
            .is_some_and(|svm| svm.has_nested_paging());
        match cpu::features().svm && nested {
            true => Self::Svm,
            false => Self::Direct,
        }
    }
}

/// Who has the registers of a guest's device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Access {
    /// The guest.
    Whole,
    /// The hypervisor, who programs them as the guest asks: for an `edu` device, which harms
    /// its emulator where it is told to.
    Mediated,
}

/// What guest shall be made.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Name of the program: `guest/NAME.elf` in the boot module.
    pub program: &'a str,
    /// What stands before its claims in the report, to tell guests apart; may be empty.
    pub label: &'a str,
    /// How it runs.
    pub back_end: BackEnd,
    /// All random choices follow from it.
    pub seed: u64,
    /// What the program shall do, for programs that can do several things.
    pub parameter: u64,
    /// Its memory, in pages.
    pub pages: usize,
    /// The device that it gets.
    pub device: DeviceId,
    /// Who has the device's registers.
    pub access: Access,
    /// Its device may use the tables by which its CPU sees memory (`SHARED`). For guests whose
    /// devices' registers stay with the hypervisor, since those do not lie in the tables; and
    /// nobody can tell then whether a CPU or a device wrote to a page, so it has no trials.
    pub shares: bool,
    /// The hypervisor looks at its rings by itself, between turns.
    pub polls: bool,
}

impl<'a> Order<'a> {
    /// A virtual machine with a device of its own.
    pub const fn new(program: &'a str, seed: u64, device: DeviceId) -> Self {
        Self {
            program,
            label: "",
            back_end: BackEnd::Svm,
            seed,
            parameter: 0,
            pages: PAGES,
            device,
            access: Access::Whole,
            shares: false,
            polls: true,
        }
    }

    fn walkers(&self) -> Walkers {
        match (self.shares, self.access) {
            (true, Access::Mediated) => Walkers::CpusAndDevices,
            _ => Walkers::Cpus,
        }
    }
}

enum Cpu {
    Svm(Box<SvmVcpu>),
    Direct(DirectVcpu),
}

impl Cpu {
    fn new(order: &Order, id: VmId) -> Result<Self, GuestError> {
        match order.back_end {
            BackEnd::Svm => {
                let cpu = SvmVcpu::new(&PLATFORM, id.0).map_err(GuestError::Svm)?;
                Ok(Self::Svm(Box::new(cpu)))
            }
            BackEnd::Direct => {
                let program = direct::program(order.program).ok_or(GuestError::NotDirect)?;
                Ok(Self::Direct(DirectVcpu::new(program)))
            }
        }
    }

    fn release(self) {
        match self {
            Self::Svm(cpu) => cpu.release(),
            Self::Direct(_) => {}
        }
    }

    fn vcpu(&self) -> &dyn Vcpu {
        match self {
            Self::Svm(cpu) => &**cpu,
            Self::Direct(cpu) => cpu,
        }
    }

    fn vcpu_mut(&mut self) -> &mut dyn Vcpu {
        match self {
            Self::Svm(cpu) => &mut **cpu,
            Self::Direct(cpu) => cpu,
        }
    }
}

/// A guest that has its device and has not started yet, runs, or has ended.
///
/// [`end`](Self::end) takes everything back; one that is dropped keeps its memory and its
/// device for ever.
pub struct Guest {
    seat: Seat,
    vm: Vm,
    policy: &'static Policy,
    faults: &'static Faults,
    driver: &'static Driver,
    voice: Arc<StreamVoice>,
    meter: Arc<Meter>,
    cpu: Cpu,
    interrupts: ArrayVec<Interrupt, DEVICES>,
    /// Policy knows it.
    known: bool,
    limit: Nanoseconds,
    /// When it has no time left, once it has begun.
    end: Option<Nanoseconds>,
    ending: Option<Ending>,
}

/// Makes a guest.
pub fn start(host: &Host, archive: &Archive, order: &Order) -> Result<Guest, GuestError> {
    let voice = StreamVoice::new(order.program, order.label, order.access == Access::Whole);
    let voice = Arc::new(voice.map_err(|_| GuestError::OutOfStreams)?);
    start_again(host, archive, order, voice)
}

/// Makes a guest that speaks with the voice of one that is gone.
pub(super) fn start_again(
    host: &Host,
    archive: &Archive,
    order: &Order,
    voice: Arc<StreamVoice>,
) -> Result<Guest, GuestError> {
    let mut guest = Guest::without_device(host, archive, order, voice)?;
    match guest.furnish(host, order) {
        Ok(()) => Ok(guest),
        Err(error) => {
            // The reason is the first error, and what could not be taken back is told by the
            // driver.
            let _ = guest.end();
            Err(error)
        }
    }
}

/// The tables of a guest's CPU, if they are kept for devices too: of the first stage's format
/// (AMD's nested paging is the CPU's own), of pages of 4 KiB that stay where they are as long
/// as the guest exists.
fn shared_tables(vm: &Vm, host_bits: u8) -> Option<SharedTables> {
    if vm.nested().walkers() == Walkers::Cpus {
        return None;
    }
    Some(SharedTables {
        format: TableFormat::FirstStage4,
        root: vm.nested().root()?,
        leaves: LeafSizes {
            mib2: false,
            gib1: false,
        },
        // Of the last byte.
        guest_bits: (u64::BITS - (vm.ram().end() - 1).leading_zeros()) as u8,
        host_bits,
        written_back: true,
        pinned: true,
        flags_set: true,
    })
}

/// The sink of faults, made at the first call.
fn faults(policy: &'static Policy) -> &'static Faults {
    static FAULTS: Once<Faults> = Once::new();
    let faults = FAULTS.call_once(|| Faults::new(policy));
    remapping::faults::deliver_to(faults);
    faults
}

impl Guest {
    /// A guest whose device may be given to it, and is not yet.
    fn without_device(
        host: &Host,
        archive: &Archive,
        order: &Order,
        voice: Arc<StreamVoice>,
    ) -> Result<Self, GuestError> {
        let function = host.bus.topology.function(order.device);
        let function = function.ok_or(GuestError::NoDevice)?;
        let refused = |why| GuestError::Refused {
            device: order.device,
            why,
        };
        host.remapping.may_pass_through(function).map_err(refused)?;
        let policy = policy(host.bus, host.remapping, order.seed)?;
        let program = match order.back_end {
            BackEnd::Svm => Some(
                archive
                    .file(&format!("guest/{}.elf", order.program))
                    .ok_or(GuestError::NoProgram)?,
            ),
            BackEnd::Direct => None,
        };
        let walkers = order.walkers();
        let surroundings: Option<&dyn Surroundings> = match walkers {
            Walkers::Cpus => Some(MachineAround::shared(host)?),
            Walkers::CpusAndDevices => None,
        };
        let seat = Seat::take().ok_or(GuestError::TooManyGuests)?;
        let meter = Arc::new(Meter::new());
        let cpu = Cpu::new(order, seat.id())?;
        let vm = Vm::new(&Setup {
            platform: &PLATFORM,
            program,
            pages: order.pages,
            seed: order.seed,
            parameter: order.parameter,
            tsc_per_ms: time::source().map_or(1, |(_, hertz)| hertz / 1000),
            iommu: Arc::new(Caller {
                policy,
                vm: seat.id(),
                meter: meter.clone(),
                progress: spin::Mutex::new(Progress::default()),
            }),
            walkers,
            surroundings,
            voice: voice.clone(),
            kick: |cpu| {
                // One that is not sent is made up for at the end of the CPU's slice of time.
                let _ = cpu::kick(cpu);
            },
        });
        let vm = match vm {
            Ok(vm) => vm,
            Err(error) => {
                cpu.release();
                return Err(GuestError::Setup(error));
            }
        };
        Ok(Self {
            seat,
            vm,
            policy,
            faults: faults(policy),
            driver: &host.remapping.driver,
            voice,
            meter,
            cpu,
            interrupts: ArrayVec::new(),
            known: false,
            limit: Nanoseconds(u64::MAX),
            end: None,
            ending: None,
        })
    }

    /// Makes policy know it, and gives it its device.
    fn furnish(&mut self, host: &Host, order: &Order) -> Result<(), GuestError> {
        let id = self.seat.id();
        let ram = self.vm.ram().clone();
        self.policy
            .create_guest(id, Quota::default(), ram)
            .map_err(GuestError::Iommu)?;
        self.known = true;
        let host_side = self.policy.host();
        let tables = shared_tables(&self.vm, host.remapping.host_bits);
        host_side.introduce(id, self.vm.interrupts().clone(), tables);
        self.faults.watch(id, self.vm.notes().clone());
        let (device, access) = (order.device, order.access);
        let interrupt = assign::assign(&mut self.vm, id, self.policy, host, device, access)?;
        // One device.
        let _ = self.interrupts.try_push(interrupt);
        // What runs as a function has no turns between which anybody could look.
        if order.polls && order.back_end == BackEnd::Svm {
            let polled = self.policy.set_polling(id, true);
            polled.map_err(GuestError::Iommu)?;
        }
        Ok(())
    }

    /// Gives it so much time, from its first turn on.
    pub fn set_limit(&mut self, limit: Nanoseconds) {
        self.limit = limit;
    }

    /// Runs the guest, and nobody else, to its end, which comes when `limit` is over at the
    /// latest.
    pub fn run(&mut self, limit: Nanoseconds) -> Ending {
        self.set_limit(limit);
        turns::together(&mut [self]);
        self.ending().unwrap_or(Ending::Stopped)
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Before its first turn on this CPU: what comes for it comes here.
    fn settle(&mut self) -> Nanoseconds {
        if let Some(end) = self.end {
            return end;
        }
        self.vm.interrupts().run_on(cpu::index());
        for interrupt in &self.interrupts {
            // If it cannot be redirected, it goes on coming to another CPU, which passes it
            // on.
            let _ = interrupt.come_to(self.driver, apic::id());
        }
        let end = Nanoseconds(time::now().0.saturating_add(self.limit.0));
        self.end = Some(end);
        end
    }

    /// Why its CPU left it, how often.
    pub fn exits(&self) -> &ExitCounters {
        self.cpu.vcpu().exits()
    }

    /// The virtual machine.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// How long its calls took.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Its trials so far.
    pub fn trials(&self) -> Trials {
        self.voice.trials()
    }

    pub(super) fn voice(&self) -> &Arc<StreamVoice> {
        &self.voice
    }

    /// What stops it, on whatever CPU it runs.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.vm.interrupts().clone())
    }

    /// Takes everything back: the device is blocked and quiet, hardware forgets the guest, its
    /// objects are gone, and its memory is free. On an error the memory is lost, since hardware
    /// may still reach it.
    pub fn end(self) -> Result<(), GuestError> {
        let id = self.seat.id();
        for device in self.vm.devices() {
            device.config().quieten();
        }
        let mut result = match self.known {
            true => self.policy.destroy_guest(id).map_err(GuestError::Iommu),
            false => Ok(()),
        };
        let is_forgotten = result.is_ok();
        self.policy.host().forget(id);
        self.faults.unwatch(id);
        for interrupt in self.interrupts {
            let given_back = interrupt.give_back(self.driver);
            result = result.and(given_back.map_err(GuestError::Interrupt));
        }
        self.cpu.release();
        if is_forgotten {
            self.vm.release();
        } else {
            defmt::error!("guest {=u16}: its memory is lost", id.0);
            core::mem::forget(self.vm);
        }
        result
    }
}

impl Task for Guest {
    fn turn(&mut self) -> turns::Turn {
        let end = self.settle();
        if self.ending.is_some() {
            return turns::Turn::Over;
        }
        match self.cpu.vcpu_mut().turn(&self.vm, end) {
            Turn::Again => turns::Turn::Again,
            Turn::Wait(until) => turns::Turn::Wait(until),
            Turn::End(ending) => {
                defmt::info!("guest {=u16}: {}", self.seat.id().0, ending);
                self.ending = Some(ending);
                turns::Turn::Over
            }
        }
    }

    fn is_awake(&self) -> bool {
        let interrupts = self.vm.interrupts();
        interrupts.next().is_some() || interrupts.is_stopped()
    }

    fn tend(&self) {
        self.vm.tend();
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest({})", self.seat.id().0)
    }
}

/// Stops a guest.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<VirtualInterrupts>);

impl Stopper {
    /// The guest does not go on. Returns at once.
    pub fn stop(&self) {
        self.0.stop();
    }
}
