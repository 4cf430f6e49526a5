//! The IOMMU interface, one function for each call that programs make.

use crate::calls::zeroed;
use crate::{Calls, Trouble};
use iommu_abi::{
    Argument, Bind, Capabilities, Destroy, DeviceEntry, DeviceInfo, DeviceList, FaultEvent,
    FaultRead, Format, Granularity, Invalidate, InvalidateModel, InvalidateRange, IoasAllocate,
    IovaRange, PasidAllocate, PasidFree, Unbind,
};
use iommu_core::{AddressRange, Gpa, Gva, PAGE_SIZE, SourceId};

/// Makes a call with an argument of this interface.
pub fn call<A: Argument>(calls: &Calls, argument: &mut A) -> Result<u64, Trouble> {
    calls.call(A::OP.as_u32(), argument)
}

/// The handle of the device that the guest sees at `function`.
pub fn device(calls: &Calls, function: SourceId) -> Result<u32, Trouble> {
    let mut entries: [DeviceEntry; 8] = zeroed();
    let mut list = DeviceList {
        buffer: calls.array().as_u64(),
        entry_size: size_of::<DeviceEntry>() as u32,
        capacity: entries.len() as u32,
        ..DeviceList::new()
    };
    call(calls, &mut list)?;
    calls.read_array(&mut entries)?;
    entries
        .iter()
        .take(list.count as usize)
        .find(|entry| entry.virtual_id == u32::from(function.bits()))
        .map(|entry| entry.device_id)
        .ok_or(Trouble::NoDevice)
}

/// What a device can do.
pub fn device_info(calls: &Calls, device: u32) -> Result<DeviceInfo, Trouble> {
    let mut info = DeviceInfo {
        device_id: device,
        ..DeviceInfo::new()
    };
    call(calls, &mut info)?;
    Ok(info)
}

/// An I/O address space whose table the guest keeps.
#[derive(Clone, Copy, Debug)]
pub struct UserTable {
    /// Its handle.
    pub id: u32,
    /// What holds for it.
    pub capabilities: Capabilities,
    /// The largest range of addresses that it translates.
    pub range: AddressRange<Gva>,
}

/// Makes an address space of the four-level table at `root`.
pub fn user_table(calls: &Calls, device: u32, root: Gpa) -> Result<UserTable, Trouble> {
    let mut ranges: [IovaRange; 4] = zeroed();
    let mut argument = IoasAllocate {
        flags: IoasAllocate::USER_TABLE,
        format: Format::X86_64Level4.as_u32(),
        user_page_directory: root.as_u64(),
        device_id: device,
        ranges: calls.array().as_u64(),
        range_capacity: ranges.len() as u32,
        ..IoasAllocate::new()
    };
    call(calls, &mut argument)?;
    calls.read_array(&mut ranges)?;
    let largest = ranges
        .iter()
        .take(argument.range_count as usize)
        .filter_map(|range| {
            AddressRange::inclusive(Gva::new(range.first), Gva::new(range.last)).ok()
        })
        .max_by_key(|range| range.pages())
        .ok_or(Trouble::Unsuitable("a range of addresses"))?;
    Ok(UserTable {
        id: argument.ioas_id,
        capabilities: Capabilities::from_bits_retain(argument.capabilities),
        range: largest,
    })
}

/// Makes the device, or one PASID of it, use the address space.
pub fn bind(calls: &Calls, device: u32, space: u32, pasid: Option<u32>) -> Result<(), Trouble> {
    let mut argument = Bind {
        flags: pasid.map_or(0, |_| Bind::PASID),
        device_id: device,
        ioas_id: space,
        pasid: pasid.unwrap_or(0),
        ..Bind::new()
    };
    call(calls, &mut argument).map(|_| ())
}

/// Blocks the device, or one PASID of it.
pub fn unbind(calls: &Calls, device: u32, pasid: Option<u32>) -> Result<(), Trouble> {
    let mut argument = Unbind {
        flags: pasid.map_or(0, |_| Unbind::PASID),
        device_id: device,
        pasid: pasid.unwrap_or(0),
        ..Unbind::new()
    };
    call(calls, &mut argument).map(|_| ())
}

/// Gives an object up.
pub fn destroy(calls: &Calls, id: u32) -> Result<(), Trouble> {
    let mut argument = Destroy {
        id,
        ..Destroy::new()
    };
    call(calls, &mut argument).map(|_| ())
}

/// Makes hardware forget what single pages led to, by one call.
pub fn invalidate(calls: &Calls, space: u32, pages: &[Gva]) -> Result<(), Trouble> {
    const MOST: usize = PAGE_SIZE as usize / size_of::<InvalidateRange>();
    let mut ranges: arrayvec::ArrayVec<InvalidateRange, MOST> = pages
        .iter()
        .take(MOST)
        .map(|page| InvalidateRange {
            address: page.as_u64(),
            pages: 1,
            flags: 0,
            reserved: 0,
        })
        .collect();
    while !ranges.is_empty() {
        calls.fill_array(&ranges)?;
        let mut argument = Invalidate {
            ioas_id: space,
            granularity: Granularity::Ranges.as_u32(),
            entries: calls.array().as_u64(),
            entry_size: size_of::<InvalidateRange>() as u32,
            entry_count: ranges.len() as u32,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        };
        call(calls, &mut argument)?;
        let done = (argument.completed as usize).min(ranges.len());
        if done == 0 {
            return Err(Trouble::Unexpected {
                what: "entries invalidated",
                wanted: ranges.len() as u64,
                found: 0,
            });
        }
        ranges.drain(..done);
    }
    Ok(())
}

/// Makes hardware forget the whole address space.
pub fn invalidate_everything(calls: &Calls, space: u32) -> Result<(), Trouble> {
    let mut argument = Invalidate {
        ioas_id: space,
        granularity: Granularity::Everything.as_u32(),
        ..Invalidate::new()
    };
    call(calls, &mut argument).map(|_| ())
}

/// Takes the oldest fault off the guest's queue.
pub fn read_fault(calls: &Calls) -> Result<Option<FaultEvent>, Trouble> {
    let mut events: [FaultEvent; 1] = zeroed();
    let mut argument = FaultRead {
        buffer: calls.array().as_u64(),
        entry_size: size_of::<FaultEvent>() as u32,
        capacity: 1,
        ..FaultRead::new()
    };
    call(calls, &mut argument)?;
    calls.read_array(&mut events)?;
    let [event] = events;
    Ok((argument.count == 1).then_some(event))
}

/// Takes a PASID of the guest's own numbering between two numbers.
pub fn allocate_pasid(calls: &Calls, minimum: u32, maximum: u32) -> Result<u32, Trouble> {
    let mut argument = PasidAllocate {
        minimum,
        maximum,
        ..PasidAllocate::new()
    };
    call(calls, &mut argument)?;
    Ok(argument.pasid)
}

/// Gives a PASID back.
pub fn free_pasid(calls: &Calls, pasid: u32) -> Result<(), Trouble> {
    let mut argument = PasidFree {
        pasid,
        ..PasidFree::new()
    };
    call(calls, &mut argument).map(|_| ())
}
