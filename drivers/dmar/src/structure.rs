//! The remapping structures, as they are written in the table.

use crate::finding::{Finding, Oddity};
use crate::flags::{AtsrFlags, DrhdFlags, SatcFlags};
use crate::raw;
use crate::records::Part;
use crate::scope::Scopes;
use iommu_core::{Hpa, Segment};
use zerocopy::FromBytes;

/// A remapping structure (§8.2).
#[derive(Clone, Debug)]
pub enum Structure<'a> {
    /// A remapping unit.
    Drhd(Drhd<'a>),
    /// Memory that devices of firmware must keep reaching.
    Rmrr(Rmrr<'a>),
    /// Root ports that support ATS.
    Atsr(Atsr<'a>),
    /// Which node a unit belongs to.
    Rhsa(Rhsa),
    /// A device of the ACPI name space.
    Andd(Andd<'a>),
    /// Integrated devices with a translation cache.
    Satc(Satc<'a>),
    /// Integrated devices with properties.
    Sidp(Sidp<'a>),
    /// A type of later revisions.
    Unknown(Unknown<'a>),
}

/// DMA remapping hardware unit definition (§8.3).
#[derive(Clone, Debug)]
pub struct Drhd<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Flags.
    pub flags: DrhdFlags,
    /// The size byte: the register set has 2^N pages, N being bits 3:0.
    pub size: u8,
    /// The segment whose devices the unit remaps.
    pub segment: Segment,
    /// Where the registers are.
    pub register_base: Hpa,
    /// Which devices, beside those that [`DrhdFlags::INCLUDE_PCI_ALL`] adds.
    pub scopes: Scopes<'a>,
}

/// Reserved memory region reporting (§8.4).
#[derive(Clone, Debug)]
pub struct Rmrr<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Bytes 4 and 5, which should be 0.
    pub reserved: u16,
    /// The segment of the devices.
    pub segment: Segment,
    /// The first byte.
    pub base: Hpa,
    /// The last byte.
    pub limit: Hpa,
    /// The devices.
    pub scopes: Scopes<'a>,
}

/// Root port ATS capability reporting (§8.5).
#[derive(Clone, Debug)]
pub struct Atsr<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Flags.
    pub flags: AtsrFlags,
    /// Byte 5, which should be 0.
    pub reserved: u8,
    /// The segment of the ports.
    pub segment: Segment,
    /// The ports, unless [`AtsrFlags::ALL_PORTS`] says all.
    pub scopes: Scopes<'a>,
}

/// Remapping hardware static affinity (§8.6).
#[derive(Clone, Copy, Debug)]
pub struct Rhsa {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Bytes 4 to 7, which should be 0.
    pub reserved: u32,
    /// Which unit, by its registers.
    pub register_base: Hpa,
    /// Its proximity domain, as in the SRAT.
    pub proximity_domain: u32,
    /// Bytes behind the last field.
    pub(crate) excess: usize,
}

/// ACPI name-space device declaration (§8.7).
#[derive(Clone, Copy, Debug)]
pub struct Andd<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Bytes 4 to 6, which should be 0.
    pub reserved: [u8; 3],
    /// The number by which scopes name the device.
    pub acpi_device_number: u8,
    name: &'a [u8],
}

/// SoC integrated address translation cache reporting (§8.8).
#[derive(Clone, Debug)]
pub struct Satc<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Flags.
    pub flags: SatcFlags,
    /// Byte 5, which should be 0.
    pub reserved: u8,
    /// The segment of the devices.
    pub segment: Segment,
    /// The devices.
    pub scopes: Scopes<'a>,
}

/// SoC integrated device property reporting (§8.9).
#[derive(Clone, Debug)]
pub struct Sidp<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Bytes 4 and 5, which should be 0.
    pub reserved: [u8; 2],
    /// The segment of the devices.
    pub segment: Segment,
    /// The devices; the flags of each scope are its properties.
    pub scopes: Scopes<'a>,
}

/// A structure of a type that this crate does not know.
#[derive(Clone, Copy, Debug)]
pub struct Unknown<'a> {
    /// Where the structure begins, in bytes from the start of the table.
    pub offset: usize,
    /// Its type.
    pub kind: u16,
    /// All of it, type and length included.
    pub bytes: &'a [u8],
}

impl<'a> Structure<'a> {
    /// Reads a structure from bytes that are exactly as long as it claims.
    pub(crate) fn parse(part: Part<'a>) -> Result<Self, Finding> {
        let too_short = |kind: u16| Finding {
            offset: part.offset,
            oddity: Oddity::StructureTooShort {
                kind,
                length: part.bytes.len(),
            },
        };
        let kind = match raw::Prefix::ref_from_prefix(part.bytes) {
            Ok((prefix, _)) => prefix.kind.get(),
            Err(_) => return Err(too_short(0)),
        };
        let known = match kind {
            0 => Drhd::parse(part).map(Self::Drhd),
            1 => Rmrr::parse(part).map(Self::Rmrr),
            2 => Atsr::parse(part).map(Self::Atsr),
            3 => Rhsa::parse(part).map(Self::Rhsa),
            4 => Andd::parse(part).map(Self::Andd),
            5 => Satc::parse(part).map(Self::Satc),
            6 => Sidp::parse(part).map(Self::Sidp),
            _ => Some(Self::Unknown(Unknown {
                offset: part.offset,
                kind,
                bytes: part.bytes,
            })),
        };
        known.ok_or_else(|| too_short(kind))
    }

