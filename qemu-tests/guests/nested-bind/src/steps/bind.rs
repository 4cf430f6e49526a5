//! Binding, and what holds before and after.

use crate::session::Session;
use guest_machine::iommu_guest::Errno;
use guest_machine::{Trouble, iommu};
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
        let outside = session.allocate(beyond);
        Trouble::unless_refused("a root outside memory", Errno::EFAULT, outside)
    })?;
    let inside = session.pages.take(session.machine())?;
    session.calls_only("permitted", |session| {
        let table = session.allocate(inside)?;
        session.destroy(table)
    })?;
    session.pages.give(inside);
    Ok(())
}

/// Binds the guest's table to the device.
pub(crate) fn bind(session: &mut Session) -> Result<(), Trouble> {
    let root = session.space.root();
    let table = session.calls_only("own-table", |session| {
        let table = session.allocate(root)?;
        session.iommu.bind(session.device, &table)?;
        Ok(table)
    })?;
    session.range = Some(iommu::largest_range(&mut session.iommu, &table)?);
    session.table = Some(table);
    session.set_bound(true);
    Ok(())
}

/// Unbinds: what worked before is refused after.
pub(crate) fn unbind(session: &mut Session) -> Result<(), Trouble> {
    let (at, _) = session.map_random_page()?;
    session.permitted("before", at, Access::WRITE)?;
    session.calls_only("call", |session| {
        Ok(session.iommu.unbind(session.device)?)
    })?;
    session.set_bound(false);
    session.refused("after", at, Access::WRITE, BLOCKED)?;
    let table = session.table.take();
    let table = table.ok_or(Trouble::Unsuitable("a table that was bound"))?;
    session.calls_only("destroy", |session| session.destroy(table))
}
