//! Devices that translate for themselves (ATS, §4): which may, on and off in the order that
//! unit, path and device demand.

use super::Remapping;
use crate::devices::{Distrust, ats_trust};
use crate::rules::Rules;
use crate::time::KernelClock;
use core::fmt;
use dmar::Dmar;
use iommu_core::DeviceId;
use pci::{AtsSettings, ServiceFailure, Topology, TranslationServices};
use vtd::{DeviceTlb, DeviceTlbError};

/// Why a device does not translate for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnTranslation {
    /// The command line does not say that any may.
    SwitchedOff,
    /// Nothing vouches for it, or something speaks against it.
    Distrusted(Distrust),
    /// Its unit or the device itself refused.
    Failed(DeviceTlbError<ServiceFailure>),
}

impl fmt::Display for OwnTranslation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SwitchedOff => f.write_str("no device may (ats=off)"),
            Self::Distrusted(why) => write!(f, "{why}"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Before the units are at work: whether a device would be let.
pub(super) fn may_translate(
    rules: &Rules,
    dmar: &Dmar<'_>,
    topology: &Topology,
    device: DeviceId,
) -> Result<(), OwnTranslation> {
    if !rules.lets_vouched_translate() {
        return Err(OwnTranslation::SwitchedOff);
    }
    ats_trust(dmar, topology, device).map_err(OwnTranslation::Distrusted)
}

impl Remapping {
    /// Whether a device may translate for itself: the command line wants that, and the device
    /// is trusted.
    pub fn may_translate(&self, device: DeviceId) -> Result<(), OwnTranslation> {
        may_translate(self.rules(), &self.dmar, &self.bus.topology, device)
    }

    /// Lets a device translate for itself, if it may: first its unit, then the ports on its
    /// path, then the device. It is at rest meanwhile, and leads nowhere or where it will.
    pub fn let_translate(&self, device: DeviceId) -> Result<(), OwnTranslation> {
        self.may_translate(device)?;
        let (topology, ecam) = (&self.bus.topology, &self.bus.ecam);
        let missing = DeviceTlbError::Device(ServiceFailure::Missing(device));
        let missing = || OwnTranslation::Failed(missing);
        let services = topology.function(device).map(TranslationServices::of);
        let services = services.ok_or_else(missing)?;
        let capability = services.capability(ecam).ok_or_else(missing)?;
        let settings = DeviceTlb {
            queue_depth: capability.queue_depth,
            physical_function: topology.spoken_of(device).source,
            page_requests: false,
        };
        let turned_on = self.driver.enable_device_tlb(device, settings, || {
            topology.let_translated_pass(ecam, device, true);
            services.turn_on(ecam, &AtsSettings::default())
        });
        turned_on.map_err(|error| {
            topology.let_translated_pass(ecam, device, false);
            OwnTranslation::Failed(error)
        })
    }

    /// Takes that back: the device forgets what it has translated, and its translated requests
    /// are refused, by the ports on its path and by its unit. Nothing, for one that may not. It is
    /// at rest meanwhile.
    pub fn end_translating(&self, device: DeviceId) -> Result<(), DeviceTlbError<ServiceFailure>> {
        let (topology, ecam) = (&self.bus.topology, &self.bus.ecam);
        self.driver.disable_device_tlb(device, || {
            let services = topology.function(device).map(TranslationServices::of);
            let result = services.map_or(Ok(()), |services| services.turn_off(ecam, &KernelClock));
            topology.let_translated_pass(ecam, device, false);
            result
        })
    }
}
