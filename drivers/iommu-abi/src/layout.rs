//! Structures that say where each of their fields lies.

use crate::Op;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Who fills a field in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The caller.
    In,
    /// The hypervisor. What the caller left there is not looked at.
    Out,
    /// The caller first and then the hypervisor.
    InOut,
    /// The caller writes 0; anything else is `EOPNOTSUPP`.
    Reserved,
}

/// One field of a structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
    /// Who fills it in.
    pub direction: Direction,
}

/// A structure of the interface: plain bytes, no padding, little endian.
pub trait Layout:
    FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Default + 'static
{
    /// Its name.
    const NAME: &'static str;
    /// All fields in order, without gaps.
    const FIELDS: &'static [Field];
    /// Its size in the first version that had it: the least that a caller may give.
    const MIN_SIZE: usize;
    /// That version.
    const SINCE: u32;
    /// Its size in [`VERSION`](crate::VERSION).
    const SIZE: usize = size_of::<Self>();
}

/// An argument of an operation. It begins with `argsz` and `flags`.
pub trait Argument: Layout {
    /// The operation.
    const OP: Op;
    /// All flags that have a meaning in this version.
    const FLAGS: u32;

    /// The argument's size as the caller knows it.
    fn argsz(&self) -> u32;
    /// The flags.
    fn flags(&self) -> u32;
}

/// An element of an array that an argument points to.
pub trait Entry: Layout {}

/// Declares a structure field by field with its offset, and lets the compiler check both.
macro_rules! layout {
    (
        $(#[$doc:meta])*
        pub struct $name:ident: $size:literal bytes, $min:literal in version $first:literal {
            $(
                $(#[$field_doc:meta])*
                [$offset:literal $direction:ident] $field:ident: $type:ty,
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(
            Clone,
            Copy,
            PartialEq,
            Eq,
            Debug,
            Default,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::Immutable,
            zerocopy::KnownLayout,
        )]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = {
            $(assert!(core::mem::offset_of!($name, $field) == $offset);)*
            assert!(size_of::<$name>() == $size);
            assert!($min <= $size && $size <= $crate::ARGUMENT_MAX);
        };

        impl $crate::Layout for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [$crate::Field] = &[$(
                $crate::Field {
                    name: stringify!($field),
                    offset: $offset,
                    size: size_of::<$type>(),
                    direction: $crate::Direction::$direction,
                },
            )*];
            const MIN_SIZE: usize = $min;
            const SINCE: u32 = $first;
        }
    };
}
pub(crate) use layout;

/// Declares which operation a structure is the argument of, and its flags.
macro_rules! argument {
    ($name:ident, $op:ident, flags: $flags:expr) => {
        impl $crate::Argument for $name {
            const OP: $crate::Op = $crate::Op::$op;
            const FLAGS: u32 = $flags;

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
                    // At most `ARGUMENT_MAX`, checked where the layout is declared.
                    argsz: size_of::<Self>() as u32,
                    ..Self::default()
                }
            }
        }
    };
}
pub(crate) use argument;
