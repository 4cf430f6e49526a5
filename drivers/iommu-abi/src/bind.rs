//! Making devices use address spaces, and giving objects up.

use crate::layout::{argument, layout};

layout! {
    /// Argument of [`Op::Bind`](crate::Op::Bind). `EBUSY` if the device (or its PASID) is
    /// bound already and [`REPLACE`](Self::REPLACE) is not given. On error it leads where
    /// it did.
    pub struct Bind: 24 bytes, 24 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// [`PASID`](Self::PASID), [`REPLACE`](Self::REPLACE),
        /// [`PAGE_REQUESTS`](Self::PAGE_REQUESTS).
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// The address space.
        [12 In] ioas_id: u32,
        /// With [`PASID`](Self::PASID): a PASID that the guest has allocated. Else 0.
        [16 In] pasid: u32,
        /// 1 if a replacement left no instant in which the device had no address space,
        /// else 0.
        [20 Out] hitless: u32,
    }
}
argument!(Bind, Bind, flags: Bind::PASID | Bind::REPLACE | Bind::PAGE_REQUESTS);

impl Bind {
    /// Bind one PASID of the device, and not its requests without PASID.
    pub const PASID: u32 = 1 << 0;
    /// What is bound now may be replaced; `ENOENT` if nothing is.
    pub const REPLACE: u32 = 1 << 1;
    /// The guest will answer page requests that the device makes here, by
    /// [`Op::PageResponse`](crate::Op::PageResponse). Without it they are refused on its
    /// behalf. Needs [`Capabilities::PAGE_REQUESTS`](crate::Capabilities::PAGE_REQUESTS).
    pub const PAGE_REQUESTS: u32 = 1 << 2;
}

layout! {
    /// Argument of [`Op::Unbind`](crate::Op::Unbind). `ENOENT` if nothing is bound there.
    /// On return hardware has forgotten the address space for this device.
    pub struct Unbind: 16 bytes, 16 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// [`PASID`](Self::PASID).
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// With [`PASID`](Self::PASID): the PASID. Else 0.
        [12 In] pasid: u32,
    }
}
argument!(Unbind, Unbind, flags: Unbind::PASID);

impl Unbind {
    /// Unbind one PASID of the device, and not its requests without PASID.
    pub const PASID: u32 = 1 << 0;
}

layout! {
    /// Argument of [`Op::Destroy`](crate::Op::Destroy). `EBUSY` if the object is in use;
    /// `EPERM` for a device, which is the hypervisor's to take away. After `EIO` and
    /// `ETIMEDOUT` it is gone too: hardware did not confirm, and what it may know still is not
    /// used again.
    pub struct Destroy: 16 bytes, 16 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The object's handle.
        [8 In] id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
    }
}
argument!(Destroy, Destroy, flags: 0);
