//! Why a guest was left (APM 2, appendix C).

use bitfield_struct::bitfield;

/// A code, as far as the low 32 bits tell: CPUs differ in how they extend −1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExitCode(pub u32);

#[expect(missing_docs, reason = "named as in the appendix")]
impl ExitCode {
    pub const INTR: Self = Self(0x60);
    pub const NMI: Self = Self(0x61);
    pub const SMI: Self = Self(0x62);
    pub const INIT: Self = Self(0x63);
    pub const VINTR: Self = Self(0x64);
    pub const CPUID: Self = Self(0x72);
    pub const HLT: Self = Self(0x78);
    pub const IOIO: Self = Self(0x7b);
    pub const MSR: Self = Self(0x7c);
    pub const SHUTDOWN: Self = Self(0x7f);
    pub const VMMCALL: Self = Self(0x81);
    pub const INVD: Self = Self(0x76);
    pub const WBINVD: Self = Self(0x89);
    pub const NPF: Self = Self(0x400);
    pub const INVALID: Self = Self(u32::MAX);
}

impl ExitCode {
    /// From the field of the control area.
    pub const fn new(field: u64) -> Self {
        Self(field as u32)
    }

    /// An instruction that was intercepted so that the guest cannot use it.
    pub const fn is_forbidden_instruction(self) -> bool {
        matches!(
            self.0,
            // Debug registers; RDPMC, RSM, INVLPGA; VMRUN, VMLOAD to SKINIT; MONITOR to RDPRU.
            0x20..=0x3f | 0x6f | 0x73 | 0x7a | 0x80 | 0x82..=0x86 | 0x8a..=0x8e
        )
    }
}

/// What a port exit is about: `EXITINFO1` (APM 2, 15.10.2).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PortAccess {
    /// A read.
    pub input: bool,
    __: bool,
    /// A string instruction.
    pub string: bool,
    /// With a repeat prefix.
    pub repeated: bool,
    /// 1 byte.
    pub byte: bool,
    /// 2 bytes.
    pub word: bool,
    /// 4 bytes.
    pub double_word: bool,
    #[bits(9)]
    __: u16,
    /// The port.
    pub port: u16,
    __: u32,
}

impl PortAccess {
    /// Bytes: 1, 2 or 4.
    pub const fn width(self) -> u8 {
        if self.byte() {
            1
        } else if self.word() {
            2
        } else {
            4
        }
    }
}
