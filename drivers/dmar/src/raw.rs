//! The layout of the table and its structures, byte by byte (§8).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $size:literal, { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type),*
        }

        impl $name {
            pub(crate) const SIZE: usize = size_of::<Self>();
        }

        const _: () = assert!($name::SIZE == $size);
    };
}

layout!(
    /// The table's header (§8.1).
    Header, 48, {
        signature: [u8; 4],
        length: U32,
        revision: u8,
        _checksum: u8,
        oem_id: [u8; 6],
        oem_table_id: [u8; 8],
        _oem_revision: U32,
        _creator_id: [u8; 4],
        _creator_revision: U32,
        host_address_width: u8,
        flags: u8,
        reserved: [u8; 10],
    }
);

layout!(
    /// What every structure begins with (§8.2).
    Prefix, 4, {
        kind: U16,
        length: U16,
    }
);

layout!(
    /// §8.3.
    Drhd, 16, {
        _prefix: Prefix,
        flags: u8,
        size: u8,
        segment: U16,
        register_base: U64,
    }
);

layout!(
    /// §8.4.
    Rmrr, 24, {
        _prefix: Prefix,
        reserved: U16,
        segment: U16,
        base: U64,
        limit: U64,
    }
);

layout!(
    /// §8.5, §8.8 and §8.9: ATSR, SATC and SIDP are laid out alike.
    Flagged, 8, {
        _prefix: Prefix,
        flags: u8,
        reserved: u8,
        segment: U16,
    }
);

layout!(
    /// §8.6.
    Rhsa, 20, {
        _prefix: Prefix,
        reserved: U32,
        register_base: U64,
        proximity_domain: U32,
    }
);

layout!(
    /// §8.7.
    Andd, 8, {
        _prefix: Prefix,
        reserved: [u8; 3],
        acpi_device_number: u8,
    }
);

layout!(
    /// A device scope entry without its path (§8.3.1).
    Scope, 6, {
        kind: u8,
        length: u8,
        flags: u8,
        reserved: u8,
        enumeration_id: u8,
        start_bus: u8,
    }
);
