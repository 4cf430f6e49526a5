//! What a guest can ask of the hypervisor itself, beside the IOMMU interface, and what it
//! finds when it starts.
//!
//! The calling convention is that of `iommu-abi`: the operation in `rax`, the
//! guest-physical address of the argument in `rdi`, the result in `rax`, all else
//! preserved. The numbers 0x200 to 0x2FF are ours. Error numbers are those of `iommu-abi`
//! too: `EFAULT` for an argument outside the guest's memory, `EINVAL` for a value that is
//! wrong, `EOPNOTSUPP` for a flag or a reserved field that is not 0, `ENOTTY` for an
//! operation that does not exist here.
//!
//! The structures serve guests that are built together with the hypervisor, so `argsz` must
//! be exactly the structure's size.
//!
//! A guest starts in 64-bit mode with paging on, its memory mapped one to one, interrupts
//! off, and the address of a [`Start`] in `rdi`.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(test)]
extern crate std;

// The structures are read and written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"));

mod label;
mod start;
mod talk;
mod trial;

pub use label::Label;
pub use start::{START_MAGIC, Start};
pub use talk::{Claim, Finish, Log, Outcome, Transfer, WaitForInterrupt};
pub use trial::{Announce, Conclude, Deed, TargetEntry, TargetKind, Targets};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The virtual interrupt that tells a guest that its fault queue, which was empty, is not any
/// more.
pub const FAULT_VECTOR: u8 = 0x21;

/// What a hypercall shall do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
pub enum Op {
    /// Hands log frames over: [`Log`].
    Log = 0x200,
    /// Says something about the guest itself: [`Claim`].
    Claim = 0x201,
    /// Gives the CPU up until an interrupt waits: [`WaitForInterrupt`].
    WaitForInterrupt = 0x202,
    /// Ends the guest: [`Finish`]. Does not return.
    Finish = 0x203,
    /// Lets a mediated device copy: [`Transfer`].
    Transfer = 0x204,
    /// Begins a trial: [`Announce`].
    Announce = 0x210,
    /// Ends a trial: [`Conclude`].
    Conclude = 0x211,
    /// What to aim hostile attempts at: [`Targets`].
    Targets = 0x212,
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 8] = [
        Self::Log,
        Self::Claim,
        Self::WaitForInterrupt,
        Self::Finish,
        Self::Transfer,
        Self::Announce,
        Self::Conclude,
        Self::Targets,
    ];

    /// What the operation register holds means, or `None`.
    pub fn from_register(rax: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|op| *op as u64 == rax)
    }
}

/// An argument of an operation. It begins with `argsz` and `flags`, both 32 bits.
pub trait Argument: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + 'static {
    /// The operation.
    const OP: Op;

    /// The argument's size as the caller gave it.
    fn argsz(&self) -> u32;

    /// The flags; none are defined.
    fn flags(&self) -> u32;
}

/// Declares an argument whose first two fields are `argsz` and `flags`.
macro_rules! argument {
    (
        $(#[$doc:meta])*
        pub struct $name:ident: $size:literal bytes {
            $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone,
            Copy,
            PartialEq,
            Eq,
            Debug,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::Immutable,
            zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name {
            /// Size of this structure.
            pub argsz: u32,
            /// 0.
            pub flags: u32,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);

        impl $crate::Argument for $name {
            const OP: $crate::Op = $crate::Op::$name;

            fn argsz(&self) -> u32 {
                self.argsz
            }

            fn flags(&self) -> u32 {
                self.flags
            }
        }

        impl $name {
            /// An argument with `argsz` set and everything else 0.
            pub fn new() -> Self {
                Self {
                    argsz: $size,
                    ..zerocopy::FromZeros::new_zeroed()
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}
pub(crate) use argument;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_lie_outside_the_iommu_interface() {
        for op in Op::ALL {
            assert!((0x200..0x300).contains(&(op as u32)));
            assert_eq!(Op::from_register(op as u64), Some(op));
        }
        assert_eq!(Op::from_register(0x100), None);
        assert_eq!(Op::from_register(1 << 32 | 0x200), None);
    }
}
