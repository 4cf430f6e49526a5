//! Remapping hardware that caches all that it may, as early as it may, and forgets only
//! what it is told to forget.
//!
//! After every step that hardware could see, everything that any attached table allows is
//! in the caches: leaves and table pointers. A device can use whatever is cached, and can
//! walk on from any cached pointer.

use iommu_core::{
    Access, AddressRange, AtsCapability, Attachment, Backend, BackendError, Batch,
    DeviceCapabilities, DeviceId, DomainHandle, DomainSpec, FaultReason, FaultRecord, FlushError,
    Flushed, FrameList, Hpa, Iova, MapError, Owed, PageRequest, PageResponse, Quarantine, Replaced,
    Run, Scope, ServiceError, Slot, Stage, TableFormat, WalkStep,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use test_platform::TestPlatform;

/// A leaf in the cache: domain, start of the page, size in bits; and where it leads.
type Leaf = (DomainHandle, u64, u32, u64, bool);
/// A table pointer in the cache: domain, start of what it spans, its level; the table.
type Pointer = (DomainHandle, u64, u8, u64, bool);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Debt {
    Range(DomainHandle, AddressRange<Iova>, bool),
    Domain(DomainHandle),
    Slot(Slot, DomainHandle),
    Nothing,
}

struct Domain {
    spec: DomainSpec,
    mappings: Mappings,
    alive: bool,
}

#[derive(Default)]
pub struct State {
    domains: BTreeMap<u16, (u32, Domain)>,
    attached: BTreeMap<Slot, DomainHandle>,
    /// Still used until a flush is done.
    lingering: HashSet<(Slot, DomainHandle)>,
    leaves: HashSet<Leaf>,
    pointers: HashSet<Pointer>,
    parked_debts: usize,
    unconfirmed: bool,
    parked_frames: usize,
    pub commits: u64,
    pub descriptors: u64,
    pub ranges: Vec<(DomainHandle, AddressRange<Iova>, bool)>,
    pub wholesale: u64,
    /// Page requests that wait, and the answers that devices got.
    pub asked: Vec<PageRequest>,
    pub answered: Vec<PageResponse>,
    /// How many answers were given together, each time.
    pub answered_at_once: Vec<usize>,
    /// Slots whose requests were drained.
    pub drained: Vec<Slot>,
    /// Each drain finds that requests were dropped.
    pub overflows: bool,
    /// Times that the requests were taken.
    pub passes: u64,
    /// Locks that were held each time that hardware was waited for.
    pub locks_at_commit: Vec<usize>,
    fail: BTreeMap<&'static str, u64>,
    generation: u32,
}

/// What a paging domain holds: page to host page and rights.
type Mappings = BTreeMap<u64, (u64, Access)>;

/// Where slots lead, and what the domains are and hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    pub attached: BTreeMap<Slot, DomainHandle>,
    pub domains: BTreeMap<u16, (DomainSpec, Mappings)>,
}

/// Looks at the host pages that devices can reach.
type Check = Box<dyn Fn(&BTreeSet<u64>) + Send>;

/// The unit, with the devices behind it.
pub struct Hardware {
    platform: Arc<TestPlatform>,
    pub capabilities: DeviceCapabilities,
    pub state: Mutex<State>,
    /// Caches nothing: for tables with more paths than can be gone through.
    pub lazy: AtomicBool,
    /// Called after every step with what devices can reach now.
    reachable: Mutex<Option<Check>>,
    /// Called when page requests have been taken, before anybody is told.
    after_taking: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Hardware {
    pub fn new(platform: Arc<TestPlatform>, capabilities: DeviceCapabilities) -> Arc<Self> {
        let hardware = Arc::new(Self {
            platform: platform.clone(),
            capabilities,
            state: Mutex::default(),
            lazy: AtomicBool::new(false),
            reachable: Mutex::default(),
            after_taking: Mutex::default(),
        });
        let watcher = Arc::downgrade(&hardware);
        platform.watch(move |_| {
            if let Some(hardware) = watcher.upgrade() {
                hardware.cache_everything();
            }
        });
        hardware
    }

    /// Has `check` look at all host pages that any device can reach, after every step.
    pub fn watch_reachable(&self, check: impl Fn(&BTreeSet<u64>) + Send + 'static) {
        *self.reachable.lock().unwrap() = Some(Box::new(check));
    }

    /// Does something when page requests are taken the next time, before anybody is told.
    pub fn after_taking(&self, act: impl FnOnce() + Send + 'static) {
        *self.after_taking.lock().unwrap() = Some(Box::new(act));
    }

    /// Makes the next call of a function fail.
    pub fn fail_next(&self, function: &'static str) {
        self.state.lock().unwrap().fail.insert(function, 1);
    }

    /// The n-th call of this function from now on fails; the first is 1.
    pub fn fail_nth(&self, function: &'static str, nth: u64) {
        self.state.lock().unwrap().fail.insert(function, nth);
    }

    /// All slots that lead somewhere.
    pub fn slots(&self) -> Vec<Slot> {
        self.state
            .lock()
            .unwrap()
            .attached
            .keys()
            .copied()
            .collect()
    }

    /// All that a call which is refused must leave as it is.
    pub fn standing(&self) -> Standing {
        let state = self.state.lock().unwrap();
        let domains = state.domains.iter();
        Standing {
            attached: state.attached.clone(),
            domains: domains
                .map(|(&index, (_, domain))| (index, (domain.spec, domain.mappings.clone())))
                .collect(),
        }
    }

    pub fn parked(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.parked_debts, state.parked_frames)
    }

