//! The way of a fault record to the guest whose device was refused.

use super::Policy;
use crate::remapping::faults::FaultSink;
use crate::vm::Vm;
use iommu_core::{FaultRecord, VmId};
use spin::{Mutex, Once};

/// Faults that are told in full; of later ones a guest could make any number.
const TOLD: u64 = 256;
/// Guests whose trials are watched.
const GUESTS: usize = 4;

/// Gives each record to policy, and to the guest's trial.
pub(super) struct Faults {
    policy: &'static Policy,
    guests: [Once<(VmId, &'static Vm)>; GUESTS],
    told: Mutex<u64>,
}

impl Faults {
    pub(super) const fn new(policy: &'static Policy) -> Self {
        Self {
            policy,
            guests: [const { Once::new() }; GUESTS],
            told: Mutex::new(0),
        }
    }

    /// Names a guest whose trials are watched.
    pub(super) fn watch(&self, id: VmId, vm: &'static Vm) {
        if let Some(slot) = self.guests.iter().find(|slot| slot.get().is_none()) {
            slot.call_once(|| (id, vm));
        }
    }

    /// An interrupt request without source id may be anybody's; trials look at it.
    fn note_anonymous(&self, record: &FaultRecord) {
        if record.reason.is_interrupt() {
            let guests = self.guests.iter().filter_map(Once::get);
            guests.for_each(|(_, vm)| vm.note_fault(record));
        }
    }

    fn vm(&self, id: VmId) -> Option<&'static Vm> {
        let mut guests = self.guests.iter().filter_map(Once::get);
        guests.find(|(known, _)| *known == id).map(|(_, vm)| *vm)
    }
}

impl FaultSink for Faults {
    fn fault(&self, record: &FaultRecord) {
        let Some(attribution) = self.policy.report(record) else {
            defmt::warn!("a fault of a device that no guest has: {}", record);
            self.note_anonymous(record);
            return;
        };
        // Interrupts are off here, on the only CPU.
        let mut told = self.told.lock();
        *told = told.saturating_add(1);
        if *told <= TOLD {
            defmt::info!("  it is of {}", attribution);
        }
        if let Some(vm) = self.vm(attribution.vm) {
            // Trials know the device by its own id.
            vm.note_fault(&FaultRecord {
                device: self.policy.host().who_requests_as(record.device),
                ..*record
            });
        }
    }
}
