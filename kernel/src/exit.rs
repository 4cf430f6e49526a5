//! Why the kernel ends, and how it says so (`docs/wire.md`, "Exit status").

/// Why the kernel ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
#[repr(u8)]
pub enum ExitStatus {
    /// Everything that was asked for was done.
    Ok = 0x10,
    /// A step or test failed.
    Failed = 0x11,
    /// The kernel panicked.
    Panic = 0x12,
    /// An unexpected CPU exception.
    Exception = 0x13,
    /// The firmware has no DMAR table.
    NoDmar = 0x20,
    /// The DMAR table is malformed beyond use.
    BadDmar = 0x21,
    /// The DMAR names no remapping unit.
    NoUnit = 0x22,
    /// A unit does not answer.
    DeadUnit = 0x23,
    /// A unit lacks the address width that is needed.
    NoWidth = 0x24,
    /// A unit lacks the mode that was asked for.
    NoMode = 0x25,
    /// Too little memory.
    NoMemory = 0x26,
    /// A word of the command line is not understood.
    BadCommandLine = 0x27,
    /// The guest program is not in the boot module.
    NoGuest = 0x28,
    /// `guest=svm` was asked for and the CPU has none.
    NoSvm = 0x29,
    /// The rules keep the device from guests.
    NotForGuests = 0x2a,
}

impl ExitStatus {
    /// The name in the `exit` line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Panic => "panic",
            Self::Exception => "exception",
            Self::NoDmar => "no-dmar",
            Self::BadDmar => "bad-dmar",
            Self::NoUnit => "no-unit",
            Self::DeadUnit => "dead-unit",
            Self::NoWidth => "no-width",
            Self::NoMode => "no-mode",
            Self::NoMemory => "no-memory",
            Self::BadCommandLine => "bad-command-line",
            Self::NoGuest => "no-guest",
            Self::NoSvm => "no-svm",
            Self::NotForGuests => "not-for-guests",
        }
    }
}

/// Reports why the kernel ends and ends it: QEMU by its exit device, a real machine by
/// halting for ever.
#[cfg(target_os = "none")]
pub fn exit(status: ExitStatus, text: core::fmt::Arguments<'_>) -> ! {
    crate::log::report::exit(status, text);
    leave(status)
}

#[cfg(target_os = "none")]
pub(crate) fn leave(status: ExitStatus) -> ! {
    use x86_64::instructions::{hlt, interrupts, port::PortWriteOnly};

    /// `isa-debug-exit`, `iobase=0xf4,iosize=4`.
    const DEBUG_EXIT: u16 = 0xf4;

    interrupts::disable();
    // SAFETY: a port that nothing else uses; without the device the write has no effect.
    unsafe { PortWriteOnly::<u32>::new(DEBUG_EXIT).write(u32::from(status as u8)) };
    loop {
        hlt();
    }
}
