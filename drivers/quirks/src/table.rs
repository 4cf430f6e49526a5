//! The table.

use crate::entry::{Alias, Effect, Identity, Processor, Quirk, Who};
use core::ops::RangeInclusive;

const AMD_ATI: u16 = 0x1002;
const ADAPTEC: u16 = 0x9005;
const AMD: u16 = 0x1022;
const ASMEDIA: u16 = 0x1b21;
const ATHEROS: u16 = 0x168c;
const CAVIUM: u16 = 0x177d;
const GLENFLY: u16 = 0x6766;
const HIGHPOINT: u16 = 0x1103;
const INTEL: u16 = 0x8086;
const ITE: u16 = 0x1283;
const JMICRON: u16 = 0x197b;
const LITE_ON: u16 = 0x1c28;
const LSI: u16 = 0x11c1;
const MARVELL: u16 = 0x1b4b;
const MEDIATEK: u16 = 0x14c3;
const MELLANOX: u16 = 0x15b3;
const MICROSEMI: u16 = 0x11f8;
const NVIDIA: u16 = 0x10de;
const PLX: u16 = 0x10b5;
const QEMU: u16 = 0x1234;
const RICOH: u16 = 0x1180;
const SOLIDRUN: u16 = 0xd063;
const TI: u16 = 0x104c;
const TUNDRA: u16 = 0x10e3;

const ALL: RangeInclusive<u8> = 0..=0xff;
const DISPLAY: u8 = 0x03;

const LINUX_PCI: &str = "Linux, drivers/pci/quirks.c";
const LINUX_VTD: &str = "Linux, drivers/iommu/intel/iommu.c";

const fn of(
    name: &'static str,
    vendor: u16,
    devices: &'static [u16],
    effect: Effect,
    source: &'static str,
) -> Quirk {
    revisions(name, vendor, devices, ALL, effect, source)
}

const fn revisions(
    name: &'static str,
    vendor: u16,
    devices: &'static [u16],
    revisions: RangeInclusive<u8>,
    effect: Effect,
    source: &'static str,
) -> Quirk {
    Quirk {
        name,
        who: Who::Devices {
            vendor,
            devices,
            revisions,
        },
        effect,
        source,
    }
}

const fn processors(
    name: &'static str,
    models: &'static [u8],
    steppings: RangeInclusive<u8>,
    effect: Effect,
    source: &'static str,
) -> Quirk {
    Quirk {
        name,
        who: Who::Processors { models, steppings },
        effect,
        source,
    }
}

/// SATA and RAID controllers whose function 0 issues requests as function 1.
const REQUESTS_AS_FUNCTION_1: Effect = Effect::RequestsAs(Alias::Function(1));

