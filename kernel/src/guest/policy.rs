//! The policy of `iommu` over the machine's driver.

use super::GuestError;
use super::meter::Meter;
use super::seats::MOST_GUESTS;
use crate::devices::{Mute, may_ask};
use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use crate::remapping::{self, Driver, Remapping};
use crate::time::KernelClock;
use crate::vm::{IommuCalls, VirtualInterrupts};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use defmt::Display2Format;
use edu::Edu;
use hypervisor_abi::FAULT_VECTOR;
use iommu::{Config, Iommu, PasidBitmap, Progress};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{
    AtsCapability, Backend, BackendError, DeviceId, DomainHandle, Gpa, ResetError, ServiceError,
    SourceId, VmEvent, VmHost, VmId,
};
use pci::{AtsSettings, CommandRegister, ResetFailure, ResetLimits, Resetter, TranslationServices};
use quirks::Effect;
use spin::Once;
use vtd::{NotShareable, SharedTables};

/// Bits of host PASID that are handed out.
const PASID_BITS: u8 = 20;
/// Page requests that a device may have outstanding.
const PAGE_REQUESTS: u32 = 32;

/// Objects and policy over the machine's remapping units.
pub type Policy = Iommu<&'static Driver, KernelPlatform, Hypervisor>;

static POLICY: Once<Policy> = Once::new();

/// The policy, made at the first call.
pub fn policy(
    bus: &'static Bus,
    remapping: &'static Remapping,
    seed: u64,
) -> Result<&'static Policy, GuestError> {
    POLICY.try_call_once(|| {
        let config = Config {
            seed: seed | 1,
            allow_unremapped_interrupts: remapping.rules().allows_unremapped_interrupts(),
            ..Config::default()
        };
        let pasids = PasidBitmap::new(PASID_BITS).ok_or(GuestError::OutOfMemory)?;
        let host = Hypervisor {
            bus,
            remapping,
            guests: Mutex::new(Rank::Memory, ArrayVec::new_const()),
        };
        Iommu::new(config, &remapping.driver, KernelPlatform, host, pasids)
            .map_err(GuestError::Iommu)
    })
}

/// What policy asks of this hypervisor.
pub struct Hypervisor {
    bus: &'static Bus,
    remapping: &'static Remapping,
    guests: Mutex<ArrayVec<Known, MOST_GUESTS>>,
}

/// What is known of a guest.
struct Known {
    vm: VmId,
    /// Where its events go.
    interrupts: Arc<VirtualInterrupts>,
    /// The tables of its CPUs, if they are kept for devices too.
    tables: Option<SharedTables>,
}

impl Hypervisor {
    /// Names where events of a guest go, and the tables of its CPUs if devices may have them.
    pub(super) fn introduce(
        &self,
        vm: VmId,
        interrupts: Arc<VirtualInterrupts>,
        tables: Option<SharedTables>,
    ) {
        let known = Known {
            vm,
            interrupts,
            tables,
        };
        // One that does not fit must ask for its faults.
        let _ = self.guests.lock(&KernelPlatform).try_push(known);
    }

    /// Whether a guest's device may ask for pages, and what the driver must know of it.
    pub(super) fn may_ask(&self, device: DeviceId) -> Result<AtsCapability, Mute> {
        let topology = &self.bus.topology;
        let function = topology.function(device).ok_or(Mute::Device)?;
        let services = TranslationServices::of(function);
        let remapping = self.remapping;
        let unit = remapping.driver.capabilities(device);
        may_ask(
            &services,
            unit.is_ok_and(|unit| unit.page_requests),
            remapping.rules().lets_vouched_translate(),
            || remapping.ats_trust(device),
        )?;
        let capability = services.capability(&self.bus.ecam).ok_or(Mute::Device)?;
        Ok(AtsCapability {
            queue_depth: capability.queue_depth,
            physical_function: device.source,
        })
    }

    /// The guest is gone.
    pub(super) fn forget(&self, vm: VmId) {
        let mut guests = self.guests.lock(&KernelPlatform);
        let found = guests.iter().position(|known| known.vm == vm);
        let gone = found.map(|index| guests.swap_remove(index));
        drop(guests);
        drop(gone);
    }

