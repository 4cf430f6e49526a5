//! The machine that both sides are: memory map, remapping unit, and how a QEMU is told so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use vtd_model::Config;

use crate::entries::{First, page};

/// End of RAM; it begins at 0, with the old holes below 1 MiB, which no case uses.
pub const RAM_END: u64 = 0x8000_0000;
/// The invalidation queue: one page.
pub const QUEUE: u64 = 0x00f0_0000;
/// Where waits report.
pub const STATUS: u64 = 0x00f1_0000;
/// A page for what devices must hold before a step.
pub const SCRATCH: u64 = 0x00f2_0000;
/// Frames for tables and targets are drawn from here.
pub const POOL: std::ops::Range<u64> = 0x0100_0000..0x7800_0000;
/// Nothing answers here.
pub const HOLE: std::ops::Range<u64> = 0x9000_0000..0xa000_0000;
/// The firmware's ROM, all of it.
pub const ROM: std::ops::Range<u64> = 0xffff_0000..0x1_0000_0000;
/// A page of the ROM that is a table of the first stage: see [`rom_entry`].
pub const ROM_TABLE: u64 = 0xffff_1000;
/// The page that entry 0 of the ROM's table leads to.
pub const ROM_TARGETS: u64 = 0x0080_0000;

/// Remapping units that cases need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rig {
    /// Legacy mode only, and interrupt remapping.
    Legacy {
        /// Address width in bits: 39 or 48.
        bits: u8,
    },
    /// Scalable mode with a second stage.
    Second {
        /// Address width in bits: 39 or 48.
        bits: u8,
    },
    /// Scalable mode with a first stage, 48 bits.
    First,
}

impl Rig {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Legacy { bits: 48 },
        Self::Legacy { bits: 39 },
        Self::Second { bits: 48 },
        Self::Second { bits: 39 },
        Self::First,
    ];

    /// Address width: of host addresses, and of the widest table.
    pub fn bits(self) -> u8 {
        match self {
            Self::Legacy { bits } | Self::Second { bits } => bits,
            Self::First => 48,
        }
    }

    /// Whether tables are scalable and descriptors of 256 bits.
    pub fn is_scalable(self) -> bool {
        !matches!(self, Self::Legacy { .. })
    }
}

/// A QEMU and how it differs from others in what it can do.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// The program.
    pub program: PathBuf,
    /// Its version, as it is printed.
    pub version: String,
    /// Name of the unit's option for scalable mode.
    pub scalable_option: String,
    /// Name of the unit's option for the first stage.
    pub first_option: String,
    /// Whether it has `iommu-testdev`.
    pub has_tester: bool,
    /// QEMU 11 and later: time stands still between commands (`-accel qtest`), and many
    /// things were mended.
    pub is_recent: bool,
}

impl Emulator {
    /// One that cannot be started, for tests of what is decided before.
    #[cfg(test)]
    pub(crate) fn nowhere(is_recent: bool) -> Self {
        Self {
            program: PathBuf::new(),
            version: "0.0.0".to_owned(),
            scalable_option: String::new(),
            first_option: String::new(),
            has_tester: is_recent,
            is_recent,
        }
    }

    /// Whether RID_PASID is looked at, though ECAP.RPS is 0 in every version.
    pub fn uses_rid_pasid(&self) -> bool {
        !self.is_recent
    }

    /// The model's configuration for a rig: what CAP and ECAP of this QEMU say, and what
    /// [`UNDECLARED`] lists.
    pub fn config(&self, rig: Rig) -> Config {
        let legacy = Config {
            major: 1,
            host_bits: rig.bits(),
            guest_bits: rig.bits(),
            depths: vtd_model::Depths {
                three: true,
                four: rig.bits() == 48,
                five: false,
            },
            domain_bits: 16,
            protected_low: false,
            protected_high: false,
            zero_length_read: false,
            fault_offset: 0x22,
            fault_records: 1,
            fault_compression: true,
            max_address_mask: 18,
            coherent: false,
            x2apic: true,
            snoop_control: false,
            iotlb_offset: 0xf,
            max_handle_mask: 15,
            second_stage: false,
            srtp_invalidates: self.is_recent,
            ..Config::legacy()
        };
        match rig {
            Rig::Legacy { .. } => legacy,
            Rig::Second { .. } => Config {
                scalable_mode: true,
                second_stage: true,
                supervisor_requests: true,
                rid_pasid: self.uses_rid_pasid(),
                ..legacy
            },
            Rig::First => Config {
                scalable_mode: true,
                first_stage: true,
                second_stage: true,
                first_stage_1g: true,
                walk_coherency: true,
                rid_pasid: self.uses_rid_pasid(),
                ..legacy
            },
        }
    }

