//! Pages for everybody's tables. A page's physical address is its address.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::RefCell;

/// Pages that the pool takes from the system at once.
const CHUNK: usize = 256;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { free: Vec::new(), taken: 0 }) };
}

struct Pool {
    free: Vec<usize>,
    taken: usize,
}

/// A page, with anything in it.
pub(crate) fn take() -> usize {
    POOL.with_borrow_mut(|pool| {
        if pool.free.is_empty() {
            pool.grow();
        }
        pool.taken += 1;
        pool.free.pop().expect("the pool has grown")
    })
}

pub(crate) fn give_back(page: usize) {
    POOL.with_borrow_mut(|pool| {
        pool.taken -= 1;
        pool.free.push(page);
    });
}

/// Bytes that are taken now.
pub(crate) fn taken_bytes() -> usize {
    POOL.with_borrow(|pool| pool.taken * 4096)
}

impl Pool {
    fn grow(&mut self) {
        let layout = Layout::from_size_align(CHUNK * 4096, 4096).expect("a layout");
        // SAFETY: the layout has a size.
        let chunk = unsafe { alloc_zeroed(layout) };
        if chunk.is_null() {
            handle_alloc_error(layout);
        }
        let pages = (0..CHUNK).map(|page| chunk.addr() + page * 4096);
        // Exposed once for all the pointers that users make of the numbers.
        let _ = chunk.expose_provenance();
        self.free.extend(pages);
    }
}
