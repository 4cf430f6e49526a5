//! What is written into the invalidation queue.

use crate::source::{linux, qemu, xen};

vectors! {
    ContextCacheDescriptor "§6.5.2.1" [qemu("VTD_INV_DESC_CC_*"), xen("cc_inv_dsc")] {
        "global": [TYPE = 1, G = 1] => [0x11, 0];
        "domain 7": [TYPE = 1, G = 2, DID = 7] => [0x0007_0021, 0];
        "device 00:04.0 of domain 7": [TYPE = 1, G = 3, DID = 7, SID = 0x20] => [0x0020_0007_0031, 0];
    }
    IotlbDescriptor "§6.5.2.3" [qemu("VTD_INV_DESC_IOTLB_*"), xen("iotlb_inv_dsc")] {
        "global, drained": [TYPE = 2, G = 1, DW = 1, DR = 1] => [0xd2, 0];
        "domain 1234h, drained": [TYPE = 2, G = 2, DW = 1, DR = 1, DID = 0x1234] => [0x1234_00e2, 0];
        "2 MiB of domain 7, drained": [TYPE = 2, G = 3, DW = 1, DR = 1, DID = 7, AM = 9, ADDR = 0x200]
            => [0x0007_00f2, 0x0020_0009];
        "a page of domain 7, leaves only, drained":
            [TYPE = 2, G = 3, DW = 1, DR = 1, DID = 7, IH = 1, ADDR = 5] => [0x0007_00f2, 0x5040];
    }
    DeviceTlbDescriptor "§6.5.2.5" [linux("QI_DEV_IOTLB_*"), xen("dev_iotlb_inv_dsc")] {
        "a page": [TYPE = 3, SID = 0x0108, ADDR = 5] => [0x0108_0000_0003, 0x5000];
        "8 KiB": [TYPE = 3, SID = 0x20, S = 1, ADDR = 6] => [0x0020_0000_0003, 0x6001];
        "16 KiB": [TYPE = 3, SID = 0x20, S = 1, ADDR = 5] => [0x0020_0000_0003, 0x5001];
        "2 MiB": [TYPE = 3, SID = 0x20, S = 1, ADDR = 0x2ff] => [0x0020_0000_0003, 0x002f_f001];
        "1 GiB": [TYPE = 3, SID = 0x20, S = 1, ADDR = 0x5_ffff] => [0x0020_0000_0003, 0x5fff_f001];
        "everything": [TYPE = 3, SID = 0x20, S = 1, ADDR = 0x7_ffff_ffff_ffff]
            => [0x0020_0000_0003, 0x7fff_ffff_ffff_f001];
    }
    DeviceTlbDescriptor "§6.5.2.5" [linux("QI_DEV_IOTLB_PFSID, QI_DEV_IOTLB_QDEP"), qemu("VTD_INV_DESC_DEVICE_IOTLB_RSVD_LO")] {
        "of a virtual function, 8 at a time": [TYPE = 3, MIP = 8, PFSID = 0x1238, SID = 0x20, ADDR = 5]
            => [0x1230_0020_0008_8003, 0x5000];
    }
    InterruptCacheDescriptor "§6.5.2.8" [qemu("VTDInvDescIEC"), xen("iec_inv_dsc")] {
        "global": [TYPE = 4] => [0x4, 0];
        "4 entries from 10h": [TYPE = 4, G = 1, IM = 2, IIDX = 0x10] => [0x0010_1000_0014, 0];
        "256 entries from 100h": [TYPE = 4, G = 1, IM = 8, IIDX = 0x100] => [0x0100_4000_0014, 0];
    }
    WaitDescriptor "§6.5.2.9" [qemu("VTD_INV_DESC_WAIT_*"), xen("inv_wait_dsc")] {
        "status": [TYPE = 5, SW = 1, DATA = 1, STATUS = 0x18_1000] => [0x0001_0000_0025, 0x0018_1000];
        "status and fence": [TYPE = 5, SW = 1, FN = 1, DATA = 1, STATUS = 0x18_1000]
            => [0x0001_0000_0065, 0x0018_1000];
    }
    WaitDescriptor "§6.5.2.9" [linux("QI_IWD_*"), xen("inv_wait_dsc")] {
        "the highest status word":
            [TYPE = 5, SW = 1, FN = 1, DATA = 0xffff_ffff, STATUS = 0x3fff_ffff_fffc]
            => [0xffff_ffff_0000_0065, 0x3fff_ffff_fffc];
    }
    WaitDescriptor "§6.5.2.9" [linux("QI_IWD_PRQ_DRAIN"), qemu("VTD_INV_DESC_WAIT_RSVD_LO")] {
        "page requests drained": [TYPE = 5, SW = 1, FN = 1, PD = 1, DATA = 1, STATUS = 0x18_1000]
            => [0x0001_0000_00e5, 0x0018_1000];
    }
    PasidIotlbDescriptor "§6.5.2.4" [linux("QI_EIOTLB_*"), qemu("VTD_INV_DESC_PIOTLB_*")] {
        "PASID": [TYPE = 6, G = 2, DID = 7, PASID = 0x1_2345] => [0x0001_2345_0007_0026, 0];
        "a page": [TYPE = 6, G = 3, DID = 7, PASID = 0x3_0000, ADDR = 5] => [0x0003_0000_0007_0036, 0x5000];
        "16 KiB, leaves only": [TYPE = 6, G = 3, DID = 7, PASID = 1, AM = 2, IH = 1, ADDR = 4]
            => [0x0000_0001_0007_0036, 0x4042];
    }
    PasidCacheDescriptor "§6.5.2.2" [linux("QI_PC_*"), qemu("VTD_INV_DESC_PASIDC_*")] {
        "global": [TYPE = 7, G = 3] => [0x37, 0];
        "domain 7": [TYPE = 7, DID = 7] => [0x0007_0007, 0];
        "PASID 5 of domain 7": [TYPE = 7, G = 1, DID = 7, PASID = 5] => [0x0000_0005_0007_0017, 0];
    }
    PasidDeviceTlbDescriptor "§6.5.2.6" [linux("QI_DEV_EIOTLB_*"), qemu("VTD_INV_DESC_PASID_DEVICE_IOTLB_*")] {
        "a page": [TYPE = 8, SID = 0x20, PASID = 0x1_2345, ADDR = 5] => [0x0001_2345_0020_0008, 0x5000];
        "8 KiB": [TYPE = 8, SID = 0x0108, PASID = 5, S = 1, ADDR = 4] => [0x0000_0005_0108_0008, 0x4800];
        "16 KiB of a virtual function, 8 at a time":
            [TYPE = 8, MIP = 8, PFSID = 0x1238, SID = 0x20, PASID = 1, S = 1, ADDR = 5]
            => [0x1230_0001_0020_8088, 0x5800];
        "everything of all PASIDs": [TYPE = 8, SID = 0x20, GI = 1, S = 1, ADDR = 0x7_ffff_ffff_ffff]
            => [0x0020_0008, 0x7fff_ffff_ffff_f801];
    }
    PageGroupResponse "§7.6.1" [linux("QI_PGRP_*"), qemu("VTD_INV_DESC_PGRESP_*")] {
        "success, with PASID": [TYPE = 9, PP = 1, RID = 0x20, PASID = 0x1_2345, PRGI = 0x1ff]
            => [0x0001_2345_0020_0019, 0xff8];
        "invalid request": [TYPE = 9, PP = 1, RC = 1, RID = 0x0108, PASID = 5, PRGI = 5]
            => [0x0000_0005_0108_1019, 0x28];
        "failure, without PASID": [TYPE = 9, RC = 15, RID = 0x20, PRGI = 1] => [0x0020_f009, 0x8];
    }
}
