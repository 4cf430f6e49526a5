//! Nesting in hardware: the second stages that guests' own tables stand on.
//!
//! A *parent* translates all of a guest's physical memory, for the units of one kind. It
//! is made when the guest gets its first device there and goes with the last one: a call
//! of the guest neither makes nor changes it, so that binding a table costs the same
//! however much memory the guest has. It follows the memory map through
//! [`forget`](crate::Iommu::forget) and [`memory_grew`](crate::Iommu::memory_grew). What
//! a guest writes into its tables selects within the parent and never leaves it.
//!
//! Addresses that mean interrupts are in no parent, neither as guest-physical addresses nor
//! behind them: what would translate to them ends in a fault, as where no memory is.

use crate::config::Nesting;
use crate::error::IommuError;
use crate::object::Device;
use crate::shadow::{INTERRUPT_RANGE, meets_interrupts};
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use arrayvec::ArrayVec;
use iommu_core::{
    Access, Address, AddressRange, Backend, BackendError, Batch, DeviceCapabilities, DeviceId,
    DomainHandle, DomainSpec, Gpa, GuestMemory, Hpa, Iova, LeafSizes, MapError, Owed, PAGE_SHIFT,
    PAGE_SIZE, PageAttributes, Platform, Run, TableFormat, VmHost,
};

/// Kinds of units that a guest's devices are behind at a time, at most. Devices of further
/// kinds are served by shadow.
const MAX_PARENTS: usize = 4;
/// Debts that are settled together while a parent is filled.
const DEBTS: usize = 64;
/// Steps of one page through holes of a memory map, at most, for one look at it.
const HOLE_STEPS: u32 = 1 << 18;

/// A parent, by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ParentId(u8);

/// Everything about a unit that decides whether it can use a second stage that was made
/// for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ParentKind {
    format: TableFormat,
    leaves: LeafSizes,
    iova_bits: u8,
    host_bits: u8,
}

impl ParentKind {
    /// Second-stage formats, the preferred first: 48 bits hold any guest, and every level
    /// is a read for every level of the guest's.
    const FORMATS: [TableFormat; 3] = [
        TableFormat::SecondStage4,
        TableFormat::SecondStage5,
        TableFormat::SecondStage3,
    ];

    /// What a device's unit needs; `None` if it cannot nest.
    ///
    /// A unit that does not snoop cannot set accessed bits in the guest's table and faults
    /// where it must (SFS.9), so it does not count.
    fn of(capabilities: &DeviceCapabilities) -> Option<Self> {
        if !capabilities.nested || !capabilities.coherent {
            return None;
        }
        let format = Self::FORMATS
            .into_iter()
            .find(|&format| capabilities.supports(format))?;
        Some(Self {
            format,
            leaves: capabilities.second_stage_leaves,
            iova_bits: capabilities.iova_bits,
            host_bits: capabilities.host_bits,
        })
    }

    /// Bits of guest-physical address that can be translated (§9.6, SPT.4.4).
    fn guest_bits(&self) -> u8 {
        self.format.input_bits().min(self.iova_bits)
    }
}

/// A second stage that maps all of a guest's memory.
#[derive(Clone, Copy, Debug)]
struct Parent {
    kind: ParentKind,
    domain: DomainHandle,
    /// Requests through it snoop whatever they ask for.
    snoops: bool,
}

/// The second stages of a guest.
#[derive(Debug, Default)]
pub(crate) struct Parents([Option<Parent>; MAX_PARENTS]);

impl Parents {
    fn find(&self, kind: &ParentKind) -> Option<ParentId> {
        let place = self
            .0
            .iter()
            .position(|parent| parent.is_some_and(|parent| parent.kind == *kind))?;
        u8::try_from(place).ok().map(ParentId)
    }

    fn vacant(&self) -> Option<ParentId> {
        let place = self.0.iter().position(Option::is_none)?;
        u8::try_from(place).ok().map(ParentId)
    }

    fn get(&self, id: ParentId) -> Option<&Parent> {
        self.0.get(usize::from(id.0))?.as_ref()
    }

    fn set(&mut self, id: ParentId, parent: Option<Parent>) {
        if let Some(place) = self.0.get_mut(usize::from(id.0)) {
            *place = parent;
        }
    }

    fn ids(&self) -> ArrayVec<ParentId, MAX_PARENTS> {
        let used = (0..).zip(&self.0).filter(|(_, parent)| parent.is_some());
        used.map(|(place, _)| ParentId(place)).collect()
    }

    /// The domain that nested ones stand on.
    pub(crate) fn domain(&self, id: ParentId) -> Option<DomainHandle> {
        self.get(id).map(|parent| parent.domain)
    }

    /// Whether requests through it snoop whatever they ask for.
    pub(crate) fn snoops(&self, id: ParentId) -> bool {
        self.get(id).is_some_and(|parent| parent.snoops)
    }

