//! The guest's devices.

use crate::Entry;
use crate::layout::{argument, layout};

layout! {
    /// Argument of [`Op::DeviceList`](crate::Op::DeviceList). The call returns how many
    /// devices there are. `EMSGSIZE` if the buffer holds fewer: then it is full, and
    /// `count` says how many there are.
    pub struct DeviceList: 32 bytes, 32 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// Guest-physical address of an array of [`DeviceEntry`].
        [8 In] buffer: u64,
        /// Size of an element, as the caller knows it.
        [16 In] entry_size: u32,
        /// Elements in the array.
        [20 In] capacity: u32,
        /// Devices that the guest has.
        [24 Out] count: u32,
        /// 0.
        [28 Reserved] reserved: u32,
    }
}
argument!(DeviceList, DeviceList, flags: 0);

layout! {
    /// A device of the guest.
    pub struct DeviceEntry: 16 bytes, 16 in version 1 {
        /// Its handle.
        [0 Out] device_id: u32,
        /// Where the guest finds it: PCI segment in bits 31:16, and bus, device and
        /// function as in a requester id in bits 15:0, as the guest sees them.
        [4 Out] virtual_id: u32,
        /// None are defined.
        [8 Out] flags: u32,
        /// 0.
        [12 Reserved] reserved: u32,
    }
}
impl Entry for DeviceEntry {}

layout! {
    /// Argument of [`Op::DeviceInfo`](crate::Op::DeviceInfo).
    pub struct DeviceInfo: 48 bytes, 48 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The device.
        [8 In] device_id: u32,
        /// Where the guest finds it, as in [`DeviceEntry::virtual_id`].
        [12 Out] virtual_id: u32,
        /// What can be done with it: [`Capabilities`](crate::Capabilities).
        [16 Out] capabilities: u64,
        /// Formats that the guest's own tables may have: bit *n* stands for the
        /// [`Format`](crate::Format) of that number.
        [24 Out] formats: u64,
        /// Bits of I/O virtual address that can be translated at most.
        [32 Out] iova_bits: u32,
        /// Bits of PASID that device and hypervisor have; 0 if none.
        [36 Out] pasid_bits: u32,
        /// Slots of the device that are bound now: itself, and PASIDs.
        [40 Out] bound: u32,
        /// 0.
        [44 Reserved] reserved: u32,
    }
}
argument!(DeviceInfo, DeviceInfo, flags: 0);
