//! The structures of `linux/iommu.h` (v5.10), byte for byte, and the operations that take
//! them.
//!
//! The structures name no device, since in Linux the file that the call is made on does.
//! So each operation has an argument of this interface, which names the device and says
//! where the structure lies. The structures keep the rules of their header: `argsz` says
//! how long they are, `version` is 1, reserved bytes are 0 and unknown flags are refused,
//! all by `EINVAL`; what is longer than known must be zero there, else `E2BIG`.
//!
//! Where a structure names a host PASID, the guest's own virtual PASID stands.

mod bind;
mod fault;
mod invalidate;

pub use bind::{LinuxBindGpasid, LinuxGpasidBindData, LinuxGpasidBindDataVtd, LinuxUnbindGpasid};
pub use fault::{
    LinuxFaultPageRequest, LinuxFaultRead, LinuxFaultReason, LinuxFaultType,
    LinuxFaultUnrecoverable, LinuxPageResponse, LinuxPageResponseCode, LinuxPageResponseData,
};
pub use invalidate::{
    LinuxCacheInvalidate, LinuxCacheInvalidateInfo, LinuxGranularity, LinuxInvAddrInfo,
    LinuxInvPasidInfo,
};

/// The only version that the structures of v5.10 have.
pub const LINUX_VERSION_1: u32 = 1;
