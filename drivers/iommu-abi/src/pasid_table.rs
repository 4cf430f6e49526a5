//! Whole PASID tables of the guest's own.

use crate::layout::{argument, layout};

layout! {
    /// Argument of [`Op::PasidTableBind`](crate::Op::PasidTableBind): from now on the guest
    /// says in a PASID table of its own (VT-d 5.10, §9.5 and §9.6) what each PASID of the
    /// device uses. `EBUSY` if anything is bound to the device.
    ///
    /// The entry of PASID 0 is that of requests without a PASID. Nothing else than a first
    /// stage (PGTT 001) can be asked for. Present entries that hardware would refuse are
    /// blocked, and counted in `refused`. On error nothing is bound.
    pub struct PasidTableBind: 48 bytes, 48 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// [`PAGE_REQUESTS`](Self::PAGE_REQUESTS).
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// Size of the directory as a scalable-mode context entry says it (PDTS), 0 to 7:
        /// it has 2^(PDTS+7) entries.
        [12 In] directory_size: u32,
        /// Guest-physical address of the directory, page-aligned.
        [16 In] directory: u64,
        /// PASIDs that are bound now.
        [24 Out] bound: u32,
        /// Present entries that are blocked; of a directory entry one for all behind it.
        [28 Out] refused: u32,
        /// The first PASID of those.
        [32 Out] refused_pasid: u32,
        /// Why it is, by VT-d's number of the fault that its requests would have.
        [36 Out] reason: u32,
        /// 0, or the first PASID that was not looked at, since one call does so much and
        /// no more: go on by [`Op::PasidTableInvalidate`](crate::Op::PasidTableInvalidate).
        [40 Out] next_pasid: u32,
        /// 0.
        [44 Reserved] reserved: u32,
    }
}
argument!(PasidTableBind, PasidTableBind, flags: PasidTableBind::PAGE_REQUESTS);

impl PasidTableBind {
    /// As [`Bind::PAGE_REQUESTS`](crate::Bind::PAGE_REQUESTS), for all PASIDs.
    pub const PAGE_REQUESTS: u32 = 1 << 0;
}

layout! {
    /// Argument of [`Op::PasidTableUnbind`](crate::Op::PasidTableUnbind). `ENOENT` if no
    /// PASID table is bound. On return hardware has forgotten all of it.
    pub struct PasidTableUnbind: 16 bytes, 16 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
    }
}
argument!(PasidTableUnbind, PasidTableUnbind, flags: 0);

layout! {
    /// Argument of [`Op::PasidTableInvalidate`](crate::Op::PasidTableInvalidate): entries
    /// of the PASID table, or of its directory, were changed. **Every** change is told so,
    /// not-present to present included; what the tables behind the entries hold is told by
    /// [`Op::Invalidate`](crate::Op::Invalidate) or
    /// [`Op::LinuxCacheInvalidate`](crate::Op::LinuxCacheInvalidate).
    ///
    /// On an error PASIDs below `next_pasid` are done and those from there on are not.
    pub struct PasidTableInvalidate: 40 bytes, 40 in version 3 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// The first PASID.
        [12 In] first_pasid: u32,
        /// The last PASID; what is beyond the directory is not looked at.
        [16 In] last_pasid: u32,
        /// PASIDs that are bound now.
        [20 Out] bound: u32,
        /// As in [`PasidTableBind`], of the entries that were looked at.
        [24 Out] refused: u32,
        /// As in [`PasidTableBind`].
        [28 Out] refused_pasid: u32,
        /// As in [`PasidTableBind`].
        [32 Out] reason: u32,
        /// 0, or the first PASID that was not looked at: call again from there.
        [36 Out] next_pasid: u32,
    }
}
argument!(PasidTableInvalidate, PasidTableInvalidate, flags: 0);