    /// Bits of guest-physical address that it translates.
    pub(crate) fn guest_bits(&self, id: ParentId) -> Option<u8> {
        self.get(id).map(|parent| parent.kind.guest_bits())
    }
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// The second stage for a device that a guest is about to get, made if it is the first
    /// of its kind. `None` if the device's tables shall be shadowed.
    pub(crate) fn parent_for(
        &self,
        guest: &mut Vm,
        device: DeviceId,
        capabilities: &DeviceCapabilities,
    ) -> Result<Option<ParentId>, IommuError> {
        if self.config.nesting == Nesting::Shadow {
            return Ok(None);
        }
        let Some(kind) = ParentKind::of(capabilities) else {
            return Ok(None);
        };
        if let Some(known) = guest.parents.find(&kind) {
            return Ok(Some(known));
        }
        let Some(id) = guest.parents.vacant() else {
            return Ok(None);
        };
        let (domain, snoops) = self.create_parent(device, kind.format)?;
        let parent = Parent {
            kind,
            domain,
            snoops,
        };
        if let Err(error) = self.cover(&*guest.memory, &parent) {
            // Nothing stands on it, so it can be destroyed; frames that hardware did not
            // confirm are in quarantine.
            let _ = self.destroy_domain(domain);
            return Err(error);
        }
        guest.parents.set(id, Some(parent));
        Ok(Some(id))
    }

