//! After any changes of a guest's tables, and exact invalidations of what was changed,
//! devices see what the tables say; and at every step before that, nothing but the guest's
//! own memory.

mod common;

use common::machine::{
    AT_INTERRUPTS, CONTIGUOUS, HALF, ON_INTERRUPTS, READ_ONLY as READ_ONLY_MEMORY, VM, rid,
};
use common::tables::{P, PS, RW, US, XD, shift};
use common::{Machine, Setup};
use iommu_abi::{Granularity, IntoBytes as _, Invalidate, InvalidateModel, InvalidateRange};
use iommu_core::LeafSizes;
use iommu_core::TableFormat::{self, FirstStage4, SecondStage3, SecondStage4};
use iommu_guest::{DeviceId, Format};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// Guest pages that are used as tables, whatever level they appear at.
const TABLES: u64 = 7;
/// The indices that are used in each of them.
const INDICES: [u64; 4] = [0, 1, 255, 256];
/// Roots of the two tables that are bound.
const ROOTS: [u64; 2] = [0x1000, 0x2000];
/// Where ranges are passed to the hypervisor.
const RANGES: u64 = 80 << 12;

#[derive(Clone, Debug)]
enum Step {
    Write { page: u64, index: u64, value: u64 },
    Invalidate,
}

fn value() -> impl Strategy<Value = u64> {
    let rights = prop_oneof![
        6 => Just(P | RW | US),
        2 => Just(P | US),
        1 => Just(P | RW),
        1 => Just(P | RW | US | XD | 0x9f8),
    ];
    let place = prop_oneof![
        // Another table, or itself.
        12 => (1..=TABLES).prop_map(|page| page << 12),
        6 => (20u64..60).prop_map(|page| page << 12),
        1 => (0u64..8).prop_map(|page| (READ_ONLY_MEMORY + page) << 12),
        // Large where the level has large pages.
        2 => Just(CONTIGUOUS << 12 | PS),
        1 => Just((CONTIGUOUS + 512) << 12 | PS),
        1 => Just(PS),
        1 => Just(HALF << 12 | PS),
        1 => Just(0x4000_0000 | PS),
        1 => Just(0x20_2000 | PS),
        // Not the guest's, not an address, not memory.
        1 => Just(0x7fff_f000),
        1 => Just(AT_INTERRUPTS << 12),
        1 => Just(ON_INTERRUPTS << 12),
        1 => Just(1 << 51),
        1 => Just(0x3fff_ffff_f000),
    ];
    prop_oneof![
        8 => (rights, place).prop_map(|(rights, place)| rights | place),
        2 => Just(0u64),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..=TABLES, proptest::sample::select(&INDICES[..]), value())
            .prop_map(|(page, index, value)| Step::Write { page, index, value }),
        1 => Just(Step::Invalidate),
    ]
}

/// Where a page appears as a table below a root: at which level, for which addresses.
fn appearances(machine: &Machine, root: u64, page: u64) -> Vec<(u8, u64)> {
    let mut found = Vec::new();
    let mut open = vec![(4u8, root, 0u64)];
    while let Some((level, table, base)) = open.pop() {
        if table == page << 12 {
            found.push((level, base));
        }
        if level == 1 || table >> 12 > TABLES {
            continue;
        }
        for index in INDICES {
            let entry = machine.ram.read(table + 8 * index).unwrap();
            if entry & P != 0 && entry & PS == 0 {
                let next = entry & 0x000f_ffff_ffff_f000;
                open.push((level - 1, next, base | index << shift(level)));
            }
        }
    }
    found
}

fn canonical(address: u64) -> u64 {
    ((address << 16) as i64 >> 16) as u64
}

/// Both roots lead to some pages at every index, so that most changes are seen.
fn begin(machine: &Machine) {
    let chain = [(1, 3), (2, 3), (3, 4), (4, 5), (5, 20)];
    for (table, next) in chain {
        for (step, index) in (0..).zip(INDICES) {
            let next = if table == 5 { next + step } else { next };
            machine
                .ram
                .write((table << 12) | (8 * index), (next << 12) | P | RW | US);
        }
    }
}

struct Run {
    machine: Machine,
    tables: Vec<iommu_guest::UserTable>,
    /// For each table, ranges that were changed: first address and pages.
    owed: [BTreeSet<(u64, u64)>; 2],
    /// Translations that were looked at and existed.
    seen: u64,
}

impl Run {
    fn new(setup: Setup) -> Self {
        let machine = setup.build();
        begin(&machine);
        let mut tables = Vec::new();
        for (number, root) in [4, 5].into_iter().zip(ROOTS) {
            let device = DeviceId::from_u32(machine.assign(number));
            let mut guest = machine.guest();
            let root = PhysFrame::containing_address(PhysAddr::new(root));
            let table = guest
                .allocate_user_table(device, Format::X86_64Level4, root)
                .unwrap();
            guest.bind(device, &table).unwrap();
            tables.push(table);
        }
        Self {
            machine,
            tables,
            owed: Default::default(),
            seen: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { page, index, value } => {
                self.owe(page, index);
                self.machine.ram.write((page << 12) | (8 * index), value);
                self.owe(page, index);
            }
            Step::Invalidate => self.invalidate(),
        }
    }

