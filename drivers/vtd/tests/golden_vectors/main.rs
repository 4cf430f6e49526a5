//! The driver's encodings against the golden vectors that the hardware model is held
//! against too: the fields of each vector, encoded by the driver, are its words.

mod descriptors;
mod entries;
mod registers;

use std::fmt::Debug;
use vtd_golden::{Structure, Vector, all};

/// Structures that the driver neither writes nor reads.
const UNUSED: [Structure; 1] = [
    // Interrupts are remapped, never posted.
    Structure::PostedInterrupt,
];

/// The words that the driver makes of a vector's fields.
fn encode(vector: &Vector) -> Vec<u64> {
    registers::encode(vector)
        .or_else(|| entries::encode(vector))
        .or_else(|| descriptors::encode(vector))
        .unwrap_or_else(|| panic!("nobody encodes {vector}"))
}

/// A field as a number of its size.
#[track_caller]
fn int<T: TryFrom<u64, Error: Debug>>(vector: &Vector, name: &str) -> T {
    T::try_from(vector.get(name)).expect("a value that fits its field")
}

#[test]
fn what_the_driver_encodes_is_what_others_encode() {
    let mut seen = 0;
    for vector in all().filter(|vector| !UNUSED.contains(&vector.structure)) {
        let words = encode(vector);
        assert_eq!(words, vector.words, "{vector}: {words:#x?}");
        seen += 1;
    }
    assert!(seen >= 140, "{seen} vectors");
}
