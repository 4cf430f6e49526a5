//! `struct iommu_gpasid_bind_data` and `struct iommu_cache_invalidate_info`.

use crate::flush::Change;
use crate::{DeviceId, Error, FlushList, GuestPasid, Hypercall, Iommu, UserTable};
use arrayvec::ArrayVec;
use iommu_abi::{
    InvalidateRange, LINUX_VERSION_1, Layout, LinuxBindGpasid, LinuxCacheInvalidate,
    LinuxCacheInvalidateInfo, LinuxGpasidBindData, LinuxGpasidBindDataVtd, LinuxGranularity,
    LinuxInvAddrInfo, LinuxInvPasidInfo, LinuxUnbindGpasid, Op,
};
use x86_64::structures::paging::PhysFrame;

/// Bytes of `struct iommu_gpasid_bind_data` and `struct iommu_cache_invalidate_info` with
/// their unions.
const BIND_DATA: u32 = (LinuxGpasidBindData::SIZE + LinuxGpasidBindDataVtd::SIZE) as u32;
const INVALIDATE_INFO: u32 = (LinuxCacheInvalidateInfo::SIZE + LinuxInvAddrInfo::SIZE) as u32;

/// Bits of guest-virtual address that a table translates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum AddressWidth {
    /// Four levels.
    Bits48,
    /// Five levels.
    Bits57,
}

impl AddressWidth {
    fn bits(self) -> u32 {
        match self {
            Self::Bits48 => 48,
            Self::Bits57 => 57,
        }
    }
}

/// A page table of the guest's own that is bound to one PASID of a device by
/// `struct iommu_gpasid_bind_data`. Unbinding gives it up.
#[derive(Debug)]
pub struct LinuxTable {
    table: UserTable,
    device: DeviceId,
    pasid: GuestPasid,
}

impl LinuxTable {
    /// The table: what is owed when it changes is asked of it.
    pub fn table(&self) -> &UserTable {
        &self.table
    }

    /// The device that it is bound to.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The PASID that it is bound to.
    pub fn pasid(&self) -> GuestPasid {
        self.pasid
    }

    fn bind_data(&self) -> LinuxGpasidBindData {
        LinuxGpasidBindData {
            argsz: BIND_DATA,
            version: LINUX_VERSION_1,
            format: LinuxGpasidBindData::FORMAT_INTEL_VTD,
            hpasid: self.pasid.0.into(),
            ..LinuxGpasidBindData::default()
        }
    }
}

/// `struct iommu_cache_invalidate_info`, up to its union: translations of one PASID.
fn header(granularity: LinuxGranularity) -> LinuxCacheInvalidateInfo {
    LinuxCacheInvalidateInfo {
        argsz: INVALIDATE_INFO,
        version: LINUX_VERSION_1,
        cache: LinuxCacheInvalidateInfo::IOTLB | LinuxCacheInvalidateInfo::DEV_IOTLB,
        granularity: granularity as u8,
        padding: [0; 6],
    }
}

fn addresses(pasid: GuestPasid, change: Change) -> LinuxInvAddrInfo {
    let range = change.to_range();
    let leaf = match range.flags & InvalidateRange::LEAF {
        0 => 0,
        _ => LinuxInvAddrInfo::LEAF,
    };
    LinuxInvAddrInfo {
        flags: LinuxInvAddrInfo::PASID | leaf,
        archid: 0,
        pasid: pasid.0.into(),
        addr: range.address,
        granule_size: 4096,
        nb_granules: range.pages,
    }
}