    /// Where the structure begins, in bytes from the start of the table.
    pub fn offset(&self) -> usize {
        match self {
            Self::Drhd(drhd) => drhd.offset,
            Self::Rmrr(rmrr) => rmrr.offset,
            Self::Atsr(atsr) => atsr.offset,
            Self::Rhsa(rhsa) => rhsa.offset,
            Self::Andd(andd) => andd.offset,
            Self::Satc(satc) => satc.offset,
            Self::Sidp(sidp) => sidp.offset,
            Self::Unknown(unknown) => unknown.offset,
        }
    }

    /// The type's number.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Drhd(_) => 0,
            Self::Rmrr(_) => 1,
            Self::Atsr(_) => 2,
            Self::Rhsa(_) => 3,
            Self::Andd(_) => 4,
            Self::Satc(_) => 5,
            Self::Sidp(_) => 6,
            Self::Unknown(unknown) => unknown.kind,
        }
    }

    /// The device scopes, of a type that has some.
    pub fn scopes(&self) -> Option<Scopes<'a>> {
        match self {
            Self::Drhd(drhd) => Some(drhd.scopes.clone()),
            Self::Rmrr(rmrr) => Some(rmrr.scopes.clone()),
            Self::Atsr(atsr) => Some(atsr.scopes.clone()),
            Self::Satc(satc) => Some(satc.scopes.clone()),
            Self::Sidp(sidp) => Some(sidp.scopes.clone()),
            Self::Rhsa(_) | Self::Andd(_) | Self::Unknown(_) => None,
        }
    }
}

/// What the specification calls a structure of this type.
pub(crate) fn name_of(kind: u16) -> &'static str {
    match kind {
        0 => "DRHD",
        1 => "RMRR",
        2 => "ATSR",
        3 => "RHSA",
        4 => "ANDD",
        5 => "SATC",
        6 => "SIDP",
        _ => "structure of unknown type",
    }
}

impl<'a> Drhd<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, _) = raw::Drhd::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            flags: DrhdFlags::from_bits_retain(raw.flags),
            size: raw.size,
            segment: Segment(raw.segment.get()),
            register_base: Hpa::new(raw.register_base.get()),
            scopes: Scopes::new(part.behind(raw::Drhd::SIZE)),
        })
    }

    /// Bytes of the register set: 4 KiB to 128 MiB.
    pub fn register_bytes(&self) -> u64 {
        0x1000 << (self.size & 0xf)
    }

    /// Whether the unit remaps every device of its segment that no other unit does.
    pub fn includes_all(&self) -> bool {
        self.flags.contains(DrhdFlags::INCLUDE_PCI_ALL)
    }
}

impl<'a> Rmrr<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, _) = raw::Rmrr::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            reserved: raw.reserved.get(),
            segment: Segment(raw.segment.get()),
            base: Hpa::new(raw.base.get()),
            limit: Hpa::new(raw.limit.get()),
            scopes: Scopes::new(part.behind(raw::Rmrr::SIZE)),
        })
    }
}

impl<'a> Atsr<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, _) = raw::Flagged::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            flags: AtsrFlags::from_bits_retain(raw.flags),
            reserved: raw.reserved,
            segment: Segment(raw.segment.get()),
            scopes: Scopes::new(part.behind(raw::Flagged::SIZE)),
        })
    }
}

impl Rhsa {
    fn parse(part: Part<'_>) -> Option<Self> {
        let (raw, excess) = raw::Rhsa::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            reserved: raw.reserved.get(),
            register_base: Hpa::new(raw.register_base.get()),
            proximity_domain: raw.proximity_domain.get(),
            excess: excess.len(),
        })
    }
}

impl<'a> Andd<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, name) = raw::Andd::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            reserved: raw.reserved,
            acpi_device_number: raw.acpi_device_number,
            name,
        })
    }

    /// The object's name up to the first NUL, or all there is without one. ASCII, if
    /// firmware kept to its word.
    pub fn object_name(&self) -> &'a [u8] {
        let end = self.name.iter().position(|&byte| byte == 0);
        self.name
            .get(..end.unwrap_or(self.name.len()))
            .unwrap_or_default()
    }

    /// Whether a NUL ends the name.
    pub(crate) fn is_terminated(&self) -> bool {
        self.name.contains(&0)
    }
}

impl<'a> Satc<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, _) = raw::Flagged::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            flags: SatcFlags::from_bits_retain(raw.flags),
            reserved: raw.reserved,
            segment: Segment(raw.segment.get()),
            scopes: Scopes::new(part.behind(raw::Flagged::SIZE)),
        })
    }
}

impl<'a> Sidp<'a> {
    fn parse(part: Part<'a>) -> Option<Self> {
        let (raw, _) = raw::Flagged::ref_from_prefix(part.bytes).ok()?;
        Some(Self {
            offset: part.offset,
            reserved: [raw.flags, raw.reserved],
            segment: Segment(raw.segment.get()),
            scopes: Scopes::new(part.behind(raw::Flagged::SIZE)),
        })
    }
}
