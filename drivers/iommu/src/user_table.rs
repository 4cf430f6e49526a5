//! Tables of the guest's own that come with their binding: what is asked for in the words
//! of another structure is made by the same two calls that guests make.

use crate::object::{Object, Origin};
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{Bind, Errno, Format, IoasAllocate};
use iommu_core::{Backend, Gpa, Pasid, Platform, VmHost};

/// A table of the guest's, as some structure describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TableAsked {
    pub(crate) root: Gpa,
    pub(crate) format: Format,
    /// Those of [`IoasAllocate`].
    pub(crate) format_flags: u64,
    /// [`IoasAllocate::ENFORCE_SNOOP`].
    pub(crate) enforce_snoop: bool,
    /// [`Bind::PAGE_REQUESTS`].
    pub(crate) page_requests: bool,
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Makes an address space of the table and the slot use it, in place of what it uses
    /// now. On error neither has happened.
    pub(crate) fn bind_table(
        &self,
        guest: &mut Vm,
        device_id: u32,
        pasid: Option<Pasid>,
        table: &TableAsked,
        origin: Origin,
    ) -> Result<u32, Errno> {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let mut allocate = IoasAllocate {
            flags: IoasAllocate::USER_TABLE
                | flag(table.enforce_snoop, IoasAllocate::ENFORCE_SNOOP),
            format: table.format.as_u32(),
            format_flags: table.format_flags,
            user_page_directory: table.root.as_u64(),
            device_id,
            ..IoasAllocate::new()
        };
        self.ioas_allocate(guest, &mut allocate)
            .map_err(|refusal| refusal.errno)?;
        guest.objects.set_origin(allocate.ioas_id, origin);
        let replaces = guest.binding(device_id, pasid).is_some();
        let mut bind = Bind {
            flags: flag(pasid.is_some(), Bind::PASID)
                | flag(replaces, Bind::REPLACE)
                | flag(table.page_requests, Bind::PAGE_REQUESTS),
            device_id,
            ioas_id: allocate.ioas_id,
            pasid: pasid.map_or(0, Pasid::as_u32),
            ..Bind::new()
        };
        match self.bind_slot(guest, &mut bind) {
            Ok(_) => Ok(allocate.ioas_id),
            Err(refusal) => {
                // What hardware did not confirm may be bound nevertheless.
                guest
                    .objects
                    .set_origin(allocate.ioas_id, origin.without_pasid());
                self.sweep(guest);
                Err(refusal.errno)
            }
        }
    }

    /// Takes out what came with a binding and is bound nowhere any more.
    pub(crate) fn sweep(&self, guest: &mut Vm) {
        while let Some((ioas_id, origin)) = unused(guest) {
            self.forget_routes(guest, ioas_id);
            guest.objects.remove(ioas_id);
            if let Some(pasid) = origin.taken_pasid()
                && let Some(host) = guest.pasids.free(pasid)
            {
                self.give_back(guest, host);
            }
        }
    }
}

/// An address space that came with a binding, and is bound nowhere.
fn unused(guest: &Vm) -> Option<(u32, Origin)> {
    guest.objects.iter().find_map(|(handle, object)| {
        let Object::UserTable(table) = object else {
            return None;
        };
        let bound = guest.bindings.iter().any(|bound| bound.ioas_id == handle);
        (table.origin.comes_with_binding() && !bound).then_some((handle, table.origin))
    })
}
