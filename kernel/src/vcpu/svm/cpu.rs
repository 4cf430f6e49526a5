//! A virtual CPU by SVM.
//!
//! Invariant that the `unsafe` here rests on: the VMCB's frame is reached through
//! [`SvmVcpu::vmcb`] alone, and by the CPU only during `switch::run`.

use super::exit::{self, Next, Waiting};
use super::spec::{EventInjection, EventType, ExitCode, TlbControl, Vmcb};
use super::state::{self, Addresses};
use super::switch::{self, GuestRegisters};
use crate::cpu::{self, FloatingPoint, MAX_CPUS, interrupts};
use crate::vcpu::{Cause, Ending, ExitCounters, Turn, Vcpu, slice};
use crate::vm::{ConfigPorts, Vm};
use arrayvec::ArrayVec;
use core::fmt;
use iommu_core::{Frame, Nanoseconds, Order, OutOfFrames, Platform};
use spin::Once;
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
    /// The CPU tells fewer guests apart.
    TooManyGuests,
}

impl fmt::Display for SvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSvm => f.write_str("the CPU has no SVM"),
            Self::NoNestedPaging => f.write_str("the CPU has no nested paging"),
            Self::Disabled => f.write_str("the firmware has disabled SVM"),
            Self::OutOfFrames(error) => write!(f, "{error}"),
            Self::TooManyGuests => f.write_str("the CPU tells fewer guests apart (ASIDs)"),
        }
    }
}

impl From<OutOfFrames> for SvmError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

/// SVM on one CPU, turned on.
#[derive(Debug)]
struct Svm {
    /// Never given back: the CPU writes to it with every VMRUN.
    _host_save: Frame,
    /// Where the host's state is kept that VMRUN does not save.
    host: Frame,
}

/// On each CPU that has run a guest.
static SVM: [Once<Svm>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];

impl Svm {
    /// Whether this CPU has what is needed, and for so many guests.
    fn check(guests: u32) -> Result<(), SvmError> {
        let cpuid = raw_cpuid::CpuId::new();
        let identifiers = cpuid.get_extended_processor_and_feature_identifiers();
        if !identifiers.is_some_and(|identifiers| identifiers.has_svm()) {
            return Err(SvmError::NoSvm);
        }
        let svm = cpuid.get_svm_info();
        let svm = svm.filter(|svm| svm.has_nested_paging());
        let svm = svm.ok_or(SvmError::NoNestedPaging)?;
        // SAFETY: a CPU with SVM has the register.
        if unsafe { Msr::new(VM_CR).read() } & VM_CR_DISABLED != 0 {
            return Err(SvmError::Disabled);
        }
        // ASID 0 is the host's.
        match guests < svm.supported_asids() {
            true => Ok(()),
            false => Err(SvmError::TooManyGuests),
        }
    }

    /// SVM on this CPU, which is turned on at the first call.
    fn here(platform: &dyn Platform) -> Result<&'static Self, SvmError> {
        SVM[cpu::index() as usize].try_call_once(|| {
            Self::check(0)?;
            let host_save = platform.allocate(Order::PAGE)?;
            let host = match platform.allocate(Order::PAGE) {
                Ok(host) => host,
                Err(error) => {
                    platform.release(host_save);
                    return Err(error.into());
                }
            };
            // SAFETY: SVM adds instructions and changes none; the save area is a page that
            // nobody else uses.
            unsafe {
                Efer::update(|efer| *efer |= EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE);
                Msr::new(VM_HSAVE_PA).write(host_save.hpa().as_u64());
            }
            Ok(Self {
                _host_save: host_save,
                host,
            })
        })
    }
}

/// A virtual CPU.
pub struct SvmVcpu {
    platform: &'static dyn Platform,
    /// By which CPUs tell its translations from others'.
    asid: u32,
    vmcb: Frame,
    io_permissions: Frame,
    msr_permissions: Frame,
    registers: GuestRegisters,
    floating_point: FloatingPoint,
    ports: ConfigPorts,
    exits: ExitCounters,
    started: bool,
    waiting: Option<Waiting>,
    /// A call of its is under way.
    calling: bool,
    /// Where it ran last.
    cpu: Option<u32>,
}

impl SvmVcpu {
    /// A virtual CPU that has not started yet, of guest number `guest`, which no other guest
    /// has at the same time.
    pub fn new(platform: &'static dyn Platform, guest: u16) -> Result<Self, SvmError> {
        /// VMCB, port and MSR permissions.
        const ORDERS: [Order; 3] = [Order::PAGE, IO_PERMISSIONS, MSR_PERMISSIONS];
        let asid = u32::from(guest) + 1;
        Svm::check(asid)?;
        // Here and now, so that what is wrong with it is told before the guest has begun.
        Svm::here(platform)?;
        let mut frames: ArrayVec<Frame, 3> = ArrayVec::new();
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
        let [vmcb, io_permissions, msr_permissions] = frames.into_inner().map_err(no_memory)?;
        state::fill_permissions(io_permissions.cells(), msr_permissions.cells());
        Ok(Self {
            platform,
            asid,
            vmcb,
            io_permissions,
            msr_permissions,
            registers: GuestRegisters::default(),
            floating_point: FloatingPoint::new(),
            ports: ConfigPorts::default(),
            exits: ExitCounters::default(),
            started: false,
            waiting: None,
            calling: false,
            cpu: None,
        })
    }

