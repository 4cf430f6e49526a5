//! The rules of §9.7 and §9.8, each with an entry that obeys beside one that does not.

use io_pgtable::{Entry, Limits, decode, encode_leaf, encode_table};
use iommu_core::TableFormat::{
    self, FirstStage4, FirstStage5, SecondStage3, SecondStage4, SecondStage5,
};
use iommu_core::{Access, Hpa, LeafSizes};

const ALL_LEAVES: LeafSizes = LeafSizes {
    mib2: true,
    gib1: true,
};
/// 46 bits of physical address, all leaf sizes, no snoop control.
const LIMITS: Limits = Limits {
    host_bits: 46,
    leaves: ALL_LEAVES,
    snoop_control: false,
};

const P: u64 = 1 << 0;
const R: u64 = 1 << 0;
const W: u64 = 1 << 1;
const US: u64 = 1 << 2;
const PS: u64 = 1 << 7;
const SNP: u64 = 1 << 11;
const PAT_LARGE: u64 = 1 << 12;

fn is_reserved(format: TableFormat, level: u8, entry: u64) -> bool {
    decode(format, level, entry, &LIMITS) == Entry::Reserved
}

/// Of all bits beside those of `present`, exactly `reserved` turn the entry into a
/// reserved one.
#[track_caller]
fn assert_reserved_bits(format: TableFormat, level: u8, present: u64, reserved: u64) {
    assert!(!is_reserved(format, level, present), "the bare entry");
    for bit in 0..64 {
        let mask = 1u64 << bit;
        if present & mask != 0 {
            continue;
        }
        assert_eq!(
            is_reserved(format, level, present | mask),
            reserved & mask != 0,
            "{format:?} level {level} bit {bit}"
        );
    }
}

/// Bits 51 to 46, beyond the width of `LIMITS`.
const BEYOND: u64 = 0x3f << 46;

#[test]
fn first_stage_reserved_bits_are_those_of_tables_34_to_40() {
    assert_reserved_bits(FirstStage5, 5, P, BEYOND | PS);
    assert_reserved_bits(FirstStage4, 4, P, BEYOND | PS);
    // The tables' addresses with PS = 0; with PS = 1 they are large leaves.
    assert_reserved_bits(FirstStage4, 3, P, BEYOND);
    assert_reserved_bits(FirstStage4, 2, P, BEYOND);
    assert_reserved_bits(FirstStage4, 3, P | PS, BEYOND | 0x3fff_e000);
    assert_reserved_bits(FirstStage4, 2, P | PS, BEYOND | 0x1f_e000);
    assert_reserved_bits(FirstStage4, 1, P, BEYOND);
    assert_reserved_bits(FirstStage4, 1, P | PS, BEYOND);
}

#[test]
fn second_stage_reserved_bits_are_those_of_tables_41_to_47() {
    const IW: u64 = 1 << 62;
    for present in [R, W, R | W] {
        assert_reserved_bits(SecondStage5, 5, present, BEYOND | IW | SNP | PS);
        assert_reserved_bits(SecondStage4, 4, present, BEYOND | IW | SNP | PS);
        assert_reserved_bits(SecondStage3, 3, present, BEYOND | IW | SNP);
        assert_reserved_bits(SecondStage4, 2, present, BEYOND | IW | SNP);
        assert_reserved_bits(
            SecondStage4,
            3,
            present | PS,
            BEYOND | IW | SNP | 0x3fff_f000,
        );
        assert_reserved_bits(SecondStage4, 2, present | PS, BEYOND | IW | SNP | 0x1f_f000);
        assert_reserved_bits(SecondStage4, 1, present, BEYOND | IW | SNP);
        assert_reserved_bits(SecondStage4, 1, present | PS, BEYOND | IW | SNP);
    }
}

