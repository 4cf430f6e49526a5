//! The model's memory: RAM by pages that come into being when they are stored to, the ROM,
//! and nothing elsewhere, as in the emulated machine.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use vtd_model::HostMemory;

use crate::bench::{RAM_END, ROM, ROM_TABLE, rom_entry};

type Page = [u64; 512];

/// Memory of one case.
#[derive(Default)]
pub(crate) struct Memory {
    pages: Mutex<FxHashMap<u64, Box<Page>>>,
}

/// Whether RAM lies there.
pub(crate) fn is_ram(hpa: u64) -> bool {
    hpa < RAM_END
}

impl Memory {
    fn pages(&self) -> MutexGuard<'_, FxHashMap<u64, Box<Page>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(hpa: u64) -> (u64, usize) {
    (hpa >> 12, (hpa & 0xfff) as usize / 8)
}

fn fresh() -> Box<Page> {
    Box::new([0; 512])
}

impl HostMemory for Memory {
    fn load(&self, hpa: u64) -> Option<u64> {
        if (ROM_TABLE..ROM_TABLE + 0x1000).contains(&hpa) {
            return Some(rom_entry((hpa - ROM_TABLE) / 8));
        }
        if ROM.contains(&hpa) {
            return Some(0);
        }
        let (page, index) = place(hpa);
        is_ram(hpa).then(|| self.pages().get(&page).map_or(0, |cells| cells[index]))
    }

    fn store(&self, hpa: u64, value: u64) -> Option<()> {
        let (page, index) = place(hpa);
        is_ram(hpa).then(|| self.pages().entry(page).or_insert_with(fresh)[index] = value)
    }

    fn compare_exchange(&self, hpa: u64, current: u64, new: u64) -> Option<Result<u64, u64>> {
        let (page, index) = place(hpa);
        is_ram(hpa).then(|| {
            let mut pages = self.pages();
            let cell = &mut pages.entry(page).or_insert_with(fresh)[index];
            if *cell != current {
                return Err(*cell);
            }
            *cell = new;
            Ok(current)
        })
    }
}
