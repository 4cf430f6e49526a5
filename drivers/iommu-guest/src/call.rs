//! One call: an argument goes out, a result comes back.

use crate::{ArgumentMemory, RingMemory};
use iommu_abi::{Argument, Errno, Op};

/// How a call is made. [`Vmmcall`](crate::Vmmcall) and [`Vmcall`](crate::Vmcall) are the
/// usual ways; tests put the hypervisor itself behind this.
pub trait Hypercall {
    /// Executes `operation` with the argument that lies at the start of `memory`, and
    /// returns what the result register held.
    fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64;

    /// The same for an operation that reads and writes a ring, for whoever has to carry its
    /// memory to the hypervisor and back.
    fn call_with_ring(
        &self,
        operation: Op,
        memory: &mut ArgumentMemory<'_>,
        ring: &RingMemory<'_>,
    ) -> i64 {
        let _ = ring;
        self.call(operation, memory)
    }
}

impl<H: Hypercall + ?Sized> Hypercall for &H {
    fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64 {
        (**self).call(operation, memory)
    }

    fn call_with_ring(
        &self,
        operation: Op,
        memory: &mut ArgumentMemory<'_>,
        ring: &RingMemory<'_>,
    ) -> i64 {
        (**self).call_with_ring(operation, memory, ring)
    }
}

/// Why an operation did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error {
    /// The hypervisor refused.
    Refused {
        /// What was asked for.
        operation: Op,
        /// Why not.
        errno: Errno,
    },
    /// An invalidation stopped at a range that the hypervisor refused. Those before it are
    /// done. This library makes no such range, so the list was not for this table's width.
    RangeRefused {
        /// Its place in the list.
        index: usize,
        /// Why not.
        errno: Errno,
    },
    /// Answering page requests stopped at one that the hypervisor refused. Those before it are
    /// answered.
    AnswerRefused {
        /// Its place among the answers.
        index: usize,
        /// Why not.
        errno: Errno,
    },
    /// The hypervisor's answer makes no sense, such as more entries than there is room for.
    Nonsense(Op),
    /// The argument memory is too small for this.
    MemoryTooSmall(Op),
    /// The debts are of another table.
    OtherTable,
}

impl Error {
    /// The hypervisor's error number, if it was the one who refused.
    pub fn errno(&self) -> Option<Errno> {
        match *self {
            Self::Refused { errno, .. }
            | Self::RangeRefused { errno, .. }
            | Self::AnswerRefused { errno, .. } => Some(errno),
            Self::Nonsense(_) | Self::MemoryTooSmall(_) | Self::OtherTable => None,
        }
    }
}

/// The argument as the hypervisor left it, and what the result register said.
pub(crate) struct Answer<A> {
    pub(crate) argument: A,
    pub(crate) result: Result<u64, Errno>,
}

impl<A: Argument> Answer<A> {
    /// The argument, or the error.
    pub(crate) fn accepted(self) -> Result<A, Error> {
        match self.result {
            Ok(_) => Ok(self.argument),
            Err(errno) => Err(Error::Refused {
                operation: A::OP,
                errno,
            }),
        }
    }
}

/// Makes one call. What an array needs has been put behind the argument before.
pub(crate) fn call<A: Argument, H: Hypercall>(
    hypercall: &H,
    memory: &mut ArgumentMemory<'_>,
    argument: &A,
) -> Result<Answer<A>, Error> {
    let too_small = Error::MemoryTooSmall(A::OP);
    memory.write(0, argument).ok_or(too_small)?;
    let result = Errno::from_register(hypercall.call(A::OP, memory));
    let argument = memory.read(0).ok_or(too_small)?;
    Ok(Answer { argument, result })
}

/// Makes one call about a ring.
pub(crate) fn call_with_ring<A: Argument, H: Hypercall>(
    hypercall: &H,
    memory: &mut ArgumentMemory<'_>,
    argument: &A,
    ring: &RingMemory<'_>,
) -> Result<Answer<A>, Error> {
    let too_small = Error::MemoryTooSmall(A::OP);
    memory.write(0, argument).ok_or(too_small)?;
    let result = Errno::from_register(hypercall.call_with_ring(A::OP, memory, ring));
    let argument = memory.read(0).ok_or(too_small)?;
    Ok(Answer { argument, result })
}
