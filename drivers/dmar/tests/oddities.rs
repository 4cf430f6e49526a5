//! What is odd is told, with its place, its meaning and what was done; and each odd table
//! has a twin that differs in one thing and is fine.

use dmar::builder::{Scope, Structure, Table, fix_checksum};
use dmar::{Action, Dmar, Finding, Oddity, ScopeKind, Severity};
use iommu_core::Hpa;

/// A machine of which nothing can be said: a graphics unit, one for the rest, a region.
fn fine() -> Table {
    Table::new(39).with(graphics()).with(rest()).with(region())
}

fn graphics() -> Structure {
    Structure::drhd(0xfed9_0000).scope(Scope::endpoint(0, &[(2, 0)]))
}

fn rest() -> Structure {
    Structure::drhd(0xfed9_1000)
        .flags(1)
        .scope(Scope::io_apic(2, 0xf0, (0x1f, 0)))
        .scope(Scope::hpet(0, 0, (0x1f, 0)))
}

fn region() -> Structure {
    Structure::rmrr(0x8b80_0000, 0x8fff_ffff).scope(Scope::endpoint(0, &[(2, 0)]))
}

/// Where the structures of `fine` begin.
const GRAPHICS: usize = 48;
const REST: usize = GRAPHICS + 24;
const REGION: usize = REST + 32;
const END: usize = REGION + 32;

fn findings(bytes: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    Dmar::new(bytes).audit(&mut |finding| findings.push(finding));
    findings
}

/// The one thing that is odd about a table.
#[track_caller]
fn only_finding(bytes: &[u8]) -> Finding {
    let findings = findings(bytes);
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings[0]
}

#[track_caller]
fn assert_odd(table: Table, offset: usize, oddity: Oddity, action: Action) {
    let finding = only_finding(&table.build());
    assert_eq!(finding, Finding { offset, oddity });
    assert_eq!(finding.severity(), Severity::Warning);
    assert_eq!(finding.action(), action, "{finding}");
}

#[track_caller]
fn assert_malformed(bytes: &[u8], offset: usize, oddity: Oddity) {
    assert!(Dmar::new(bytes).is_malformed());
    let finding = only_finding(bytes);
    assert_eq!(finding, Finding { offset, oddity });
    assert_eq!(finding.severity(), Severity::Error);
}

#[test]
fn of_a_sound_table_nothing_is_said() {
    assert_eq!(findings(&fine().build()), []);
    assert!(!Dmar::new(&fine().build()).is_malformed());
    assert_eq!(Dmar::new(&fine().build()).structures().count(), 3);
}

// Malformed.

#[test]
fn a_header_that_is_cut_off_is_an_error() {
    for bytes in [0, 4, 47] {
        let table = fine().build();
        assert_malformed(&table[..bytes], 0, Oddity::HeaderCutOff { bytes });
        assert_eq!(Dmar::new(&table[..bytes]).structures().count(), 0);
        assert_eq!(Dmar::new(&table[..bytes]).host_address_width(), None);
    }
}

#[test]
fn a_length_below_the_header_is_an_error_and_what_is_there_is_read() {
    for claimed in [0u8, 47] {
        let mut table = fine().build();
        table[4] = claimed;
        table[5] = 0;
        fix_checksum(&mut table);
        let (claimed, bytes) = (claimed.into(), END);
        assert_malformed(&table, 4, Oddity::LengthBelowHeader { claimed, bytes });
        assert_eq!(Dmar::new(&table).structures().count(), 3);
    }
}

#[test]
fn a_table_that_ends_early_is_an_error_and_what_is_there_is_read() {
    let table = fine().build();
    let bytes = REGION;
    let oddity = Oddity::LengthBeyondData {
        claimed: END,
        bytes,
    };
    assert_malformed(&table[..bytes], 4, oddity);
    assert_eq!(Dmar::new(&table[..bytes]).structures().count(), 2);
    // A structure cut in two is an error of its own.
    let cut = findings(&table[..bytes + 8]);
    let (claimed, left) = (32, 8);
    assert_eq!(cut[1].oddity, Oddity::StructureCutOff { claimed, left });
    assert_eq!((cut.len(), cut[1].offset), (2, REGION));
}

