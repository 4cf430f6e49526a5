//! From a number in a register to a function, and back.

use crate::argument::{Copied, copy_argument};
use crate::counters::count;
use crate::error::Refusal;
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

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    /// Executes a guest's hypercall and returns what its result register shall hold: 0 or a
    /// count, or a negated error number.
    ///
    /// `vm` comes from the virtual CPU that called and never from the guest. `argument` is
    /// guest-physical; nothing about it is trusted. Not for interrupt handlers.
    pub fn call(&self, vm: VmId, operation: u64, argument: Gpa) -> i64 {
        let mut progress = Progress::default();
        loop {
            if let Some(result) = self.call_part(vm, operation, argument, &mut progress) {
                return result;
            }
            self.platform.relax();
        }
    }

    /// Like [`call`](Self::call), but returns `None` when the work of one call is done and
    /// some is left, so that others get their turn: to be called again with the same, until
    /// it returns the result. The virtual CPU does nothing of the guest's in between, and
    /// `progress` belongs to this one call. A call that nobody goes on with leaves what was
    /// done; hardware has been told of that.
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
        if progress.begun.is_none() {
            count(&self.counters.calls, 1);
        }
        match self.try_call(vm, operation, argument, progress)? {
            Ok(result) => Some(i64::try_from(result).unwrap_or(i64::MAX)),
            Err(errno) => {
                count(&self.counters.refusals, 1);
                Some(errno.to_register())
            }
        }
    }

    fn try_call(
        &self,
        vm: VmId,
        operation: u64,
        at: Gpa,
        progress: &mut Progress,
    ) -> Option<Result<u64, Errno>> {
        let Some(op) = Op::from_register(operation) else {
            return Some(Err(Errno::ENOTTY));
        };
        let Some(slot) = self.slot(vm) else {
            return Some(Err(Errno::EPERM));
        };
        let mut state = slot.state.take(&self.platform);
        let Some(guest) = state.as_mut() else {
            return Some(Err(Errno::EPERM));
        };
        guest.shadow.begin_part(progress.begun.take());
        let result = self.execute(guest, op, at);
        progress.begun = guest.shadow.end_part();
        match result {
            Err(_) if progress.begun.is_some() => None,
            result => Some(result),
        }
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
