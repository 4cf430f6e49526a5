//! Making shadow pages say what the guest's tables say now.

use super::key::{Key, Role, low_bits};
use super::kind::Kind;
use super::pages::{EntryRef, PageId, ShadowError, Target};
use super::plan::Run;
use super::source::{self, Wanted};
use super::{Context, RootId, Shadow};
use core::sync::atomic::{AtomicU64, Ordering};
use io_pgtable::spec::{FirstStageEntry, SecondStageEntry};
use io_pgtable::{Entry, decode, encode_leaf, encode_table, index_of, span_shift};
use iommu_core::{Access, AddressRange, Coherence, Frame, Hpa, Iova, Platform, Stage, TableFormat};

/// The last entry of a page.
const LAST: usize = Frame::CELLS_IN_PAGE - 1;

/// A part of what a page spans, by the offsets of its first and last byte.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
}

impl Span {
    const WHOLE: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// The part of it below entry `index` of a page of `level`.
    fn below(&self, level: u8, index: usize) -> Self {
        let shift = span_shift(level);
        let mask = low_bits(shift);
        let base = (index as u64) << shift;
        Self {
            first: self.first.saturating_sub(base).min(mask),
            last: self.last.saturating_sub(base).min(mask),
        }
    }
}

/// What became of an entry.
struct Synced {
    /// It changed and hardware must be told; the flag says that it was a leaf.
    told: Option<bool>,
    /// The page below, and whether this is a new way to it.
    child: Option<(PageId, bool)>,
}