#[test]
fn a_wrong_checksum_is_an_error() {
    let mut table = fine().build();
    table[9] = table[9].wrapping_add(3);
    assert_malformed(&table, 9, Oddity::Checksum { sum: 3 });
    assert_eq!(Dmar::new(&table).units().count(), 2);
}

#[test]
fn a_structure_that_does_not_fit_is_an_error_and_those_before_it_are_read() {
    let table = fine()
        .with(Structure::other(9, &[0; 4]).claiming(9))
        .build();
    let (claimed, left) = (9, 8);
    assert_malformed(&table, END, Oddity::StructureCutOff { claimed, left });
    assert_eq!(Dmar::new(&table).structures().count(), 3);
    let fits = fine()
        .with(Structure::other(9, &[0; 5]).claiming(9))
        .build();
    assert!(!Dmar::new(&fits).is_malformed());
}

#[test]
fn a_structure_without_a_length_ends_the_table() {
    for claimed in [0, 3] {
        let table = fine().with(graphics().claiming(claimed)).build();
        let claimed = claimed.into();
        assert_malformed(&table, END, Oddity::StructureWithoutHeader { claimed });
    }
    let mut table = fine().build();
    table.extend([0, 0]);
    table[4] += 2;
    fix_checksum(&mut table);
    let (claimed, left) = (4, 2);
    assert_malformed(&table, END, Oddity::StructureCutOff { claimed, left });
}

#[test]
fn a_structure_too_short_for_its_fields_is_an_error_and_the_next_is_read() {
    for (kind, least) in [(0, 16), (1, 24), (2, 8), (3, 20), (4, 8), (5, 8), (6, 8)] {
        let length = least - 1;
        let short = Structure::other(kind, &vec![0; length - 4]);
        let table = Table::new(39).with(short).with(rest()).build();
        let findings = findings(&table);
        let oddity = Oddity::StructureTooShort { kind, length };
        assert_eq!(findings[0], Finding { offset: 48, oddity });
        assert_eq!(Dmar::new(&table).units().count(), 1);
        let long_enough = Structure::other(kind, &vec![0; least - 4]);
        let table = Table::new(39).with(long_enough).with(rest()).build();
        assert!(!Dmar::new(&table).is_malformed(), "{kind}");
    }
}

#[test]
fn a_scope_that_does_not_fit_is_an_error_and_those_before_it_are_read() {
    let with = |claimed| {
        let second = Scope::endpoint(0, &[(3, 0)]).claiming(claimed);
        Table::new(39)
            .with(graphics().scope(second))
            .with(rest())
            .build()
    };
    let offset = GRAPHICS + 24;
    let cut_off = Oddity::ScopeCutOff {
        claimed: 9,
        left: 8,
    };
    assert_malformed(&with(9), offset, cut_off);
    for claimed in [0, 5] {
        let oddity = Oddity::ScopeWithoutHeader {
            claimed: claimed.into(),
        };
        assert_malformed(&with(claimed), offset, oddity);
    }
    let table = with(9);
    let units: Vec<_> = Dmar::new(&table).units().collect();
    assert_eq!(units[0].drhd.scopes.clone().count(), 1);
    assert_eq!(units[1].drhd.scopes.clone().count(), 2);
    assert_eq!(findings(&with(8)), []);
}

// Odd.

#[test]
fn the_header_is_looked_at() {
    let ignored = |table, offset, oddity| assert_odd(table, offset, oddity, Action::Ignored);
    ignored(fine().byte(0, b'E'), 0, Oddity::Signature(*b"EMAR"));
    ignored(fine().byte(8, 2), 8, Oddity::Revision(2));
    ignored(fine().byte(36, 52), 36, Oddity::Width { bits: 53 });
    ignored(fine().byte(36, 0xff), 36, Oddity::Width { bits: 256 });
    ignored(fine().flags(2), 37, Oddity::X2apicOptOutAlone);
    assert_eq!(findings(&fine().flags(3).build()), []);
    let value = 0x88;
    let flags = Oddity::ReservedBits {
        field: "reserved flags",
        value,
    };
    ignored(fine().flags(0x89), 37, flags);
    let reserved = Oddity::ReservedBits {
        field: "a reserved byte of the header",
        value: 5,
    };
    ignored(fine().byte(47, 5), 47, reserved);
}

