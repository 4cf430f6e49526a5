//! PASIDs of the guest's own numbering.

use crate::session::Session;
use guest_machine::iommu_guest::{Capabilities, Errno, GuestPasid, UserTable};
use guest_machine::{Trouble, info};

/// Binds a second table to a PASID and gives it up again, where the device has PASIDs;
/// where it has none, the call says so.
///
/// No device here sends requests with a PASID, so what is bound is not used.
pub(crate) fn bind_by_pasid(session: &mut Session) -> Result<(), Trouble> {
    let abilities = session.iommu.device(session.device)?;
    let able = abilities.capabilities.contains(Capabilities::PASID) && abilities.pasid_bits > 0;
    let root = session.pages.take(session.machine())?;
    session.calls_only("call", |session| {
        let mut table = session.allocate(root)?;
        let (device, pasid) = (session.device, session.iommu.allocate_pasid(1, 0xff)?);
        let bound = session.iommu.bind_pasid(device, pasid, &table);
        if able {
            bound?;
            table = in_use(session, table, pasid)?;
            session.iommu.unbind_pasid(device, pasid)?;
        } else {
            info!("the device has no PASIDs");
            let what = "a PASID on a device without";
            Trouble::unless_refused(what, Errno::EOPNOTSUPP, bound)?;
        }
        session.iommu.free_pasid(pasid)?;
        session.destroy(table)
    })?;
    session.pages.give(root);
    Ok(())
}

/// What is bound can be neither destroyed nor freed nor bound again, and a PASID that was
/// not allocated names nothing. The table comes back from the refusal.
fn in_use(
    session: &mut Session,
    table: UserTable,
    pasid: GuestPasid,
) -> Result<UserTable, Trouble> {
    let (device, iommu) = (session.device, &mut session.iommu);
    let Err((error, table)) = iommu.destroy_table(table) else {
        return Err(Trouble::Unsuitable("a table that stays while it is bound"));
    };
    Trouble::unless_refused::<(), _>("a bound table", Errno::EBUSY, Err(error))?;
    let freed = iommu.free_pasid(pasid);
    Trouble::unless_refused("a bound PASID", Errno::EBUSY, freed)?;
    let again = iommu.bind_pasid(device, pasid, &table);
    Trouble::unless_refused("a PASID bound twice", Errno::EBUSY, again)?;
    let strange = iommu.bind_pasid(device, GuestPasid::from_u32(0xabc), &table);
    Trouble::unless_refused("a PASID never allocated", Errno::ENOENT, strange)?;
    Ok(table)
}
