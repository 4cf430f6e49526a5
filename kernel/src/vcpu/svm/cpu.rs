//! A virtual CPU by SVM.
//!
//! Invariant that the `unsafe` here rests on: the VMCB's frame is reached through
//! [`SvmVcpu::vmcb`] alone, and by the CPU only during `switch::run`.

use super::exit::{self, Next};
use super::spec::{EventInjection, EventType, ExitCode, TlbControl, Vmcb};
use super::state::{self, Addresses};
use super::switch::{self, GuestRegisters};
use crate::cpu::vectors::OutOfVectors;
use crate::vcpu::{Cause, Ending, ExitCounters, Vcpu, slice};
use crate::vm::{ConfigPorts, Vm};
use arrayvec::ArrayVec;
use core::fmt;
use iommu_core::{Frame, Nanoseconds, Order, OutOfFrames, Platform};
use x86_64::registers::model_specific::{Efer, EferFlags, Msr};

/// VM_CR: bit 4 says that the firmware has disabled SVM.
const VM_CR: u32 = 0xc001_0114;
const VM_CR_DISABLED: u64 = 1 << 4;
/// Where the CPU keeps the host's state.
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// RFLAGS.IF.
const INTERRUPTS_ON: u64 = 1 << 9;

/// Port permission map: 12 KiB.
const IO_PERMISSIONS: Order = match Order::new(2) {
    Some(order) => order,
    None => Order::PAGE,
};
/// MSR permission map: 8 KiB.
const MSR_PERMISSIONS: Order = match Order::new(1) {
    Some(order) => order,
    None => Order::PAGE,
};

/// Why guests cannot run by SVM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SvmError {
    /// The CPU has no SVM.
    NoSvm,
    /// The CPU has no nested paging.
    NoNestedPaging,
    /// The firmware has disabled it.
    Disabled,
    /// No memory.
    OutOfFrames(OutOfFrames),
    /// No interrupt vector for the timer.
    OutOfVectors,
}

impl fmt::Display for SvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSvm => f.write_str("the CPU has no SVM"),
            Self::NoNestedPaging => f.write_str("the CPU has no nested paging"),
            Self::Disabled => f.write_str("the firmware has disabled SVM"),
            Self::OutOfFrames(error) => write!(f, "{error}"),
            Self::OutOfVectors => f.write_str("no interrupt vector is left"),
        }
    }
}

impl From<OutOfFrames> for SvmError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

impl From<OutOfVectors> for SvmError {
    fn from(_: OutOfVectors) -> Self {
        Self::OutOfVectors
    }
}

/// SVM on this CPU, turned on.
#[derive(Debug)]
pub struct Svm {
    /// Never given back: the CPU writes to it with every VMRUN.
    _host_save: Frame,
}

impl Svm {
    /// Turns SVM on.
    pub fn start(platform: &dyn Platform) -> Result<Self, SvmError> {
        let cpuid = raw_cpuid::CpuId::new();
        let identifiers = cpuid.get_extended_processor_and_feature_identifiers();
        if !identifiers.is_some_and(|identifiers| identifiers.has_svm()) {
            return Err(SvmError::NoSvm);
        }
        let svm = cpuid.get_svm_info();
        if !svm.is_some_and(|svm| svm.has_nested_paging()) {
            return Err(SvmError::NoNestedPaging);
        }
        // SAFETY: a CPU with SVM has the register.
        if unsafe { Msr::new(VM_CR).read() } & VM_CR_DISABLED != 0 {
            return Err(SvmError::Disabled);
        }
        slice::prepare()?;
        let host_save = platform.allocate(Order::PAGE)?;
        // SAFETY: SVM adds instructions and changes none; the save area is a page that
        // nobody else uses.
        unsafe {
            Efer::update(|efer| *efer |= EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE);
            Msr::new(VM_HSAVE_PA).write(host_save.hpa().as_u64());
        }
        Ok(Self {
            _host_save: host_save,
        })
    }
}

/// A virtual CPU.
pub struct SvmVcpu<'s> {
    _svm: &'s Svm,
    vmcb: Frame,
    host: Frame,
    io_permissions: Frame,
    msr_permissions: Frame,
    registers: GuestRegisters,
    ports: ConfigPorts,
    exits: ExitCounters,
}

