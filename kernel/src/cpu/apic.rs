//! The local APIC, in xAPIC and in x2APIC mode (SDM 3A, 12).

use super::vectors::{SPURIOUS, Vector};
use crate::memory::{MapError, RegisterWindow};
use iommu_core::{Hpa, Mmio};
use spin::Once;
use x86_64::instructions::port::PortWriteOnly;
use x86_64::registers::model_specific::Msr;

/// IA32_APIC_BASE.
const BASE: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// First MSR of the x2APIC's registers; the xAPIC's offset divided by 16 is added.
const X2APIC_MSRS: u32 = 0x800;

/// Registers, by their offset in xAPIC mode.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    ErrorStatus = 0x280,
    LvtTimer = 0x320,
    LvtLint0 = 0x350,
    LvtLint1 = 0x360,
    LvtError = 0x370,
    TimerInitialCount = 0x380,
    TimerDivide = 0x3e0,
}

const LVT_MASKED: u32 = 1 << 16;
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// The timer counts every 16th tick.
const DIVIDE_BY_16: u32 = 0b0011;

/// How this CPU's local APIC is reached.
enum LocalApic {
    Xapic(RegisterWindow),
    X2apic,
}

static LOCAL: Once<LocalApic> = Once::new();

impl LocalApic {
    fn read(&self, register: Register) -> u32 {
        match self {
            Self::Xapic(window) => window.read32(register as usize),
            Self::X2apic => {
                // SAFETY: the register exists in x2APIC mode; reading has no side effect.
                unsafe { Msr::new(X2APIC_MSRS + (register as u32 >> 4)).read() as u32 }
            }
        }
    }

    fn write(&self, register: Register, value: u32) {
        match self {
            Self::Xapic(window) => window.write32(register as usize, value),
            Self::X2apic => {
                // SAFETY: the register exists in x2APIC mode; this module writes only what
                // masks, enables or acknowledges.
                unsafe {
                    Msr::new(X2APIC_MSRS + (register as u32 >> 4)).write(u64::from(value));
                }
            }
        }
    }
}

/// Enables this CPU's local APIC in the mode that the firmware left it in, all local
/// sources masked, and masks the legacy interrupt controllers.
pub(crate) fn start() -> Result<(), MapError> {
    mask_legacy_controllers();
    let mut base = Msr::new(BASE);
    // SAFETY: every x86-64 CPU has this register; only the enable bit is changed.
    let value = unsafe {
        let value = base.read() | BASE_ENABLE;
        base.write(value);
        value
    };
    let local = if value & BASE_X2APIC != 0 {
        LocalApic::X2apic
    } else {
        let registers = Hpa::new(value & BASE_ADDRESS);
        LocalApic::Xapic(RegisterWindow::map(registers, 0x1000)?)
    };
    let local = LOCAL.call_once(|| local);
    for register in [
        Register::LvtTimer,
        Register::LvtLint0,
        Register::LvtLint1,
        Register::LvtError,
    ] {
        local.write(register, LVT_MASKED);
    }
    local.write(Register::ErrorStatus, 0);
    local.write(Register::TaskPriority, 0);
    local.write(
        Register::SpuriousVector,
        SOFTWARE_ENABLE | u32::from(SPURIOUS),
    );
    Ok(())
}

/// This CPU's APIC id, which interrupts are sent to: 8 bits in xAPIC mode.
pub fn id() -> u32 {
    match LOCAL.get() {
        Some(local @ LocalApic::Xapic(_)) => local.read(Register::Id) >> 24,
        Some(local) => local.read(Register::Id),
        None => 0,
    }
}

/// Whether the local APIC is in x2APIC mode.
pub fn is_x2apic() -> bool {
    matches!(LOCAL.get(), Some(LocalApic::X2apic))
}

/// Makes this CPU's timer interrupt once, after `count` times 16 ticks of a clock whose rate
/// nobody knows. An interrupt asked for before no longer comes.
pub fn interrupt_once(vector: Vector, count: u32) {
    if let Some(local) = LOCAL.get() {
        local.write(Register::TimerDivide, DIVIDE_BY_16);
        local.write(Register::LvtTimer, vector.number().into());
        local.write(Register::TimerInitialCount, count);
    }
}

/// Stops this CPU's timer.
pub fn stop_timer() {
    if let Some(local) = LOCAL.get() {
        local.write(Register::TimerInitialCount, 0);
    }
}

pub(super) fn end_of_interrupt() {
    if let Some(local) = LOCAL.get() {
        local.write(Register::EndOfInterrupt, 0);
    }
}

/// Moves the two 8259s' vectors out of the exceptions' and masks all of their lines. A
/// spurious interrupt of theirs then arrives on a vector that nobody handles.
fn mask_legacy_controllers() {
    /// Command and data port, first vector, how they are cascaded.
    const CONTROLLERS: [(u16, u16, u8, u8); 2] = [(0x20, 0x21, 0x20, 4), (0xa0, 0xa1, 0x28, 2)];
    for (command, data, vector, cascade) in CONTROLLERS {
        // SAFETY: the initialisation words of an 8259; nobody uses its interrupts.
        unsafe {
            PortWriteOnly::<u8>::new(command).write(0x11);
            let mut data = PortWriteOnly::<u8>::new(data);
            data.write(vector);
            data.write(cascade);
            data.write(1);
            data.write(0xff);
        }
    }
}