    /// ECAP bits of the model's configuration that this QEMU does not report.
    pub fn undeclared(&self, rig: Rig) -> u64 {
        UNDECLARED
            .iter()
            .filter(|bit| (bit.applies)(self, rig))
            .fold(0, |bits, bit| bits | 1 << bit.bit)
    }

    /// Arguments that start this rig. `trace` takes the trace, `rom` is the firmware.
    pub fn arguments(&self, rig: Rig, rom: &Path, trace: &Path) -> Vec<OsString> {
        let unit = match rig {
            Rig::Legacy { bits } => format!("intel-iommu,intremap=on,eim=on,aw-bits={bits}"),
            Rig::Second { bits } => format!(
                "intel-iommu,intremap=on,eim=on,aw-bits={bits},{}=on",
                self.scalable_option
            ),
            Rig::First => format!(
                "intel-iommu,intremap=on,eim=on,aw-bits=48,{}=on,{}=on",
                self.scalable_option, self.first_option
            ),
        };
        let clock: &[&str] = if self.is_recent {
            &["-accel", "qtest"]
        } else {
            &["-accel", "tcg", "-icount", "shift=7,sleep=off"]
        };
        let tester = if self.has_tester {
            "iommu-testdev,addr=5"
        } else {
            "edu,addr=5,dma_mask=0xffffffffffffffff"
        };
        let mut arguments: Vec<OsString> = ["-M", "q35", "-m", "2G", "-nodefaults"]
            .iter()
            .chain(&["-display", "none", "-qtest", "stdio", "-qtest-log", "none"])
            .chain(clock)
            .chain(&["-device", &unit])
            .chain(&["-device", "edu,addr=4,dma_mask=0xffffffffffffffff"])
            .chain(&["-device", "edu,addr=0x14,dma_mask=0xffffffffffffffff"])
            .chain(&["-device", tester])
            .chain(&["-trace", "vtd_ir_remap_msi", "-trace", "apic_deliver_irq"])
            .map(OsString::from)
            .collect();
        arguments.extend(["-bios".into(), rom.into(), "-D".into(), trace.into()]);
        arguments
    }
}

/// Something that QEMU does and does not report.
pub struct Undeclared {
    /// Bit of ECAP.
    pub bit: u8,
    /// The field.
    pub field: &'static str,
    /// Why the model has it set.
    pub reason: &'static str,
    applies: fn(&Emulator, Rig) -> bool,
}

/// All of them.
pub const UNDECLARED: &[Undeclared] = &[
    Undeclared {
        bit: 49,
        field: "RPS",
        reason: "QEMU 10.0 takes the PASID of plain requests from the context entry",
        applies: |emulator, rig| rig.is_scalable() && emulator.uses_rid_pasid(),
    },
    Undeclared {
        bit: 46,
        field: "SSTS",
        reason: "QEMU takes the width of the first stage from AW, which is reserved without SSTS",
        applies: |_, rig| rig == Rig::First,
    },
    Undeclared {
        bit: 48,
        field: "SMPWCS",
        reason: "QEMU sets A and D of the first stage, which only a snooping walk can",
        applies: |_, rig| rig == Rig::First,
    },
];

/// Entry `index` of the table in ROM. Its flags are clear or set by the index, modulo 4:
/// none, both, A alone, D alone.
pub fn rom_entry(index: u64) -> u64 {
    First::new()
        .with_present(true)
        .with_write(true)
        .with_user(true)
        .with_accessed(matches!(index % 4, 1 | 2))
        .with_dirty(matches!(index % 4, 1 | 3))
        .with_page(page(ROM_TARGETS) + index)
        .into()
}

/// The ROM: a processor that starts in it halts; nothing else is there but a table.
pub fn rom() -> Vec<u8> {
    const HALT: u8 = 0xf4;
    const RESET_VECTOR: usize = 0xfff0;
    let mut image = vec![HALT; (ROM.end - ROM.start) as usize];
    // cli; hlt; jmp to the hlt
    image[RESET_VECTOR..RESET_VECTOR + 4].copy_from_slice(&[0xfa, HALT, 0xeb, 0xfd]);
    let table = (ROM_TABLE - ROM.start) as usize;
    for (index, bytes) in (0..512).zip(image[table..table + 0x1000].chunks_mut(8)) {
        bytes.copy_from_slice(&rom_entry(index).to_le_bytes());
    }
    image
}
