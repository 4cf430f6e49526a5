//! PQA, PQH, PQT and PRS (§11.4.11).

use super::dispatch::Write;
use super::map::Register;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::tables::{bits, page};
use crate::violation::Rule;

/// Bytes of a page request descriptor.
pub(crate) const SLOT: u64 = 32;

/// The queue's registers.
#[derive(Default, Debug)]
pub(crate) struct PageQueue {
    pub(crate) address: u64,
    pub(crate) head: u64,
    pub(crate) tail: u64,
    /// PPR.
    pub(crate) pending: bool,
    /// PRO.
    pub(crate) overflow: bool,
    /// Accepted requests that are not yet visible to software (§7.5).
    pub(crate) accepted: Vec<([u64; 4], u64)>,
}

impl PageQueue {
    pub(crate) fn bytes(&self) -> u64 {
        0x1000 << bits(self.address, 2, 0)
    }

    pub(crate) fn base(&self) -> u64 {
        page(self.address)
    }

    pub(crate) fn status(&self) -> u32 {
        u32::from(self.pending) | u32::from(self.overflow) << 1
    }

    /// Full, counting what is accepted and not delivered.
    pub(crate) fn is_full(&self) -> bool {
        let bytes = self.bytes();
        let used = self.tail.wrapping_sub(self.head) % bytes + SLOT * self.accepted.len() as u64;
        used + SLOT >= bytes
    }
}

impl Unit {
    pub(crate) fn write_page_queue(&mut self, world: &mut World, register: Register, write: Write) {
        let queue = &self.registers.page_queue;
        let reserved = if register == Register::Pqa {
            0xff8
        } else {
            !0x7_ffe0
        };
        let old = match register {
            Register::Pqa => queue.address,
            Register::Pqh => queue.head,
            _ => queue.tail,
        };
        let value = write.over(old);
        self.reserved(world, &format!("{register:?}"), "§11.4.11", value, reserved);
        let value = value & !reserved;
        if register == Register::Pqh {
            self.check_page_head(world, value);
        }
        let queue = &mut self.registers.page_queue;
        match register {
            Register::Pqa => queue.address = value,
            Register::Pqh => queue.head = value,
            _ => queue.tail = value,
        }
    }

    /// The head may move forward, up to the tail.
    fn check_page_head(&self, world: &mut World, head: u64) {
        let queue = &self.registers.page_queue;
        let bytes = queue.bytes();
        if head >= bytes {
            world.violate(
                Rule::Queue,
                "§11.4.11.1",
                format!("PQH {head:#x} beyond the queue"),
            );
            return;
        }
        let waiting = queue.tail.wrapping_sub(queue.head) % bytes;
        let taken = head.wrapping_sub(queue.head) % bytes;
        if taken > waiting {
            let message = format!(
                "PQH moved from {:#x} to {head:#x}, past PQT {:#x}",
                queue.head, queue.tail
            );
            world.violate(Rule::Queue, "§7.4.1", message);
        }
    }

    pub(crate) fn write_page_status(&mut self, world: &mut World, value: u32) {
        self.reserved(world, "PRS", "§11.4.11.4", u64::from(value), 0xffff_fffc);
        let queue = &mut self.registers.page_queue;
        if value & 1 != 0 {
            queue.pending = false;
        }
        if value & 2 != 0 {
            queue.overflow = false;
        }
        if !queue.pending && !queue.overflow {
            self.registers.page_event.served();
        }
    }
}
