//! Whole units, told: legacy and scalable mode, walks, the queue, interrupts, and a raw dump
//! that says the same elsewhere.

use crate::fake::FakeUnit;
use crate::{Detail, Part, RawDump, Recorder, Request, UnitView};
use io_pgtable::{encode_leaf, encode_table};
use iommu_core::{Access, Hpa, Iova, SourceId, TableFormat};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;
use vtd::registers::{Gsts, Iqa, Iqh, Iqt, Irta, Rtaddr, TableMode};
use vtd::tables::context::{ContextHigh, ContextLow, ScalableContext0};
use vtd::tables::interrupt::{IrteHigh, IrteLow, SourceQualifier, SourceValidation};
use vtd::tables::pasid::{Pasid0, Pasid1, Pasid2, PasidDirectoryEntry, TranslationType};
use vtd::tables::root::RootEntry;

const LEGACY: u64 = 0xf0_0f4a;
const SCALABLE: u64 = 0x8800_00f0_0f4a;
const DEVICE: SourceId = SourceId::from_bits(0x20);

fn view(unit: &FakeUnit) -> UnitView<'_> {
    UnitView {
        unit: 3,
        host_bits: 48,
        source: unit,
    }
}

fn text(unit: &FakeUnit, part: Part) -> String {
    let mut text = String::new();
    view(unit).write(part, Detail::Leaves, &mut text).unwrap();
    text
}

fn pages(unit: &mut FakeUnit, format: TableFormat, root: u64) {
    let table = |at: u64| encode_table(format, 4, Hpa::new(at));
    unit.store(root, &[table(root + 0x1000)]);
    unit.store(root + 0x1000, &[table(root + 0x2000)]);
    unit.store(
        root + 0x2000,
        &[encode_table(format, 2, Hpa::new(root + 0x3000))],
    );
    let leaf = |hpa: u64, access| encode_leaf(format, 1, Hpa::new(hpa), access);
    // 1000h and 2000h lead to neighbours, 3000h elsewhere, 4000h to its neighbour for reading
    // alone, 5000h nowhere; 40 pages from 40000h on to as many neighbours.
    unit.store(
        root + 0x3008,
        &[
            leaf(0x70_0000, Access::READ_WRITE),
            leaf(0x70_1000, Access::READ_WRITE),
            leaf(0x50_0000, Access::READ_WRITE),
            leaf(0x50_1000, Access::READ),
        ],
    );
    let many: Vec<u64> = (0..40)
        .map(|page| leaf(0x80_0000 + (page << 12), Access::READ_WRITE))
        .collect();
    unit.store(root + 0x3000 + 0x40 * 8, &many);
}

/// 00:04.0 by second-stage tables at 110000h, domain 7.
fn legacy() -> FakeUnit {
    let mut unit = FakeUnit::new(LEGACY);
    unit.set32(Gsts::new().with_tes(true));
    unit.set64(Rtaddr::new().with_rta(0x100));
    unit.store(
        0x10_0000,
        &[RootEntry::new().with_p(true).with_ctp(0x101).into_bits()],
    );
    let low = ContextLow::new().with_p(true).with_ssptptr(0x110);
    let high = ContextHigh::new().with_aw(2).with_did(7);
    unit.store(0x10_1000 + 0x20 * 16, &[low.into_bits(), high.into_bits()]);
    pages(&mut unit, TableFormat::SecondStage4, 0x11_0000);
    unit
}

/// The same by first-stage tables, PASID 0, domain 9.
fn scalable() -> FakeUnit {
    let mut unit = FakeUnit::new(SCALABLE);
    unit.set32(Gsts::new().with_tes(true));
    unit.set64(Rtaddr::new().with_ttm(TableMode::Scalable).with_rta(0x100));
    unit.store(
        0x10_0000,
        &[RootEntry::new().with_p(true).with_ctp(0x101).into_bits()],
    );
    let context = ScalableContext0::new().with_p(true).with_pasiddirptr(0x102);
    unit.store(0x10_1000 + 0x20 * 32, &[context.into_bits()]);
    let directory = PasidDirectoryEntry::new()
        .with_p(true)
        .with_smptblptr(0x103);
    unit.store(0x10_2000, &[directory.into_bits()]);
    let entry = [
        Pasid0::new()
            .with_p(true)
            .with_pgtt(TranslationType::FIRST_STAGE)
            .into_bits(),
        Pasid1::new().with_did(9).into_bits(),
        Pasid2::new().with_fsptptr(0x110).into_bits(),
    ];
    unit.store(0x10_3000, &entry);
    pages(&mut unit, TableFormat::FirstStage4, 0x11_0000);
    unit
}

