//! A flush that is owed, as a value.
//!
//! An [`Owed`] holds the range whose translation changed and, if told to, what must not be
//! reused before hardware has forgotten it (a page, a table, a buffer). Dropping one loses
//! nothing: what it holds is leaked, and the table's next flush is of everything.
//!
//! # Invariant that `unsafe` rests on
//! `Owed::held` is valid until `settled` becomes true, and `FlushList::held` always.

use crate::UserTable;
use arrayvec::ArrayVec;
use core::mem::ManuallyDrop;
use iommu_abi::InvalidateRange;
use x86_64::structures::paging::page::PageRangeInclusive;

/// A range whose translation changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    first: u64,
    pages: u64,
    leaf_only: bool,
}

impl Change {
    pub(crate) fn leaf(pages: PageRangeInclusive) -> Self {
        Self::new(pages, true)
    }

    pub(crate) fn table(pages: PageRangeInclusive) -> Self {
        Self::new(pages, false)
    }

    fn new(pages: PageRangeInclusive, leaf_only: bool) -> Self {
        let first = pages.start.start_address().as_u64();
        let last = pages.end.start_address().as_u64();
        Self {
            first,
            // An empty range becomes no pages and is left out.
            pages: last
                .checked_sub(first)
                .map_or(0, |bytes| (bytes >> 12).saturating_add(1)),
            leaf_only,
        }
    }

    pub(crate) fn to_range(self) -> InvalidateRange {
        InvalidateRange {
            address: self.first,
            pages: self.pages,
            flags: if self.leaf_only {
                InvalidateRange::LEAF
            } else {
                0
            },
            reserved: 0,
        }
    }

    /// One change for both, if the second begins where the first ends.
    fn joined(&self, next: &Self) -> Option<Self> {
        let end = self.first.checked_add(self.pages.checked_mul(4096)?)?;
        (end == next.first && self.leaf_only == next.leaf_only).then_some(Self {
            first: self.first,
            pages: self.pages.checked_add(next.pages)?,
            leaf_only: self.leaf_only,
        })
    }
}

/// What the guest owes hardware after changing its table, and what must wait for it.
#[must_use = "devices may still use the old translation: add this to a FlushList and flush it"]
#[derive(Debug)]
pub struct Owed<'t, T = ()> {
    table: &'t UserTable,
    /// `None`: nothing is owed.
    change: Option<Change>,
    held: ManuallyDrop<T>,
    settled: bool,
}

impl<'t, T> Owed<'t, T> {
    pub(crate) fn new(table: &'t UserTable, change: Option<Change>, held: T) -> Self {
        Self {
            table,
            change: change.filter(|change| change.pages != 0),
            held: ManuallyDrop::new(held),
            settled: false,
        }
    }

    fn take(&mut self) -> (Option<Change>, T) {
        self.settled = true;
        // SAFETY: callers own the value and have not taken it yet; `settled` is true from
        // here on, so nothing uses `held` afterwards.
        let held = unsafe { ManuallyDrop::take(&mut self.held) };
        (self.change, held)
    }
}

impl<'t> Owed<'t> {
    /// Keeps `value` from being reused before the flush: a page, a table, a buffer.
    pub fn holding<T>(mut self, value: T) -> Owed<'t, T> {
        let (change, ()) = self.take();
        Owed::new(self.table, change, value)
    }
}

impl<T> Drop for Owed<'_, T> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if self.change.is_some() {
            self.table.lose();
        } else {
            // SAFETY: not settled, so `held` is valid, and this is the last use. Nothing is
            // owed for it.
            unsafe { ManuallyDrop::drop(&mut self.held) };
        }
    }
}

/// The list has no room for another debt: flush it first. The debt comes back.
#[derive(Debug)]
pub struct Full<'t, T>(pub Owed<'t, T>);

/// Debts of one table that are settled together, by one call.
#[must_use = "what the list holds is owed to hardware: flush it"]
#[derive(Debug)]
pub struct FlushList<'t, T, const N: usize> {
    table: &'t UserTable,
    changes: ArrayVec<Change, N>,
    held: ManuallyDrop<ArrayVec<T, N>>,
}

impl<'t, T, const N: usize> FlushList<'t, T, N> {
    /// An empty list for `table`.
    pub fn new(table: &'t UserTable) -> Self {
        Self {
            table,
            changes: ArrayVec::new_const(),
            held: ManuallyDrop::new(ArrayVec::new_const()),
        }
    }

