//! The driver's events as log lines: what everybody wants to know as `info`, steps as
//! `debug`, each register write and each descriptor as `trace`.

use super::say;
use crate::platform::KernelPlatform;
use core::sync::atomic::{AtomicPtr, Ordering};
use iommu_core::Observer;
use vtd::Event;
use vtd_inspect::words::{Importance, Told};

/// Somebody who looks at each event when it happens, with the driver's locks held.
pub type Onlooker = fn(&Event);

static ONLOOKER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Names who looks at each event, for tests that want to act between two of the driver's
/// steps.
pub fn look_on(onlooker: Onlooker) {
    ONLOOKER.store(onlooker as *mut (), Ordering::Release);
}

fn onlooker() -> Option<Onlooker> {
    let pointer = ONLOOKER.load(Ordering::Acquire);
    if pointer.is_null() {
        return None;
    }
    // SAFETY: only `look_on` stores here, and what it stores is such a function.
    Some(unsafe { core::mem::transmute::<*mut (), Onlooker>(pointer) })
}

impl Observer<Event> for KernelPlatform {
    fn observe(&self, event: &Event) {
        if let Some(onlooker) = onlooker() {
            onlooker(event);
        }
        match *event {
            // Too many to be put together as sentences.
            Event::RegisterWritten {
                unit,
                register,
                offset,
                value,
            } => defmt::trace!(
                "unit {=u16}: {=str} ({=u32:#x}) = {=u64:#x}",
                unit,
                register,
                offset,
                value
            ),
            Event::Queued { unit, descriptor } => {
                defmt::trace!("unit {=u16}: {}", unit, descriptor)
            }
            Event::Attached { .. } => defmt::debug!("{}", event),
            // Told by `faults`, with the walk.
            Event::Fault(_) => {}
            // Told by `survey`, in its order.
            Event::Discovered { .. } | Event::ModeChosen { .. } => {}
            ref other => tell(other),
        }
    }
}

fn tell(event: &Event) {
    let told = Told(event);
    match told.importance() {
        Importance::Warn => say::warn(format_args!("{told}")),
        Importance::Info => say::info(format_args!("{told}")),
        Importance::Debug | Importance::Trace => say::debug(format_args!("{told}")),
    }
}
