//! Turns: what runs on which CPU, and for how long.
//!
//! [`together`] runs tasks side by side until all are over: the n-th on the n-th CPU, and round
//! again where there are more tasks than CPUs. The tasks of one CPU take turns, a slice of time
//! each; a task stays on its CPU. A CPU without anything to do halts.
//!
//! Invariant that the `unsafe` here rests on: a task that was handed to another CPU is left
//! alone by everybody else until that CPU has reported the end of its share, and `together`
//! returns only after that.

use crate::cpu::vectors::OutOfVectors;
use crate::cpu::{self, MAX_CPUS, interrupts};
use crate::monitor;
use crate::time;
use crate::vcpu::slice;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicUsize, Ordering};
use iommu_core::Nanoseconds;
use spin::Mutex;

/// Tasks of one CPU.
const MOST: usize = 16;

/// How a task's turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It wants to go on.
    Again,
    /// It waits until this time, or until it is [awake](Task::is_awake).
    Wait(Nanoseconds),
    /// It is over.
    Over,
}

/// Something that runs in turns.
pub trait Task: Send {
    /// Goes on, for a slice of time at most.
    fn turn(&mut self) -> Turn;

    /// Whether what it waits for has come. Asked with interrupts off.
    fn is_awake(&self) -> bool {
        false
    }

    /// Does what is due by itself, for whomever. Called now and then, between turns.
    fn tend(&self) {}
}

/// Tasks for whose sake others go on.
#[derive(Debug)]
pub struct Countdown(AtomicUsize);

impl Countdown {
    /// So many are not over.
    pub const fn new(tasks: usize) -> Self {
        Self(AtomicUsize::new(tasks))
    }

    /// Whether all are over.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// A task that counts when it is over.
pub struct Counted<'c, T> {
    /// The task.
    pub task: T,
    countdown: &'c Countdown,
    is_over: bool,
}

impl<'c, T: Task> Counted<'c, T> {
    /// A task that is not over yet.
    pub const fn new(task: T, countdown: &'c Countdown) -> Self {
        Self {
            task,
            countdown,
            is_over: false,
        }
    }
}

impl<T: Task> Task for Counted<'_, T> {
    fn turn(&mut self) -> Turn {
        let turn = self.task.turn();
        if turn == Turn::Over && !core::mem::replace(&mut self.is_over, true) {
            self.countdown.0.fetch_sub(1, Ordering::AcqRel);
        }
        turn
    }

    fn is_awake(&self) -> bool {
        self.task.is_awake()
    }

    fn tend(&self) {
        self.task.tend();
    }
}

/// Time between two looks at what is due by itself. By the clock, since a task that waits
/// often enough never sees the end of a slice.
const TEND_EVERY: Nanoseconds = Nanoseconds::from_millis(10);

/// A task and until when it waits.
struct Place<'t> {
    task: &'t mut dyn Task,
    until: Nanoseconds,
}

impl Place<'_> {
    fn is_ready(&self) -> bool {
        time::now() >= self.until || self.task.is_awake()
    }
}

/// The tasks of one CPU.
type Share<'t> = ArrayVec<Place<'t>, MOST>;

/// What is handed to each CPU.
static HANDED: [Mutex<Option<Share<'static>>>; MAX_CPUS] = [const { Mutex::new(None) }; MAX_CPUS];
/// CPUs that have not finished their share.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Gets what slices of time need. Before anything else here.
pub fn prepare() -> Result<(), OutOfVectors> {
    slice::prepare()
}

/// Runs tasks on all CPUs until all are over. For the first CPU; tasks cannot call it. Tasks for
/// which a CPU has no room are left alone; their number is returned.
pub fn together(tasks: &mut [&mut dyn Task]) -> usize {
    let cpus = cpu::count();
    let mut shares: [Share<'_>; MAX_CPUS] = [const { Share::new_const() }; MAX_CPUS];
    let mut left_out = 0;
    for (number, task) in tasks.iter_mut().enumerate() {
        let place = Place {
            task: &mut **task,
            until: Nanoseconds(0),
        };
        if shares[number % cpus].try_push(place).is_err() {
            left_out += 1;
        }
    }
    let [own, others @ ..] = shares;
    for (index, share) in (1..).zip(others) {
        if !share.is_empty() {
            hand(index, share);
        }
    }
    run(own);
    while AT_WORK.load(Ordering::Acquire) > 0 {
        halt_for_a_slice(|| AT_WORK.load(Ordering::Acquire) == 0);
    }
    left_out
}

/// Hands a share to another CPU.
fn hand(index: usize, share: Share<'_>) {
    // SAFETY: the module's invariant: the borrow outlives the CPU's use of it, since `together`,
    // which holds it, waits for that.
    let share = unsafe { core::mem::transmute::<Share<'_>, Share<'static>>(share) };
    AT_WORK.fetch_add(1, Ordering::AcqRel);
    *HANDED[index].lock() = Some(share);
    // It halts until it is kicked, so that is tried until it is.
    while !cpu::kick(index as u32) && HANDED[index].lock().is_some() {
        core::hint::spin_loop();
    }
}

/// What a CPU but the first does for ever: what it is handed.
pub(crate) fn serve() -> ! {
    let handed = &HANDED[cpu::index() as usize];
    loop {
        let share = handed.lock().take();
        match share {
            Some(share) => {
                run(share);
                AT_WORK.fetch_sub(1, Ordering::AcqRel);
                cpu::kick(0);
            }
            // Nobody holds the lock for longer than it takes to store. Whoever stores kicks.
            None => halt(|| handed.try_lock().is_none_or(|handed| handed.is_some())),
        }
    }
}

/// Lets tasks take turns until all are over.
fn run(mut share: Share<'_>) {
    let mut tended = time::now();
    while !share.is_empty() {
        if time::now().since(tended) >= TEND_EVERY {
            share.iter().for_each(|place| place.task.tend());
            monitor::tend();
            tended = time::now();
        }
        let mut nobody_went = true;
        share.retain(|place| {
            if !place.is_ready() {
                return true;
            }
            nobody_went = false;
            place.until = match place.task.turn() {
                Turn::Again => Nanoseconds(0),
                Turn::Wait(until) => until,
                Turn::Over => return false,
            };
            true
        });
        if nobody_went {
            halt_for_a_slice(|| share.iter().any(Place::is_ready));
        }
    }
}

/// Like [`halt`], for a slice of time at most.
fn halt_for_a_slice(ready: impl Fn() -> bool) {
    let ready_or_armed = || {
        let is_ready = ready();
        if !is_ready {
            // With interrupts off: its end cannot come before the halt.
            slice::begin();
        }
        is_ready
    };
    halt(ready_or_armed);
    slice::end();
}

/// Halts this CPU until an interrupt comes, unless `ready` is true already.
fn halt(ready: impl Fn() -> bool) {
    // Interrupts are off from looking until the halt, which turns them on: none slips in
    // between.
    let _ = interrupts::disable();
    if ready() {
        interrupts::restore(interrupts::Saved::ON);
        return;
    }
    x86_64::instructions::interrupts::enable_and_hlt();
}