    /// What the device would get by a walk, with empty caches.
    pub fn walk(&self, slot: Slot, address: u64) -> Option<(u64, bool)> {
        let state = self.state.lock().unwrap();
        let handle = *state.attached.get(&slot)?;
        let (_, domain) = state.domains.get(&handle.index)?;
        match domain.spec {
            DomainSpec::Root { format, root } => {
                let offset = offset_in(format, address, self.capabilities.iova_bits)?;
                self.walk_from(format, format.levels(), root.as_u64(), offset, true)
            }
            _ => {
                let (host, access) = domain.mappings.get(&(address >> 12))?;
                Some((host << 12, access.writes()))
            }
        }
    }

    /// What the caches hold that no table says (any more): domains and addresses.
    pub fn stale(&self) -> Vec<(DomainHandle, u64)> {
        let mut state = self.state.lock().unwrap();
        let leaves = std::mem::take(&mut state.leaves);
        let pointers = std::mem::take(&mut state.pointers);
        drop(state);
        self.cache_everything();
        let mut state = self.state.lock().unwrap();
        let stale_leaves = leaves
            .difference(&state.leaves)
            .map(|leaf| (leaf.0, leaf.1));
        let stale_pointers = pointers.difference(&state.pointers).map(|p| (p.0, p.1));
        let stale = stale_leaves.chain(stale_pointers).collect();
        state.leaves = leaves;
        state.pointers = pointers;
        stale
    }

    /// Everything that the caches hold for a page of a slot.
    pub fn cached(&self, slot: Slot, address: u64) -> BTreeSet<(u64, bool)> {
        let state = self.state.lock().unwrap();
        let Some(&handle) = state.attached.get(&slot) else {
            return BTreeSet::new();
        };
        let Some((_, domain)) = state.domains.get(&handle.index) else {
            return BTreeSet::new();
        };
        let DomainSpec::Root { format, .. } = domain.spec else {
            return BTreeSet::new();
        };
        let Some(offset) = offset_in(format, address, self.capabilities.iova_bits) else {
            return BTreeSet::new();
        };
        let by_leaf = state
            .leaves
            .iter()
            .filter(|(owner, first, bits, ..)| *owner == handle && offset >> bits == first >> bits)
            .map(|(_, first, _, host, write)| ((host + (offset - first)) & !0xfff, *write));
        let by_pointer = state
            .pointers
            .iter()
            .filter(|(owner, first, level, ..)| {
                *owner == handle && offset >> (shift(*level) + 9) == first >> (shift(*level) + 9)
            })
            .filter_map(|(_, _, level, table, write)| {
                self.walk_from(format, *level, *table, offset, *write)
            });
        by_leaf.chain(by_pointer).collect()
    }

    fn walk_from(
        &self,
        format: TableFormat,
        level: u8,
        table: u64,
        offset: u64,
        mut write: bool,
    ) -> Option<(u64, bool)> {
        let mut table = table;
        for level in (1..=level).rev() {
            let index = offset >> shift(level) & 0x1ff;
            match self.entry(format, level, table, index)? {
                Entry::Table(next, writes) => {
                    write &= writes;
                    table = next;
                }
                Entry::Leaf(host, writes) => {
                    let low = (1u64 << shift(level)) - 1;
                    return Some(((host | offset & low) & !0xfff, write && writes));
                }
            }
        }
        None
    }

