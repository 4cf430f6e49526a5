//! DMA and interrupt faults as the remapping hardware reports them.

use crate::{Access, DeviceId, Iova, Nanoseconds, Pasid};
use core::fmt;

/// A fault reason by its number in the specification (§7.1.3, §5.1.4.1; table of
/// reasons in appendix). Numbers that this crate has no name for are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultReason(pub u8);

macro_rules! reasons {
    ($($code:literal $constant:ident $label:literal $text:literal;)*) => {
        impl FaultReason {
            $(
                #[doc = concat!($label, ": ", $text, ".")]
                pub const $constant: Self = Self($code);
            )*

            /// All reasons that have a name.
            pub const NAMED: &[Self] = &[$(Self($code)),*];

            /// The specification's label, such as `SFS.2`.
            pub const fn label(self) -> &'static str {
                match self.0 {
                    $($code => $label,)*
                    _ => "unnamed",
                }
            }

            /// What the hardware found wrong.
            pub const fn text(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "a reason that revision 5.10 of the specification does not name",
                }
            }
        }
    };
}

reasons! {
    0x01 ROOT_NOT_PRESENT "LRT.2" "the root entry is not present";
    0x02 CONTEXT_NOT_PRESENT "LCT.2" "the context entry is not present";
    0x03 CONTEXT_INVALID "LCT.4" "the context entry's width, type or table pointer is not usable";
    0x04 BEYOND_WIDTH "LGN.1" "the address is beyond the translated width";
    0x05 WRITE_DENIED "LGN.2" "a write without write permission";
    0x06 READ_DENIED "LGN.3" "a read without read permission";
    0x07 SECOND_STAGE_TABLE_ERROR "LSS.1" "a second-stage table could not be read";
    0x08 ROOT_TABLE_ERROR "LRT.1" "the root entry could not be read";
    0x09 CONTEXT_TABLE_ERROR "LCT.1" "the context entry could not be read";
    0x0a ROOT_RESERVED "LRT.3" "the root entry has a reserved bit set";
    0x0b CONTEXT_RESERVED "LCT.3" "the context entry has a reserved bit set";
    0x0c SECOND_STAGE_RESERVED "LSS.2" "a second-stage entry has a reserved bit set";
    0x0d REQUEST_TYPE_BLOCKED "LCT.5" "the context entry does not allow translation or translated requests";
    0x0e INTO_INTERRUPT_RANGE "LGN.4" "the translation ends in the interrupt address range";
    0x20 INTERRUPT_REQUEST_RESERVED "IR.20" "the interrupt request has a reserved field set";
    0x21 INTERRUPT_INDEX "IR.21" "the interrupt index is beyond the table";
    0x22 INTERRUPT_ENTRY_NOT_PRESENT "IR.22" "the interrupt remapping entry is not present";
    0x23 INTERRUPT_TABLE_ERROR "IR.23" "the interrupt remapping entry could not be read";
    0x24 INTERRUPT_ENTRY_RESERVED "IR.24" "the interrupt remapping entry has a reserved field set";
    0x25 COMPATIBILITY_BLOCKED "IR.25" "a compatibility-format interrupt is blocked";
    0x26 INTERRUPT_SOURCE "IR.26" "the interrupt came from a source that the entry does not allow";
    0x27 POSTED_DESCRIPTOR_ERROR "IR.27" "the posted-interrupt descriptor could not be accessed";
    0x28 POSTED_DESCRIPTOR_RESERVED "IR.28" "the posted-interrupt descriptor has a reserved field set";
    0x29 NOT_AN_INTERRUPT "IR.29" "a request to the interrupt address range that is no interrupt";
    0x2a EXTENDED_MODE_REQUIRED "IR.2A" "the unit needs extended interrupt mode and it is off";
    0x2b INTERRUPT_REMAPPING_REQUIRED "IR.2B" "the unit needs interrupt remapping and it is off";
    0x30 TABLE_MODE "RTA.1" "the root table address has an unusable mode";
    0x31 PASID_IN_LEGACY_MODE "RTA.2" "a request with PASID in legacy mode";
    0x32 PAGE_REQUEST_IN_LEGACY_MODE "RTA.3" "a page request in legacy mode";
    0x33 ABORT_MODE "RTA.4" "the unit is in abort-DMA mode";
    0x34 EXECUTE_REQUEST "RTA.5" "a request to execute";
    0x38 SCALABLE_ROOT_TABLE_ERROR "SRT.1" "the scalable root entry could not be read";
    0x39 SCALABLE_ROOT_NOT_PRESENT "SRT.2" "the half of the scalable root entry is not present";
    0x3a SCALABLE_ROOT_RESERVED "SRT.3" "the scalable root entry has a reserved bit set";
    0x40 SCALABLE_CONTEXT_TABLE_ERROR "SCT.1" "the scalable context entry could not be read";
    0x41 SCALABLE_CONTEXT_NOT_PRESENT "SCT.2" "the scalable context entry is not present";
    0x42 SCALABLE_CONTEXT_RESERVED "SCT.3" "the scalable context entry has a reserved bit set";
    0x43 SCALABLE_CONTEXT_INVALID "SCT.4" "the scalable context entry contradicts itself";
    0x44 TRANSLATION_REQUEST_BLOCKED "SCT.5" "translation requests are not enabled for the device";
    0x45 PASID_BLOCKED "SCT.6" "requests with PASID are not enabled for the device";
    0x46 PASID_BEYOND_DIRECTORY "SCT.7" "the PASID is beyond the directory";
    0x47 PAGE_REQUEST_BLOCKED "SCT.8" "page requests are not enabled for the device";
    0x48 PASID_IS_RID_PASID "SCT.9" "the request's PASID equals RID_PASID";
    0x49 TRANSLATED_WITH_PASID_BLOCKED "SCT.10" "translated requests with PASID are not enabled";
    0x50 PASID_DIRECTORY_ERROR "SPD.1" "the PASID directory entry could not be read";
    0x51 PASID_DIRECTORY_NOT_PRESENT "SPD.2" "the PASID directory entry is not present";
    0x52 PASID_DIRECTORY_RESERVED "SPD.3" "the PASID directory entry has a reserved bit set";
    0x58 PASID_TABLE_ERROR "SPT.1" "the PASID table entry could not be read";
    0x59 PASID_NOT_PRESENT "SPT.2" "the PASID table entry is not present";
    0x5a PASID_RESERVED "SPT.3" "the PASID table entry has a reserved bit set";
    0x5b PASID_INVALID "SPT.4" "the PASID table entry's width, type or mode is not usable";
    0x5c EXECUTE_DISABLED "SPT.5" "a request to execute where that is not enabled";
    0x5d SUPERVISOR_DISABLED "SPT.6" "a supervisor request where that is not enabled";
    0x60 BEYOND_HOST_PERMISSIONS "SPT.9" "a translated address beyond the host permission table";
    0x70 FIRST_STAGE_TABLE_ERROR "SFS.1" "a lower first-stage table could not be read";
    0x71 FIRST_STAGE_NOT_PRESENT "SFS.2" "a first-stage entry is not present";
    0x72 FIRST_STAGE_RESERVED "SFS.3" "a first-stage entry has a reserved bit set";
    0x73 FIRST_STAGE_ROOT_ERROR "SFS.4" "the first-stage root table could not be read";
    0x74 NESTED_BEYOND_WIDTH "SFS.5" "a first-stage entry points beyond the second stage";
    0x75 NESTED_ROOT_DENIED "SFS.6" "the second stage does not let the first-stage root table be read";
    0x76 NESTED_TABLE_DENIED "SFS.7" "the second stage does not let a first-stage table be read";
    0x77 NESTED_UPDATE_DENIED "SFS.8" "the second stage does not let accessed or dirty bits be written";
    0x78 SCALABLE_SECOND_STAGE_TABLE_ERROR "SSS.1" "a lower second-stage table could not be read";
    0x79 SECOND_STAGE_NOT_PRESENT "SSS.2" "a second-stage entry is not present";
    0x7a SCALABLE_SECOND_STAGE_RESERVED "SSS.3" "a second-stage entry has a reserved bit set";
    0x7b SECOND_STAGE_ROOT_ERROR "SSS.4" "the second-stage root table could not be read";
    0x7c SECOND_STAGE_UPDATE_NOT_SNOOPED "SSS.5" "a second-stage accessed or dirty update without snooping";
    0x7d SECOND_STAGE_UPDATE_FAILED "SSS.6" "a second-stage accessed or dirty update failed";
    0x80 NOT_CANONICAL "SGN.1" "the address is not canonical";
    0x81 USER_DENIED "SGN.2" "a user request to a supervisor page";
    0x83 BEYOND_HOST_WIDTH "SGN.4" "a translated or passed-through address beyond the host's width";
    0x84 SCALABLE_BEYOND_WIDTH "SGN.5" "the address is beyond the second stage's width";
    0x85 SCALABLE_WRITE_DENIED "SGN.6" "a write without write permission";
    0x86 SCALABLE_READ_DENIED "SGN.7" "a read without read permission";
    0x87 SCALABLE_INTO_INTERRUPT_RANGE "SGN.8" "the translation ends in the interrupt address range";
    0x89 PASID_TOO_WIDE "SGN.10" "the PASID has more bits than the unit supports";
    0x90 FIRST_STAGE_UPDATE_NOT_SNOOPED "SFS.9" "a first-stage accessed or dirty update without snooping";
    0x91 FIRST_STAGE_UPDATE_FAILED "SFS.10" "a first-stage accessed or dirty update failed";
    0xa0 HOST_PERMISSION_TABLE_ERROR "HPT.1" "a host permission table could not be read";
    0xa1 HOST_PERMISSION_RESERVED "HPT.2" "a host permission table entry has a reserved bit set";
    0xa2 HOST_PERMISSION_ROOT_ERROR "HPT.3" "the host permission table's root could not be read";
    0xa3 HOST_PERMISSION_NONE "HPT.4" "the host permission table allows nothing there";
    0xa4 HOST_PERMISSION_NO_WRITE "HPT.5" "the host permission table allows no write there";
    0xa5 HOST_PERMISSION_NO_READ "HPT.6" "the host permission table allows no read there";
}

