//! Calls that must fail and change nothing, each beside one that works. Those that the
//! guest's library does not make are made as they are.

use crate::session::Session;
use guest_machine::iommu_guest::{DeviceId, Errno, Op};
use guest_machine::{Trouble, iommu};
use iommu_abi::{Bind, Destroy, Granularity, Invalidate, Unbind};
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

fn handles(session: &mut Session) -> Result<(), Trouble> {
    let (calls, device) = (&session.calls, session.device);
    let missing = |what, outcome| Trouble::unless_refused(what, Errno::ENOENT, outcome);
    let mut destroy = Destroy {
        id: NO_SUCH_HANDLE,
        ..Destroy::new()
    };
    missing("a strange object", iommu::call(calls, &mut destroy))?;
    let mut replace = Bind {
        flags: Bind::REPLACE,
        device_id: device.as_u32(),
        ioas_id: NO_SUCH_HANDLE,
        ..Bind::new()
    };
    missing("a strange table", iommu::call(calls, &mut replace))?;
    let mut invalidate = Invalidate {
        ioas_id: NO_SUCH_HANDLE,
        granularity: Granularity::Everything.as_u32(),
        ..Invalidate::new()
    };
    let strange = iommu::call(calls, &mut invalidate);
    missing("invalidating a strange table", strange)?;

    let table = session.table.take();
    let table = table.ok_or(Trouble::Unsuitable("a table that is bound"))?;
    let strange_device = session
        .iommu
        .bind(DeviceId::from_u32(NO_SUCH_HANDLE), &table);
    Trouble::unless_refused("a strange device", Errno::ENOENT, strange_device)?;
    session.iommu.flush_everything(&table)?;
    let twice = session.iommu.bind(device, &table);
    Trouble::unless_refused("binding twice", Errno::EBUSY, twice)?;
    match session.iommu.destroy_table(table) {
        Ok(()) => Err(Trouble::Unsuitable("a table that stays while it is bound")),
        Err((error, table)) => {
            session.table = Some(table);
            let what = "destroying what is bound";
            Trouble::unless_refused::<(), _>(what, Errno::EBUSY, Err(error))
        }
    }
}

fn sizes_and_flags(session: &Session) -> Result<(), Trouble> {
    let good = Unbind {
        device_id: session.device.as_u32(),
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
        ioas_id: session.table()?.id(),
        granularity: Granularity::Ranges.as_u32(),
        entries: beyond,
        entry_size: size_of::<iommu_abi::InvalidateRange>() as u32,
        entry_count: 1,
        model: iommu_abi::InvalidateModel::Range.as_u32(),
        ..Invalidate::new()
    };
    let outcome = iommu::call(&session.calls, &mut array_outside);
    Trouble::unless_refused("an array outside memory", Errno::EFAULT, outcome)
}
