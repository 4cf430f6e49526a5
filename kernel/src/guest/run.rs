//! Making a guest and running it.

use super::faults::Faults;
use super::policy::{Caller, Policy, policy};
use super::surroundings::MachineAround;
use super::voice::StreamVoice;
use super::{GuestError, assign};
use crate::archive::Archive;
use crate::cpu;
use crate::host::Host;
use crate::log;
use crate::platform::KernelPlatform;
use crate::remapping;
use crate::time;
use crate::vcpu::direct::{self, DirectVcpu};
use crate::vcpu::svm::{Svm, SvmVcpu};
use crate::vcpu::{Ending, ExitCounters, Vcpu};
use crate::vm::{Setup, Vm};
use alloc::boxed::Box;
use alloc::format;
use core::fmt;
use iommu::Quota;
use iommu_core::{DeviceId, Nanoseconds, SourceId, VmId};

/// Memory of a guest, in pages.
const PAGES: usize = 768;

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

/// What guest shall be made.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Name of the program: `guest/NAME.elf` in the boot module.
    pub program: &'a str,
    /// How it runs.
    pub back_end: BackEnd,
    /// All random choices follow from it.
    pub seed: u64,
    /// What the program shall do, for programs that can do several things.
    pub parameter: u64,
    /// The device that it gets.
    pub device: DeviceId,
}

enum Cpu {
    Svm(Box<SvmVcpu<'static>>),
    Direct(DirectVcpu),
}

/// A guest that has its device and has not started yet, or has ended.
pub struct Guest {
    id: VmId,
    vm: &'static Vm,
    policy: &'static Policy,
    voice: &'static StreamVoice,
    cpu: Cpu,
}

/// Makes a guest. The first and only one, for now: it lives as long as the machine.
pub fn start(host: &Host, archive: &Archive, order: &Order) -> Result<Guest, GuestError> {
    let id = VmId(0);
    let function = host
        .bus
        .topology
        .function(order.device)
        .ok_or(GuestError::NoDevice)?;
    host.remapping
        .may_pass_through(function)
        .map_err(|why| GuestError::Refused {
            device: order.device,
            why,
        })?;
    let policy = policy(host.bus, host.remapping, order.seed)?;
    let stream =
        log::register(&format!("guest/{}", order.program)).map_err(|_| GuestError::OutOfStreams)?;
    let voice: &'static StreamVoice = Box::leak(Box::new(StreamVoice::new(stream)));
    let program = match order.back_end {
        BackEnd::Svm => Some(
            archive
                .file(&format!("guest/{}.elf", order.program))
                .ok_or(GuestError::NoProgram)?,
        ),
        BackEnd::Direct => None,
    };
    let cpu = cpu_for(order)?;
    let mut vm = Vm::new(&Setup {
        platform: &PLATFORM,
        program,
        pages: PAGES,
        seed: order.seed,
        parameter: order.parameter,
        tsc_per_ms: time::source().map_or(1, |(_, hertz)| hertz / 1000),
        iommu: Box::leak(Box::new(Caller { policy, vm: id })),
        surroundings: Some(Box::leak(Box::new(MachineAround::new(host)?))),
        voice,
    })
    .map_err(GuestError::Setup)?;
    policy
        .create_guest(id, Quota::default(), vm.ram().clone())
        .map_err(GuestError::Iommu)?;
    policy.host().introduce(id, vm.interrupts().clone());
    let virtual_id = on_bus_0(order.device.source);
    assign::assign(&mut vm, id, policy, host, order.device, virtual_id)?;
    let vm: &'static Vm = Box::leak(Box::new(vm));
    let faults: &'static Faults = Box::leak(Box::new(Faults::new(policy)));
    faults.watch(id, vm);
    remapping::faults::deliver_to(faults);
    Ok(Guest {
        id,
        vm,
        policy,
        voice,
        cpu,
    })
}

/// Where the guest finds a device: its machine has one bus.
fn on_bus_0(source: SourceId) -> SourceId {
    SourceId::from_bits(source.devfn().into())
}

fn cpu_for(order: &Order) -> Result<Cpu, GuestError> {
    match order.back_end {
        BackEnd::Svm => {
            let svm: &'static Svm =
                Box::leak(Box::new(Svm::start(&PLATFORM).map_err(GuestError::Svm)?));
            let cpu = SvmVcpu::new(svm, &PLATFORM).map_err(GuestError::Svm)?;
            Ok(Cpu::Svm(Box::new(cpu)))
        }
        BackEnd::Direct => {
            let program = direct::program(order.program).ok_or(GuestError::NotDirect)?;
            Ok(Cpu::Direct(DirectVcpu::new(program)))
        }
    }
}

impl Guest {
    /// Runs the guest to its end, which comes when `limit` is over at the latest.
    pub fn run(&mut self, limit: Nanoseconds) -> Ending {
        let vm = self.vm;
        let ending = self.vcpu_mut().run(vm, limit);
        defmt::info!("guest {=u16}: {}", self.id.0, ending);
        ending
    }

    fn vcpu_mut(&mut self) -> &mut dyn Vcpu {
        match &mut self.cpu {
            Cpu::Svm(cpu) => &mut **cpu,
            Cpu::Direct(cpu) => cpu,
        }
    }

    /// Why its CPU left it, how often.
    pub fn exits(&self) -> &ExitCounters {
        match &self.cpu {
            Cpu::Svm(cpu) => cpu.exits(),
            Cpu::Direct(cpu) => cpu.exits(),
        }
    }

    /// The virtual machine.
    pub fn vm(&self) -> &'static Vm {
        self.vm
    }

    /// Trials that were judged, and those of them that did not hold.
    pub fn trials(&self) -> (u64, u64) {
        self.voice.trials()
    }

    /// Takes everything back: the device is blocked, hardware forgets the guest, and its
    /// objects are gone.
    pub fn end(&self) -> Result<(), GuestError> {
        self.policy
            .destroy_guest(self.id)
            .map_err(GuestError::Iommu)
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guest({})", self.id.0)
    }
}
