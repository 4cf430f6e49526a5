//! One guest: its objects, its shadows, and what waits for it.

use crate::inbox::Inbox;
use crate::nesting::{ParentId, Parents};
use crate::object::Objects;
use crate::pasid::GuestPasids;
use crate::pasid_table::PasidTables;
use crate::shadow::{Context, RootId, Shadow};
use crate::{IommuError, Quota};
use alloc::sync::Arc;
use alloc::vec::Vec;
use iommu_core::sync::{Mutex, Rank, Turn};
use iommu_core::{DeviceId, DomainHandle, GuestMemory, Pasid, Platform, Slot, VmId};

/// A guest's memory, as the hypervisor keeps it.
pub type SharedMemory = Arc<dyn GuestMemory + Send + Sync>;

/// A place for a guest. Calls of one guest take turns: interrupts stay on meanwhile, and
/// hardware may be waited for.
pub(crate) struct VmSlot {
    pub(crate) state: Turn<Option<Vm>>,
    /// For the fault path, which has no turn: held while a few entries are read.
    pub(crate) memory: Mutex<Option<SharedMemory>>,
    pub(crate) inbox: Mutex<Inbox>,
}

impl VmSlot {
    pub(crate) const fn new() -> Self {
        Self {
            state: Turn::new(None),
            memory: Mutex::new(Rank::Vm, None),
            inbox: Mutex::new(Rank::Events, Inbox::none()),
        }
    }
}

/// The guest's side of a slot: the PASID in its own numbering, and the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PasidPair {
    pub(crate) guest: Pasid,
    pub(crate) host: Pasid,
}

/// Who translates what is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translation {
    /// The tables that the back-end keeps for an address space, as long as that lives.
    Managed,
    /// A shadow of the guest's table, by its root.
    Shadow(RootId),
    /// The guest's table itself, above this second stage.
    Nested(ParentId),
}

/// A device, or one PASID of it, that uses an address space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub(crate) device_id: u32,
    pub(crate) device: DeviceId,
    pub(crate) pasid: Option<PasidPair>,
    pub(crate) ioas_id: u32,
    /// The guest answers page requests here.
    pub(crate) page_requests: bool,
    pub(crate) translation: Translation,
    pub(crate) domain: DomainHandle,
}

impl Binding {
    /// The shadow's root, if there is one.
    pub(crate) fn root(&self) -> Option<RootId> {
        match self.translation {
            Translation::Shadow(root) => Some(root),
            Translation::Managed | Translation::Nested(_) => None,
        }
    }

    pub(crate) fn slot(&self) -> Slot {
        Slot {
            device: self.device,
            pasid: self.pasid.map(|pair| pair.host),
        }
    }

    pub(crate) fn is_for(&self, device_id: u32, pasid: Option<Pasid>) -> bool {
        self.device_id == device_id && self.pasid.map(|pair| pair.guest) == pasid
    }
}

/// A guest. Only its calls, one at a time, touch this.
pub(crate) struct Vm {
    pub(crate) id: VmId,
    pub(crate) quota: Quota,
    pub(crate) memory: SharedMemory,
    pub(crate) objects: Objects,
    pub(crate) bindings: Vec<Binding>,
    pub(crate) pasids: GuestPasids,
    pub(crate) shadow: Shadow,
    pub(crate) parents: Parents,
    pub(crate) pasid_tables: PasidTables,
    /// The hypervisor looks at the guest's rings by itself.
    pub(crate) polls_rings: bool,
    /// The ring that was polled last.
    pub(crate) polled_last: Option<u32>,
    /// Pages that were mapped one by one since an operation of a ring began.
    pub(crate) mapped: u64,
}

impl Vm {
    pub(crate) fn new(
        id: VmId,
        quota: Quota,
        memory: SharedMemory,
        seed: u64,
    ) -> Result<Self, IommuError> {
        let mut bindings = Vec::new();
        bindings
            .try_reserve_exact(usize::from(quota.bindings))
            .map_err(|_| IommuError::OutOfMemory)?;
        let made = || {
            Some(Self {
                id,
                quota,
                memory,
                objects: Objects::new(usize::from(quota.objects), usize::from(quota.mappings))?,
                bindings,
                pasids: GuestPasids::new(usize::from(quota.pasids))?,
                // A root for each binding, and one more while a binding is replaced.
                shadow: Shadow::new(
                    quota.shadow_pages,
                    usize::from(quota.bindings).saturating_add(1),
                    seed,
                )?,
                parents: Parents::default(),
                pasid_tables: PasidTables::new(usize::from(quota.objects))?,
                polls_rings: false,
                polled_last: None,
                mapped: 0,
            })
        };
        made().ok_or(IommuError::OutOfMemory)
    }

    /// What the shadow engine works with.
    pub(crate) fn context<'a, P: Platform>(
        memory: &'a SharedMemory,
        platform: &'a P,
    ) -> Context<'a, P> {
        Context {
            platform,
            memory: &**memory,
        }
    }

    pub(crate) fn binding(&self, device_id: u32, pasid: Option<Pasid>) -> Option<usize> {
        self.bindings
            .iter()
            .position(|binding| binding.is_for(device_id, pasid))
    }

    /// Whether a PASID table of the guest's says what the device uses.
    pub(crate) fn keeps_pasid_table(&self, device_id: u32) -> bool {
        self.pasid_tables.of(device_id).is_some()
    }

    /// Whether a binding uses this domain.
    pub(crate) fn uses(&self, domain: DomainHandle) -> bool {
        self.bindings.iter().any(|binding| binding.domain == domain)
    }
}