    /// An entry as hardware reads it. Anything reserved is a bug of whoever wrote it.
    fn entry(&self, format: TableFormat, level: u8, table: u64, index: u64) -> Option<Entry> {
        let at = Hpa::new(table + 8 * index);
        let raw = self
            .platform
            .device_load(at)
            .expect("a table lies in frames");
        let frame = raw & 0x000f_ffff_ffff_f000;
        let leaf = level == 1 || raw & 1 << 7 != 0;
        let write = raw & 2 != 0;
        match format.stage() {
            Stage::First => {
                if raw & 1 == 0 {
                    return None;
                }
                assert_eq!(raw & 4, 4, "user access in {raw:#x}");
                assert_eq!(raw & 0x20, 0x20, "accessed in {raw:#x}");
                assert!(!leaf || raw & 0x40 != 0, "dirty in {raw:#x}");
                assert_eq!(raw & 0xfff0_0000_0000_0f18, 0, "stray bits in {raw:#x}");
            }
            Stage::Second => {
                if raw & 3 == 0 {
                    return None;
                }
                assert_eq!(raw & 1, 1, "readable {raw:#x}");
                assert_eq!(raw & 0xfff0_0000_0000_0f7c, 0, "stray bits in {raw:#x}");
            }
        }
        assert!(frame >> self.capabilities.host_bits == 0, "{raw:#x}");
        if leaf && level > 1 {
            assert!(
                level <= 3 && frame & ((1 << shift(level)) - 1) == 0,
                "{raw:#x}"
            );
            let leaves = match format.stage() {
                Stage::First => self.capabilities.first_stage_leaves,
                Stage::Second => self.capabilities.second_stage_leaves,
            };
            let supported = match level {
                2 => leaves.mib2 || format.stage() == Stage::First,
                _ => leaves.gib1,
            };
            assert!(supported, "a large page that the unit lacks: {raw:#x}");
        }
        Some(if leaf {
            Entry::Leaf(frame, write)
        } else {
            Entry::Table(frame, write)
        })
    }

