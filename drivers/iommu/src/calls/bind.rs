//! Making devices use address spaces.

use crate::dispatch::Answer;
use crate::error::{of_backend, of_flush, of_shadow};
use crate::guest_walk::Table;
use crate::object::{Device, Object, UserTable};
use crate::owners::Bound;
use crate::service::{NestedTable, Service};
use crate::shadow::Kind;
use crate::vm::{Binding, PasidPair, Translation, Vm};
use crate::{Iommu, IommuError, PasidAllocator};
use iommu_abi::{Bind, Errno, IoasAllocate, Unbind};
use iommu_core::{Attachment, Backend, Batch, DomainSpec, NestedSpec, Pasid, Platform, VmHost};

/// Ranges that other tables may have to forget one by one when a table is bound that
/// shares pages with them.
const RANGES: usize = 64;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn bind(&self, guest: &mut Vm, ask: &mut Bind) -> Answer {
        if guest.keeps_pasid_table(ask.device_id) {
            return Err(Errno::EBUSY.into());
        }
        let bound = self.bind_slot(guest, ask);
        if ask.flags & Bind::REPLACE != 0 {
            self.sweep(guest);
        }
        bound
    }

    /// The same for whoever decides what the device uses.
    pub(crate) fn bind_slot(&self, guest: &mut Vm, ask: &mut Bind) -> Answer {
        let pasid = pasid_argument(ask.flags & Bind::PASID != 0, ask.pasid)?;
        let device = *guest.objects.device(ask.device_id)?;
        let object = *guest.objects.get(ask.ioas_id)?;
        if pasid.is_none() && device.slice {
            // Whose requests without PASID are, nobody can tell.
            return Err(Errno::EPERM.into());
        }
        if pasid.is_some() && device.capabilities.pasid_bits == 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let page_requests = ask.flags & Bind::PAGE_REQUESTS != 0;
        if page_requests && device.asks.is_none() {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let pair = pasid.map(|pasid| pair_of(guest, pasid)).transpose()?;
        let old = guest.binding(ask.device_id, pasid);
        let replaces = ask.flags & Bind::REPLACE != 0;
        match (old, replaces) {
            (Some(_), false) => return Err(Errno::EBUSY.into()),
            (None, true) => return Err(Errno::ENOENT.into()),
            (None, false) if guest.bindings.len() == guest.bindings.capacity() => {
                return Err(Errno::EDQUOT.into());
            }
            _ => {}
        }
        let mut binding = Binding {
            device_id: ask.device_id,
            device: device.device,
            pasid: pair,
            ioas_id: ask.ioas_id,
            page_requests,
            translation: Translation::Managed,
            // Replaced below; a managed address space has one domain for its life.
            domain: iommu_core::DomainHandle {
                index: 0,
                generation: 0,
            },
        };
        let mut batch = self.batch_for(guest, RANGES)?;
        guest.shadow.begin(RANGES);
        let built = match object {
            Object::Device(_) | Object::Ring(_) | Object::Queue => {
                return Err(Errno::ENOENT.into());
            }
            Object::Managed(managed) => {
                binding.domain = managed.domain;
                Ok(false)
            }
            // One domain for its life too.
            Object::Shared(shared) => {
                binding.domain = shared.domain;
                Ok(false)
            }
            Object::UserTable(table) => self.domain_for(guest, &device, &table, &mut binding),
        };
        let attached = built.and_then(|new| {
            let attached = self.attach(guest, &binding, &object, old, &mut batch);
            if attached.is_err() && new {
                self.undo_build(guest, &binding);
            }
            attached
        });
        // Whatever happened, tables that other devices use may have been brought up to
        // date on the way.
        let settled = self.settle(guest, &mut batch);
        let hitless = attached?;
        settled?;
        ask.hitless = (replaces && hitless).into();
        Ok(0)
    }

    /// The domain of a table for a device. Says whether it is new.
    fn domain_for(
        &self,
        guest: &mut Vm,
        device: &Device,
        table: &UserTable,
        binding: &mut Binding,
    ) -> Result<bool, Errno> {
        let service = Service::choose(guest, device, table.levels).ok_or(Errno::EOPNOTSUPP)?;
        // What the guest was told of the table must hold for this device too.
        let shadowed = matches!(service, Service::Shadow(_));
        if !table.service.stands_for(&service) || table.parent.is_some() && shadowed {
            return Err(Errno::EOPNOTSUPP);
        }
        let here = UserTable { service, ..*table };
        if table.enforce_snoop && !super::ioas::snoops(guest, &here) {
            return Err(Errno::EOPNOTSUPP);
        }
        super::ioas::check_root(guest, &service, table.root, table.parent)?;
        match service {
            Service::Nested(nested) => self.nested_for(guest, device, table, &nested, binding),
            Service::Shadow(kind) => self.shadow_for(guest, device, table, &kind, binding),
        }
    }

    /// A domain in which hardware walks the guest's own table.
    fn nested_for(
        &self,
        guest: &Vm,
        device: &Device,
        table: &UserTable,
        nested: &NestedTable,
        binding: &mut Binding,
    ) -> Result<bool, Errno> {
        binding.translation = Translation::Nested(nested.parent);
        let known = guest.bindings.iter().find(|other| {
            other.ioas_id == binding.ioas_id && other.translation == binding.translation
        });
        if let Some(known) = known {
            binding.domain = known.domain;
            return Ok(false);
        }
        let parent = match table.parent {
            Some(parent) => guest.objects.managed(parent)?.domain,
            None => guest.parents.domain(nested.parent).ok_or(Errno::EIO)?,
        };
        let spec = DomainSpec::Nested(NestedSpec {
            parent,
            format: nested.format,
            root: table.root,
            supervisor: table.format_flags & IoasAllocate::FORMAT_SUPERVISOR != 0,
            write_protect: table.format_flags & IoasAllocate::FORMAT_WRITE_PROTECT != 0,
        });
        let created = self.backend.create(device.device, &spec);
        binding.domain = created.map_err(of_backend)?;
        Ok(true)
    }

    /// A domain with a shadow of the table.
    fn shadow_for(
        &self,
        guest: &mut Vm,
        device: &Device,
        table: &UserTable,
        kind: &Kind,
        binding: &mut Binding,
    ) -> Result<bool, Errno> {
        let known = guest.bindings.iter().find(|other| {
            let root = other.root().and_then(|root| guest.shadow.kind(root));
            other.ioas_id == binding.ioas_id && root == Some(kind)
        });
        if let Some(known) = known {
            binding.domain = known.domain;
            binding.translation = known.translation;
            return Ok(false);
        }
        let memory = guest.memory.clone();
        let context = Vm::context(&memory, &self.platform);
        let root = guest
            .shadow
            .build(&context, kind, table.root)
            .map_err(of_shadow)?;
        binding.translation = Translation::Shadow(root);
        let created = guest.shadow.table(root).ok_or(Errno::EIO).and_then(|hpa| {
            let spec = DomainSpec::Root {
                format: kind.format,
                root: hpa,
            };
            self.backend
                .create(device.device, &spec)
                .map_err(of_backend)
        });
        match created {
            Ok(domain) => {
                binding.domain = domain;
                Ok(true)
            }
            Err(errno) => {
                self.undo_root(guest, binding);
                Err(errno)
            }
        }
    }

    /// Makes the slot lead to the binding's domain. Says whether that was hitless.
    fn attach<'b>(
        &'b self,
        guest: &mut Vm,
        binding: &Binding,
        object: &Object,
        old: Option<usize>,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<bool, Errno> {
        self.check_common_ids(guest, binding)?;
        let slots = self.slots(binding.slot()).map_err(|_| Errno::EIO)?;
        let before = self.note_bound(guest, binding, object)?;
        let to = Attachment::Domain(binding.domain);
        let hitless = match self.lead(&slots, to, batch) {
            Ok(hitless) => hitless,
            Err(error) => {
                self.note_again(binding, before);
                return Err(of_backend(error));
            }
        };
        if let Some(root) = binding.root() {
            guest.shadow.set_domain(root, Some(binding.domain));
        }
        let Some(place) = old else {
            // There is room for it: checked before.
            guest.bindings.push(*binding);
            return Ok(hitless);
        };
        let Some(slot) = guest.bindings.get_mut(place) else {
            return Err(Errno::EIO);
        };
        let previous = core::mem::replace(slot, *binding);
        self.give_up(guest, &previous, batch);
        Ok(hitless)
    }

    /// Notes for the fault path what the slot will lead to, before a device can fault
    /// there. Returns what was noted.
    fn note_bound(
        &self,
        guest: &Vm,
        binding: &Binding,
        object: &Object,
    ) -> Result<Option<Bound>, Errno> {
        let table = match object {
            Object::UserTable(table) => walkable(guest, binding, table),
            _ => None,
        };
        let mut owners = self.owners.lock(&self.platform);
        let before = owners.bound(binding.slot());
        owners
            .bind(Bound {
                slot: binding.slot(),
                guest_pasid: binding.pasid.map(|pair| pair.guest),
                ioas_id: binding.ioas_id,
                table,
                page_requests: binding.page_requests,
            })
            .map_err(|_| Errno::ENOSPC)?;
        Ok(before)
    }

    fn note_again(&self, binding: &Binding, before: Option<Bound>) {
        let mut owners = self.owners.lock(&self.platform);
        match before {
            Some(before) => {
                // It takes the place of what was noted.
                let _ = owners.bind(before);
            }
            None => owners.unbind(binding.slot()),
        }
    }

    pub(crate) fn unbind(&self, guest: &mut Vm, ask: &mut Unbind) -> Answer {
        if guest.keeps_pasid_table(ask.device_id) {
            return Err(Errno::EBUSY.into());
        }
        self.unbind_slot(guest, ask)
    }

    /// The same for whoever decides what the device uses.
    pub(crate) fn unbind_slot(&self, guest: &mut Vm, ask: &Unbind) -> Answer {
        let pasid = pasid_argument(ask.flags & Unbind::PASID != 0, ask.pasid)?;
        guest.objects.device(ask.device_id)?;
        let place = guest.binding(ask.device_id, pasid).ok_or(Errno::ENOENT)?;
        let detached = self.detach(guest, place);
        if detached.asked {
            self.serve_page_requests();
        }
        self.sweep(guest);
        let outcome = detached.outcome;
        outcome.map(|()| 0).map_err(|error| of_detach(error).into())
    }
}

