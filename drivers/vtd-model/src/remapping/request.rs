//! What devices ask for, and what they get.

use crate::faults::{Condition, Status};

/// What a memory request does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A read and write in one step.
    Atomic,
    /// A read of no bytes, to flush writes (§3.14).
    ZeroLengthRead,
}

impl Access {
    /// Whether read permission is needed.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Write)
    }

    /// Whether write permission is needed.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Atomic)
    }
}

/// AT of a request (§4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressType {
    /// 00: to be translated.
    Untranslated,
    /// 01: asks for a translation; the access is ignored.
    Translation {
        /// NW: only a read is meant.
        no_write: bool,
    },
    /// 10: carries an address that a translation request returned.
    Translated,
}

/// One request of a device, within one page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// Bus, device, function of the requester.
    pub source: u16,
    /// The PASID that it carries.
    pub pasid: Option<u32>,
    /// PR: supervisor privilege; only with a PASID.
    pub privileged: bool,
    /// ER: execute; only with a PASID.
    pub execute: bool,
    /// Input address.
    pub address: u64,
    /// What it does there.
    pub access: Access,
    /// AT.
    pub kind: AddressType,
}

impl Request {
    /// An untranslated user request without PASID.
    pub fn new(source: u16, address: u64, access: Access) -> Self {
        Self {
            source,
            pasid: None,
            privileged: false,
            execute: false,
            address,
            access,
            kind: AddressType::Untranslated,
        }
    }

    /// A read.
    pub fn read(source: u16, address: u64) -> Self {
        Self::new(source, address, Access::Read)
    }

    /// A write.
    pub fn write(source: u16, address: u64) -> Self {
        Self::new(source, address, Access::Write)
    }

    /// The same request with a PASID.
    pub fn with_pasid(self, pasid: u32) -> Self {
        Self {
            pasid: Some(pasid),
            ..self
        }
    }

    /// The same request with supervisor privilege.
    pub fn privileged(self) -> Self {
        Self {
            privileged: true,
            ..self
        }
    }

    /// The same address as a translation request.
    pub fn translation(self, no_write: bool) -> Self {
        Self {
            kind: AddressType::Translation { no_write },
            ..self
        }
    }

    /// The same request with a translated address.
    pub fn translated(self) -> Self {
        Self {
            kind: AddressType::Translated,
            ..self
        }
    }
}

/// The data of a successful translation completion (§4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Completion {
    /// First address of the translated page; 0 if nothing is granted.
    pub address: u64,
    /// Size of the page as a power of two (S and the address's low bits say it on the bus).
    pub shift: u8,
    /// R.
    pub read: bool,
    /// W.
    pub write: bool,
    /// U: untranslated requests only.
    pub untranslated_only: bool,
    /// N: translated requests must not set No Snoop.
    pub snoop: bool,
    /// PRIV.
    pub privileged: bool,
}

impl Completion {
    /// Success with R = W = U = S = 0: a recoverable fault.
    pub(crate) fn nothing(privileged: bool) -> Self {
        Self {
            address: 0,
            shift: 12,
            read: false,
            write: false,
            untranslated_only: false,
            snoop: false,
            privileged,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It goes to memory.
    Memory {
        /// Host physical address.
        address: u64,
    },
    /// A translation request is answered with data.
    Completion(Completion),
    /// It is an interrupt request: see `Machine::interrupt`.
    Interrupt,
    /// A zero-length read of the interrupt range: completes without translation (§3.15).
    NoTranslation,
    /// It is not carried out.
    Blocked {
        /// Why; `None` for what is refused without a fault (§4.2.1, protected memory).
        condition: Option<Condition>,
        /// How it ends for the device.
        status: Status,
        /// A fault is logged (no FPD bit silenced it).
        logged: bool,
    },
}

impl Outcome {
    /// Where in memory the request arrives, if it does.
    pub fn address(&self) -> Option<u64> {
        match self {
            Self::Memory { address } => Some(*address),
            _ => None,
        }
    }

    /// The condition that blocked it, if one did.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Blocked { condition, .. } => *condition,
            _ => None,
        }
    }

    pub(crate) fn refused(status: Status) -> Self {
        Self::Blocked {
            condition: None,
            status,
            logged: false,
        }
    }
}
