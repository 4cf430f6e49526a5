//! Hypercalls whose arguments lie in a page of the guest.

use crate::{Machine, Pages, Trouble};
use core::fmt::{self, Write};
use hypervisor_abi::{
    Announce, Argument, Claim, Conclude, Label, Outcome, TargetEntry, Targets, WaitForInterrupt,
};
use iommu_abi::Errno;
use iommu_core::{Gpa, Nanoseconds, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

/// Makes hypercalls. Owns the pages that arguments and arrays are passed in.
pub struct Calls<'m> {
    machine: &'m dyn Machine,
    argument: Gpa,
    array: Gpa,
}

impl<'m> Calls<'m> {
    /// Takes two pages for arguments.
    pub fn new(machine: &'m dyn Machine, pages: &mut Pages) -> Result<Self, Trouble> {
        Ok(Self {
            machine,
            argument: pages.take(machine)?,
            array: pages.take(machine)?,
        })
    }

    /// The machine underneath.
    pub fn machine(&self) -> &'m dyn Machine {
        self.machine
    }

    /// The page that arrays are passed in.
    pub fn array(&self) -> Gpa {
        self.array
    }

    /// Reads elements from the array page.
    pub fn read_array<T: FromBytes + IntoBytes>(&self, elements: &mut [T]) -> Result<(), Trouble> {
        Ok(self.machine.read(self.array, elements.as_mut_bytes())?)
    }

    /// Makes a call with `argument`, which comes back as the hypervisor left it.
    pub fn call<T: FromBytes + IntoBytes + zerocopy::Immutable>(
        &self,
        operation: u32,
        argument: &mut T,
    ) -> Result<u64, Trouble> {
        self.machine.write(self.argument, argument.as_bytes())?;
        let result = self.machine.hypercall(operation, self.argument);
        self.machine.read(self.argument, argument.as_mut_bytes())?;
        Errno::from_register(result).map_err(|errno| Trouble::Call(operation, errno))
    }

    /// Makes a call whose argument lies anywhere, even nowhere.
    pub fn call_at(&self, operation: u32, argument: Gpa) -> Result<u64, Trouble> {
        Errno::from_register(self.machine.hypercall(operation, argument))
            .map_err(|errno| Trouble::Call(operation, errno))
    }

    fn own<A: Argument>(&self, mut argument: A) -> Result<u64, Trouble> {
        self.call(A::OP as u32, &mut argument)
    }

    /// Says how a step went.
    pub fn claim(&self, outcome: Outcome, id: &str, text: fmt::Arguments) -> Result<(), Trouble> {
        let mut said = Label::default();
        // A label takes what fits and never fails.
        let _ = said.write_fmt(text);
        self.own(Claim {
            outcome: outcome as u32,
            id: Label::new(id),
            text: said,
            ..Claim::new()
        })?;
        Ok(())
    }

    /// Begins a trial.
    pub fn announce(&self, trial: Announce) -> Result<(), Trouble> {
        self.own(trial).map(|_| ())
    }

    /// Ends the trial. Whether it could be judged; if not, its fault may have been lost among
    /// other devices' faults, and it proves nothing.
    pub fn conclude(&self) -> Result<bool, Trouble> {
        let result = self.own(Conclude::new())?;
        Ok(result == Conclude::JUDGED.unsigned_abs())
    }

    /// What hostile attempts can be aimed at; fills the slice and says how many there are.
    pub fn targets(&self, targets: &mut [TargetEntry]) -> Result<usize, Trouble> {
        const MOST: usize = PAGE_SIZE as usize / size_of::<TargetEntry>();
        let capacity = u32::try_from(targets.len().min(MOST)).unwrap_or(0);
        let count = self.own(Targets {
            buffer: self.array.as_u64(),
            capacity,
            ..Targets::new()
        })?;
        let count = usize::try_from(count).unwrap_or(0).min(targets.len());
        self.read_array(targets.get_mut(..count).unwrap_or_default())?;
        Ok(count)
    }

    /// Waits until an interrupt of this vector has come, or says that none did in time.
    pub fn wait_for(&self, vector: u8, limit: Nanoseconds) -> Result<bool, Trouble> {
        let begin = self.machine.now();
        loop {
            if self.machine.take_interrupt(vector) {
                return Ok(true);
            }
            let waited = self.machine.now().since(begin);
            if waited >= limit {
                return Ok(false);
            }
            let outcome = self.own(WaitForInterrupt {
                limit: limit.0.saturating_sub(waited.0),
                ..WaitForInterrupt::new()
            });
            match outcome {
                Ok(_) | Err(Trouble::Call(_, Errno::ETIMEDOUT)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
    }
}
