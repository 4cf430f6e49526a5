//! DMAR tables: bytes from firmware.

/// Reads the table in every way there is, whole and cut off.
pub(crate) fn run(input: &[u8]) {
    let whole = dmar::exercise(input);
    assert_eq!(whole, dmar::exercise(input), "the same bytes read the same");
    dmar::exercise(&input[..input.len() / 2]);
}
