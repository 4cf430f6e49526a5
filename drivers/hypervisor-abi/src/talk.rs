//! Operations by which a guest talks to the hypervisor.

use crate::{Label, argument};

argument! {
    /// Hands over bytes of the guest's log: whole `defmt` frames in rzCOBS encoding, with
    /// their delimiters. What they mean is known only with the guest's ELF file.
    pub struct Log: 24 bytes {
        /// Guest-physical address of the bytes.
        pub buffer: u64,
        /// How many.
        pub bytes: u32,
        /// Frames that were lost since the last call.
        pub lost: u32,
    }
}

argument! {
    /// Says how a step went, in the guest's eyes. Evidence, and never the verdict.
    pub struct Claim: 240 bytes {
        /// An [`Outcome`].
        pub outcome: u32,
        /// 0.
        pub reserved: u32,
        /// Which step.
        pub id: Label<32>,
        /// What the guest found.
        pub text: Label<192>,
    }
}

argument! {
    /// Gives the CPU up until a virtual interrupt waits or the time is over. Returns at
    /// once if one waits already; `ETIMEDOUT` if none came.
    ///
    /// To be called with interrupts off, so that none slips in between looking and
    /// waiting.
    pub struct WaitForInterrupt: 16 bytes {
        /// Nanoseconds, at most.
        pub limit: u64,
    }
}

argument! {
    /// Starts a copy by a device whose registers the guest does not have: the hypervisor
    /// programs them, and refuses what would make the device leave its own buffer.
    ///
    /// Returns at once. `ENOENT` for a device that is not such a one, `EINVAL` for a copy that
    /// leaves the buffer, `EBUSY` while another one is under way.
    pub struct Transfer: 40 bytes {
        /// Where the guest finds the device: bus, device and function.
        pub device: u32,
        /// 1 if the device writes to memory, 0 if it reads.
        pub to_memory: u32,
        /// The address of the memory, in the device's own address space: any.
        pub address: u64,
        /// Where in the device's buffer.
        pub offset: u32,
        /// How many bytes.
        pub bytes: u32,
        /// 0.
        pub reserved: u64,
    }
}

argument! {
    /// Ends the guest.
    pub struct Finish: 16 bytes {
        /// An [`Outcome`].
        pub outcome: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// How something went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u32)]
pub enum Outcome {
    /// Not as it should.
    Fail = 0,
    /// As it should.
    Pass = 1,
}

impl Outcome {
    /// What a number means, or `None`.
    pub fn from_u32(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Fail),
            1 => Some(Self::Pass),
            _ => None,
        }
    }

    /// `pass` or `fail`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Pass => "pass",
        }
    }
}
