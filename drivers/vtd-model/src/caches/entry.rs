//! What the caches hold.

use super::iotlb::Paged;
use crate::faults::Condition;
use crate::remapping::{Access, MemoryType, Request, Typing};
use crate::tables::{context, first_stage, pasid, second_stage};

/// A context entry as cached, or (CM = 1) the fault that it led to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum CachedContext {
    Legacy(context::Legacy),
    Scalable(context::Scalable),
    Fault { condition: Condition, fpd: bool },
}

impl CachedContext {
    /// The domain id that tags it in legacy mode; 0 for a faulting entry (§6.2.2).
    pub(crate) fn domain(&self) -> u16 {
        match self {
            Self::Legacy(entry) => entry.domain,
            Self::Scalable(_) | Self::Fault { .. } => 0,
        }
    }
}

/// A PASID table entry as cached, with the FPD bits met on the way to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CachedPasid {
    pub(crate) entry: Result<pasid::Entry, Condition>,
    pub(crate) fpd: bool,
}

impl CachedPasid {
    /// The domain id that tags it; 0 for a faulting entry (§6.2.3).
    pub(crate) fn domain(&self) -> u16 {
        self.entry.map_or(0, |entry| entry.domain)
    }
}

/// What a walk found: a page and the rights that both stages give together (§6.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Mapping {
    /// First address of the page.
    pub(crate) output: u64,
    /// Its size, as a power of two; 64 for a unity mapping.
    pub(crate) shift: u8,
    /// A first stage takes part.
    pub(crate) has_first: bool,
    /// R/W and U/S of the first stage, ANDed; all if there is none.
    pub(crate) first: first_stage::Rights,
    /// R and W of the second stage, ANDed; all if there is none.
    pub(crate) second: second_stage::Rights,
    pub(crate) snoop: bool,
    /// What the entries say of the memory type (§3.11.3: caches keep it).
    pub(crate) typing: Typing,
    /// The dirty flags are set, or need not be.
    pub(crate) dirty: bool,
    /// SRE and WPE of the PASID entry.
    pub(crate) supervisor: bool,
    pub(crate) write_protect: bool,
    /// RID_PRIV, for an entry made by a request without PASID.
    pub(crate) rid_priv: bool,
    /// Conditions have their legacy names.
    pub(crate) legacy: bool,
}

impl Mapping {
    /// Output is input, without a check of rights (§3.9).
    pub(crate) fn unity(legacy: bool, snoop: bool) -> Self {
        Self {
            output: 0,
            shift: 64,
            has_first: false,
            first: first_stage::Rights::ALL,
            second: second_stage::Rights::ALL,
            snoop,
            typing: Typing::Fixed(MemoryType::WriteBack),
            dirty: true,
            supervisor: true,
            write_protect: false,
            rid_priv: false,
            legacy,
        }
    }

    /// What a pass-through PASID entry gives.
    pub(crate) fn pass_through(entry: &pasid::Entry) -> Self {
        Self {
            typing: Typing::of_entry(entry),
            ..Self::unity(false, entry.page_snoop)
        }
    }

    /// A page of legacy mode whose entry gives no right: which fault that is depends on
    /// the request that meets it.
    pub(crate) fn absent() -> Self {
        Self {
            shift: 12,
            second: second_stage::Rights::default(),
            ..Self::unity(true, false)
        }
    }

    pub(crate) fn is_unity(&self) -> bool {
        self.shift == 64
    }

    /// Where `address` comes out.
    pub(crate) fn apply(&self, address: u64) -> u64 {
        if self.is_unity() {
            address
        } else {
            self.output | address & ((1 << self.shift) - 1)
        }
    }

    /// Whether a privileged or user request may read and write here.
    pub(crate) fn rights(&self, privileged: bool) -> second_stage::Rights {
        let first = if privileged {
            second_stage::Rights {
                read: true,
                write: self.first.write || !self.write_protect,
            }
        } else {
            second_stage::Rights {
                read: self.first.user,
                write: self.first.user && self.first.write,
            }
        };
        if self.has_first {
            first.and(self.second)
        } else {
            self.second
        }
    }

    /// The first condition that keeps the request out (§3.6.1, §3.7.1, §3.8.1).
    pub(crate) fn check(
        &self,
        request: &Request,
        privileged: bool,
        zero_length: bool,
    ) -> Result<(), Condition> {
        if self.is_unity() {
            return Ok(());
        }
        if privileged && !self.supervisor {
            return Err(Condition::Spt6);
        }
        if self.has_first && !privileged && !self.first.user {
            return Err(Condition::Sgn2);
        }
        let rights = self.rights(privileged);
        let (no_write, no_read) = if self.legacy {
            (Condition::Lgn2, Condition::Lgn3)
        } else {
            (Condition::Sgn6, Condition::Sgn7)
        };
        let zero_length = zero_length && request.access == Access::ZeroLengthRead && rights.write;
        if request.access.writes() && !rights.write {
            Err(no_write)
        } else if request.access.reads() && !rights.read && !zero_length {
            Err(no_read)
        } else {
            Ok(())
        }
    }
}

/// An entry of the IOTLB: a mapping with its tags (table 17), or (CM = 1) a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation {
    pub(crate) mapping: Mapping,
    pub(crate) fault: Option<Condition>,
    pub(crate) domain: u16,
    /// The PASID that tags it; for a request without PASID that of RID_PASID.
    pub(crate) pasid: u32,
    /// When it entered the cache, in steps of the model.
    pub(crate) born: u64,
    /// The accessed flags on the way are set, as they must be before it is cached; not so
    /// for what the pessimist only assumes to have been prefetched.
    pub(crate) accessed: bool,
}

impl Paged for Translation {
    #[inline]
    fn shift(&self) -> u8 {
        self.mapping.shift
    }

    fn part(&self, shift: u8, offset: u64) -> Self {
        let mut part = *self;
        part.mapping.shift = shift;
        part.mapping.output += offset;
        part
    }

    fn again(&mut self, other: &Self) {
        self.accessed |= other.accessed;
    }
}

impl PartialEq for Translation {
    /// Age and flags are no part of what an entry says.
    fn eq(&self, other: &Self) -> bool {
        self.mapping == other.mapping
            && self.fault == other.fault
            && self.domain == other.domain
            && self.pasid == other.pasid
    }
}
