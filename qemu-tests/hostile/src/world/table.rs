//! Tables that guests keep: laid, changed as a guest that knows what it does would, or written
//! full of anything.

use super::{ALL, BASE, CALL_PAGES, LARGE, LARGE_PAGE, Life, ROOTS, World};
use crate::belief::{Belief, Woven};
use crate::calls;
use crate::ram::lock;
use iommu_abi::Op;

/// Leaves that guests map, by number of the page: neighbours, and both sides of a table's end.
pub(super) const LEAVES: [u64; 10] = [1, 2, 3, 8, 0x100, 0x1fe, 0x1ff, 0x200, 0x201, 0x3ff];

impl World {
    pub(super) fn map_page(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        random: &mut fastrand::Rng,
    ) -> String {
        let known = lock(&life.belief).clone();
        let bound: Vec<_> = known
            .tables
            .iter()
            .filter(|table| known.is_bound(table.handle))
            .collect();
        let wanted = if bound.is_empty() || random.u8(..4) == 0 {
            random.choice(&known.tables)
        } else {
            random.choice(bound)
        };
        let Some(&table) = wanted else {
            let op = calls::possible(Op::IoasAllocate, &known);
            return self.call(guest, cpu, life, op, random);
        };
        if !self.setting.guests[guest].polite && random.u8(..4) == 0 {
            lay_tables(life);
        }
        let place = LEAVES[random.usize(..LEAVES.len())];
        let gva = place << 12;
        let gpa = known.data_pages[place as usize % known.data_pages.len()];
        let leaf = known.table_pages[ROOTS + 2 + (place >> 9) as usize] + 8 * (place & 0x1ff);
        life.ram.store(leaf, gpa | ALL);
        let words = self.flush(guest, cpu, life, &known, table.handle, gva, random);
        if words.ends_with("ok") {
            lock(&life.belief).weave(Woven {
                ioas: table.handle,
                gva,
                gpa,
            });
            if self.setting.guests[guest].polite {
                self.promise(guest, life);
            }
        }
        format!(
            "maps {gva:#x} to {gpa:#x} in table {}: {words}",
            table.handle
        )
    }

    pub(super) fn unmap_page(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        random: &mut fastrand::Rng,
    ) -> String {
        let known = lock(&life.belief).clone();
        let Some(&woven) = random.choice(&known.woven) else {
            return self.map_page(guest, cpu, life, random);
        };
        // The leaf is shared by all tables of the guest.
        lock(&life.belief)
            .woven
            .retain(|other| other.gva != woven.gva);
        for device in &known.devices {
            self.release_of(life, device, woven.gva, 0x1000);
        }
        if self.setting.guests[guest].polite {
            self.promise(guest, life);
        }
        let place = woven.gva >> 12;
        let leaf = known.table_pages[ROOTS + 2 + (place >> 9) as usize] + 8 * (place & 0x1ff);
        life.ram.store(leaf, 0);
        let words = self.flush(guest, cpu, life, &known, woven.ioas, woven.gva, random);
        format!("unmaps {:#x}: {words}", woven.gva)
    }

    /// Tells that one page of a table changed.
    #[expect(clippy::too_many_arguments, reason = "who, where, what, and chance")]
    fn flush(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        known: &Belief,
        ioas: u32,
        gva: u64,
        random: &mut fastrand::Rng,
    ) -> String {
        let mut known = known.clone();
        known.buffer += 0x400 * cpu as u64;
        let call = calls::invalidate_page(ioas, gva, known.buffer);
        self.make(guest, cpu, life, &known, call, random)
    }
}

/// The guest's tables as they begin: roots that lead to one table of each level below, and two
/// of the lowest.
pub(super) fn lay_tables(life: &Life) {
    let pages = lock(&life.belief).table_pages.clone();
    let [third, second, low, high] = [0, 1, 2, 3].map(|index| pages[ROOTS + index]);
    for root in &pages[..ROOTS] {
        life.ram.store(*root, third | ALL);
    }
    life.ram.store(third, second | ALL);
    life.ram.store(second, low | ALL);
    life.ram.store(second + 8, high | ALL);
}

/// Entries that lead anywhere: to tables of all levels, to themselves, to data, beyond memory.
pub(super) fn weave(life: &Life, random: &mut fastrand::Rng) -> String {
    const INDICES: [u64; 6] = [0, 1, 2, 255, 256, 511];
    let belief = lock(&life.belief).clone();
    let first = if random.u8(..4) == 0 { 0 } else { ROOTS + 2 };
    let table = belief.table_pages[random.usize(first..belief.table_pages.len())];
    let entry = table + 8 * INDICES[random.usize(..INDICES.len())];
    let bits = match random.u8(..6) {
        0 => 5,
        1 => 3,
        2 => 1,
        _ => ALL,
    };
    let value = match random.u8(..12) {
        0 => 0,
        1..5 => belief.table_pages[random.usize(..belief.table_pages.len())] | bits,
        5..8 => belief.data_pages[random.usize(..belief.data_pages.len())] | bits,
        8 => table | bits,
        9 => [BASE & !0x1f_ffff, LARGE_PAGE][random.usize(..2)] | LARGE | bits,
        10 => [0x7fff_0000, 0xfee0_0000, 0x12_4000_0000, 1 << 45][random.usize(..4)] | bits,
        _ => belief.data_pages[0] | bits | 1 << random.u32(40..63),
    };
    life.ram.store(entry, value);
    format!("writes {value:#x} at {entry:#x}")
}

/// Writes where a call may have its argument or its arrays.
pub(super) fn scribble(life: &Life, random: &mut fastrand::Rng) -> String {
    let at = match random.u8(..4) {
        // Into a ring.
        0 => BASE + 0x1000 * (CALL_PAGES - 1) + calls::RING_OFFSET + 8 * random.u64(..96),
        _ => BASE + 0x1000 * random.u64(..CALL_PAGES) + 8 * random.u64(..80),
    };
    let value = match random.u8(..4) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::from(random.u8(..64)),
        _ => random.u64(..),
    };
    life.ram.store(at, value);
    format!("scribbles {value:#x} at {at:#x}")
}
