//! Builds tables, right ones and wrong ones, for tests.
//!
//! ```
//! use dmar::builder::{Scope, Structure, Table};
//!
//! let bytes = Table::new(39)
//!     .with(Structure::drhd(0xfed9_0000).scope(Scope::endpoint(0, &[(2, 0)])))
//!     .with(Structure::drhd(0xfed9_1000).flags(1).scope(Scope::io_apic(2, 0xf0, (31, 0))))
//!     .build();
//! assert_eq!(dmar::Dmar::new(&bytes).units().count(), 2);
//! ```

use alloc::vec::Vec;

/// A table to be.
#[derive(Clone, Debug)]
pub struct Table {
    bytes: Vec<u8>,
}

/// A structure to be.
#[derive(Clone, Debug)]
pub struct Structure {
    bytes: Vec<u8>,
    claimed: Option<u16>,
}

/// A device scope entry to be.
#[derive(Clone, Debug)]
pub struct Scope {
    bytes: Vec<u8>,
    claimed: Option<u8>,
}

/// Numbers that do not fit their field are cut off: a test that needs them will notice.
macro_rules! low {
    ($value:expr, $type:ty) => {
        ($value & <$type>::MAX as usize) as $type
    };
}

impl Table {
    /// A table with interrupt remapping, for a host of `bits` bits, without structures.
    pub fn new(bits: u8) -> Self {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(b"DMAR\0\0\0\0\x01\0TEST  TESTTEST");
        bytes.extend_from_slice(&[0; 12]);
        bytes.push(bits.wrapping_sub(1));
        bytes.push(1);
        bytes.extend_from_slice(&[0; 10]);
        Self { bytes }
    }

    /// Sets the table's flags.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.byte(37, flags)
    }

    /// Sets one byte. Length and checksum are computed at the end; to make them wrong,
    /// change what [`build`](Self::build) gives.
    #[must_use]
    pub fn byte(mut self, offset: usize, value: u8) -> Self {
        set(&mut self.bytes, offset, value);
        self
    }

    /// Adds a structure.
    #[must_use]
    pub fn with(mut self, structure: Structure) -> Self {
        let length = structure
            .claimed
            .unwrap_or(low!(structure.bytes.len(), u16));
        let mut bytes = structure.bytes;
        for (offset, byte) in (2..).zip(length.to_le_bytes()) {
            set(&mut bytes, offset, byte);
        }
        self.bytes.append(&mut bytes);
        self
    }

    /// The bytes, with length and checksum.
    pub fn build(mut self) -> Vec<u8> {
        let length = low!(self.bytes.len(), u32);
        for (offset, byte) in (4..).zip(length.to_le_bytes()) {
            set(&mut self.bytes, offset, byte);
        }
        fix_checksum(&mut self.bytes);
        self.bytes
    }
}

/// Makes all bytes sum up to 0, by the checksum.
pub fn fix_checksum(bytes: &mut [u8]) {
    set(bytes, 9, 0);
    let sum = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    set(bytes, 9, sum.wrapping_neg());
}

fn set(bytes: &mut [u8], offset: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(offset) {
        *byte = value;
    }
}

impl Structure {
    fn new(kind: u16, fields: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        for field in fields {
            bytes.extend_from_slice(field);
        }
        Self {
            bytes,
            claimed: None,
        }
    }

    /// A unit of segment 0 with one page of registers.
    pub fn drhd(register_base: u64) -> Self {
        Self::new(0, &[&[0; 4], &register_base.to_le_bytes()])
    }

    /// A region of segment 0, first and last byte.
    pub fn rmrr(base: u64, limit: u64) -> Self {
        Self::new(1, &[&[0; 4], &base.to_le_bytes(), &limit.to_le_bytes()])
    }

    /// Root ports of segment 0.
    pub fn atsr() -> Self {
        Self::new(2, &[&[0; 4]])
    }

    /// A unit's node.
    pub fn rhsa(register_base: u64, proximity_domain: u32) -> Self {
        let domain = proximity_domain.to_le_bytes();
        Self::new(3, &[&[0; 4], &register_base.to_le_bytes(), &domain])
    }

    /// A name-space device; write the NUL.
    pub fn andd(number: u8, name: &[u8]) -> Self {
        Self::new(4, &[&[0; 3], &[number], name])
    }

    /// Devices of segment 0 with a translation cache.
    pub fn satc() -> Self {
        Self::new(5, &[&[0; 4]])
    }

    /// Devices of segment 0 with properties.
    pub fn sidp() -> Self {
        Self::new(6, &[&[0; 4]])
    }

    /// Any type, with what follows the length.
    pub fn other(kind: u16, bytes: &[u8]) -> Self {
        Self::new(kind, &[bytes])
    }

    /// Sets the flags, for types that have them at byte 4.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.byte(4, flags)
    }

    /// Sets the segment, for types that have it at bytes 6 and 7.
    #[must_use]
    pub fn segment(self, segment: u16) -> Self {
        let [low, high] = segment.to_le_bytes();
        self.byte(6, low).byte(7, high)
    }

    /// Sets one byte.
    #[must_use]
    pub fn byte(mut self, offset: usize, value: u8) -> Self {
        set(&mut self.bytes, offset, value);
        self
    }

    /// Adds a device scope entry.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        let length = scope.claimed.unwrap_or(low!(scope.bytes.len(), u8));
        let mut bytes = scope.bytes;
        set(&mut bytes, 1, length);
        self.bytes.append(&mut bytes);
        self
    }

    /// Lies about the length.
    #[must_use]
    pub fn claiming(mut self, length: u16) -> Self {
        self.claimed = Some(length);
        self
    }
}

impl Scope {
    /// An entry of any type.
    pub fn new(kind: u8, enumeration_id: u8, start_bus: u8, path: &[(u8, u8)]) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[kind, 0, 0, 0, enumeration_id, start_bus]);
        for &(device, function) in path {
            bytes.extend_from_slice(&[device, function]);
        }
        Self {
            bytes,
            claimed: None,
        }
    }

    /// A PCI function.
    pub fn endpoint(start_bus: u8, path: &[(u8, u8)]) -> Self {
        Self::new(1, 0, start_bus, path)
    }

    /// A bridge and all behind it.
    pub fn bridge(start_bus: u8, path: &[(u8, u8)]) -> Self {
        Self::new(2, 0, start_bus, path)
    }

    /// An I/O APIC by its id, with its source id.
    pub fn io_apic(id: u8, bus: u8, function: (u8, u8)) -> Self {
        Self::new(3, id, bus, &[function])
    }

    /// An HPET by its number, with its source id.
    pub fn hpet(number: u8, bus: u8, function: (u8, u8)) -> Self {
        Self::new(4, number, bus, &[function])
    }

    /// A name-space device by its number, with its source id.
    pub fn namespace(number: u8, bus: u8, function: (u8, u8)) -> Self {
        Self::new(5, number, bus, &[function])
    }

    /// Sets the flags, which are those of an SIDP structure.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.byte(2, flags)
    }

    /// Sets one byte.
    #[must_use]
    pub fn byte(mut self, offset: usize, value: u8) -> Self {
        set(&mut self.bytes, offset, value);
        self
    }

    /// Adds bytes behind the path.
    #[must_use]
    pub fn tail(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Lies about the length.
    #[must_use]
    pub fn claiming(mut self, length: u8) -> Self {
        self.claimed = Some(length);
        self
    }
}
