//! Making hardware forget what a guest changed.

use crate::argument::{check_entry_size, copy_entry, element};
use crate::dispatch::Answer;
use crate::error::{Refusal, of_settle, of_shadow};
use crate::shadow::{MAX_RANGES, MAX_WORK, RootId, ShadowError, add_debt};
use crate::vm::{Binding, Translation, Vm};
use crate::{Iommu, PasidAllocator};
use arrayvec::ArrayVec;
use iommu_abi::{Errno, Granularity, Invalidate, InvalidateModel, InvalidateRange};
use iommu_core::{
    Address, AddressRange, Backend, Batch, DomainHandle, Iova, PAGE_SHIFT, Platform, RangeError,
    Scope, VmHost,
};

/// Entries that one call does, at most.
pub(crate) const MAX_ENTRIES: u32 = 512;

/// The shadows of one table: one for each kind that its devices need.
type RootsOfTable = ArrayVec<RootId, 8>;
/// The domains in which hardware walks one table itself: one for each second stage.
type NestedOfTable = ArrayVec<DomainHandle, 4>;

/// An invalidation that was checked: what it is about.
pub(crate) struct Prepared {
    granularity: Granularity,
    levels: u8,
    roots: RootsOfTable,
    nested: NestedOfTable,
}

impl Prepared {
    pub(crate) fn new(guest: &Vm, ask: &Invalidate) -> Result<Self, Errno> {
        let granularity = Granularity::from_u32(ask.granularity).ok_or(Errno::EOPNOTSUPP)?;
        let levels = guest.objects.user_table(ask.ioas_id)?.levels;
        check_array(granularity, ask)?;
        Ok(Self {
            granularity,
            levels,
            roots: roots_of(guest, ask.ioas_id),
            nested: nested_of(guest, ask.ioas_id),
        })
    }
}

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn invalidate(&self, guest: &mut Vm, ask: &mut Invalidate) -> Answer {
        let prepared = Prepared::new(guest, ask)?;
        let ranges = ranges_for(prepared.granularity, ask.entry_count);
        let told = prepared
            .nested
            .len()
            .saturating_mul(entries_of(prepared.granularity, ask.entry_count));
        let mut batch = self.batch_for(guest, ranges.saturating_add(told))?;
        guest.shadow.begin(ranges);
        guest.shadow.let_stop();
        let looked = self.look(guest, ask, &prepared, &mut batch);
        // What was done is settled, whatever came after it.
        let settled = self.settle_part(guest, &mut batch);
        self.note_invalidation(guest, ask.ioas_id, settled);
        match settled.and(looked) {
            Ok(()) => Ok(ask.completed.into()),
            Err(errno) => Err(Refusal::with_outputs(errno)),
        }
    }

    /// Looks at what the guest says that it changed. Hardware is told when the batch and the
    /// shadow are settled.
    pub(crate) fn look<'b>(
        &'b self,
        guest: &mut Vm,
        ask: &mut Invalidate,
        prepared: &Prepared,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Errno> {
        match prepared.granularity {
            Granularity::Everything => self.everything(guest, &prepared.roots).and(self.tell(
                &prepared.nested,
                Scope::Everything,
                batch,
            )),
            Granularity::Ranges => self.ranges(guest, ask, prepared, batch),
        }
    }

    /// The guest changed tables of its own: these addresses of each, or all of it. Hardware is
    /// told once.
    pub(crate) fn forget_tables(
        &self,
        guest: &mut Vm,
        changes: &[(u32, Option<InvalidateRange>)],
    ) -> Result<(), Errno> {
        let mut ranges = ranges_for(Granularity::Everything, 0);
        let mut told = 0usize;
        for (ioas_id, entry) in changes {
            if let Some(entry) = entry {
                range_of(entry, guest.objects.user_table(*ioas_id)?.levels)?;
                ranges = ranges.saturating_add(ranges_for(Granularity::Ranges, 1));
            }
            told = told.saturating_add(nested_of(guest, *ioas_id).len());
        }
        let ranges = ranges.min(MAX_RANGES);
        let mut batch = self.batch_for(guest, ranges.saturating_add(told))?;
        guest.shadow.begin(ranges);
        guest.shadow.let_stop();
        let mut result = Ok(());
        for (ioas_id, entry) in changes {
            result = result.and(self.forget_table(guest, *ioas_id, entry.as_ref(), &mut batch));
        }
        self.settle_part(guest, &mut batch).and(result)
    }

    fn forget_table<'b>(
        &'b self,
        guest: &mut Vm,
        ioas_id: u32,
        entry: Option<&InvalidateRange>,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Errno> {
        let levels = guest.objects.user_table(ioas_id)?.levels;
        let roots = roots_of(guest, ioas_id);
        let nested = nested_of(guest, ioas_id);
        let Some(entry) = entry else {
            let looked = self.everything(guest, &roots);
            return looked.and(self.tell(&nested, Scope::Everything, batch));
        };
        let range = range_of(entry, levels)?;
        let of_table = (&roots, &nested);
        let done = self.one_range(guest, of_table, entry, range, batch);
        done.map_err(Errno::from)
    }

    /// Settles what may be a part of a call. If hardware does not confirm, that is how the call
    /// ends.
    fn settle_part<'b>(
        &'b self,
        guest: &mut Vm,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Errno> {
        let settled = self.settle(guest, batch);
        if settled.is_err() {
            guest.shadow.give_up_part();
        }
        settled
    }

    fn everything(&self, guest: &mut Vm, roots: &RootsOfTable) -> Result<(), Errno> {
        let memory = guest.memory.clone();
        let context = Vm::context(&memory, &self.platform);
        let mut result = Ok(());
        for &root in roots {
            result = result.and(guest.shadow.sync_all(&context, root));
        }
        result.map_err(of_shadow)
    }

    /// What the guest says that it changed is what hardware that walks its table is told,
    /// hint included: who says less than the truth misleads its own devices only.
    fn tell<'b>(
        &'b self,
        nested: &NestedOfTable,
        scope: Scope,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Errno> {
        for &domain in nested {
            add_debt(batch, self.backend.invalidate(domain, scope)).map_err(of_settle)?;
        }
        Ok(())
    }

    fn ranges<'b>(
        &'b self,
        guest: &mut Vm,
        ask: &mut Invalidate,
        prepared: &Prepared,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Errno> {
        let before = guest.shadow.work();
        for index in 0..ask.entry_count.min(MAX_ENTRIES) {
            let at = element(ask.entries, ask.entry_size, index)?;
            let entry: InvalidateRange = copy_entry(&*guest.memory, at, ask.entry_size)?;
            let range = range_of(&entry, prepared.levels)?;
            let of_table = (&prepared.roots, &prepared.nested);
            match self.one_range(guest, of_table, &entry, range, batch) {
                // The guest asks for the rest, as for what comes after.
                Err(Stopped::Unfinished) if index > 0 => {
                    guest.shadow.give_up_part();
                    break;
                }
                done => done?,
            }
            ask.completed = index.saturating_add(1);
            if guest.shadow.work().saturating_sub(before) > MAX_WORK {
                break;
            }
        }
        Ok(())
    }

    fn one_range<'b>(
        &'b self,
        guest: &mut Vm,
        (roots, nested): (&RootsOfTable, &NestedOfTable),
        entry: &InvalidateRange,
        range: AddressRange<Iova>,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), Stopped> {
        let memory = guest.memory.clone();
        let context = Vm::context(&memory, &self.platform);
        for &root in roots {
            guest.shadow.sync(&context, root, &range)?;
        }
        let leaf_only = entry.flags & InvalidateRange::LEAF != 0;
        self.tell(nested, Scope::Range { range, leaf_only }, batch)
            .map_err(Stopped::Failed)
    }
}