impl FaultReason {
    /// Whether the reason is one of interrupt remapping rather than of DMA remapping.
    pub const fn is_interrupt(self) -> bool {
        self.0 >= 0x20 && self.0 < 0x30
    }
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {}: {}", self.0, self.label(), self.text())
    }
}

impl fmt::Debug for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for FaultReason {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "{=u8:#04x} {=str}: {=str}",
            self.0,
            self.label(),
            self.text()
        );
    }
}

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FaultKind {
    /// A DMA request.
    Dma {
        /// The address in the request, page-aligned as the record has it.
        address: Iova,
        /// What it wanted; an atomic request wants both.
        access: Access,
    },
    /// An interrupt request.
    Interrupt {
        /// The index that it named. Undefined for some reasons (§11.4.7.6).
        index: u16,
    },
    /// A page request that could not be queued.
    PageRequest {
        /// The page that was asked for.
        address: Iova,
    },
}

/// One primary fault record, decoded (§11.4.7.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FaultRecord {
    /// The unit that reported it, by the driver's numbering.
    pub unit: u16,
    /// Who sent the request. Some devices can forge this; what a device behind a bridge
    /// sends may carry the bridge's id.
    pub device: DeviceId,
    /// The PASID in the request. `None` for a request without, whatever entry it used.
    pub pasid: Option<Pasid>,
    /// What was refused.
    pub kind: FaultKind,
    /// Why.
    pub reason: FaultReason,
    /// The request asked for supervisor rights.
    pub privileged: bool,
    /// When the driver read the record.
    pub at: Nanoseconds,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_names_one_reason() {
        let mut numbers: std::vec::Vec<u8> = FaultReason::NAMED.iter().map(|r| r.0).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), FaultReason::NAMED.len());
        assert!(numbers.is_sorted());
    }

    #[test]
    fn interrupt_reasons_are_told_from_dma_reasons() {
        assert!(FaultReason::INTERRUPT_SOURCE.is_interrupt());
        assert!(!FaultReason::TABLE_MODE.is_interrupt());
        assert!(!FaultReason::INTO_INTERRUPT_RANGE.is_interrupt());
    }

    #[test]
    fn a_number_without_a_name_is_kept() {
        assert_eq!(FaultReason(0x5e).label(), "unnamed");
        assert!(std::format!("{}", FaultReason(0x5e)).starts_with("0x5e"));
    }
}
