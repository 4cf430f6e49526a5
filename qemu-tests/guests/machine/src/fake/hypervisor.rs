//! The other side of the hypercalls, as far as programs use it.

use super::device::{Device, FOREIGN_MESSAGE, OWN_MESSAGE};
use super::{EDU, Memory};
use hypervisor_abi::{Claim, Op as Own, TargetEntry, TargetKind, Targets};
use iommu_abi::*;
use iommu_core::Gpa;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub(super) const DEVICE_ID: u32 = 7;

#[derive(Default)]
pub(super) struct Hypervisor {
    pub(super) claims: Vec<(bool, String, String)>,
    tables: BTreeMap<u32, u64>,
    pasids: BTreeMap<u32, Option<u32>>,
    last_id: u32,
    in_trial: bool,
}

fn read<T: FromBytes + IntoBytes>(memory: &mut Memory, at: Gpa) -> Result<T, Errno> {
    let bytes = memory.at(at, size_of::<T>()).ok_or(Errno::EFAULT)?;
    T::read_from_bytes(bytes).map_err(|_| Errno::EFAULT)
}

fn write<T: IntoBytes + Immutable>(memory: &mut Memory, at: Gpa, value: &T) -> Result<(), Errno> {
    let bytes = memory.at(at, size_of::<T>()).ok_or(Errno::EFAULT)?;
    bytes.copy_from_slice(value.as_bytes());
    Ok(())
}

fn argument<A: Argument>(memory: &mut Memory, at: Gpa) -> Result<A, Errno> {
    let argsz: u32 = read(memory, at)?;
    if (argsz as usize) < size_of::<A>() {
        return Err(Errno::EINVAL);
    }
    if argsz as usize > size_of::<A>() {
        return Err(Errno::E2BIG);
    }
    let argument: A = read(memory, at)?;
    if argument.flags() & !A::FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(argument)
}