    fn owe(&mut self, page: u64, index: u64) {
        for (owed, root) in self.owed.iter_mut().zip(ROOTS) {
            for (level, base) in appearances(&self.machine, root, page) {
                let first = base | index << shift(level);
                owed.insert((canonical(first), 1 << (shift(level) - 12)));
            }
        }
    }

    fn invalidate(&mut self) {
        for (table, owed) in self.tables.iter().zip(&mut self.owed) {
            let owed: Vec<_> = std::mem::take(owed).into_iter().collect();
            for chunk in owed.chunks(100) {
                let commits = self.machine.hardware.state.lock().unwrap().commits;
                invalidate(&self.machine, table.id(), chunk);
                let more = self.machine.hardware.state.lock().unwrap().commits - commits;
                assert!(more <= 1, "{more} flushes for one call");
            }
        }
        self.check();
    }

    fn check(&mut self) {
        self.machine.check_caches();
        let mut seen = 0;
        for (number, root) in [4, 5].into_iter().zip(ROOTS) {
            for address in addresses() {
                let expected = self.machine.expected(root, address);
                let walked = self.machine.hardware.walk(rid(number), address);
                assert_eq!(walked, expected, "device {number} at {address:#x}");
                seen += u64::from(walked.is_some());
            }
        }
        self.seen += seen;
    }

    fn end(self) {
        self.machine.policy.destroy_guest(VM).unwrap();
        self.machine.check_nothing_left();
    }
}

/// An address below every combination of the indices, and some that are not canonical.
fn addresses() -> impl Iterator<Item = u64> {
    let four = INDICES.into_iter().flat_map(|four| {
        INDICES.into_iter().flat_map(move |three| {
            INDICES.into_iter().flat_map(move |two| {
                INDICES
                    .into_iter()
                    .map(move |one| four << 39 | three << 30 | two << 21 | one << 12)
            })
        })
    });
    four.flat_map(|address| [canonical(address), address, address | 1 << 55])
}

fn invalidate(machine: &Machine, ioas_id: u32, ranges: &[(u64, u64)]) {
    for (place, &(address, pages)) in (0..).zip(ranges) {
        let entry = InvalidateRange {
            address,
            pages,
            ..InvalidateRange::default()
        };
        machine
            .ram
            .write_bytes(RANGES + 24 * place, entry.as_bytes());
    }
    let mut argument = Invalidate {
        ioas_id,
        granularity: Granularity::Ranges.as_u32(),
        entries: RANGES,
        entry_size: 24,
        entry_count: ranges.len() as u32,
        model: InvalidateModel::Range.as_u32(),
        ..Invalidate::new()
    };
    let result = machine.call(&mut argument);
    assert_eq!(result, ranges.len() as i64);
}

fn check(setup: Setup, steps: &[Step]) {
    let mut run = Run::new(setup);
    for step in steps {
        run.step(step);
    }
    run.invalidate();
    SEEN.fetch_add(run.seen, Relaxed);
    run.end();
}

/// Translations that existed, in all runs of all tests.
static SEEN: AtomicU64 = AtomicU64::new(0);

#[test]
fn the_properties_are_about_translations_that_exist() {
    let before = SEEN.load(Relaxed);
    check(setup(FirstStage4), &[Step::Invalidate]);
    assert!(SEEN.load(Relaxed) - before >= 2 * 2 * 256);
}

fn setup(format: TableFormat) -> Setup {
    Setup::new(format).quota(|quota| quota.shadow_pages = 2048)
}

/// Cases of each property; more by `PROPTEST_CASES`.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_first_stage_shadow_follows_the_guest(steps in prop::collection::vec(step(), 1..30)) {
        check(setup(FirstStage4), &steps);
    }

    #[test]
    fn a_second_stage_shadow_follows_the_guest(steps in prop::collection::vec(step(), 1..30)) {
        check(setup(SecondStage4), &steps);
    }

    #[test]
    fn a_shadow_of_three_levels_follows_the_guest(steps in prop::collection::vec(step(), 1..30)) {
        check(setup(SecondStage3), &steps);
    }

    #[test]
    fn a_shadow_for_a_poor_unit_follows_the_guest(
        steps in prop::collection::vec(step(), 1..30),
        first_stage: bool,
        iova_bits in 39u8..48,
    ) {
        let format = if first_stage { FirstStage4 } else { SecondStage4 };
        let setup = Setup {
            leaves: LeafSizes::default(),
            coherent: false,
            caching_mode: true,
            iova_bits,
            ..setup(format)
        };
        check(setup, &steps);
    }
}
