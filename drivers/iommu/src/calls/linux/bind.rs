//! `struct iommu_gpasid_bind_data`: a table and a binding in one.

use super::structure::{Structure, Versioned, pasid};
use crate::dispatch::Answer;
use crate::object::Origin;
use crate::user_table::TableAsked;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{
    Errno, Format, IoasAllocate, Layout, LinuxBindGpasid, LinuxGpasidBindData,
    LinuxGpasidBindDataVtd, LinuxUnbindGpasid, Unbind,
};
use iommu_core::{Backend, Gpa, GuestMemory, Pasid, Platform, VmHost};

impl Versioned for LinuxGpasidBindData {
    const WHOLE: usize = Self::SIZE.saturating_add(LinuxGpasidBindDataVtd::SIZE);

    fn argsz(&self) -> u32 {
        self.argsz
    }

    fn version(&self) -> u32 {
        self.version
    }
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn linux_bind_gpasid(&self, guest: &mut Vm, ask: &mut LinuxBindGpasid) -> Answer {
        let (pasid, table) = bind_data(&*guest.memory, ask.structure)?;
        let device = guest.objects.device(ask.device_id)?;
        let asks = device.asks.is_some();
        guest.pasids.host(pasid).ok_or(Errno::ENOENT)?;
        if guest.keeps_pasid_table(ask.device_id)
            || guest.binding(ask.device_id, Some(pasid)).is_some()
        {
            return Err(Errno::EBUSY.into());
        }
        let table = TableAsked {
            page_requests: asks,
            ..table
        };
        let bound = self.bind_table(guest, ask.device_id, Some(pasid), &table, Origin::LinuxBind);
        ask.ioas_id = bound.map_err(|errno| match errno {
            // The header knows one word for what is wrong.
            Errno::EOPNOTSUPP => Errno::EINVAL,
            other => other,
        })?;
        Ok(0)
    }

    pub(crate) fn linux_unbind_gpasid(
        &self,
        guest: &mut Vm,
        ask: &mut LinuxUnbindGpasid,
    ) -> Answer {
        let header = bind_header(&*guest.memory, ask.structure)?.header;
        let pasid = pasid(header.hpasid)?;
        guest.objects.device(ask.device_id)?;
        let bound = guest
            .binding(ask.device_id, Some(pasid))
            .and_then(|place| guest.bindings.get(place))
            .ok_or(Errno::ENOENT)?;
        let table = guest.objects.user_table(bound.ioas_id)?;
        if !matches!(table.origin, Origin::LinuxBind) {
            return Err(Errno::ENOENT.into());
        }
        self.unbind_slot(
            guest,
            &Unbind {
                flags: Unbind::PASID,
                device_id: ask.device_id,
                pasid: pasid.as_u32(),
                ..Unbind::new()
            },
        )
    }
}

/// What both calls check.
fn bind_header(
    memory: &dyn GuestMemory,
    at: u64,
) -> Result<Structure<'_, LinuxGpasidBindData>, Errno> {
    let structure = Structure::<LinuxGpasidBindData>::copy(memory, at)?;
    let header = &structure.header;
    if header.format != LinuxGpasidBindData::FORMAT_INTEL_VTD
        || header.flags & !LinuxGpasidBindData::GPASID_VALID != 0
        || header.padding != [0; 8]
    {
        return Err(Errno::EINVAL);
    }
    Ok(structure)
}

fn bind_data(memory: &dyn GuestMemory, at: u64) -> Result<(Pasid, TableAsked), Errno> {
    let structure = bind_header(memory, at)?;
    let vtd: LinuxGpasidBindDataVtd = structure.union()?;
    let header = &structure.header;
    let number = pasid(header.hpasid)?;
    // There is one numbering, the guest's.
    let again = header.flags & LinuxGpasidBindData::GPASID_VALID != 0;
    if again && header.gpasid != header.hpasid {
        return Err(Errno::EINVAL);
    }
    // Extended accessed flags and memory types: no unit that is served here has them.
    if vtd.flags & !LinuxGpasidBindDataVtd::SRE != 0 {
        return Err(Errno::EINVAL);
    }
    let format = match header.addr_width {
        48 => Format::X86_64Level4,
        57 => Format::X86_64Level5,
        _ => return Err(Errno::EINVAL),
    };
    let supervisor = vtd.flags & LinuxGpasidBindDataVtd::SRE != 0;
    Ok((
        number,
        TableAsked {
            root: Gpa::new(header.gpgd),
            format,
            format_flags: if supervisor {
                IoasAllocate::FORMAT_SUPERVISOR
            } else {
                0
            },
            enforce_snoop: false,
            page_requests: false,
        },
    ))
}
