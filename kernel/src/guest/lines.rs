//! Interrupts of guests' devices: lines with a vector each, which are used again by the guests
//! that come later.

use super::GuestError;
use super::pool::{Place, Pool};
use crate::cpu::vectors::{self, Vector};
use crate::platform::KernelPlatform;
use crate::remapping::Driver;
use crate::vm::VirtualInterrupts;
use crate::vm::passthrough::InterruptLine;
use alloc::sync::Arc;
use iommu_core::{IrqError, IrqHandle, IrqRemapper, IrqTarget};
use spin::Once;

/// Lines at a time.
const MOST: usize = 32;

static PLATFORM: KernelPlatform = KernelPlatform;
static LINES: [InterruptLine; MOST] = [const { InterruptLine::new(&PLATFORM) }; MOST];
static VECTORS: [Once<Vector>; MOST] = [const { Once::new() }; MOST];
static PLACES: Pool<MOST> = Pool::new();

/// A line that leads to a guest until it is dropped.
#[derive(Debug)]
pub(super) struct Line {
    place: Place,
    /// The vector on which the device's interrupt comes.
    pub(super) vector: Vector,
}

impl Line {
    /// A line that nobody has. It is off.
    pub(super) fn take(guest: Arc<VirtualInterrupts>) -> Result<Self, GuestError> {
        let place = PLACES.take().ok_or(GuestError::OutOfVectors)?;
        let line = &LINES[place.index()];
        let vector = VECTORS[place.index()].try_call_once(|| vectors::allocate(line));
        let &vector = vector.map_err(|_| GuestError::OutOfVectors)?;
        line.lead_to(guest);
        Ok(Self { place, vector })
    }

    /// The way into the guest.
    pub(super) fn line(&self) -> &'static InterruptLine {
        &LINES[self.place.index()]
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Before the place is free.
        self.line().cut();
    }
}

/// A device's interrupt as a guest has it: the entry that remaps it, and the line.
#[derive(Debug)]
pub(super) struct Interrupt {
    /// None where interrupts are not remapped.
    pub(super) entry: Option<IrqHandle>,
    pub(super) line: Line,
}

impl Interrupt {
    /// Makes it come to a CPU, by its APIC id.
    pub(super) fn come_to(&self, driver: &Driver, apic_id: u32) -> Result<(), IrqError> {
        let Some(entry) = &self.entry else {
            // Its message names a CPU by itself.
            return Ok(());
        };
        let target = IrqTarget {
            apic_id,
            vector: self.line.vector.number(),
            level: false,
        };
        // The message that leads to the entry stays what it was.
        driver.route(entry, 0, target).map(|_| ())
    }

    /// Gives the entry back; the line leads nowhere any more.
    pub(super) fn give_back(self, driver: &Driver) -> Result<(), IrqError> {
        match self.entry {
            Some(entry) => driver.free(entry),
            None => Ok(()),
        }
    }
}