    /// Caches everything that attached tables allow, then has it checked.
    pub fn cache_everything(&self) {
        if self.lazy.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = Seen::default();
        let mut state = self.state.lock().unwrap();
        let live: HashSet<DomainHandle> = state
            .attached
            .values()
            .copied()
            .chain(state.lingering.iter().map(|(_, domain)| *domain))
            .collect();
        for handle in &live {
            let Some((_, domain)) = state.domains.get(&handle.index) else {
                continue;
            };
            if let DomainSpec::Root { format, root } = domain.spec {
                self.cache_table(
                    &mut state,
                    &mut seen,
                    *handle,
                    format,
                    format.levels(),
                    root.as_u64(),
                    0,
                    true,
                );
            }
        }
        // Hardware may also walk on from pointers that it has kept.
        let pointers: Vec<Pointer> = state
            .pointers
            .iter()
            .filter(|pointer| live.contains(&pointer.0) && !seen.fresh.contains(*pointer))
            .copied()
            .collect();
        for (handle, first, level, table, write) in pointers {
            let Some((_, domain)) = state.domains.get(&handle.index) else {
                continue;
            };
            let DomainSpec::Root { format, .. } = domain.spec else {
                continue;
            };
            self.cache_table(
                &mut state, &mut seen, handle, format, level, table, first, write,
            );
        }
        let mut reachable = BTreeSet::new();
        for (handle, _, bits, host, _) in &state.leaves {
            if live.contains(handle) {
                let pages = 1u64 << (bits - 12);
                reachable.extend((host >> 12..).take(pages as usize));
            }
        }
        for (_, domain) in state.domains.values() {
            reachable.extend(domain.mappings.values().map(|(host, _)| *host));
        }
        drop(state);
        if let Some(check) = &*self.reachable.lock().unwrap() {
            check(&reachable);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn cache_table(
        &self,
        state: &mut State,
        seen: &mut Seen,
        handle: DomainHandle,
        format: TableFormat,
        level: u8,
        table: u64,
        first: u64,
        write: bool,
    ) {
        let entries = seen.tables.entry((table, level)).or_insert_with(|| {
            let entries = (0..512)
                .filter_map(|index| Some((index, self.entry(format, level, table, index)?)));
            Rc::new(entries.collect())
        });
        for (index, entry) in entries.clone().iter() {
            let start = first | index << shift(level);
            match *entry {
                Entry::Leaf(host, writes) => {
                    let leaf = (handle, start, shift(level), host, write && writes);
                    state.leaves.insert(leaf);
                }
                Entry::Table(next, writes) => {
                    let write = write && writes;
                    let pointer = (handle, start, level - 1, next, write);
                    state.pointers.insert(pointer);
                    seen.fresh.insert(pointer);
                    self.cache_table(state, seen, handle, format, level - 1, next, start, write);
                }
            }
        }
    }

    fn take_failure(&self, function: &'static str) -> bool {
        let mut state = self.state.lock().unwrap();
        match state.fail.get_mut(function) {
            Some(nth) if *nth > 1 => {
                *nth -= 1;
                false
            }
            Some(_) => state.fail.remove(function).is_some(),
            None => false,
        }
    }

    fn settle(&self, debt: &Debt) {
        let mut state = self.state.lock().unwrap();
        match *debt {
            Debt::Nothing => {}
            Debt::Range(domain, range, leaf_only) => {
                let format = state.domains.get(&domain.index).map(|(_, d)| d.spec);
                let Some(DomainSpec::Root { format, .. }) = format else {
                    return;
                };
                for end in [range.first(), range.last()] {
                    assert!(
                        io_pgtable::in_width(format, end, self.capabilities.iova_bits),
                        "a flush of what no request can name: {end}"
                    );
                }
                let mask = (1u64 << format.input_bits()) - 1;
                let (low, high) = (range.first().as_u64() & mask, range.last().as_u64() & mask);
                let meets =
                    |first: u64, bits: u32| first <= high && low <= first + ((1u64 << bits) - 1);
                state
                    .leaves
                    .retain(|leaf| leaf.0 != domain || !meets(leaf.1, leaf.2));
                if !leaf_only {
                    state
                        .pointers
                        .retain(|p| p.0 != domain || !meets(p.1, shift(p.2) + 9));
                }
                state.ranges.push((domain, range, leaf_only));
            }
            Debt::Domain(domain) => {
                state.leaves.retain(|leaf| leaf.0 != domain);
                state.pointers.retain(|pointer| pointer.0 != domain);
                state.wholesale += 1;
            }
            Debt::Slot(slot, domain) => {
                state.lingering.remove(&(slot, domain));
                let used = state.attached.values().any(|other| *other == domain)
                    || state.lingering.iter().any(|(_, other)| *other == domain);
                if !used {
                    state.leaves.retain(|leaf| leaf.0 != domain);
                    state.pointers.retain(|pointer| pointer.0 != domain);
                }
            }
        }
        state.descriptors += 1;
    }
}

/// Present entries of a table, by index.
type Entries = Vec<(u64, Entry)>;

/// What was found in this step already.
#[derive(Default)]
struct Seen {
    /// Present entries of tables.
    tables: HashMap<(u64, u8), Rc<Entries>>,
    /// Pointers that tables lead to now.
    fresh: HashSet<Pointer>,
}

enum Entry {
    Table(u64, bool),
    Leaf(u64, bool),
}

fn shift(level: u8) -> u32 {
    12 + 9 * (u32::from(level) - 1)
}

/// Where in a table's span an address is looked up, if at all.
fn offset_in(format: TableFormat, address: u64, iova_bits: u8) -> Option<u64> {
    io_pgtable::in_width(format, Iova::new(address), iova_bits)
        .then(|| address & ((1u64 << format.input_bits()) - 1))
}

impl Quarantine<Debt> for Hardware {
    fn park(&self, debt: Debt, frames: FrameList) {
        let mut state = self.state.lock().unwrap();
        if debt != Debt::Nothing {
            state.parked_debts += 1;
            state.unconfirmed = true;
        }
        state.parked_frames += frames.len();
    }
}

/// A reference to the hardware, as a back-end.
#[derive(Clone)]
pub struct Unit(pub Arc<Hardware>);

impl std::ops::Deref for Unit {
    type Target = Hardware;

    fn deref(&self) -> &Hardware {
        &self.0
    }
}

impl Unit {
    fn owed(&self, debt: Debt) -> Owed<'_, Debt> {
        Owed::new(debt, FrameList::new(), &*self.0)
    }
}

impl Backend for Unit {
    type Debt = Debt;