#[test]
fn bytes_behind_the_table_are_not_read() {
    let mut table = fine().build();
    table.extend(graphics_bytes());
    let finding = only_finding(&table);
    assert_eq!(finding.offset, END);
    assert_eq!(finding.oddity, Oddity::BytesBehind { bytes: 24 });
    assert_eq!(Dmar::new(&table).structures().count(), 3);
}

fn graphics_bytes() -> Vec<u8> {
    Table::new(39).with(graphics()).build()[48..].to_vec()
}

#[test]
fn a_table_larger_than_any_machine_needs_is_read_in_part() {
    let mut table = fine();
    for _ in 0..0x1_0000 / 0x8000 {
        table = table.with(Structure::other(9, &[0; 0x7ffc]));
    }
    let oversized: Vec<_> = findings(&table.build())
        .into_iter()
        .filter(|finding| matches!(finding.oddity, Oddity::Oversized { .. }))
        .collect();
    assert_eq!(oversized.len(), 1);
    assert_eq!(oversized[0].offset, 0x1_0000);
}

#[test]
fn a_machine_without_a_unit_is_odd() {
    let table = Table::new(39);
    assert_odd(table, 0, Oddity::NoUnit, Action::Ignored);
}

#[test]
fn interrupt_remapping_needs_io_apics() {
    let without = || Table::new(39).with(Structure::drhd(0xfed9_1000).flags(1));
    assert_odd(without(), 0, Oddity::NoIoApic, Action::Ignored);
    assert_eq!(findings(&without().flags(0).build()), []);
}

#[test]
fn structures_out_of_order_are_read_where_they_stand() {
    let table = Table::new(39).with(region()).with(graphics()).with(rest());
    let findings = findings(&table.clone().build());
    let oddity = Oddity::OutOfOrder { kind: 0, behind: 1 };
    let at = |offset| Finding { offset, oddity };
    assert_eq!(findings, [at(48 + 32), at(48 + 56)]);
    assert_eq!(Dmar::new(&table.build()).units().count(), 2);
}

#[test]
fn unknown_structures_are_skipped_by_their_length() {
    let table = Table::new(39)
        .with(graphics())
        .with(rest())
        .with(Structure::other(0x1234, &[0xff; 11]))
        .with(Structure::other(0xffff, &[]));
    let bytes = table.build();
    let found = findings(&bytes);
    let kind_and_length = [(0x1234, 15), (0xffff, 4)];
    for (finding, (kind, length)) in found.iter().zip(kind_and_length) {
        assert_eq!(finding.oddity, Oddity::UnknownStructure { kind, length });
        assert_eq!(finding.action(), Action::Refused);
    }
    assert_eq!(found.len(), 2);
    assert_eq!(Dmar::new(&bytes).structures().count(), 4);
}

#[test]
fn a_unit_without_registers_is_left_out() {
    for base in [0, u64::MAX] {
        let table = fine_with_unit(Structure::drhd(base).scope(Scope::endpoint(0, &[(9, 0)])));
        let oddity = Oddity::NoRegisters {
            base: Hpa::new(base),
        };
        assert_eq!(Dmar::new(&table.clone().build()).units().count(), 2);
        assert_odd(table, REST, oddity, Action::Refused);
    }
}

/// A sound table with one more unit between the two.
fn fine_with_unit(unit: Structure) -> Table {
    Table::new(39).with(graphics()).with(unit).with(rest())
}

#[test]
fn registers_lie_on_pages_and_on_their_size() {
    let unit = |base: u64, size| {
        let scope = Scope::endpoint(0, &[(9, 0)]);
        fine_with_unit(Structure::drhd(base).byte(5, size).scope(scope))
    };
    let base = Hpa::new(0xfed9_2800);
    let oddity = Oddity::RegistersNotOnPage { base };
    assert_odd(unit(0xfed9_2800, 0), REST, oddity, Action::Refused);
    let (base, bytes) = (Hpa::new(0xfed9_2000), 0x4000);
    let oddity = Oddity::RegistersNotOnSize { base, bytes };
    assert_odd(unit(0xfed9_2000, 2), REST, oddity, Action::Ignored);
    assert_eq!(findings(&unit(0xfed9_2000, 1).build()), []);
    let base = Hpa::new(1 << 39);
    let oddity = Oddity::RegistersBeyondWidth { base };
    assert_odd(unit(1 << 39, 0), REST, oddity, Action::Ignored);
    assert_eq!(findings(&unit(1 << 38, 0).build()), []);
    let oddity = Oddity::ReservedBits {
        field: "bits 7:4 of a DRHD's size",
        value: 0x10,
    };
    assert_odd(unit(0xfed9_2000, 0x10), REST, oddity, Action::Ignored);
}

