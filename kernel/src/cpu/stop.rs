//! One CPU that found the kernel broken stops all others for good, so that what it tells is
//! what it found, and they do no more harm: by an interrupt that nothing masks.
//!
//! A CPU that has the log finishes its record first. One that is in a guest leaves it. One
//! that does not stop in time is counted and left.

use super::apic::{self, Signal};
use super::others::{apic_id, count};
use super::per_cpu;
use crate::log;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Turns that the others are waited for: well above the time of a log record.
const PATIENCE: u32 = 1 << 22;
const NOBODY: u32 = u32::MAX;

/// The CPU that stops the others.
static STOPPER: AtomicU32 = AtomicU32::new(NOBODY);
/// CPUs that stand still.
static STANDING: AtomicUsize = AtomicUsize::new(0);

/// How many of the other CPUs stand still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stopped {
    stopped: usize,
    others: usize,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.others {
            0 => Ok(()),
            others => write!(f, "; {} of {others} other CPUs stopped", self.stopped),
        }
    }
}

/// Makes this CPU the only one. Does not return if another one has done so before. `None` if
/// it was this one: telling what it found has failed.
pub(crate) fn stop_the_others() -> Option<Stopped> {
    let own = per_cpu::index();
    let first = STOPPER.compare_exchange(NOBODY, own, Ordering::AcqRel, Ordering::Acquire);
    match first {
        Ok(_) => {}
        Err(stopper) if stopper == own => return None,
        Err(_) => stand_still(),
    }
    let used = count();
    for id in (0..used as u32)
        .filter(|&index| index != own)
        .filter_map(apic_id)
    {
        // One that it does not reach is missing in the count.
        let _ = apic::send(id, Signal::NonMaskable);
    }
    let others = used.saturating_sub(1);
    let standing = || STANDING.load(Ordering::Acquire);
    for _ in 0..PATIENCE {
        if standing() >= others {
            break;
        }
        core::hint::spin_loop();
    }
    Some(Stopped {
        stopped: standing(),
        others,
    })
}

/// Whether this CPU shall stand still.
pub(crate) fn must_stand_still() -> bool {
    match STOPPER.load(Ordering::Acquire) {
        NOBODY => false,
        stopper => stopper != per_cpu::index(),
    }
}

/// A non-maskable interrupt came. Returns if somebody wants this CPU to stop that has to finish
/// a record of the log first; that ends in [`stand_still`].
pub(super) fn interrupted() {
    if !log::is_mine() {
        stand_still();
    }
}

/// Does nothing any more.
pub(crate) fn stand_still() -> ! {
    x86_64::instructions::interrupts::disable();
    STANDING.fetch_add(1, Ordering::AcqRel);
    loop {
        x86_64::instructions::hlt();
    }
}
