//! The guest's devices. No effect.

use crate::argument::{check_array_writable, check_entry_size, element, write_entry};
use crate::dispatch::Answer;
use crate::error::Refusal;
use crate::object::Device;
use crate::service::{Service, levels_of};
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{Capabilities, DeviceEntry, DeviceInfo, DeviceList, Errno, Format};
use iommu_core::{Backend, Platform, Stage, TableFormat, VmHost};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn device_list(&self, guest: &mut Vm, list: &mut DeviceList) -> Answer {
        check_entry_size::<DeviceEntry>(list.entry_size)?;
        let total = u32::try_from(guest.objects.devices().count()).unwrap_or(u32::MAX);
        let count = total.min(list.capacity);
        let memory = &*guest.memory;
        check_array_writable(memory, list.buffer, list.entry_size, count)?;
        let devices = guest.objects.devices().take(count as usize);
        for (index, (device_id, device)) in (0..).zip(devices) {
            let entry = DeviceEntry {
                device_id,
                virtual_id: device.virtual_id,
                ..DeviceEntry::default()
            };
            let at = element(list.buffer, list.entry_size, index)?;
            write_entry(memory, at, list.entry_size, &entry)?;
        }
        list.count = total;
        if total > list.capacity {
            return Err(Refusal::with_outputs(Errno::EMSGSIZE));
        }
        Ok(total.into())
    }

    pub(crate) fn device_info(&self, guest: &mut Vm, info: &mut DeviceInfo) -> Answer {
        let device = guest.objects.device(info.device_id)?;
        info.virtual_id = device.virtual_id;
        info.capabilities = capabilities(guest, device).bits();
        info.formats = Format::ALL
            .iter()
            .filter(|&&format| supports(guest, device, format))
            .filter_map(|format| 1u64.checked_shl(format.as_u32()))
            .fold(0, |formats, bit| formats | bit);
        info.iova_bits = device.capabilities.iova_bits.into();
        info.pasid_bits = device.capabilities.pasid_bits.into();
        let bound = guest
            .bindings
            .iter()
            .filter(|binding| binding.device_id == info.device_id);
        info.bound = u32::try_from(bound.count()).unwrap_or(u32::MAX);
        Ok(0)
    }
}

/// Whether the guest's tables may have this format for the device.
pub(crate) fn supports(guest: &Vm, device: &Device, format: Format) -> bool {
    Service::choose(guest, device, levels_of(format)).is_some()
}

/// The format in which the hypervisor keeps address spaces for the device.
pub(crate) fn managed_format(device: &Device) -> Option<TableFormat> {
    [
        TableFormat::SecondStage4,
        TableFormat::SecondStage3,
        TableFormat::FirstStage4,
    ]
    .into_iter()
    .find(|&format| device.capabilities.supports(format))
}

/// What the guest can do with the device.
pub(crate) fn capabilities(guest: &Vm, device: &Device) -> Capabilities {
    let mut all = Capabilities::FAULT_EVENTS;
    if let Some(service) = Service::choose(guest, device, 4) {
        all |= service.capabilities();
    }
    all.set(Capabilities::MANAGED, managed_format(device).is_some());
    all.set(Capabilities::WITHOUT_PASID, !device.slice);
    all.set(Capabilities::PASID, device.capabilities.pasid_bits > 0);
    all.set(Capabilities::PAGE_REQUESTS, device.asks.is_some());
    all.set(Capabilities::SHARED, device.shares);
    if let Some(Service::Nested(nested)) = Service::choose(guest, device, 4) {
        let above = managed_format(device).is_some_and(|format| format.stage() == Stage::Second);
        all.set(Capabilities::PARENT, above);
        all.set(
            Capabilities::ENFORCE_SNOOP,
            guest.parents.snoops(nested.parent),
        );
    }
    all
}