#[test]
fn a_unit_listed_twice_counts_once() {
    let twice = Structure::drhd(0xfed9_0000).scope(Scope::endpoint(0, &[(3, 0)]));
    let table = fine_with_unit(twice);
    assert_eq!(Dmar::new(&table.clone().build()).units().count(), 2);
    let first = GRAPHICS;
    assert_odd(table, REST, Oddity::UnitTwice { first }, Action::Refused);
}

#[test]
fn a_unit_of_nothing_is_odd() {
    let table = fine_with_unit(Structure::drhd(0xfed9_2000));
    assert_odd(table, REST, Oddity::UnitOfNothing, Action::Ignored);
}

#[test]
fn of_two_units_that_include_all_the_first_counts() {
    let table = |segment| {
        Table::new(39)
            .with(rest())
            .with(Structure::drhd(0xfed9_2000).flags(1).segment(segment))
            .build()
    };
    let findings = findings(&table(0));
    let oddities: Vec<_> = findings.iter().map(|finding| finding.oddity).collect();
    assert_eq!(
        oddities,
        [
            Oddity::IncludeAllNotLast { next: 80 },
            Oddity::IncludeAllTwice { first: 48 }
        ]
    );
    assert!(
        findings
            .iter()
            .all(|finding| finding.action() == Action::Repaired)
    );
    let counted = |table: &[u8]| -> Vec<bool> {
        Dmar::new(table)
            .units()
            .map(|unit| unit.includes_all)
            .collect()
    };
    assert_eq!(counted(&table(0)), [true, false]);
    // In another segment it is that segment's.
    assert_eq!(counted(&table(1)), [true, true]);
    assert!(self::findings(&table(1)).is_empty());
}

#[test]
fn a_unit_that_includes_all_names_no_devices() {
    let table = Table::new(39).with(rest().scope(Scope::endpoint(0, &[(2, 0)])));
    let kind = ScopeKind::Endpoint;
    let oddity = Oddity::IncludeAllWithDevice { kind };
    assert_odd(table, 80, oddity, Action::Ignored);
}

fn fine_with_region(region: Structure) -> Table {
    Table::new(39).with(graphics()).with(rest()).with(region)
}

fn region_of(base: u64, limit: u64) -> Table {
    fine_with_region(Structure::rmrr(base, limit).scope(Scope::endpoint(0, &[(2, 0)])))
}

fn ranges(table: Table) -> Vec<(u64, u64)> {
    let bytes = table.build();
    let range = |region: dmar::Region<'_>| {
        let range = region.range;
        (range.first().as_u64(), range.last().as_u64())
    };
    Dmar::new(&bytes).regions().map(range).collect()
}

#[test]
fn a_region_that_ends_before_it_begins_is_left_out() {
    let (base, limit) = (0x2000, 0x1fff);
    let oddity = Oddity::RegionBackwards {
        base: Hpa::new(base),
        limit: Hpa::new(limit),
    };
    assert_odd(region_of(base, limit), REGION, oddity, Action::Refused);
    assert_eq!(ranges(region_of(base, limit)), []);
    assert_eq!(ranges(region_of(base, 0x2fff)), [(0x2000, 0x2fff)]);
}

#[test]
fn a_region_that_is_not_whole_pages_is_widened() {
    for (base, limit) in [(0x2800, 0x3fff), (0x2000, 0x3000), (0x2000, 0x3ffe)] {
        let oddity = Oddity::RegionNotOnPages {
            base: Hpa::new(base),
            limit: Hpa::new(limit),
        };
        assert_odd(region_of(base, limit), REGION, oddity, Action::Repaired);
        assert_eq!(ranges(region_of(base, limit)), [(0x2000, 0x3fff)]);
    }
}

#[test]
fn a_region_in_the_interrupt_range_is_left_out() {
    let oddity = Oddity::RegionOfInterrupts;
    assert_odd(
        region_of(0xfee0_0000, 0xfee0_0fff),
        REGION,
        oddity,
        Action::Refused,
    );
    assert_eq!(ranges(region_of(0xfeef_f000, 0xfef0_0fff)), []);
    assert_eq!(ranges(region_of(0xfef0_0000, 0xfef0_0fff)).len(), 1);
}

