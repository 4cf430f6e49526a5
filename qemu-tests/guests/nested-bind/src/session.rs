//! What all steps share: the device, the address space, and trials.

use core::fmt::Write;
use edu::{Direction, Edu, Transfer};
use guest_machine::iommu::{Iommu, Room};
use guest_machine::iommu_guest::{DeviceId, Fault, Format, UserTable};
use guest_machine::pci::Function;
use guest_machine::{AddressSpace, Calls, Machine, Outcome, Pages, Trouble, Window, iommu};
use hypervisor_abi::{Announce, Deed, FAULT_VECTOR, Label};
use iommu_core::{
    Access, Address, AddressRange, FaultReason, Gpa, Gva, Iova, Nanoseconds, PAGE_SHIFT, PAGE_SIZE,
};

/// How long a fault may take from the device's access to the guest's queue.
const FAULT_PATIENCE: Nanoseconds = Nanoseconds::from_millis(500);

pub(crate) struct Session<'m> {
    pub(crate) calls: Calls<'m>,
    pub(crate) pages: Pages,
    pub(crate) random: fastrand::Rng,
    pub(crate) function: Function<'m>,
    pub(crate) edu: Edu<Window<'m>>,
    pub(crate) iommu: Iommu<'m>,
    pub(crate) device: DeviceId,
    pub(crate) space: AddressSpace,
    pub(crate) table: Option<UserTable>,
    /// What the table that is bound translates.
    pub(crate) range: Option<AddressRange<Gva>>,
    bound: bool,
    step: &'static str,
    judged: bool,
}

impl<'m> Session<'m> {
    pub(crate) fn new(machine: &'m dyn Machine, room: &'m mut Room) -> Result<Self, Trouble> {
        let mut random = fastrand::Rng::with_seed(machine.start().seed);
        let mut pages = Pages::new(machine, &mut random);
        let calls = Calls::new(machine, &mut pages)?;
        let space = AddressSpace::new(machine, &mut pages)?;
        let function = Function::find(machine, edu::VENDOR, edu::DEVICE)?;
        function.enable(true);
        let bytes = Edu::<Window>::REGISTER_BYTES;
        let window = Window::new(machine, function.registers()?, bytes);
        let mut iommu = iommu::iommu(machine, &mut pages, room)?;
        Ok(Self {
            device: iommu::device(&mut iommu, function.id())?,
            iommu,
            edu: Edu::new(window)?,
            calls,
            pages,
            random,
            function,
            space,
            table: None,
            range: None,
            bound: false,
            step: "",
            judged: true,
        })
    }

