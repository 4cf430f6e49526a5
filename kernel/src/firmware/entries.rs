//! How many entries of each kind are kept, and whether a list of them can be walked.

/// Configuration regions (MCFG) that are kept.
pub const MAX_ECAM_REGIONS: usize = 16;
/// IOAPICs (MADT) that are kept.
pub const MAX_IOAPICS: usize = 32;
/// Processors (MADT) that are kept.
pub const MAX_PROCESSORS: usize = 256;

/// The least length of the MADT entries that the kernel reads, by type (ACPI 6.5, 5.2.12).
const MINIMUM: [(u8, usize); 3] = [(0, 8), (1, 12), (9, 16)];

/// Whether type-length-value entries follow each other up to the end exactly, each as long
/// as its type needs. `acpi` follows whatever lengths it finds, for ever if one is 0.
pub(super) fn can_be_walked(mut bytes: &[u8]) -> bool {
    while let [kind, length, ..] = *bytes {
        let length = usize::from(length);
        let least = MINIMUM
            .iter()
            .find(|(known, _)| *known == kind)
            .map_or(2, |&(_, least)| least);
        if length < least {
            return false;
        }
        match bytes.get(length..) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOAPIC: [u8; 12] = [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0];

    #[test]
    fn whole_entries_can_be_walked() {
        assert!(can_be_walked(&[]));
        assert!(can_be_walked(&IOAPIC));
        // An unknown type is skipped by its length.
        assert!(can_be_walked(&[0x7f, 3, 0, 0x80, 2]));
    }

    #[test]
    fn entries_that_do_not_fit_cannot() {
        assert!(!can_be_walked(&IOAPIC[..11]));
        assert!(!can_be_walked(&[0x7f, 0]));
        assert!(!can_be_walked(&[0x7f]));
        let mut short = IOAPIC;
        short[1] = 11;
        assert!(!can_be_walked(&short));
    }
}
