//! What a guest starts with, and what it is left for.

use super::msr;
use super::spec::{
    Instructions1, Instructions2, InterruptControl, NestedControl, SegmentRegister, Vmcb,
};
use crate::vm::Entry;
use core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::Hpa;
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};

/// The value of power-on.
const PAT: u64 = 0x0007_0406_0007_0406;
/// RFLAGS: the bit that is always one; interrupts off.
const RFLAGS: u64 = 1 << 1;
/// DR6 and DR7 of power-on.
const DR6: u64 = 0xffff_0ff0;
const DR7: u64 = 0x400;

/// What a VMCB names: physical addresses, and the guest's number.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Port permission map.
    pub io_permissions: Hpa,
    /// MSR permission map.
    pub msr_permissions: Hpa,
    /// Root of the nested page tables.
    pub nested_root: Hpa,
    /// By which the CPU tells translations of guests apart: any but 0, which is the host's.
    pub asid: u32,
}

/// Fills a zeroed VMCB for a guest in 64-bit mode.
pub fn prepare(vmcb: &mut Vmcb, entry: Entry, addresses: Addresses) {
    prepare_control(vmcb, addresses);
    let save = &mut vmcb.save;
    let data = SegmentRegister::data(0x10);
    (save.es, save.ss, save.ds, save.fs, save.gs) = (data, data, data, data, data);
    save.cs = SegmentRegister::code64(0x08);
    save.tr = SegmentRegister::task();
    save.ldtr = SegmentRegister::no_local_table();
    save.efer = msr::EFER_SVM | (EferFlags::LONG_MODE_ENABLE | EferFlags::LONG_MODE_ACTIVE).bits();
    save.cr0 = (Cr0Flags::PROTECTED_MODE_ENABLE
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::PAGING)
        .bits();
    save.cr3 = entry.cr3.as_u64();
    save.cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits();
    (save.dr6, save.dr7) = (DR6, DR7);
    save.rflags = RFLAGS;
    save.rip = entry.rip.as_u64();
    save.pat = PAT;
}

fn prepare_control(vmcb: &mut Vmcb, addresses: Addresses) {
    let control = &mut vmcb.control;
    control.dr_reads = u16::MAX;
    control.dr_writes = u16::MAX;
    control.instructions1 = Instructions1::new()
        .with_intr(true)
        .with_nmi(true)
        .with_smi(true)
        .with_init(true)
        .with_rdpmc(true)
        .with_cpuid(true)
        .with_rsm(true)
        .with_invd(true)
        .with_hlt(true)
        .with_invlpga(true)
        .with_ioio(true)
        .with_msr(true)
        .with_task_switch(true)
        .with_ferr_freeze(true)
        .with_shutdown(true);
    control.instructions2 = Instructions2::new()
        .with_vmrun(true)
        .with_vmmcall(true)
        .with_vmload(true)
        .with_vmsave(true)
        .with_stgi(true)
        .with_clgi(true)
        .with_skinit(true)
        .with_wbinvd(true)
        .with_monitor(true)
        .with_mwait(true)
        .with_mwait_armed(true)
        .with_xsetbv(true)
        .with_rdpru(true);
    control.io_permissions = addresses.io_permissions.as_u64();
    control.msr_permissions = addresses.msr_permissions.as_u64();
    control.asid = addresses.asid;
    control.interrupts = InterruptControl::new().with_masking(true);
    control.nested = NestedControl::new().with_enable(true);
    control.nested_cr3 = addresses.nested_root.as_u64();
}

/// Makes every access exit, but those to registers that are switched with the guest.
pub fn fill_permissions(io: &[AtomicU64], msrs: &[AtomicU64]) {
    for word in io.iter().chain(msrs) {
        word.store(u64::MAX, Ordering::Relaxed);
    }
    for register in msr::OWN {
        if let Some(bit) = msr::permission_bit(register)
            && let Some(word) = msrs.get(bit / 64)
        {
            word.fetch_and(!(0b11 << (bit % 64)), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
pub(super) fn zeroed_vmcb() -> std::boxed::Box<Vmcb> {
    // SAFETY: every field of a VMCB is an integer, or an enumeration that has 0.
    unsafe { std::boxed::Box::<Vmcb>::new_zeroed().assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu_core::Gpa;

    fn vmcb() -> std::boxed::Box<Vmcb> {
        let mut vmcb = zeroed_vmcb();
        let entry = Entry {
            rip: Gpa::new(0x1_0000),
            cr3: Gpa::new(0x2_0000),
            start: Gpa::new(0x3_0000),
        };
        let addresses = Addresses {
            io_permissions: Hpa::new(0x1000),
            msr_permissions: Hpa::new(0x5000),
            nested_root: Hpa::new(0x7000),
            asid: 3,
        };
        prepare(&mut vmcb, entry, addresses);
        vmcb
    }

    #[test]
    fn all_that_could_reach_the_host_is_intercepted() {
        let vmcb = vmcb();
        // Bits 0 to 3 (interrupts), 15, 18, 19, 22, 24, 26 to 31.
        let wanted = 0b1111 | 1 << 15 | 1 << 18 | 1 << 19 | 1 << 22 | 1 << 24 | 0b11_1111 << 26;
        assert_eq!(vmcb.control.instructions1.into_bits(), wanted);
        // VMRUN to SKINIT, WBINVD to RDPRU.
        let wanted = 0b111_1111 | 0b11_1111 << 9;
        assert_eq!(vmcb.control.instructions2.into_bits(), wanted);
        assert_eq!(vmcb.control.dr_writes, u16::MAX);
    }

    #[test]
    fn the_guest_starts_in_64_bit_mode_behind_nested_paging() {
        let vmcb = vmcb();
        assert_eq!(vmcb.save.efer, 0x1500);
        assert_eq!(vmcb.save.cr0 & 0x8000_0001, 0x8000_0001);
        assert_eq!(vmcb.save.cs.attributes.into_bits(), 0xa9b);
        assert_eq!(vmcb.save.ss.attributes.into_bits(), 0xc93);
        assert!(vmcb.control.nested.enable());
        assert!(vmcb.control.interrupts.masking());
        assert_eq!(vmcb.control.asid, 3);
    }

    #[test]
    fn only_registers_that_are_switched_do_not_exit() {
        let io = [const { AtomicU64::new(0) }; 0x3000 / 8];
        let msrs = [const { AtomicU64::new(0) }; 0x2000 / 8];
        fill_permissions(&io, &msrs);
        assert!(
            io.iter()
                .all(|word| word.load(Ordering::Relaxed) == u64::MAX)
        );
        let zeroes: u32 = msrs
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_zeros())
            .sum();
        assert_eq!(zeroes as usize, 2 * msr::OWN.len());
        let exits = |register| {
            let bit = msr::permission_bit(register).unwrap();
            msrs[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 0b11
        };
        assert_eq!(exits(0xc000_0101), 0);
        assert_eq!(exits(0xc000_0080), 0b11);
        assert_eq!(exits(0x1b), 0b11);
    }
}
