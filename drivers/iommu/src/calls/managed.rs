//! Address spaces that the hypervisor keeps: mapping and unmapping by calls.

use crate::dispatch::Answer;
use crate::error::{of_flush, of_map, of_memory};
use crate::object::{Managed, Mapping};
use crate::shadow::INTERRUPT_RANGE;
use crate::vm::Vm;
use crate::{Iommu, IommuError, PasidAllocator};
use arrayvec::ArrayVec;
use iommu_abi::{Errno, IoasMap, IoasUnmap};
use iommu_core::{
    Access, Address, AddressRange, Backend, Batch, DomainHandle, Gpa, GuestMemory, Iova, Owed,
    PAGE_SHIFT, PAGE_SIZE, Platform, RangeError, Run, VmHost,
};

/// Runs of host memory that are mapped in one go.
const RUNS: usize = 64;
/// Mappings that are taken out under one flush.
const UNMAPPED: usize = 64;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn ioas_map(&self, guest: &mut Vm, ask: &mut IoasMap) -> Answer {
        let managed = *guest.objects.managed(ask.ioas_id)?;
        let access = access_of(ask.flags)?;
        let length = page_range(Gpa::new(ask.gpa), ask.length)?;
        let bytes = length.bytes().ok_or(Errno::EOVERFLOW)?;
        if guest.objects.mappings.len() == guest.objects.mappings.capacity() {
            return Err(Errno::EDQUOT.into());
        }
        let iova = if ask.flags & IoasMap::FIXED_IOVA != 0 {
            fixed(guest, ask, &managed, bytes)?
        } else {
            free_range(guest, ask.ioas_id, &managed, bytes).ok_or(Errno::ENOSPC)?
        };
        guest.mapped = guest.mapped.saturating_add(length.pages());
        let mut mapping = Mapping {
            ioas_id: ask.ioas_id,
            iova,
            gpa: length.first(),
        };
        let mapped = self.map_runs(guest, managed.domain, &iova, length.first(), access);
        if let Err((errno, done)) = mapped {
            if let Some(part) = self.unmap_part(managed.domain, &iova, done) {
                // It stays, so it must be known: its memory may be taken away.
                mapping.iova = part;
                guest.objects.mappings.push(mapping);
            }
            return Err(errno.into());
        }
        // There is room for it: checked before.
        guest.objects.mappings.push(mapping);
        ask.iova = iova.first().as_u64();
        Ok(0)
    }

    /// Maps guest memory piece by piece. On error says how many bytes the tables map, whether
    /// hardware was told or not.
    fn map_runs(
        &self,
        guest: &Vm,
        domain: DomainHandle,
        iova: &AddressRange<Iova>,
        gpa: Gpa,
        access: Access,
    ) -> Result<(), (Errno, u64)> {
        let total = iova.bytes().unwrap_or(0);
        let mut done = 0u64;
        while done < total {
            let step = gpa
                .checked_add(done)
                .zip(iova.first().checked_add(done))
                .ok_or(Errno::EOVERFLOW)
                .and_then(|(gpa, at)| {
                    let left = total.saturating_sub(done);
                    let (runs, bytes) = runs_from(&*guest.memory, gpa, left, access)?;
                    let owed = self.backend.map(domain, at, &runs, access);
                    Ok((owed.map_err(of_map)?, bytes))
                });
            let (owed, bytes) = step.map_err(|errno| (errno, done))?;
            done = done.saturating_add(bytes);
            self.pay(owed).map_err(|errno| (errno, done))?;
        }
        Ok(())
    }

    fn pay<'b>(&'b self, owed: Owed<'b, B::Debt>) -> Result<(), Errno> {
        // Without a batch it is in quarantine.
        let mut batch = Batch::with_capacity(1).ok_or(Errno::ENOMEM)?;
        // There is room for it.
        let _ = batch.add(owed);
        self.commit(&mut batch).map_err(of_flush)
    }

    /// Takes out the first bytes of a mapping that failed. Returns what stays.
    fn unmap_part(
        &self,
        domain: DomainHandle,
        iova: &AddressRange<Iova>,
        bytes: u64,
    ) -> Option<AddressRange<Iova>> {
        let part = AddressRange::of_bytes(iova.first(), bytes).ok()?;
        let Ok(owed) = self.backend.unmap(domain, part) else {
            return Some(part);
        };
        // What hardware does not confirm is in quarantine.
        let _ = self.pay(owed);
        None
    }

    pub(crate) fn ioas_unmap(&self, guest: &mut Vm, ask: &mut IoasUnmap) -> Answer {
        let managed = *guest.objects.managed(ask.ioas_id)?;
        let everything = ask.iova == 0 && ask.length == u64::MAX;
        let range = if everything {
            AddressRange::inclusive(Iova::new(0), Iova::new(u64::MAX)).map_err(|_| Errno::EINVAL)?
        } else {
            page_range(Iova::new(ask.iova), ask.length)?
        };
        check_whole(guest, ask.ioas_id, &range, everything)?;
        let mut bytes = 0u64;
        loop {
            let (count, unmapped) = self.unmap_some(guest, ask.ioas_id, &managed, &range)?;
            bytes = bytes.saturating_add(unmapped);
            if count < UNMAPPED {
                break;
            }
        }
        ask.length = bytes;
        Ok(0)
    }

    /// Takes out up to [`UNMAPPED`] mappings of the range under one flush.
    fn unmap_some(
        &self,
        guest: &mut Vm,
        ioas_id: u32,
        managed: &Managed,
        range: &AddressRange<Iova>,
    ) -> Result<(usize, u64), Errno> {
        let mut batch = Batch::with_capacity(UNMAPPED).ok_or(Errno::ENOMEM)?;
        let (mut count, mut bytes) = (0usize, 0u64);
        let mut result = Ok(());
        while count < UNMAPPED {
            let inside =
                |mapping: &Mapping| mapping.ioas_id == ioas_id && range.covers(&mapping.iova);
            let Some(place) = guest.objects.mappings.iter().position(inside) else {
                break;
            };
            let Some(mapping) = guest.objects.mappings.get(place).copied() else {
                break;
            };
            match self.backend.unmap(managed.domain, mapping.iova) {
                Ok(owed) => {
                    // There is room for it.
                    let _ = batch.add(owed);
                }
                Err(error) => {
                    result = Err(of_map(error));
                    break;
                }
            }
            guest.objects.mappings.swap_remove(place);
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(mapping.iova.bytes().unwrap_or(0));
        }
        self.commit(&mut batch).map_err(of_flush)?;
        result.map(|()| (count, bytes))
    }

    /// Takes guest memory out of the address spaces that the hypervisor keeps. The
    /// mappings stay on record, with a hole.
    pub(crate) fn forget_in_managed(
        &self,
        guest: &Vm,
        gone: &AddressRange<Gpa>,
    ) -> Result<u64, IommuError> {
        let mut count = 0u64;
        for mapping in &guest.objects.mappings {
            let Some(part) = part_of(mapping, gone) else {
                continue;
            };
            let Ok(managed) = guest.objects.managed(mapping.ioas_id) else {
                continue;
            };
            let mut batch = Batch::with_capacity(1).ok_or(IommuError::OutOfMemory)?;
            let owed = self
                .backend
                .unmap(managed.domain, part)
                .map_err(|_| IommuError::OutOfMemory)?;
            // There is room for it.
            let _ = batch.add(owed);
            self.commit(&mut batch)?;
            count = count.saturating_add(part.pages());
        }
        Ok(count)
    }
}

