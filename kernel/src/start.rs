//! From the loader to `main`: everything that both kernels need before they differ.

use crate::archive::Archive;
use crate::command_line::CommandLine;
use crate::exit::{ExitStatus, exit};
use crate::{cpu, log, memory, time};
use boot::{BootInfo, Loader};
use spin::Once;

/// A machine on which memory, exceptions, interrupts, the clock and the log work.
pub struct Machine {
    /// What the loader said.
    pub boot: &'static BootInfo,
    /// What the command line asks for.
    pub command_line: CommandLine,
    /// The boot module's files.
    pub archive: Archive<'static>,
}

static BOOT_INFO: Once<BootInfo> = Once::new();

/// What the loader said.
pub(crate) fn boot_info() -> &'static BootInfo {
    match BOOT_INFO.get() {
        Some(info) => info,
        None => panic!("the boot information is asked for before it was read"),
    }
}

/// Starts the kernel and calls `main`. For [`entry!`](crate::entry).
#[doc(hidden)]
pub fn run(name: &str, loader: Loader, main: fn(Machine) -> !) -> ! {
    cpu::start();
    log::announce_kernel(name);
    if !cpu::features().cmpxchg16b {
        panic!("the CPU lacks cmpxchg16b, which every CPU beside a VT-d unit has");
    }
    // SAFETY: nothing has been written outside the image yet.
    let boot = match unsafe { BootInfo::read(loader) } {
        Ok(info) => BOOT_INFO.call_once(|| info),
        Err(error) => panic!("the loader's information cannot be used: {error}"),
    };
    if let Err(error) = memory::start(boot) {
        exit(
            ExitStatus::NoMemory,
            format_args!("too little memory to start: {error}; give the machine more"),
        );
    }
    if let Err(error) = cpu::apic::start() {
        panic!("the local APIC cannot be reached: {error}");
    }
    let clock = time::start();
    x86_64::instructions::interrupts::enable();
    describe(boot, clock.is_ok());

    let command_line = match CommandLine::parse(&boot.command_line) {
        Ok(line) => line,
        Err(error) => exit(ExitStatus::BadCommandLine, format_args!("{error}")),
    };
    main(Machine {
        boot,
        command_line,
        archive: archive(boot),
    })
}

fn archive(boot: &BootInfo) -> Archive<'static> {
    let Some(module) = boot.modules.first() else {
        return Archive::EMPTY;
    };
    let Some(bytes) = memory::module(module) else {
        panic!(
            "the boot module at {} does not lie in memory",
            module.first()
        );
    };
    match Archive::new(bytes) {
        Ok(archive) => archive,
        Err(error) => exit(
            ExitStatus::NoGuest,
            format_args!("{error}; make one with `tar --format=ustar`"),
        ),
    }
}

fn describe(boot: &BootInfo, has_clock: bool) {
    let frames = memory::counters();
    defmt::info!(
        "started by {=str}; {=u64} KiB free; command line `{=str}`",
        match boot.protocol {
            boot::Protocol::Pvh => "PVH",
            boot::Protocol::Multiboot2 => "Multiboot2",
        },
        frames.free * 4,
        boot.command_line.as_str()
    );
    defmt::debug!("CPU: {}", cpu::features());
    for region in &boot.memory {
        defmt::debug!(
            "memory {=u64:#x} to {=u64:#x}: {=str}",
            region.range.first().as_u64(),
            region.range.last().as_u64(),
            match region.kind {
                boot::MemoryKind::Usable => "usable",
                boot::MemoryKind::Acpi => "ACPI",
                boot::MemoryKind::AcpiNvs => "ACPI NVS",
                boot::MemoryKind::Reserved => "reserved",
            }
        );
    }
    if boot.memory_dropped > 0 {
        defmt::warn!(
            "{=usize} regions of the memory map were dropped for want of room",
            boot.memory_dropped
        );
    }
    match time::source() {
        Some((source, hertz)) => {
            defmt::info!("time-stamp counter at {=u64} Hz, by {}", hertz, source)
        }
        None if has_clock => {}
        None => defmt::warn!("no clock yet: neither CPUID nor the 8254 tells its rate"),
    }
}