pub(crate) fn of_detach(error: IommuError) -> Errno {
    match error {
        IommuError::OutOfMemory => Errno::ENOMEM,
        IommuError::Backend(error) => of_backend(error),
        IommuError::Flush(error) => of_flush(error),
        _ => Errno::EIO,
    }
}

/// What the fault path needs to walk the table.
fn walkable(guest: &Vm, binding: &Binding, table: &UserTable) -> Option<Table> {
    if table.parent.is_some() {
        // The fault path does not know what the parent maps.
        return None;
    }
    let device = guest.objects.device(binding.device_id).ok()?;
    let service = Service::choose(guest, device, table.levels)?;
    Some(Table {
        root: table.root,
        levels: table.levels,
        limits: service.guest_limits(),
        guest_bits: service.guest_bits(),
        nested: matches!(service, Service::Nested(_)),
    })
}

/// A PASID that an argument names, or none. Reserved where there is none.
fn pasid_argument(given: bool, number: u32) -> Result<Option<Pasid>, Errno> {
    match (given, number) {
        (false, 0) => Ok(None),
        (false, _) => Err(Errno::EOPNOTSUPP),
        (true, number) => Pasid::new(number).map(Some).ok_or(Errno::EINVAL),
    }
}

fn pair_of(guest: &Vm, pasid: Pasid) -> Result<PasidPair, Errno> {
    let host = guest.pasids.host(pasid).ok_or(Errno::ENOENT)?;
    Ok(PasidPair { guest: pasid, host })
}
