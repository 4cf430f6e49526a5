//! The policy of `iommu` over the machine's driver.

use super::GuestError;
use super::meter::Meter;
use super::seats::MOST_GUESTS;
use crate::memory::RegisterWindow;
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use crate::remapping::{self, Driver, Remapping};
use crate::vm::{IommuCalls, VirtualInterrupts};
use alloc::sync::Arc;
use arrayvec::ArrayVec;
use edu::Edu;
use hypervisor_abi::FAULT_VECTOR;
use iommu::{Config, Iommu, PasidBitmap};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{DeviceId, Gpa, Nanoseconds, Platform, ResetError, VmEvent, VmHost, VmId};
use pci::CommandRegister;
use spin::Once;

/// Bits of host PASID that are handed out.
const PASID_BITS: u8 = 20;

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
            guests: Mutex::new(Rank::Memory, ArrayVec::new_const()),
        };
        Iommu::new(config, &remapping.driver, KernelPlatform, host, pasids)
            .map_err(GuestError::Iommu)
    })
}

/// What policy asks of this hypervisor.
pub struct Hypervisor {
    bus: &'static Bus,
    guests: Mutex<ArrayVec<(VmId, Arc<VirtualInterrupts>), MOST_GUESTS>>,
}

impl Hypervisor {
    /// Names where events of a guest go.
    pub(super) fn introduce(&self, vm: VmId, interrupts: Arc<VirtualInterrupts>) {
        // One that does not fit must ask for its faults.
        let _ = self.guests.lock(&KernelPlatform).try_push((vm, interrupts));
    }

    /// The guest is gone.
    pub(super) fn forget(&self, vm: VmId) {
        let mut guests = self.guests.lock(&KernelPlatform);
        let found = guests.iter().position(|(id, _)| *id == vm);
        let gone = found.map(|index| guests.swap_remove(index));
        drop(guests);
        drop(gone);
    }

    fn interrupts(&self, vm: VmId) -> Option<Arc<VirtualInterrupts>> {
        let guests = self.guests.lock(&KernelPlatform);
        let found = guests.iter().find(|(id, _)| *id == vm);
        found.map(|(_, interrupts)| interrupts.clone())
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

    /// By the device's own means: there is no general method yet.
    fn reset(&self, device: DeviceId) -> Result<(), ResetError> {
        let function = self.bus.topology.function(device);
        let function = function.ok_or(ResetError::NoMethod(device))?;
        if (function.vendor, function.device) != (edu::VENDOR, edu::DEVICE) {
            return Err(ResetError::NoMethod(device));
        }
        reset_edu(self.bus, function)
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
    edu.wait(&Clock, limit)
        .map_err(|_| ResetError::TimedOut(device))?;
    let _ = edu.acknowledge();
    Ok(())
}

struct Clock;

impl edu::Clock for Clock {
    fn now(&self) -> Nanoseconds {
        KernelPlatform.now()
    }

    fn relax(&self) {
        KernelPlatform.relax();
    }
}

/// One guest's way to the policy: the number comes from here and never from the guest.
pub(super) struct Caller {
    pub(super) policy: &'static Policy,
    pub(super) vm: VmId,
    pub(super) meter: Arc<Meter>,
}

impl IommuCalls for Caller {
    fn call(&self, operation: u64, argument: Gpa) -> i64 {
        let call = || self.policy.call(self.vm, operation, argument);
        self.meter.measure(operation, call)
    }

    fn tend(&self) {
        // A unit whose fault event is masked, because somebody floods it, tells nobody.
        remapping::faults::drain();
        if remapping::page_requests::take_pending() {
            self.policy.serve_page_requests();
        }
    }
}
