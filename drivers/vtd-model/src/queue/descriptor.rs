//! Descriptors, bit by bit (§6.5.2.1 to §6.5.2.9, §7.6.1).

use crate::caches::Range;
use crate::config::Config;
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
mod tests {
    use super::*;

    fn config() -> Config {
        Config::everything()
    }

    fn wide(low: u64, high: u64) -> Result<Command, Invalid> {
        decode([low, high, 0, 0], true, Mode::Scalable, &config())
    }

    fn narrow(low: u64, high: u64) -> Result<Command, Invalid> {
        decode([low, high, 0, 0], false, Mode::Legacy, &Config::legacy())
    }

    /// Low word, high word, command; the layouts of figures 6-1 to 6-9 and 7-2.
    #[test]
    fn descriptors_say_what_the_figures_show() {
        let all = Range {
            first: 0,
            last: u64::MAX,
        };
        let cases = [
            (
                0x11,
                0,
                Command::Contexts {
                    source: None,
                    domain: None,
                },
            ),
            (
                0x1234_0021,
                0,
                Command::Contexts {
                    source: None,
                    domain: Some(0x1234),
                },
            ),
            (
                0x0003_abcd_1234_0031,
                0,
                Command::Contexts {
                    source: Some((0xabcd, 7)),
                    domain: Some(0x1234),
                },
            ),
            (
                0x12,
                0,
                Command::Iotlb {
                    domain: None,
                    pages: None,
                },
            ),
            (
                0x0007_00e2,
                0,
                Command::Iotlb {
                    domain: Some(7),
                    pages: None,
                },
            ),
            (
                0x0007_0032,
                0x1234_5049,
                Command::Iotlb {
                    domain: Some(7),
                    pages: Some((
                        Range {
                            first: 0x1220_0000,
                            last: 0x123f_ffff,
                        },
                        true,
                    )),
                },
            ),
            (0x04, 0, Command::Interrupts(None)),
            (
                0x0000_1234_1800_0014,
                0,
                Command::Interrupts(Some((0x1234, 3))),
            ),
            (
                0xabcd_ef01_0000_0075,
                0x5004,
                Command::Wait(Wait {
                    interrupt: true,
                    status: Some((0x5004, 0xabcd_ef01)),
                    fence: true,
                    drain_page_requests: false,
                }),
            ),
        ];
        for (low, high, expected) in cases {
            assert_eq!(narrow(low, high), Ok(expected), "{low:#x} {high:#x}");
        }
        let device = |source, pasid, range| {
            Command::DeviceTlb(DeviceRange {
                source,
                physical: 0,
                pasid,
                range,
            })
        };
        let cases = [
            (
                0x0000_1234_0000_0003,
                0x5000,
                device(0x1234, DevicePasid::None, Range::masked(0x5000, 0)),
            ),
            (
                0x0000_1234_001f_0003,
                0x000f_f001,
                device(
                    0x1234,
                    DevicePasid::None,
                    Range {
                        first: 0,
                        last: 0x1f_ffff,
                    },
                ),
            ),
            (
                0x0000_1234_0000_0003,
                0x7fff_ffff_ffff_f001,
                device(0x1234, DevicePasid::None, all),
            ),
            (
                0x000a_bcde_1234_01f8,
                0x5801,
                device(
                    0x1234,
                    DevicePasid::All,
                    Range {
                        first: 0x4000,
                        last: 0x7fff,
                    },
                ),
            ),
            (
                0x000a_bcde_1234_0008,
                0x5000,
                device(0x1234, DevicePasid::One(0xabcde), Range::masked(0x5000, 0)),
            ),
            (
                0x000a_bcde_0007_0026,
                0,
                Command::PasidIotlb {
                    domain: 7,
                    pasid: 0xabcde,
                    pages: None,
                },
            ),
            (
                0x000a_bcde_0007_0036,
                0x1000,
                Command::PasidIotlb {
                    domain: 7,
                    pasid: 0xabcde,
                    pages: Some((Range::masked(0x1000, 0), false)),
                },
            ),
            (
                0x37,
                0,
                Command::Pasids {
                    domain: None,
                    pasid: None,
                },
            ),
            (
                0x0007_0007,
                0,
                Command::Pasids {
                    domain: Some(7),
                    pasid: None,
                },
            ),
            (
                0x000a_bcde_0007_0017,
                0,
                Command::Pasids {
                    domain: Some(7),
                    pasid: Some(0xabcde),
                },
            ),
            (
                0x000a_bcde_1234_1019,
                0xaac,
                Command::PageResponse {
                    source: 0x1234,
                    pasid: Some(0xabcde),
                    group: 0x155,
                    code: 1,
                },
            ),
        ];
        for (low, high, expected) in cases {
            assert_eq!(wide(low, high), Ok(expected), "{low:#x} {high:#x}");
        }
    }

