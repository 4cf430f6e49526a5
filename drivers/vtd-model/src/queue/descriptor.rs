//! Descriptors, bit by bit (§6.5.2.1 to §6.5.2.9, §7.6.1).

use crate::caches::Range;
use crate::config::Config;
use crate::machine::drain::Drain;
use crate::remapping::Mode;
use crate::tables::{bit, bits, page};

/// IQERCD.IQEI (§11.4.9.9): why a descriptor, or the queue, is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Invalid {
    Tail = 1,
    Fetch = 2,
    Type = 3,
    Reserved = 4,
    Width = 5,
    TailAlignment = 6,
    Mode = 7,
}

/// A valid wait descriptor (§6.5.2.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    pub(crate) interrupt: bool,
    /// Where to write what.
    pub(crate) status: Option<(u64, u32)>,
    pub(crate) fence: bool,
    pub(crate) drain_page_requests: bool,
}

/// Addresses in a device-TLB invalidation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceRange {
    pub(crate) source: u16,
    /// The physical function, where DIT needs it.
    pub(crate) physical: u16,
    /// PASID-based: the PASID, or all of them.
    pub(crate) pasid: DevicePasid,
    pub(crate) range: Range,
}

/// Which entries of a device-TLB are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DevicePasid {
    /// Those of requests without PASID.
    None,
    /// Those of one PASID.
    One(u32),
    /// GI: those of every PASID.
    All,
}

/// A valid descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Type 1: source and ignored function bits if device-selective; domain if it matters.
    Contexts {
        source: Option<(u16, u16)>,
        domain: Option<u16>,
    },
    /// Type 2; `None` is global.
    Iotlb {
        domain: Option<u16>,
        pages: Option<(Range, bool)>,
    },
    /// Types 3 and 8.
    DeviceTlb(DeviceRange),
    /// Type 4.
    Interrupts(Option<(u16, u8)>),
    /// Type 5.
    Wait(Wait),
    /// Type 6.
    PasidIotlb {
        domain: u16,
        pasid: u32,
        pages: Option<(Range, bool)>,
    },
    /// Type 7.
    Pasids {
        domain: Option<u16>,
        pasid: Option<u32>,
    },
    /// Type A; `None` is global. Entries of levels up to `level` go.
    Permissions {
        domain: Option<u16>,
        range: Option<Range>,
        level: u8,
    },
    /// Type 9.
    PageResponse {
        source: u16,
        pasid: Option<u32>,
        group: u16,
        code: u8,
    },
}

/// Function number bits that FM masks (table 21).
pub(crate) fn function_mask(code: u64) -> u16 {
    [0, 0b100, 0b110, 0b111][(code & 3) as usize]
}

/// What an IOTLB invalidation drains (§6.5.4): types 2, as DR and DW say, and 6.
pub(crate) fn drain(words: [u64; 4], config: &Config) -> Drain {
    match bits(words[0], 3, 0) {
        2 => Drain::asked(bit(words[0], 7), bit(words[0], 6), config),
        6 => Drain::ALL,
        _ => Drain::NONE,
    }
}

/// Decodes what stands in a slot; `wide` is IQA.DW.
pub(crate) fn decode(
    words: [u64; 4],
    wide: bool,
    mode: Mode,
    config: &Config,
) -> Result<Command, Invalid> {
    let kind = bits(words[0], 11, 9) << 4 | bits(words[0], 3, 0);
    match mode {
        Mode::Reserved => return Err(Invalid::Mode),
        Mode::Scalable | Mode::Abort if !wide => return Err(Invalid::Width),
        _ => {}
    }
    if !known(kind, wide, mode, config) {
        return Err(Invalid::Type);
    }
    if words[0] & low_reserved(kind, config) != 0
        || words[1] & high_reserved(kind, config) != 0
        || words[2] | words[3] != 0
    {
        return Err(Invalid::Reserved);
    }
    match kind {
        1 => contexts(words, mode, config),
        2 => iotlb(words, config),
        3 => Ok(device(words, config)),
        4 => Ok(Command::Interrupts(bit(words[0], 4).then(|| {
            (bits(words[0], 47, 32) as u16, bits(words[0], 31, 27) as u8)
        }))),
        5 => Ok(Command::Wait(wait(words, config))),
        6 => pasid_iotlb(words, config),
        7 => pasids(words, config),
        8 => Ok(pasid_device(words, config)),
        0xa => permissions(words, config),
        _ => Ok(page_response(words)),
    }
}

