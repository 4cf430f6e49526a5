//! Page tables that a guest keeps, bound to two devices and shadowed.
//!
//! Seven guest pages serve as tables at whatever level they appear. The input chooses four
//! indices, and only these are written and looked at: so 256 addresses are all that can be
//! translated, and all of them are checked.

use crate::Bytes;
use crate::common::machine::{
    AT_INTERRUPTS, CONTIGUOUS, HALF, ON_INTERRUPTS, READ_ONLY, SCATTERED, VM, rid,
};
use crate::common::tables::{P, PS, RW, US, XD, shift};
use crate::common::{Machine, Setup};
use iommu_abi::{Granularity, IntoBytes as _, Invalidate, InvalidateModel, InvalidateRange};
use iommu_core::TableFormat::{FirstStage4, SecondStage3, SecondStage4};
use iommu_core::{AddressRange, Gpa, LeafSizes};
use iommu_guest::{DeviceId, Format, UserTable};
use std::collections::BTreeSet;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// Guest pages 1 to 7 are tables.
const TABLES: u64 = 7;
/// Tables that are bound, and the devices that they are bound to.
const ROOTS: [u64; 2] = [0x1000, 0x2000];
const DEVICES: [u8; 2] = [4, 5];
/// Where ranges are passed to the hypervisor, and how many fit.
const RANGES: u64 = 80 << 12;
const RANGES_MOST: usize = 170;
/// Longer programs find nothing that shorter ones do not.
const STEPS_MOST: usize = 64;
/// The address bits of an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Builds the machine, runs the program, and checks every address after each invalidation;
/// containment is checked by the machine itself at every step.
pub(crate) fn run(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let mut trial = Trial::new(&mut bytes);
    for _ in 0..STEPS_MOST {
        if bytes.is_empty() {
            break;
        }
        trial.step(&mut bytes);
    }
    trial.invalidate();
    trial.end();
}

struct Trial {
    machine: Machine,
    indices: [u64; 4],
    tables: Vec<UserTable>,
    /// For each table, ranges whose translation changed: first address and pages.
    owed: [BTreeSet<(u64, u64)>; 2],
}