fn access_of(flags: u32) -> Result<Access, Errno> {
    let right = |flag: u32, right: Access| {
        if flags & flag != 0 {
            right
        } else {
            Access::NONE
        }
    };
    let access =
        right(IoasMap::READABLE, Access::READ).union(right(IoasMap::WRITEABLE, Access::WRITE));
    if access.is_none() {
        return Err(Errno::EINVAL);
    }
    Ok(access)
}

fn page_range<A: Address>(first: A, length: u64) -> Result<AddressRange<A>, Errno> {
    if length & (PAGE_SIZE.wrapping_sub(1)) != 0 {
        return Err(Errno::EINVAL);
    }
    AddressRange::of_pages(first, length >> PAGE_SHIFT).map_err(|error| match error {
        RangeError::Wraps => Errno::EOVERFLOW,
        RangeError::Empty | RangeError::Misaligned => Errno::EINVAL,
    })
}

/// The range that the guest names, if it is free.
fn fixed(
    guest: &Vm,
    ask: &IoasMap,
    managed: &Managed,
    bytes: u64,
) -> Result<AddressRange<Iova>, Errno> {
    let range = page_range(Iova::new(ask.iova), bytes)?;
    if !managed.window.covers(&range) || crate::shadow::meets_interrupts(&range) {
        return Err(Errno::EINVAL);
    }
    match overlapped(guest, ask.ioas_id, &range) {
        Some(_) => Err(Errno::EEXIST),
        None => Ok(range),
    }
}