#[test]
fn regions_have_devices_and_do_not_overlap() {
    let table = fine_with_region(Structure::rmrr(0x2000, 0x2fff));
    assert_odd(table, REGION, Oddity::RegionOfNobody, Action::Ignored);
    let beyond = Oddity::RegionBeyondWidth {
        limit: Hpa::new((1 << 39) + 0xfff),
    };
    assert_odd(
        region_of(1 << 39, (1 << 39) + 0xfff),
        REGION,
        beyond,
        Action::Ignored,
    );
    let second = |base: u64| {
        let end = base + 0xfff;
        fine().with(Structure::rmrr(base, end).scope(Scope::endpoint(0, &[(20, 0)])))
    };
    let overlap = Oddity::RegionsOverlap { other: REGION };
    assert_odd(second(0x8fff_f000), END, overlap, Action::Ignored);
    assert_eq!(findings(&second(0x9000_0000).build()), []);
    // Devices of two segments may share memory.
    let elsewhere = Structure::rmrr(0x8fff_f000, 0x8fff_ffff).segment(1);
    let shared = fine().with(elsewhere.scope(Scope::endpoint(0, &[(20, 0)])));
    assert_eq!(findings(&shared.build()), []);
}

#[test]
fn root_ports_are_all_or_named() {
    let ports = |flags| Structure::atsr().flags(flags);
    let port = || Scope::bridge(0, &[(1, 0)]);
    let odd = |structure, oddity| assert_odd(fine().with(structure), END, oddity, Action::Ignored);
    odd(ports(0), Oddity::NoPorts);
    odd(ports(1).scope(port()), Oddity::AllPortsAndSome);
    assert_eq!(findings(&fine().with(ports(1)).build()), []);
    assert_eq!(findings(&fine().with(ports(0).scope(port())).build()), []);
    let endpoint = ports(0).scope(Scope::endpoint(0, &[(1, 0)]));
    let oddity = Oddity::ScopeOutOfPlace {
        kind: ScopeKind::Endpoint,
        structure: 2,
    };
    assert_odd(fine().with(endpoint), END + 8, oddity, Action::Ignored);
}

#[test]
fn affinity_is_of_every_unit_or_of_none() {
    let one = || Structure::rhsa(0xfed9_0000, 0);
    let other = || Structure::rhsa(0xfed9_1000, 1);
    assert_eq!(findings(&fine().with(one()).with(other()).build()), []);
    assert_odd(
        fine().with(one()),
        REST,
        Oddity::AffinityMissing,
        Action::Ignored,
    );
    let base = Hpa::new(0xfed9_7000);
    let stranger = fine()
        .with(one())
        .with(other())
        .with(Structure::rhsa(0xfed9_7000, 2));
    assert_odd(
        stranger,
        END + 40,
        Oddity::AffinityOfNoUnit { base },
        Action::Ignored,
    );
}

fn with_namespace_device(number: u8, declarations: &[(u8, &[u8])]) -> Table {
    let unit = rest().scope(Scope::namespace(number, 0, (0x15, 1)));
    let table = Table::new(39).with(graphics()).with(unit);
    declarations.iter().fold(table, |table, (number, name)| {
        table.with(Structure::andd(*number, name))
    })
}

#[test]
fn namespace_devices_are_declared_and_named() {
    const ANDD: usize = REST + 40;
    let path = b"\\_SB.PCI0.I2C1\0";
    let odd = |declarations: &[(u8, &[u8])], offset, oddity, action| {
        assert_odd(
            with_namespace_device(1, declarations),
            offset,
            oddity,
            action,
        );
    };
    // Padding behind the NUL is common and harmless.
    let padded = b"\\_SB.PCI0.I2C1\0\0\0\0\0";
    assert_eq!(
        findings(&with_namespace_device(1, &[(1, path)]).build()),
        []
    );
    assert_eq!(
        findings(&with_namespace_device(1, &[(1, padded)]).build()),
        []
    );

    let unused = Oddity::DeclaredForNothing { number: 2 };
    odd(&[(1, path), (2, path)], ANDD + 23, unused, Action::Ignored);
    let twice = Oddity::DeclaredTwice {
        number: 1,
        first: ANDD,
    };
    odd(&[(1, path), (1, path)], ANDD + 23, twice, Action::Ignored);
    odd(
        &[],
        REST + 32,
        Oddity::Undeclared { number: 1 },
        Action::Ignored,
    );
    odd(
        &[(1, &path[..14])],
        ANDD,
        Oddity::NameUnterminated,
        Action::Repaired,
    );
    odd(&[(1, b"\0")], ANDD, Oddity::NameEmpty, Action::Ignored);
    odd(
        &[(1, b"\\_SB.\x1b\0")],
        ANDD,
        Oddity::NameNotAscii,
        Action::Ignored,
    );
}

