//! Snooping (§3.10) and memory types (§3.11) of the pages that requests reach.

mod common;

use common::*;
use vtd_model::MemoryType::{self, *};
use vtd_model::{Config, Freedom, PageAccess, Request};

const MTRR_DEFAULT: usize = 0x108;
const MTRR_BASE: usize = 0x180;
const MTRR_MASK: usize = 0x188;

const PAGE: u64 = 0x20_0000;
/// PA0 WB, PA1 WT, PA2 UC-, PA3 UC, PA4 WP, PA5 WC, PA6 reserved, PA7 UC.
const PAT: u64 = 0x0215_0746;
const CD: u64 = 1 << 25;
const EMTE: u64 = 1 << 26;
const PGSNP: u64 = 1 << 24;
const PWT: u64 = 1 << 3;
const PCD: u64 = 1 << 4;
/// PAT of a 4 KiB page.
const PAT_BIT: u64 = 1 << 7;
const IPAT: u64 = 1 << 6;
const SNP: u64 = 1 << 11;

/// EMT.
fn extended(kind: u64) -> u64 {
    kind << 3
}

fn config() -> Config {
    Config {
        memory_type: true,
        snoop_control: true,
        // The range registers lie where the fault records are otherwise.
        fault_offset: 0x30,
        ..Config::scalable()
    }
}

fn with(mut entry: [u64; 3], second_word: u64) -> [u64; 3] {
    entry[1] |= second_word | PAT << 32;
    entry
}

/// Everything is WB but the MiB at 64 MiB, which is `kind`.
fn ranges(bench: &mut Bench, kind: u64) {
    bench.write64(MTRR_BASE, 0x400_0000 | kind);
    bench.write64(MTRR_MASK, 0x3fff_fff0_0000 | 0x800);
    bench.write64(MTRR_DEFAULT, 0x806);
}

fn accesses(bench: &Bench, address: u64) -> Vec<PageAccess> {
    bench
        .machine
        .possible_accesses(&Request::read(DEVICE, address))
}

/// The memory types that a read of the page at 0x5000 may have.
fn types(bench: &Bench) -> Vec<Option<MemoryType>> {
    let found = accesses(bench, 0x5000);
    found.iter().map(|access| access.memory_type).collect()
}

fn bench(freedom: Freedom, entry: [u64; 3], first: u64, second: u64) -> Bench {
    let mut bench = Bench::scalable(config(), freedom);
    ranges(&mut bench, 6);
    bench.pasid(0, entry);
    if entry[0] >> 6 & 7 != 1 {
        // Guest addresses are host addresses, tables and pages.
        bench.second(0, 2, 0x83 | extended(6));
        bench.second(PAGE, 1, PAGE | 3 | second);
        bench.second(0x5000 + PAGE, 1, PAGE | 3 | second);
    }
    if entry[0] >> 6 & 7 == 2 {
        bench.put_entry(SECOND, 4, 0x4000_5000, 1, PAGE | 3 | second, 3);
    }
    bench.first(0x5000, 1, PAGE | 0x67 | first);
    bench.flush_all();
    bench
}

/// PASID entry, bits of its second word, bits of the first and of the second stage's leaf,
/// and what they come to.
type Case = ([u64; 3], u64, u64, u64, Option<MemoryType>);

#[test]
fn the_final_page_has_the_type_of_table_9() {
    let first = FIRST_ENTRY;
    let nested = NESTED_ENTRY;
    let wc = extended(1);
    let cases: &[Case] = &[
        // CD, whatever else is said.
        (first, CD, 0, 0, Some(Uncacheable)),
        (nested, CD | EMTE, 0, wc, Some(Uncacheable)),
        // First stage: PAT over the range registers (WB).
        (first, 0, 0, 0, Some(WriteBack)),
        (first, EMTE, PWT, 0, Some(WriteThrough)),
        (first, 0, PCD, 0, Some(Uncacheable)),
        (first, 0, PCD | PWT, 0, Some(Uncacheable)),
        (first, 0, PAT_BIT, 0, Some(WriteProtected)),
        (first, 0, PAT_BIT | PWT, 0, Some(WriteCombining)),
        (first, 0, PAT_BIT | PCD, 0, None),
        // Nested without EMTE: the second stage's types are ignored.
        (nested, 0, 0, wc, Some(WriteBack)),
        (nested, 0, PWT, IPAT, Some(WriteThrough)),
        // With it: EMT takes the range registers' place, or all of it.
        (nested, EMTE, 0, wc, Some(WriteCombining)),
        (nested, EMTE, PCD, wc, Some(WriteCombining)),
        (nested, EMTE, PCD, extended(6), Some(Uncacheable)),
        (nested, EMTE, PCD, extended(6) | IPAT, Some(WriteBack)),
        (
            nested,
            EMTE,
            PAT_BIT | PCD,
            extended(4) | IPAT,
            Some(WriteThrough),
        ),
        (nested, EMTE, 0, extended(3), None),
    ];
    for freedom in freedoms() {
        for (entry, word, first, second, expected) in cases {
            let bench = bench(freedom, with(*entry, *word), *first, *second);
            assert_eq!(
                types(&bench),
                [*expected],
                "{freedom:?}: {entry:x?}, {word:#x}, {first:#x}, {second:#x}"
            );
        }
    }
}

