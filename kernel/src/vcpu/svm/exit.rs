//! What an exit asks for.

use super::cpuid::{self, Registers};
use super::msr;
use super::spec::{EventInjection, EventType, ExitCode, PortAccess, Vmcb};
use super::switch::GuestRegisters;
use crate::vcpu::Ending;
use crate::vm::{Answer, ConfigPorts, Vm};
use iommu_abi::Errno;
use iommu_core::{Gpa, Nanoseconds};

/// What follows an exit.
pub(super) enum Next {
    /// The guest goes on.
    Resume,
    /// The guest's call goes on before the guest does, by [`go_on`].
    Call,
    /// The guest waits.
    Wait(Waiting),
    /// It does not.
    End(Ending),
}

/// What a guest waits for, and until when at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Waiting {
    pub(super) until: Nanoseconds,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// By a hypercall, whose result says whether an interrupt came.
    Call,
    /// By HLT, for ever.
    Halt,
}

impl Waiting {
    /// Ends the wait: an interrupt `came`, or the time is over.
    pub(super) fn end(self, vmcb: &mut Vmcb, came: bool) -> Next {
        match (self.how, came) {
            (How::Call, true) => finish_call(vmcb, 0),
            (How::Call, false) => finish_call(vmcb, Errno::ETIMEDOUT.to_register()),
            (How::Halt, true) => skip(vmcb, HLT_BYTES),
            (How::Halt, false) => Next::End(Ending::TimedOut),
        }
    }
}

/// Vectors of exceptions.
const INVALID_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;

/// Lengths of instructions, for CPUs that do not save the next instruction's address. A
/// guest that puts prefixes in front of them harms itself only.
const VMMCALL_BYTES: u64 = 3;
const CPUID_BYTES: u64 = 2;
const MSR_BYTES: u64 = 2;
const HLT_BYTES: u64 = 1;
const CACHE_BYTES: u64 = 2;

/// Does what the exit asks for.
pub(super) fn handle(
    vm: &Vm,
    vmcb: &mut Vmcb,
    registers: &mut GuestRegisters,
    ports: &mut ConfigPorts,
    end: Nanoseconds,
) -> Next {
    let code = ExitCode::new(vmcb.control.exit_code);
    match code {
        // Handled by the host's own handlers once the global interrupt flag was set.
        ExitCode::INTR | ExitCode::NMI | ExitCode::SMI | ExitCode::INIT => Next::Resume,
        // The interrupt is delivered before the guest is entered again.
        ExitCode::VINTR => Next::Resume,
        ExitCode::VMMCALL => hypercall(vm, vmcb, registers, end),
        ExitCode::HLT => halt(vmcb, end),
        ExitCode::IOIO => port(vm, vmcb, ports),
        ExitCode::MSR => model_specific(vmcb, registers),
        ExitCode::CPUID => identify(vmcb, registers),
        // Caches are the host's; memory is coherent without.
        ExitCode::INVD | ExitCode::WBINVD => skip(vmcb, CACHE_BYTES),
        ExitCode::SHUTDOWN => Next::End(Ending::ShutDown),
        ExitCode::NPF => Next::End(Ending::Absent(Gpa::new(vmcb.control.exit_info2))),
        ExitCode::INVALID => Next::End(Ending::BadState),
        code if code.is_forbidden_instruction() => inject(vmcb, INVALID_OPCODE, None),
        _ => Next::End(Ending::Unknown(vmcb.control.exit_code)),
    }
}

/// Goes on behind the instruction, which is so long where the CPU does not say.
fn skip(vmcb: &mut Vmcb, bytes: u64) -> Next {
    vmcb.save.rip = match vmcb.control.next_rip {
        0 => vmcb.save.rip.wrapping_add(bytes),
        next => next,
    };
    // An instruction that was skipped ends a shadow.
    vmcb.control.shadow = vmcb.control.shadow.with_shadow(false);
    Next::Resume
}

fn inject(vmcb: &mut Vmcb, vector: u8, error: Option<u32>) -> Next {
    vmcb.control.inject = EventInjection::new()
        .with_vector(vector)
        .with_kind(EventType::Exception)
        .with_has_error(error.is_some())
        .with_error(error.unwrap_or(0))
        .with_valid(true);
    Next::Resume
}