/// The lowest free range of so many bytes, page 0 excepted.
fn free_range(
    guest: &Vm,
    ioas_id: u32,
    managed: &Managed,
    bytes: u64,
) -> Option<AddressRange<Iova>> {
    let mut first = managed.window.first().max(Iova::new(PAGE_SIZE));
    if !first.is_aligned(PAGE_SHIFT) {
        first = first.align_down(PAGE_SHIFT).checked_add(PAGE_SIZE)?;
    }
    // Each round leaves one obstacle behind.
    for _ in 0..=guest.objects.mappings.len().saturating_add(1) {
        let range = AddressRange::of_bytes(first, bytes).ok()?;
        if !managed.window.covers(&range) {
            return None;
        }
        first = if crate::shadow::meets_interrupts(&range) {
            Iova::new(INTERRUPT_RANGE.1).checked_add(1)?
        } else {
            match overlapped(guest, ioas_id, &range) {
                None => return Some(range),
                Some(obstacle) => obstacle.last().checked_add(1)?,
            }
        };
    }
    None
}

fn overlapped(guest: &Vm, ioas_id: u32, range: &AddressRange<Iova>) -> Option<AddressRange<Iova>> {
    let overlaps = |mapping: &&Mapping| mapping.ioas_id == ioas_id && mapping.iova.overlaps(range);
    let found = guest.objects.mappings.iter().find(overlaps);
    found.map(|mapping| mapping.iova)
}

/// Refuses ranges that hold a mapping in part, or none.
fn check_whole(
    guest: &Vm,
    ioas_id: u32,
    range: &AddressRange<Iova>,
    none_is_fine: bool,
) -> Result<(), Errno> {
    let mut of_space = guest
        .objects
        .mappings
        .iter()
        .filter(|mapping| mapping.ioas_id == ioas_id && mapping.iova.overlaps(range))
        .peekable();
    if of_space.peek().is_none() && !none_is_fine {
        return Err(Errno::ENOENT);
    }
    if of_space.all(|mapping| range.covers(&mapping.iova)) {
        Ok(())
    } else {
        Err(Errno::ENOENT)
    }
}

/// The next runs of host memory behind guest memory, and how many bytes they are.
fn runs_from(
    memory: &dyn GuestMemory,
    gpa: Gpa,
    bytes: u64,
    access: Access,
) -> Result<(ArrayVec<Run, RUNS>, u64), Errno> {
    let mut runs = ArrayVec::new();
    let mut done = 0u64;
    while done < bytes && !runs.is_full() {
        let at = gpa.checked_add(done).ok_or(Errno::EOVERFLOW)?;
        let backing = memory.resolve(at, access).map_err(of_memory)?;
        let length = backing.bytes.min(bytes.saturating_sub(done));
        let run = AddressRange::of_bytes(backing.hpa, length).map_err(|_| Errno::EFAULT)?;
        if !run.is_page_aligned() || crate::shadow::meets_interrupts(&run) {
            return Err(Errno::EFAULT);
        }
        // There is room: the loop ends when there is none.
        runs.push(Run {
            hpa: backing.hpa,
            pages: length >> PAGE_SHIFT,
        });
        done = done.saturating_add(length);
    }
    Ok((runs, done))
}

/// The part of a mapping whose memory is gone.
fn part_of(mapping: &Mapping, gone: &AddressRange<Gpa>) -> Option<AddressRange<Iova>> {
    let bytes = mapping.iova.bytes()?;
    let memory = AddressRange::of_bytes(mapping.gpa, bytes).ok()?;
    let part = memory.intersection(gone)?;
    let offset = part.first().checked_sub(mapping.gpa)?;
    let first = mapping.iova.first().checked_add(offset)?;
    AddressRange::of_bytes(first, part.bytes()?).ok()
}
