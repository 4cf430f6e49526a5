//! Interrupt requests.

use fastrand::Rng;

use crate::case::Case;
use crate::generate::Draft;
use crate::generate::interrupts::{self, as_write};

pub(super) fn compatibility(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        interrupt.address.set_remappable(false);
        // The bits of a destination are its own: nobody's.
        interrupt.address.set_handle(rng.u16(1..0xfe) << 7);
        interrupt.address.set_subhandle_valid(false);
        interrupt.address.set_handle_high(false);
        Some(())
    })
}

pub(super) fn bus_range(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        // From 0 to a bus, or from a bus to 0.
        let bus = rng.u16(1..0x100);
        let source = if rng.bool() { bus } else { bus << 8 };
        interrupt.change_high(|high| high.with_check(2).with_qualifier(0).with_source(source));
        Some(())
    })
}

pub(super) fn reserved_and_source(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        interrupts::spoil_entry(interrupt, rng);
        interrupts::mistake_source(interrupt, rng);
        Some(())
    })
}

pub(super) fn reserved_check(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, _| {
        interrupt.change_high(|high| high.with_check(3));
        Some(())
    })
}

pub(super) fn unchecked_fields(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        let bit = one_of_unused(rng);
        let mode = [3, 6][rng.usize(..2)];
        let by_mode = rng.bool();
        interrupt.change_low(|low| {
            if by_mode {
                low.with_delivery(mode)
            } else {
                low.with_destination(low.destination() | 1 << bit)
            }
        });
        Some(())
    })
}

/// A bit of DST that is reserved without EIME.
fn one_of_unused(rng: &mut Rng) -> u32 {
    if rng.bool() {
        rng.u32(..8)
    } else {
        rng.u32(16..32)
    }
}

pub(super) fn posted(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, _| {
        interrupt.change_low(|low| low.with_posted(true));
        Some(())
    })
}

pub(super) fn long_index(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        // The sum is 10000h and the entry's index more.
        let index = ((interrupt.entry - (interrupt.table & !0xfff)) / 16) as u32;
        let sum = 0x1_0000 + index;
        let subhandle = rng.u32(index + 1..0x1_0000);
        let handle = sum - subhandle;
        interrupt.address.set_subhandle_valid(true);
        interrupt.address.set_handle((handle & 0x7fff) as u16);
        interrupt.address.set_handle_high(handle & 0x8000 != 0);
        interrupt.data = subhandle;
        if rng.bool() {
            as_write(interrupt, rng);
            interrupt.address.set_ignored(0);
        }
        Some(())
    })
}