#[test]
fn legacy_tables_are_told_from_the_root_to_runs_of_leaves() {
    assert_eq!(
        text(&legacy(), Part::Tables),
        "unit 3: tables\n\
        \x20 legacy mode, root table at 0x100000, in force\n\
        \x20 00:04.0: second stage at 0x110000, 4 levels, domain id 7\n\
        \x20     0x1000 to 0x2fff leads to 0x700000, read-write, pages of 4 KiB\n\
        \x20     0x3000 to 0x3fff leads to 0x500000, read-write, pages of 4 KiB\n\
        \x20     0x4000 to 0x4fff leads to 0x501000, read, pages of 4 KiB\n\
        \x20     0x40000 to 0x67fff leads to 0x800000, read-write, pages of 4 KiB\n\
        \x20     4 runs in 4 tables\n"
    );
}

#[test]
fn scalable_tables_are_told_with_their_pasids() {
    let text = text(&scalable(), Part::Tables);
    assert!(text.contains("  scalable mode, root table"), "{text}");
    assert!(
        text.contains("  00:04.0: PASID directory at 0x102000, 13 bits"),
        "{text}"
    );
    assert!(
        text.contains("    PASID 0: first stage at 0x110000, domain id 9"),
        "{text}"
    );
    assert!(
        text.contains("0x1000 to 0x2fff leads to 0x700000"),
        "{text}"
    );
}

#[test]
fn a_table_that_cannot_be_read_is_told_and_the_rest_goes_on() {
    let mut unit = legacy();
    unit.store(
        0x11_0008,
        &[encode_table(
            TableFormat::SecondStage4,
            4,
            Hpa::new(0xdead_b000),
        )],
    );
    let text = text(&unit, Part::Tables);
    assert!(text.contains("table at 0xdeadb000: unreadable"), "{text}");
    assert!(
        text.contains("0x1000 to 0x2fff leads to 0x700000"),
        "{text}"
    );
}

#[test]
fn tables_that_lead_to_themselves_end() {
    let mut unit = legacy();
    let circle = encode_table(TableFormat::SecondStage4, 4, Hpa::new(0x11_0000));
    unit.store(0x11_0000, &[circle; 512]);
    let text = text(&unit, Part::Tables);
    assert!(text.contains("more than 1024 tables"), "{text}");
}

fn walk(unit: &FakeUnit, source: SourceId, iova: u64) -> String {
    let mut text = String::new();
    let request = Request {
        source,
        pasid: None,
        iova: Iova::new(iova),
    };
    view(unit).write_walk(request, &mut text).unwrap();
    text
}

#[test]
fn a_walk_ends_where_the_page_is_or_says_which_entry_refuses() {
    for unit in [legacy(), scalable()] {
        let found = walk(&unit, DEVICE, 0x2abc);
        assert!(
            found.ends_with("  leads to 0x701abc, read-write\n"),
            "{found}"
        );
        let missing = walk(&unit, DEVICE, 0x5abc);
        assert!(
            missing.ends_with("refused: the entry is not present\n"),
            "{missing}"
        );
        assert!(missing.contains("level 1 entry at 0x113028"), "{missing}");
        let stranger = walk(&unit, SourceId::from_bits(0x28), 0x2abc);
        assert!(
            stranger.ends_with("the context entry is not present\n"),
            "{stranger}"
        );
        let other_bus = walk(&unit, SourceId::from_bits(0x120), 0x2abc);
        assert!(
            other_bus.contains("root entry is not present"),
            "{other_bus}"
        );
    }
}

