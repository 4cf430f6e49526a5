//! Interrupt vectors and who handles them.

use super::apic;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use spin::Once;

/// An interrupt vector that was given out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Vector(u8);

impl Vector {
    /// The number that an interrupt message carries.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Handles an interrupt: takes note, quietens its device, returns.
pub trait Handler: Sync {
    /// Called with interrupts off, before the end of interrupt is signalled.
    fn handle(&self, vector: Vector);
}

impl<F: Fn(Vector) + Sync> Handler for F {
    fn handle(&self, vector: Vector) {
        self(vector);
    }
}

/// All vectors are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct OutOfVectors;

/// The first vector that is given out. Those below are for exceptions and for the legacy
/// interrupt controllers, which are masked but may still raise spurious interrupts.
const FIRST: u8 = 0x30;
/// The vector for the local APIC's spurious interrupts; lower 4 bits set, as old ones want.
pub(super) const SPURIOUS: u8 = 0xff;

/// A handler, once there is one. Handlers are for ever, so reading needs no lock.
type Slot = Once<&'static dyn Handler>;

static SLOTS: [Slot; 256] = [const { Once::new() }; 256];
static NEXT: AtomicU8 = AtomicU8::new(FIRST);
static UNCLAIMED: AtomicU64 = AtomicU64::new(0);

/// Gives out a vector for `handler`.
pub fn allocate(handler: &'static dyn Handler) -> Result<Vector, OutOfVectors> {
    let vector = NEXT
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < SPURIOUS).then(|| next.wrapping_add(1))
        })
        .map_err(|_| OutOfVectors)?;
    if let Some(slot) = SLOTS.get(usize::from(vector)) {
        slot.call_once(|| handler);
    }
    Ok(Vector(vector))
}

/// Interrupts that came on a vector without handler.
pub fn unclaimed() -> u64 {
    UNCLAIMED.load(Ordering::Relaxed)
}

/// An interrupt has come.
pub(super) fn handle(vector: u8) {
    if vector == SPURIOUS {
        // No end of interrupt for these (SDM 3A, 12.9).
        return;
    }
    match SLOTS.get(usize::from(vector)).and_then(Once::get) {
        Some(handler) => handler.handle(Vector(vector)),
        None => {
            UNCLAIMED.fetch_add(1, Ordering::Relaxed);
            defmt::warn!("interrupt on vector {=u8:#x}, which nobody handles", vector);
        }
    }
    apic::end_of_interrupt();
}