    #[test]
    fn reserved_bits_are_refused_type_by_type() {
        // (a valid descriptor, reserved bits of its low word, of its high word)
        let cases: &[(u64, u64, &[u32], &[u32])] = &[
            (0x11, 0, &[6, 8, 12, 15, 50, 63], &[0, 12, 63]),
            (0x12, 0, &[8, 12, 32, 63], &[7, 11]),
            (0x3, 0, &[4, 8, 12, 21, 31, 48, 52], &[1, 11]),
            (0x4, 0, &[5, 8, 12, 26, 48], &[0, 63]),
            (0x5, 0, &[8, 12, 31], &[0, 1]),
            (0x26, 0, &[6, 12, 52, 63], &[7, 11]),
            (0x37, 0, &[6, 12, 52], &[0, 12]),
            (0x8, 0, &[12, 52], &[1, 10]),
            (0x9, 0, &[5, 8, 52], &[0, 1, 12, 63]),
        ];
        for (low, high, low_bits, high_bits) in cases {
            assert!(wide(*low, *high).is_ok(), "{low:#x}");
            for at in *low_bits {
                assert_eq!(
                    wide(low | 1 << at, *high),
                    Err(Invalid::Reserved),
                    "{low:#x} bit {at}"
                );
            }
            for at in *high_bits {
                assert_eq!(
                    wide(*low, high | 1 << at),
                    Err(Invalid::Reserved),
                    "{low:#x} bit {}",
                    at + 64
                );
            }
            assert_eq!(
                decode([*low, *high, 1, 0], true, Mode::Scalable, &config()),
                Err(Invalid::Reserved)
            );
        }
        assert_eq!(
            wide(0x9, 4),
            wide(0x9, 0),
            "bit 66 of a page group response is ignored"
        );
    }

    #[test]
    fn types_depend_on_mode_width_and_capabilities() {
        for kind in [6, 7, 8, 9, 10, 0] {
            assert_eq!(
                narrow(kind | 0x20, 0),
                Err(Invalid::Type),
                "{kind} in a 128-bit queue"
            );
        }
        assert_eq!(narrow(0x211, 0), Err(Invalid::Type), "type bits 11:9 count");
        assert_eq!(
            decode([0x11, 0, 0, 0], false, Mode::Scalable, &config()),
            Err(Invalid::Width)
        );
        assert_eq!(
            decode([0x11, 0, 0, 0], true, Mode::Reserved, &config()),
            Err(Invalid::Mode)
        );
        assert_eq!(
            wide(0xa | 0x10, 0),
            Err(Invalid::Type),
            "no host permission tables"
        );
        let plain = Config::scalable();
        for kind in [3, 8, 9] {
            assert_eq!(
                decode([kind, 0, 0, 0], true, Mode::Scalable, &plain),
                Err(Invalid::Type),
                "{kind}"
            );
        }
        for (low, high) in [(0x01, 0), (0x02, 0), (0x06, 0), (0x16, 0), (0x27, 0)] {
            assert_eq!(
                wide(low, high),
                Err(Invalid::Reserved),
                "reserved granularity {low:#x}"
            );
        }
        assert_eq!(wide(0x32, 19), Err(Invalid::Reserved), "AM beyond MAMV");
        assert!(wide(0x36, 19).is_ok(), "MAMV does not bind type 6");
        let no_psi = Config {
            page_selective: false,
            ..config()
        };
        assert_eq!(
            decode([0x32, 0, 0, 0], true, Mode::Scalable, &no_psi),
            Err(Invalid::Reserved)
        );
        let no_pds = Config {
            page_request_drain: false,
            ..config()
        };
        assert_eq!(
            decode([0x85, 0, 0, 0], true, Mode::Scalable, &no_pds),
            Err(Invalid::Reserved)
        );
    }
}
