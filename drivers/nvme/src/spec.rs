//! Registers and queue entries, one type for each word. Layout only.

use bitfield_struct::bitfield;

/// Controller Capabilities (CAP), offset 0.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Cap {
    /// Entries of a queue at most, less one.
    pub mqes: u16,
    #[bits(8)]
    __: u8,
    /// Time that CSTS.RDY may take, in units of 500 ms.
    pub to: u8,
    /// Doorbell stride: 4 bytes, shifted.
    #[bits(4)]
    pub dstrd: u8,
    #[bits(12)]
    __: u16,
    /// Smallest page: 4 KiB, shifted.
    #[bits(4)]
    pub mpsmin: u8,
    #[bits(12)]
    __: u16,
}

/// Controller Configuration (CC), offset 14h.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Cc {
    /// Enable.
    pub en: bool,
    #[bits(3)]
    __: u8,
    /// I/O command set; 0 is NVM.
    #[bits(3)]
    pub css: u8,
    /// Page size: 4 KiB, shifted.
    #[bits(4)]
    pub mps: u8,
    #[bits(5)]
    __: u8,
    /// Log2 of the size of submission entries.
    #[bits(4)]
    pub iosqes: u8,
    /// Log2 of the size of completion entries.
    #[bits(4)]
    pub iocqes: u8,
    #[bits(8)]
    __: u8,
}

/// Controller Status (CSTS), offset 1Ch.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Csts {
    /// Ready.
    pub rdy: bool,
    /// Fatal status.
    pub cfs: bool,
    #[bits(30)]
    __: u32,
}

/// Admin Queue Attributes (AQA), offset 24h.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Aqa {
    /// Entries of the submission queue, less one.
    #[bits(12)]
    pub asqs: u16,
    #[bits(4)]
    __: u8,
    /// Entries of the completion queue, less one.
    #[bits(12)]
    pub acqs: u16,
    #[bits(4)]
    __: u8,
}

/// Offsets of registers.
pub mod offset {
    /// CAP.
    pub const CAP: usize = 0x00;
    /// CC.
    pub const CC: usize = 0x14;
    /// CSTS.
    pub const CSTS: usize = 0x1c;
    /// AQA.
    pub const AQA: usize = 0x24;
    /// Address of the admin submission queue.
    pub const ASQ: usize = 0x28;
    /// Address of the admin completion queue.
    pub const ACQ: usize = 0x30;
    /// The first doorbell.
    pub const DOORBELLS: usize = 0x1000;
}

/// Word 0 of a command.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Command0 {
    /// Opcode.
    pub opcode: u8,
    __: u8,
    /// Command identifier.
    pub cid: u16,
    /// Namespace.
    pub nsid: u32,
}

/// Words 5 to 7 of a command: two of its own fields each.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CommandPair {
    /// CDW 10, 12 or 14.
    pub low: u32,
    /// CDW 11, 13 or 15.
    pub high: u32,
}

/// CDW 10 of the commands that create queues.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CreateQueue10 {
    /// The queue's number.
    pub qid: u16,
    /// Its entries, less one.
    pub size: u16,
}

/// CDW 11 of the commands that create queues.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CreateQueue11 {
    /// It lies in one piece.
    pub contiguous: bool,
    /// Interrupts, of a completion queue.
    pub interrupts: bool,
    #[bits(14)]
    __: u16,
    /// The completion queue of a submission queue; of a completion queue, its interrupt vector.
    pub cqid_or_vector: u16,
}

/// Word 1 of a completion.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Completion1 {
    /// Where the controller has read to.
    pub sq_head: u16,
    /// Of which submission queue.
    pub sqid: u16,
    /// Command identifier.
    pub cid: u16,
    /// Changes with each round of the queue.
    pub phase: bool,
    /// 0 is success.
    #[bits(15)]
    pub status: u16,
}

/// A logical block format of a namespace.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BlockFormat {
    /// Metadata bytes.
    pub metadata: u16,
    /// Log2 of the bytes of a block.
    pub log2_bytes: u8,
    __: u8,
}

/// Opcodes.
pub mod opcode {
    /// Admin: create an I/O submission queue.
    pub const CREATE_SUBMISSION: u8 = 0x01;
    /// Admin: create an I/O completion queue.
    pub const CREATE_COMPLETION: u8 = 0x05;
    /// Admin: identify.
    pub const IDENTIFY: u8 = 0x06;
    /// NVM: read.
    pub const READ: u8 = 0x02;
}
