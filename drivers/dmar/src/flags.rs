//! The flag bytes of the table and of its structures.

use bitflags::bitflags;

bitflags! {
    /// The table's flags (§8.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct DmarFlags: u8 {
        /// The platform supports interrupt remapping.
        const INTR_REMAP = 1 << 0;
        /// Firmware asks not to turn x2APIC mode on. Means something only together with
        /// [`INTR_REMAP`](Self::INTR_REMAP).
        const X2APIC_OPT_OUT = 1 << 1;
        /// Firmware started no DMA but into reserved regions.
        const DMA_CTRL_PLATFORM_OPT_IN = 1 << 2;
    }

    /// Flags of a DRHD structure (§8.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct DrhdFlags: u8 {
        /// The unit remaps every device of its segment that no other unit does.
        const INCLUDE_PCI_ALL = 1 << 0;
    }

    /// Flags of an ATSR structure (§8.5).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AtsrFlags: u8 {
        /// All root ports of the segment support ATS.
        const ALL_PORTS = 1 << 0;
    }

    /// Flags of an SATC structure (§8.8).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SatcFlags: u8 {
        /// The devices do not work without their translation cache.
        const ATC_REQUIRED = 1 << 0;
    }

    /// What firmware says of a device, in the scopes of an SIDP structure (§8.3.1).
    #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
    pub struct DeviceProperties: u8 {
        /// Requests without PASID should not be nested (PGTT 011).
        const REQ_WO_PASID_NESTED_NOTALLOWED = 1 << 0;
        /// PWSNP must be 0 in the PASID entry of requests without PASID.
        const REQ_WO_PASID_PWSNP_NOTALLOWED = 1 << 1;
        /// PGSNP must be 0 there, and SNP in the second-stage leaves that they use.
        const REQ_WO_PASID_PGSNP_NOTALLOWED = 1 << 2;
        /// The device's translation cache was validated as §4.4 demands.
        const ATC_HARDENED = 1 << 3;
        /// The device does not work without its translation cache.
        const ATC_REQUIRED = 1 << 4;
    }
}