impl Shadow {
    /// Looks at the guest's entries for a range again. A range beyond what the root
    /// translates is harmless.
    ///
    /// On error the entry for which there was no page is not present; those before it in
    /// the range are done.
    pub(crate) fn sync<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        root: RootId,
        range: &AddressRange<Iova>,
    ) -> Result<(), ShadowError> {
        let Some((page, spans)) = self.offsets(root, range) else {
            return Ok(());
        };
        for span in spans.into_iter().flatten() {
            self.look_at(context, page, span)?;
        }
        Ok(())
    }

    /// Looks at every entry of a root again.
    pub(crate) fn sync_all<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        root: RootId,
    ) -> Result<(), ShadowError> {
        match self.roots.get(root).map(|root| root.page) {
            Some(page) => self.look_at_all(context, page),
            None => Ok(()),
        }
    }

    pub(super) fn look_at_all<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        page: PageId,
    ) -> Result<(), ShadowError> {
        self.look_at(context, page, Span::WHOLE)
    }

    /// The root's page, and the offsets in what it spans that the range means: at most one
    /// in each canonical half.
    fn offsets(
        &self,
        root: RootId,
        range: &AddressRange<Iova>,
    ) -> Option<(PageId, [Option<Span>; 2])> {
        let root = self.roots.get(root)?;
        let kind = self.kinds.get(root.kind)?;
        let lower_bits = u32::from(kind.lower_half_bits());
        let lower = AddressRange::inclusive(Iova::new(0), Iova::new(low_bits(lower_bits))).ok()?;
        let input_bits = u32::from(kind.format.input_bits());
        let upper_first = !low_bits(input_bits.saturating_sub(1));
        let upper = AddressRange::inclusive(Iova::new(upper_first), Iova::new(u64::MAX)).ok()?;
        let span = |half: &AddressRange<Iova>| {
            let part = range.intersection(half)?;
            Some(Span {
                first: part.first().as_u64() & low_bits(input_bits),
                last: part.last().as_u64() & low_bits(input_bits),
            })
        };
        let in_upper = kind.has_upper_half().then(|| span(&upper)).flatten();
        Some((root.page, [span(&lower), in_upper]))
    }

    /// Looks at the entries of a page that a span concerns, and at what is below them.
    fn look_at<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        id: PageId,
        mut span: Span,
    ) -> Result<(), ShadowError> {
        let Some(page) = self.pages.get(id) else {
            return Ok(());
        };
        let (key, known, looked_at) = (page.key, page.source, page.looked_at);
        let Some(kind) = self.kinds.get(key.kind).copied() else {
            return Ok(());
        };
        let source = source::source(context.memory, page, &kind);
        let backing = source::backing(context.memory, page);
        if key.role == Role::CutRoot && source != known {
            // The table behind the root's first entry is another one.
            span = Span::WHOLE;
        }
        let top = low_bits(span_shift(key.level).saturating_add(9));
        let whole = span.first == 0 && span.last >= top;
        if whole && self.is_done(looked_at) {
            return Ok(());
        }
        if whole && self.must_stop() {
            return Err(ShadowError::Unfinished);
        }
        if whole && let Some(page) = self.pages.get_mut(id) {
            page.stale = false;
            page.backing = backing;
        }
        let (first, last) = (
            index_of(span.first.min(top), key.level),
            index_of(span.last.min(top), key.level),
        );
        let table = source.and_then(|source| context.memory.cells(source.table));
        let mut run: Option<Run> = None;
        let mut result = Ok(());
        let mut next = first;
        while let Some(index) = self.next_of_note(table, id, next, last) {
            if index != next {
                self.note(&mut run);
            }
            next = index.saturating_add(1);
            let wanted = source::wanted(context.memory, &kind, &key, source.as_ref(), index);
            let synced = match self.sync_entry(context, &kind, id, index, &wanted) {
                Ok(synced) => synced,
                Err((error, told)) => {
                    result = Err(error);
                    Synced { told, child: None }
                }
            };
            self.extend(&mut run, id, index, synced.told);
            if let (Ok(()), Some((child, new))) = (result, synced.child) {
                let span = if new {
                    Span::WHOLE
                } else {
                    span.below(key.level, index)
                };
                // Never looked at whole: what was linked empty.
                let fresh = self.pages.get(child).is_some_and(|it| it.looked_at == 0);
                result = self.look_at(context, child, span);
                if fresh && result.is_err_and(|error| error != ShadowError::Unfinished) {
                    let told = self.set(context.platform, &kind, EntryRef::new(id, index), 0);
                    self.extend(&mut run, id, index, told);
                }
            }
            if result.is_err() {
                break;
            }
        }
        self.note(&mut run);
        if result.is_ok()
            && let Some(page) = self.pages.get_mut(id)
        {
            page.source = source;
            if whole {
                page.looked_at = self.call;
            }
        }
        result
    }

    /// The first entry from `first` to `last` that the guest or the shadow has. Counts those
    /// that it passes as looked at: all of them, if the guest's table cannot be seen as a
    /// whole.
    fn next_of_note(
        &mut self,
        table: Option<&[AtomicU64]>,
        id: PageId,
        first: usize,
        last: usize,
    ) -> Option<usize> {
        if first > last {
            return None;
        }
        let shadow = self.pages.get(id).map(|page| page.table.cells());
        let found = match (table, shadow) {
            (Some(table), Some(shadow)) => first_present(table, shadow, first, last),
            _ => Some(first),
        };
        let passed = found.unwrap_or(last).saturating_sub(first);
        self.work = self.work.saturating_add(passed as u64).saturating_add(1);
        found
    }

    /// Adds an entry to the run of those that hardware must be told of, or ends the run.
    fn extend(&mut self, run: &mut Option<Run>, page: PageId, index: usize, told: Option<bool>) {
        match (run.as_mut(), told) {
            (Some(run), Some(leaf_only)) if run.leaf_only == leaf_only => run.last = index,
            (_, Some(leaf_only)) => {
                self.note(run);
                *run = Some(Run {
                    page,
                    first: index,
                    last: index,
                    leaf_only,
                });
            }
            (_, None) => self.note(run),
        }
    }

    fn note(&mut self, run: &mut Option<Run>) {
        if let Some(run) = run.take() {
            self.plan
                .note(&self.pages, &self.kinds, &mut self.roots, &run);
        }
    }

    /// Makes one entry what it shall be. If there is no page for that, the entry is not
    /// present, and the error says besides what hardware must be told.
    fn sync_entry<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        kind: &Kind,
        page: PageId,
        index: usize,
        wanted: &Wanted,
    ) -> Result<Synced, (ShadowError, Option<bool>)> {
        let at = EntryRef::new(page, index);
        let old = self.pages.entry(at);
        let (entry, child) = match self.realise(context, kind, page, wanted) {
            Ok(realised) => realised,
            Err(error) => return Err((error, self.set(context.platform, kind, at, 0))),
        };
        if entry == old {
            return Ok(Synced {
                told: None,
                child: child.map(|(child, _)| (child, false)),
            });
        }
        let told = self.set(context.platform, kind, at, entry);
        Ok(Synced {
            told,
            // A page that was just created has been filled already.
            child: child
                .filter(|(_, created)| !created)
                .map(|(child, _)| (child, true)),
        })
    }

    /// The entry that says what is wanted, and the page that it leads to, with whether that
    /// page was created for it.
    fn realise<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        kind: &Kind,
        page: PageId,
        wanted: &Wanted,
    ) -> Result<(u64, Option<(PageId, bool)>), ShadowError> {
        let level = self.pages.get(page).map_or(0, |page| page.key.level);
        match wanted {
            Wanted::Nothing => Ok((0, None)),
            Wanted::Leaf { page, access } => {
                Ok((encode_leaf(kind.format, level, *page, *access), None))
            }
            Wanted::Table { child, access } => {
                let (id, created) = match self.pages.find(child) {
                    Some(id) => (id, false),
                    // It is looked at like any other that is new here.
                    None if self.stops() => (self.create_empty(context, *child)?, false),
                    None => (self.create(context, *child)?, true),
                };
                let table = self.pages.get(id).map(|page| page.table.hpa());
                let entry =
                    table.map_or(0, |table| table_entry(kind.format, level, table, *access));
                Ok((entry, Some((id, created))))
            }
        }
    }

    /// A new page, filled with what the guest has. Hardware does not know it yet, so plain
    /// stores do; nobody has a reference to it.
    pub(super) fn create<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        key: Key,
    ) -> Result<PageId, ShadowError> {
        let id = self.pages.create(context.platform, key)?;
        let Some(kind) = self.kinds.get(key.kind).copied() else {
            return Ok(id);
        };
        let filled = self.fill(context, &kind, id);
        if let Err(error) = filled {
            self.release_page(context.platform, id);
            return Err(error);
        }
        if kind.coherence == Coherence::WriteBack
            && let Some(page) = self.pages.get(id)
        {
            let cells = 0..Frame::CELLS_IN_PAGE;
            context.platform.write_back(&page.table, cells);
        }
        Ok(id)
    }

    /// A new page with nothing in it. Hardware may find it at once.
    fn create_empty<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        key: Key,
    ) -> Result<PageId, ShadowError> {
        let id = self.pages.create(context.platform, key)?;
        let coherence = self.kinds.get(key.kind).map(|kind| kind.coherence);
        if coherence == Some(Coherence::WriteBack)
            && let Some(page) = self.pages.get(id)
        {
            let cells = 0..Frame::CELLS_IN_PAGE;
            context.platform.write_back(&page.table, cells);
        }
        Ok(id)
    }

    fn fill<P: Platform>(
        &mut self,
        context: &Context<'_, P>,
        kind: &Kind,
        id: PageId,
    ) -> Result<(), ShadowError> {
        let call = self.call;
        let Some(page) = self.pages.get_mut(id) else {
            return Ok(());
        };
        page.looked_at = call;
        page.source = source::source(context.memory, page, kind);
        page.backing = source::backing(context.memory, page);
        let (key, source) = (page.key, page.source);
        let table = source.and_then(|source| context.memory.cells(source.table));
        let mut next = 0;
        while let Some(index) = self.next_of_note(table, id, next, LAST) {
            next = index.saturating_add(1);
            let wanted = source::wanted(context.memory, kind, &key, source.as_ref(), index);
            let (entry, child) = self.realise(context, kind, id, &wanted)?;
            if entry == 0 {
                continue;
            }
            if let Some(page) = self.pages.get_mut(id) {
                page.table.store_private(index, entry);
            }
            self.link(kind, EntryRef::new(id, index), entry);
            if let Some((child, false)) = child {
                // Another table had it already, perhaps as it was some time ago.
                self.look_at_all(context, child)?;
            }
        }
        Ok(())
    }

    /// Changes an entry that hardware may be reading. Says whether hardware must be told,
    /// and then whether only a leaf changed.
    pub(super) fn set<P: Platform>(
        &mut self,
        platform: &P,
        kind: &Kind,
        at: EntryRef,
        entry: u64,
    ) -> Option<bool> {
        let old = self.pages.entry(at);
        if old == entry {
            return None;
        }
        let was = self.target(kind, at, old);
        // The page that loses a reference may be the one that gains one: it is released
        // last.
        let left = was.and_then(|target| self.pages.unlink(at, target));
        if let Some(page) = self.pages.get(at.page()) {
            platform.publish64(&page.table, at.index(), entry, kind.coherence);
        }
        self.link(kind, at, entry);
        if let (Some(Target::Page(child)), Some(_)) = (was, left) {
            self.release_page(platform, child);
        }
        match was {
            Some(Target::Page(_)) => Some(false),
            Some(Target::Memory(_) | Target::HugeMemory) => Some(true),
            None => kind.tell_of_new.then_some(false),
        }
    }

    fn link(&mut self, kind: &Kind, at: EntryRef, entry: u64) {
        if let Some(target) = self.target(kind, at, entry) {
            self.pages.link(at, target);
        }
    }

    /// What a shadow entry leads to.
    pub(super) fn target(&self, kind: &Kind, at: EntryRef, entry: u64) -> Option<Target> {
        let level = self.pages.get(at.page())?.key.level;
        match decode(kind.format, level, entry, &kind.limits()) {
            Entry::Table { address, .. } => {
                self.pages.find_frame(Hpa::new(address)).map(Target::Page)
            }
            Entry::Leaf { .. } if level >= 3 => Some(Target::HugeMemory),
            Entry::Leaf { address, .. } => Some(Target::Memory(Hpa::new(address))),
            Entry::NotPresent | Entry::Reserved => None,
        }
    }

    /// Takes a page apart that nothing leads to any more, and what only it led to.
    pub(super) fn release_page<P: Platform>(&mut self, platform: &P, id: PageId) {
        let Some(page) = self.pages.get(id) else {
            return;
        };
        if page.references != 0 {
            return;
        }
        let Some(kind) = self.kinds.get(page.key.kind).copied() else {
            return;
        };
        let mut next = 0;
        while let Some(index) = self.next_present(id, next) {
            next = index.saturating_add(1);
            let at = EntryRef::new(id, index);
            let entry = self.pages.entry(at);
            if let Some(target) = self.target(&kind, at, entry) {
                self.pages.unlink(at, target);
                if let Target::Page(child) = target {
                    self.release_page(platform, child);
                }
            }
        }
        self.pages.remove(platform, id);
    }

    /// The first entry of a page from `first` on that is not 0.
    fn next_present(&self, id: PageId, first: usize) -> Option<usize> {
        let cells = self.pages.get(id)?.table.cells();
        let mut left = cells.iter().enumerate().skip(first);
        let found = left.find(|(_, cell)| cell.load(Ordering::Relaxed) != 0);
        found.map(|(index, _)| index)
    }
}

/// The first of some entries that is present in a guest's table, or not 0 in its shadow.
fn first_present(
    table: &[AtomicU64],
    shadow: &[AtomicU64],
    first: usize,
    last: usize,
) -> Option<usize> {
    let table = table.get(first..=last)?;
    let shadow = shadow.get(first..=last)?;
    let found = table.iter().zip(shadow).position(|(guest, shadow)| {
        // Without P an entry of the guest's says nothing (§9.7).
        let guest = FirstStageEntry::from_bits(guest.load(Ordering::Acquire));
        guest.present() || shadow.load(Ordering::Relaxed) != 0
    });
    found.map(|place| first.saturating_add(place))
}

/// An entry that leads to a table and allows no more than `access`.
fn table_entry(format: TableFormat, level: u8, table: Hpa, access: Access) -> u64 {
    if !access.reads() {
        return 0;
    }
    let full = encode_table(format, level, table);
    match format.stage() {
        Stage::First => FirstStageEntry::from_bits(full)
            .with_writable(access.writes())
            .into_bits(),
        Stage::Second => SecondStageEntry::from_bits(full)
            .with_write(access.writes())
            .into_bits(),
    }
}
