//! Taking address spaces away from devices, and memory out of address spaces: the steps
//! that end in a flush.

use crate::counters::count;
use crate::error::{of_flush, of_settle};
use crate::object::Object;
use crate::requesters::{MAX_REQUESTERS, Slots};
use crate::shadow::add_debt;
use crate::vm::{Binding, Translation, Vm};
use crate::{Iommu, IommuError, PasidAllocator};
use iommu_abi::Errno;
use iommu_core::{
    AddressRange, Attachment, Backend, BackendError, Batch, DomainHandle, Gpa, Platform, Run,
    Scope, VmHost,
};

/// What became of a binding.
pub(crate) struct Detached {
    pub(crate) outcome: Result<(), IommuError>,
    /// The slot leads nowhere, and the binding is gone. If not, it is as before.
    pub(crate) blocked: bool,
}

/// Debts of a replacement beside those of the shadow: two for each id of the device, in case
/// it is undone, and the domain's.
pub(crate) const REPLACE_DEBTS: usize = 4 + 2 * MAX_REQUESTERS;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Blocks a slot, and gives up what only it used. Hardware has forgotten everything on
    /// return, or what it may know is in quarantine.
    pub(crate) fn detach(&self, guest: &mut Vm, place: usize) -> Detached {
        let failed = |error| Detached {
            outcome: Err(error),
            blocked: false,
        };
        let Some(binding) = guest.bindings.get(place).copied() else {
            return Detached {
                outcome: Ok(()),
                blocked: true,
            };
        };
        let room = guest.shadow.debts(0).saturating_add(REPLACE_DEBTS);
        let Some(mut batch) = Batch::with_capacity(room) else {
            return failed(IommuError::OutOfMemory);
        };
        let slots = match self.slots_alone(guest, binding.slot()) {
            Ok(slots) => slots,
            Err(error) => return failed(error),
        };
        if let Err(error) = self.lead_nowhere(&slots, &mut batch) {
            return failed(error);
        }
        guest.bindings.swap_remove(place);
        self.give_up(guest, &binding, &mut batch);
        let mut outcome = self.commit(&mut batch).map_err(IommuError::Flush);
        self.owners.lock(&self.platform).unbind(binding.slot());
        // Requests of before the flush may be under way still, whatever was bound when.
        let device = guest.objects.device(binding.device_id);
        if device.is_ok_and(|device| device.asks.is_some())
            && let Some(vm) = self.slot(guest.id)
        {
            outcome = outcome.and(self.end_page_requests(vm, binding.slot()));
        }
        Detached {
            outcome,
            blocked: true,
        }
    }

    /// Makes slots lead nowhere. On error they lead where they did, and hardware knows.
    pub(crate) fn lead_nowhere<'b>(
        &'b self,
        slots: &Slots,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), IommuError> {
        if let Err(error) = self.lead(slots, Attachment::Blocked, batch) {
            // What was undone must be told to hardware too.
            self.commit(batch)?;
            return Err(IommuError::Backend(error));
        }
        Ok(())
    }

    /// Destroys the domain of a binding that is no more and releases its shadow, if no
    /// other binding uses them.
    ///
    /// If the back-end keeps the domain, the shadow stays with it: it costs the guest's
    /// quota, and nothing can reach it.
    pub(crate) fn give_up<'b>(
        &'b self,
        guest: &mut Vm,
        binding: &Binding,
        batch: &mut Batch<'b, B::Debt>,
    ) {
        // A domain of an address space that the hypervisor keeps goes on without bindings.
        if binding.translation == Translation::Managed || guest.uses(binding.domain) {
            return;
        }
        if let Ok(owed) = self.backend.destroy(binding.domain) {
            // There is room for it.
            let _ = batch.add(owed);
            self.undo_root(guest, binding);
            batch.hold(guest.shadow.take_released());
        }
    }

    /// Takes out a domain and a root that hardware has never used.
    pub(crate) fn undo_build(&self, guest: &mut Vm, binding: &Binding) {
        if let Ok(owed) = self.backend.destroy(binding.domain) {
            self.commit_one(owed);
        }
        self.undo_root(guest, binding);
    }

    pub(crate) fn undo_root(&self, guest: &mut Vm, binding: &Binding) {
        if let Some(root) = binding.root() {
            guest.shadow.set_domain(root, None);
            guest.shadow.release(&self.platform, root);
        }
    }

    fn commit_one(&self, owed: iommu_core::Owed<'_, B::Debt>) {
        if let Some(mut batch) = Batch::with_capacity(1) {
            // There is room; what is not confirmed is in quarantine.
            let _ = batch.add(owed);
            let _ = self.commit(&mut batch);
        }
    }

    /// Tells hardware what the shadow's call changed, and waits.
    pub(crate) fn settle<'b>(
        &'b self,
        guest: &mut Vm,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Errno> {
        count(&self.counters.shadow_entries, guest.shadow.work());
        let settled = guest.shadow.settle(&self.backend, &self.platform, batch);
        let committed = self.commit(batch);
        settled.map_err(of_settle)?;
        committed.map_err(of_flush)
    }

    /// A batch for a call that changes the shadow.
    pub(crate) fn batch_for(&self, guest: &Vm, ranges: usize) -> Result<Batch<'_, B::Debt>, Errno> {
        let debts = guest.shadow.debts(ranges).saturating_add(REPLACE_DEBTS);
        Batch::with_capacity(debts).ok_or(Errno::ENOMEM)
    }

    /// See [`forget`](Self::forget).
    pub(crate) fn forget_in_shadow(&self, guest: &mut Vm, host: &[Run]) -> Result<u64, IommuError> {
        const RANGES: usize = 128;
        let debts = guest.shadow.debts(RANGES);
        let mut batch = Batch::with_capacity(debts).ok_or(IommuError::OutOfMemory)?;
        guest.shadow.begin(RANGES);
        let entries = guest.shadow.forget(&self.platform, host);
        let settled = guest
            .shadow
            .settle(&self.backend, &self.platform, &mut batch);
        self.commit(&mut batch)?;
        settled.map_err(|_| IommuError::OutOfMemory)?;
        self.restore_shadow(guest, &mut batch)?;
        Ok(entries)
    }

    /// Maps again what large pages had beside the memory that was taken out. Where that
    /// fails, it stays out: less can be reached than may be, never more.
    fn restore_shadow<'b>(
        &'b self,
        guest: &mut Vm,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), IommuError> {
        guest.shadow.begin(batch.room());
        let memory = guest.memory.clone();
        let context = Vm::context(&memory, &self.platform);
        let _ = guest.shadow.restore(&context);
        let settled = guest.shadow.settle(&self.backend, &self.platform, batch);
        self.commit(batch)?;
        settled.map_err(|_| IommuError::OutOfMemory)
    }

    /// See [`memory_grew`](Self::memory_grew).
    pub(crate) fn look_again(&self, guest: &mut Vm) -> Result<(), IommuError> {
        const RANGES: usize = 128;
        let debts = guest.shadow.debts(RANGES);
        let mut batch = Batch::with_capacity(debts).ok_or(IommuError::OutOfMemory)?;
        guest.shadow.begin(RANGES);
        let memory = guest.memory.clone();
        let context = Vm::context(&memory, &self.platform);
        let mut looked = Ok(());
        for root in guest.bindings.iter().filter_map(Binding::root) {
            // A root that several bindings share is looked at once.
            looked = looked.and(guest.shadow.sync_all(&context, root));
        }
        let settled = guest
            .shadow
            .settle(&self.backend, &self.platform, &mut batch);
        self.commit(&mut batch)?;
        settled.map_err(|_| IommuError::OutOfMemory)?;
        looked.map_err(|_| IommuError::OutOfMemory)
    }

    /// Has hardware forget what it knows by the tables of the guest's CPUs: of this memory,
    /// or of all. The tables have changed already.
    pub(crate) fn forget_in_shared(
        &self,
        guest: &Vm,
        gone: Option<&AddressRange<Gpa>>,
    ) -> Result<(), IommuError> {
        for (_, object) in guest.objects.iter() {
            let Object::Shared(shared) = object else {
                continue;
            };
            let scope = match gone.map(|gone| crate::nesting::translated(gone, shared.bits)) {
                None => Scope::Everything,
                Some(None) => continue,
                Some(Some(range)) => Scope::Range {
                    range,
                    leaf_only: false,
                },
            };
            let mut batch = Batch::with_capacity(1).ok_or(IommuError::OutOfMemory)?;
            add_debt(&mut batch, self.backend.invalidate(shared.domain, scope))
                .map_err(|_| IommuError::Backend(BackendError::NoDomain(shared.domain)))?;
            self.commit(&mut batch)?;
        }
        Ok(())
    }

    /// Destroys the domains of all address spaces that the hypervisor keeps for a guest.
    /// Nothing is bound any more.
    pub(crate) fn destroy_managed(&self, guest: &mut Vm) -> Result<(), IommuError> {
        let mut result = Ok(());
        for (_, object) in guest.objects.iter() {
            match object {
                Object::Managed(managed) => {
                    result = result.and(self.destroy_domain(managed.domain));
                }
                Object::Shared(shared) => {
                    result = result.and(self.destroy_domain(shared.domain));
                }
                Object::Device(_) | Object::UserTable(_) | Object::Ring(_) | Object::Queue => {}
            }
        }
        guest.objects.mappings.clear();
        result
    }

    pub(crate) fn destroy_domain(&self, domain: DomainHandle) -> Result<(), IommuError> {
        let mut batch = Batch::with_capacity(1).ok_or(IommuError::OutOfMemory)?;
        // There is room for it.
        let _ = batch.add(self.backend.destroy(domain)?);
        Ok(self.commit(&mut batch)?)
    }
}
