//! Calls that must fail and change nothing, each beside one that works.

use crate::session::Session;
use guest_machine::{Trouble, iommu};
use iommu_abi::{Bind, Errno, Invalidate, Op, Unbind};
use iommu_core::{Access, Gpa};

const NO_SUCH_OPERATION: u32 = 0x1ff;
const NO_SUCH_HANDLE: u32 = 0xdead;

/// Bad numbers, handles, sizes, flags and pointers. The device goes on as before.
pub(crate) fn hostile(session: &mut Session) -> Result<(), Trouble> {
    let (at, _) = session.map_random_page()?;
    session.permitted("before", at, Access::READ)?;
    session.calls_only("refused", |session| {
        operations(session)?;
        handles(session)?;
        sizes_and_flags(session)?;
        pointers(session)
    })?;
    // Other bytes than the page has, so that a write shows.
    let (source, _) = session.map_random_page()?;
    session.load_buffer(source)?;
    session.permitted("after", at, Access::WRITE)
}

fn operations(session: &Session) -> Result<(), Trouble> {
    let unknown = session
        .calls
        .call_at(NO_SUCH_OPERATION, session.calls.array());
    Trouble::unless_refused("an unknown operation", Errno::ENOTTY, unknown)
}

fn handles(session: &Session) -> Result<(), Trouble> {
    let calls = &session.calls;
    let (device, table) = (session.device, session.table_id()?);
    let missing = |what, outcome| Trouble::unless_refused(what, Errno::ENOENT, outcome);
    missing("a strange object", iommu::destroy(calls, NO_SUCH_HANDLE))?;
    let mut replace = Bind {
        flags: Bind::REPLACE,
        device_id: device,
        ioas_id: NO_SUCH_HANDLE,
        ..Bind::new()
    };
    let strange_table = iommu::call(calls, &mut replace).map(|_| ());
    missing("a strange table", strange_table)?;
    let strange_device = iommu::bind(calls, NO_SUCH_HANDLE, table, None);
    missing("a strange device", strange_device)?;
    let strange = iommu::invalidate_everything(calls, NO_SUCH_HANDLE);
    missing("invalidating a strange table", strange)?;
    iommu::invalidate_everything(calls, table)?;
    let twice = iommu::bind(calls, device, table, None);
    Trouble::unless_refused("binding twice", Errno::EBUSY, twice)?;
    let in_use = iommu::destroy(calls, table);
    Trouble::unless_refused("destroying what is bound", Errno::EBUSY, in_use)
}

fn sizes_and_flags(session: &Session) -> Result<(), Trouble> {
    let good = Unbind {
        device_id: session.device,
        ..Unbind::new()
    };
    let cases = [
        ("no size", Errno::EINVAL, Unbind { argsz: 0, ..good }),
        (
            "a size too small",
            Errno::EINVAL,
            Unbind { argsz: 15, ..good },
        ),
        (
            "an unknown flag",
            Errno::EOPNOTSUPP,
            Unbind {
                flags: 1 << 31,
                ..good
            },
        ),
    ];
    for (what, errno, mut argument) in cases {
        let outcome = iommu::call(&session.calls, &mut argument);
        Trouble::unless_refused(what, errno, outcome)?;
    }
    Ok(())
}

fn pointers(session: &Session) -> Result<(), Trouble> {
    let beyond = session.machine().start().memory_end();
    let unbind = Op::Unbind.as_u32();
    for at in [beyond, 1 << 60] {
        let outside = session.calls.call_at(unbind, Gpa::new(at));
        Trouble::unless_refused("an argument outside memory", Errno::EFAULT, outside)?;
    }
    let mut array_outside = Invalidate {
        ioas_id: session.table_id()?,
        granularity: iommu_abi::Granularity::Ranges.as_u32(),
        entries: beyond,
        entry_size: size_of::<iommu_abi::InvalidateRange>() as u32,
        entry_count: 1,
        model: iommu_abi::InvalidateModel::Range.as_u32(),
        ..Invalidate::new()
    };
    let outcome = iommu::call(&session.calls, &mut array_outside);
    Trouble::unless_refused("an array outside memory", Errno::EFAULT, outcome)
}
