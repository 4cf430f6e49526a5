//! What becomes of a request: the words in which both sides are compared.

use std::fmt;

/// A fault record, as far as it is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Record {
    /// FR.
    pub(crate) reason: u8,
    /// SID.
    pub(crate) source: u16,
    /// FI: the page, or the interrupt's index in 63:48.
    pub(crate) info: u64,
    /// T1: a read.
    pub(crate) read: bool,
    /// PP and PV, each as it stands in the record.
    pub(crate) pasid: (bool, u32),
}

impl Record {
    /// Reads both words of a record; `None` if F is clear.
    pub(crate) fn parse(low: u64, high: u64) -> Option<Self> {
        let bits = |first: u32, count: u32| (high >> first) & ((1 << count) - 1);
        (bits(63, 1) != 0).then(|| Self {
            reason: bits(32, 8) as u8,
            source: bits(0, 16) as u16,
            info: low,
            read: bits(62, 1) != 0,
            pasid: (bits(31, 1) != 0, bits(40, 20) as u32),
        })
    }
}

/// An interrupt as it arrives at the APICs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Message {
    /// APIC id, 32 bits.
    pub(crate) destination: u32,
    /// DM.
    pub(crate) logical: bool,
    /// Delivery mode.
    pub(crate) delivery: u8,
    /// Vector.
    pub(crate) vector: u8,
    /// TM.
    pub(crate) level: bool,
}

impl Message {
    /// Reads a message that leaves the unit; address bits 63:40 hold the destination's upper
    /// part (§5.1.6.2).
    pub(crate) fn parse(address: u64, data: u32) -> Self {
        Self {
            destination: ((address >> 12) & 0xff) as u32 | (address >> 32) as u32 & 0xffff_ff00,
            logical: address & 4 != 0,
            delivery: (data >> 8) as u8 & 7,
            vector: data as u8,
            level: data & 0x8000 != 0,
        }
    }
}

/// What becomes of a request, or of a run of descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    /// It reaches this host physical address.
    Memory(u64),
    /// It is an interrupt, and arrives as this.
    Delivered(Message),
    /// It reaches nothing, with a fault record or with none. An address that no memory answers
    /// looks the same as an access that is blocked in silence.
    Blocked(Option<Record>),
    /// The queue ran to its end.
    Done,
    /// The queue stopped with IQE before the descriptor of this number.
    Stopped(u32),
}

impl Answer {
    /// Where in memory it arrives, if it does.
    pub(crate) fn place(&self) -> Option<u64> {
        match self {
            Self::Memory(address) => Some(*address),
            _ => None,
        }
    }

    /// The fault reason, if one was recorded.
    pub(crate) fn reason(&self) -> Option<u8> {
        match self {
            Self::Blocked(Some(record)) => Some(record.reason),
            _ => None,
        }
    }

    /// Whether the request got through.
    pub(crate) fn translates(&self) -> bool {
        matches!(self, Self::Memory(_) | Self::Delivered(_))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(address) => write!(f, "reaches {address:#x}"),
            Self::Delivered(message) => write!(
                f,
                "vector {:02x}h, delivery {}, {} APIC {:x}h{}",
                message.vector,
                message.delivery,
                if message.logical {
                    "logical"
                } else {
                    "physical"
                },
                message.destination,
                if message.level { ", level" } else { "" }
            ),
            Self::Blocked(None) => write!(f, "reaches nothing, and nothing is recorded"),
            Self::Blocked(Some(record)) => write!(
                f,
                "fault {:02x}h of {:02x}:{:02x}.{} at {:#x}, {}{}",
                record.reason,
                record.source >> 8,
                (record.source >> 3) & 0x1f,
                record.source & 7,
                record.info,
                if record.read { "read" } else { "write" },
                match record.pasid {
                    (false, 0) => String::new(),
                    (pp, pv) => format!(", PP {} PV {pv:#x}", u8::from(pp)),
                }
            ),
            Self::Done => write!(f, "queue done"),
            Self::Stopped(number) => write!(f, "IQE before descriptor {number}"),
        }
    }
}

/// What a side gave for a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// An answer.
    Answer(Answer),
    /// Something that no answer is: data in two places, two messages, …
    Confused(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => answer.fmt(f),
            Self::Confused(what) => f.write_str(what),
        }
    }
}
