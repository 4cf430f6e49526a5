//! The IOMMU interface by the guest's library, on whatever machine the program runs.
//!
//! # Invariant that `unsafe` rests on
//! The library's argument memory is never passed to the hypervisor itself: [`ByMachine`]
//! carries it to a page of the guest's and back, so that its address is that page's.

use crate::{Calls, Machine, Pages, Trouble};
use iommu_abi::{Argument, Errno};
use iommu_core::{AddressRange, Gpa, Gva, PAGE_SIZE, SourceId};
use iommu_guest::{
    AddressSpace, ArgumentMemory, BadMemory, Device, DeviceId, Event, Fault, FlushList, Full,
    Hypercall, Op, UserTable,
};
use x86_64::structures::paging::{Page, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

/// Room for one call's argument and array, on the program's side.
pub type Room = [u8; PAGE_SIZE as usize];

/// Room that nothing is in.
pub const ROOM: Room = [0; PAGE_SIZE as usize];

/// Makes the library's calls by way of a [`Machine`].
#[derive(Clone, Copy)]
pub struct ByMachine<'m>(&'m dyn Machine);

impl Hypercall for ByMachine<'_> {
    fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64 {
        let Self(machine) = self;
        let at = Gpa::new(memory.address().as_u64());
        if machine.write(at, memory.bytes_mut()).is_err() {
            return Errno::EFAULT.to_register();
        }
        let result = machine.hypercall(operation.as_u32(), at);
        match machine.read(at, memory.bytes_mut()) {
            Ok(()) => result,
            Err(_) => Errno::EFAULT.to_register(),
        }
    }
}

/// The guest's library, on a machine.
pub type Iommu<'m> = iommu_guest::Iommu<'m, ByMachine<'m>>;

/// The library, with a fresh page for its arguments.
pub fn iommu<'m>(
    machine: &'m dyn Machine,
    pages: &mut Pages,
    room: &'m mut Room,
) -> Result<Iommu<'m>, Trouble> {
    let page = pages.take(machine)?;
    Ok(iommu_at(machine, page, room)?)
}

/// The same with a page that the program has.
pub fn iommu_at<'m>(
    machine: &'m dyn Machine,
    page: Gpa,
    room: &'m mut Room,
) -> Result<Iommu<'m>, BadMemory> {
    let address = PhysAddr::try_new(page.as_u64()).map_err(|_| BadMemory)?;
    // SAFETY: the module's invariant.
    let memory = unsafe { ArgumentMemory::new(room, address) }?;
    Ok(Iommu::new(ByMachine(machine), memory))
}

/// Makes a call with an argument of this interface as it is: for those that the library
/// does not make.
pub fn call<A: Argument>(calls: &Calls, argument: &mut A) -> Result<u64, Trouble> {
    calls.call(A::OP.as_u32(), argument)
}

/// The device that the guest sees at `function`.
pub fn device(iommu: &mut Iommu, function: SourceId) -> Result<DeviceId, Trouble> {
    let mut found = None;
    iommu.devices(
        |Device {
             id, requester_id, ..
         }| {
            if requester_id == function.bits() {
                found = found.or(Some(id));
            }
        },
    )?;
    found.ok_or(Trouble::NoDevice)
}

/// A root table as the library has it.
pub fn root(table: Gpa) -> Result<PhysFrame, Trouble> {
    let address = PhysAddr::try_new(table.as_u64()).map_err(|_| Trouble::Absent(table))?;
    PhysFrame::from_start_address(address).map_err(|_| Trouble::Absent(table))
}

/// The largest range of addresses that an address space translates.
pub fn largest_range(
    iommu: &mut Iommu,
    space: &impl AddressSpace,
) -> Result<AddressRange<Gva>, Trouble> {
    let mut largest: Option<AddressRange<Gva>> = None;
    iommu.ranges(space, |range| {
        let range = AddressRange::inclusive(Gva::new(range.first), Gva::new(range.last)).ok();
        largest = largest
            .into_iter()
            .chain(range)
            .max_by_key(AddressRange::pages);
    })?;
    largest.ok_or(Trouble::Unsuitable("a range of addresses"))
}

/// Makes known that single pages lead elsewhere, or somewhere or nowhere now: by one call if
/// the hypervisor does them in one.
pub fn invalidate(iommu: &mut Iommu, table: &UserTable, pages: &[Gva]) -> Result<(), Trouble> {
    /// As many as one call carries.
    const MOST: usize = 128;
    for pages in pages.chunks(MOST) {
        let mut list = FlushList::<(), MOST>::new(table);
        for page in pages {
            let start = VirtAddr::new_truncate(page.as_u64());
            let page = Page::containing_address(start);
            let owed = table.tables_changed(Page::range_inclusive(page, page));
            list.add(owed).map_err(|Full(_)| Trouble::OutOfPages)?;
        }
        iommu.flush(&mut list)?;
    }
    Ok(())
}

/// Takes the oldest fault off the guest's queue.
pub fn read_fault(iommu: &mut Iommu) -> Result<Option<Fault>, Trouble> {
    match iommu.next_event()? {
        None => Ok(None),
        Some(Event::Fault(fault)) => Ok(Some(fault)),
        Some(_) => Err(Trouble::Unsuitable("a queue with faults alone")),
    }
}
