//! Guests that write whatever they like into their tables: what their devices reach is what
//! a walk of the table says, and nothing else.

use crate::guest::{ALL, BASE, Guest, LARGE, PRESENT, USER, WRITABLE};
use crate::guests::{House, Hypervisor, Tenant, forget, ways};
use crate::random::{cases, count};
use crate::rig::{ONE, read, write};
use iommu_core::{Access, Gpa, GuestMemory, Hpa};
use iommu_guest::UserTable;
use proptest::prelude::*;
use vtd_model::Freedom;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Writes an entry of one of the tables.
    Store {
        table: u8,
        index: u8,
        value: Value,
    },
    /// Tells what changed: all of it.
    Flush {
        root: u8,
    },
    Bind {
        root: u8,
    },
    Unbind,
    /// The host takes a page.
    Lose {
        page: u8,
    },
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Nothing,
    Table {
        table: u8,
        bits: u8,
    },
    Page {
        page: u8,
        bits: u8,
    },
    Large {
        bits: u8,
    },
    /// Memory that the guest does not have.
    Beyond {
        bits: u8,
    },
    /// A bit that is reserved.
    Reserved {
        page: u8,
    },
}

fn value() -> impl Strategy<Value = Value> {
    let bits = || any::<u8>();
    prop_oneof![
        2 => Just(Value::Nothing),
        8 => (any::<u8>(), bits()).prop_map(|(table, bits)| Value::Table { table, bits }),
        8 => (any::<u8>(), bits()).prop_map(|(page, bits)| Value::Page { page, bits }),
        1 => bits().prop_map(|bits| Value::Large { bits }),
        1 => bits().prop_map(|bits| Value::Beyond { bits }),
        1 => any::<u8>().prop_map(|page| Value::Reserved { page }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<u8>(), any::<u8>(), value())
            .prop_map(|(table, index, value)| Step::Store { table, index, value }),
        4 => any::<u8>().prop_map(|root| Step::Flush { root }),
        3 => any::<u8>().prop_map(|root| Step::Bind { root }),
        1 => Just(Step::Unbind),
        1 => any::<u8>().prop_map(|page| Step::Lose { page }),
    ]
}

const TABLES: usize = 6;
const DATA: u64 = 8;
/// Indices that entries are written at.
const INDICES: [u64; 3] = [0, 1, 255];

/// Flags of an entry: mostly all of them.
fn flags(bits: u8) -> u64 {
    match bits % 8 {
        0 => PRESENT | USER,
        1 => PRESENT | WRITABLE,
        _ => ALL,
    }
}

struct Course<'h> {
    tenant: Tenant<'h>,
    tables: Vec<u64>,
    roots: Vec<UserTable>,
    bound: Option<usize>,
    lost: Vec<u64>,
}

impl<'h> Course<'h> {
    fn new(house: &'h House<'h>) -> Self {
        let mut tenant = house.guest(1, 32, ONE);
        let tables: Vec<u64> = (0..TABLES).map(|_| tenant.guest.table()).collect();
        let roots = tables[..2].iter().map(|&root| tenant.table(root)).collect();
        Self {
            tenant,
            tables,
            roots,
            bound: None,
            lost: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Store {
                table,
                index,
                value,
            } => {
                let table = self.tables[usize::from(table) % TABLES];
                let index = INDICES[usize::from(index) % INDICES.len()];
                let value = self.entry(value);
                self.tenant.guest.store(table + 8 * index, value);
            }
            Step::Flush { root } => {
                let root = usize::from(root) % 2;
                let flushed = self.tenant.client.flush_everything(&self.roots[root]);
                flushed.expect("flushed");
            }
            Step::Bind { root } => self.bind(usize::from(root) % 2),
            Step::Unbind => {
                if self.bound.take().is_some() {
                    self.tenant.unbind(None);
                }
            }
            Step::Lose { page } => {
                let page = self.tenant.guest.data(u64::from(page) % DATA);
                if !self.lost.contains(&page) {
                    self.lost.push(page);
                    forget(&self.tenant, page);
                }
            }
        }
        crate::rig::assert_clean(&self.tenant.house.platform);
    }