    fn capabilities(&self, _: DeviceId) -> Result<DeviceCapabilities, BackendError> {
        Ok(self.capabilities)
    }

    fn create(&self, device: DeviceId, spec: &DomainSpec) -> Result<DomainHandle, BackendError> {
        if self.take_failure("create") {
            return Err(BackendError::OutOfDomains);
        }
        let format = match *spec {
            DomainSpec::Paging(format) | DomainSpec::Root { format, .. } => format,
            DomainSpec::Nested(_) => return Err(BackendError::Unsupported(device)),
        };
        if !self.capabilities.supports(format) {
            return Err(BackendError::FormatUnsupported { device, format });
        }
        let mut state = self.state.lock().unwrap();
        state.generation += 1;
        let generation = state.generation;
        let index = (0..)
            .find(|index| !state.domains.contains_key(index))
            .unwrap();
        let domain = Domain {
            spec: *spec,
            mappings: BTreeMap::new(),
            alive: true,
        };
        state.domains.insert(index, (generation, domain));
        Ok(DomainHandle { index, generation })
    }

    fn destroy(&self, handle: DomainHandle) -> Result<Owed<'_, Debt>, BackendError> {
        let mut state = self.state.lock().unwrap();
        if state.attached.values().any(|other| *other == handle) {
            return Err(BackendError::Busy(handle));
        }
        match state.domains.get(&handle.index) {
            Some((generation, _)) if *generation == handle.generation => {}
            _ => return Err(BackendError::NoDomain(handle)),
        }
        // Lingering users go on with what is cached, and with the table.
        if !state.lingering.iter().any(|(_, other)| *other == handle) {
            state.domains.remove(&handle.index);
        } else if let Some((_, domain)) = state.domains.get_mut(&handle.index) {
            domain.alive = false;
        }
        drop(state);
        Ok(self.owed(Debt::Domain(handle)))
    }

    fn map(
        &self,
        domain: DomainHandle,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Owed<'_, Debt>, MapError> {
        let mut state = self.state.lock().unwrap();
        if state.fail.remove("map").is_some() {
            return Err(MapError::OutOfFrames(iommu_core::OutOfFrames {
                order: iommu_core::Order::PAGE,
            }));
        }
        let (_, domain) = state.domains.get_mut(&domain.index).expect("a domain");
        let mut page = iova.as_u64() >> 12;
        for run in runs {
            for host in (run.hpa.as_u64() >> 12..).take(run.pages as usize) {
                if domain.mappings.insert(page, (host, access)).is_some() {
                    return Err(MapError::Occupied(iova));
                }
                page += 1;
            }
        }
        drop(state);
        self.cache_everything();
        Ok(self.owed(Debt::Nothing))
    }

