//! Instructions and ports that are not a guest's to use.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use guest_machine::{Machine, Trouble};
use guest_runtime::exception_of;
use x86_64::instructions::port::{Port, PortWriteOnly};

const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;

/// One attempt.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) shows: &'static str,
    pub(crate) run: fn(&dyn Machine) -> Result<(), Trouble>,
}

/// Every attempt.
pub(crate) const ALL: &[Attempt] = &[
    Attempt {
        name: "svm-instructions",
        shows: "no instruction of SVM but VMMCALL can be used",
        run: svm_instructions,
    },
    Attempt {
        name: "host-registers",
        shows: "no model-specific register of the host's can be read or written",
        run: host_registers,
    },
    Attempt {
        name: "own-registers",
        shows: "the guest's own model-specific registers keep what is written",
        run: own_registers,
    },
    Attempt {
        name: "debug-registers",
        shows: "debug registers cannot be used",
        run: debug_registers,
    },
    Attempt {
        name: "waiting",
        shows: "the CPU cannot be put to sleep but by HLT",
        run: monitor,
    },
    Attempt {
        name: "ports",
        shows: "ports of the machine are not there",
        run: ports,
    },
    Attempt {
        name: "configuration",
        shows: "configuration space holds the guest's device and no other",
        run: configuration,
    },
    Attempt {
        name: "identity",
        shows: "CPUID tells that this is a guest, and has no SVM",
        run: identity,
    },
    Attempt {
        name: "caches",
        shows: "WBINVD and INVD leave memory as it is",
        run: caches,
    },
];

/// An instruction of some bytes that must raise an exception.
macro_rules! raises {
    ($vector:expr, $bytes:literal, $what:literal, $($instruction:tt)*) => {{
        // SAFETY: the crate's invariant; the instruction is skipped if it raises.
        let raised = exception_of($bytes, || unsafe { asm!($($instruction)*) });
        let found = raised.map_or(u64::MAX, u64::from);
        Trouble::unless_equal($what, $vector, found)?;
    }};
}

fn svm_instructions(_: &dyn Machine) -> Result<(), Trouble> {
    raises!(INVALID_OPCODE, 3, "VMRUN", "vmrun rax", in("rax") 0x4000_0000_u64);
    raises!(INVALID_OPCODE, 3, "VMLOAD", "vmload rax", in("rax") 0x4000_0000_u64);
    raises!(INVALID_OPCODE, 3, "VMSAVE", "vmsave rax", in("rax") 0x4000_0000_u64);
    raises!(INVALID_OPCODE, 3, "STGI", "stgi");
    raises!(INVALID_OPCODE, 3, "CLGI", "clgi");
    raises!(INVALID_OPCODE, 3, "SKINIT", "skinit eax", in("eax") 0);
    raises!(INVALID_OPCODE, 3, "INVLPGA", "invlpga rax, ecx", in("rax") 0_u64, in("ecx") 0);
    Ok(())
}

fn host_registers(_: &dyn Machine) -> Result<(), Trouble> {
    // APIC base, x2APIC id, VM_CR, VM_HSAVE_PA, MTRR capabilities.
    for register in [0x1b_u32, 0x802, 0xc001_0114, 0xc001_0117, 0xfe, 0x4000_0000] {
        raises!(GENERAL_PROTECTION, 2, "RDMSR", "rdmsr", in("ecx") register, out("eax") _, out("edx") _);
        raises!(GENERAL_PROTECTION, 2, "WRMSR", "wrmsr", in("ecx") register, in("eax") 0, in("edx") 0);
    }
    // EFER with SVM in it.
    raises!(GENERAL_PROTECTION, 2, "EFER.SVME", "wrmsr", in("ecx") 0xc000_0080_u32, in("eax") 0x1500, in("edx") 0);
    Ok(())
}