/// All that is known. The order is that of the effects.
pub const TABLE: &[Quirk] = &[
    // Requester ids.
    of(
        "Marvell SATA: requests as function 1",
        MARVELL,
        &[
            0x9120, 0x9123, 0x9125, 0x9128, 0x9130, 0x9170, 0x9172, 0x917a, 0x9182, 0x9183, 0x91a0,
            0x9215, 0x9220, 0x9230, 0x9235,
        ],
        REQUESTS_AS_FUNCTION_1,
        "Linux, drivers/pci/quirks.c; kernel bugzilla 42679",
    ),
    of(
        "HighPoint RocketRAID: requests as function 1",
        HIGHPOINT,
        &[0x0642, 0x0644, 0x0645],
        REQUESTS_AS_FUNCTION_1,
        LINUX_PCI,
    ),
    of(
        "JMicron 388: requests as function 1",
        JMICRON,
        &[0x2392],
        REQUESTS_AS_FUNCTION_1,
        LINUX_PCI,
    ),
    of(
        "Plextor M6E: requests as function 1",
        LITE_ON,
        &[0x0122],
        REQUESTS_AS_FUNCTION_1,
        "Linux, drivers/pci/quirks.c; kernel bugzilla 42679",
    ),
    of(
        "Ricoh multifunction: requests as function 0",
        RICOH,
        &[0xe832, 0xe476],
        Effect::RequestsAs(Alias::Function(0)),
        LINUX_PCI,
    ),
    of(
        "Glenfly graphics: requests as function 0",
        GLENFLY,
        &[0x3d40, 0x3d41],
        Effect::RequestsAs(Alias::Function(0)),
        LINUX_PCI,
    ),
    of(
        "Adaptec RAID: requests as device 1, function 0",
        ADAPTEC,
        &[0x0285],
        Effect::RequestsAs(Alias::DeviceFunction(1 << 3)),
        LINUX_PCI,
    ),
    of(
        "Xeon Phi x200: requests as 10.0",
        INTEL,
        &[0x2260, 0x2264],
        Effect::RequestsAs(Alias::DeviceFunction(0x10 << 3)),
        LINUX_PCI,
    ),
    of(
        "Xeon Phi x200: requests as 11.0",
        INTEL,
        &[0x2260, 0x2264],
        Effect::RequestsAs(Alias::DeviceFunction(0x11 << 3)),
        LINUX_PCI,
    ),
    of(
        "Xeon Phi x200: requests as 12.3",
        INTEL,
        &[0x2260, 0x2264],
        Effect::RequestsAs(Alias::DeviceFunction(0x12 << 3 | 3)),
        LINUX_PCI,
    ),
    of(
        "ASMedia 1083/1085: bridges as a PCI Express one",
        ASMEDIA,
        &[0x1080],
        Effect::BridgesAsExpress,
        LINUX_PCI,
    ),
    of(
        "Tundra Tsi381: bridges as a PCI Express one",
        TUNDRA,
        &[0x8113],
        Effect::BridgesAsExpress,
        LINUX_PCI,
    ),
    of(
        "ITE 8892/8893: bridges as a PCI Express one",
        ITE,
        &[0x8892, 0x8893],
        Effect::BridgesAsExpress,
        LINUX_PCI,
    ),
    of(
        "Intel 82801: bridges as a PCI Express one",
        INTEL,
        &[0x244e],
        Effect::BridgesAsExpress,
        "Linux, drivers/pci/quirks.c; kernel bugzilla 44881",
    ),
    // Isolation.
    of(
        "Intel 82575/82576/82598/82599: functions are isolated",
        INTEL,
        &[
            0x10c6, 0x10db, 0x10dd, 0x10e1, 0x10f1, 0x10f7, 0x10f8, 0x10f9, 0x10fa, 0x10fb, 0x10fc,
            0x1507, 0x1514, 0x151c, 0x1529, 0x152a, 0x154d, 0x154f, 0x1551, 0x1558,
        ],
        Effect::Isolates,
        LINUX_PCI,
    ),
    of(
        "Intel 82580/82576/I350: functions are isolated",
        INTEL,
        &[
            0x1509, 0x150e, 0x150f, 0x1510, 0x1511, 0x1516, 0x1527, 0x10c9, 0x10e6, 0x10e7, 0x10e8,
            0x150a, 0x150d, 0x1518, 0x1526, 0x10a7, 0x10a9, 0x10d6, 0x1521,
        ],
        Effect::Isolates,
        LINUX_PCI,
    ),
    // Resets.
    of(
        "AMD audio, USB and SATA: no function-level reset",
        AMD,
        &[0x1487, 0x148c, 0x149c, 0x7901],
        Effect::NoFunctionReset,
        LINUX_PCI,
    ),
    of(
        "Intel 82579: no function-level reset",
        INTEL,
        &[0x1502, 0x1503],
        Effect::NoFunctionReset,
        LINUX_PCI,
    ),
    of(
        "MediaTek MT7922: no function-level reset",
        MEDIATEK,
        &[0x0616],
        Effect::NoFunctionReset,
        LINUX_PCI,
    ),
    revisions(
        "SolidRun SNET, revision 1: no function-level reset",
        SOLIDRUN,
        &[0x1000],
        1..=1,
        Effect::NoFunctionReset,
        LINUX_PCI,
    ),
    of(
        "NVIDIA Spectrum: no reset by D3hot",
        MELLANOX,
        &[0xcb84, 0xcf6c, 0xcf70, 0xcf80],
        Effect::NoPowerReset,
        LINUX_PCI,
    ),
    of(
        // The real one does reset so; its other ways are as good.
        "Intel 82574L, as QEMU emulates it: no reset by D3hot",
        INTEL,
        &[0x10d3],
        Effect::NoPowerReset,
        "QEMU 10.0 and 11.1, seen in a boot test: registers survive D3hot",
    ),
    Quirk {
        name: "AMD graphics: no reset by D3hot",
        who: Who::Class {
            vendor: AMD_ATI,
            class: DISPLAY,
        },
        effect: Effect::NoPowerReset,
        source: LINUX_PCI,
    },
    of(
        "Atheros wireless: no bus reset",
        ATHEROS,
        &[0x0030, 0x0032, 0x0033, 0x0034, 0x003c, 0x003e],
        Effect::NoBusReset,
        LINUX_PCI,
    ),
    Quirk {
        name: "NVIDIA graphics 2340 to 237f: no bus reset",
        who: Who::Run {
            vendor: NVIDIA,
            devices: 0x2340..=0x237f,
        },
        effect: Effect::NoBusReset,
        source: LINUX_PCI,
    },
    of(
        "Cavium CN8xxx ports: no bus reset",
        CAVIUM,
        &[0xa100],
        Effect::NoBusReset,
        LINUX_PCI,
    ),
    of(
        "ASMedia 1164: no bus reset",
        ASMEDIA,
        &[0x1164],
        Effect::NoBusReset,
        LINUX_PCI,
    ),
    of(
        "LSI FW643: no bus reset",
        LSI,
        &[0x5900, 0x5901],
        Effect::NoBusReset,
        LINUX_PCI,
    ),
    of(
        "TI KeyStone C667X: no bus reset",
        TI,
        &[0xb005],
        Effect::NoBusReset,
        LINUX_PCI,
    ),
    of(
        "QEMU edu: harmless without a reset",
        QEMU,
        &[0x11e8],
        Effect::Harmless,
        "QEMU, docs/specs/edu.rst: a buffer of 4 KiB, one engine, one interrupt",
    ),
    // Address translation services.
    of(
        // Of Raven (15d8h) Linux names one revision on four boards; here it is all of them.
        "AMD Stoney, Iceland, Navi10, Navi14 and Raven graphics: no ATS",
        AMD_ATI,
        &[
            0x98e4, 0x6900, 0x7310, 0x7312, 0x7318, 0x7319, 0x731a, 0x731b, 0x731e, 0x731f, 0x7340,
            0x7341, 0x7347, 0x734f, 0x15d8,
        ],
        Effect::NoTranslationServices,
        "Linux, drivers/pci/quirks.c; kernel bugzilla 194521",
    ),
    revisions(
        "Intel IPU E2000 before C0: no ATS",
        INTEL,
        &[
            0x1451, 0x1452, 0x1453, 0x1454, 0x1455, 0x1457, 0x1459, 0x145a, 0x145c,
        ],
        0..=0x1f,
        Effect::NoTranslationServices,
        LINUX_PCI,
    ),
    of(
        // Linux sends each of these twice instead.
        "Intel QAT: an invalidation's completion passes writes, so no ATS",
        INTEL,
        &[0x4940, 0x4941, 0x4942, 0x4943],
        Effect::NoTranslationServices,
        LINUX_VTD,
    ),
    // Devices that stand for others.
    of(
        "Intel VMD: devices of a domain of its own request under its id",
        INTEL,
        &[
            0x201d, 0x28c0, 0x467f, 0x4c3d, 0x7d0b, 0x9a0b, 0xa77f, 0xad0b,
        ],
        Effect::CarriesOthers,
        "Linux, drivers/pci/controller/vmd.c; VT-d 5.10, 3.4.1",
    ),
    of(
        "PLX NTB: what is on its other side requests under any id of its bus",
        PLX,
        &[0x87b0, 0x87b1],
        Effect::CarriesOthers,
        LINUX_PCI,
    ),
    of(
        "Intel VCA: what is on its other side requests under ids of its bus",
        INTEL,
        &[0x2954, 0x2955, 0x2956, 0x2958, 0x2959, 0x295a],
        Effect::CarriesOthers,
        LINUX_PCI,
    ),
    of(
        // Linux reads the ids from the switch's registers. Its ports have the same device ids
        // and are given to nobody either.
        "Microsemi Switchtec NTB: what is on its other side requests under ids of its bus",
        MICROSEMI,
        &[
            0x8531, 0x8532, 0x8533, 0x8534, 0x8535, 0x8536, 0x8541, 0x8542, 0x8543, 0x8544, 0x8545,
            0x8546, 0x8551, 0x8552, 0x8553, 0x8554, 0x8555, 0x8556, 0x8561, 0x8562, 0x8563, 0x8564,
            0x8565, 0x8566, 0x8571, 0x8572, 0x8573, 0x8574, 0x8575, 0x8576,
        ],
        Effect::CarriesOthers,
        LINUX_PCI,
    ),
    // Errors that would reach the whole platform.
    of(
        "Intel host bridges: remapping faults stay faults",
        INTEL,
        &[0x342e, 0x3728, 0x3c28],
        Effect::SetConfiguration {
            offset: 0x1ac,
            bits: 1 << 31,
        },
        "Xen, drivers/passthrough/vtd/quirks.c",
    ),
    // Units.
    of(
        "Intel 4 series: needs write-buffer flushes that CAP.RWBF does not tell",
        INTEL,
        &[0x2a40, 0x2e00, 0x2e10, 0x2e20, 0x2e30, 0x2e40, 0x2e90],
        Effect::NeedsWriteBufferFlush,
        "Linux, drivers/iommu/intel/iommu.c; Xen, drivers/passthrough/vtd/quirks.c",
    ),
    of(
        "Intel 4 series and QM57: graphics are not remapped correctly",
        INTEL,
        &[
            0x2a40, 0x2e00, 0x2e10, 0x2e20, 0x2e30, 0x2e40, 0x2e90, 0x0044,
        ],
        Effect::LeaveGraphicsAlone,
        LINUX_VTD,
    ),
    of(
        // Linux and Xen look whether there is a shadow of the graphics table (52h, bit 11),
        // and then let it be remapped; here it never is.
        "Ironlake: graphics may have no shadow of their table",
        INTEL,
        &[0x0040, 0x0062, 0x006a],
        Effect::LeaveGraphicsAlone,
        "Linux, drivers/iommu/intel/iommu.c; Xen, drivers/passthrough/vtd/quirks.c",
    ),
    of(
        "Broadwell: graphics are not remapped correctly",
        INTEL,
        &[
            0x1602, 0x1606, 0x160a, 0x160b, 0x160d, 0x160e, 0x1612, 0x1616, 0x161a, 0x161b, 0x161d,
            0x161e, 0x1622, 0x1626, 0x162a, 0x162b, 0x162d, 0x162e, 0x1632, 0x1636, 0x163a, 0x163b,
            0x163d, 0x163e,
        ],
        Effect::LeaveGraphicsAlone,
        LINUX_VTD,
    ),
    Quirk {
        name: "Intel graphics: turning translation off may never end",
        who: Who::Family {
            vendor: INTEL,
            class: DISPLAY,
            upper: &[0x45, 0x46, 0x4c, 0x4e, 0x7d, 0x8a, 0x98, 0x9a, 0xa7],
        },
        effect: Effect::KeepsTranslating,
        source: LINUX_VTD,
    },
    revisions(
        "Intel 5500/5520/X58: remapped interrupts are lost (errata 47, 53)",
        INTEL,
        &[0x3403, 0x3405, 0x3406],
        0..=0x13,
        Effect::NoInterruptRemapping,
        "Linux, arch/x86/kernel/early-quirks.c; FreeBSD, sys/x86/iommu",
    ),
    revisions(
        "Intel 5500/5520/X58: remapped interrupts are lost (errata 47, 53, 62, 69)",
        INTEL,
        &[0x3403, 0x3405, 0x3406],
        0x14..=0x22,
        Effect::NoInterruptRemapping,
        // Linux and FreeBSD name 3405h of 22h only, Xen all below 22h: the union.
        "Xen, drivers/passthrough/vtd/quirks.c",
    ),
    revisions(
        "Intel 5400: protected memory regions do not work (erratum 23)",
        INTEL,
        &[0x4001, 0x4003],
        0x20..=0x20,
        Effect::NoProtectedRegions,
        "FreeBSD, sys/x86/iommu",
    ),
    processors(
        "Sandy Bridge: second-stage superpages do not work",
        &[0x2a, 0x2d],
        ALL,
        Effect::NoSecondStageSuperpages,
        "Xen, drivers/passthrough/vtd/quirks.c",
    ),
    processors(
        "Xeon E5, stepping 6: address mask of 9 at most (erratum BT176)",
        &[0x2d],
        6..=6,
        Effect::MaskAtMost(9),
        "FreeBSD, sys/x86/iommu",
    ),
    processors(
        "Sapphire Rapids: nesting writes into read-only pages (erratum SPR17)",
        &[0x8f],
        ALL,
        Effect::NoNesting,
        "Intel 772415; Linux, drivers/iommu/intel",
    ),
];

/// The rows about a function.
pub fn of_device(identity: &Identity) -> impl Iterator<Item = &'static Quirk> + use<'_> {
    TABLE.iter().filter(|quirk| quirk.who.is_device(identity))
}

/// The rows about a CPU.
pub fn of_processor(processor: &Processor) -> impl Iterator<Item = &'static Quirk> + use<'_> {
    TABLE
        .iter()
        .filter(|quirk| quirk.who.is_processor(processor))
}
