//! The order of locks, by thread.

use iommu_core::sync::Rank;
use std::cell::RefCell;

thread_local! {
    static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
}

/// Notes that this thread takes a lock. Returns how many it held before.
pub(crate) fn enter(rank: Rank) -> u64 {
    HELD.with_borrow_mut(|held| {
        if let Some(&highest) = held.iter().max() {
            assert!(rank > highest, "{rank:?} taken while {highest:?} is held");
        }
        held.push(rank);
        held.len() as u64 - 1
    })
}

/// Notes that this thread gives a lock back. Locks may be given back in any order.
/// Locks that this thread holds.
pub(crate) fn held() -> usize {
    HELD.with_borrow(Vec::len)
}

pub(crate) fn leave(rank: Rank, _held_before: u64) {
    HELD.with_borrow_mut(|held| {
        let place = held.iter().rposition(|&other| other == rank);
        held.remove(place.expect("a lock that is given back was taken"));
    });
}