/// Table 26, and types that a capability brings.
fn known(kind: u64, wide: bool, mode: Mode, config: &Config) -> bool {
    match kind {
        1 | 2 | 4 | 5 => true,
        3 => config.device_tlb,
        6 | 7 => wide && mode != Mode::Legacy,
        8 => wide && mode != Mode::Legacy && config.device_tlb,
        9 => wide && mode != Mode::Legacy && config.page_requests,
        0xa => wide && mode != Mode::Legacy && config.host_permissions,
        _ => false,
    }
}

fn low_reserved(kind: u64, config: &Config) -> u64 {
    let physical: u64 = if config.invalidation_throttle {
        0
    } else {
        0xfff0_0000_0000_f000
    };
    match kind {
        1 => 0xfffc_0000_0000_f1c0,
        2 => 0xffff_ffff_0000_f100,
        3 => 0x000f_0000_ffe0_01f0 | physical,
        4 => 0xffff_0000_07ff_f1e0,
        5 => 0x0000_0000_ffff_f100 | u64::from(!config.page_request_drain) << 7,
        6 | 7 => 0xfff0_0000_0000_f1c0,
        0xa => 0xffff_ffff_0000_f1c0,
        8 => physical,
        _ => 0xfff0_0000_0000_01e0,
    }
}

fn high_reserved(kind: u64, _config: &Config) -> u64 {
    match kind {
        2 | 6 => 0xf80,
        3 => 0xffe,
        5 => 0x3,
        8 => 0x7fe,
        0xa => 0xf00,
        9 => 0xffff_ffff_ffff_f003,
        _ => u64::MAX,
    }
}

fn domain(words: [u64; 4], config: &Config) -> u16 {
    bits(words[0], 31, 16) as u16 & config.domain_mask()
}

fn contexts(words: [u64; 4], mode: Mode, config: &Config) -> Result<Command, Invalid> {
    // In scalable mode entries carry no domain id: it is ignored (§6.5.2.1).
    let tagged = mode == Mode::Legacy;
    let domain = tagged.then(|| domain(words, config));
    let source = (
        bits(words[0], 47, 32) as u16,
        function_mask(bits(words[0], 49, 48)),
    );
    match bits(words[0], 5, 4) {
        1 => Ok(Command::Contexts {
            source: None,
            domain: None,
        }),
        2 => Ok(Command::Contexts {
            source: None,
            domain,
        }),
        3 => Ok(Command::Contexts {
            source: Some(source),
            domain,
        }),
        _ => Err(Invalid::Reserved),
    }
}

/// ADDR, AM and IH of types 2 and 6.
fn pages(word: u64) -> (Range, bool) {
    (
        Range::masked(page(word), bits(word, 5, 0) as u8),
        bit(word, 6),
    )
}

fn iotlb(words: [u64; 4], config: &Config) -> Result<Command, Invalid> {
    let domain = domain(words, config);
    match bits(words[0], 5, 4) {
        1 => Ok(Command::Iotlb {
            domain: None,
            pages: None,
        }),
        2 => Ok(Command::Iotlb {
            domain: Some(domain),
            pages: None,
        }),
        3 if config.page_selective
            && bits(words[1], 5, 0) <= u64::from(config.max_address_mask) =>
        {
            Ok(Command::Iotlb {
                domain: Some(domain),
                pages: Some(pages(words[1])),
            })
        }
        _ => Err(Invalid::Reserved),
    }
}

