//! The guest's side: has the device use the memory as the CPU has it, and copies.

use guest_machine::pci::Function;
use guest_machine::{Calls, Machine, Outcome, Pages, Trouble, iommu};
use hypervisor_abi::{Argument, Transfer};
use iommu_abi::{
    Bind, Capabilities, Destroy, DeviceEntry, DeviceInfo, DeviceList, Errno, FaultEvent, FaultRead,
    IoasAllocate, Unbind,
};
use iommu_core::{Gpa, Nanoseconds, PAGE_SIZE, SourceId};

/// What the guest says if all held.
pub(super) const PASSED: Outcome = Outcome::Pass;
/// Longer than the device takes to copy, and its fault to come.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(500);
/// Pages that are copied, each to another.
const COPIES: usize = 4;

fn verdict(result: Result<(), Trouble>) -> Outcome {
    match result {
        Ok(()) => PASSED,
        Err(trouble) => {
            defmt::error!("{}", trouble);
            Outcome::Fail
        }
    }
}

/// Binds and copies, and leaves the device bound.
pub(super) fn share_and_copy(machine: &dyn Machine) -> Outcome {
    verdict(Guest::new(machine).and_then(|mut guest| guest.share_and_copy()))
}

/// Unbinds.
pub(super) fn stop_sharing(machine: &dyn Machine) -> Outcome {
    verdict(Guest::new(machine).and_then(|guest| {
        let mut unbind = Unbind {
            device_id: guest.device,
            ..Unbind::new()
        };
        iommu::call(&guest.calls, &mut unbind)?;
        let mut destroy = Destroy {
            // The first handle is the device's.
            id: guest.device + 1,
            ..Destroy::new()
        };
        iommu::call(&guest.calls, &mut destroy).map(drop)
    }))
}

/// Asks, and must be refused: by the call, and by what is said of the device before.
pub(super) fn is_refused(machine: &dyn Machine) -> Outcome {
    verdict(Guest::new(machine).and_then(|guest| {
        let mut info = DeviceInfo {
            device_id: guest.device,
            ..DeviceInfo::new()
        };
        iommu::call(&guest.calls, &mut info)?;
        let offered = Capabilities::from_bits_truncate(info.capabilities);
        let offered = offered.contains(Capabilities::SHARED);
        Trouble::unless_equal("sharing is offered", 0, offered.into())?;
        Trouble::unless_refused("sharing", Errno::EOPNOTSUPP, guest.share().map(u64::from))
    }))
}

struct Guest<'m> {
    calls: Calls<'m>,
    pages: Pages,
    random: fastrand::Rng,
    function: SourceId,
    device: u32,
}

impl<'m> Guest<'m> {
    fn new(machine: &'m dyn Machine) -> Result<Self, Trouble> {
        let mut random = fastrand::Rng::with_seed(machine.start().seed);
        let mut pages = Pages::new(machine, &mut random);
        let calls = Calls::new(machine, &mut pages)?;
        let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
        function.enable(true);
        let function = function.id();
        let device = only_device(&calls)?;
        Ok(Self {
            calls,
            pages,
            random,
            function,
            device,
        })
    }

    fn share(&self) -> Result<u32, Trouble> {
        let mut allocate = IoasAllocate {
            flags: IoasAllocate::SHARED,
            device_id: self.device,
            ..IoasAllocate::new()
        };
        iommu::call(&self.calls, &mut allocate)?;
        Ok(allocate.ioas_id)
    }

    fn share_and_copy(&mut self) -> Result<(), Trouble> {
        let machine = self.calls.machine();
        let table = self.share()?;
        let mut bind = Bind {
            device_id: self.device,
            ioas_id: table,
            ..Bind::new()
        };
        iommu::call(&self.calls, &mut bind)?;
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
        Trouble::unless_equal("faults", 0, self.fault()?.is_some().into())?;
        // What differs is that this is no memory of the guest's, for its CPU as for its device.
        let beyond = Gpa::new(machine.start().memory_end());
        self.transfer(true, beyond)?;
        let event = self.next_fault()?;
        Trouble::unless_equal("the fault's address", beyond.as_u64(), event)
    }

    /// Starts a copy as soon as the last is done.
    fn transfer(&self, to_memory: bool, address: Gpa) -> Result<(), Trouble> {
        self.within(|| {
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
        self.within(|| {
            let mut bytes = [0; PAGE_SIZE as usize];
            self.calls.machine().read(page, &mut bytes)?;
            Ok((bytes == wanted).then_some(()))
        })
    }

    /// The address of a fault, if there was one.
    fn fault(&self) -> Result<Option<u64>, Trouble> {
        let mut read = FaultRead {
            buffer: self.calls.array().as_u64(),
            entry_size: size_of::<FaultEvent>() as u32,
            capacity: 1,
            ..FaultRead::new()
        };
        iommu::call(&self.calls, &mut read)?;
        let mut events = [FaultEvent::default()];
        self.calls.read_array(&mut events)?;
        let [event] = events;
        Ok((read.count > 0).then_some(event.address))
    }

    fn next_fault(&self) -> Result<u64, Trouble> {
        self.within(|| self.fault())
    }

    /// Tries until there is a result.
    fn within<T>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<T>, Trouble>,
    ) -> Result<T, Trouble> {
        let machine = self.calls.machine();
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
}

/// The handle of the one device that the guest has.
fn only_device(calls: &Calls) -> Result<u32, Trouble> {
    let mut list = DeviceList {
        buffer: calls.array().as_u64(),
        entry_size: size_of::<DeviceEntry>() as u32,
        capacity: 1,
        ..DeviceList::new()
    };
    iommu::call(calls, &mut list)?;
    let mut entries = [DeviceEntry::default()];
    calls.read_array(&mut entries)?;
    let [entry] = entries;
    Ok(entry.device_id)
}