#[test]
fn a_second_stage_alone_has_its_own_types_only_if_they_are_enabled() {
    let cases = [
        (0, extended(1), Some(WriteBack)),
        (EMTE, extended(1), Some(WriteCombining)),
        (EMTE, extended(0) | IPAT, Some(Uncacheable)),
        (EMTE, extended(5), Some(WriteProtected)),
        (EMTE, extended(7), None),
        (EMTE | CD, extended(6), Some(Uncacheable)),
    ];
    for (word, leaf, expected) in cases {
        let mut bench = bench(Freedom::Pessimist(0), with(SECOND_ENTRY, word), 0, leaf);
        let found = accesses(&bench, PAGE);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].memory_type, expected, "{word:#x}, {leaf:#x}");
        assert_eq!(bench.violations(), [""; 0]);
    }
}

#[test]
fn pass_through_and_legacy_mode_are_write_back() {
    let mut passing = Bench::scalable(config(), Freedom::Pessimist(0));
    passing.pasid(0, with(PASS_ENTRY, EMTE));
    passing.flush_all();
    assert_eq!(types(&passing), [Some(WriteBack)]);
    passing.pasid(0, with(PASS_ENTRY, CD));
    passing.flush_all();
    assert_eq!(types(&passing), [Some(Uncacheable)]);

    let mut legacy = Bench::legacy(Config::legacy(), Freedom::Pessimist(0));
    legacy.second(0x5000, 1, PAGE | 3 | extended(1) | IPAT);
    assert_eq!(types(&legacy), [Some(WriteBack)]);
}

#[test]
fn range_registers_count_for_a_first_stage_and_not_for_extended_types() {
    for (kind, expected) in [(6, WriteBack), (4, WriteThrough), (0, Uncacheable)] {
        for (entry, word, other) in [(FIRST_ENTRY, 0, expected), (NESTED_ENTRY, EMTE, WriteBack)] {
            let mut bench = bench(Freedom::Pessimist(0), with(entry, word), 0, 0);
            // The page moves to where the range is.
            bench.put_entry(FIRST, 4, 0x7000, 1, 0x400_0067, 0x27);
            bench.second(0x400_0000, 1, 0x400_0003 | extended(6));
            bench.flush_all();
            ranges(&mut bench, kind);
            let found = accesses(&bench, 0x7000);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].address, 0x400_0000);
            assert_eq!(found[0].memory_type, Some(other), "{entry:x?}, {kind}");
        }
    }
}

#[test]
fn a_type_that_changed_is_used_until_its_translation_is_invalidated() {
    let mut bench = bench(Freedom::Pessimist(0), with(FIRST_ENTRY, 0), 0, 0);
    assert_eq!(types(&bench), [Some(WriteBack)]);
    bench.first(0x5000, 1, PAGE | 0x67 | PWT);
    let mut both = types(&bench);
    both.sort_unstable();
    assert_eq!(
        both,
        [Some(WriteThrough), Some(WriteBack)],
        "the old one is cached"
    );
    // PASID-based, page-selective.
    bench.submit(&[(0x7_0036, 0x5000)]);
    assert_eq!(types(&bench), [Some(WriteThrough)]);
}

#[test]
fn a_unit_without_memory_types_says_nothing_of_first_stage_pages() {
    let mut bench = Bench::scalable(Config::scalable(), Freedom::Pessimist(0));
    bench.pasid(0, FIRST_ENTRY);
    bench.first(0x5000, 1, PAGE | 0x67 | PWT);
    bench.flush_all();
    assert_eq!(types(&bench), [None]);
    // The bits are ignored: what they held before makes no second translation.
    bench.first(0x5000, 1, PAGE | 0x67 | PCD);
    assert_eq!(types(&bench), [None]);
}

#[test]
fn pages_are_snooped_as_table_6_says() {
    // (entry, PGSNP, SNP of the second-stage leaf, forced)
    let cases = [
        (FIRST_ENTRY, 0, 0, false),
        (FIRST_ENTRY, PGSNP, 0, true),
        (SECOND_ENTRY, 0, 0, false),
        (SECOND_ENTRY, 0, SNP, true),
        (SECOND_ENTRY, PGSNP, 0, true),
        (NESTED_ENTRY, 0, 0, false),
        (NESTED_ENTRY, 0, SNP, true),
        (NESTED_ENTRY, PGSNP, 0, true),
        (PASS_ENTRY, 0, 0, false),
        (PASS_ENTRY, PGSNP, 0, true),
    ];
    for freedom in freedoms() {
        for (entry, word, leaf, forced) in cases {
            let bench = bench(freedom, with(entry, word), 0, leaf);
            let at = if entry == SECOND_ENTRY { PAGE } else { 0x5000 };
            let found = accesses(&bench, at);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                found[0].forced_snoop, forced,
                "{entry:x?} {word:#x} {leaf:#x}"
            );
            assert!(found[0].snoops(false));
            assert_eq!(found[0].snoops(true), forced);
        }
    }
    for (leaf, forced) in [(0, false), (SNP, true)] {
        let mut legacy = Bench::legacy(Config::legacy(), Freedom::Pessimist(0));
        legacy.second(0x5000, 1, PAGE | 3 | leaf);
        assert_eq!(accesses(&legacy, 0x5000)[0].forced_snoop, forced);
    }
}

#[test]
fn what_is_blocked_reaches_no_page() {
    let bench = bench(Freedom::Pessimist(0), with(FIRST_ENTRY, 0), 0, 0);
    assert_eq!(accesses(&bench, 0x9000), []);
    assert_eq!(accesses(&bench, 0x5000).len(), 1);
}
