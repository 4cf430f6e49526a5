//! One deed after another, and the end.

use crate::belief::Belief;
use crate::calls::Caller;
use crate::tables::Tables;
use arrayvec::ArrayVec;
use guest_machine::{Calls, Machine, Outcome, Pages, Random, Trouble};
use hypervisor_abi::{Announce, Deed, Label, TargetEntry, Transfer};
use iommu_core::{Gpa, Nanoseconds, PAGE_SIZE, SourceId};
use zerocopy::{FromZeros, IntoBytes};

/// How a life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// As programs should.
    Finish(Outcome),
    /// A triple fault.
    TripleFault,
    /// An access to memory that is not there.
    Touch(u64),
    /// A halt with interrupts off.
    Halt,
    /// A loop with interrupts off.
    Loop,
}

impl Death {
    pub(crate) fn choose(random: &mut Random) -> Self {
        match random.u8(..8) {
            0 => Self::Finish(Outcome::Pass),
            1 => Self::Finish(Outcome::Fail),
            2 | 3 => Self::TripleFault,
            4 | 5 => Self::Touch(random.u64(..) & 0x0000_0fff_ffff_f000),
            6 => Self::Halt,
            _ => Self::Loop,
        }
    }
}

/// All that it works with.
pub(crate) struct Mischief<'m> {
    caller: Caller<'m>,
    calls: Calls<'m>,
    tables: Tables,
    belief: Belief,
    device: Option<SourceId>,
}

impl<'m> Mischief<'m> {
    pub(crate) fn new(machine: &'m dyn Machine, random: &mut Random) -> Result<Self, Trouble> {
        let mut pages = Pages::new(machine, random);
        let calls = Calls::new(machine, &mut pages)?;
        let mut entries: [TargetEntry; 16] = FromZeros::new_zeroed();
        let found = calls.targets(&mut entries).unwrap_or(0);
        let targets: ArrayVec<u64, 16> = entries
            .iter()
            .take(found)
            .map(|target| target.address)
            .collect();
        let mut mischief = Self {
            caller: Caller {
                machine,
                argument: pages.take(machine)?,
                array: pages.take(machine)?,
            },
            calls,
            tables: Tables::new(machine, &mut pages, targets)?,
            belief: Belief::default(),
            device: find_device(machine),
        };
        let root = mischief.tables.mend(machine);
        mischief.caller.bind(&mut mischief.belief, root);
        Ok(mischief)
    }

    /// Something.
    pub(crate) fn deed(&mut self, random: &mut Random) {
        match random.u8(..64) {
            0..2 => {
                let root = self.tables.mend(self.caller.machine);
                self.caller.bind(&mut self.belief, root);
            }
            2..40 => self.caller.call(&mut self.belief, &self.tables, random),
            40..46 => self.caller.rubbish(random),
            46..54 => self.tables.scramble(self.caller.machine, random),
            54..60 => self.copy(random),
            60..62 => self.configure(random),
            62 => self.lie(random),
            _ => {
                let limit = Nanoseconds(random.u64(..2_000_000));
                let _ = self.calls.wait_for(0x51, limit);
            }
        }
    }

    /// Lets its device copy, wherever its tables lead: also into the arguments of calls that
    /// are made meanwhile.
    fn copy(&self, random: &mut Random) {
        let Some(device) = self.device else {
            return;
        };
        let offset = random.u32(..PAGE_SIZE as u32);
        let mut transfer = Transfer {
            device: device.bits().into(),
            to_memory: random.u32(..2),
            address: self.tables.address(random),
            offset,
            bytes: random.u32(..(PAGE_SIZE as u32).saturating_sub(offset).max(1)),
            ..Transfer::new()
        };
        if random.u8(..8) == 0 {
            // Out of the device's buffer.
            transfer.offset = random.u32(..);
            transfer.bytes = random.u32(..);
        }
        self.own(hypervisor_abi::Op::Transfer, transfer.as_bytes());
    }

    /// Writes to configuration space, its own and others'.
    fn configure(&self, random: &mut Random) {
        let function = match random.u8(..4) {
            0 => SourceId::from_bits(random.u16(..)),
            _ => self.device.unwrap_or(SourceId::from_bits(0)),
        };
        let offset = random.u8(..) & !3;
        let value = random.u32(..);
        self.caller.machine.write_config(function, offset, value);
        // It wants its device to go on.
        if let Some(device) = self.device {
            self.caller.machine.write_config(device, 4, 6);
        }
    }

    /// Says what is not so.
    fn lie(&self, random: &mut Random) {
        let name = random
            .choice(["copy", "unmap.after", "leaf-outside.refused", "bind"])
            .unwrap_or("copy");
        match random.u8(..4) {
            0 => {
                let text = format_args!("all is well");
                let _ = self.calls.claim(Outcome::Pass, name, text);
            }
            1 => {
                let _ = self.calls.conclude();
            }
            _ => {
                let deed =
                    random.choice([Deed::Copy, Deed::Access, Deed::Interrupt, Deed::Nothing]);
                let _ = self.calls.announce(Announce {
                    deed: deed.unwrap_or(Deed::Nothing) as u32,
                    access: random.u32(..4),
                    id: Label::new(name),
                    root: self.tables.any(random).as_u64(),
                    source: self.tables.address(random),
                    destination: self.tables.address(random),
                    bytes: random.u64(..2 * PAGE_SIZE),
                    device: self.device.map_or(0, |device| device.bits().into()),
                    ..Announce::new()
                });
            }
        }
    }

    fn own(&self, op: hypervisor_abi::Op, argument: &[u8]) {
        let at: Gpa = self.caller.argument;
        if self.caller.machine.write(at, argument).is_ok() {
            let _ = self.caller.machine.hypercall(op as u32, at);
        }
    }
}

/// Its device, turned on: the only function that it finds on the first bus.
fn find_device(machine: &dyn Machine) -> Option<SourceId> {
    let mut functions = (0..=u8::MAX).map(|number| SourceId::from_bits(number.into()));
    let found = functions.find(|function| machine.read_config(*function, 0) != u32::MAX)?;
    machine.write_config(found, 4, 6);
    Some(found)
}