fn hypercall(vm: &Vm, vmcb: &mut Vmcb, registers: &GuestRegisters, end: Nanoseconds) -> Next {
    if vmcb.save.cpl != 0 {
        // Programs of a guest have no hypercalls.
        return inject(vmcb, INVALID_OPCODE, None);
    }
    let answer = vm.hypercall(vmcb.save.rax, registers.rdi);
    answered(vmcb, answer, end)
}

/// Goes on with a call that was not done: the guest still stands before it.
pub(super) fn go_on(vm: &Vm, vmcb: &mut Vmcb, registers: &GuestRegisters) -> Next {
    let answer = vm.go_on(vmcb.save.rax, registers.rdi);
    answered(vmcb, answer, Nanoseconds(u64::MAX))
}

fn answered(vmcb: &mut Vmcb, answer: Answer, end: Nanoseconds) -> Next {
    match answer {
        Answer::Again => Next::Call,
        Answer::Return(result) => finish_call(vmcb, result),
        Answer::Finish(outcome) => Next::End(Ending::Finished(outcome)),
        Answer::Wait(limit) => Next::Wait(Waiting {
            until: Nanoseconds(crate::time::now().0.saturating_add(limit.0)).min(end),
            how: How::Call,
        }),
    }
}

fn finish_call(vmcb: &mut Vmcb, result: i64) -> Next {
    vmcb.save.rax = result.cast_unsigned();
    skip(vmcb, VMMCALL_BYTES)
}

fn halt(vmcb: &Vmcb, end: Nanoseconds) -> Next {
    const INTERRUPTS_ON: u64 = 1 << 9;
    if vmcb.save.rflags & INTERRUPTS_ON == 0 {
        return Next::End(Ending::Halted);
    }
    Next::Wait(Waiting {
        until: end,
        how: How::Halt,
    })
}

fn port(vm: &Vm, vmcb: &mut Vmcb, ports: &mut ConfigPorts) -> Next {
    let access = PortAccess::from_bits(vmcb.control.exit_info1);
    if access.string() {
        return inject(vmcb, GENERAL_PROTECTION, Some(0));
    }
    let (port, width) = (access.port(), access.width());
    let rax = vmcb.save.rax;
    if access.input() {
        let value = u64::from(ports.input(vm, port, width));
        // 32-bit results clear the upper half, shorter ones leave the rest.
        vmcb.save.rax = match width {
            1 => rax & !0xff | value,
            2 => rax & !0xffff | value,
            _ => value,
        };
    } else {
        ports.output(vm, port, width, rax as u32);
    }
    // The next instruction's address is given for ports on every CPU.
    vmcb.save.rip = vmcb.control.exit_info2;
    vmcb.control.shadow = vmcb.control.shadow.with_shadow(false);
    Next::Resume
}

fn model_specific(vmcb: &mut Vmcb, registers: &mut GuestRegisters) -> Next {
    let register = registers.rcx as u32;
    let done = if vmcb.control.exit_info1 == 0 {
        msr::read(&vmcb.save, register).map(|value| {
            vmcb.save.rax = value & u64::from(u32::MAX);
            registers.rdx = value >> 32;
        })
    } else {
        let value = registers.rdx << 32 | vmcb.save.rax & u64::from(u32::MAX);
        msr::write(&mut vmcb.save, register, value)
    };
    match done {
        Ok(()) => skip(vmcb, MSR_BYTES),
        Err(msr::GeneralProtection) => inject(vmcb, GENERAL_PROTECTION, Some(0)),
    }
}

fn identify(vmcb: &mut Vmcb, registers: &mut GuestRegisters) -> Next {
    let host = |leaf, subleaf| {
        let found = core::arch::x86_64::__cpuid_count(leaf, subleaf);
        Registers {
            eax: found.eax,
            ebx: found.ebx,
            ecx: found.ecx,
            edx: found.edx,
        }
    };
    let answer = cpuid::answer(vmcb.save.rax as u32, registers.rcx as u32, host);
    vmcb.save.rax = answer.eax.into();
    registers.rbx = answer.ebx.into();
    registers.rcx = answer.ecx.into();
    registers.rdx = answer.edx.into();
    skip(vmcb, CPUID_BYTES)
}
