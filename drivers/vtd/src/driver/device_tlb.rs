//! Devices that cache translations themselves (ATS), and those that ask for pages (PRI)
//! (§4, §7.4).
//!
//! Whoever lets a device do so trusts it, unless its unit checks what it claims to have
//! translated (module `checked`). Nothing here turns it on by itself.

use super::Driver;
use crate::Event;
use crate::fault::Restraint;
use crate::queue::{
    ContextScope, Descriptor, DeviceTlbTarget, IotlbScope, PasidScope, Queue, QueueError,
};
use crate::unit::Unit;
use core::error::Error;
use core::fmt;
use iommu_core::{BackendError, DeviceId, FlushError, Mmio, Observer, Platform, SourceId};

/// What a device's ATS capability says, and what it shall be allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceTlb {
    /// Invalidate queue depth of its physical function; 0 is 32.
    pub queue_depth: u8,
    /// Its physical function; itself if it is one.
    pub physical_function: SourceId,
    /// Its page requests are accepted too.
    pub page_requests: bool,
}

/// Why a device's TLB was not turned on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DeviceTlbError<E> {
    /// The driver could not.
    Backend(BackendError),
    /// The device could not be programmed; the tables are as before.
    Device(E),
}

impl<E> From<BackendError> for DeviceTlbError<E> {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl<E: fmt::Display> fmt::Display for DeviceTlbError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(error) => error.fmt(f),
            Self::Device(error) => write!(f, "the device could not be programmed: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for DeviceTlbError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Backend(error) => Some(error),
            Self::Device(error) => Some(error),
        }
    }
}

/// What a source's context entry says beside where its requests go.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Standing {
    /// Its faults are not recorded (FPD).
    pub(crate) silenced: bool,
    /// Translation and translated requests.
    pub(crate) translations: bool,
    /// Page requests.
    pub(crate) page_requests: bool,
    /// Translated requests are held against the host permission table (HPTE).
    pub(crate) checked: bool,
    /// It is held back because it made too many faults.
    pub(crate) restraint: Option<Restraint>,
}

impl Standing {
    /// FPD.
    pub(crate) fn is_silent(&self) -> bool {
        self.silenced || self.restraint.is_some()
    }

    /// Its entry is withheld.
    pub(crate) fn is_blocked(&self) -> bool {
        self.restraint == Some(Restraint::Blocked)
    }
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    /// Lets a device cache translations. The device does no DMA meanwhile.
    ///
    /// Its entry is changed and told to hardware, then `turn_on` programs the device (PASID
    /// before ATS before PRI), and from then on it is told of invalidations.
    pub fn enable_device_tlb<E>(
        &self,
        device: DeviceId,
        settings: DeviceTlb,
        turn_on: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), DeviceTlbError<E>> {
        self.open_device_tlb(device, settings, false, turn_on)
    }

    pub(super) fn open_device_tlb<E>(
        &self,
        device: DeviceId,
        settings: DeviceTlb,
        checked: bool,
        turn_on: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), DeviceTlbError<E>> {
        let (_, unit) = self.locate(device)?;
        let lacks_requests = settings.page_requests && unit.page_requests.is_none();
        if !unit.abilities.device_tlbs() || lacks_requests {
            return Err(BackendError::Unsupported(device).into());
        }
        let target = DeviceTlbTarget {
            source: device.source,
            physical: if unit.abilities.ecap.dit() {
                settings.physical_function
            } else {
                SourceId::default()
            },
            pending: settings.queue_depth & 0x1f,
        };
        let open = |standing| Standing {
            translations: true,
            page_requests: settings.page_requests,
            checked,
            ..standing
        };
        if !self.domains.lock(&self.platform).promise_device_tlb() {
            return Err(BackendError::OutOfDomains.into());
        }
        let turned_on = match self.open_standing(unit, device, checked, open) {
            Ok(()) => turn_on().map_err(DeviceTlbError::Device),
            Err(error) => Err(error.into()),
        };
        let told = turned_on.is_ok().then_some(target);
        self.domains.lock(&self.platform).keep_promise(device, told);
        match turned_on {
            Err(DeviceTlbError::Device(_)) => self.set_standing(unit, device, closed)?,
            // Hardware was not told, or did not say so. What it is told next it reads anew, and
            // nobody tells a device of invalidations that was not turned on.
            Err(DeviceTlbError::Backend(BackendError::Flush(_))) => {
                let _ = self.set_standing(unit, device, closed);
            }
            _ => {}
        }
        turned_on
    }

