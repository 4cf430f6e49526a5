//! A guest, as itself: it writes its page table and the arguments of its hypercalls as bytes, as
//! `docs/guest-interface.md` has them, and knows no crate of ours.

use crate::ram::Ram;
use iommu_core::{Gpa, GuestMemory, GuestMemoryError};

/// Operations.
const IOAS_ALLOCATE: u64 = 0x110;
const BIND: u64 = 0x120;
const FAULT_READ: u64 = 0x130;

/// Where in its memory the guest keeps what: four tables, an argument, events.
const ROOT: u64 = 0x1000;
const ARGUMENT: u64 = 0x5000;
const EVENTS: u64 = 0x6000;

/// Present, writable, and for everybody.
const ALL: u64 = 7;

/// What goes wrong in it.
pub(crate) type Trouble = Box<dyn std::error::Error>;

/// The instruction that leaves the guest: operation (`rax`) and argument's address (`rdi`) in,
/// result (`rax`) out.
pub(crate) type Vmcall<'h> = &'h dyn Fn(u64, Gpa) -> i64;

/// A request of its device that was refused.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: u32,
    pub(crate) address: u64,
}

pub(crate) struct Guest<'h> {
    pub(crate) ram: &'h Ram,
    pub(crate) vmcall: Vmcall<'h>,
}

impl Guest<'_> {
    /// Maps a page of the lowest 2 MiB in its table.
    pub(crate) fn map(&self, iova: u64, gpa: u64) -> Result<(), GuestMemoryError> {
        for level in 0..3 {
            let table = ROOT + level * 0x1000;
            self.store(table, (table + 0x1000) | ALL)?;
        }
        self.store(ROOT + 0x3000 + (iova >> 12) * 8, gpa | ALL)
    }

    /// Makes a device use the table.
    pub(crate) fn bind(&self, device: u32) -> Result<(), Trouble> {
        const USER_TABLE: u32 = 1;
        const X86_64_LEVEL_4: u32 = 1;
        let mut allocate = Argument::new(80);
        allocate.u32(4, USER_TABLE).u32(28, X86_64_LEVEL_4).u64(40, ROOT).u32(48, device);
        let table = self.call(IOAS_ALLOCATE, &allocate)?.read_u32(52);
        let mut bind = Argument::new(24);
        self.call(BIND, bind.u32(8, device).u32(12, table))?;
        Ok(())
    }

    /// The oldest event that waits.
    pub(crate) fn fault(&self) -> Result<Option<Refused>, Trouble> {
        let mut read = Argument::new(40);
        let answer = self.call(FAULT_READ, read.u64(8, EVENTS).u32(16, 80).u32(20, 1))?;
        let mut event = Argument::new(80);
        self.ram.copy_in(Gpa::new(EVENTS), &mut event.0)?;
        let (reason, address) = (event.read_u32(24), self.ram.read_once(Gpa::new(EVENTS + 32))?);
        Ok((answer.read_u32(28) == 1).then_some(Refused { reason, address }))
    }

    fn call(&self, operation: u64, argument: &Argument) -> Result<Argument, Trouble> {
        let at = Gpa::new(ARGUMENT);
        self.ram.copy_out(at, &argument.0)?;
        let result = (self.vmcall)(operation, at);
        if result < 0 {
            return Err(format!("operation {operation:#x}: error {}", -result).into());
        }
        let mut answer = Argument::new(argument.0.len() as u32);
        self.ram.copy_in(at, &mut answer.0)?;
        Ok(answer)
    }

    fn store(&self, gpa: u64, value: u64) -> Result<(), GuestMemoryError> {
        self.ram.copy_out(Gpa::new(gpa), &value.to_le_bytes())
    }
}

/// Bytes, of which the first four say how many they are.
struct Argument(Vec<u8>);

impl Argument {
    fn new(bytes: u32) -> Self {
        let mut argument = Self(vec![0; bytes as usize]);
        argument.u32(0, bytes);
        argument
    }

    fn u32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, offset: usize, value: u64) -> &mut Self {
        self.0[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.0[offset + byte]))
    }
}
