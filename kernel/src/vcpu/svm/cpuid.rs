//! What a guest sees of the CPU.

/// The four registers that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Registers {
    pub(super) eax: u32,
    pub(super) ebx: u32,
    pub(super) ecx: u32,
    pub(super) edx: u32,
}

/// First leaf of what a hypervisor says of itself.
const HYPERVISOR: u32 = 0x4000_0000;
/// Who we are, as three registers hold it.
const SIGNATURE: [u8; 12] = *b"vt-d vt-d vt";

/// Leaf 1, ECX: MONITOR, VMX, PCID is fine, x2APIC, TSC deadline, XSAVE, OSXSAVE, AVX, FMA,
/// F16C: what is intercepted or not switched.
const LEAF_1_ECX_HIDDEN: u32 =
    1 << 3 | 1 << 5 | 1 << 12 | 1 << 21 | 1 << 24 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29;
/// Leaf 1, ECX: a hypervisor is present.
const LEAF_1_ECX_HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: machine checks, APIC, MTRRs, which a guest has not.
const LEAF_1_EDX_HIDDEN: u32 = 1 << 7 | 1 << 9 | 1 << 12 | 1 << 14;
/// Leaf 8000_0001h, ECX: SVM, extended APIC space, SKINIT, performance counters.
const EXTENDED_ECX_HIDDEN: u32 = 1 << 2 | 1 << 3 | 1 << 12 | 1 << 23 | 1 << 24 | 1 << 28;

/// What a guest gets for a leaf. `host` reads the host's; leaves that are not known to be
/// harmless are empty.
pub(super) fn answer(leaf: u32, subleaf: u32, host: impl Fn(u32, u32) -> Registers) -> Registers {
    let real = || host(leaf, subleaf);
    match leaf {
        0x0 | 0x2 | 0x4 | 0x15 | 0x16 => real(),
        0x1 => Registers {
            ecx: real().ecx & !LEAF_1_ECX_HIDDEN | LEAF_1_ECX_HYPERVISOR,
            edx: real().edx & !LEAF_1_EDX_HIDDEN,
            // Initial APIC id and number of CPUs: one.
            ebx: real().ebx & 0xffff | 1 << 16,
            ..real()
        },
        HYPERVISOR => {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = SIGNATURE;
            Registers {
                eax: HYPERVISOR,
                ebx: u32::from_le_bytes([a, b, c, d]),
                ecx: u32::from_le_bytes([e, f, g, h]),
                edx: u32::from_le_bytes([i, j, k, l]),
            }
        }
        0x8000_0000 | 0x8000_0002..=0x8000_0006 => real(),
        0x8000_0001 => Registers {
            ecx: real().ecx & !EXTENDED_ECX_HIDDEN,
            ..real()
        },
        // The invariant time-stamp counter alone.
        0x8000_0007 => Registers {
            edx: real().edx & 1 << 8,
            ..Registers::default()
        },
        // Address widths alone.
        0x8000_0008 => Registers {
            eax: real().eax & 0xffff,
            ..Registers::default()
        },
        _ => Registers::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_ones(_: u32, _: u32) -> Registers {
        Registers {
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        }
    }

    #[test]
    fn a_guest_sees_neither_svm_nor_vmx() {
        assert_eq!(answer(1, 0, all_ones).ecx & 1 << 5, 0);
        assert_eq!(answer(0x8000_0001, 0, all_ones).ecx & 1 << 2, 0);
        assert_eq!(answer(0x8000_000a, 0, all_ones), Registers::default());
    }

    #[test]
    fn a_guest_knows_that_it_is_one() {
        assert_ne!(answer(1, 0, |_, _| Registers::default()).ecx & 1 << 31, 0);
        let ours = answer(0x4000_0000, 0, all_ones);
        assert_eq!(ours.ebx.to_le_bytes(), *b"vt-d");
    }

    #[test]
    fn a_leaf_that_nobody_knows_is_empty() {
        for leaf in [7, 0xb, 0xd, 0x1f, 0x8000_001f, 0xc000_0000, u32::MAX] {
            assert_eq!(answer(leaf, 0, all_ones), Registers::default());
        }
        assert_ne!(answer(0, 0, all_ones), Registers::default());
    }
}