    /// Takes a device's right to cache translations back. The device does no DMA
    /// meanwhile. `turn_off` programs it (PRI before ATS before PASID).
    pub fn disable_device_tlb<E>(
        &self,
        device: DeviceId,
        turn_off: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), DeviceTlbError<E>> {
        let (_, unit) = self.locate(device)?;
        let known = self.domains.lock(&self.platform).device_tlb(device);
        let Some(target) = known else {
            return Ok(());
        };
        turn_off().map_err(DeviceTlbError::Device)?;
        // Drains translated requests that are still under way (§4.5.2). Whoever does not
        // answer loses its entry all the same.
        let with_pasids = unit.mode().is_scalable() && unit.abilities.ecap.pasid();
        let drained = unit.invalidate_and_drain(&self.platform, &target.everything(with_pasids));
        self.domains
            .lock(&self.platform)
            .device_tlbs
            .retain(|(known, _)| *known != device);
        self.set_standing(unit, device, closed)?;
        drained
            .map_err(|error| DeviceTlbError::Backend(self.unconfirmed_error(unit, device, error)))
    }

    /// Stops, or starts again, recording the faults of a device (FPD): of one that makes
    /// so many that those of others are lost. What it may reach does not change.
    pub fn silence(&self, device: DeviceId, silenced: bool) -> Result<(), BackendError> {
        let (_, unit) = self.locate(device)?;
        self.set_standing(unit, device, |standing| Standing {
            silenced,
            ..standing
        })
    }

    /// Changes what a context entry allows, and makes hardware forget the old one (row
    /// "context entry" of §6.5.3.3).
    pub(super) fn set_standing(
        &self,
        unit: &Unit<M>,
        device: DeviceId,
        change: impl FnOnce(Standing) -> Standing,
    ) -> Result<(), BackendError> {
        let changed =
            unit.tables
                .lock(&self.platform)
                .set_standing(&self.platform, device.source, change)?;
        if changed {
            self.tell_standing(unit, device)
        } else {
            Ok(())
        }
    }

    /// Makes hardware forget what a context entry said.
    pub(super) fn tell_standing(
        &self,
        unit: &Unit<M>,
        device: DeviceId,
    ) -> Result<(), BackendError> {
        let mut descriptors = arrayvec::ArrayVec::<Descriptor, 5>::new();
        descriptors.push(Descriptor::ContextCache(ContextScope::Global));
        if unit.mode().is_scalable() {
            descriptors.push(Descriptor::PasidCache(PasidScope::Global));
        }
        descriptors.push(Descriptor::Iotlb(IotlbScope::Global));
        if unit.abilities.checks_translated_requests() {
            // Nothing orders these two but a fence (§6.5.2.12, §6.5.3.4).
            descriptors.extend(unit.queue.as_ref().map(Queue::fence_descriptor));
            descriptors.push(Descriptor::HostPermissionCache);
        }
        unit.invalidate(&self.platform, &descriptors)
            .map_err(|error| self.unconfirmed_error(unit, device, error))
    }

    /// Of an invalidation that no debt stands for.
    pub(super) fn unconfirmed_error(
        &self,
        unit: &Unit<M>,
        device: DeviceId,
        error: QueueError,
    ) -> BackendError {
        self.note_unconfirmed();
        let unit = unit.index();
        BackendError::Flush(match error {
            QueueError::Refused(code) => FlushError::DescriptorRefused { unit, code },
            QueueError::TimedOut(waited) => FlushError::UnitTimedOut { unit, waited },
            QueueError::Aborted(_) => FlushError::DeviceTimedOut(device),
        })
    }
}

/// What a device may do whose TLB is off.
fn closed(standing: Standing) -> Standing {
    Standing {
        translations: false,
        page_requests: false,
        checked: false,
        ..standing
    }
}