    fn entry(&self, value: Value) -> u64 {
        let page = |page: u8| self.tenant.guest.data(u64::from(page) % DATA);
        match value {
            Value::Nothing => 0,
            Value::Table { table, bits } => self.tables[usize::from(table) % TABLES] | flags(bits),
            Value::Page { page: at, bits } => page(at) | flags(bits),
            Value::Large { bits } => BASE | LARGE | flags(bits),
            Value::Beyond { bits } => 0x7fff_0000 | flags(bits),
            Value::Reserved { page: at } => page(at) | 1 << 51 | ALL,
        }
    }

    fn bind(&mut self, root: usize) {
        let device = self.tenant.device;
        let table = &self.roots[root];
        match self.bound.replace(root) {
            None => self.tenant.client.bind(device, table).expect("bound"),
            Some(_) => {
                let replaced = self.tenant.client.replace(device, None, table);
                replaced.expect("replaced");
            }
        }
    }

    /// Everything was told: what is reached is what the table says now.
    fn check(&mut self) {
        for root in &self.roots {
            self.tenant.client.flush_everything(root).expect("flushed");
        }
        let house = self.tenant.house;
        for address in addresses() {
            for writes in [false, true] {
                let request = if writes {
                    write(ONE, address)
                } else {
                    read(ONE, address)
                };
                let reached = self
                    .bound
                    .and_then(|root| walk(&self.tenant.guest, self.tables[root], address, writes));
                match reached {
                    Some(hpa) => house.assert_reaches(&request, hpa),
                    None => house.assert_blocked(&request),
                }
            }
        }
        crate::rig::assert_clean(&house.platform);
    }
}

/// Every combination of indices in the lower half.
fn addresses() -> impl Iterator<Item = u64> {
    let levels = |shift: u32| INDICES.map(|index| index << shift);
    levels(39).into_iter().flat_map(move |four| {
        levels(30).into_iter().flat_map(move |three| {
            levels(21).into_iter().flat_map(move |two| {
                levels(12)
                    .into_iter()
                    .map(move |one| four | three | two | one)
            })
        })
    })
}

/// Where a user's request ends, by §3.6 and the guest's memory map.
fn walk(guest: &Guest, root: u64, address: u64, writes: bool) -> Option<Hpa> {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let mut at = root;
    let mut writable = true;
    for level in (1..=4u32).rev() {
        let shift = 12 + 9 * (level - 1);
        let entry = guest
            .read_once(Gpa::new(at + 8 * (address >> shift & 0x1ff)))
            .ok()?;
        let target = entry & ADDRESS;
        let large = entry & LARGE != 0 && level > 1;
        // Host addresses have 46 bits; a 512 GiB page does not exist.
        let reserved = target >> 46 != 0 || large && (level == 4 || misaligned(target, shift));
        if entry & PRESENT == 0 || reserved || entry & USER == 0 {
            return None;
        }
        writable &= entry & WRITABLE != 0;
        if level == 1 || large {
            let gpa = Gpa::new(target | address & ((1 << shift) - 1));
            let allowed = writable || !writes;
            let backing = guest.resolve(gpa, Access::NONE).ok()?;
            return allowed.then_some(Hpa::new(backing.hpa.as_u64() & !0xfff));
        }
        at = target;
    }
    None
}

/// Bits between 13 and the page's size are reserved; bit 12 is PAT.
fn misaligned(target: u64, shift: u32) -> bool {
    target & ((1 << shift) - 1) & !0x1fff != 0
}

#[test]
fn whatever_a_guest_writes_its_device_reaches_what_the_table_says() {
    let ways = ways();
    let strategy = (
        0..ways.len(),
        any::<u64>(),
        any::<bool>(),
        prop::collection::vec(prop::collection::vec(step(), 1..20), 1..4),
    );
    let result = cases(count(40)).run(&strategy, |(way, seed, pessimist, parts)| {
        let freedom = if pessimist {
            Freedom::Pessimist(seed)
        } else {
            Freedom::Random(seed)
        };
        let host = Hypervisor::default();
        let house = House::new(&ways[way], freedom, &host);
        let mut course = Course::new(&house);
        for part in parts {
            for step in part {
                course.step(step);
            }
            course.check();
        }
        house.end(course.tenant);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
