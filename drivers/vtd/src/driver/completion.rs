//! Waiting for invalidations by interrupt, in place of looking again and again.

use super::Driver;
use crate::Event;
use crate::queue::event::{answer, mask};
use crate::unit::Message;
use iommu_core::{Mmio, Observer, Platform};

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Has a unit send `message` whenever invalidations are done, so that whoever waits for
    /// them can let its CPU sleep ([`Platform::rest`]); `None`: it looks at memory until
    /// they are, as in the beginning. Its handler calls
    /// [`completed`](Self::completed). Says whether the unit has a queue, without which
    /// there is no such message.
    ///
    /// The message is not remapped (§6.5.2.10). One that is lost costs a nap, and no more.
    pub fn wake_on_completion(&self, unit: u16, message: Option<Message>) -> bool {
        let found = self.unit(unit);
        let Some((unit, queue)) = found.and_then(|it| it.queue.as_ref().map(|queue| (it, queue)))
        else {
            return false;
        };
        queue.event.set(&unit.registers, &self.platform, message);
        true
    }

    /// For the handler of that message: from now on the unit sends another one. Says whether
    /// this one was the unit's.
    pub fn completed(&self, unit: u16) -> bool {
        self.unit(unit)
            .filter(|unit| unit.queue.is_some())
            .is_some_and(|unit| answer(&unit.registers, &self.platform))
    }

    /// Holds the message of a unit back, or lets it go; one that became due meanwhile is sent
    /// then.
    pub fn mask_completion(&self, unit: u16, masked: bool) {
        if let Some(unit) = self.unit(unit).filter(|unit| unit.queue.is_some()) {
            mask(&unit.registers, &self.platform, masked);
        }
    }
}