    /// Takes a debt over. One for another table comes back, as if the list were full.
    pub fn add(&mut self, mut owed: Owed<'t, T>) -> Result<(), Full<'t, T>> {
        if !core::ptr::eq(owed.table, self.table) || self.held.is_full() {
            return Err(Full(owed));
        }
        // There is room: at most one change for each held value.
        let (change, held) = owed.take();
        if let Some(change) = change {
            match self.changes.last_mut() {
                Some(last) => match last.joined(&change) {
                    Some(both) => *last = both,
                    None => self.changes.push(change),
                },
                None => self.changes.push(change),
            }
        }
        self.held.push(held);
        Ok(())
    }

    /// Whether nothing is on the list.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn table(&self) -> &'t UserTable {
        self.table
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Everything was flushed: what was held may be reused.
    pub(crate) fn settle(&mut self) -> ArrayVec<T, N> {
        self.changes.clear();
        core::mem::take(&mut *self.held)
    }
}

impl<T, const N: usize> Drop for FlushList<'_, T, N> {
    fn drop(&mut self) {
        if !self.changes.is_empty() {
            self.table.lose();
        } else {
            // SAFETY: always valid, and this is the last use. Nothing is owed for it.
            unsafe { ManuallyDrop::drop(&mut self.held) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capabilities;
    use std::rc::Rc;
    use x86_64::VirtAddr;
    use x86_64::structures::paging::Page;

    fn pages(first: u64, last: u64) -> PageRangeInclusive {
        let page = |number| Page::containing_address(VirtAddr::new(number * 4096));
        Page::range_inclusive(page(first), page(last))
    }

    fn shadowed() -> UserTable {
        UserTable::new(1, Capabilities::INVALIDATE_ON_MAP)
    }

    #[test]
    fn mapping_owes_a_flush_only_where_the_hypervisor_shadows_the_table() {
        assert!(shadowed().mapped(pages(1, 1)).change.is_some());
        let nested = UserTable::new(1, Capabilities::HARDWARE_NESTED);
        assert!(nested.mapped(pages(1, 1)).change.is_none());
        assert!(nested.changed(pages(1, 1)).change.is_some());
    }

    #[test]
    fn neighbours_become_one_range_and_strangers_do_not() {
        let table = shadowed();
        let mut list = FlushList::<(), 4>::new(&table);
        list.add(table.changed(pages(1, 2))).unwrap();
        list.add(table.changed(pages(3, 3))).unwrap();
        list.add(table.changed(pages(5, 5))).unwrap();
        let ranges: std::vec::Vec<_> = list
            .changes()
            .iter()
            .map(|change| (change.first >> 12, change.pages))
            .collect();
        assert_eq!(ranges, [(1, 3), (5, 1)]);
        list.settle();
    }

    #[test]
    fn a_dropped_debt_makes_the_next_flush_one_of_everything() {
        let table = shadowed();
        drop(table.changed(pages(1, 1)));
        assert!(table.take_lost());
        assert!(!table.take_lost());

        let mut list = FlushList::<(), 4>::new(&table);
        list.add(table.changed(pages(1, 1))).unwrap();
        drop(list);
        assert!(table.take_lost());
    }

    #[test]
    fn what_an_unsettled_debt_holds_is_never_dropped() {
        let table = shadowed();
        let frame = Rc::new(());
        drop(table.changed(pages(1, 1)).holding(frame.clone()));
        assert_eq!(Rc::strong_count(&frame), 2);

        let nested = UserTable::new(1, Capabilities::empty());
        drop(nested.mapped(pages(1, 1)).holding(frame.clone()));
        assert_eq!(Rc::strong_count(&frame), 2);
    }

    #[test]
    fn a_list_refuses_what_belongs_to_another_table() {
        let (one, two) = (shadowed(), shadowed());
        let mut list = FlushList::<(), 4>::new(&one);
        let Full(refused) = list.add(two.changed(pages(1, 1))).unwrap_err();
        drop(refused);
        assert!(two.take_lost());
        list.add(one.changed(pages(1, 1))).unwrap();
        list.settle();
    }

    #[test]
    fn a_full_list_gives_the_debt_back() {
        let table = shadowed();
        let mut list = FlushList::<(), 1>::new(&table);
        list.add(table.changed(pages(1, 1))).unwrap();
        let Full(refused) = list.add(table.changed(pages(9, 9))).unwrap_err();
        list.settle();
        list.add(refused).unwrap();
        list.settle();
        assert!(!table.take_lost());
    }
}
