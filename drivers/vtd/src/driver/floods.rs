//! Holding devices back that flood a unit with faults, and letting them go again.

use super::Driver;
use crate::Event;
use crate::fault::{Flooder, Restraint};
use crate::registers::Fectl;
use crate::unit::Unit;
use iommu_core::{BackendError, DeviceId, Mmio, Observer, Platform};

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Lets devices go whose pause is over (see [`FaultLimit`](crate::FaultLimit)). To be
    /// called now and then, as by a timer; reading faults does it too.
    pub fn end_pauses(&self) {
        for unit in &self.units {
            self.let_go(unit);
        }
    }

    /// After faults were read.
    pub(super) fn watch_floods(&self, unit: &Unit<M>) {
        loop {
            let offender = unit
                .faults
                .lock(&self.platform)
                .offender(self.platform.now());
            let Some(flooder) = offender else {
                break;
            };
            let restraint = self.hold_back(unit, &flooder);
            self.platform.observe(&Event::Flood {
                device: DeviceId::new(unit.segment, flooder.source),
                faults: flooder.faults,
                interrupts: flooder.interrupts,
                restraint,
            });
        }
        self.let_go(unit);
    }

    fn hold_back(&self, unit: &Unit<M>, flooder: &Flooder) -> Restraint {
        if flooder.restraint != Restraint::EventMasked {
            match self.restrain(unit, flooder, Some(flooder.restraint)) {
                // Without a confirmation its entry says so all the same, and is let go with it.
                Ok(()) | Err(BackendError::Flush(_)) => return flooder.restraint,
                Err(_) => {}
            }
        }
        unit.faults.lock(&self.platform).mask_instead(flooder);
        unit.mask_fault_event(&self.platform, true);
        Restraint::EventMasked
    }

    fn let_go(&self, unit: &Unit<M>) {
        loop {
            let (released, masked) = {
                let mut watch = unit.faults.lock(&self.platform);
                (watch.released(self.platform.now()), watch.masks_event())
            };
            let Some(flooder) = released else {
                return;
            };
            match flooder.restraint {
                Restraint::EventMasked if !masked => unit.mask_fault_event(&self.platform, false),
                Restraint::EventMasked => {}
                // Its entry says less than it should until the flush is confirmed, so a
                // failure takes nothing from anybody; the unit's next error tells of it.
                _ => drop(self.restrain(unit, &flooder, None)),
            }
            self.platform.observe(&Event::FloodOver {
                device: DeviceId::new(unit.segment, flooder.source),
            });
        }
    }

    fn restrain(
        &self,
        unit: &Unit<M>,
        flooder: &Flooder,
        restraint: Option<Restraint>,
    ) -> Result<(), BackendError> {
        let device = DeviceId::new(unit.segment, flooder.source);
        self.set_standing(unit, device, |standing| super::Standing {
            restraint,
            ..standing
        })
    }
}

impl<M: Mmio> Unit<M> {
    /// A message that became due meanwhile is sent when the mask goes (§11.4.7.2).
    fn mask_fault_event<P: Platform + Observer<Event>>(&self, platform: &P, masked: bool) {
        if self.fault_message.is_some() {
            self.registers
                .write32(platform, Fectl::new().with_im(masked));
        }
    }
}
