//! Registers.

use crate::source::{
    datasheet, kernel_log, linux, linux_in, openvmm, qemu, running_qemu, virtualbox, xen,
};

vectors! {
    Ver "§11.4.1" [linux("DMAR_VER_MAJOR, DMAR_VER_MINOR"), virtualbox("VTD_BF_VER_REG_*")] {
        "version 1.0": [MAX = 1] => [0x10];
        "version 5.3": [MAX = 5, MIN = 3] => [0x53];
    }
    Cap "§11.4.2" [running_qemu("CAP"), linux("cap_*")] {
        "QEMU, 48 bits":
            [ND = 6, SAGAW = 6, MGAW = 47, FRO = 0x22, SSLPS = 3, PSI = 1, MAMV = 18, DWD = 1, DRD = 1]
            => [0x00d2_008c_222f_0606];
        "QEMU, 48 bits, caching mode":
            [ND = 6, CM = 1, SAGAW = 6, MGAW = 47, FRO = 0x22, SSLPS = 3, PSI = 1, MAMV = 18, DWD = 1, DRD = 1]
            => [0x00d2_008c_222f_0686];
        "QEMU 10.0, first stage":
            [ND = 6, SAGAW = 6, MGAW = 47, FRO = 0x22, SSLPS = 3, PSI = 1, MAMV = 18, DWD = 1, DRD = 1, FS1GP = 1]
            => [0x01d2_008c_222f_0606];
        "QEMU 11.1, first stage":
            [ND = 6, SAGAW = 6, MGAW = 47, FRO = 0x22, SSLPS = 3, PSI = 1, MAMV = 18, DWD = 1, DRD = 1, FS1GP = 1, ESRTPS = 1]
            => [0x81d2_008c_222f_0606];
    }
    Cap "§11.4.2" [kernel_log("Skylake to Raptor Lake clients, dmar1"), linux("cap_*")] {
        "client, not for graphics":
            [ND = 2, PLMR = 1, PHMR = 1, SAGAW = 4, MGAW = 38, ZLR = 1, FRO = 0x40, SSLPS = 3, PSI = 1, MAMV = 18, DWD = 1, DRD = 1]
            => [0x00d2_008c_4066_0462];
    }
    Cap "§11.4.2" [kernel_log("Cascade Lake server"), linux("cap_*")] {
        "server, posted interrupts":
            [ND = 6, PLMR = 1, PHMR = 1, SAGAW = 4, MGAW = 47, ZLR = 1, FRO = 0x10, SSLPS = 3, PSI = 1, NFR = 7, MAMV = 18, DWD = 1, DRD = 1, PI = 1]
            => [0x08d2_078c_106f_0466];
    }
    Ecap "§11.4.3" [running_qemu("ECAP"), linux("ecap_*")] {
        "QEMU, legacy":
            [QI = 1, IR = 1, PT = 1, IRO = 0xf, MHMV = 15] => [0xf0_0f4a];
        "QEMU, x2APIC":
            [QI = 1, IR = 1, EIM = 1, PT = 1, IRO = 0xf, MHMV = 15] => [0xf0_0f5a];
        "QEMU, snoop control":
            [QI = 1, IR = 1, PT = 1, SC = 1, IRO = 0xf, MHMV = 15] => [0xf0_0fca];
        "QEMU, no interrupt remapping":
            [QI = 1, PT = 1, IRO = 0xf] => [0x0f42];
        "QEMU, scalable, second stage":
            [QI = 1, IR = 1, PT = 1, IRO = 0xf, MHMV = 15, SRS = 1, SMTS = 1, SSTS = 1]
            => [0x4800_80f0_0f4a];
        "QEMU 10.0, first stage":
            [QI = 1, IR = 1, PT = 1, IRO = 0xf, MHMV = 15, SMTS = 1, FSTS = 1]
            => [0x8800_00f0_0f4a];
        "QEMU 11.1, first stage, PASIDs, page requests":
            [QI = 1, DT = 1, IR = 1, PT = 1, IRO = 0xf, MHMV = 15, PRS = 1, NWFS = 1, PSS = 19, PASID = 1, PDS = 1, SMTS = 1, FSTS = 1]
            => [0x8d9a_20f0_0f4e];
    }
    Ecap "§11.4.3" [kernel_log("Skylake to Raptor Lake clients, dmar1"), linux("ecap_*")] {
        "client, not for graphics":
            [QI = 1, IR = 1, EIM = 1, PT = 1, SC = 1, IRO = 0x50, MHMV = 15] => [0xf0_50da];
    }
    Ecap "§11.4.3" [kernel_log("Cascade Lake server"), linux("ecap_*")] {
        "server":
            [C = 1, QI = 1, DT = 1, IR = 1, EIM = 1, PT = 1, SC = 1, IRO = 0x20, MHMV = 15] => [0xf0_20df];
    }
    Gcmd "§11.4.4.1" [qemu("VTD_GCMD_*"), linux("DMA_GCMD_*")] {
        "translation": [TE = 1] => [0x8000_0000];
        "root table": [SRTP = 1] => [0x4000_0000];
        "write buffer": [WBF = 1] => [0x0800_0000];
        "queue": [QIE = 1] => [0x0400_0000];
        "interrupt remapping": [IRE = 1] => [0x0200_0000];
        "interrupt table": [SIRTP = 1] => [0x0100_0000];
        "compatibility format": [CFI = 1] => [0x0080_0000];
    }
    Gsts "§11.4.4.2" [qemu("VTD_GSTS_*"), linux("DMA_GSTS_*")] {
        "translation": [TES = 1] => [0x8000_0000];
        "root table": [RTPS = 1] => [0x4000_0000];
        "write buffer": [WBFS = 1] => [0x0800_0000];
        "queue": [QIES = 1] => [0x0400_0000];
        "interrupt remapping": [IRES = 1] => [0x0200_0000];
        "interrupt table": [IRTPS = 1] => [0x0100_0000];
        "compatibility format": [CFIS = 1] => [0x0080_0000];
    }
    Rtaddr "§11.4.5" [qemu("VTD_RTADDR_SMT"), linux("DMA_RTADDR_SMT")] {
        "legacy": [RTA = 0x100] => [0x0010_0000];
        "scalable": [TTM = 1, RTA = 0x100] => [0x0010_0400];
    }
    Rtaddr "§11.4.5" [openvmm("registers.rs", "RtaddrReg"), datasheet("RTADDR")] {
        "abort-DMA": [TTM = 3] => [0x0000_0c00];
    }
    Ccmd "§11.4.6.1" [qemu("VTD_CCMD_*"), linux("DMA_CCMD_*")] {
        "global": [CIRG = 1, ICC = 1] => [0xa000_0000_0000_0000];
        "domain": [DID = 7, CIRG = 2, ICC = 1] => [0xc000_0000_0000_0007];
        "device, three function bits masked": [DID = 7, SID = 0x20, FM = 3, CIRG = 3, ICC = 1]
            => [0xe000_0003_0020_0007];
    }
    Iotlb "§11.4.6.3" [qemu("VTD_TLB_*"), linux("DMA_TLB_*")] {
        "global, drained": [DW = 1, DR = 1, IIRG = 1, IVT = 1] => [0x9003_0000_0000_0000];
        "domain": [DID = 7, IIRG = 2, IVT = 1] => [0xa000_0007_0000_0000];
        "pages": [DID = 0xffff, DR = 1, IIRG = 3, IVT = 1] => [0xb002_ffff_0000_0000];
    }
    Iva "§11.4.6.4" [qemu("VTD_IVA_*"), linux("DMA_TLB_IH_NONLEAF")] {
        "2 MiB, leaves only": [AM = 9, IH = 1, ADDR = 0x200] => [0x0020_0049];
    }
    Fsts "§11.4.7.1" [qemu("VTD_FSTS_*"), linux("DMA_FSTS_*")] {
        "overflow": [PFO = 1] => [0x0001];
        "pending, record 255": [PPF = 1, FRI = 0xff] => [0xff02];
        "queue": [IQE = 1] => [0x0010];
    }
    Fsts "§11.4.7.1" [linux("DMA_FSTS_*"), xen("DMA_FSTS_*")] {
        "completion": [ICE = 1] => [0x0020];
        "time-out": [ITE = 1] => [0x0040];
    }
    Fectl "§11.4.7.2" [qemu("VTD_FECTL_*"), openvmm("registers.rs", "FectlReg")] {
        "masked": [IM = 1] => [0x8000_0000];
        "pending": [IP = 1] => [0x4000_0000];
    }
    Pmen "§11.4.8.1" [linux("DMA_PMEN_*"), xen("DMA_PMEN_*")] {
        "on": [EPM = 1, PRS = 1] => [0x8000_0001];
    }
    Iqh "§11.4.9.1" [qemu("VTD_IQH_QH_*"), linux("DMAR_IQ_SHIFT")] {
        "the fifth": [QH = 4] => [0x40];
    }
    Iqt "§11.4.9.2" [qemu("VTD_IQT_QT"), linux("DMAR_IQ_SHIFT")] {
        "the last": [QT = 0x7fff] => [0x0007_fff0];
    }
    Iqa "§11.4.9.3" [qemu("VTD_IQA_*"), linux_in("dmar.c", "__dmar_enable_qi")] {
        "128-bit, one page": [IQA = 0x180] => [0x0018_0000];
        "256-bit, 64 pages": [QS = 6, DW = 1, IQA = 0x180] => [0x0018_0806];
    }
    Ics "§11.4.9.4" [qemu("VTD_ICS_IWC"), virtualbox("VTD_BF_ICS_REG_*")] {
        "a wait is complete": [IWC = 1] => [0x1];
    }
    Iectl "§11.4.9.5" [qemu("VTD_IECTL_*"), virtualbox("VTD_BF_IECTL_REG_*")] {
        "masked": [IM = 1] => [0x8000_0000];
        "pending": [IP = 1] => [0x4000_0000];
    }
    Iqercd "§11.4.9.9" [linux("DMAR_IQER_REG_*"), datasheet("IQERCD")] {
        "reserved field": [IQEI = 4] => [0x4];
        "time-out": [ITESID = 0x20] => [0x0000_0020_0000_0000];
        "completion": [ICESID = 0x0108] => [0x0108_0000_0000_0000];
    }
    Irta "§11.4.10" [qemu("VTD_IRTA_*"), xen("IRTA_EIME")] {
        "256 entries": [S = 7, IRTA = 0x200] => [0x0020_0007];
        "65,536 entries, 32-bit APIC ids": [S = 15, EIME = 1, IRTA = 0x200] => [0x0020_080f];
    }
    Pqh "§11.4.11.1" [linux_in("prq.c", "PRQ_RING_MASK"), virtualbox("VTD_BF_PQH_REG_*")] {
        "the second": [PQH = 1] => [0x20];
        "the last of 128 pages": [PQH = 0x3fff] => [0x0007_ffe0];
    }
    Pqt "§11.4.11.2" [linux_in("prq.c", "PRQ_RING_MASK"), virtualbox("VTD_BF_PQT_REG_*")] {
        "the third": [PQT = 2] => [0x40];
        "the last of 128 pages": [PQT = 0x3fff] => [0x0007_ffe0];
    }
    Pqa "§11.4.11.3" [qemu("VTD_PQA_*"), linux("PRQ_ORDER")] {
        "8 pages": [PQS = 3, PQA = 0x300] => [0x0030_0003];
    }
    Prs "§11.4.11.4" [linux("DMA_PRS_*"), qemu("VTD_PR_STATUS_*")] {
        "pending": [PPR = 1] => [0x1];
        "overflow": [PRO = 1] => [0x2];
    }
    Pectl "§11.4.11.5" [qemu("VTD_PR_PECTL_*"), virtualbox("VTD_BF_PECTL_REG_*")] {
        "masked": [IM = 1] => [0x8000_0000];
        "pending": [IP = 1] => [0x4000_0000];
    }
}
