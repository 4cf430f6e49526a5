//! Address spaces: made, described, given up.

use super::bind::of_detach;
use super::device::managed_format;
use crate::argument::{check_array_writable, element, write_entry};
use crate::dispatch::Answer;
use crate::error::{Refusal, of_backend};
use crate::guest_table;
use crate::object::{Device, Managed, Object, Origin, Shared, UserTable};
use crate::service::{Service, levels_of};
use crate::shadow::INTERRUPT_RANGE;
use crate::vm::Vm;
use crate::{Iommu, IommuError, PasidAllocator};
use arrayvec::ArrayVec;
use iommu_abi::{
    Capabilities, Destroy, Errno, Format, IoasAllocate, IoasRanges, IovaRange, Layout, NO_ID,
};
use iommu_core::{
    Address, AddressRange, Backend, Gpa, Iova, PAGE_SHIFT, PageAttributes, Platform, VmHost,
};

/// The ranges that an address space translates: below the interrupt range, above it, and
/// the upper half.
type Ranges = ArrayVec<IovaRange, 3>;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn ioas_allocate(&self, guest: &mut Vm, ask: &mut IoasAllocate) -> Answer {
        if ask.parent_ioas_id != NO_ID {
            guest.objects.managed(ask.parent_ioas_id)?;
            // What the hypervisor keeps is about the guest's memory.
            if ask.flags & IoasAllocate::USER_TABLE == 0 {
                return Err(Errno::EOPNOTSUPP.into());
            }
        }
        let hint = window_hint(ask)?;
        let device = *guest.objects.device(ask.device_id)?;
        guest.objects.check_room()?;
        let (object, capabilities, ranges) = if ask.flags & IoasAllocate::SHARED != 0 {
            let shared = self.shared(guest, &device, ask)?;
            let ranges = cut(&memory_of(shared.bits)?, None);
            let capabilities = Capabilities::SHARED | Capabilities::FAULT_EVENTS;
            (Object::Shared(shared), capabilities, ranges)
        } else if ask.flags & IoasAllocate::USER_TABLE != 0 {
            let table = user_table(guest, &device, ask)?;
            let ranges = ranges_of(&table.service, &hint);
            let mut capabilities = table.service.capabilities();
            capabilities.set(Capabilities::ENFORCE_SNOOP, snoops(guest, &table));
            (Object::UserTable(table), capabilities, ranges)
        } else {
            let managed = self.managed(&device, ask, &hint)?;
            let ranges = cut(&hint_within(&managed.window, &hint)?, None);
            let mut capabilities = Capabilities::MANAGED | Capabilities::FAULT_EVENTS;
            capabilities.set(Capabilities::ENFORCE_SNOOP, managed.snoops);
            (Object::Managed(managed), capabilities, ranges)
        };
        if ranges.is_empty() {
            self.undo_managed(&object);
            return Err(Errno::EINVAL.into());
        }
        let written = write_ranges(guest, ask.ranges, ask.range_capacity, &ranges);
        let inserted = written.and_then(|()| guest.objects.insert(object));
        match inserted {
            Ok(handle) => {
                ask.ioas_id = handle;
                ask.range_count = u32::try_from(ranges.len()).unwrap_or(0);
                ask.capabilities = capabilities.bits();
                Ok(0)
            }
            Err(errno) => {
                self.undo_managed(&object);
                Err(errno.into())
            }
        }
    }

    fn undo_managed(&self, object: &Object) {
        if let Object::Managed(Managed { domain, .. }) | Object::Shared(Shared { domain, .. }) =
            object
        {
            // What hardware did not confirm is in quarantine.
            let _ = self.destroy_domain(*domain);
        }
    }

    /// The guest's memory, by the tables that its CPUs use.
    fn shared(&self, guest: &Vm, device: &Device, ask: &IoasAllocate) -> Result<Shared, Errno> {
        let said = [
            ask.max_iova_hint,
            ask.base_iova_hint,
            ask.format_flags,
            ask.user_page_directory,
            ask.parent_ioas_id.into(),
            ask.format.into(),
        ];
        if ask.flags & !(IoasAllocate::SHARED | IoasAllocate::ENFORCE_SNOOP) != 0 || said != [0; 6]
        {
            return Err(Errno::EINVAL);
        }
        // Whose accesses snoop is said in the tables, which are the CPU's.
        if ask.flags & IoasAllocate::ENFORCE_SNOOP != 0 || !device.shares {
            return Err(Errno::EOPNOTSUPP);
        }
        let domain = self.host.share_tables(guest.id, device.device);
        Ok(Shared {
            domain: domain.map_err(of_backend)?,
            bits: device.capabilities.iova_bits.min(47),
        })
    }

    fn managed(
        &self,
        device: &Device,
        ask: &IoasAllocate,
        hint: &AddressRange<Iova>,
    ) -> Result<Managed, Errno> {
        if ask.format != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if ask.format_flags != 0 || ask.user_page_directory != 0 {
            return Err(Errno::EINVAL);
        }
        let format = managed_format(device).ok_or(Errno::EOPNOTSUPP)?;
        let bits = u32::from(
            device
                .capabilities
                .iova_bits
                .min(format.input_bits())
                .min(47),
        );
        let last = 1u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
        let width = AddressRange::inclusive(Iova::new(0), Iova::new(last));
        let window = hint_within(&width.map_err(|_| Errno::EOPNOTSUPP)?, hint)?;
        let snoops = ask.flags & IoasAllocate::ENFORCE_SNOOP != 0;
        let attributes = PageAttributes {
            snoop: snoops,
            ..PageAttributes::default()
        };
        let domain = self
            .backend
            .create_with(device.device, format, &attributes)
            .map_err(of_backend)?;
        Ok(Managed {
            domain,
            window,
            snoops,
        })
    }

    pub(crate) fn ioas_ranges(&self, guest: &mut Vm, ask: &mut IoasRanges) -> Answer {
        let ranges = match guest.objects.get(ask.ioas_id)? {
            Object::UserTable(table) => ranges_of(&table.service, &everything()),
            Object::Managed(managed) => cut(&managed.window, None),
            Object::Shared(shared) => cut(&memory_of(shared.bits)?, None),
            Object::Device(_) | Object::Ring(_) | Object::Queue => {
                return Err(Errno::ENOENT.into());
            }
        };
        write_ranges(guest, ask.buffer, ask.capacity, &ranges)?;
        ask.count = u32::try_from(ranges.len()).unwrap_or(0);
        ask.alignment = PAGE_SHIFT;
        if ask.count > ask.capacity {
            return Err(Refusal::with_outputs(Errno::EMSGSIZE));
        }
        Ok(ask.count.into())
    }

    pub(crate) fn destroy(&self, guest: &mut Vm, ask: &mut Destroy) -> Answer {
        let object = *guest.objects.get(ask.id)?;
        let in_use = guest
            .bindings
            .iter()
            .any(|binding| binding.ioas_id == ask.id);
        let domain = match object {
            Object::Device(_) => return Err(Errno::EPERM.into()),
            _ if in_use || guest.objects.is_parent(ask.id) => return Err(Errno::EBUSY.into()),
            Object::UserTable(_) => None,
            Object::Shared(shared) => Some(shared.domain),
            Object::Ring(ring) if ring.busy => return Err(Errno::EBUSY.into()),
            Object::Ring(_) => None,
            Object::Queue => return self.destroy_queue(guest, ask.id),
            Object::Managed(managed) => Some(managed.domain),
        };
        let destroyed = domain.map_or(Ok(()), |domain| self.destroy_domain(domain));
        if let Err(error @ (IommuError::Backend(_) | IommuError::OutOfMemory)) = destroyed {
            return Err(of_detach(error).into());
        }
        guest
            .objects
            .mappings
            .retain(|mapping| mapping.ioas_id != ask.id);
        self.forget_routes(guest, ask.id);
        guest.objects.remove(ask.id);
        // What hardware did not confirm is in quarantine; the object is gone.
        destroyed
            .map(|()| 0)
            .map_err(|error| of_detach(error).into())
    }
}