    /// The device whose requests come under an id that is no function's.
    pub(super) fn who_requests_as(&self, id: DeviceId) -> DeviceId {
        match self.bus.topology.function(id) {
            Some(_) => id,
            None => self.bus.topology.spoken_of(id),
        }
    }

    fn interrupts(&self, vm: VmId) -> Option<Arc<VirtualInterrupts>> {
        let guests = self.guests.lock(&KernelPlatform);
        let found = guests.iter().find(|known| known.vm == vm);
        found.map(|known| known.interrupts.clone())
    }

    fn tables(&self, vm: VmId) -> Option<SharedTables> {
        let guests = self.guests.lock(&KernelPlatform);
        guests.iter().find(|known| known.vm == vm)?.tables
    }
}

impl VmHost for Hypervisor {
    fn notify(&self, vm: VmId, event: VmEvent) {
        match event {
            VmEvent::FaultsPending => {
                if let Some(interrupts) = self.interrupts(vm) {
                    interrupts.raise(FAULT_VECTOR);
                }
            }
        }
    }

    fn reset(&self, device: DeviceId) -> Result<(), ResetError> {
        self.reset_beside(device, &|_| false)
    }

    /// By the first method that the device has, or, where a row of the table says that it
    /// needs none, by its own means.
    fn reset_beside(
        &self,
        device: DeviceId,
        is_in_use: &dyn Fn(DeviceId) -> bool,
    ) -> Result<(), ResetError> {
        self.end_translating(device);
        let resetter = Resetter {
            topology: &self.bus.topology,
            access: &self.bus.ecam,
            clock: &KernelClock,
            limits: ResetLimits::default(),
        };
        match resetter.reset(device, is_in_use) {
            Ok(done) => {
                defmt::info!("{}: reset by a {=str}", device, done.method.name());
                if done.was_busy {
                    defmt::warn!("{}: had requests under way when it was reset", device);
                }
                Ok(())
            }
            Err(ResetFailure::NoMethod(why)) => self.stop_harmless(device).unwrap_or_else(|| {
                defmt::warn!("{}: cannot be reset: {}", device, Display2Format(&why));
                Err(ResetError::NoMethod(device))
            }),
            Err(ResetFailure::Gone) => {
                defmt::warn!("{}: does not answer; was it taken out?", device);
                Err(ResetError::Gone(device))
            }
            Err(error) => {
                defmt::warn!("{}: {}", device, Display2Format(&error));
                Err(ResetError::TimedOut(device))
            }
        }
    }

    fn aliases(&self, device: DeviceId, tell: &mut dyn FnMut(SourceId)) {
        let ids = self.bus.topology.requesters(device);
        ids.skip(1).for_each(tell);
    }

    fn companions(&self, device: DeviceId, tell: &mut dyn FnMut(DeviceId)) {
        let members = self.bus.groups.members(device);
        members.filter(|member| *member != device).for_each(tell);
    }

    fn share_tables(&self, vm: VmId, device: DeviceId) -> Result<DomainHandle, BackendError> {
        let tables = self.tables(vm).ok_or(BackendError::Unsupported(device))?;
        let driver = &self.remapping.driver;
        driver.create_shared(device, &tables).map_err(|why| {
            defmt::info!(
                "{}: does not use the tables of guest {=u16}'s CPU: {}",
                device,
                vm.0,
                Display2Format(&why)
            );
            match why {
                NotShareable::Backend(error) => error,
                _ => BackendError::Unsupported(device),
            }
        })
    }

