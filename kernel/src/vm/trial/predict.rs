//! What must come of a deed, worked out before it is done.

use super::walk::{Refusal, walk};
use arrayvec::ArrayVec;
use hypervisor_abi::{Announce, Deed};
use iommu_abi::Errno;
use iommu_core::{Access, Address, Gpa, GuestMemory, PAGE_SHIFT, PAGE_SIZE};

/// The most bytes that one deed moves.
const MOST_BYTES: u64 = PAGE_SIZE;

/// A stretch of guest memory within one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) at: Gpa,
    pub(super) bytes: usize,
}

/// Stretches of a range of at most [`MOST_BYTES`]: it touches two pages at most.
pub(super) type Stretches = ArrayVec<Stretch, 2>;

/// What must come of a deed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Nothing happens.
    Nothing,
    /// The device changes these bytes; with a source, into those.
    Writes {
        /// Where.
        destination: Places,
        /// What is there afterwards, if it can be known.
        source: Option<Places>,
    },
    /// The device reads, which leaves no trace.
    Reads,
    /// An interrupt reaches the guest.
    Interrupts,
    /// The access is refused.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The page-aligned address, as the fault must name it.
        page: u64,
        /// The access, as the fault must name it.
        access: Access,
    },
}

/// Guest memory that a deed concerns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places(pub(super) Stretches);

impl Places {
    /// Whether one of the bytes lies in the page.
    pub(super) fn touch(&self, page: Gpa) -> bool {
        let mut places = self.0.iter();
        places.any(|stretch| stretch.at.align_down(PAGE_SHIFT) == page)
    }
}

/// What a trial is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prediction {
    /// What must come of it.
    pub expected: Expected,
}

impl Prediction {
    /// Works out what must come of what is announced.
    pub(super) fn new(
        memory: &dyn GuestMemory,
        announced: &Announce,
        own_message: Option<u64>,
        host_bits: u32,
    ) -> Result<Self, Errno> {
        let deed = Deed::from_u32(announced.deed).ok_or(Errno::EINVAL)?;
        if announced.bytes > MOST_BYTES {
            return Err(Errno::EINVAL);
        }
        let view = View {
            memory,
            root: announced.root,
            host_bits,
        };
        let expected = match deed {
            Deed::Nothing => Expected::Nothing,
            Deed::Interrupt => Expected::Interrupts,
            Deed::Copy => view.copy(announced),
            Deed::Access => view.access(announced, own_message)?,
        };
        Ok(Self { expected })
    }
}

struct View<'m> {
    memory: &'m dyn GuestMemory,
    root: u64,
    host_bits: u32,
}

impl View<'_> {
    fn copy(&self, announced: &Announce) -> Expected {
        let source = self.places(announced.source, announced.bytes, Access::READ);
        let destination = self.places(announced.destination, announced.bytes, Access::WRITE);
        match (source, destination) {
            (Err(refused), _) | (_, Err(refused)) => refused,
            (Ok(source), Ok(destination)) => Expected::Writes {
                destination,
                source: Some(source),
            },
        }
    }

    fn access(&self, announced: &Announce, own_message: Option<u64>) -> Result<Expected, Errno> {
        let access = match announced.access {
            1 => Access::READ,
            2 => Access::WRITE,
            _ => return Err(Errno::EINVAL),
        };
        let at = announced.destination;
        if at >> 20 == 0xfee && own_message != Some(at) {
            return Ok(Expected::Refused {
                refusal: Refusal::ForeignInterrupt,
                page: at & !(PAGE_SIZE - 1),
                access,
            });
        }
        Ok(match self.places(at, announced.bytes, access) {
            Err(refused) => refused,
            Ok(_) if !access.writes() => Expected::Reads,
            Ok(destination) => Expected::Writes {
                destination,
                source: None,
            },
        })
    }

    /// Where the bytes from an address on lie, or that the first page of them that cannot
    /// be reached is refused.
    fn places(&self, first: u64, bytes: u64, access: Access) -> Result<Places, Expected> {
        let mut places = Stretches::new();
        let end = first.saturating_add(bytes);
        let mut at = first;
        while at < end {
            let page = at & !(PAGE_SIZE - 1);
            let refused = |refusal| Expected::Refused {
                refusal,
                page,
                access,
            };
            let gpa = self.walk(at, access).map_err(refused)?;
            let next = end.min(page.saturating_add(PAGE_SIZE));
            let bytes = (next - at) as usize;
            // At most a page of bytes, so at most two stretches.
            let _ = places.try_push(Stretch { at: gpa, bytes });
            at = next;
        }
        Ok(Places(places))
    }

    fn walk(&self, at: u64, access: Access) -> Result<Gpa, Refusal> {
        if self.root == Announce::NO_TABLE {
            return Err(Refusal::Blocked);
        }
        let root = Gpa::new(self.root);
        walk(self.memory, root, at, access, self.host_bits)
    }
}