    fn unmap(
        &self,
        domain: DomainHandle,
        range: AddressRange<Iova>,
    ) -> Result<Owed<'_, Debt>, MapError> {
        let mut state = self.state.lock().unwrap();
        if state.fail.remove("unmap").is_some() {
            return Err(MapError::OutOfFrames(iommu_core::OutOfFrames {
                order: iommu_core::Order::PAGE,
            }));
        }
        let (_, domain) = state.domains.get_mut(&domain.index).expect("a domain");
        let pages = range.first().as_u64() >> 12..=range.last().as_u64() >> 12;
        domain.mappings.retain(|page, _| !pages.contains(page));
        drop(state);
        Ok(self.owed(Debt::Nothing))
    }

    fn replace(&self, slot: Slot, to: Attachment) -> Result<Replaced<'_, Debt>, BackendError> {
        if self.take_failure("replace") {
            return Err(BackendError::Unsupported(slot.device));
        }
        let mut state = self.state.lock().unwrap();
        let previous = match to {
            Attachment::Domain(handle) => {
                let known = state.domains.get(&handle.index);
                if known.is_none_or(|(generation, _)| *generation != handle.generation) {
                    return Err(BackendError::NoDomain(handle));
                }
                state.attached.insert(slot, handle)
            }
            Attachment::Blocked => state.attached.remove(&slot),
            Attachment::PassThrough => return Err(BackendError::Unsupported(slot.device)),
        };
        let debt = match previous {
            Some(previous) => {
                state.lingering.insert((slot, previous));
                Debt::Slot(slot, previous)
            }
            None => Debt::Nothing,
        };
        drop(state);
        self.cache_everything();
        Ok(Replaced {
            previous: previous.map_or(Attachment::Blocked, Attachment::Domain),
            hitless: true,
            owed: self.owed(debt),
        })
    }

    fn attachment(&self, slot: Slot) -> Result<Attachment, BackendError> {
        let state = self.state.lock().unwrap();
        Ok(state
            .attached
            .get(&slot)
            .map_or(Attachment::Blocked, |domain| Attachment::Domain(*domain)))
    }

    fn invalidate(
        &self,
        domain: DomainHandle,
        scope: Scope,
    ) -> Result<Owed<'_, Debt>, BackendError> {
        Ok(self.owed(match scope {
            Scope::Range { range, leaf_only } => Debt::Range(domain, range, leaf_only),
            Scope::Everything => Debt::Domain(domain),
        }))
    }

    fn commit(&self, batch: &mut Batch<'_, Debt>) -> Result<Flushed, FlushError> {
        if self.take_failure("commit") {
            let debts: Vec<Debt> = batch.debts().to_vec();
            let frames = batch.settle();
            self.park(debts[0], frames);
            self.state.lock().unwrap().unconfirmed = true;
            return Err(FlushError::UnitTimedOut {
                unit: 0,
                waited: iommu_core::Nanoseconds::from_millis(1),
            });
        }
        let locks = self.platform.locks_held();
        self.state.lock().unwrap().locks_at_commit.push(locks);
        // Until it is told, hardware goes on with what it has.
        self.cache_everything();
        let debts: Vec<Debt> = batch.debts().to_vec();
        // A domain is forgotten only when nobody lingers on it.
        for debt in debts.iter().filter(|debt| matches!(debt, Debt::Slot(..))) {
            self.settle(debt);
        }
        for debt in debts.iter().filter(|debt| !matches!(debt, Debt::Slot(..))) {
            self.settle(debt);
        }
        let mut state = self.state.lock().unwrap();
        let lingering: HashSet<DomainHandle> =
            state.lingering.iter().map(|(_, domain)| *domain).collect();
        state.domains.retain(|index, (generation, domain)| {
            domain.alive
                || lingering.contains(&DomainHandle {
                    index: *index,
                    generation: *generation,
                })
        });
        state.commits += 1;
        drop(state);
        // What was forgotten may be cached again at once, as the tables are now.
        self.cache_everything();
        Ok(Flushed {
            frames: batch.settle(),
            descriptors: debts.len() as u32 + 1,
            doorbells: 1,
            waits: 1,
        })
    }

    fn reclaim(&self) -> Result<Flushed, FlushError> {
        if self.take_failure("reclaim") {
            return Err(FlushError::UnitTimedOut {
                unit: 0,
                waited: iommu_core::Nanoseconds::from_millis(1),
            });
        }
        let mut state = self.state.lock().unwrap();
        state.leaves.clear();
        state.pointers.clear();
        state.lingering.clear();
        state.unconfirmed = false;
        drop(state);
        self.cache_everything();
        Ok(Flushed::default())
    }

    fn has_unconfirmed(&self) -> bool {
        self.state.lock().unwrap().unconfirmed
    }

    fn drain_faults(&self, _: &mut dyn FnMut(&FaultRecord)) {}

    fn drain_page_requests(&self, sink: &mut dyn FnMut(&PageRequest)) {
        let asked = {
            let mut state = self.state.lock().unwrap();
            state.passes += 1;
            std::mem::take(&mut state.asked)
        };
        let act = self.after_taking.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        asked.iter().for_each(sink);
    }

    fn enable_page_requests(
        &self,
        _: DeviceId,
        _: AtsCapability,
        turn_on: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        turn_on().map_err(BackendError::Device)
    }

    fn respond(&self, response: &PageResponse) -> Result<(), BackendError> {
        self.respond_all(std::slice::from_ref(response))
    }

    fn respond_all(&self, responses: &[PageResponse]) -> Result<(), BackendError> {
        let mut state = self.state.lock().unwrap();
        state.answered.extend(responses);
        state.answered_at_once.push(responses.len());
        Ok(())
    }

    fn flush_page_requests(&self, slot: Slot) -> Result<bool, BackendError> {
        let mut state = self.state.lock().unwrap();
        state.drained.push(slot);
        Ok(state.overflows)
    }

    fn explain(
        &self,
        _: Slot,
        _: Iova,
        _: Access,
        _: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, FaultReason> {
        Err(FaultReason::CONTEXT_NOT_PRESENT)
    }
}