impl Trial {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let setup = setup(bytes);
        let indices = std::array::from_fn(|_| u64::from(bytes.u16()) % 512);
        let machine = setup.build();
        let tables = ROOTS.iter().zip(DEVICES).map(|(&root, number)| {
            let device = DeviceId::from_u32(machine.assign(number));
            let mut guest = machine.guest();
            let root = PhysFrame::containing_address(PhysAddr::new(root));
            let table = guest
                .allocate_user_table(device, Format::X86_64Level4, root)
                .expect("a table");
            guest.bind(device, &table).expect("bound");
            table
        });
        let tables = tables.collect();
        Self {
            machine,
            indices,
            tables,
            owed: Default::default(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.byte() & 0xf {
            0..=8 => {
                let value = entry(bytes);
                self.write(bytes, value);
            }
            9..=11 => {
                let value = bytes.u64();
                self.write(bytes, value);
            }
            12 | 13 => self.invalidate(),
            14 => self.invalidate_everything(),
            _ => self.lose(bytes.below(SCATTERED)),
        }
    }

    fn write(&mut self, bytes: &mut Bytes<'_>, value: u64) {
        let place = bytes.byte();
        let page = 1 + u64::from(place & 7) % TABLES;
        let index = self.indices[usize::from(place >> 3 & 3)];
        let at = (page << 12) | (8 * index);
        if self.machine.ram.host(at).is_none() {
            return;
        }
        self.owe(page, index);
        self.machine.ram.write(at, value);
        self.owe(page, index);
    }

    /// Notes what a change of an entry is about, below both roots.
    fn owe(&mut self, page: u64, index: u64) {
        for (owed, root) in self.owed.iter_mut().zip(ROOTS) {
            for (level, base) in appearances(&self.machine, &self.indices, root, page) {
                let first = canonical(base | index << shift(level));
                owed.insert((first, 1 << (shift(level) - 12)));
            }
        }
    }

    /// The guest tells exactly what it changed.
    fn invalidate(&mut self) {
        for (table, owed) in self.tables.iter().zip(&mut self.owed) {
            let owed: Vec<_> = std::mem::take(owed).into_iter().collect();
            for ranges in owed.chunks(RANGES_MOST) {
                invalidate(&self.machine, table.id(), ranges);
            }
        }
        self.check();
    }

    /// The guest says that everything changed.
    fn invalidate_everything(&mut self) {
        for (table, owed) in self.tables.iter().zip(&mut self.owed) {
            owed.clear();
            let mut argument = Invalidate {
                ioas_id: table.id(),
                granularity: Granularity::Everything.as_u32(),
                ..Invalidate::new()
            };
            assert!(self.machine.call(&mut argument) >= 0);
        }
        self.check();
    }

    /// The hypervisor takes a page of the guest away and gives it to somebody else. What
    /// led there is gone at once; tables are as they were.
    fn lose(&mut self, page: u64) {
        let is_needed = page << 12 == RANGES || page == crate::common::machine::ARGUMENT;
        let host = self.machine.ram.remove(page, u64::from(!is_needed));
        if host.is_empty() {
            return;
        }
        let gone = AddressRange::of_pages(Gpa::new(page << 12), 1).expect("a page");
        self.machine
            .policy
            .forget(VM, &gone, &host)
            .expect("forgotten");
        self.machine.ram.reuse(&host);
        self.machine.hardware.cache_everything();
    }

    /// Devices see what the guest's tables and its memory map say, and caches hold nothing
    /// else.
    fn check(&self) {
        self.machine.check_caches();
        for (number, root) in DEVICES.into_iter().zip(ROOTS) {
            for address in self.addresses() {
                let expected = self.machine.expected(root, address);
                let walked = self.machine.hardware.walk(rid(number), address);
                assert_eq!(walked, expected, "device {number} at {address:#x}");
            }
        }
    }

    /// An address below every combination of indices, in the canonical form and in one that
    /// is not.
    fn addresses(&self) -> impl Iterator<Item = u64> {
        let indices = self.indices;
        (0..256usize).flat_map(move |which| {
            let address = (0..4).fold(0, |address, level| {
                let index = indices[which >> (2 * level) & 3];
                address | index << shift(level as u8 + 1)
            });
            [canonical(address), address | 1 << 55]
        })
    }

    fn end(self) {
        self.machine.policy.destroy_guest(VM).expect("gone");
        self.machine.check_nothing_left();
    }
}

fn setup(bytes: &mut Bytes<'_>) -> Setup {
    let choices = bytes.byte();
    let is_set = |bit: u8| choices >> bit & 1 != 0;
    let format = [FirstStage4, SecondStage4, SecondStage3, FirstStage4][usize::from(choices & 3)];
    let setup = Setup {
        leaves: LeafSizes {
            mib2: is_set(2),
            gib1: is_set(3),
        },
        coherent: is_set(4),
        caching_mode: is_set(5),
        iova_bits: 39 + bytes.below(10) as u8,
        ..Setup::new(format)
    };
    setup.quota(|quota| quota.shadow_pages = 256)
}

/// An entry as a guest might mean it. Fuzzers find raw ones that matter too rarely.
fn entry(bytes: &mut Bytes<'_>) -> u64 {
    let rights = bytes.one_of(&[
        P | RW | US,
        P | RW | US,
        P | US,
        P | RW,
        0,
        P | RW | US | XD,
    ]);
    let page = bytes.below(32);
    let place = match bytes.byte() & 0xf {
        0..=5 => (1 + page % TABLES) << 12,
        6..=8 => (20 + page) << 12,
        9 => CONTIGUOUS << 12 | PS,
        10 => (CONTIGUOUS + 16 * page) << 12 | PS,
        11 => HALF << 12 | PS,
        12 => READ_ONLY << 12,
        13 => (page & 1) << 30 | PS,
        14 => [AT_INTERRUPTS, ON_INTERRUPTS][(page & 1) as usize] << 12,
        _ => 1 << (20 + page),
    };
    rights | place
}

/// Where a page appears as a table below a root: at which level, for which addresses.
fn appearances(machine: &Machine, indices: &[u64; 4], root: u64, page: u64) -> Vec<(u8, u64)> {
    let distinct: BTreeSet<u64> = indices.iter().copied().collect();
    let mut found = Vec::new();
    let mut open = vec![(4u8, root, 0u64)];
    while let Some((level, table, base)) = open.pop() {
        if table == page << 12 {
            found.push((level, base));
        }
        if level == 1 {
            continue;
        }
        for &index in &distinct {
            let entry = machine.ram.read(table + 8 * index).unwrap_or(0);
            if entry & P != 0 && entry & PS == 0 {
                open.push((level - 1, entry & FRAME, base | index << shift(level)));
            }
        }
    }
    found
}

fn invalidate(machine: &Machine, ioas_id: u32, ranges: &[(u64, u64)]) {
    let entries: Vec<InvalidateRange> = ranges
        .iter()
        .map(|&(address, pages)| InvalidateRange {
            address,
            pages,
            ..InvalidateRange::default()
        })
        .collect();
    machine.ram.write_bytes(RANGES, entries.as_bytes());
    let mut argument = Invalidate {
        ioas_id,
        granularity: Granularity::Ranges.as_u32(),
        entries: RANGES,
        entry_size: size_of::<InvalidateRange>() as u32,
        entry_count: ranges.len() as u32,
        model: InvalidateModel::Range.as_u32(),
        ..Invalidate::new()
    };
    assert_eq!(machine.call(&mut argument), ranges.len() as i64);
}

fn canonical(address: u64) -> u64 {
    ((address << 16) as i64 >> 16) as u64
}
