//! Virtual CPUs that take turns: each call runs on a stack of its own, exactly one runs at a
//! time, and at every step where real ones could meet it stops and somebody decides who goes
//! on.
//!
//! # Invariants that the `unsafe` here rests on
//! 1. `STANDING` holds a pointer only while the stack that its yielder belongs to is running:
//!    it is set when that stack is entered, and cleared whenever it is left.
//! 2. A yielder lives as long as its stack's function, which is what calls [`step`].

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use iommu_core::sync::Rank;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

/// Where a virtual CPU stopped: what it is about to do, or has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// A store that hardware may see.
    Store,
    /// A line written back.
    WriteBack,
    /// Memory taken or given back.
    Memory,
    /// Stores made visible in order.
    Fence,
    /// A lock about to be taken.
    Lock,
    /// A lock given back.
    Unlock,
    /// A register read or written.
    Register,
    /// Guest memory read or looked up.
    GuestRead,
    /// Guest memory written.
    GuestWrite,
    /// The hypervisor asked to do something around.
    Host,
    /// A turn of a waiting loop: nothing will change until somebody else goes on.
    Wait,
}

thread_local! {
    static STANDING: Cell<Option<NonNull<Yielder<(), Point>>>> = const { Cell::new(None) };
    /// Locks that each actor holds.
    static HELD: RefCell<Vec<Vec<Rank>>> = const { RefCell::new(Vec::new()) };
    static ACTOR: Cell<usize> = const { Cell::new(0) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

thread_local! {
    /// The guest for which each actor makes a call, by the number of its life.
    static CALLERS: RefCell<Vec<Option<u32>>> = const { RefCell::new(Vec::new()) };
    /// Actors whose guest had ended when their call did.
    static ORPHANS: RefCell<BTreeSet<usize>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes that the guest of the actor has ended, for which it made a call.
pub(crate) fn orphan() {
    ORPHANS.with_borrow_mut(|orphans| orphans.insert(ACTOR.get()));
}

/// Whether the guest of an actor's last call had ended, asked once.
pub(crate) fn take_orphan(actor: usize) -> bool {
    ORPHANS.with_borrow_mut(|orphans| orphans.remove(&actor))
}

/// Notes for whom the actor makes a call; `None` when it is over.
pub(crate) fn call_for(life: Option<u32>) {
    let actor = ACTOR.get();
    CALLERS.with_borrow_mut(|callers| {
        if callers.len() <= actor {
            callers.resize(actor + 1, None);
        }
        callers[actor] = life;
    });
}

/// For whom the actor that acts makes a call.
pub(crate) fn caller() -> Option<u32> {
    caller_of(ACTOR.get())
}

/// For whom an actor makes a call.
pub(crate) fn caller_of(actor: usize) -> Option<u32> {
    CALLERS.with_borrow(|callers| callers.get(actor).copied().flatten())
}

/// Stops here, if the caller is a virtual CPU that takes turns.
pub(crate) fn step(at: Point) {
    let Some(yielder) = STANDING.get() else {
        if at == Point::Wait {
            std::thread::yield_now();
        }
        return;
    };
    if std::thread::panicking() {
        // Guards are dropped: nobody else may run before this stack is done with.
        return;
    }
    // SAFETY: invariants 1 and 2: we are on the yielder's stack, above its function.
    unsafe { yielder.as_ref() }.suspend(at);
    STANDING.set(Some(yielder));
}

/// Notes a lock that is about to be taken.
///
/// # Panics
/// If it is taken in the wrong order.
pub(crate) fn hold(rank: Rank) {
    let actor = ACTOR.get();
    HELD.with_borrow_mut(|held| {
        if held.len() <= actor {
            held.resize_with(actor + 1, Vec::new);
        }
        let mine = &mut held[actor];
        if let Some(&highest) = mine.iter().max() {
            assert!(rank > highest, "{rank:?} taken while {highest:?} is held");
        }
        mine.push(rank);
    });
}

/// Notes a lock that was given back.
///
/// # Panics
/// If it was not held.
pub(crate) fn let_go(rank: Rank) {
    let actor = ACTOR.get();
    HELD.with_borrow_mut(|held| {
        let mine = held
            .get_mut(actor)
            .expect("a lock that is given back was taken");
        let place = mine.iter().rposition(|&other| other == rank);
        mine.remove(place.expect("a lock that is given back was taken"));
    });
}

/// Makes panics of this process be kept as findings and not printed.
pub(crate) fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CATCHING.get() {
                PANIC.set(Some(info.to_string()));
            } else {
                usual(info);
            }
        }));
    });
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `act`; a panic is returned as what it said.
pub(crate) fn caught<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(act));
    CATCHING.set(before);
    result.map_err(|_| PANIC.take().unwrap_or_else(|| "a panic".to_owned()))
}

/// Stacks of calls that ended, to be used again.
#[derive(Default)]
pub(crate) struct Stacks(Vec<DefaultStack>);

/// Room for the deepest call in an unoptimised build.
const STACK_BYTES: usize = 1 << 20;

/// What one turn came to.
pub(crate) enum Turn<R> {
    /// It stopped at a step.
    Stopped(Point),
    /// It ended, or panicked.
    Ended(Result<R, String>),
}

/// A call that is under way.
pub(crate) struct Act<R: 'static> {
    actor: usize,
    coroutine: Coroutine<(), Point, Result<R, String>, DefaultStack>,
}

impl<R> Act<R> {
    /// A call that has not begun.
    ///
    /// # Panics
    /// Without memory for a stack.
    pub(crate) fn new(
        stacks: &mut Stacks,
        actor: usize,
        act: impl FnOnce() -> R + 'static,
    ) -> Self {
        let stack = stacks
            .0
            .pop()
            .unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for a stack"));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Point>, ()| {
            STANDING.set(Some(NonNull::from(yielder)));
            let result = catch_unwind(AssertUnwindSafe(act));
            result.map_err(|_| PANIC.take().unwrap_or_else(|| "a panic".to_owned()))
        });
        Self { actor, coroutine }
    }

    /// Goes on to the next step.
    pub(crate) fn turn(&mut self) -> Turn<R> {
        ACTOR.set(self.actor);
        CATCHING.set(true);
        let result = self.coroutine.resume(());
        STANDING.set(None);
        CATCHING.set(false);
        ACTOR.set(0);
        match result {
            CoroutineResult::Yield(point) => Turn::Stopped(point),
            CoroutineResult::Return(result) => Turn::Ended(result),
        }
    }

    /// Gives the stack back; of a call that has not ended it is lost, with all that lies on
    /// it, because taking it apart would run into locks that others hold.
    pub(crate) fn end(self, stacks: &mut Stacks) {
        if self.coroutine.done() {
            stacks.0.push(self.coroutine.into_stack());
        } else {
            std::mem::forget(self.coroutine);
        }
    }
}

/// Forgets what a run that was given up has left.
pub(crate) fn clear() {
    HELD.with_borrow_mut(Vec::clear);
    CALLERS.with_borrow_mut(Vec::clear);
    ORPHANS.with_borrow_mut(BTreeSet::clear);
}
