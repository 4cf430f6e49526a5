//! I/O address spaces: kept by the hypervisor, or by the guest.

use crate::Entry;
use crate::layout::{argument, layout};
use crate::number::numbers;

layout! {
    /// Argument of [`Op::IoasAllocate`](crate::Op::IoasAllocate).
    ///
    /// With [`USER_TABLE`](Self::USER_TABLE) the guest keeps the page table itself and
    /// invalidates what it changes; with [`SHARED`](Self::SHARED) it is the table by which the
    /// guest's CPUs see its memory; with neither, the hypervisor keeps one and the guest maps
    /// and unmaps by calls.
    pub struct IoasAllocate: 80 bytes, 80 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// [`USER_TABLE`](Self::USER_TABLE), [`ENFORCE_SNOOP`](Self::ENFORCE_SNOOP),
        /// [`HINT_BASE_IOVA`](Self::HINT_BASE_IOVA), [`SHARED`](Self::SHARED).
        [4 In] flags: u32,
        /// The highest address that the guest will use, or 0 for no wish. Of an address
        /// space that the hypervisor keeps, addresses above are not given out.
        [8 In] max_iova_hint: u64,
        /// With [`HINT_BASE_IOVA`](Self::HINT_BASE_IOVA): the lowest address that the
        /// guest will use. Else 0.
        [16 In] base_iova_hint: u64,
        /// With [`USER_TABLE`](Self::USER_TABLE): what the table's addresses mean:
        /// [`NO_ID`](crate::NO_ID) for the guest's physical memory, or an address space that
        /// the hypervisor keeps (needs [`PARENT`](crate::Capabilities::PARENT)). Else 0.
        [24 In] parent_ioas_id: u32,
        /// With [`USER_TABLE`](Self::USER_TABLE): a [`Format`]. Else 0: the hypervisor
        /// chooses.
        [28 In] format: u32,
        /// With [`USER_TABLE`](Self::USER_TABLE):
        /// [`FORMAT_SUPERVISOR`](Self::FORMAT_SUPERVISOR),
        /// [`FORMAT_WRITE_PROTECT`](Self::FORMAT_WRITE_PROTECT). Else 0.
        [32 In] format_flags: u64,
        /// With [`USER_TABLE`](Self::USER_TABLE): guest-physical address of the root
        /// table, page-aligned. Else 0.
        [40 In] user_page_directory: u64,
        /// A device that the address space is for. It may be bound to others that can do
        /// the same.
        [48 In] device_id: u32,
        /// The handle of the new address space.
        [52 Out] ioas_id: u32,
        /// Guest-physical address of an array of [`IovaRange`], or 0 with a capacity of 0.
        [56 In] ranges: u64,
        /// Elements in the array. If there are more ranges, only so many are written;
        /// [`Op::IoasRanges`](crate::Op::IoasRanges) gives all.
        [64 In] range_capacity: u32,
        /// Ranges that the address space translates.
        [68 Out] range_count: u32,
        /// What holds for this address space: [`Capabilities`](crate::Capabilities).
        [72 Out] capabilities: u64,
    }
}
argument!(
    IoasAllocate,
    IoasAllocate,
    flags: IoasAllocate::USER_TABLE
        | IoasAllocate::ENFORCE_SNOOP
        | IoasAllocate::HINT_BASE_IOVA
        | IoasAllocate::SHARED
);

impl IoasAllocate {
    /// The guest keeps the page table: `user_page_directory`, in `format`.
    pub const USER_TABLE: u32 = 1 << 0;
    /// The device's requests snoop the CPU's caches whatever they ask for. `EOPNOTSUPP` where
    /// [`ENFORCE_SNOOP`](crate::Capabilities::ENFORCE_SNOOP) is not said of the device and
    /// this kind of address space: see the rules of the page.
    pub const ENFORCE_SNOOP: u32 = 1 << 1;
    /// `base_iova_hint` is given.
    pub const HINT_BASE_IOVA: u32 = 1 << 2;
    /// The address space is the guest's physical memory, by the tables that its CPUs use.
    /// Everything else that says what it translates is 0. Needs
    /// [`Capabilities::SHARED`](crate::Capabilities::SHARED). Since version 3.
    pub const SHARED: u32 = 1 << 3;