fn own_registers(_: &dyn Machine) -> Result<(), Trouble> {
    use x86_64::registers::model_specific::{Efer, EferFlags, FsBase, LStar};
    let somewhere = x86_64::VirtAddr::new(0x1234_5678_9000);
    FsBase::write(somewhere);
    LStar::write(somewhere);
    Trouble::unless_equal("FS.base", somewhere.as_u64(), FsBase::read().as_u64())?;
    Trouble::unless_equal("LSTAR", somewhere.as_u64(), LStar::read().as_u64())?;
    let seen = Efer::read();
    let svm = seen.contains(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE);
    Trouble::unless_equal("EFER.SVME as the guest sees it", 0, svm.into())?;
    // SAFETY: system calls are not used here.
    unsafe { Efer::write(seen | EferFlags::SYSTEM_CALL_EXTENSIONS) };
    let on = Efer::read().contains(EferFlags::SYSTEM_CALL_EXTENSIONS);
    Trouble::unless_equal("EFER.SCE", 1, on.into())
}

fn debug_registers(_: &dyn Machine) -> Result<(), Trouble> {
    raises!(INVALID_OPCODE, 3, "a write to DR7", "mov dr7, rax", in("rax") 0x401_u64);
    raises!(INVALID_OPCODE, 3, "a read of DR0", "mov rax, dr0", out("rax") _);
    Ok(())
}

fn monitor(_: &dyn Machine) -> Result<(), Trouble> {
    raises!(INVALID_OPCODE, 3, "MONITOR", "monitor", in("rax") 0x4000_0000_u64, in("ecx") 0, in("edx") 0);
    raises!(INVALID_OPCODE, 3, "MWAIT", "mwait", in("eax") 0, in("ecx") 0);
    raises!(INVALID_OPCODE, 2, "RDPMC", "rdpmc", in("ecx") 0, out("eax") _, out("edx") _);
    Ok(())
}

fn ports(_: &dyn Machine) -> Result<(), Trouble> {
    // Serial line, keyboard controller, real-time clock, interrupt controller, ACPI.
    for port in [0x3f8, 0x60, 0x71, 0x21, 0x608] {
        // SAFETY: the module's invariant.
        let byte = unsafe { Port::<u8>::new(port).read() };
        Trouble::unless_equal("a port", 0xff, byte.into())?;
    }
    // Under QEMU this would end the emulator, if it were let through.
    // SAFETY: as above.
    unsafe { PortWriteOnly::<u32>::new(0xf4).write(0x10) };
    // And this would reset the machine.
    // SAFETY: as above.
    unsafe { PortWriteOnly::<u8>::new(0xcf9).write(0x0e) };
    // A string of bytes to a port.
    let text = *b"!";
    raises!(
        GENERAL_PROTECTION, 1, "OUTSB", "outsb",
        in("dx") 0xe9_u16, inout("rsi") text.as_ptr() => _,
    );
    Ok(())
}

fn configuration(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut found = 0_u64;
    // Two buses of the machine's and one that it lacks.
    for bits in (0..=0x1ff).chain(0xff00..=0xffff) {
        let function = iommu_core::SourceId::from_bits(bits);
        if machine.read_config(function, 0) != u32::MAX {
            found += 1;
        }
    }
    Trouble::unless_equal("functions", 1, found)
}

fn identity(_: &dyn Machine) -> Result<(), Trouble> {
    let features = __cpuid_count(1, 0);
    Trouble::unless_equal("CPUID.1:ECX.hypervisor", 1, (features.ecx >> 31).into())?;
    Trouble::unless_equal("CPUID.1:EDX.APIC", 0, (features.edx >> 9 & 1).into())?;
    let extended = __cpuid_count(0x8000_0001, 0);
    Trouble::unless_equal("SVM", 0, (extended.ecx >> 2 & 1).into())?;
    let svm = __cpuid_count(0x8000_000a, 0);
    Trouble::unless_equal("SVM features", 0, (svm.eax | svm.ebx | svm.edx).into())
}

fn caches(machine: &dyn Machine) -> Result<(), Trouble> {
    let start = machine.start();
    let at = iommu_core::Gpa::new(start.memory_end() - 8);
    machine.store(at, 0x5afe)?;
    // SAFETY: the hypervisor skips both.
    unsafe { asm!("invd", "wbinvd", options(nostack)) };
    Trouble::unless_equal("memory", 0x5afe, machine.load(at)?)
}