#[test]
fn snoop_is_accepted_in_leaves_alone_and_only_with_snoop_control() {
    let with = Limits {
        snoop_control: true,
        ..LIMITS
    };
    for (level, leaf) in [(1, R | SNP), (2, R | SNP | PS), (3, R | SNP | PS)] {
        assert!(matches!(
            decode(SecondStage4, level, leaf, &with),
            Entry::Leaf { .. }
        ));
        assert_eq!(decode(SecondStage4, level, leaf, &LIMITS), Entry::Reserved);
    }
    for level in 2..=5 {
        assert_eq!(decode(SecondStage5, level, R | SNP, &with), Entry::Reserved);
    }
}

#[test]
fn nothing_of_an_absent_entry_is_looked_at() {
    assert_eq!(decode(FirstStage4, 4, !P, &LIMITS), Entry::NotPresent);
    assert_eq!(
        decode(SecondStage4, 4, !(R | W), &LIMITS),
        Entry::NotPresent
    );
    // Bit 2, which makes an EPT entry present, does nothing here.
    assert_eq!(decode(SecondStage4, 1, 1 << 2, &LIMITS), Entry::NotPresent);
}

#[test]
fn large_leaves_need_the_unit_except_2_mib_in_the_first_stage() {
    let none = Limits {
        leaves: LeafSizes::default(),
        ..LIMITS
    };
    let leaf = |format, level, limits: &Limits| {
        matches!(decode(format, level, P | PS, limits), Entry::Leaf { .. })
    };
    assert!(leaf(FirstStage4, 2, &LIMITS) && leaf(FirstStage4, 2, &none));
    assert!(leaf(FirstStage4, 3, &LIMITS) && !leaf(FirstStage4, 3, &none));
    assert!(leaf(SecondStage4, 2, &LIMITS) && !leaf(SecondStage4, 2, &none));
    assert!(leaf(SecondStage4, 3, &LIMITS) && !leaf(SecondStage4, 3, &none));
    assert_eq!(decode(SecondStage4, 2, R | PS, &none), Entry::Reserved);
}

#[test]
fn the_lowest_address_bit_of_a_large_first_stage_leaf_is_its_attribute() {
    for (level, page) in [(2, 0x20_0000), (3, 0x4000_0000)] {
        assert_eq!(
            decode(FirstStage4, level, page | PAT_LARGE | PS | US | P, &LIMITS),
            Entry::Leaf {
                address: page,
                access: Access::READ,
                user: true
            }
        );
    }
}

#[test]
fn rights_are_told_as_they_are() {
    let first = |bits| decode(FirstStage4, 1, bits, &LIMITS);
    let leaf = |access, user| Entry::Leaf {
        address: 0,
        access,
        user,
    };
    assert_eq!(first(P), leaf(Access::READ, false));
    assert_eq!(first(P | W), leaf(Access::READ_WRITE, false));
    assert_eq!(first(P | US), leaf(Access::READ, true));
    let second = |bits| decode(SecondStage4, 1, bits, &LIMITS);
    assert_eq!(second(R), leaf(Access::READ, true));
    assert_eq!(second(W), leaf(Access::WRITE, true));
    assert_eq!(second(R | W), leaf(Access::READ_WRITE, true));
}

#[test]
fn a_level_that_the_format_lacks_holds_nothing() {
    assert!(!is_reserved(SecondStage3, 3, R));
    assert!(is_reserved(SecondStage3, 4, R));
    assert!(is_reserved(FirstStage4, 5, P));
    assert!(is_reserved(FirstStage5, 6, P));
    assert!(is_reserved(FirstStage5, 0, P));
}

#[test]
fn the_whole_address_field_comes_back() {
    let wide = Limits {
        host_bits: 52,
        ..LIMITS
    };
    let frame = 0x000f_ffff_ffff_f000;
    for format in TableFormat::ALL {
        for level in 2..=format.levels() {
            let table = decode(format, level, frame | US | W | P, &wide);
            assert_eq!(
                table,
                Entry::Table {
                    address: frame,
                    access: Access::READ_WRITE,
                    user: true
                }
            );
        }
    }
}

