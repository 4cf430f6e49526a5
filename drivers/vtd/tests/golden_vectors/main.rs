//! The driver's encodings against the golden vectors that the hardware model is held
//! against too: the fields of each vector, encoded by the driver, are its words.

mod descriptors;
mod entries;
mod registers;

use std::fmt::Debug;
use vtd_golden::{Vector, all};

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
    for vector in all() {
        let words = encode(vector);
        assert_eq!(words, vector.words, "{vector}: {words:#x?}");
        seen += 1;
    }
    assert!(seen >= 155, "{seen} vectors");
}

/// What the driver's types leave no choice in: which descriptor it is, that it drains, that a
/// wait writes its status, how everything is named; and of what level an entry is, which its
/// words do not say.
const IMPLIED: [&str; 6] = ["TYPE", "G", "DR", "DW", "SW", "LEVEL"];

/// An encoder that overlooks a field, or puts it where another one is, makes other words:
/// each kind of vector is able to fail.
#[test]
fn no_field_of_a_vector_is_overlooked() {
    let (mut seen, mut overlooked) = (0, Vec::new());
    for vector in all() {
        for (field, _) in vector.fields {
            let whole = vector.what.starts_with("everything");
            if IMPLIED.contains(field) || whole {
                continue;
            }
            let rest: Vec<(&str, u64)> = vector
                .fields
                .iter()
                .filter(|(other, _)| other != field)
                .copied()
                .collect();
            let without = Vector {
                fields: rest.leak(),
                ..*vector
            };
            let words = std::panic::catch_unwind(|| encode(&without));
            // What cannot be without it is refused.
            let same = words.is_ok_and(|words| words == vector.words);
            if same {
                overlooked.push(format!("{field}: {vector}"));
            }
            seen += 1;
        }
    }
    assert!(overlooked.is_empty(), "{overlooked:#?}");
    assert!(seen >= 350, "{seen} fields");
}
