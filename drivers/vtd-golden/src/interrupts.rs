//! Interrupt remapping entries, and requests that name them.

use crate::source::{freebsd, linux_in, openvmm, qemu_in, xen, xen_in};

vectors! {
    RemappedInterrupt "§9.9" [linux_in("dmar.h", "struct irte"), xen("struct iremap_entry, remap")] {
        "absent": [] => [0, 0];
        "vector 51h to APIC 3": [P = 1, V = 0x51, DST = 0x300] => [0x0000_0300_0051_0001, 0];
        "to a 32-bit APIC id": [P = 1, V = 0x51, DST = 0x0123_4567] => [0x0123_4567_0051_0001, 0];
        "level, logical, hint, lowest priority":
            [P = 1, DM = 1, RH = 1, TM = 1, DLM = 1, V = 0x31, DST = 0xa00]
            => [0x0000_0a00_0031_003d, 0];
        "NMI, silent": [P = 1, FPD = 1, DLM = 4, DST = 0x100] => [0x0000_0100_0000_0083, 0];
        "from F0:1F.7 only": [P = 1, V = 0x51, DST = 0x300, SID = 0xf0ff, SVT = 1]
            => [0x0000_0300_0051_0001, 0x0004_f0ff];
        "from any function of 00:04": [P = 1, V = 0x51, DST = 0x300, SID = 0x20, SQ = 3, SVT = 1]
            => [0x0000_0300_0051_0001, 0x0007_0020];
        "from buses 2 to 5": [P = 1, V = 0x51, DST = 0x300, SID = 0x0205, SVT = 2]
            => [0x0000_0300_0051_0001, 0x0008_0205];
    }
    PostedInterrupt "§9.10" [linux_in("dmar.h", "struct irte, pda_l, pda_h"), xen("struct iremap_entry, post")] {
        "vector 55h, urgent, from 00:02.0":
            [P = 1, URG = 1, IM = 1, V = 0x55, PDA = 0x1_abcd_ef40, SID = 0x10, SVT = 1]
            => [0xabcd_ef40_0055_c001, 0x0000_0001_0004_0010];
        "not urgent": [P = 1, IM = 1, V = 0x55, PDA = 0xabcd_ef40, SID = 0x10, SVT = 1]
            => [0xabcd_ef40_0055_8001, 0x0004_0010];
    }
    PostedDescriptor "§9.11" [linux_in("posted_intr.h", "struct pi_desc"), xen_in("vmcs.h", "struct pi_desc")] {
        "notifies APIC 7 by vector F2h": [NV = 0xf2, NDST = 0x700] => [0x0000_0700_00f2_0000];
        "outstanding, suppressed, a 32-bit APIC id":
            [ON = 1, SN = 1, NV = 0x31, NDST = 0x0123_4567] => [0x0123_4567_0031_0003];
    }
    RemappableAddress "§5.1.2.2" [qemu_in("intel_iommu.h", "union VTD_IR_MSIAddress"), linux_in("irq_remapping.c", "intel_ir_compose_msi_msg")] {
        "handle 7, subhandles": [HANDLE = 7, SHV = 1] => [0xfee0_00f8];
        "handle 8001h, subhandles": [HANDLE = 0x8001, SHV = 1] => [0xfee0_003c];
        "handle 3": [HANDLE = 3] => [0xfee0_0070];
    }
    IoapicEntry "§5.1.5.1" [xen_in("intremap.c", "struct IO_APIC_route_remap_entry"), freebsd("IOAPIC remappable RTE")] {
        "index 8007h, vector 51h": [V = 0x51, INDEX = 0x8007] => [0x000f_0000_0000_0851];
        "index 0, masked, level, active low":
            [MASK = 1, TM = 1, INTPOL = 1] => [0x0001_0000_0001_a000];
    }
    RemappedInterrupt "§9.9" [openvmm("irte.rs", "IrteHi"), xen("struct iremap_entry, sq")] {
        "from functions 0 and 4": [P = 1, V = 0x51, DST = 0x300, SID = 0x20, SQ = 1, SVT = 1]
            => [0x0000_0300_0051_0001, 0x0005_0020];
    }
}
