//! `struct iommu_page_response`.

use super::structure::{Structure, Versioned, pasid};
use crate::dispatch::Answer;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{
    Errno, Layout, LinuxPageResponse, LinuxPageResponseCode, LinuxPageResponseData, PageAnswer,
    PageResponseCode,
};
use iommu_core::{Backend, Pasid, Platform, VmHost};

impl Versioned for LinuxPageResponseData {
    const WHOLE: usize = Self::SIZE;

    fn argsz(&self) -> u32 {
        self.argsz
    }

    fn version(&self) -> u32 {
        self.version
    }
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn linux_page_response(
        &self,
        guest: &mut Vm,
        ask: &mut LinuxPageResponse,
    ) -> Answer {
        let data = Structure::<LinuxPageResponseData>::copy(&*guest.memory, ask.structure)?.header;
        if data.flags & !LinuxPageResponseData::PASID_VALID != 0 {
            return Err(Errno::EINVAL.into());
        }
        let code = match LinuxPageResponseCode::from_u32(data.code).ok_or(Errno::EINVAL)? {
            LinuxPageResponseCode::Success => PageResponseCode::Success,
            LinuxPageResponseCode::Invalid => PageResponseCode::InvalidRequest,
            LinuxPageResponseCode::Failure => PageResponseCode::Failure,
        };
        let of = match data.flags & LinuxPageResponseData::PASID_VALID {
            0 => None,
            _ => Some(pasid(data.pasid.into())?),
        };
        guest.objects.device(ask.device_id)?;
        let slot = self.slot(guest.id).ok_or(Errno::EIO)?;
        let cookie = slot
            .inbox
            .lock(&self.platform)
            .groups
            .cookie_of(ask.device_id, of, data.grpid)
            .ok_or(Errno::ENOENT)?;
        let answer = PageAnswer {
            cookie,
            device_id: ask.device_id,
            flags: of.map_or(0, |_| PageAnswer::PASID),
            pasid: of.map_or(0, Pasid::as_u32),
            group: data.grpid,
            code: code.as_u32(),
            reserved: 0,
        };
        self.answer(guest, &answer)?;
        Ok(0)
    }
}