impl<H: Hypercall> Iommu<'_, H> {
    /// Makes the device's requests with this PASID, which the guest has allocated, use the
    /// table at `root`: one call in place of two.
    pub fn linux_bind(
        &mut self,
        device: DeviceId,
        pasid: GuestPasid,
        root: PhysFrame,
        width: AddressWidth,
    ) -> Result<LinuxTable, Error> {
        let capabilities = self.device(device)?.capabilities;
        // What it is before it has a handle.
        let asked = LinuxTable {
            table: UserTable::new(0, capabilities),
            device,
            pasid,
        };
        let data = LinuxGpasidBindData {
            addr_width: width.bits(),
            gpgd: root.start_address().as_u64(),
            ..asked.bind_data()
        };
        let structure = self.put_bind_data(Op::LinuxBindGpasid, &data)?;
        let answer = self.call(&LinuxBindGpasid {
            device_id: device.0,
            structure,
            ..LinuxBindGpasid::new()
        })?;
        Ok(LinuxTable {
            table: UserTable::new(answer.ioas_id, capabilities),
            ..asked
        })
    }

    /// Blocks the device's requests with the PASID again, and gives the table up. On error it
    /// comes back.
    pub fn linux_unbind(&mut self, bound: LinuxTable) -> Result<(), (Error, LinuxTable)> {
        let device_id = bound.device.0;
        let unbound = self
            .put_bind_data(Op::LinuxUnbindGpasid, &bound.bind_data())
            .and_then(|structure| {
                self.call(&LinuxUnbindGpasid {
                    device_id,
                    structure,
                    ..LinuxUnbindGpasid::new()
                })
            });
        match unbound {
            Ok(_) => Ok(()),
            Err(error) => Err((error, bound)),
        }
    }

    /// Puts the structure behind the argument, and returns its address.
    fn put_bind_data(&mut self, op: Op, data: &LinuxGpasidBindData) -> Result<u64, Error> {
        let vtd = LinuxGpasidBindDataVtd::default();
        let both = self.memory.write_two(data, &vtd);
        both.ok_or(Error::MemoryTooSmall(op))?;
        Ok(self.memory.array_address())
    }

    /// Settles all debts on a list of this table, as [`Iommu::flush`] does, by
    /// `struct iommu_cache_invalidate_info`: a call for each range. What was held comes back
    /// and may be reused.
    ///
    /// On error the list is as it was; flushing it again is harmless.
    pub fn linux_flush<T, const N: usize>(
        &mut self,
        bound: &LinuxTable,
        list: &mut FlushList<'_, T, N>,
    ) -> Result<ArrayVec<T, N>, Error> {
        if !core::ptr::eq(list.table(), &bound.table) {
            return Err(Error::OtherTable);
        }
        if bound.table.take_lost() {
            self.linux_flush_everything(bound)?;
            return Ok(list.settle());
        }
        for (index, change) in list.changes().iter().enumerate() {
            let extent = addresses(bound.pasid, *change);
            let header = header(LinuxGranularity::Addr);
            let told = self.linux_invalidate(bound.device, &header, &extent);
            told.map_err(|error| match error {
                Error::Refused { errno, .. } => Error::RangeRefused { index, errno },
                other => other,
            })?;
        }
        Ok(list.settle())
    }

    /// Makes hardware forget the whole table.
    pub fn linux_flush_everything(&mut self, bound: &LinuxTable) -> Result<(), Error> {
        let extent = LinuxInvPasidInfo {
            flags: LinuxInvPasidInfo::PASID,
            archid: 0,
            pasid: bound.pasid.0.into(),
        };
        let header = header(LinuxGranularity::Pasid);
        let flushed = self.linux_invalidate(bound.device, &header, &extent);
        if flushed.is_err() {
            // It is owed still.
            bound.table.lose();
        }
        flushed
    }

    fn linux_invalidate(
        &mut self,
        device: DeviceId,
        header: &LinuxCacheInvalidateInfo,
        extent: &impl Layout,
    ) -> Result<(), Error> {
        // The union may be longer than the part of it that is used.
        let zeroes = self.memory.write_two(header, &LinuxInvAddrInfo::default());
        let both = zeroes.and_then(|()| self.memory.write_two(header, extent));
        both.ok_or(Error::MemoryTooSmall(Op::LinuxCacheInvalidate))?;
        self.call(&LinuxCacheInvalidate {
            device_id: device.0,
            structure: self.memory.array_address(),
            ..LinuxCacheInvalidate::new()
        })
        .map(drop)
    }
}