/// Why a range is not done.
enum Stopped {
    /// The call has done its work for now.
    Unfinished,
    Failed(Errno),
}

impl From<ShadowError> for Stopped {
    fn from(error: ShadowError) -> Self {
        match error {
            ShadowError::Unfinished => Self::Unfinished,
            error => Self::Failed(of_shadow(error)),
        }
    }
}

impl From<Stopped> for Errno {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Unfinished => of_shadow(ShadowError::Unfinished),
            Stopped::Failed(errno) => errno,
        }
    }
}

/// How many ranges hardware can be made to forget one by one: enough for entries that are
/// each at a few places. What is beyond is forgotten wholesale.
fn ranges_for(granularity: Granularity, entries: u32) -> usize {
    const FEW: usize = 4;
    const AT_LEAST: usize = 32;
    let entries = match granularity {
        Granularity::Everything => 0,
        Granularity::Ranges => entries_of(granularity, entries),
    };
    entries
        .saturating_mul(FEW)
        .saturating_add(AT_LEAST)
        .min(MAX_RANGES)
}

/// Changes that one call tells, at most.
fn entries_of(granularity: Granularity, entries: u32) -> usize {
    match granularity {
        Granularity::Everything => 1,
        Granularity::Ranges => entries.min(MAX_ENTRIES) as usize,
    }
}

