//! Paging entries of both stages.

use crate::source::{linux, linux_in, openvmm, qemu, xen};

vectors! {
    SecondStage "§9.8" [qemu("VTD_SL_*"), xen("struct dma_pte")] {
        "absent": [] => [0];
        "a table": [R = 1, W = 1, ADDR = 0x111] => [0x0011_1003];
        "a page, read only": [R = 1, ADDR = 5, LEVEL = 1] => [0x5001];
        "a page, write only": [W = 1, ADDR = 5, LEVEL = 1] => [0x5002];
        "2 MiB": [R = 1, W = 1, PS = 1, ADDR = 0x200, LEVEL = 2] => [0x0020_0083];
        "1 GiB": [R = 1, W = 1, PS = 1, ADDR = 0x4_0000, LEVEL = 3] => [0x4000_0083];
    }
    SecondStage "§9.8" [linux("DMA_PTE_SNP"), openvmm("pte.rs", "SlPte")] {
        "a page that snoops": [R = 1, W = 1, SNP = 1, ADDR = 5, LEVEL = 1] => [0x5803];
    }
    SecondStage "§9.8, §3.7.2" [linux_in("iommu.h", "DMA_SL_PTE_DIRTY_BIT"), linux_in("generic_pt/fmt/vtdss.h", "VTDSS_FMT_A, VTDSS_FMT_D")] {
        "accessed and dirty": [R = 1, W = 1, A = 1, D = 1, ADDR = 5, LEVEL = 1] => [0x5303];
    }
    FirstStage "§9.7" [linux("DMA_FL_PTE_*"), qemu("VTD_FS_*")] {
        "absent": [] => [0];
        "a table": [P = 1, RW = 1, US = 1, A = 1, ADDR = 0x111] => [0x0011_1027];
        "a page": [P = 1, RW = 1, US = 1, A = 1, D = 1, ADDR = 5, LEVEL = 1] => [0x5067];
        "a page, read only": [P = 1, US = 1, A = 1, ADDR = 5, LEVEL = 1] => [0x5025];
        "a page of the supervisor": [P = 1, RW = 1, A = 1, D = 1, ADDR = 5, LEVEL = 1] => [0x5063];
        "2 MiB": [P = 1, US = 1, A = 1, D = 1, PS = 1, ADDR = 0x200, LEVEL = 2] => [0x0020_00e5];
        "1 GiB": [P = 1, RW = 1, US = 1, A = 1, D = 1, PS = 1, ADDR = 0x4_0000, LEVEL = 3] => [0x4000_00e7];
    }
}
