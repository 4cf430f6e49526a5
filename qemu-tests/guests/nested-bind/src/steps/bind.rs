//! Binding, and what holds before and after.

use crate::session::Session;
use guest_machine::{Trouble, iommu};
use iommu_abi::Errno;
use iommu_core::{Access, FaultReason, Gpa};

/// Why a device that nothing is bound to is refused, by the unit's mode.
const BLOCKED: &[FaultReason] = &[
    FaultReason::CONTEXT_NOT_PRESENT,
    FaultReason::ROOT_NOT_PRESENT,
    FaultReason::SCALABLE_CONTEXT_NOT_PRESENT,
    FaultReason::SCALABLE_ROOT_NOT_PRESENT,
    FaultReason::PASID_DIRECTORY_NOT_PRESENT,
    FaultReason::PASID_NOT_PRESENT,
    // What QEMU gives for a PASID entry that is all zero.
    FaultReason::PASID_INVALID,
];

/// Nothing is bound: the device reaches nothing.
pub(crate) fn blocked_before(session: &mut Session) -> Result<(), Trouble> {
    let anywhere = session.fresh_address()?;
    session.refused("write", anywhere, Access::WRITE, BLOCKED)?;
    session.refused("read", anywhere, Access::READ, BLOCKED)?;
    Ok(())
}

/// A root outside the guest's memory is refused; one inside is not.
pub(crate) fn root_outside_memory(session: &mut Session) -> Result<(), Trouble> {
    let beyond = Gpa::new(session.machine().start().memory_end());
    session.calls_only("refused", |session| {
        let outside = iommu::user_table(&session.calls, session.device, beyond);
        Trouble::unless_refused("a root outside memory", Errno::EFAULT, outside)
    })?;
    let inside = session.pages.take(session.machine())?;
    session.calls_only("permitted", |session| {
        let table = iommu::user_table(&session.calls, session.device, inside)?;
        iommu::destroy(&session.calls, table.id)
    })?;
    session.pages.give(inside);
    Ok(())
}

/// Binds the guest's table to the device.
pub(crate) fn bind(session: &mut Session) -> Result<(), Trouble> {
    let root = session.space.root();
    let table = session.calls_only("own-table", |session| {
        let table = iommu::user_table(&session.calls, session.device, root)?;
        iommu::bind(&session.calls, session.device, table.id, None)?;
        Ok(table)
    })?;
    session.table = Some(table);
    session.set_bound(true);
    Ok(())
}

/// Unbinds: what worked before is refused after.
pub(crate) fn unbind(session: &mut Session) -> Result<(), Trouble> {
    let (at, _) = session.map_random_page()?;
    session.permitted("before", at, Access::WRITE)?;
    session.calls_only("call", |session| {
        iommu::unbind(&session.calls, session.device, None)
    })?;
    session.set_bound(false);
    session.refused("after", at, Access::WRITE, BLOCKED)?;
    let table = session.table_id()?;
    session.calls_only("destroy", |session| iommu::destroy(&session.calls, table))
}
