//! Posting into a posted-interrupt descriptor (§5.2.3, §9.11).

use super::InterruptOutcome;
use crate::faults::Condition;
use crate::machine::unit::Unit;
use crate::machine::world::{Message, Origin, World};
use crate::memory::modify;
use crate::tables::{bit, bits};

const OUTSTANDING: u64 = 1;
const RESERVED_CONTROL: u64 = 0x0000_0000_ff00_fffc;

impl Unit {
    pub(super) fn post(
        &mut self,
        world: &mut World,
        source: u16,
        vector: u8,
        urgent: bool,
        descriptor: u64,
    ) -> Result<InterruptOutcome, Condition> {
        let memory = &*world.memory;
        for word in (descriptor + 40..descriptor + 64).step_by(8) {
            if memory.load(word).ok_or(Condition::Irq27)? != 0 {
                return Err(Condition::Irq28);
            }
        }
        let control = memory.load(descriptor + 32).ok_or(Condition::Irq27)?;
        if control & RESERVED_CONTROL != 0 {
            return Err(Condition::Irq28);
        }
        let request = descriptor + u64::from(vector / 64) * 8;
        modify(memory, request, |word| word | 1 << (vector % 64)).ok_or(Condition::Irq27)?;
        let notifies = |control| control & OUTSTANDING == 0 && (urgent || !bit(control, 1));
        let set = |control| {
            if notifies(control) {
                control | OUTSTANDING
            } else {
                control
            }
        };
        let before = modify(memory, descriptor + 32, set).ok_or(Condition::Irq27)?;
        let notification = notifies(before).then(|| self.notification(source, before));
        Ok(InterruptOutcome::Posted { notification })
    }

    /// Physical, fixed, edge, to NDST with vector NV.
    fn notification(&self, source: u16, control: u64) -> Message {
        let destination = bits(control, 63, 32);
        let address = if bit(self.interrupt_table, 11) {
            0xfee0_0000 | (destination & 0xff) << 12 | (destination & !0xff) << 32
        } else {
            0xfee0_0000 | bits(control, 47, 40) << 12
        };
        Message {
            address,
            data: bits(control, 23, 16) as u32,
            origin: Origin::Notification(source),
        }
    }
}
