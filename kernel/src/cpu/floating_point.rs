//! Floating-point and vector registers, which the kernel never uses itself, so that they hold
//! what the guest left in them that ran last.
//!
//! No more state than FXSAVE covers can be used: XCR0 is set to x87 and SSE, and guests cannot
//! change it (XSETBV is intercepted).

use core::arch::asm;
use x86_64::registers::control::{Cr4, Cr4Flags};

/// XCR0: x87 and SSE.
const X87_AND_SSE: u32 = 0b11;
/// What a CPU has after power-on (SDM 3A, table 10-1): control word and MXCSR.
const CONTROL_WORD: u16 = 0x037f;
const MXCSR: u32 = 0x1f80;
const MXCSR_AT: usize = 24;

/// The registers of somebody who is not running.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct FloatingPoint([u8; 512]);

impl FloatingPoint {
    /// As after power-on: nothing of anybody else's.
    pub const fn new() -> Self {
        let mut area = [0; 512];
        let control = CONTROL_WORD.to_le_bytes();
        area[0] = control[0];
        area[1] = control[1];
        let mxcsr = MXCSR.to_le_bytes();
        let mut byte = 0;
        while byte < mxcsr.len() {
            area[MXCSR_AT + byte] = mxcsr[byte];
            byte += 1;
        }
        Self(area)
    }

    /// Puts them into this CPU.
    pub fn load(&self) {
        // SAFETY: 512 bytes, aligned to 16, that FXSAVE or `new` wrote: MXCSR has no reserved
        // bit. The kernel uses none of these registers.
        unsafe { asm!("fxrstor64 [{}]", in(reg) &self.0, options(nostack, readonly)) };
    }

    /// Takes them from this CPU.
    pub fn save(&mut self) {
        // SAFETY: 512 bytes, aligned to 16.
        unsafe { asm!("fxsave64 [{}]", in(reg) &mut self.0, options(nostack)) };
    }
}

impl Default for FloatingPoint {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes this CPU's registers those that FXSAVE covers.
pub(super) fn start() {
    let has_xsave = raw_cpuid::CpuId::new()
        .get_feature_info()
        .is_some_and(|features| features.has_xsave());
    // SAFETY: the flags concern these registers only, which the kernel does not use; XSETBV
    // exists where CPUID tells of XSAVE, and every such CPU has both bits.
    unsafe {
        Cr4::update(|flags| flags.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE));
        if has_xsave {
            Cr4::update(|flags| flags.insert(Cr4Flags::OSXSAVE));
            asm!("xsetbv", in("ecx") 0, in("eax") X87_AND_SSE, in("edx") 0, options(nomem, nostack));
            Cr4::update(|flags| flags.remove(Cr4Flags::OSXSAVE));
        }
    }
}