fn check_array(granularity: Granularity, ask: &Invalidate) -> Result<(), Errno> {
    match granularity {
        Granularity::Everything => {
            let unused = [ask.entry_size, ask.entry_count, ask.model];
            if ask.entries != 0 || unused != [0; 3] {
                return Err(Errno::EINVAL);
            }
        }
        Granularity::Ranges => {
            InvalidateModel::from_u32(ask.model).ok_or(Errno::EOPNOTSUPP)?;
            check_entry_size::<InvalidateRange>(ask.entry_size)?;
        }
    }
    Ok(())
}

fn roots_of(guest: &Vm, ioas_id: u32) -> RootsOfTable {
    let mut roots = RootsOfTable::new();
    let of_table = guest
        .bindings
        .iter()
        .filter(|binding| binding.ioas_id == ioas_id);
    for root in of_table.filter_map(Binding::root) {
        if !roots.contains(&root) {
            // There are no more kinds than there is room.
            let _ = roots.try_push(root);
        }
    }
    roots
}

fn nested_of(guest: &Vm, ioas_id: u32) -> NestedOfTable {
    let mut domains = NestedOfTable::new();
    let of_table = guest.bindings.iter().filter(|binding| {
        binding.ioas_id == ioas_id && matches!(binding.translation, Translation::Nested(_))
    });
    for binding in of_table {
        if !domains.contains(&binding.domain) {
            // There are no more second stages than there is room.
            let _ = domains.try_push(binding.domain);
        }
    }
    domains
}

/// The addresses that an entry of the array names: refused, never rounded.
pub(crate) fn range_of(entry: &InvalidateRange, levels: u8) -> Result<AddressRange<Iova>, Errno> {
    if entry.flags & !InvalidateRange::FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let first = Iova::new(entry.address);
    let range = AddressRange::of_pages(first, entry.pages).map_err(|error| match error {
        RangeError::Wraps => Errno::EOVERFLOW,
        RangeError::Empty | RangeError::Misaligned => Errno::EINVAL,
    })?;
    // Canonical at both ends, and so in one half.
    let unused = if levels == 5 { 7u32 } else { 16 };
    let half = |address: Iova| (address.as_u64() as i64) >> 63u32.saturating_sub(unused);
    let (low, high) = (half(range.first()), half(range.last()));
    debug_assert!(first.is_aligned(PAGE_SHIFT));
    if low == high && (low == 0 || low == -1) {
        Ok(range)
    } else {
        Err(Errno::EINVAL)
    }
}
