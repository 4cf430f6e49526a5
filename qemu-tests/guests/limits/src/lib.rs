//! A guest that tries what its CPU must not let it do.
//!
//! [`Start::parameter`](guest_machine::Start) says what it does: one of the numbers of
//! [`deed`]. All but the first end the guest, one way or another; the hypervisor must
//! notice how, and go on. Only as a virtual machine: in the kernel these instructions would
//! be the kernel's own.

#![no_std]

/// What the guest does.
pub mod deed {
    /// Tries every instruction that is not its to use, and claims what came of it.
    pub const TRY_EVERYTHING: u64 = 0;
    /// A triple fault.
    pub const TRIPLE_FAULT: u64 = 1;
    /// Reads guest-physical memory that is not there: the second parameter is the address.
    pub const TOUCH: u64 = 2;
    /// Loops for ever with interrupts off.
    pub const LOOP: u64 = 3;
    /// Halts with interrupts off.
    pub const HALT: u64 = 4;
    /// Returns to the hypervisor with registers full of rubbish, and loops.
    pub const RUBBISH_CALLS: u64 = 5;

    /// Keeps a number of its own in a vector register, and looks whether it stays there.
    pub const VECTORS: u64 = 6;

    /// The parameter that makes the guest read at an address.
    pub const fn touch(address: u64) -> u64 {
        TOUCH | address & !0xff
    }
}
