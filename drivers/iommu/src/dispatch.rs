//! From a number in a register to a function, and back.

use crate::argument::{Copied, copy_argument};
use crate::counters::count;
use crate::error::Refusal;
use crate::shadow::Shadow;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{Argument, Errno, Op};
use iommu_core::{Backend, Gpa, Platform, VmHost, VmId};

/// What a call returns: a count, or why not.
pub(crate) type Answer = Result<u64, Refusal>;

/// How far a call came that is done in parts.
#[derive(Debug, Default)]
pub struct Progress {
    /// When it began, in the guest's own count.
    begun: Option<u64>,
}

/// Parts of a call that [`Iommu::call`] makes by itself before it does the rest in one go: more
/// than tables that stay as they are take. Of tables that change all the while there is no end.
const PARTS: u32 = 16;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Executes a guest's hypercall and returns what its result register shall hold: 0 or a
    /// count, or a negated error number.
    ///
    /// `vm` comes from the virtual CPU that called and never from the guest. `argument` is
    /// guest-physical; nothing about it is trusted. Not for interrupt handlers.
    pub fn call(&self, vm: VmId, operation: u64, argument: Gpa) -> i64 {
        let mut progress = Progress::default();
        for _ in 0..PARTS {
            if let Some(result) = self.call_part(vm, operation, argument, &mut progress) {
                return result;
            }
            self.platform.relax();
        }
        let in_one_go = |shadow: &mut Shadow| shadow.in_one_go();
        let result = self.try_call(vm, operation, argument, &mut progress, in_one_go);
        self.to_register(result)
    }

    /// Like [`call`](Self::call), but returns `None` when the work of one call is done and
    /// some is left, so that others get their turn: to be called again with the same, until
    /// it returns the result. The virtual CPU does nothing of the guest's in between, and
    /// `progress` belongs to this one call. A call that nobody goes on with leaves what was
    /// done; hardware has been told of that.
    ///
    /// A guest whose tables change all the while keeps itself here for as long as they do:
    /// whoever goes on looks each time whether it shall.
    ///
    /// Of what is looked at by entry only invalidations stop so; see `docs/shadow.md` for
    /// what bounds the others.
    pub fn call_part(
        &self,
        vm: VmId,
        operation: u64,
        argument: Gpa,
        progress: &mut Progress,
    ) -> Option<i64> {
        let begun = progress.begun.take();
        if begun.is_none() {
            count(&self.counters.calls, 1);
        }
        let begin = |shadow: &mut Shadow| shadow.begin_part(begun);
        match self.try_call(vm, operation, argument, progress, begin) {
            Err(_) if progress.begun.is_some() => None,
            result => Some(self.to_register(result)),
        }
    }

    fn to_register(&self, result: Result<u64, Errno>) -> i64 {
        match result {
            Ok(result) => i64::try_from(result).unwrap_or(i64::MAX),
            Err(errno) => {
                count(&self.counters.refusals, 1);
                errno.to_register()
            }
        }
    }

    fn try_call(
        &self,
        vm: VmId,
        operation: u64,
        at: Gpa,
        progress: &mut Progress,
        begin: impl FnOnce(&mut Shadow),
    ) -> Result<u64, Errno> {
        let op = Op::from_register(operation).ok_or(Errno::ENOTTY)?;
        let slot = self.slot(vm).ok_or(Errno::EPERM)?;
        let mut state = slot.state.take(&self.platform);
        let guest = state.as_mut().ok_or(Errno::EPERM)?;
        begin(&mut guest.shadow);
        let result = self.execute(guest, op, at);
        progress.begun = guest.shadow.end_part();
        result
    }

    /// Executes an operation, of a call or of a ring.
    pub(crate) fn execute(&self, guest: &mut Vm, op: Op, at: Gpa) -> Result<u64, Errno> {
        match op {
            Op::Probe => self.run(guest, at, Self::probe),
            Op::Info => self.run(guest, at, Self::info),
            Op::DeviceList => self.run(guest, at, Self::device_list),
            Op::DeviceInfo => self.run(guest, at, Self::device_info),
            Op::Destroy => self.run(guest, at, Self::destroy),
            Op::IoasAllocate => self.run(guest, at, Self::ioas_allocate),
            Op::IoasRanges => self.run(guest, at, Self::ioas_ranges),
            Op::IoasMap => self.run(guest, at, Self::ioas_map),
            Op::IoasUnmap => self.run(guest, at, Self::ioas_unmap),
            Op::Bind => self.run(guest, at, Self::bind),
            Op::Unbind => self.run(guest, at, Self::unbind),
            Op::Invalidate => self.run(guest, at, Self::invalidate),
            Op::FaultRead => self.run(guest, at, Self::fault_read),
            Op::PageResponse => self.run(guest, at, Self::page_response),
            Op::PasidAllocate => self.run(guest, at, Self::pasid_allocate),
            Op::PasidFree => self.run(guest, at, Self::pasid_free),
            Op::LinuxBindGpasid => self.run(guest, at, Self::linux_bind_gpasid),
            Op::LinuxUnbindGpasid => self.run(guest, at, Self::linux_unbind_gpasid),
            Op::LinuxCacheInvalidate => self.run(guest, at, Self::linux_cache_invalidate),
            Op::LinuxFaultRead => self.run(guest, at, Self::linux_fault_read),
            Op::LinuxPageResponse => self.run(guest, at, Self::linux_page_response),
            Op::PasidTableBind => self.run(guest, at, Self::pasid_table_bind),
            Op::PasidTableUnbind => self.run(guest, at, Self::pasid_table_unbind),
            Op::PasidTableInvalidate => self.run(guest, at, Self::pasid_table_invalidate),
            Op::RingCreate => self.run(guest, at, Self::ring_create),
            Op::RingEnter => self.run(guest, at, Self::ring_enter),
            Op::QueueAllocate => self.run(guest, at, Self::queue_allocate),
            Op::QueueBind => self.run(guest, at, Self::queue_bind),
            Op::QueueUnbind => self.run(guest, at, Self::queue_unbind),
        }
    }

    /// Copies the argument in, does the operation, and writes its results back.
    ///
    /// That they can be written was checked before. If the page has gone meanwhile, the
    /// operation has happened and the guest is told `EFAULT`.
    fn run<Arg: Argument>(
        &self,
        guest: &mut Vm,
        at: Gpa,
        operation: fn(&Self, &mut Vm, &mut Arg) -> Answer,
    ) -> Result<u64, Errno> {
        let memory = guest.memory.clone();
        let mut copied: Copied<Arg> = copy_argument(&*memory, at)?;
        match operation(self, guest, &mut copied.value) {
            Ok(result) => copied.write_back(&*memory).map(|()| result),
            Err(refusal) => {
                if refusal.write_back {
                    copied.write_back(&*memory)?;
                }
                Err(refusal.errno)
            }
        }
    }
}