fn pasid_iotlb(words: [u64; 4], config: &Config) -> Result<Command, Invalid> {
    let (domain, pasid) = (domain(words, config), bits(words[0], 51, 32) as u32);
    match bits(words[0], 5, 4) {
        2 => Ok(Command::PasidIotlb {
            domain,
            pasid,
            pages: None,
        }),
        3 => Ok(Command::PasidIotlb {
            domain,
            pasid,
            pages: Some(pages(words[1])),
        }),
        _ => Err(Invalid::Reserved),
    }
}

fn pasids(words: [u64; 4], config: &Config) -> Result<Command, Invalid> {
    let (domain, pasid) = (domain(words, config), bits(words[0], 51, 32) as u32);
    match bits(words[0], 5, 4) {
        0 => Ok(Command::Pasids {
            domain: Some(domain),
            pasid: None,
        }),
        1 => Ok(Command::Pasids {
            domain: Some(domain),
            pasid: Some(pasid),
        }),
        3 => Ok(Command::Pasids {
            domain: None,
            pasid: None,
        }),
        _ => Err(Invalid::Reserved),
    }
}

/// The size of a device-TLB range is coded in its address: with S set, the lowest zero bit
/// from bit 12 up (§4.2.3).
fn device_range(address: u64, sized: bool) -> Range {
    let mask = if sized {
        (address >> 12).trailing_ones() as u8 + 1
    } else {
        0
    };
    Range::masked(address, mask)
}

fn device(words: [u64; 4], _config: &Config) -> Command {
    Command::DeviceTlb(DeviceRange {
        source: bits(words[0], 47, 32) as u16,
        physical: (bits(words[0], 15, 12) | bits(words[0], 63, 52) << 4) as u16,
        pasid: DevicePasid::None,
        range: device_range(page(words[1]), bit(words[1], 0)),
    })
}

fn pasid_device(words: [u64; 4], _config: &Config) -> Command {
    let pasid = DevicePasid::One(bits(words[0], 51, 32) as u32);
    Command::DeviceTlb(DeviceRange {
        source: bits(words[0], 31, 16) as u16,
        physical: (bits(words[0], 15, 12) | bits(words[0], 63, 52) << 4) as u16,
        pasid: if bit(words[1], 0) {
            DevicePasid::All
        } else {
            pasid
        },
        range: device_range(page(words[1]), bit(words[1], 11)),
    })
}

fn permissions(words: [u64; 4], config: &Config) -> Result<Command, Invalid> {
    let (domain, level) = (domain(words, config), bits(words[1], 7, 6) as u8 + 1);
    // Address bits from the host address width up are ignored.
    let address = page(words[1]) & !config.above_host();
    let range = Range::masked(address, bits(words[1], 5, 0) as u8);
    match bits(words[0], 5, 4) {
        1 => Ok(Command::Permissions {
            domain: None,
            range: None,
            level: 4,
        }),
        2 => Ok(Command::Permissions {
            domain: Some(domain),
            range: None,
            level,
        }),
        3 => Ok(Command::Permissions {
            domain: Some(domain),
            range: Some(range),
            level,
        }),
        _ => Err(Invalid::Reserved),
    }
}

fn wait(words: [u64; 4], config: &Config) -> Wait {
    let address = words[1] & !3 & !config.above_host();
    Wait {
        interrupt: bit(words[0], 4),
        status: bit(words[0], 5).then_some((address, bits(words[0], 63, 32) as u32)),
        fence: bit(words[0], 6),
        drain_page_requests: bit(words[0], 7),
    }
}

fn page_response(words: [u64; 4]) -> Command {
    Command::PageResponse {
        source: bits(words[0], 31, 16) as u16,
        pasid: bit(words[0], 4).then_some(bits(words[0], 51, 32) as u32),
        group: bits(words[1], 11, 3) as u16,
        code: bits(words[0], 15, 12) as u8,
    }
}

#[cfg(test)]
#[path = "descriptor_tests.rs"]
mod tests;
