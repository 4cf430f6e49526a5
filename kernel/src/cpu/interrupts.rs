//! Sections of this CPU that no interrupt can break into.

use x86_64::registers::rflags::{self, RFlags};

/// The interrupt flag as it was. Pass it to [`restore`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "interrupts stay off until the state is restored"]
pub struct Saved {
    on: bool,
}

impl Saved {
    /// Interrupts were off.
    pub const OFF: Self = Self { on: false };
    /// Interrupts were on.
    pub const ON: Self = Self { on: true };

    /// Whether interrupts were on.
    pub const fn were_on(self) -> bool {
        self.on
    }
}

/// Turns interrupts off.
pub fn disable() -> Saved {
    let on = rflags::read().contains(RFlags::INTERRUPT_FLAG);
    x86_64::instructions::interrupts::disable();
    Saved { on }
}

/// Turns interrupts on again if they were on.
pub fn restore(saved: Saved) {
    if saved.on {
        x86_64::instructions::interrupts::enable();
    }
}
