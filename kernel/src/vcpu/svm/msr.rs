//! Model-specific registers of a guest.
//!
//! Those that the CPU switches with the guest (VMLOAD, VMSAVE) are the guest's own and do not
//! exit. Of the others a guest has EFER and PAT, within limits; all else is #GP.

use super::spec::SaveArea;

/// Registers that are switched with the guest.
pub(super) const OWN: [u32; 10] = [
    SYSENTER_CS,
    SYSENTER_CS + 1,
    SYSENTER_CS + 2,
    STAR,
    STAR + 1,
    STAR + 2,
    STAR + 3,
    FS_BASE,
    FS_BASE + 1,
    FS_BASE + 2,
];

const SYSENTER_CS: u32 = 0x174;
const STAR: u32 = 0xc000_0081;
const FS_BASE: u32 = 0xc000_0100;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;

const EFER_SYSCALL: u64 = 1 << 0;
const EFER_LONG_ENABLE: u64 = 1 << 8;
const EFER_NO_EXECUTE: u64 = 1 << 11;
/// SVM is on underneath, which VMRUN demands and a guest does not see.
pub(super) const EFER_SVM: u64 = 1 << 12;
/// What a guest may change.
const EFER_GUEST: u64 = EFER_SYSCALL | EFER_LONG_ENABLE | EFER_NO_EXECUTE;

/// The register is not there, or not for this value: #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GeneralProtection;

pub(super) fn read(save: &SaveArea, register: u32) -> Result<u64, GeneralProtection> {
    match register {
        EFER => Ok(save.efer & !EFER_SVM),
        PAT => Ok(save.pat),
        _ => Err(GeneralProtection),
    }
}

pub(super) fn write(
    save: &mut SaveArea,
    register: u32,
    value: u64,
) -> Result<(), GeneralProtection> {
    match register {
        // The active bit, LMA, cannot be written; a guest may write back what it read.
        EFER if value & !(EFER_GUEST | 1 << 10) == 0 => {
            save.efer = save.efer & !EFER_GUEST | value & EFER_GUEST;
            Ok(())
        }
        PAT if is_pat(value) => {
            save.pat = value;
            Ok(())
        }
        _ => Err(GeneralProtection),
    }
}

/// Memory types are 0, 1, and 4 to 7.
fn is_pat(value: u64) -> bool {
    let mut types = value.to_le_bytes().into_iter();
    types.all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

/// Where the two permission bits of a register lie in the map: bit number of the read
/// permission. `None` for registers that have none and always exit.
pub(super) fn permission_bit(register: u32) -> Option<usize> {
    let (first, block) = match register {
        0..=0x1fff => (0, 0),
        0xc000_0000..=0xc000_1fff => (0xc000_0000, 0x800),
        0xc001_0000..=0xc001_1fff => (0xc001_0000, 0x1000),
        _ => return None,
    };
    Some(block * 8 + (register - first) as usize * 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vcpu::svm::state::zeroed_vmcb;

    #[test]
    fn a_guest_can_neither_see_nor_clear_svm() {
        let mut vmcb = zeroed_vmcb();
        vmcb.save.efer = EFER_SVM | EFER_LONG_ENABLE | 1 << 10;
        let seen = read(&vmcb.save, EFER).unwrap();
        assert_eq!(seen & EFER_SVM, 0);
        write(&mut vmcb.save, EFER, seen | EFER_NO_EXECUTE).unwrap();
        assert_ne!(vmcb.save.efer & EFER_SVM, 0);
        assert_ne!(vmcb.save.efer & EFER_NO_EXECUTE, 0);
        assert_eq!(
            write(&mut vmcb.save, EFER, seen | EFER_SVM),
            Err(GeneralProtection)
        );
    }

    #[test]
    fn an_unknown_memory_type_is_refused() {
        let mut vmcb = zeroed_vmcb();
        assert_eq!(write(&mut vmcb.save, PAT, 0x0007_0406_0007_0406), Ok(()));
        assert_eq!(read(&vmcb.save, PAT), Ok(0x0007_0406_0007_0406));
        let refused = write(&mut vmcb.save, PAT, 0x0007_0406_0007_0402);
        assert_eq!(refused, Err(GeneralProtection));
    }

    #[test]
    fn the_host_s_registers_are_not_there() {
        let vmcb = zeroed_vmcb();
        for register in [0x1b, 0x10, 0x802, 0xc001_0114, 0xc001_0117] {
            assert_eq!(read(&vmcb.save, register), Err(GeneralProtection));
        }
    }

    #[test]
    fn permission_bits_lie_as_the_manual_says() {
        assert_eq!(permission_bit(0), Some(0));
        assert_eq!(permission_bit(0x1fff), Some(0x7ff * 8 + 6));
        assert_eq!(permission_bit(0xc000_0080), Some(0x800 * 8 + 0x100));
        assert_eq!(permission_bit(0xc001_0000), Some(0x1000 * 8));
        assert_eq!(permission_bit(0x4000_0000), None);
    }
}