    /// Gives its memory back.
    pub fn release(self) {
        for frame in [self.vmcb, self.io_permissions, self.msr_permissions] {
            self.platform.release(frame);
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
            asid: self.asid,
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

    /// Runs the guest until it exits. With interrupts off from before looking for what
    /// waits, so that what comes in between makes the guest exit at once.
    ///
    /// False, and nothing was run, if the slice has ended since anybody looked: its interrupt
    /// has come already, and none would end the guest's stay.
    fn enter(&mut self, vm: &Vm, svm: &Svm) -> bool {
        let saved = interrupts::disable();
        if slice::is_over() || vm.interrupts().is_stopped() {
            interrupts::restore(saved);
            return false;
        }
        self.offer_interrupt(vm);
        let moved = self.cpu.replace(cpu::index()) != Some(cpu::index());
        let flush = match vm.take_flush() || moved {
            true => TlbControl::FlushAll,
            false => TlbControl::Keep,
        };
        self.vmcb().control.tlb_control = flush;
        let (guest, host) = (self.vmcb.hpa(), svm.host.hpa());
        // SAFETY: the VMCB is prepared by `state::prepare` and changed only as the guest's
        // exits demand; its nested tables map the guest's memory and devices alone; the
        // host's page is this CPU's.
        unsafe { switch::run(guest, host, &mut self.registers) };
        // What was injected has been delivered, or comes back as interrupted.
        self.vmcb().control.inject = EventInjection::new();
        interrupts::restore(saved);
        true
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

    /// One exit after another, until the slice is over.
    fn run(&mut self, vm: &Vm, svm: &Svm, end: Nanoseconds) -> Turn {
        loop {
            if vm.interrupts().is_stopped() {
                return Turn::End(Ending::Stopped);
            }
            if crate::time::now() >= end {
                return Turn::End(Ending::TimedOut);
            }
            if slice::is_over() {
                return Turn::Again;
            }
            let next = match self.calling {
                true => {
                    let registers = self.registers;
                    exit::go_on(vm, self.vmcb(), &registers)
                }
                false => self.next_exit(vm, svm, end),
            };
            self.calling = matches!(next, Next::Call);
            match next {
                Next::Resume | Next::Call => {}
                Next::Wait(waiting) => {
                    self.waiting = Some(waiting);
                    return Turn::Wait(waiting.until);
                }
                Next::End(ending) => return Turn::End(ending),
            }
        }
    }

    /// Lets the guest go on until it exits, and does what it asks for.
    fn next_exit(&mut self, vm: &Vm, svm: &Svm, end: Nanoseconds) -> Next {
        if !self.enter(vm, svm) {
            return Next::Resume;
        }
        let code = ExitCode::new(self.vmcb().control.exit_code);
        self.count(code);
        let mut registers = self.registers;
        let mut ports = core::mem::take(&mut self.ports);
        let next = exit::handle(vm, self.vmcb(), &mut registers, &mut ports, end);
        self.registers = registers;
        self.ports = ports;
        next
    }

    /// Goes on after a wait, if what it waits for has come or the time is over.
    fn wake(&mut self, vm: &Vm) -> Option<Turn> {
        let waiting = self.waiting?;
        if vm.interrupts().is_stopped() {
            return Some(Turn::End(Ending::Stopped));
        }
        let came = vm.interrupts().next().is_some();
        if !came && crate::time::now() < waiting.until {
            return Some(Turn::Wait(waiting.until));
        }
        self.waiting = None;
        match waiting.end(self.vmcb(), came) {
            Next::End(ending) => Some(Turn::End(ending)),
            Next::Resume | Next::Call | Next::Wait(_) => None,
        }
    }
}

impl Vcpu for SvmVcpu {
    fn turn(&mut self, vm: &Vm, end: Nanoseconds) -> Turn {
        let svm = match Svm::here(self.platform) {
            Ok(svm) => svm,
            Err(_) => return Turn::End(Ending::Impossible("this CPU cannot run guests by SVM")),
        };
        if !self.started {
            if let Err(ending) = self.prepare(vm) {
                return Turn::End(ending);
            }
            self.started = true;
        }
        if let Some(turn) = self.wake(vm) {
            return turn;
        }
        self.floating_point.load();
        slice::begin();
        let turn = self.run(vm, svm, end);
        slice::end();
        self.floating_point.save();
        turn
    }

    fn exits(&self) -> &ExitCounters {
        &self.exits
    }
}