impl Hypervisor {
    pub(super) fn call(
        &mut self,
        memory: &mut Memory,
        device: &mut Device,
        operation: u32,
        at: Gpa,
    ) -> Result<u64, Errno> {
        if let Some(own) = Own::from_register(operation.into()) {
            device.finish(memory);
            return self.own(memory, own, at);
        }
        match Op::from_u32(operation).ok_or(Errno::ENOTTY)? {
            Op::DeviceList => Self::list(memory, at),
            Op::DeviceInfo => Self::info(memory, at),
            Op::IoasAllocate => self.allocate(memory, at),
            Op::IoasRanges => self.ranges(memory, at),
            Op::Bind => self.bind(memory, device, at),
            Op::Unbind => self.unbind(memory, device, at),
            Op::Destroy => self.destroy(memory, device, at),
            Op::Invalidate => self.invalidate(memory, device, at),
            Op::FaultRead => Self::fault_read(memory, device, at),
            Op::PasidAllocate => self.pasid_allocate(memory, at),
            Op::PasidFree => self.pasid_free(memory, at),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn own(&mut self, memory: &mut Memory, operation: Own, at: Gpa) -> Result<u64, Errno> {
        match operation {
            Own::Claim => {
                let claim: Claim = read(memory, at)?;
                let (id, text) = (claim.id.name().into(), claim.text.text().into());
                self.claims.push((claim.outcome == 1, id, text));
                Ok(0)
            }
            Own::Announce if self.in_trial => Err(Errno::EBUSY),
            Own::Conclude if !self.in_trial => Err(Errno::ENOENT),
            Own::Announce | Own::Conclude => {
                self.in_trial = !self.in_trial;
                Ok(0)
            }
            Own::Targets => Self::targets(memory, at),
            Own::WaitForInterrupt => Err(Errno::ETIMEDOUT),
            Own::Transfer => Err(Errno::ENOENT),
            Own::Log | Own::Finish => Err(Errno::ENOTTY),
        }
    }

    fn targets(memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let targets: Targets = read(memory, at)?;
        let entry = |kind, address| TargetEntry {
            address,
            data: 0,
            kind: kind as u32,
        };
        let entries = [
            entry(TargetKind::Canary, 0x3000_0000),
            entry(TargetKind::Hypervisor, 0x10_0000),
            entry(TargetKind::UnitRegisters, 0xfed9_0000),
            entry(TargetKind::ForeignInterrupt, FOREIGN_MESSAGE),
            entry(TargetKind::OwnInterrupt, OWN_MESSAGE),
        ];
        write(memory, Gpa::new(targets.buffer), &entries)?;
        Ok(entries.len() as u64)
    }

    fn list(memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let mut list: DeviceList = argument(memory, at)?;
        let entry = DeviceEntry {
            device_id: DEVICE_ID,
            virtual_id: EDU.into(),
            ..DeviceEntry::default()
        };
        write(memory, Gpa::new(list.buffer), &entry)?;
        list.count = 1;
        write(memory, at, &list)?;
        Ok(1)
    }

    fn info(memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let mut info: DeviceInfo = argument(memory, at)?;
        if info.device_id != DEVICE_ID {
            return Err(Errno::ENOENT);
        }
        info.capabilities =
            (Capabilities::USER_TABLE | Capabilities::PASID | Capabilities::INVALIDATE_ON_MAP)
                .bits();
        info.formats = 1 << Format::X86_64Level4.as_u32();
        info.iova_bits = 47;
        info.pasid_bits = 20;
        write(memory, at, &info)?;
        Ok(0)
    }

    fn allocate(&mut self, memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let mut new: IoasAllocate = argument(memory, at)?;
        if new.device_id != DEVICE_ID {
            return Err(Errno::ENOENT);
        }
        if !new.user_page_directory.is_multiple_of(4096) {
            return Err(Errno::EINVAL);
        }
        if memory.at(Gpa::new(new.user_page_directory), 1).is_none() {
            return Err(Errno::EFAULT);
        }
        self.last_id += 1;
        self.tables.insert(self.last_id, new.user_page_directory);
        new.ioas_id = self.last_id;
        new.capabilities = Capabilities::INVALIDATE_ON_MAP.bits();
        write(memory, at, &new)?;
        Ok(0)
    }

    fn ranges(&self, memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let mut ranges: IoasRanges = argument(memory, at)?;
        if !self.tables.contains_key(&ranges.ioas_id) {
            return Err(Errno::ENOENT);
        }
        if ranges.capacity < 1 {
            return Err(Errno::EMSGSIZE);
        }
        let range = IovaRange {
            first: 0,
            last: (1 << 47) - 1,
        };
        write(memory, Gpa::new(ranges.buffer), &range)?;
        ranges.count = 1;
        write(memory, at, &ranges)?;
        Ok(0)
    }

    fn bind(&mut self, memory: &mut Memory, device: &mut Device, at: Gpa) -> Result<u64, Errno> {
        let bind: Bind = argument(memory, at)?;
        let root = *self.tables.get(&bind.ioas_id).ok_or(Errno::ENOENT)?;
        if bind.device_id != DEVICE_ID {
            return Err(Errno::ENOENT);
        }
        if bind.flags & Bind::PASID != 0 {
            let slot = self.pasids.get_mut(&bind.pasid).ok_or(Errno::ENOENT)?;
            if slot.is_some() {
                return Err(Errno::EBUSY);
            }
            *slot = Some(bind.ioas_id);
            return Ok(0);
        }
        if device.unit.root.is_some() && bind.flags & Bind::REPLACE == 0 {
            return Err(Errno::EBUSY);
        }
        device.unit.attach(Some((bind.ioas_id, root)));
        Ok(0)
    }

    fn unbind(&mut self, memory: &mut Memory, device: &mut Device, at: Gpa) -> Result<u64, Errno> {
        let unbind: Unbind = argument(memory, at)?;
        if unbind.flags & Unbind::PASID != 0 {
            let slot = self.pasids.get_mut(&unbind.pasid).ok_or(Errno::ENOENT)?;
            slot.take().ok_or(Errno::ENOENT)?;
            return Ok(0);
        }
        if device.unit.root.is_none() {
            return Err(Errno::ENOENT);
        }
        device.unit.attach(None);
        Ok(0)
    }

    fn destroy(&mut self, memory: &mut Memory, device: &mut Device, at: Gpa) -> Result<u64, Errno> {
        let destroy: Destroy = argument(memory, at)?;
        let bound = device.unit.root.is_some_and(|(id, _)| id == destroy.id)
            || self.pasids.values().any(|slot| *slot == Some(destroy.id));
        if bound {
            return Err(Errno::EBUSY);
        }
        self.tables.remove(&destroy.id).ok_or(Errno::ENOENT)?;
        Ok(0)
    }

    fn invalidate(
        &mut self,
        memory: &mut Memory,
        device: &mut Device,
        at: Gpa,
    ) -> Result<u64, Errno> {
        let mut what: Invalidate = argument(memory, at)?;
        if !self.tables.contains_key(&what.ioas_id) {
            return Err(Errno::ENOENT);
        }
        if what.granularity == Granularity::Everything.as_u32() {
            device.unit.forget(0, u64::MAX);
            return Ok(0);
        }
        for index in 0..what.entry_count {
            let entry = Gpa::new(what.entries + u64::from(index * what.entry_size));
            let range: InvalidateRange = read(memory, entry)?;
            let last = range.address + range.pages * 4096 - 1;
            device.unit.forget(range.address, last);
        }
        what.completed = what.entry_count;
        write(memory, at, &what)?;
        Ok(what.completed.into())
    }

    fn fault_read(memory: &mut Memory, device: &mut Device, at: Gpa) -> Result<u64, Errno> {
        let mut read: FaultRead = argument(memory, at)?;
        read.count = 0;
        if read.capacity > 0
            && let Some(event) = device.unit.faults.pop_front()
        {
            write(memory, Gpa::new(read.buffer), &event)?;
            read.count = 1;
        }
        read.remaining = device.unit.faults.len() as u32;
        write(memory, at, &read)?;
        Ok(read.count.into())
    }

    fn pasid_allocate(&mut self, memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let mut allocate: PasidAllocate = argument(memory, at)?;
        allocate.pasid = (allocate.minimum..=allocate.maximum)
            .find(|pasid| !self.pasids.contains_key(pasid))
            .ok_or(Errno::ENOSPC)?;
        self.pasids.insert(allocate.pasid, None);
        write(memory, at, &allocate)?;
        Ok(0)
    }

    fn pasid_free(&mut self, memory: &mut Memory, at: Gpa) -> Result<u64, Errno> {
        let free: PasidFree = argument(memory, at)?;
        match self.pasids.get(&free.pasid) {
            None => Err(Errno::ENOENT),
            Some(Some(_)) => Err(Errno::EBUSY),
            Some(None) => {
                self.pasids.remove(&free.pasid);
                Ok(0)
            }
        }
    }
}