#[test]
fn the_queue_shows_where_it_stands_and_what_was_queued_last() {
    let mut unit = FakeUnit::new(LEGACY);
    unit.set32(Gsts::new().with_qies(true));
    unit.set64(Iqa::new().with_iqa(0x180));
    unit.set64(Iqh::new().with_qh(1));
    unit.set64(Iqt::new().with_qt(2));
    unit.store(0x18_0000, &[0x11, 0, 0x1_0000_0025, 0x18_1000]);
    let found = text(&unit, Part::Queue);
    assert!(
        found.contains("256 slots of 128 bits at 0x180000, head 1, tail 2"),
        "{found}"
    );
    assert!(found.contains("[0] context cache: kind=1 g=1"), "{found}");
    assert!(
        found.contains("[1] head →wait: kind=5 sw data=1; address="),
        "{found}"
    );
    unit.set32(Gsts::new());
    assert_eq!(
        text(&unit, Part::Queue),
        "unit 3: invalidation queue\n  off\n"
    );
}

#[test]
fn an_interrupt_entry_tells_vector_target_and_who_may_send_it() {
    let mut unit = FakeUnit::new(LEGACY);
    unit.set32(Gsts::new().with_ires(true));
    unit.set64(Irta::new().with_s(7).with_irta(0x190));
    let low = IrteLow::new().with_p(true).with_v(0x31).with_dst(2 << 8);
    let verified = IrteHigh::new()
        .with_sid(0x20)
        .with_svt(SourceValidation::SOURCE)
        .with_sq(SourceQualifier::ALL);
    unit.store(0x19_0010, &[low.into_bits(), verified.into_bits()]);
    unit.store(0x19_0020, &[low.into_bits(), 0]);
    let found = text(&unit, Part::Interrupts);
    assert!(
        found.contains("256 entries at 0x190000, APIC ids of 8 bits"),
        "{found}"
    );
    assert!(
        found.contains("[1] vector 0x31 to APIC 0x2, from 00:04.0\n"),
        "{found}"
    );
    assert!(
        found.contains("[2] vector 0x31 to APIC 0x2, from ANY source\n"),
        "{found}"
    );
}

#[test]
fn a_raw_dump_says_the_same_elsewhere() {
    for unit in [legacy(), scalable()] {
        let mut lines: Vec<String> = Vec::new();
        let mut live = String::new();
        {
            let mut sink = |line: core::fmt::Arguments<'_>| lines.push(line.to_string());
            let recorder = Recorder::new(3, 48, &unit, &mut sink);
            let view = UnitView {
                unit: 3,
                host_bits: 48,
                source: &recorder,
            };
            view.write_all(Detail::Leaves, &mut live).unwrap();
        }
        assert!(lines.iter().all(|line| line.len() < 1000));
        let mut dump = RawDump::default();
        assert_eq!(dump.take("some other line"), Ok(false));
        for line in &lines {
            assert_eq!(dump.take(line), Ok(true), "{line}");
        }
        let mut told = String::new();
        dump.write(Detail::Leaves, &mut told).unwrap();
        assert_eq!(told, live);
        assert!(live.contains("leads to 0x700000"));
    }
}

#[test]
fn a_line_that_is_damaged_is_named() {
    let mut dump = RawDump::default();
    for line in ["raw r32 0 1", "raw unit", "raw colour red"] {
        assert_eq!(dump.take(line).unwrap_err().line, line);
    }
    assert!(dump.take("raw unit 0 30").is_ok());
    for line in ["raw page 1000 200=1", "raw page 1000 5", "raw r64 8 xyz"] {
        assert_eq!(
            format!("{}", dump.take(line).unwrap_err()),
            format!("not a line of a raw dump: {line}")
        );
    }
    assert!(dump.take("raw page 1000 1ff=1").is_ok());
}

#[test]
fn a_unit_that_does_not_answer_is_told_as_such() {
    let silent = FakeUnit::default();
    assert_eq!(
        text(&silent, Part::Tables),
        "unit 3: tables\n  the unit does not answer\n"
    );
}