    /// Wherever the unit can, requests through it snoop: a guest's memory is in the CPUs'
    /// caches, and nobody writes back for a device that would rather not look there.
    fn create_parent(
        &self,
        device: DeviceId,
        format: TableFormat,
    ) -> Result<(DomainHandle, bool), BackendError> {
        let attributes = PageAttributes {
            snoop: true,
            ..PageAttributes::default()
        };
        match self.backend.create_with(device, format, &attributes) {
            Ok(domain) => Ok((domain, true)),
            Err(BackendError::AttributesUnsupported(_)) => {
                let domain = self.backend.create(device, &DomainSpec::Paging(format))?;
                Ok((domain, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Destroys the second stages that no device of the guest needs any more.
    pub(crate) fn drop_parents(&self, guest: &mut Vm) -> Result<(), IommuError> {
        let mut result = Ok(());
        for id in guest.parents.ids() {
            let needs = |device: &Device| device.parent == Some(id);
            if guest.objects.devices().any(|(_, device)| needs(device)) {
                continue;
            }
            if let Some(domain) = guest.parents.domain(id) {
                result = result.and(self.destroy_domain(domain));
            }
            guest.parents.set(id, None);
        }
        result
    }

    /// Maps all memory of the guest that its second stages do not map yet.
    pub(crate) fn cover_all(&self, guest: &Vm) -> Result<(), IommuError> {
        for id in guest.parents.ids() {
            if let Some(parent) = guest.parents.get(id) {
                self.cover(&*guest.memory, parent)?;
            }
        }
        Ok(())
    }

    /// Takes guest memory out of all second stages of the guest. Returns how many pages
    /// they lost.
    pub(crate) fn uncover(&self, guest: &Vm, gone: &AddressRange<Gpa>) -> Result<u64, IommuError> {
        let mut batch = Batch::with_capacity(MAX_PARENTS).ok_or(IommuError::OutOfMemory)?;
        let mut pages = 0u64;
        for id in guest.parents.ids() {
            let Some(parent) = guest.parents.get(id) else {
                continue;
            };
            let Some(range) = translated(gone, parent.kind.guest_bits()) else {
                continue;
            };
            let owed = self.backend.unmap(parent.domain, range);
            // There is room for it.
            let _ = batch.add(owed.map_err(|_| IommuError::OutOfMemory)?);
            pages = pages.saturating_add(range.pages());
        }
        self.commit(&mut batch)?;
        Ok(pages)
    }

    /// Maps what of the memory map the parent does not map yet.
    fn cover(&self, memory: &dyn GuestMemory, parent: &Parent) -> Result<(), IommuError> {
        let mut batch = Batch::with_capacity(DEBTS).ok_or(IommuError::OutOfMemory)?;
        let mut pieces = Pieces::new(memory, parent.kind.guest_bits());
        while let Some(piece) = pieces.next() {
            self.cover_piece(parent.domain, piece?, &mut batch)?;
        }
        Ok(self.commit(&mut batch)?)
    }

    fn cover_piece<'b>(
        &'b self,
        domain: DomainHandle,
        mut piece: Piece,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), IommuError> {
        while piece.run.pages > 0 {
            let mapped = self
                .backend
                .map(domain, piece.iova, &[piece.run], piece.access);
            let skipped = match mapped {
                Ok(owed) => {
                    self.owe(owed, batch)?;
                    return Ok(());
                }
                // It is there already; what is before it may not be.
                Err(MapError::Occupied(at)) => at,
                Err(MapError::OutOfFrames(_)) => return Err(IommuError::OutOfMemory),
                Err(error) => return Err(IommuError::MemoryMap(error)),
            };
            let before = skipped.checked_sub(piece.iova).unwrap_or(0) >> PAGE_SHIFT;
            if before > 0 {
                let run = Run {
                    pages: before,
                    ..piece.run
                };
                let owed = self.backend.map(domain, piece.iova, &[run], piece.access);
                self.owe(owed.map_err(|_| IommuError::OutOfMemory)?, batch)?;
            }
            piece.skip(before.saturating_add(1));
        }
        Ok(())
    }

    fn owe<'b>(
        &'b self,
        owed: Owed<'b, B::Debt>,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), IommuError> {
        if batch.room() == 0 {
            self.commit(batch)?;
        }
        // There is room for it now.
        let _ = batch.add(owed);
        Ok(())
    }
}

/// Guest memory as a device of a second stage addresses it: the only place where one is
/// taken for the other.
pub(crate) fn translated(range: &AddressRange<Gpa>, bits: u8) -> Option<AddressRange<Iova>> {
    let last = 1u64.checked_shl(bits.into()).unwrap_or(0).wrapping_sub(1);
    let width = AddressRange::inclusive(Gpa::new(0), Gpa::new(last)).ok()?;
    let part = range.intersection(&width)?;
    let first = Iova::new(part.first().as_u64());
    AddressRange::inclusive(first, Iova::new(part.last().as_u64())).ok()
}

/// Memory that is contiguous in guest and host and has one set of rights.
#[derive(Clone, Copy, Debug)]
struct Piece {
    iova: Iova,
    run: Run,
    access: Access,
}

impl Piece {
    fn skip(&mut self, pages: u64) {
        let pages = pages.min(self.run.pages);
        let bytes = pages << PAGE_SHIFT;
        self.iova = self.iova.checked_add(bytes).unwrap_or(self.iova);
        self.run.hpa = self.run.hpa.checked_add(bytes).unwrap_or(self.run.hpa);
        self.run.pages = self.run.pages.saturating_sub(pages);
    }
}

/// The pieces of a memory map, from the bottom up, without those that mean interrupts.
struct Pieces<'m> {
    memory: &'m dyn GuestMemory,
    at: Option<Gpa>,
    last: Gpa,
    hole_steps: u32,
}

impl<'m> Pieces<'m> {
    /// Of the first 2^`bits` bytes.
    fn new(memory: &'m dyn GuestMemory, bits: u8) -> Self {
        let last = 1u64.checked_shl(bits.into()).unwrap_or(0).wrapping_sub(1);
        Self {
            memory,
            at: Some(Gpa::new(0)),
            last: Gpa::new(last),
            hole_steps: 0,
        }
    }

    fn next(&mut self) -> Option<Result<Piece, IommuError>> {
        while let Some(at) = self.at.filter(|at| *at <= self.last) {
            match self.memory.resolve(at, Access::NONE) {
                Err(_) => {
                    if let Err(error) = self.skip_hole(at) {
                        return Some(Err(error));
                    }
                }
                Ok(backing) => {
                    let bytes = self.bytes_at(at, backing.hpa, backing.bytes);
                    self.at = at.checked_add(bytes);
                    let piece = Piece {
                        iova: Iova::new(at.as_u64()),
                        run: Run {
                            hpa: backing.hpa,
                            pages: bytes >> PAGE_SHIFT,
                        },
                        access: backing.access,
                    };
                    let host = AddressRange::of_pages(backing.hpa, piece.run.pages);
                    let usable = host.is_ok_and(|host| !meets_interrupts(&host));
                    if usable && !backing.access.is_none() && !is_interrupt(at) {
                        return Some(Ok(piece));
                    }
                }
            }
        }
        None
    }

    /// How much of so many bytes are looked at in one go: what is before, within or behind
    /// the addresses that mean interrupts, in the guest and in the host, and no more than
    /// the width.
    fn bytes_at(&self, at: Gpa, host: Hpa, bytes: u64) -> u64 {
        let left = self.last.as_u64().saturating_sub(at.as_u64());
        let mut end = bytes.min(left.saturating_add(1));
        for border in [INTERRUPT_RANGE.0, INTERRUPT_RANGE.1.saturating_add(1)] {
            for address in [at.as_u64(), host.as_u64()] {
                if let Some(before) = border.checked_sub(address).filter(|bytes| *bytes > 0) {
                    end = end.min(before);
                }
            }
        }
        // A map that has less than a page there would keep us for ever.
        (end >> PAGE_SHIFT << PAGE_SHIFT).max(PAGE_SIZE)
    }

    fn skip_hole(&mut self, at: Gpa) -> Result<(), IommuError> {
        let hole = self.memory.hole(at).max(PAGE_SIZE);
        if hole == PAGE_SIZE {
            self.hole_steps = self.hole_steps.saturating_add(1);
            if self.hole_steps > HOLE_STEPS {
                return Err(IommuError::HolesByPage(at));
            }
        }
        self.at = at.checked_add(hole).map(|at| at.align_down(PAGE_SHIFT));
        Ok(())
    }
}

fn is_interrupt(at: Gpa) -> bool {
    let (first, last) = INTERRUPT_RANGE;
    (first..=last).contains(&at.as_u64())
}