#[test]
fn golden_entries() {
    // First stage: D, A, U/S, R/W, P; second stage: W, R.
    let page = Hpa::new(0x1234_5000);
    assert_eq!(
        encode_leaf(FirstStage4, 1, page, Access::READ_WRITE),
        0x1234_5067
    );
    assert_eq!(encode_leaf(FirstStage4, 1, page, Access::READ), 0x1234_5065);
    assert_eq!(
        encode_leaf(SecondStage4, 1, page, Access::READ_WRITE),
        0x1234_5003
    );
    assert_eq!(
        encode_leaf(SecondStage4, 1, page, Access::READ),
        0x1234_5001
    );
    assert_eq!(
        encode_leaf(SecondStage4, 1, page, Access::WRITE),
        0x1234_5002
    );
    assert_eq!(encode_table(FirstStage4, 4, page), 0x1234_5027);
    assert_eq!(encode_table(SecondStage4, 4, page), 0x1234_5003);
    let large = Hpa::new(0x4000_0000);
    for level in [2, 3] {
        assert_eq!(
            encode_leaf(FirstStage5, level, large, Access::READ_WRITE),
            0x4000_00e7
        );
        assert_eq!(
            encode_leaf(SecondStage3, level, large, Access::READ_WRITE),
            0x4000_0083
        );
    }
}

#[test]
fn what_was_encoded_decodes_to_itself() {
    for format in TableFormat::ALL {
        for access in [Access::READ, Access::READ_WRITE] {
            for level in 1..=3 {
                let page = Hpa::new(0x3f << 40);
                let entry = encode_leaf(format, level, page, access);
                let expected = Entry::Leaf {
                    address: page.as_u64(),
                    access,
                    user: true,
                };
                assert_eq!(decode(format, level, entry, &LIMITS), expected);
            }
        }
        for level in 2..=format.levels() {
            let table = Hpa::new(0x3fff_ffff_f000);
            let entry = encode_table(format, level, table);
            assert!(matches!(
                decode(format, level, entry, &LIMITS),
                Entry::Table { address, .. } if address == table.as_u64()
            ));
        }
    }
}

#[test]
fn an_entry_that_cannot_be_is_not_present() {
    let page = Hpa::new(0x20_0000);
    assert_ne!(encode_leaf(SecondStage4, 1, page, Access::WRITE), 0);
    assert_eq!(encode_leaf(FirstStage4, 1, page, Access::WRITE), 0);
    assert_eq!(encode_leaf(SecondStage4, 1, page, Access::NONE), 0);

    assert_ne!(encode_leaf(SecondStage4, 2, page, Access::READ), 0);
    assert_eq!(encode_leaf(SecondStage4, 3, page, Access::READ), 0);
    assert_eq!(
        encode_leaf(SecondStage4, 2, Hpa::new(0x20_1000), Access::READ),
        0
    );
    assert_eq!(
        encode_leaf(SecondStage4, 1, Hpa::new(0x20_0800), Access::READ),
        0
    );
    assert_eq!(encode_leaf(SecondStage4, 4, Hpa::new(0), Access::READ), 0);
    assert_eq!(encode_leaf(SecondStage4, 0, page, Access::READ), 0);

    let top = 1 << 51;
    assert_ne!(encode_leaf(SecondStage4, 1, Hpa::new(top), Access::READ), 0);
    assert_eq!(
        encode_leaf(SecondStage4, 1, Hpa::new(top << 1), Access::READ),
        0
    );

    assert_ne!(encode_table(SecondStage4, 2, page), 0);
    assert_eq!(encode_table(SecondStage4, 1, page), 0);
    assert_eq!(encode_table(SecondStage4, 5, page), 0);
    assert_eq!(encode_table(SecondStage4, 2, Hpa::new(0x800)), 0);
    assert_eq!(encode_table(SecondStage4, 2, Hpa::new(top << 1)), 0);
}
