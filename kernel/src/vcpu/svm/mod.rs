//! AMD SVM (APM volume 2, chapter 15).
//!
//! What a guest may do by itself is what cannot touch anything but its own memory and the
//! registers of its devices, which nested paging sees to. All else exits: ports, MSRs,
//! CPUID, HLT, every instruction of SVM itself, and every interrupt of the host. A slice of
//! time ends by the host's timer, so a guest that does nothing but loop is left too; what
//! comes for a guest that another CPU runs makes it exit by an interrupt of that CPU's.
//!
//! The layout is in [`spec`]; [`state`] says what a guest starts with and is intercepted;
//! `switch` is the way in and out; `exit` does what an exit asks for.

#[cfg(target_os = "none")]
mod cpu;
mod cpuid;
#[cfg(target_os = "none")]
mod exit;
mod msr;
pub mod spec;
pub mod state;
#[cfg(target_os = "none")]
mod switch;

#[cfg(target_os = "none")]
pub use cpu::{SvmError, SvmVcpu};
