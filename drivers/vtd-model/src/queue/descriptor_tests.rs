//! Descriptors against the figures of chapter 6, bit by bit.

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
            0x1a,
            0xc0,
            Command::Permissions {
                domain: None,
                range: None,
                level: 4,
            },
        ),
        (
            0x1234_002a,
            0x80,
            Command::Permissions {
                domain: Some(0x1234),
                range: None,
                level: 3,
            },
        ),
        (
            0x0007_003a,
            0xffff_0000_4567_8042,
            Command::Permissions {
                domain: Some(7),
                range: Some(Range {
                    first: 0x4567_8000,
                    last: 0x4567_bfff,
                }),
                level: 2,
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
        (0x1a, 0, &[6, 8, 12, 15, 32, 63], &[8, 11]),
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
    let plain = Config::scalable();
    for kind in [3, 8, 9, 0xa] {
        assert_eq!(
            decode([kind, 0, 0, 0], true, Mode::Scalable, &plain),
            Err(Invalid::Type),
            "{kind}"
        );
    }
    for (low, high) in [
        (0x01, 0),
        (0x02, 0),
        (0x06, 0),
        (0x16, 0),
        (0x27, 0),
        (0x0a, 0),
    ] {
        assert_eq!(
            wide(low, high),
            Err(Invalid::Reserved),
            "reserved granularity {low:#x}"
        );
    }
    assert_eq!(wide(0x32, 19), Err(Invalid::Reserved), "AM beyond MAMV");
    assert!(wide(0x3a, 19).is_ok(), "MAMV does not bind type A");
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