impl<'s> SvmVcpu<'s> {
    /// A virtual CPU that has not started yet.
    pub fn new(svm: &'s Svm, platform: &dyn Platform) -> Result<Self, SvmError> {
        /// VMCB, host state, port and MSR permissions.
        const ORDERS: [Order; 4] = [Order::PAGE, Order::PAGE, IO_PERMISSIONS, MSR_PERMISSIONS];
        let mut frames: ArrayVec<Frame, 4> = ArrayVec::new();
        for order in ORDERS {
            match platform.allocate(order) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    frames.into_iter().for_each(|frame| platform.release(frame));
                    return Err(error.into());
                }
            }
        }
        let no_memory = |_| OutOfFrames { order: Order::PAGE };
        let [vmcb, host, io_permissions, msr_permissions] =
            frames.into_inner().map_err(no_memory)?;
        state::fill_permissions(io_permissions.cells(), msr_permissions.cells());
        Ok(Self {
            _svm: svm,
            vmcb,
            host,
            io_permissions,
            msr_permissions,
            registers: GuestRegisters::default(),
            ports: ConfigPorts::default(),
            exits: ExitCounters::default(),
        })
    }

    /// Gives its memory back.
    pub fn release(self, platform: &dyn Platform) {
        for frame in [
            self.vmcb,
            self.host,
            self.io_permissions,
            self.msr_permissions,
        ] {
            platform.release(frame);
        }
    }

    fn vmcb(&mut self) -> &mut Vmcb {
        let page: *mut Vmcb = self.vmcb.cells().as_ptr().cast_mut().cast();
        // SAFETY: the module's invariant; the page is zeroed at first, which is a valid
        // VMCB, and its cells allow changes.
        unsafe { &mut *page }
    }

    fn prepare(&mut self, vm: &Vm) -> Result<(), Ending> {
        let entry = vm
            .entry()
            .ok_or(Ending::Impossible("the guest has no program"))?;
        let nested_root = vm
            .nested()
            .root()
            .ok_or(Ending::Impossible("the guest has no nested tables"))?;
        let addresses = Addresses {
            io_permissions: self.io_permissions.hpa(),
            msr_permissions: self.msr_permissions.hpa(),
            nested_root,
        };
        self.registers = GuestRegisters {
            rdi: entry.start.as_u64(),
            ..GuestRegisters::default()
        };
        state::prepare(self.vmcb(), entry, addresses);
        Ok(())
    }

    /// Delivers a waiting interrupt, or asks to be told when it can be delivered.
    fn offer_interrupt(&mut self, vm: &Vm) {
        let interrupted = self.vmcb().control.exit_interrupt;
        if interrupted.valid() {
            // An event was on its way when the guest was left: it goes first.
            self.vmcb().control.inject = interrupted;
            self.vmcb().control.exit_interrupt = EventInjection::new();
        }
        let waiting = vm.interrupts().next();
        let control = &mut self.vmcb().control;
        let free = !control.inject.valid() && !control.shadow.shadow();
        let can_take = free && self.vmcb().save.rflags & INTERRUPTS_ON != 0;
        let mut window = false;
        if let Some(vector) = waiting {
            if can_take && vm.interrupts().take(vector) {
                self.vmcb().control.inject = EventInjection::new()
                    .with_vector(vector)
                    .with_kind(EventType::Interrupt)
                    .with_valid(true);
            } else {
                window = true;
            }
        }
        let control = &mut self.vmcb().control;
        control.interrupts = control.interrupts.with_irq(window).with_ignore_tpr(window);
        control.instructions1 = control.instructions1.with_vintr(window);
    }

    fn enter(&mut self, vm: &Vm) {
        let flush = match vm.take_flush() {
            true => TlbControl::FlushAll,
            false => TlbControl::Keep,
        };
        self.vmcb().control.tlb_control = flush;
        slice::begin();
        let (guest, host) = (self.vmcb.hpa(), self.host.hpa());
        // SAFETY: the VMCB is prepared by `state::prepare` and changed only as the guest's
        // exits demand; its nested tables map the guest's memory and devices alone.
        unsafe { switch::run(guest, host, &mut self.registers) };
        slice::end();
        // What was injected has been delivered, or comes back as interrupted.
        self.vmcb().control.inject = EventInjection::new();
    }

    fn count(&mut self, code: ExitCode) {
        let cause = match code {
            ExitCode::VMMCALL => Cause::Hypercall,
            ExitCode::INTR | ExitCode::NMI | ExitCode::SMI | ExitCode::INIT => Cause::HostInterrupt,
            ExitCode::VINTR => Cause::InterruptWindow,
            ExitCode::HLT => Cause::Halt,
            ExitCode::IOIO => Cause::Port,
            ExitCode::MSR => Cause::Msr,
            ExitCode::CPUID => Cause::Cpuid,
            ExitCode::NPF => Cause::NestedFault,
            ExitCode::SHUTDOWN => Cause::ShutDown,
            code if code.is_forbidden_instruction() => Cause::Forbidden,
            _ => Cause::Other,
        };
        self.exits.count(cause);
    }
}

/// Time between two looks at what is due by itself.
const TEND_EVERY: Nanoseconds = Nanoseconds::from_millis(10);

impl Vcpu for SvmVcpu<'_> {
    fn run(&mut self, vm: &Vm, limit: Nanoseconds) -> Ending {
        if let Err(ending) = self.prepare(vm) {
            return ending;
        }
        let mut tended = crate::time::now();
        let end = Nanoseconds(tended.0.saturating_add(limit.0));
        loop {
            let now = crate::time::now();
            if now >= end {
                return Ending::TimedOut;
            }
            // By the clock, since a guest that leaves by itself often enough never sees the
            // end of a slice.
            if now.since(tended) >= TEND_EVERY {
                vm.tend();
                tended = now;
            }
            self.offer_interrupt(vm);
            self.enter(vm);
            let code = ExitCode::new(self.vmcb().control.exit_code);
            self.count(code);
            let mut registers = self.registers;
            let mut ports = core::mem::take(&mut self.ports);
            let next = exit::handle(vm, self.vmcb(), &mut registers, &mut ports, end);
            self.registers = registers;
            self.ports = ports;
            if let Next::End(ending) = next {
                return ending;
            }
        }
    }

    fn exits(&self) -> &ExitCounters {
        &self.exits
    }
}
