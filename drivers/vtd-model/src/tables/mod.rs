//! Structures in memory, bit by bit (chapter 9).
//!
//! Each file is one structure: a decoder from the raw words to a small value that cannot be
//! wrong, or the reason why there is none. Layout only: nothing here reads memory, and
//! nothing knows what a request wants.

pub(crate) mod context;
pub(crate) mod first_stage;
pub(crate) mod interrupt;
pub(crate) mod pasid;
pub(crate) mod permission;
pub(crate) mod root;
pub(crate) mod second_stage;

/// The bits `low..=high` of a word.
pub(crate) const fn bits(word: u64, high: u8, low: u8) -> u64 {
    (word >> low) & (u64::MAX >> (63 - (high - low)))
}

/// One bit of a word.
pub(crate) const fn bit(word: u64, at: u8) -> bool {
    (word >> at) & 1 == 1
}

/// The bits 63:12 of a word as an address.
pub(crate) const fn page(word: u64) -> u64 {
    word & !0xfff
}
