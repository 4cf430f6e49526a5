//! Root, context and PASID entries.

use crate::source::{linux, linux_in, openvmm, qemu, xen};

vectors! {
    Root "§9.1, §9.2" [qemu("VTD_ROOT_ENTRY_*"), xen("struct root_entry")] {
        "absent": [] => [0];
        "present": [P = 1, CTP = 0x101] => [0x0010_1001];
        "the highest table of 46 bits": [P = 1, CTP = 0x3_ffff_ffff] => [0x3fff_ffff_f001];
    }
    LegacyContext "§9.3" [qemu("VTD_CONTEXT_ENTRY_*"), xen("struct context_entry")] {
        "4 levels, domain 7": [P = 1, SSPTPTR = 0x110, AW = 2, DID = 7] => [0x0011_0001, 0x0702];
        "3 levels": [P = 1, SSPTPTR = 0x110, AW = 1, DID = 0x1234] => [0x0011_0001, 0x0012_3401];
        "with Device-TLB, the last domain": [P = 1, TT = 1, SSPTPTR = 0x110, AW = 2, DID = 0xffff]
            => [0x0011_0005, 0x00ff_ff02];
        "pass-through": [P = 1, TT = 2, AW = 2, DID = 1] => [0x0000_0009, 0x0102];
        "silent": [P = 1, FPD = 1, SSPTPTR = 0x110, AW = 2, DID = 7] => [0x0011_0003, 0x0702];
    }
    LegacyContext "§9.3" [openvmm("root_context.rs", "ContextEntryHi"), xen("agaw_to_level")] {
        "5 levels": [P = 1, SSPTPTR = 0x110, AW = 3, DID = 7] => [0x0011_0001, 0x0703];
    }
    ScalableContext "§9.4" [qemu("VTD_SM_CONTEXT_ENTRY_*"), linux_in("pasid.h", "get_pasid_dir_size")] {
        "128 directory entries": [P = 1, PASIDDIRPTR = 0x55] => [0x0005_5001, 0];
        "all of 20 bits": [P = 1, PDTS = 7, PASIDDIRPTR = 0x55] => [0x0005_5e01, 0];
        "requests without PASID use 0xabcde": [P = 1, PASIDDIRPTR = 0x55, RID_PASID = 0xabcde]
            => [0x0005_5001, 0x000a_bcde];
    }
    ScalableContext "§9.4" [linux_in("pasid.c", "context_set_sm_*, context_set_pasid"), qemu("VTD_SM_CONTEXT_ENTRY_RSVD_*, VTD_SM_CONTEXT_ENTRY_PRE")] {
        "PASIDs, Device-TLB, page requests":
            [P = 1, DTE = 1, PASIDE = 1, PRE = 1, PASIDDIRPTR = 0x55] => [0x0005_501d, 0];
        "silent, privileged":
            [P = 1, FPD = 1, PASIDDIRPTR = 0x55, RID_PRIV = 1] => [0x0005_5003, 0x0010_0000];
    }
    PasidDirectory "§9.5" [qemu("VTD_PASID_DIR_*"), linux_in("pasid.h", "get_pasid_table_from_pde")] {
        "absent": [] => [0];
        "present": [P = 1, SMPTBLPTR = 0x77] => [0x0007_7001];
        "silent": [P = 1, FPD = 1, SMPTBLPTR = 0x77] => [0x0007_7003];
    }
    Pasid "§9.6" [qemu("VTD_SM_PASID_ENTRY_*"), linux_in("pasid.h", "pasid_set_*")] {
        "second stage, 4 levels": [P = 1, AW = 2, PGTT = 2, SSPTPTR = 0x110, DID = 0x1234]
            => [0x0011_0089, 0x1234, 0];
        "second stage, 3 levels": [P = 1, AW = 1, PGTT = 2, SSPTPTR = 0x110, DID = 9]
            => [0x0011_0085, 9, 0];
        "first stage, 4 levels": [P = 1, PGTT = 1, DID = 9, FSPTPTR = 0x220]
            => [0x41, 9, 0x0022_0000];
        "first stage, 5 levels": [P = 1, PGTT = 1, DID = 9, FSPM = 1, FSPTPTR = 0x220]
            => [0x41, 9, 0x0022_0004];
        "nested": [P = 1, AW = 2, PGTT = 3, SSPTPTR = 0x110, DID = 9, FSPTPTR = 0x330]
            => [0x0011_00c9, 9, 0x0033_0000];
        "pass-through": [P = 1, PGTT = 4, DID = 9] => [0x101, 9, 0];
        "silent": [P = 1, FPD = 1, PGTT = 4, DID = 9] => [0x103, 9, 0];
    }
    Pasid "§9.6" [linux_in("pasid.h", "pasid_set_page_snoop, pasid_set_pgsnp"), linux("ecap_smpwc")] {
        "walks and pages snoop": [P = 1, AW = 2, PGTT = 2, SSPTPTR = 0x110, DID = 7, PWSNP = 1, PGSNP = 1]
            => [0x0011_0089, 0x0180_0007, 0];
    }
}
