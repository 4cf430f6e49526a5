//! Addresses, one type for each address space.
//!
//! None converts into another but through a page table, a memory map, or a function whose
//! name says why the conversion is right.

use core::fmt;

/// Log2 of the size of a page, in bytes.
pub const PAGE_SHIFT: u32 = 12;
/// Size of a page, in bytes. VT-d, EPT and NPT all use 4 KiB as the smallest page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// What all address types have in common, so that ranges and walkers can be written once.
pub trait Address: Copy + Ord + fmt::Debug + fmt::LowerHex {
    /// Name of the address space, for messages.
    const SPACE: &'static str;
    /// The address as a number of bytes from the start of its space.
    fn as_u64(self) -> u64;
    /// The address `bytes` bytes from the start of the space.
    fn from_u64(bytes: u64) -> Self;

    /// The address `bytes` further up, or `None` beyond the end of the space.
    fn checked_add(self, bytes: u64) -> Option<Self> {
        self.as_u64().checked_add(bytes).map(Self::from_u64)
    }

    /// Bytes from `lower` to `self`, or `None` if `lower` is above.
    fn checked_sub(self, lower: Self) -> Option<u64> {
        self.as_u64().checked_sub(lower.as_u64())
    }

    /// Whether the address is a multiple of `1 << shift` bytes.
    fn is_aligned(self, shift: u32) -> bool {
        self.as_u64() & low_mask(shift) == 0
    }

    /// The nearest multiple of `1 << shift` bytes that is not above the address.
    fn align_down(self, shift: u32) -> Self {
        Self::from_u64(self.as_u64() & !low_mask(shift))
    }

    /// The offset within the naturally aligned block of `1 << shift` bytes.
    fn offset_in(self, shift: u32) -> u64 {
        self.as_u64() & low_mask(shift)
    }
}

/// Ones in bits `shift - 1 .. 0`; all ones from 64 on.
const fn low_mask(shift: u32) -> u64 {
    match 1u64.checked_shl(shift) {
        Some(bit) => bit.wrapping_sub(1),
        None => u64::MAX,
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $space:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address `bytes` bytes from the start of its space.
            pub const fn new(bytes: u64) -> Self {
                Self(bytes)
            }

            /// The address as a number of bytes from the start of its space.
            pub const fn as_u64(self) -> u64 {
                self.0
            }
        }

        impl Address for $name {
            const SPACE: &'static str = $space;

            fn as_u64(self) -> u64 {
                self.0
            }

            fn from_u64(bytes: u64) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($space, " {:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        #[cfg(feature = "defmt")]
        impl defmt::Format for $name {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, $space);
                defmt::write!(f, " {=u64:#x}", self.0);
            }
        }
    };
}

address!(
    /// A host physical address: what appears on the memory bus.
    Hpa,
    "HPA"
);
address!(
    /// A guest physical address: what a guest believes to be physical memory.
    Gpa,
    "GPA"
);
address!(
    /// An I/O virtual address: what a device puts into its request.
    Iova,
    "IOVA"
);
address!(
    /// A guest virtual address: what a guest's own page tables translate.
    Gva,
    "GVA"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_beyond_the_end_of_the_space_is_none() {
        assert_eq!(Hpa::new(u64::MAX).checked_add(1), None);
        assert_eq!(
            Hpa::new(u64::MAX - 1).checked_add(1),
            Some(Hpa::new(u64::MAX))
        );
    }

    #[test]
    fn alignment_works_up_to_the_whole_space() {
        let address = Iova::new(0x1234_5678);
        assert_eq!(address.align_down(12), Iova::new(0x1234_5000));
        assert_eq!(address.offset_in(12), 0x678);
        assert_eq!(address.align_down(64), Iova::new(0));
        assert!(Iova::new(0x20_0000).is_aligned(21));
        assert!(!Iova::new(0x20_1000).is_aligned(21));
    }
}