/// A table of the guest's, as far as that can be checked before it is bound.
fn user_table(guest: &Vm, device: &Device, ask: &IoasAllocate) -> Result<UserTable, Errno> {
    let format = Format::from_u32(ask.format).ok_or(Errno::EOPNOTSUPP)?;
    let levels = levels_of(format);
    let service = Service::choose(guest, device, levels).ok_or(Errno::EOPNOTSUPP)?;
    check_format_flags(ask.format_flags, &service)?;
    let root = Gpa::new(ask.user_page_directory);
    let parent = (ask.parent_ioas_id != NO_ID).then_some(ask.parent_ioas_id);
    // A shadow is of what the guest's memory holds.
    if parent.is_some() && matches!(service, Service::Shadow(_)) {
        return Err(Errno::EOPNOTSUPP);
    }
    check_root(guest, &service, root, parent)?;
    let table = UserTable {
        parent,
        root,
        levels,
        service,
        format_flags: ask.format_flags,
        enforce_snoop: ask.flags & IoasAllocate::ENFORCE_SNOOP != 0,
        origin: Origin::Allocated,
    };
    if table.enforce_snoop && !snoops(guest, &table) {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(table)
}

/// Whether requests through the table snoop whatever they ask for: the second stage below
/// says it for both, and a shadow has no say.
pub(crate) fn snoops(guest: &Vm, table: &UserTable) -> bool {
    match (&table.service, table.parent) {
        (Service::Shadow(_), _) => false,
        (Service::Nested(_), Some(parent)) => guest
            .objects
            .managed(parent)
            .is_ok_and(|parent| parent.snoops),
        (Service::Nested(nested), None) => guest.parents.snoops(nested.parent),
    }
}

/// Guest-physical addresses of so many bits, as a device names them.
fn memory_of(bits: u8) -> Result<AddressRange<Iova>, Errno> {
    let last = 1u64.checked_shl(bits.into()).unwrap_or(0).wrapping_sub(1);
    AddressRange::inclusive(Iova::new(0), Iova::new(last)).map_err(|_| Errno::EIO)
}

/// Supervisor requests need hardware that walks the guest's own table.
fn check_format_flags(flags: u64, service: &Service) -> Result<(), Errno> {
    let supervisor = flags & IoasAllocate::FORMAT_SUPERVISOR != 0;
    let write_protect = flags & IoasAllocate::FORMAT_WRITE_PROTECT != 0;
    let known = IoasAllocate::FORMAT_SUPERVISOR | IoasAllocate::FORMAT_WRITE_PROTECT;
    let can = service.capabilities().contains(Capabilities::SUPERVISOR);
    if flags & !known != 0 || supervisor && !can {
        return Err(Errno::EOPNOTSUPP);
    }
    if write_protect && !supervisor {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Refuses roots that hardware could not read: misaligned, beyond what a second stage
/// translates (SPT.4.4), or not the guest's memory. Above an address space that the
/// hypervisor keeps, the root is an address of that.
pub(crate) fn check_root(
    guest: &Vm,
    service: &Service,
    root: Gpa,
    parent: Option<u32>,
) -> Result<(), Errno> {
    if !root.is_aligned(PAGE_SHIFT) {
        return Err(Errno::EINVAL);
    }
    let beyond = root.as_u64().checked_shr(service.guest_bits().into());
    if beyond.is_some_and(|beyond| beyond != 0) {
        return Err(Errno::EFAULT);
    }
    let there = match parent {
        Some(parent) => guest.objects.is_mapped(parent, Iova::new(root.as_u64())),
        None => guest_table::backing(&*guest.memory, root).is_some(),
    };
    if there { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The addresses that the guest says it will use.
fn window_hint(ask: &IoasAllocate) -> Result<AddressRange<Iova>, Errno> {
    let based = ask.flags & IoasAllocate::HINT_BASE_IOVA != 0;
    if !based && ask.base_iova_hint != 0 {
        return Err(Errno::EINVAL);
    }
    let last = match ask.max_iova_hint {
        0 => u64::MAX,
        last => last,
    };
    AddressRange::inclusive(Iova::new(ask.base_iova_hint), Iova::new(last))
        .map_err(|_| Errno::EINVAL)
}

fn hint_within(
    width: &AddressRange<Iova>,
    hint: &AddressRange<Iova>,
) -> Result<AddressRange<Iova>, Errno> {
    width.intersection(hint).ok_or(Errno::EINVAL)
}

fn everything() -> AddressRange<Iova> {
    // From the first to the last address: never empty.
    AddressRange::inclusive(Iova::new(0), Iova::new(u64::MAX))
        .unwrap_or_else(|_| AddressRange::page_of(Iova::new(0)))
}

/// What a table of the guest's translates, as far as the guest wants it.
fn ranges_of(service: &Service, hint: &AddressRange<Iova>) -> Ranges {
    let bits = u32::from(service.lower_half_bits());
    let last = 1u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
    let upper_first = !(1u64
        .checked_shl(u32::from(service.format().input_bits().saturating_sub(1)))
        .unwrap_or(0)
        .wrapping_sub(1));
    let upper = service.has_upper_half().then_some(upper_first);
    match AddressRange::inclusive(Iova::new(0), Iova::new(last)) {
        Ok(lower) => cut(&lower, upper)
            .into_iter()
            .filter_map(|range| clip(&range, hint))
            .collect(),
        Err(_) => Ranges::new(),
    }
}

/// A range without the addresses that mean interrupts, and the upper half from an address
/// on.
fn cut(lower: &AddressRange<Iova>, upper: Option<u64>) -> Ranges {
    let (first, last) = (lower.first().as_u64(), lower.last().as_u64());
    let (hole_first, hole_last) = INTERRUPT_RANGE;
    let mut ranges = Ranges::new();
    let mut add = |first: u64, last: u64| {
        if first <= last {
            // One below the hole, one above it, and the upper half.
            let _ = ranges.try_push(IovaRange { first, last });
        }
    };
    if last < hole_first || hole_last < first {
        add(first, last);
    } else {
        if first < hole_first {
            add(first, hole_first.saturating_sub(1));
        }
        add(first.max(hole_last.saturating_add(1)), last);
    }
    if let Some(first) = upper {
        add(first, u64::MAX);
    }
    ranges
}

fn clip(range: &IovaRange, hint: &AddressRange<Iova>) -> Option<IovaRange> {
    let whole = AddressRange::inclusive(Iova::new(range.first), Iova::new(range.last)).ok()?;
    let part = whole.intersection(hint)?;
    Some(IovaRange {
        first: part.first().as_u64(),
        last: part.last().as_u64(),
    })
}

/// Writes as many ranges as there is room for.
fn write_ranges(guest: &Vm, array: u64, capacity: u32, ranges: &Ranges) -> Result<(), Errno> {
    let size = u32::try_from(IovaRange::SIZE).map_err(|_| Errno::EINVAL)?;
    let count = u32::try_from(ranges.len()).unwrap_or(0).min(capacity);
    check_array_writable(&*guest.memory, array, size, count)?;
    for (index, range) in (0..count).zip(ranges) {
        write_entry(&*guest.memory, element(array, size, index)?, size, range)?;
    }
    Ok(())
}