    /// Requests with supervisor rights are allowed.
    pub const FORMAT_SUPERVISOR: u64 = 1 << 0;
    /// Supervisor writes respect the read-only bit too.
    pub const FORMAT_WRITE_PROTECT: u64 = 1 << 1;
}

numbers! {
    /// A format of page tables that a guest may keep.
    pub enum Format {
        /// x86-64, four levels, 48 bits of canonical address.
        X86_64Level4 = 1,
        /// x86-64, five levels, 57 bits of canonical address.
        X86_64Level5 = 2,
    }
}

layout! {
    /// Addresses that an address space translates, from the first to the last byte.
    pub struct IovaRange: 16 bytes, 16 in version 1 {
        /// The first byte.
        [0 Out] first: u64,
        /// The last byte, which is within.
        [8 Out] last: u64,
    }
}
impl Entry for IovaRange {}

layout! {
    /// Argument of [`Op::IoasRanges`](crate::Op::IoasRanges). `EMSGSIZE` if the buffer is
    /// too small: then it is full, and `count` says how many ranges there are.
    pub struct IoasRanges: 32 bytes, 32 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// The address space.
        [8 In] ioas_id: u32,
        /// Elements in the array.
        [12 In] capacity: u32,
        /// Guest-physical address of an array of [`IovaRange`].
        [16 In] buffer: u64,
        /// Ranges that the address space translates.
        [24 Out] count: u32,
        /// Log2 of the size, in bytes, that mappings must be a multiple of.
        [28 Out] alignment: u32,
    }
}
argument!(IoasRanges, IoasRanges, flags: 0);

layout! {
    /// Argument of [`Op::IoasMap`](crate::Op::IoasMap). All or nothing.
    pub struct IoasMap: 40 bytes, 40 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// [`FIXED_IOVA`](Self::FIXED_IOVA), [`WRITEABLE`](Self::WRITEABLE),
        /// [`READABLE`](Self::READABLE).
        [4 In] flags: u32,
        /// An address space that the hypervisor keeps.
        [8 In] ioas_id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
        /// Guest-physical address of the memory, page-aligned.
        [16 In] gpa: u64,
        /// Bytes, a multiple of the page size.
        [24 In] length: u64,
        /// With [`FIXED_IOVA`](Self::FIXED_IOVA): where to map. Else not looked at, and
        /// the address that was chosen is written here.
        [32 InOut] iova: u64,
    }
}
argument!(
    IoasMap,
    IoasMap,
    flags: IoasMap::FIXED_IOVA | IoasMap::WRITEABLE | IoasMap::READABLE
);

impl IoasMap {
    /// Map at `iova` and nowhere else.
    pub const FIXED_IOVA: u32 = 1 << 0;
    /// The device may write.
    pub const WRITEABLE: u32 = 1 << 1;
    /// The device may read.
    pub const READABLE: u32 = 1 << 2;
}

layout! {
    /// Argument of [`Op::IoasUnmap`](crate::Op::IoasUnmap). Mappings are taken out whole:
    /// `ENOENT` if one lies in the range in part, or if none lies there.
    pub struct IoasUnmap: 32 bytes, 32 in version 1 {
        /// Size of this structure.
        [0 In] argsz: u32,
        /// None are defined.
        [4 In] flags: u32,
        /// An address space that the hypervisor keeps.
        [8 In] ioas_id: u32,
        /// 0.
        [12 Reserved] reserved: u32,
        /// Start of the range.
        [16 In] iova: u64,
        /// Bytes; with `iova` 0 and all ones here: everything. On return, bytes unmapped.
        [24 InOut] length: u64,
    }
}
argument!(IoasUnmap, IoasUnmap, flags: 0);