    pub(crate) fn machine(&self) -> &'m dyn Machine {
        self.calls.machine()
    }

    pub(crate) fn begin(&mut self, step: &'static str) {
        self.step = step;
    }

    /// Says how the step went: what it `shows`, or why not.
    pub(crate) fn claim(&self, shows: &str, result: Result<(), Trouble>) -> Result<(), Trouble> {
        match result {
            Ok(()) => self
                .calls
                .claim(Outcome::Pass, self.step, format_args!("{shows}")),
            Err(trouble) => self
                .calls
                .claim(Outcome::Fail, self.step, format_args!("{trouble}")),
        }
    }

    /// Whether the device's requests go through the guest's table from now on.
    pub(crate) fn set_bound(&mut self, bound: bool) {
        self.bound = bound;
    }

    /// The table that is bound.
    pub(crate) fn table(&self) -> Result<&UserTable, Trouble> {
        self.table
            .as_ref()
            .ok_or(Trouble::Unsuitable("a table that is bound"))
    }

    /// Makes the four-level table at `root` known.
    pub(crate) fn allocate(&mut self, root: Gpa) -> Result<UserTable, Trouble> {
        let (root, format) = (iommu::root(root)?, Format::X86_64Level4);
        Ok(self.iommu.allocate_user_table(self.device, format, root)?)
    }

    /// Gives a table up.
    pub(crate) fn destroy(&mut self, table: UserTable) -> Result<(), Trouble> {
        let destroyed = self.iommu.destroy_table(table);
        destroyed.map_err(|(error, _)| error.into())
    }

    /// A page-aligned address that nothing is mapped at, anywhere in what the address
    /// space translates.
    pub(crate) fn fresh_address(&mut self) -> Result<Gva, Trouble> {
        // Before a table exists: anywhere that every format has.
        let anywhere = AddressRange::of_pages(Gva::new(0), 1 << 26);
        let range = match (self.range, anywhere) {
            (Some(range), _) | (None, Ok(range)) => range,
            (None, Err(_)) => return Err(Trouble::Unsuitable("an address")),
        };
        let (first, last) = (range.first().as_u64(), range.last().as_u64());
        loop {
            let page = Gva::new(self.random.u64(first..=last) & !(PAGE_SIZE - 1));
            let in_interrupt_range = page.as_u64() >> 20 == 0xfee;
            let next = Gva::new(page.as_u64().saturating_add(PAGE_SIZE));
            let free = self.space.translate(self.machine(), page)?.is_none()
                && self.space.translate(self.machine(), next)?.is_none();
            if page.as_u64() != 0 && !in_interrupt_range && free && next.as_u64() < last {
                return Ok(page);
            }
        }
    }

    /// A page full of random bytes.
    pub(crate) fn random_page(&mut self) -> Result<Gpa, Trouble> {
        let page = self.pages.take(self.machine())?;
        self.fill(page)?;
        Ok(page)
    }

    /// New random bytes in a page.
    pub(crate) fn fill(&mut self, page: Gpa) -> Result<(), Trouble> {
        let mut bytes = [0; 256];
        for offset in (0..PAGE_SIZE).step_by(bytes.len()) {
            self.random.fill(&mut bytes);
            let at = Gpa::new(page.as_u64().saturating_add(offset));
            self.machine().write(at, &bytes)?;
        }
        Ok(())
    }

    /// Maps a page, without telling anybody.
    pub(crate) fn map(&mut self, at: Gva, page: Gpa) -> Result<(), Trouble> {
        let rights = AddressSpace::READ_WRITE;
        self.space
            .map(self.calls.machine(), &mut self.pages, at, page, rights)
    }

    /// Maps a page of random bytes somewhere and makes it known.
    pub(crate) fn map_random_page(&mut self) -> Result<(Gva, Gpa), Trouble> {
        let (at, page) = (self.fresh_address()?, self.random_page()?);
        self.map(at, page)?;
        self.invalidate(&[at])?;
        Ok((at, page))
    }

    pub(crate) fn invalidate(&mut self, pages: &[Gva]) -> Result<(), Trouble> {
        let table = self.table.as_ref();
        let table = table.ok_or(Trouble::Unsuitable("a table that is bound"))?;
        iommu::invalidate(&mut self.iommu, table, pages)
    }

    /// Makes known that anything may have changed.
    pub(crate) fn invalidate_everything(&mut self) -> Result<(), Trouble> {
        let table = self.table.as_ref();
        let table = table.ok_or(Trouble::Unsuitable("a table that is bound"))?;
        Ok(self.iommu.flush_everything(table)?)
    }

    /// Where an address leads by the guest's table; it must be mapped.
    pub(crate) fn page_of(&self, address: Gva) -> Result<Gpa, Trouble> {
        let found = self.space.translate(self.machine(), address)?;
        found.ok_or(Trouble::Unexpected {
            what: "a mapping",
            wanted: address.as_u64(),
            found: 0,
        })
    }

    /// Runs something as a trial that the hypervisor watches. `part` tells trials of one
    /// step apart.
    pub(crate) fn trial<T>(
        &mut self,
        part: &str,
        deed: Announce,
        act: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut id = Label::new(self.step);
        // A label takes what fits and never fails.
        let _ = write!(id, ".{part}");
        self.calls.announce(Announce {
            id,
            root: match self.bound {
                true => self.space.root().as_u64(),
                false => Announce::NO_TABLE,
            },
            device: u32::from(self.function.id().bits()),
            ..deed
        })?;
        let result = act(self);
        self.judged = self.calls.conclude()?;
        result
    }

    /// Lets a trial of a refusal take place until it could be judged: where other devices are
    /// refused at the same time, the unit may lose its fault.
    pub(crate) fn until_judged(
        &mut self,
        mut trial: impl FnMut(&mut Self) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        const MOST: u64 = 32;
        for _ in 0..MOST {
            self.forget_faults()?;
            trial(self)?;
            if self.judged {
                return Ok(());
            }
        }
        Err(Trouble::Unexpected {
            what: "trials in a row whose faults were lost",
            wanted: 0,
            found: MOST,
        })
    }

    /// Hypercalls alone, as a trial.
    pub(crate) fn calls_only<T>(
        &mut self,
        part: &str,
        act: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let deed = Announce {
            deed: Deed::Nothing as u32,
            ..Announce::new()
        };
        self.trial(part, deed, act)
    }

    /// Lets the device copy between two addresses, as a trial.
    pub(crate) fn copy(
        &mut self,
        part: &str,
        source: Gva,
        destination: Gva,
        bytes: u16,
    ) -> Result<(), Trouble> {
        let deed = Announce {
            deed: Deed::Copy as u32,
            source: source.as_u64(),
            destination: destination.as_u64(),
            bytes: bytes.into(),
            ..Announce::new()
        };
        self.trial(part, deed, |session| {
            session.dma(Direction::FromMemory, source, bytes)?;
            session.dma(Direction::ToMemory, destination, bytes)
        })
    }

    /// Lets the device access 8 bytes, as a trial.
    pub(crate) fn access(&mut self, part: &str, at: Gva, access: Access) -> Result<(), Trouble> {
        let (direction, bits) = match access.writes() {
            true => (Direction::ToMemory, 2),
            false => (Direction::FromMemory, 1),
        };
        let deed = Announce {
            deed: Deed::Access as u32,
            access: bits,
            destination: at.as_u64(),
            bytes: 8,
            ..Announce::new()
        };
        self.trial(part, deed, |session| session.dma(direction, at, 8))
    }

    pub(crate) fn dma(&self, direction: Direction, at: Gva, bytes: u16) -> Result<(), Trouble> {
        // What the device calls an I/O virtual address is the guest's virtual one: that is
        // what binding means.
        let transfer = Transfer::new(direction, Iova::new(at.as_u64()), 0, bytes)?;
        let limit = Edu::<Window>::PATIENCE;
        Ok(self.edu.copy(&transfer, &self.machine(), limit)?)
    }

    /// Puts other bytes into the device's buffer than memory has: those of `page`.
    pub(crate) fn load_buffer(&mut self, page: Gva) -> Result<(), Trouble> {
        self.dma(Direction::FromMemory, page, edu::BUFFER_BYTES)
    }

    /// An access that must be refused, and reported to the guest for one of these reasons.
    pub(crate) fn refused(
        &mut self,
        part: &str,
        at: Gva,
        access: Access,
        reasons: &[FaultReason],
    ) -> Result<Fault, Trouble> {
        self.until_judged(|session| session.access(part, at, access))?;
        let fault = self.next_fault()?;
        let page = at.as_u64() & !(PAGE_SIZE - 1);
        let address = fault.address.unwrap_or(u64::MAX);
        Trouble::unless_equal("the fault's address", page, address)?;
        let writes = access.writes();
        Trouble::unless_equal("the fault is of a write", writes.into(), fault.write.into())?;
        let reads = !writes;
        Trouble::unless_equal("the fault is of a read", reads.into(), fault.read.into())?;
        let (device, found) = (self.device.as_u32(), fault.device.as_u32());
        Trouble::unless_equal("the fault's device", device.into(), found.into())?;
        let first = reasons.first().map_or(0, |reason| u64::from(reason.0));
        let found = u64::from(fault.reason);
        match reasons.iter().any(|reason| u64::from(reason.0) == found) {
            true => Ok(fault),
            false => Err(Trouble::Unexpected {
                what: "the fault's reason",
                wanted: first,
                found,
            }),
        }
    }

    /// An access that must work, with no fault.
    pub(crate) fn permitted(&mut self, part: &str, at: Gva, access: Access) -> Result<(), Trouble> {
        self.forget_faults()?;
        self.access(part, at, access)?;
        self.no_fault()
    }

    /// Nothing waits in the fault queue.
    pub(crate) fn no_fault(&mut self) -> Result<(), Trouble> {
        match iommu::read_fault(&mut self.iommu)? {
            None => Ok(()),
            Some(fault) => Err(Trouble::Unexpected {
                what: "a fault",
                wanted: 0,
                found: fault.address.unwrap_or(u64::MAX),
            }),
        }
    }

    /// The fault that the hypervisor tells of by an interrupt, which may need a moment. The
    /// queue was empty before.
    pub(crate) fn next_fault(&mut self) -> Result<Fault, Trouble> {
        let missing = |what| Trouble::Unexpected {
            what,
            wanted: 1,
            found: 0,
        };
        if !self.calls.wait_for(FAULT_VECTOR, FAULT_PATIENCE)? {
            return Err(missing("interrupts that tell of faults"));
        }
        iommu::read_fault(&mut self.iommu)?.ok_or(missing("faults"))
    }

    /// Empties the fault queue.
    pub(crate) fn forget_faults(&mut self) -> Result<(), Trouble> {
        while iommu::read_fault(&mut self.iommu)?.is_some() {}
        let _ = self.machine().take_interrupt(FAULT_VECTOR);
        Ok(())
    }

    /// Whether two stretches of memory hold the same bytes.
    pub(crate) fn same_bytes(&self, one: Gva, other: Gva, bytes: u16) -> Result<(), Trouble> {
        // Short enough that few chunks cross a page, which are compared byte by byte.
        const CHUNK: usize = 64;
        let end = u64::from(bytes);
        for offset in (0..end).step_by(CHUNK) {
            let at = |start: Gva| Gva::new(start.as_u64().saturating_add(offset));
            let length = end.saturating_sub(offset).min(CHUNK as u64) as usize;
            let (mut wanted, mut found) = ([0; CHUNK], [0; CHUNK]);
            self.read_virtual(at(one), wanted.get_mut(..length).unwrap_or_default())?;
            self.read_virtual(at(other), found.get_mut(..length).unwrap_or_default())?;
            for (wanted, found) in wanted.into_iter().zip(found) {
                Trouble::unless_equal("a copied byte", wanted.into(), found.into())?;
            }
        }
        Ok(())
    }

    /// Reads at a guest-virtual address.
    fn read_virtual(&self, at: Gva, bytes: &mut [u8]) -> Result<(), Trouble> {
        let length = bytes.len() as u64;
        let within = at.offset_in(PAGE_SHIFT).saturating_add(length) <= PAGE_SIZE;
        if within {
            return Ok(self.machine().read(self.page_of(at)?, bytes)?);
        }
        for (offset, byte) in (0..).zip(bytes) {
            let at = self.page_of(Gva::new(at.as_u64().saturating_add(offset)))?;
            self.machine().read(at, core::slice::from_mut(byte))?;
        }
        Ok(())
    }
}
