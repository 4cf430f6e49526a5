//! Requests on the model, and its answers in QEMU's words.

use std::sync::Arc;

use vtd_model::{
    Access, Condition, HostMemory, InterruptOutcome, Outcome, PossibleInterrupt, Request, Width,
};

use super::{FSTS, Hardware, Told};
use crate::answer::{Answer, Message, Record};
use crate::bench::Rig;
use crate::case::Device;
use crate::codes::{self, Wanted};
use crate::entries::{InterruptLow, MessageAddress};
use crate::memory::is_ram;
use crate::walk::Walk;

const FRCD: usize = 0x220;

impl Hardware<'_> {
    pub(super) fn dma(&mut self, device: Device, write: bool, address: u64) -> Told {
        let access = if write { Access::Write } else { Access::Read };
        let source = device.source();
        let memory = Arc::clone(&self.memory);
        let walk = self.walker.walk(source, address, |at| memory.load(at));
        let wanted = Wanted {
            source,
            info: address & !0xfff & self.recorded_bits(),
            read: !write,
            pasid: walk.pasid,
            interrupt: false,
        };
        let request = Request::new(source, address, access);
        let possible = self.machine.possible(&request);
        let (answers, conditions) = self.in_qemus_words(&possible, &wanted);
        let carried_out = self.machine.request(&request);
        let logged = self.take_record();
        if let Some(complaint) = disagreement(&carried_out, logged, source, wanted.info) {
            // The model's own record contradicts its answer: no QEMU can agree with that.
            return Told {
                answers: Vec::new(),
                conditions: vec![complaint],
                walk,
                interrupt_entry: None,
            };
        }
        Told {
            answers,
            conditions,
            walk,
            interrupt_entry: None,
        }
    }

    /// Address bits that the model puts into a record (§11.4.7.6).
    fn recorded_bits(&self) -> u64 {
        match self.rig {
            Rig::First => u64::MAX,
            _ => (1 << self.rig.bits()) - 1,
        }
    }

    fn in_qemus_words(
        &self,
        outcomes: &[Outcome],
        wanted: &Wanted,
    ) -> (Vec<Answer>, Vec<Condition>) {
        let mut answers = Vec::new();
        let mut conditions = Vec::new();
        for outcome in outcomes {
            let answer = match *outcome {
                Outcome::Memory { address } if is_ram(address) => Answer::Memory(address),
                Outcome::Memory { .. } => Answer::Blocked(None),
                Outcome::Blocked {
                    condition, logged, ..
                } => {
                    conditions.extend(condition);
                    let record =
                        condition.and_then(|it| codes::record(self.emulator, self.rig, it, wanted));
                    match (logged, record) {
                        (false, _) => Answer::Blocked(None),
                        (true, Some(record)) => Answer::Blocked(Some(record)),
                        (true, None) => continue,
                    }
                }
                _ => continue,
            };
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        (answers, conditions)
    }

    pub(super) fn interrupt(&mut self, device: Device, address: u64, data: u32) -> Told {
        let source = device.source();
        let possible = self.machine.possible_interrupts(source, address, data);
        let outcome = self.machine.interrupt(source, address, data);
        self.take_record();
        let index = handle(address, data);
        let table = self.interrupts.unwrap_or(0) & !0xfff;
        let interrupt_entry = self
            .memory
            .load(table + 16 * u64::from(index))
            .zip(self.memory.load(table + 16 * u64::from(index) + 8))
            .map(|(low, high)| [low, high]);
        let wanted = Wanted {
            source,
            info: u64::from(index) << 48,
            read: false,
            pasid: 0,
            interrupt: true,
        };
        let mut conditions = Vec::new();
        let mut answers = Vec::new();
        match outcome {
            InterruptOutcome::Delivered(message) => {
                answers.push(Answer::Delivered(Message::parse(
                    message.address,
                    message.data,
                )));
            }
            InterruptOutcome::Blocked { condition, logged } => {
                conditions.push(condition);
                answers.extend(self.blocked_interrupt(condition, logged, &wanted));
            }
            InterruptOutcome::Posted { .. } => {}
        }
        for other in possible {
            if let Some(answer) = self.possible_interrupt(&other, interrupt_entry, &wanted)
                && !answers.contains(&answer)
            {
                answers.push(answer);
            }
        }
        Told {
            answers,
            conditions,
            walk: Walk::default(),
            interrupt_entry,
        }
    }

    /// An entry that may be cached. Cases change its vector and P: the fields that the model
    /// does not tell are those of the entry in memory.
    fn possible_interrupt(
        &self,
        possible: &PossibleInterrupt,
        entry: Option<[u64; 2]>,
        wanted: &Wanted,
    ) -> Option<Answer> {
        match *possible {
            PossibleInterrupt::Blocked(condition) => {
                let silent = entry.is_some_and(|[low, _]| low & 2 != 0) && condition.qualified();
                self.blocked_interrupt(condition, !silent, wanted)
            }
            PossibleInterrupt::Remapped {
                vector,
                destination,
            } => {
                let low = InterruptLow::from(entry?[0]);
                Some(Answer::Delivered(Message {
                    destination,
                    logical: low.logical(),
                    delivery: low.delivery(),
                    vector,
                    level: low.level(),
                }))
            }
            _ => None,
        }
    }

    fn blocked_interrupt(
        &self,
        condition: Condition,
        logged: bool,
        wanted: &Wanted,
    ) -> Option<Answer> {
        if !logged {
            return Some(Answer::Blocked(None));
        }
        // Fault information of 20h is undefined (§11.4.7.6): QEMU writes 0.
        let info = if condition == Condition::Irq20 {
            0
        } else {
            wanted.info
        };
        let wanted = Wanted { info, ..*wanted };
        let record = codes::record(self.emulator, self.rig, condition, &wanted)?;
        Some(Answer::Blocked(Some(record)))
    }

    fn take_record(&mut self) -> Option<Record> {
        let low = self.machine.read(0, FRCD, Width::Qword);
        let high = self.machine.read(0, FRCD + 8, Width::Qword);
        let clear = u64::from(1_u32 << 31);
        self.machine.write(0, FRCD + 12, Width::Dword, clear);
        self.machine.write(0, FSTS, Width::Dword, 1);
        Record::parse(low, high)
    }
}

/// Compares what the model answered with what it recorded; the condition that contradicts.
fn disagreement(
    outcome: &Outcome,
    logged: Option<Record>,
    source: u16,
    info: u64,
) -> Option<Condition> {
    match (*outcome, logged) {
        (
            Outcome::Blocked {
                condition: Some(condition),
                logged: true,
                ..
            },
            record,
        ) => {
            let right = record.is_some_and(|record| {
                (record.reason, record.source, record.info) == (condition.code(), source, info)
            });
            (!right).then_some(condition)
        }
        (_, None) => None,
        (_, Some(record)) => Condition::ALL
            .iter()
            .copied()
            .find(|condition| condition.code() == record.reason),
    }
}

/// The entry that a remappable message names (§5.1.3), in 16 bits.
pub(crate) fn handle(address: u64, data: u32) -> u16 {
    let address = MessageAddress::from(address as u32);
    let handle = address.handle() | u16::from(address.handle_high()) << 15;
    if address.subhandle_valid() {
        handle.wrapping_add(data as u16)
    } else {
        handle
    }
}