#[test]
fn integrated_devices_have_fixed_places() {
    let sidp = |scope| fine().with(Structure::sidp().scope(scope));
    let device = || Scope::endpoint(0, &[(8, 0)]);
    assert_eq!(findings(&sidp(device().flags(0x1f)).build()), []);
    let flags = Oddity::ReservedBits {
        field: "the flags of a device scope",
        value: 0x20,
    };
    assert_odd(sidp(device().flags(0x21)), END + 8, flags, Action::Ignored);
    let behind = Scope::endpoint(0, &[(1, 0), (0, 0)]);
    let oddity = Oddity::PathTooLong { hops: 2 };
    assert_odd(sidp(behind), END + 8, oddity, Action::Refused);
    let empty = fine().with(Structure::satc());
    assert_odd(empty, END, Oddity::NoDevices { kind: 5 }, Action::Ignored);
}

fn with_scope(scope: Scope) -> Table {
    Table::new(39).with(graphics().scope(scope)).with(rest())
}

#[test]
fn scopes_name_functions_that_can_be() {
    const SCOPE: usize = GRAPHICS + 24;
    let odd = |scope, oddity, action| assert_odd(with_scope(scope), SCOPE, oddity, action);
    for (device, function) in [(32, 0), (0, 8), (0xff, 0xff)] {
        let scope = Scope::endpoint(0, &[(device, function)]);
        let oddity = Oddity::NoSuchFunction { device, function };
        odd(scope, oddity, Action::Refused);
    }
    assert_eq!(
        findings(&with_scope(Scope::endpoint(0, &[(31, 7)])).build()),
        []
    );
    odd(Scope::endpoint(0, &[]), Oddity::EmptyPath, Action::Refused);
    let half = Scope::endpoint(0, &[(3, 0)]).tail(&[9]);
    odd(half, Oddity::OddPath, Action::Repaired);
    let unknown = Scope::new(6, 0, 0, &[(3, 0)]);
    odd(unknown, Oddity::UnknownScope { kind: 6 }, Action::Refused);
}

#[test]
fn reserved_fields_of_scopes_are_told() {
    const SCOPE: usize = GRAPHICS + 24;
    let fields = [
        (2, "the flags of a device scope"),
        (3, "the reserved byte of a device scope"),
        (4, "the enumeration id of a PCI device scope"),
    ];
    for (offset, field) in fields {
        let scope = Scope::endpoint(0, &[(3, 0)]).byte(offset, 8);
        let oddity = Oddity::ReservedBits { field, value: 8 };
        assert_odd(with_scope(scope), SCOPE, oddity, Action::Ignored);
    }
}

#[test]
fn a_device_belongs_to_one_unit() {
    let again = Structure::drhd(0xfed9_2000).scope(Scope::endpoint(0, &[(2, 0)]));
    let oddity = Oddity::ScopeTwice {
        first: GRAPHICS + 16,
    };
    assert_odd(fine_with_unit(again), REST + 16, oddity, Action::Ignored);
    let other_segment = Structure::drhd(0xfed9_2000)
        .segment(1)
        .scope(Scope::endpoint(0, &[(2, 0)]));
    assert_eq!(findings(&fine_with_unit(other_segment).build()), []);
}

#[test]
fn every_finding_says_something_of_its_own() {
    let table = fine_with_unit(Structure::drhd(0)).byte(8, 7).build();
    let sentences: Vec<String> = findings(&table).iter().map(Finding::to_string).collect();
    assert_eq!(
        sentences,
        [
            "revision 7, known is 1",
            "register base 0x0 is no address: the unit is left out",
            "the unit has neither INCLUDE_PCI_ALL nor a device scope: it remaps nothing",
        ]
    );
}
