//! A guest's memory: guest pages on host pages in random order.

use iommu_core::{Access, Address, Backing, Gpa, GuestMemory, GuestMemoryError, Hpa, Run};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

const PAGE: u64 = 4096;

/// Numbers that look random and are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

#[derive(Default)]
struct State {
    /// Guest page number to host page number and rights.
    map: BTreeMap<u64, (u64, Access)>,
    /// The host pages of it.
    hosts: HashSet<u64>,
    contents: HashMap<u64, Box<[u64; 512]>>,
    /// Reads of single entries.
    reads: u64,
}

/// The memory of one guest.
#[derive(Default)]
pub struct GuestRam {
    state: Mutex<State>,
    /// What the guest does meanwhile: called before each read of an entry.
    meanwhile: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnMut(u64) + Send>;

impl GuestRam {
    /// Maps guest pages `first..first + count` to host pages from `host` on, in random
    /// order if `shuffle` is given.
    pub fn add(&self, first: u64, count: u64, host: u64, access: Access, shuffle: Option<u64>) {
        let mut pages: Vec<u64> = (host..host + count).collect();
        if let Some(seed) = shuffle {
            let mut random = Random(seed | 1);
            for place in (1..pages.len()).rev() {
                pages.swap(place, random.below(place as u64 + 1) as usize);
            }
        }
        let mut state = self.state.lock().unwrap();
        for (page, host) in (first..).zip(pages) {
            state.map.insert(page, (host, access));
            state.hosts.insert(host);
        }
    }

    /// Has the guest do something before each read of an entry, told where it lies.
    pub fn before_reads(&self, meanwhile: impl FnMut(u64) + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
    }

    /// Host pages that have another owner now.
    pub fn reuse(&self, runs: &[Run]) {
        let mut state = self.state.lock().unwrap();
        for run in runs {
            state.hosts.remove(&(run.hpa.as_u64() / PAGE));
        }
    }

    /// Takes guest pages away, and says what host memory was behind them. It is the guest's
    /// still, until it is reused.
    pub fn remove(&self, first: u64, count: u64) -> Vec<Run> {
        let mut state = self.state.lock().unwrap();
        (first..first + count)
            .filter_map(|page| {
                let (host, _) = state.map.remove(&page)?;
                Some(Run {
                    hpa: Hpa::new(host * PAGE),
                    pages: 1,
                })
            })
            .collect()
    }

    /// Those of these host pages that the guest does not have.
    pub fn strangers(&self, pages: &BTreeSet<u64>) -> Vec<u64> {
        let state = self.state.lock().unwrap();
        let strange = |page: &&u64| !state.hosts.contains(page);
        pages.iter().filter(strange).copied().collect()
    }

    /// The host address behind a guest address, with rights.
    pub fn host(&self, gpa: u64) -> Option<(u64, Access)> {
        let state = self.state.lock().unwrap();
        let (host, access) = state.map.get(&(gpa / PAGE))?;
        Some((host * PAGE + gpa % PAGE, *access))
    }

    /// Writes as the guest does, to any address that it has.
    pub fn write(&self, gpa: u64, value: u64) {
        let mut state = self.state.lock().unwrap();
        let (host, _) = state.map[&(gpa / PAGE)];
        let page = state
            .contents
            .entry(host)
            .or_insert_with(|| Box::new([0; 512]));
        page[(gpa % PAGE / 8) as usize] = value;
    }

    pub fn read(&self, gpa: u64) -> Option<u64> {
        let state = self.state.lock().unwrap();
        let (host, _) = state.map.get(&(gpa / PAGE))?;
        Some(state.word(*host, gpa))
    }

    /// What the guest's pages hold, those left out that were never written.
    pub fn contents(&self) -> HashMap<u64, Box<[u64; 512]>> {
        self.state.lock().unwrap().contents.clone()
    }

    pub fn write_bytes(&self, gpa: u64, bytes: &[u8]) {
        for (offset, byte) in (0..).zip(bytes) {
            let at = gpa + offset;
            let word = self.read(at & !7).unwrap();
            let shift = (at & 7) * 8;
            let word = word & !(0xff << shift) | u64::from(*byte) << shift;
            self.write(at & !7, word);
        }
    }

    pub fn read_bytes(&self, gpa: u64, count: usize) -> Vec<u8> {
        (gpa..gpa + count as u64)
            .map(|at| self.read(at & !7).unwrap().to_le_bytes()[(at & 7) as usize])
            .collect()
    }

    /// Single entries that were read since this was asked last.
    pub fn take_reads(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap().reads)
    }
}

impl State {
    fn word(&self, host: u64, address: u64) -> u64 {
        self.contents
            .get(&host)
            .map_or(0, |page| page[(address % PAGE / 8) as usize])
    }
}

impl GuestMemory for GuestRam {
    fn resolve(&self, gpa: Gpa, access: Access) -> Result<Backing, GuestMemoryError> {
        let state = self.state.lock().unwrap();
        let page = gpa.as_u64() / PAGE;
        let Some(&(host, rights)) = state.map.get(&page) else {
            return Err(GuestMemoryError::Unmapped(gpa));
        };
        if !rights.allows(access) {
            return Err(GuestMemoryError::Denied(gpa));
        }
        let more = (1..=512 * 512)
            .take_while(|step| state.map.get(&(page + step)) == Some(&(host + step, rights)))
            .count() as u64;
        Ok(Backing {
            hpa: Hpa::new(host * PAGE + gpa.as_u64() % PAGE),
            bytes: (more + 1) * PAGE - gpa.as_u64() % PAGE,
            access: rights,
        })
    }

    fn hole(&self, gpa: Gpa) -> u64 {
        let state = self.state.lock().unwrap();
        let page = gpa.as_u64() / PAGE;
        match state.map.range(page..).next() {
            Some((&next, _)) => (next - page) * PAGE,
            None => u64::MAX - gpa.as_u64(),
        }
    }

    fn read_once(&self, gpa: Gpa) -> Result<u64, GuestMemoryError> {
        assert!(gpa.is_aligned(3));
        if let Some(meanwhile) = &mut *self.meanwhile.lock().unwrap() {
            meanwhile(gpa.as_u64());
        }
        let mut state = self.state.lock().unwrap();
        state.reads += 1;
        match state.map.get(&(gpa.as_u64() / PAGE)) {
            Some(&(host, _)) => Ok(state.word(host, gpa.as_u64())),
            None => Err(GuestMemoryError::Unmapped(gpa)),
        }
    }

    fn copy_in(&self, gpa: Gpa, buffer: &mut [u8]) -> Result<(), GuestMemoryError> {
        for (offset, byte) in (0..).zip(buffer) {
            let at = gpa
                .checked_add(offset)
                .ok_or(GuestMemoryError::Unmapped(gpa))?;
            let word = self.read(at.as_u64() & !7);
            let word = word.ok_or(GuestMemoryError::Unmapped(at))?;
            *byte = word.to_le_bytes()[(at.as_u64() & 7) as usize];
        }
        Ok(())
    }

    fn copy_out(&self, gpa: Gpa, bytes: &[u8]) -> Result<(), GuestMemoryError> {
        let end = gpa
            .checked_add(bytes.len() as u64)
            .ok_or(GuestMemoryError::Unmapped(gpa))?;
        let mut at = gpa;
        while at < end {
            let backing = self.resolve(at, Access::WRITE)?;
            at = Gpa::new(at.as_u64() + backing.bytes);
        }
        self.write_bytes(gpa.as_u64(), bytes);
        Ok(())
    }
}
