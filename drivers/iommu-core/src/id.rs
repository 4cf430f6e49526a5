//! Who a request comes from.

use core::fmt;

/// A PCI segment group (ACPI).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Segment(pub u16);

/// A requester id as the remapping hardware sees it: bus, device, function (§3.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct SourceId(u16);

impl SourceId {
    /// From the 16 bits of a transaction's requester id.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// From bus, device and function, or `None` if the device is above 31 or the function
    /// above 7.
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self(
            ((bus as u16) << 8) | ((device as u16) << 3) | function as u16,
        ))
    }

    /// The 16 bits of the requester id.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Bus number.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device and function in one byte, the index into a legacy context table.
    pub const fn devfn(self) -> u8 {
        self.0 as u8
    }

    /// Device number, 0 to 31.
    pub const fn device(self) -> u8 {
        self.devfn() >> 3
    }

    /// Function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.devfn() & 7
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}:{:02x}.{}",
            self.bus(),
            self.device(),
            self.function()
        )
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for SourceId {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "{=u8:02x}:{=u8:02x}.{=u8}",
            self.bus(),
            self.device(),
            self.function()
        );
    }
}

/// A PCI function of the machine: segment and requester id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceId {
    /// The segment that the function's bus belongs to.
    pub segment: Segment,
    /// The function's own requester id.
    pub source: SourceId,
}

impl DeviceId {
    /// A function by segment and requester id.
    pub const fn new(segment: Segment, source: SourceId) -> Self {
        Self { segment, source }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.segment.0, self.source)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for DeviceId {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=u16:04x}:{}", self.segment.0, self.source);
    }
}

/// A process address space id: 20 bits (PCIe 6.20).
///
/// The type says how wide the number is, not whose it is: a guest's own numbers and the
/// host's are kept apart by the types that hold them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Pasid(u32);

impl Pasid {
    /// PASID 0, which untagged requests use on a unit without ECAP.RPS (§9.4, RID_PASID).
    pub const ZERO: Self = Self(0);
    /// The largest PASID.
    pub const MAX: Self = Self((1 << 20) - 1);

    /// A PASID, or `None` if the number has more than 20 bits.
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_source_id_has_5_bits_of_device_and_3_of_function() {
        let source = SourceId::new(0x12, 0x1f, 7).unwrap();
        assert_eq!(source.bits(), 0x12ff);
        assert_eq!(
            (source.bus(), source.device(), source.function()),
            (0x12, 0x1f, 7)
        );
        assert_eq!(source.to_string(), "12:1f.7");
        assert_eq!(SourceId::new(0, 32, 0), None);
        assert_eq!(SourceId::new(0, 0, 8), None);
    }

    #[test]
    fn a_pasid_has_20_bits() {
        assert_eq!(Pasid::new(0xf_ffff), Some(Pasid::MAX));
        assert_eq!(Pasid::new(0x10_0000), None);
    }
}
