//! What hardware writes: fault records and page requests.

use crate::source::{linux, linux_in, openvmm, qemu, xen};

vectors! {
    FaultRecord "§11.4.7.6" [qemu("VTD_FRCD_*"), xen("dma_frcd_*")] {
        "a read of a page without read permission": [F = 1, T1 = 1, FR = 6, SID = 0x20, FI = 0x1234_5000]
            => [0x1234_5000, 0xc000_0006_0000_0020];
        "a write to an absent context": [F = 1, FR = 2, SID = 0x0108, FI = 0xffff_f000]
            => [0xffff_f000, 0x8000_0002_0000_0108];
        "an interrupt, index 8001h": [F = 1, FR = 0x22, SID = 0x20, FI = 0x8001_0000_0000_0000]
            => [0x8001_0000_0000_0000, 0x8000_0022_0000_0020];
    }
    FaultRecord "§11.4.7.6" [linux("dma_frcd_pasid_value, dma_frcd_pasid_present"), openvmm("registers.rs", "FrcdHi")] {
        "a read with PASID 12345h": [F = 1, T1 = 1, FR = 0x71, SID = 0x20, PP = 1, PV = 0x1_2345, FI = 0x7fff_0000_1000]
            => [0x7fff_0000_1000, 0xc123_4571_8000_0020];
    }
    PageRequest "§7.4.1.1" [linux("decode_prq_descriptor"), qemu("VTD_PRD_*")] {
        "a read, the last of group 9, privileged, PASID 5":
            [TYPE = 1, PASID_PRESENT = 1, RID = 0x0108, PASID = 5, PRIV = 1, RD = 1, LPIG = 1, PRGI = 9, ADDR = 0x7_fff1_2345]
            => [0x0020_0005_0108_0101, 0x7fff_1234_504d];
        "a write without PASID, not the last":
            [TYPE = 1, RID = 0x20, WR = 1, PRGI = 0x1ff, ADDR = 5]
            => [0x0020_0001, 0x5ffa];
    }
    PageRequest "§7.4.1.1" [linux_in("prq.c", "struct page_req_dsc"), qemu("VTD_PRD_*")] {
        "a read that would execute":
            [TYPE = 1, PASID_PRESENT = 1, RID = 0x20, PASID = 0xf_ffff, EXE = 1, RD = 1, LPIG = 1, ADDR = 5]
            => [0x001f_ffff_0020_0101, 0x5005];
    }
}
