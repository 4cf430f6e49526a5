//! The local APIC, in xAPIC and in x2APIC mode (SDM 3A, 12).

use super::interrupts;
use super::vectors::{SPURIOUS, Vector};
use crate::memory::{MapError, RegisterWindow};
use core::sync::atomic::{AtomicBool, Ordering};
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
    CommandLow = 0x300,
    CommandHigh = 0x310,
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

/// The registers of xAPIC mode, if the firmware left that on.
static WINDOW: Once<RegisterWindow> = Once::new();
/// Registers are MSRs: the local APIC is in x2APIC mode.
static MODE: AtomicBool = AtomicBool::new(false);

impl Register {
    fn msr(self) -> Msr {
        Msr::new(X2APIC_MSRS + (self as u32 >> 4))
    }

    fn read(self) -> u32 {
        if is_x2apic() {
            // SAFETY: the register exists in x2APIC mode; reading has no side effect.
            return unsafe { self.msr().read() as u32 };
        }
        WINDOW
            .get()
            .map_or(0, |window| window.read32(self as usize))
    }

    fn write(self, value: u32) {
        if is_x2apic() {
            // SAFETY: the register exists in x2APIC mode; this module writes only what
            // masks, enables or acknowledges.
            unsafe { self.msr().write(u64::from(value)) };
        } else if let Some(window) = WINDOW.get() {
            window.write32(self as usize, value);
        }
    }
}

/// Enables the first CPU's local APIC in the mode that the firmware left it in, all local
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
    if value & BASE_X2APIC != 0 {
        MODE.store(true, Ordering::Release);
    } else {
        let window = RegisterWindow::map(Hpa::new(value & BASE_ADDRESS), 0x1000)?;
        WINDOW.call_once(|| window);
    }
    start_sources();
    Ok(())
}

/// Enables another CPU's local APIC in the mode that the first CPU's is in.
pub(super) fn start_other() {
    let mut base = Msr::new(BASE);
    // SAFETY: as in `start`. x2APIC mode is left by way of the disabled state alone (SDM 3A,
    // 12.12.5).
    unsafe {
        let left_in_x2apic = base.read() & BASE_X2APIC != 0;
        if left_in_x2apic && !is_x2apic() {
            let value = base.read();
            base.write(value & !(BASE_X2APIC | BASE_ENABLE));
        }
        let value = base.read() | BASE_ENABLE;
        base.write(value);
        if is_x2apic() {
            base.write(value | BASE_X2APIC);
        }
    }
    start_sources();
}

/// Masks all local sources and lets interrupts in.
fn start_sources() {
    for register in [
        Register::LvtTimer,
        Register::LvtLint0,
        Register::LvtLint1,
        Register::LvtError,
    ] {
        register.write(LVT_MASKED);
    }
    Register::ErrorStatus.write(0);
    Register::TaskPriority.write(0);
    Register::SpuriousVector.write(SOFTWARE_ENABLE | u32::from(SPURIOUS));
}

/// This CPU's APIC id, which interrupts are sent to: 8 bits in xAPIC mode.
pub fn id() -> u32 {
    let id = Register::Id.read();
    if is_x2apic() { id } else { id >> 24 }
}

/// Whether the local APIC is in x2APIC mode.
pub fn is_x2apic() -> bool {
    MODE.load(Ordering::Acquire)
}

/// Switches this CPU's local APIC to x2APIC mode. Its id, its vectors and its masks stay.
///
/// Only after interrupt remapping with 32-bit APIC ids is on (VT-d 5.10, 5.1.2.1).
pub fn enter_x2apic() {
    if is_x2apic() {
        return;
    }
    let mut base = Msr::new(BASE);
    // SAFETY: the caller has asked CPUID for the mode; from xAPIC mode the step is allowed
    // (SDM 3A, 12.12.5).
    unsafe {
        let value = base.read();
        base.write(value | BASE_X2APIC);
    }
    MODE.store(true, Ordering::Release);
}

/// The message by which a remapping unit's own event reaches this CPU: edge-triggered,
/// fixed, physical destination, and never remapped (VT-d 5.10, 5.1.6; SDM 3A, 11.11).
pub fn event_message(vector: Vector) -> vtd::Message {
    /// Where interrupt messages go; bits 19:12 hold the lower 8 bits of the APIC id.
    const INTERRUPTS: u64 = 0xfee0_0000;
    let id = u64::from(id());
    vtd::Message {
        address: INTERRUPTS | ((id & 0xff) << 12) | ((id & 0xffff_ff00) << 32),
        data: u16::from(vector.number()),
    }
}

/// Makes this CPU's timer interrupt once, after `count` times 16 ticks of a clock whose rate
/// nobody knows. An interrupt asked for before no longer comes.
pub fn interrupt_once(vector: Vector, count: u32) {
    Register::TimerDivide.write(DIVIDE_BY_16);
    Register::LvtTimer.write(vector.number().into());
    Register::TimerInitialCount.write(count);
}

/// Stops this CPU's timer.
pub fn stop_timer() {
    Register::TimerInitialCount.write(0);
}

/// What one CPU can make happen on another (SDM 3A, 12.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// An interrupt.
    Interrupt(Vector),
    /// An interrupt that nothing masks.
    NonMaskable,
    /// Puts the CPU into its state of power-on, waiting for a start-up.
    Init,
    /// Starts a CPU that waits so, in real mode, at the start of this page.
    StartUp {
        /// The page's number; the page lies below 1 MiB.
        page: u8,
    },
}

impl Signal {
    fn command(self) -> u32 {
        const ASSERT: u32 = 1 << 14;
        const NON_MASKABLE: u32 = 4 << 8;
        const INIT: u32 = 5 << 8;
        const START_UP: u32 = 6 << 8;
        ASSERT
            | match self {
                Self::Interrupt(vector) => u32::from(vector.number()),
                Self::NonMaskable => NON_MASKABLE,
                Self::Init => INIT,
                Self::StartUp { page } => START_UP | u32::from(page),
            }
    }
}

/// The local APIC does not get rid of what it was to send before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stuck;

/// Sends a signal to the CPU of this APIC id. What this CPU stored before can be seen there.
pub(super) fn send(apic_id: u32, signal: Signal) -> Result<(), Stuck> {
    /// Turns of waiting; a local APIC needs a few.
    const PATIENCE: u32 = 1 << 16;
    const PENDING: u32 = 1 << 12;
    let command = signal.command();
    // A write to an MSR of the x2APIC is not ordered behind stores.
    core::sync::atomic::fence(Ordering::SeqCst);
    if is_x2apic() {
        let value = u64::from(apic_id) << 32 | u64::from(command);
        // SAFETY: the register exists in x2APIC mode; whom the signal is for is the caller's
        // to know.
        unsafe { Register::CommandLow.msr().write(value) };
        return Ok(());
    }
    // Both halves belong together: no handler may send in between.
    let saved = interrupts::disable();
    let ready = (0..PATIENCE).any(|_| {
        let pending = Register::CommandLow.read() & PENDING != 0;
        if pending {
            core::hint::spin_loop();
        }
        !pending
    });
    if ready {
        Register::CommandHigh.write(apic_id << 24);
        Register::CommandLow.write(command);
    }
    interrupts::restore(saved);
    ready.then_some(()).ok_or(Stuck)
}

pub(super) fn end_of_interrupt() {
    Register::EndOfInterrupt.write(0);
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
