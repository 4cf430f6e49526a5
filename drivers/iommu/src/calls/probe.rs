//! What exists. No effect.

use super::invalidate::MAX_ENTRIES;
use crate::dispatch::Answer;
use crate::shadow::MAX_WORK;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{
    Argument, Bind, Capabilities, Destroy, DeviceInfo, DeviceList, Errno, FaultRead, Format,
    Granularity, Info, Invalidate, InvalidateModel, IoasAllocate, IoasMap, IoasRanges, IoasUnmap,
    LinuxBindGpasid, LinuxCacheInvalidate, LinuxFaultRead, LinuxPageResponse, LinuxUnbindGpasid,
    NO_ID, Op, PageResponse, PasidAllocate, PasidFree, PasidTableBind, PasidTableInvalidate,
    PasidTableUnbind, Probe, QueueAllocate, QueueBind, QueueUnbind, RingCreate, RingEnter,
    Structure, Subject, Unbind, Use, VERSION, size_of_argument, size_of_structure,
};
use iommu_core::{Backend, Pasid, Platform, VmHost};

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn probe(&self, guest: &mut Vm, probe: &mut Probe) -> Answer {
        let subject = Subject::from_u32(probe.subject).ok_or(Errno::EOPNOTSUPP)?;
        let number = u32::try_from(probe.number).ok();
        match subject {
            Subject::Operation => probe_operation(probe, number.and_then(Op::from_u32)),
            Subject::Structure => {
                let size = number
                    .and_then(Structure::from_u32)
                    .and_then(|structure| size_of_structure(structure, probe.version));
                answer_size(probe, size);
            }
            Subject::Format => {
                let format = number.and_then(Format::from_u32);
                let supported = match (format, probe.device_id) {
                    (None, NO_ID) => false,
                    (Some(_), NO_ID) => true,
                    (format, device_id) => {
                        let device = guest.objects.device(device_id)?;
                        format.is_some_and(|format| super::device::supports(guest, device, format))
                    }
                };
                probe.supported = supported.into();
            }
            Subject::Granularity => {
                probe.supported = number.and_then(Granularity::from_u32).is_some().into();
            }
            Subject::Model => {
                probe.supported = number.and_then(InvalidateModel::from_u32).is_some().into();
            }
            Subject::Use => {
                let device = guest.objects.device(probe.device_id)?;
                let has = super::device::capabilities(guest, device);
                if let Some(purpose) = number.and_then(Use::from_u32) {
                    let missing = purpose.needs().difference(has);
                    probe.missing = missing.bits();
                    probe.supported = missing.is_empty().into();
                } else {
                    probe.missing = Capabilities::empty().bits();
                }
            }
        }
        Ok(0)
    }

    pub(crate) fn info(&self, guest: &mut Vm, info: &mut Info) -> Answer {
        info.version = VERSION;
        info.invalidate_entries = MAX_ENTRIES;
        info.fault_events = guest.quota.fault_events.into();
        info.objects = guest.quota.objects.into();
        info.shadow_pages = guest.quota.shadow_pages;
        info.shadow_pages_used = guest.shadow.pages_used();
        info.pasids = guest.quota.pasids.into();
        info.pasid_max = Pasid::MAX.as_u32();
        info.shadow_entries = MAX_WORK;
        Ok(0)
    }
}

fn probe_operation(probe: &mut Probe, op: Option<Op>) {
    let size = op.and_then(|op| size_of_argument(op, probe.version));
    answer_size(probe, size);
    if size.is_some() {
        probe.known_flags = op.map_or(0, known_flags);
    }
}

fn answer_size(probe: &mut Probe, size: Option<usize>) {
    probe.supported = size.is_some().into();
    probe.size = size.map_or(0, |size| u32::try_from(size).unwrap_or(0));
}

fn known_flags(op: Op) -> u32 {
    match op {
        Op::Probe => Probe::FLAGS,
        Op::Info => Info::FLAGS,
        Op::DeviceList => DeviceList::FLAGS,
        Op::DeviceInfo => DeviceInfo::FLAGS,
        Op::Destroy => Destroy::FLAGS,
        Op::IoasAllocate => IoasAllocate::FLAGS,
        Op::IoasRanges => IoasRanges::FLAGS,
        Op::IoasMap => IoasMap::FLAGS,
        Op::IoasUnmap => IoasUnmap::FLAGS,
        Op::Bind => Bind::FLAGS,
        Op::Unbind => Unbind::FLAGS,
        Op::Invalidate => Invalidate::FLAGS,
        Op::FaultRead => FaultRead::FLAGS,
        Op::PageResponse => PageResponse::FLAGS,
        Op::PasidAllocate => PasidAllocate::FLAGS,
        Op::PasidFree => PasidFree::FLAGS,
        Op::PasidTableInvalidate => PasidTableInvalidate::FLAGS,
        Op::PasidTableUnbind => PasidTableUnbind::FLAGS,
        Op::PasidTableBind => PasidTableBind::FLAGS,
        Op::LinuxPageResponse => LinuxPageResponse::FLAGS,
        Op::LinuxFaultRead => LinuxFaultRead::FLAGS,
        Op::LinuxCacheInvalidate => LinuxCacheInvalidate::FLAGS,
        Op::LinuxUnbindGpasid => LinuxUnbindGpasid::FLAGS,
        Op::LinuxBindGpasid => LinuxBindGpasid::FLAGS,
        Op::RingCreate => RingCreate::FLAGS,
        Op::RingEnter => RingEnter::FLAGS,
        Op::QueueAllocate => QueueAllocate::FLAGS,
        Op::QueueBind => QueueBind::FLAGS,
        Op::QueueUnbind => QueueUnbind::FLAGS,
    }
}
