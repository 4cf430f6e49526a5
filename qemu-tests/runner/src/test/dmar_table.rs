//! DMAR tables made by hand, sound and broken ones (§8.1, §8.3).

/// Bytes before the first structure.
const HEADER_BYTES: usize = 48;
/// Where the length stands in the header (ACPI, system description table header).
const LENGTH: usize = 4;
/// Where the checksum stands.
const CHECKSUM: usize = 9;

/// A DMAR table of these structures.
pub(super) fn table(structures: &[u8]) -> Vec<u8> {
    let mut bytes = b"DMAR".to_vec();
    bytes.extend([0; 4]);
    bytes.extend([1, 0]);
    bytes.extend(b"RUNNERHANDMADE");
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(b"TEST");
    bytes.extend(1u32.to_le_bytes());
    // Host address width 48 bits, interrupt remapping.
    bytes.extend([47, 1]);
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend(structures);
    seal(bytes)
}

/// A remapping unit for all devices of segment 0 (§8.3, DRHD with INCLUDE_PCI_ALL).
pub(super) fn unit(register_base: u64) -> Vec<u8> {
    let mut bytes = vec![0, 0, 16, 0, 1, 0, 0, 0];
    bytes.extend(register_base.to_le_bytes());
    bytes
}

/// Length and checksum as they must be.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_le_bytes());
    bytes[CHECKSUM] = 0;
    bytes[CHECKSUM] = sum(&bytes).wrapping_neg();
    bytes
}

/// The same with a length that reaches beyond the table's end; the checksum is right.
pub(super) fn too_long(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len())
        .unwrap_or(u32::MAX)
        .saturating_add(64);
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_le_bytes());
    bytes[CHECKSUM] = 0;
    bytes[CHECKSUM] = sum(&bytes).wrapping_neg();
    bytes
}

/// The same with a wrong checksum.
pub(super) fn wrong_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[CHECKSUM] = bytes[CHECKSUM].wrapping_add(1);
    bytes
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_length_and_sums_to_zero() {
        let bytes = table(&unit(0xfed9_0000));
        assert_eq!(bytes.len(), 64);
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()), 64);
        assert_eq!(sum(&bytes), 0);
        assert_eq!(sum(&too_long(bytes.clone())), 0);
        assert_ne!(sum(&wrong_checksum(bytes)), 0);
    }
}
