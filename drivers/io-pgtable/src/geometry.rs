//! Which addresses an entry spans, and which addresses a format translates.

use iommu_core::{Iova, Stage, TableFormat};

/// The highest level of any format.
pub(crate) const MAX_LEVEL: u8 = 5;

/// Log2 of the bytes that an entry of this level spans: 12 at level 1, 21 at level 2, 30,
/// 39, and 48 at level 5. Levels outside 1 to 5 are taken as the nearest.
pub const fn span_shift(level: u8) -> u32 {
    match level {
        0 | 1 => 12,
        2 => 21,
        3 => 30,
        4 => 39,
        _ => 48,
    }
}

/// The index of the entry of this level that translates `iova`, 0 to 511.
pub const fn index_of(iova: u64, level: u8) -> usize {
    ((iova >> span_shift(level)) & 0x1ff) as usize
}

/// Whether hardware looks `iova` up at all: tables of this format on a unit that
/// translates `iova_bits` bits (MGAW).
///
/// The first stage wants canonical addresses (§3.6), and where the unit translates fewer
/// bits than the format, addresses below that width; the second stage wants every bit
/// above the smaller of both widths to be 0 (§3.7).
pub const fn in_width(format: TableFormat, iova: Iova, iova_bits: u8) -> bool {
    let bits = format.input_bits();
    let address = iova.as_u64();
    match format.stage() {
        Stage::First if iova_bits >= bits => is_canonical(address, bits),
        Stage::First => is_below(address, iova_bits),
        Stage::Second => is_below(address, bits) && is_below(address, iova_bits),
    }
}

/// Whether bits 63 to `bits` are all 0.
pub(crate) const fn is_below(address: u64, bits: u8) -> bool {
    match address.checked_shr(bits as u32) {
        Some(rest) => rest == 0,
        None => true,
    }
}

/// Whether bits 63 to `bits - 1` are all equal.
const fn is_canonical(address: u64, bits: u8) -> bool {
    let unused = 64u32.saturating_sub(bits as u32);
    let extended = ((address << unused) as i64 >> unused) as u64;
    extended == address
}

#[cfg(test)]
mod tests {
    use super::*;
    use TableFormat::{FirstStage4, FirstStage5, SecondStage3, SecondStage4, SecondStage5};

    #[test]
    fn each_level_spans_512_times_the_one_below() {
        assert_eq!([1, 2, 3, 4, 5].map(span_shift), [12, 21, 30, 39, 48]);
    }

    #[test]
    fn every_level_takes_its_own_nine_bits() {
        let iova = 0x1ff << 48 | 0x001 << 39 | 0x0aa << 30 | 0x100 << 21 | 0x055 << 12 | 0xfff;
        let indices = [1, 2, 3, 4, 5].map(|level| index_of(iova, level));
        assert_eq!(indices, [0x055, 0x100, 0x0aa, 0x001, 0x1ff]);
    }

    #[track_caller]
    fn assert_width(format: TableFormat, iova_bits: u8, inside: u64, outside: u64) {
        assert!(
            in_width(format, Iova::new(inside), iova_bits),
            "{inside:#x}"
        );
        assert!(
            !in_width(format, Iova::new(outside), iova_bits),
            "{outside:#x}"
        );
    }

    #[test]
    fn the_first_stage_wants_canonical_addresses() {
        assert_width(FirstStage4, 48, 0x7fff_ffff_ffff, 0x8000_0000_0000);
        assert_width(FirstStage4, 57, u64::MAX << 47, u64::MAX << 48 ^ 1 << 63);
        assert_width(FirstStage5, 57, u64::MAX << 56, u64::MAX << 57 ^ 1 << 63);
    }

    #[test]
    fn a_first_stage_on_a_narrower_unit_has_no_upper_half() {
        assert_width(FirstStage5, 48, (1 << 48) - 1, 1 << 48);
        assert_width(FirstStage5, 48, 0, u64::MAX);
    }

    #[test]
    fn the_second_stage_wants_zeroes_above_format_and_unit() {
        assert_width(SecondStage3, 48, (1 << 39) - 1, 1 << 39);
        assert_width(SecondStage4, 39, (1 << 39) - 1, 1 << 39);
        assert_width(SecondStage4, 48, (1 << 48) - 1, u64::MAX);
        assert_width(SecondStage5, 57, (1 << 57) - 1, 1 << 57);
    }

    #[test]
    fn sixty_four_bits_hold_every_address() {
        assert!(is_below(u64::MAX, 64));
        assert!(!is_below(u64::MAX, 63));
    }
}
