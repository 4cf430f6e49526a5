//! The fault conditions of table 30 (§7.1.3) and of §5.1.4.1, one row each.

/// How a translation request ends that meets the condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Completes {
    /// Unsupported Request; logged.
    Unsupported,
    /// Completer Abort; logged.
    Abort,
    /// Success with R = W = U = S = 0: recoverable, not logged.
    Nothing,
    /// Success with R = W = U = S = 0, and logged all the same (SFS.10).
    NothingLogged,
    /// Success with the rights that remain; not logged.
    Effective,
    /// The condition does not arise for such a request.
    Never,
}

/// How a request that is not carried out ends for its device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// Unsupported Request.
    UnsupportedRequest,
    /// Completer Abort.
    CompleterAbort,
}

/// One row.
pub(crate) struct Row {
    #[cfg(test)]
    pub(crate) condition: Condition,
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) code: u8,
    /// FPD silences it.
    pub(crate) qualified: bool,
    pub(crate) translation: Completes,
    pub(crate) translated: Completes,
}

macro_rules! conditions {
    ($($variant:ident $name:literal $code:literal $qualified:ident $translation:ident $translated:ident $doc:literal;)*) => {
        /// Why a request was not carried out.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[allow(missing_docs, reason = "documented by the attribute below")]
        pub enum Condition {
            $(#[doc = $doc] $variant,)*
        }

        impl Condition {
            /// Every condition, in the order of table 30.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }

        static ROWS: &[Row] = &[$(Row {
            #[cfg(test)]
            condition: Condition::$variant,
            name: $name,
            meaning: $doc,
            code: $code,
            qualified: conditions!(@ $qualified),
            translation: Completes::$translation,
            translated: Completes::$translated,
        },)*];
    };
    (@ yes) => { true };
    (@ no) => { false };
}

conditions! {
    Lrt1 "LRT.1" 0x08 no Abort Unsupported "Error reading a root entry.";
    Lrt2 "LRT.2" 0x01 no Unsupported Unsupported "Root entry not present.";
    Lrt3 "LRT.3" 0x0a no Abort Unsupported "Reserved bit in a root entry.";
    Lct1 "LCT.1" 0x09 no Abort Unsupported "Error reading a context entry.";
    Lct2 "LCT.2" 0x02 yes Unsupported Unsupported "Context entry not present.";
    Lct3 "LCT.3" 0x0b yes Abort Unsupported "Reserved bit in a context entry.";
    Lct41 "LCT.4.1" 0x03 yes Abort Unsupported "Address width not supported.";
    Lct42 "LCT.4.2" 0x03 yes Abort Unsupported "Translation type not supported.";
    Lct43 "LCT.4.3" 0x03 yes Abort Never "Error reading the table at SSPTPTR.";
    Lct5 "LCT.5" 0x0d yes Unsupported Unsupported "TT blocks translation and translated requests.";
    Lss1 "LSS.1" 0x07 yes Abort Never "Error reading a lower second-stage table.";
    Lss2 "LSS.2" 0x0c yes Abort Never "Reserved bit in a second-stage entry.";
    Lgn11 "LGN.1.1" 0x04 yes Nothing Never "Address beyond the second stage's width.";
    Lgn12 "LGN.1.2" 0x04 yes Never Unsupported "Translated address beyond the host address width.";
    Lgn13 "LGN.1.3" 0x04 yes Never Never "Pass-through address beyond the host address width.";
    Lgn2 "LGN.2" 0x05 yes Effective Never "No write permission.";
    Lgn3 "LGN.3" 0x06 yes Effective Never "No read permission.";
    Lgn4 "LGN.4" 0x0e yes Abort Unsupported "Output address in the interrupt range.";
    Rta11 "RTA.1.1" 0x30 no Abort Unsupported "TTM 11 without abort-DMA support.";
    Rta12 "RTA.1.2" 0x30 no Abort Unsupported "TTM 10.";
    Rta13 "RTA.1.3" 0x30 no Abort Unsupported "TTM 01 without scalable mode.";
    Rta14 "RTA.1.4" 0x30 no Abort Unsupported "SSIRWE in legacy mode.";
    Rta2 "RTA.2" 0x31 no Unsupported Unsupported "PASID in legacy mode.";
    Rta3 "RTA.3" 0x32 no Never Never "Page request in legacy mode.";
    Rta4 "RTA.4" 0x33 no Unsupported Unsupported "Abort-DMA mode.";
    Rta5 "RTA.5" 0x34 no Unsupported Unsupported "Execute requested, from version 8 on.";
    Srt1 "SRT.1" 0x38 no Abort Unsupported "Error reading a scalable root entry.";
    Srt2 "SRT.2" 0x39 no Unsupported Unsupported "Scalable root entry not present.";
    Srt3 "SRT.3" 0x3a no Abort Unsupported "Reserved bit in a scalable root entry.";
    Sct1 "SCT.1" 0x40 no Abort Unsupported "Error reading a scalable context entry.";
    Sct2 "SCT.2" 0x41 yes Unsupported Unsupported "Scalable context entry not present.";
    Sct3 "SCT.3" 0x42 yes Abort Unsupported "Reserved bit in a scalable context entry.";
    Sct41 "SCT.4.1" 0x43 yes Abort Unsupported "PRE without DTE.";
    Sct42 "SCT.4.2" 0x43 yes Abort Unsupported "RID_PASID beyond the directory.";
    Sct43 "SCT.4.3" 0x43 yes Abort Unsupported "EPTR without PASIDE.";
    Sct5 "SCT.5" 0x44 yes Unsupported Unsupported "DTE is 0.";
    Sct6 "SCT.6" 0x45 yes Unsupported Never "PASIDE is 0.";
    Sct7 "SCT.7" 0x46 yes Unsupported Unsupported "PASID beyond the directory.";
    Sct8 "SCT.8" 0x47 yes Never Never "PRE is 0.";
    Sct9 "SCT.9" 0x48 yes Unsupported Unsupported "PASID equals RID_PASID.";
    Sct10 "SCT.10" 0x49 yes Never Unsupported "EPTR is 0.";
    Spd1 "SPD.1" 0x50 no Abort Abort "Error reading a PASID directory entry.";
    Spd2 "SPD.2" 0x51 yes Nothing Unsupported "PASID directory entry not present.";
    Spd3 "SPD.3" 0x52 yes Abort Abort "Reserved bit in a PASID directory entry.";
    Spt1 "SPT.1" 0x58 no Abort Abort "Error reading a PASID table entry.";
    Spt2 "SPT.2" 0x59 yes Nothing Unsupported "PASID table entry not present.";
    Spt3 "SPT.3" 0x5a yes Abort Abort "Reserved bit in a PASID table entry.";
    Spt41 "SPT.4.1" 0x5b yes Abort Abort "Address width not supported.";
    Spt42 "SPT.4.2" 0x5b yes Abort Abort "Translation type not supported.";
    Spt43 "SPT.4.3" 0x5b yes Abort Abort "First-stage paging mode not supported.";
    Spt44 "SPT.4.4" 0x5b yes Abort Abort "Nested FSPTPTR beyond the second stage's width.";
    Spt5 "SPT.5" 0x5c yes Nothing Never "Execute requested, up to version 7.";
    Spt6 "SPT.6" 0x5d yes Nothing Never "Supervisor request with SRE 0.";
    Spt9 "SPT.9" 0x60 yes Never Unsupported "Translated address beyond HPTSZ.";
    Sfs1 "SFS.1" 0x70 yes Nothing Never "Error reading a lower first-stage table.";
    Sfs2 "SFS.2" 0x71 yes Nothing Never "First-stage entry not present.";
    Sfs3 "SFS.3" 0x72 yes Nothing Never "Reserved bit in a first-stage entry.";
    Sfs4 "SFS.4" 0x73 yes Nothing Never "Error reading the table at FSPTPTR.";
    Sfs5 "SFS.5" 0x74 yes Nothing Never "Nested: guest address beyond the second stage's width.";
    Sfs6 "SFS.6" 0x75 yes Nothing Never "Nested: no permission to read the root table.";
    Sfs7 "SFS.7" 0x76 yes Nothing Never "Nested: no permission to read a lower table.";
    Sfs8 "SFS.8" 0x77 yes Nothing Never "Nested: no permission to update A, EA or D.";
    Sfs9 "SFS.9" 0x90 yes Nothing Never "First-stage flag update needed, walk not snooped.";
    Sfs10 "SFS.10" 0x91 yes NothingLogged Never "First-stage flag update failed.";
    Sss1 "SSS.1" 0x78 yes Abort Never "Error reading a lower second-stage table.";
    Sss2 "SSS.2" 0x79 yes Nothing Never "Second stage gives no permission at all.";
    Sss3 "SSS.3" 0x7a yes Abort Never "Reserved bit in a second-stage entry.";
    Sss4 "SSS.4" 0x7b yes Abort Never "Error reading the table at SSPTPTR.";
    Sss5 "SSS.5" 0x7c yes Abort Never "Second-stage flag update needed, walk not snooped.";
    Sss6 "SSS.6" 0x7d yes Abort Never "Second-stage flag update failed.";
    Sgn1 "SGN.1" 0x80 yes Nothing Never "Address not canonical.";
    Sgn2 "SGN.2" 0x81 yes Nothing Never "User request to a supervisor page.";
    Sgn41 "SGN.4.1" 0x83 yes Never Unsupported "Translated address beyond the host address width.";
    Sgn42 "SGN.4.2" 0x83 yes Nothing Never "Pass-through address beyond the host address width.";
    Sgn5 "SGN.5" 0x84 yes Nothing Never "Address beyond the second stage's width.";
    Sgn6 "SGN.6" 0x85 yes Effective Never "No write permission.";
    Sgn7 "SGN.7" 0x86 yes Effective Never "No read permission.";
    Sgn8 "SGN.8" 0x87 yes Abort Unsupported "Output address in the interrupt range.";
    Sgn10 "SGN.10" 0x89 yes Unsupported Unsupported "PASID wider than PSS.";
    Hpt1 "HPT.1" 0xa0 yes Never Abort "Error reading a lower host permission table.";
    Hpt2 "HPT.2" 0xa1 yes Never Abort "Reserved field in a host permission table entry.";
    Hpt3 "HPT.3" 0xa2 yes Never Abort "Error reading the table at HPTPTR.";
    Hpt4 "HPT.4" 0xa3 yes Never Unsupported "Zero-length read of a page without a host permission.";
    Hpt5 "HPT.5" 0xa4 yes Never Unsupported "No host permission to write.";
    Hpt6 "HPT.6" 0xa5 yes Never Unsupported "No host permission to read.";
    Irq20 "20h" 0x20 no Never Never "Reserved field in a remappable request.";
    Irq21 "21h" 0x21 no Never Never "Index beyond the table.";
    Irq22 "22h" 0x22 yes Never Never "Entry not present.";
    Irq23 "23h" 0x23 no Never Never "Error reading the table.";
    Irq24 "24h" 0x24 yes Never Never "Reserved field in an entry.";
    Irq25 "25h" 0x25 no Never Never "Compatibility format blocked.";
    Irq26 "26h" 0x26 yes Never Never "Source-id check failed.";
    Irq27 "27h" 0x27 yes Never Never "Error accessing the posted descriptor.";
    Irq28 "28h" 0x28 yes Never Never "Reserved field in the posted descriptor.";
    Irq29 "29h" 0x29 no Never Never "Request to the interrupt range that is no interrupt.";
    Irq2a "2Ah" 0x2a no Never Never "EIME is required and 0.";
    Irq2b "2Bh" 0x2b no Never Never "Interrupt remapping is required and off.";
}

impl Condition {
    pub(crate) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The name that table 30 gives it, as `SGN.6`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What it means, in a sentence.
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// The fault reason that is logged.
    pub fn code(self) -> u8 {
        self.row().code
    }

    /// Whether FPD silences it.
    pub fn qualified(self) -> bool {
        self.row().qualified
    }

    /// How a translated request ends.
    pub(crate) fn translated_status(self) -> Status {
        match self.row().translated {
            Completes::Abort => Status::CompleterAbort,
            _ => Status::UnsupportedRequest,
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:02x}h)", self.name(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_conditions() {
        for condition in Condition::ALL {
            assert_eq!(condition.row().condition, *condition);
        }
    }

    #[test]
    fn read_errors_and_root_faults_are_never_silenced() {
        for condition in [
            Condition::Lct1,
            Condition::Sct1,
            Condition::Spd1,
            Condition::Spt1,
            Condition::Srt2,
        ] {
            assert!(!condition.qualified(), "{condition}");
        }
        assert!(Condition::Sct2.qualified());
    }
}
