//! Virtual CPUs: what runs a guest's program.
//!
//! Two back-ends stand behind one trait. `svm` runs the program as a virtual machine by
//! AMD SVM with nested paging. `direct` runs it as a function in the kernel, on a guest's
//! memory and devices and through the same hypercalls, on CPUs that have no SVM.

mod counters;
#[cfg(target_os = "none")]
pub mod direct;
#[cfg(target_os = "none")]
pub(crate) mod slice;
#[cfg(any(test, target_os = "none"))]
pub mod svm;
#[cfg(target_os = "none")]
mod wait;

pub use counters::{Cause, ExitCounters};

use crate::vm::Vm;
use core::fmt;
use hypervisor_abi::Outcome;
use iommu_core::{Gpa, Nanoseconds};

/// What runs a guest.
pub trait Vcpu: Send {
    /// Lets the guest go on: from its start at the first call, until it ends, waits, or has
    /// run for a slice of time. It has no time left from `end` on.
    fn turn(&mut self, vm: &Vm, end: Nanoseconds) -> Turn;

    /// Why it left the guest, how often.
    fn exits(&self) -> &ExitCounters;
}

/// How a guest's turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It can go on at once.
    Again,
    /// It waits for an interrupt, until this time at most.
    Wait(Nanoseconds),
    /// It does not go on.
    End(Ending),
}

/// How a guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Ending {
    /// It said that it has finished, and how it went in its own eyes.
    Finished(Outcome),
    /// The time was over.
    TimedOut,
    /// The hypervisor wanted it to stop.
    Stopped,
    /// It halted with nothing that could wake it.
    Halted,
    /// A triple fault.
    ShutDown,
    /// It touched guest-physical memory that is not there.
    Absent(Gpa),
    /// The CPU refused the state that the guest was to run in.
    BadState,
    /// An exit that nothing was made for: its code.
    Unknown(u64),
    /// The CPU lacks what is needed, or the guest has no program.
    Impossible(&'static str),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(outcome) => write!(f, "finished: {}", outcome.name()),
            Self::Stopped => f.write_str("was stopped"),
            Self::TimedOut => f.write_str("ran out of time"),
            Self::Halted => f.write_str("halted with interrupts off"),
            Self::ShutDown => f.write_str("triple fault"),
            Self::Absent(gpa) => write!(f, "touched {gpa}, where nothing is"),
            Self::BadState => f.write_str("refused by the CPU"),
            Self::Unknown(code) => write!(f, "left for an unknown reason, {code:#x}"),
            Self::Impossible(why) => f.write_str(why),
        }
    }
}
