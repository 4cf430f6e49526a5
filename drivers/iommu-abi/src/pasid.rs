//! PASIDs of the guest's own numbering.

use crate::layout::{argument, layout};

layout! {
    /// Argument of [`Op::PasidAllocate`](crate::Op::PasidAllocate): takes the lowest free
    /// number of a range. `ENOSPC` if none is free there.
    pub struct PasidAllocate: 24 bytes, 24 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The least that will do, at least 1: PASID 0 is that of requests without one.
        [8 In] minimum: u32,
        /// The largest that will do.
        [12 In] maximum: u32,
        /// The PASID.
        [16 Out] pasid: u32,
        /// 0.
        [20 Reserved] reserved: u32,
    }
}
argument!(PasidAllocate, PasidAllocate, flags: 0);

layout! {
    /// Argument of [`Op::PasidFree`](crate::Op::PasidFree). `EBUSY` while it is bound.
    pub struct PasidFree: 16 bytes, 16 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The PASID.
        [8 In] pasid: u32,
        /// 0.
        [12 Reserved] reserved: u32,
    }
}
argument!(PasidFree, PasidFree, flags: 0);
