//! PASIDs of the guest's own numbering.

use crate::session::Session;
use guest_machine::{Trouble, info, iommu};
use iommu_abi::{Capabilities, Errno};

/// Binds a second table to a PASID and gives it up again, where the device has PASIDs;
/// where it has none, the call says so.
///
/// No device here sends requests with a PASID, so what is bound is not used.
pub(crate) fn bind_by_pasid(session: &mut Session) -> Result<(), Trouble> {
    let info = iommu::device_info(&session.calls, session.device)?;
    let capabilities = Capabilities::from_bits_retain(info.capabilities);
    let able = capabilities.contains(Capabilities::PASID) && info.pasid_bits > 0;
    let root = session.pages.take(session.machine())?;
    session.calls_only("call", |session| {
        let table = iommu::user_table(&session.calls, session.device, root)?;
        let pasid = iommu::allocate_pasid(&session.calls, 1, 0xff)?;
        let bound = iommu::bind(&session.calls, session.device, table.id, Some(pasid));
        if able {
            bound?;
            in_use(session, table.id, pasid)?;
            iommu::unbind(&session.calls, session.device, Some(pasid))?;
        } else {
            info!("the device has no PASIDs");
            let what = "a PASID on a device without";
            Trouble::unless_refused(what, Errno::EOPNOTSUPP, bound)?;
        }
        iommu::free_pasid(&session.calls, pasid)?;
        iommu::destroy(&session.calls, table.id)
    })?;
    session.pages.give(root);
    Ok(())
}

/// What is bound can be neither destroyed nor freed nor bound again, and a PASID that was
/// not allocated names nothing.
fn in_use(session: &Session, table: u32, pasid: u32) -> Result<(), Trouble> {
    let calls = &session.calls;
    let busy = |what, outcome| Trouble::unless_refused(what, Errno::EBUSY, outcome);
    busy("a bound table", iommu::destroy(calls, table))?;
    busy("a bound PASID", iommu::free_pasid(calls, pasid))?;
    let again = iommu::bind(calls, session.device, table, Some(pasid));
    busy("a PASID bound twice", again)?;
    let strange = iommu::bind(calls, session.device, table, Some(0xabc));
    Trouble::unless_refused("a PASID never allocated", Errno::ENOENT, strange)
}
