//! The guest's side: has the device use the memory as the CPU has it, and copies.

use guest_machine::iommu::{Iommu, Room};
use guest_machine::iommu_guest::{Capabilities, DeviceId, Errno};
use guest_machine::pci::Function;
use guest_machine::{Calls, Machine, Outcome, Pages, Trouble, iommu};
use hypervisor_abi::{Argument, Transfer};
use iommu_abi::Destroy;
use iommu_core::{Gpa, Nanoseconds, PAGE_SIZE, SourceId};

use crate::bench::verdict;

/// Longer than the device takes to copy, and its fault to come.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(500);
/// Pages that are copied, each to another.
const COPIES: usize = 4;

/// Binds and copies, and leaves the device bound.
pub(super) fn share_and_copy(machine: &dyn Machine) -> Outcome {
    let mut room = iommu::ROOM;
    verdict(Guest::new(machine, &mut room).and_then(|mut guest| guest.share_and_copy()))
}

/// Unbinds.
pub(super) fn stop_sharing(machine: &dyn Machine) -> Outcome {
    let mut room = iommu::ROOM;
    verdict(Guest::new(machine, &mut room).and_then(|mut guest| {
        guest.iommu.unbind(guest.device)?;
        let mut destroy = Destroy {
            // What the program before this one has left: the first handle is the device's.
            id: guest.device.as_u32() + 1,
            ..Destroy::new()
        };
        iommu::call(&guest.calls, &mut destroy).map(drop)
    }))
}

/// Asks, and must be refused: by the call, and by what is said of the device before.
pub(super) fn is_refused(machine: &dyn Machine) -> Outcome {
    let mut room = iommu::ROOM;
    verdict(Guest::new(machine, &mut room).and_then(|mut guest| {
        let offered = guest.iommu.device(guest.device)?.capabilities;
        let offered = offered.contains(Capabilities::SHARED);
        Trouble::unless_equal("sharing is offered", 0, offered.into())?;
        let shared = guest.iommu.allocate_shared(guest.device);
        Trouble::unless_refused("sharing", Errno::EOPNOTSUPP, shared)
    }))
}

struct Guest<'m> {
    iommu: Iommu<'m>,
    calls: Calls<'m>,
    pages: Pages,
    random: fastrand::Rng,
    function: SourceId,
    device: DeviceId,
}

impl<'m> Guest<'m> {
    fn new(machine: &'m dyn Machine, room: &'m mut Room) -> Result<Self, Trouble> {
        let mut random = fastrand::Rng::with_seed(machine.start().seed);
        let mut pages = Pages::new(machine, &mut random);
        let calls = Calls::new(machine, &mut pages)?;
        let mut iommu = iommu::iommu(machine, &mut pages, room)?;
        let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
        function.enable(true);
        let function = function.id();
        let device = iommu::device(&mut iommu, function)?;
        Ok(Self {
            iommu,
            calls,
            pages,
            random,
            function,
            device,
        })
    }

    fn share_and_copy(&mut self) -> Result<(), Trouble> {
        let machine = self.calls.machine();
        let space = self.iommu.allocate_shared(self.device)?;
        self.iommu.bind(self.device, &space)?;
        for _ in 0..COPIES {
            let (source, target) = (self.pages.take(machine)?, self.pages.take(machine)?);
            let mut bytes = [0; PAGE_SIZE as usize];
            self.random.fill(&mut bytes);
            machine.write(source, &bytes)?;
            self.transfer(false, source)?;
            self.transfer(true, target)?;
            self.wait_until_is(target, &bytes)?;
            machine.write(source, &[0; PAGE_SIZE as usize])?;
        }
        let waits = iommu::read_fault(&mut self.iommu)?.is_some();
        Trouble::unless_equal("faults", 0, waits.into())?;
        // What differs is that this is no memory of the guest's, for its CPU as for its device.
        let beyond = Gpa::new(machine.start().memory_end());
        self.transfer(true, beyond)?;
        let fault = within(machine, || iommu::read_fault(&mut self.iommu))?;
        let address = fault.address.unwrap_or(0);
        Trouble::unless_equal("the fault's address", beyond.as_u64(), address)
    }

    /// Starts a copy as soon as the last is done.
    fn transfer(&self, to_memory: bool, address: Gpa) -> Result<(), Trouble> {
        within(self.calls.machine(), || {
            let mut transfer = Transfer {
                device: self.function.bits().into(),
                to_memory: to_memory.into(),
                address: address.as_u64(),
                offset: 0,
                bytes: PAGE_SIZE as u32,
                ..Transfer::new()
            };
            match self.calls.call(Transfer::OP as u32, &mut transfer) {
                Err(Trouble::Call(_, Errno::EBUSY)) => Ok(None),
                other => other.map(Some),
            }
        })
        .map(drop)
    }

    fn wait_until_is(&self, page: Gpa, wanted: &[u8]) -> Result<(), Trouble> {
        within(self.calls.machine(), || {
            let mut bytes = [0; PAGE_SIZE as usize];
            self.calls.machine().read(page, &mut bytes)?;
            Ok((bytes == wanted).then_some(()))
        })
    }
}

/// Tries until there is a result.
fn within<T>(
    machine: &dyn Machine,
    mut attempt: impl FnMut() -> Result<Option<T>, Trouble>,
) -> Result<T, Trouble> {
    let begun = machine.now();
    loop {
        if let Some(result) = attempt()? {
            return Ok(result);
        }
        if machine.now().since(begun) > PATIENCE {
            return Err(Trouble::Unsuitable("the time that the device takes"));
        }
        machine.relax();
    }
}