    fn set_page_requests(&self, device: DeviceId, on: bool) -> Result<(), ServiceError> {
        let topology = &self.bus.topology;
        let unsupported = ServiceError::Unsupported(device);
        let function = topology.function(device).ok_or(unsupported)?;
        let services = TranslationServices::of(function);
        let ecam = &self.bus.ecam;
        if !on {
            let result = services.turn_off(ecam, &KernelClock);
            topology.let_translated_pass(ecam, device, false);
            return result.map_err(|_| ServiceError::TimedOut(device));
        }
        if let Err(why) = self.remapping.may_translate(device) {
            defmt::warn!(
                "{}: does not translate for itself: {}",
                device,
                Display2Format(&why)
            );
            return Err(unsupported);
        }
        topology.let_translated_pass(ecam, device, true);
        let settings = AtsSettings {
            pasid: function.capabilities.pasid.is_some(),
            page_requests: Some(PAGE_REQUESTS),
        };
        services.turn_on(ecam, &settings).map_err(|error| {
            topology.let_translated_pass(ecam, device, false);
            defmt::warn!("{}", Display2Format(&error));
            unsupported
        })
    }
}

impl Hypervisor {
    /// What a device may have cached for its last owner is forgotten, and that it translates
    /// for itself is over.
    fn end_translating(&self, device: DeviceId) {
        let config = pci::Config::new(&self.bus.ecam, device);
        let running = config.command();
        // It must be at rest, and so it is to stay until its next owner wants it.
        config.set_command(running.difference(CommandRegister::BUS_MASTER_ENABLE));
        if let Err(error) = self.remapping.end_translating(device) {
            // It is blocked; its entry is gone or the unit has cut it off.
            defmt::warn!(
                "{}: goes on translating for itself: {}",
                device,
                Display2Format(&error)
            );
        }
    }

    /// Stops a device that the table says is harmless without a reset. Not one that anybody
    /// could have plugged in: it may only claim to be that.
    fn stop_harmless(&self, device: DeviceId) -> Option<Result<(), ResetError>> {
        let function = self.bus.topology.function(device)?;
        let quirk = function.quirk(Effect::Harmless)?;
        let is_edu = (function.vendor, function.device) == (edu::VENDOR, edu::DEVICE);
        if !is_edu || self.bus.topology.hot_plug_port(device).is_some() {
            return None;
        }
        defmt::info!(
            "{}: stopped; {=str} ({=str})",
            device,
            quirk.name,
            quirk.source
        );
        Some(reset_edu(self.bus, function))
    }
}

/// `edu` has no reset. It is harmless when it copies no more and interrupts no more; what
/// its buffer holds stays, and a guest that cares must overwrite it.
fn reset_edu(bus: &Bus, function: &pci::Function) -> Result<(), ResetError> {
    let device = function.id;
    let none = ResetError::NoMethod(device);
    let bar = function.bar(0).ok_or(none)?;
    let config = pci::Config::new(&bus.ecam, device);
    config.set_command(CommandRegister::MEMORY_ENABLE | CommandRegister::INTERRUPT_DISABLE);
    let window = RegisterWindow::map(bar.base, bar.size as usize).map_err(|_| none)?;
    let edu = Edu::new(window).map_err(|_| none)?;
    let limit = Edu::<RegisterWindow>::PATIENCE;
    edu.wait(&KernelClock, limit)
        .map_err(|_| ResetError::TimedOut(device))?;
    let _ = edu.acknowledge();
    Ok(())
}

/// One guest's way to the policy: the number comes from here and never from the guest.
pub(super) struct Caller {
    pub(super) policy: &'static Policy,
    pub(super) vm: VmId,
    pub(super) meter: Arc<Meter>,
    /// Of the call that the guest's one CPU makes.
    pub(super) progress: spin::Mutex<Progress>,
}

impl IommuCalls for Caller {
    fn call(&self, operation: u64, argument: Gpa) -> Option<i64> {
        let mut progress = self.progress.lock();
        let policy = self.policy;
        let call = || policy.call_part(self.vm, operation, argument, &mut progress);
        self.meter.measure(operation, call)
    }

    fn tend(&self) {
        // A unit whose fault event is masked, because somebody floods it, tells nobody.
        remapping::faults::drain();
        if remapping::page_requests::take_pending() {
            self.policy.serve_page_requests();
        }
        // A guest that is gone, or whose rings are not polled, has nothing to be done.
        let _ = self.policy.poll_rings(self.vm);
    }
}
