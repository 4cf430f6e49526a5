//! The model's side: a fresh machine for each case, driven through registers and memory.

use std::sync::Arc;

use vtd_model::{
    Access, Condition, Freedom, HostMemory, InterruptOutcome, Machine, Outcome, PossibleInterrupt,
    Request, Width,
};

use crate::answer::{Answer, Message, Record};
use crate::bench::{Emulator, QUEUE, Rig, STATUS};
use crate::case::{Case, Descriptor, Device, Step};
use crate::codes::{self, Wanted};
use crate::memory::{Memory, is_ram};
use crate::walk::{Walk, Walker};

const GCMD: usize = 0x18;
const GSTS: usize = 0x1c;
const RTADDR: usize = 0x20;
const FSTS: usize = 0x34;
const IQH: usize = 0x80;
const IQT: usize = 0x88;
const IQA: usize = 0x90;
const IRTA: usize = 0xb8;
const FRCD: usize = 0x220;

const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
const QIE: u32 = 1 << 26;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;
const ONE_SHOT: u32 = !0x96ff_ffff;

/// What the model says of one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// Every answer that hardware may give, in QEMU's words; without those that QEMU has no
    /// word for.
    pub(crate) answers: Vec<Answer>,
    /// The conditions behind them, whether or not QEMU has a word for them.
    pub(crate) conditions: Vec<Condition>,
    /// What a request met.
    pub(crate) walk: Walk,
    /// The words of the interrupt entry that a request named.
    pub(crate) interrupt_entry: Option<[u64; 2]>,
}

/// The model with the tables of a case.
pub(crate) struct Hardware<'a> {
    emulator: &'a Emulator,
    rig: Rig,
    machine: Machine,
    memory: Arc<Memory>,
    walker: Walker,
    interrupts: Option<u64>,
    tail: u64,
    waits: u32,
}

impl<'a> Hardware<'a> {
    /// Sets the unit up as the case says.
    ///
    /// # Errors
    /// The unit did not do what it was told.
    pub(crate) fn new(emulator: &'a Emulator, case: &Case) -> Result<Self, String> {
        let memory = Arc::new(Memory::default());
        for (&at, &value) in &case.memory {
            memory.store(at, value);
        }
        let mut builder = Machine::builder()
            .unit(emulator.config(case.rig))
            .freedom(Freedom::Pessimist(case.number))
            .memory(Arc::clone(&memory) as Arc<dyn HostMemory>);
        for device in Device::ALL {
            builder = builder.device(device.source(), 0);
        }
        let machine = builder.build().map_err(|error| error.to_string())?;
        let mut this = Self {
            emulator,
            rig: case.rig,
            machine,
            memory,
            walker: Walker {
                root: case.root,
                first_stage: case.rig == Rig::First,
                rid_pasid: emulator.uses_rid_pasid(),
                bits: case.rig.bits(),
            },
            interrupts: case.interrupts,
            tail: 0,
            waits: 0,
        };
        for &frame in case.tables.iter().filter(|frame| is_ram(**frame)) {
            this.machine.written_back(frame, 0x1000);
        }
        this.turn_on(case)?;
        Ok(this)
    }

    fn turn_on(&mut self, case: &Case) -> Result<(), String> {
        let wide = u64::from(self.rig.is_scalable()) << 11;
        self.machine.write(0, IQA, Width::Qword, QUEUE | wide);
        self.command(QIE)?;
        self.machine.write(0, RTADDR, Width::Qword, case.root);
        self.command(SRTP)?;
        if let Some(table) = case.interrupts {
            self.machine.write(0, IRTA, Width::Qword, table);
            self.command(SIRTP)?;
        }
        match self.invalidate(&forget_all(self.rig)) {
            Answer::Done => {}
            other => return Err(format!("the model's first invalidation: {other}")),
        }
        self.command(TE)?;
        if case.interrupts.is_some() {
            self.command(IRE)?;
        }
        match self.machine.take_violations().first() {
            None => Ok(()),
            Some(violation) => Err(format!("set-up violates a rule: {violation}")),
        }
    }

    fn command(&mut self, bit: u32) -> Result<(), String> {
        let status = self.machine.read(0, GSTS, Width::Dword) as u32 & !ONE_SHOT;
        let value = u64::from(status | bit);
        self.machine.write(0, GCMD, Width::Dword, value);
        for _ in 0..100 {
            if self.machine.read(0, GSTS, Width::Dword) as u32 & bit != 0 {
                return Ok(());
            }
            self.machine.tick();
        }
        Err(format!("the model never answers command {bit:#x}"))
    }

    /// One step; `None` for one that has no answer.
    pub(crate) fn step(&mut self, step: &Step) -> Option<Told> {
        match step {
            Step::Store { at, value } => {
                self.machine.write_u64(*at, *value);
                self.machine.written_back(*at, 8);
                None
            }
            Step::Invalidate(descriptors) => Some(Told {
                answers: vec![self.invalidate(descriptors)],
                conditions: Vec::new(),
                walk: Walk::default(),
                interrupt_entry: None,
            }),
            Step::Dma {
                device,
                write,
                address,
            } => Some(self.dma(*device, *write, *address)),
            Step::Interrupt {
                device,
                address,
                data,
                ..
            } => Some(self.interrupt(*device, u64::from(*address), *data)),
        }
    }

    fn invalidate(&mut self, descriptors: &[Descriptor]) -> Answer {
        let size = if self.rig.is_scalable() { 32 } else { 16 };
        let first = self.tail;
        self.waits += 1;
        for words in descriptors.iter().chain([&wait(self.waits)]) {
            for (at, word) in (0..).step_by(8).zip(&words[..size as usize / 8]) {
                self.machine.write_u64(QUEUE + self.tail + at, *word);
            }
            self.tail = (self.tail + size) % 0x1000;
        }
        self.machine.write(0, IQT, Width::Qword, self.tail);
        for _ in 0..100 {
            self.machine.tick();
            if self.machine.read_u32(STATUS) == self.waits {
                return Answer::Done;
            }
            if self.machine.read(0, FSTS, Width::Dword) & 0x10 != 0 {
                break;
            }
        }
        let head = self.machine.read(0, IQH, Width::Qword);
        let stopped = head.wrapping_sub(first) % 0x1000 / size;
        self.recover(head, size);
        Answer::Stopped(stopped as u32)
    }

    /// Steps over what is left, as a driver does: the queue is filled with waits that do
    /// nothing of their own, and goes on.
    fn recover(&mut self, head: u64, size: u64) {
        let mut at = head;
        while at != self.tail {
            for (place, word) in (0..).step_by(8).zip(&wait(self.waits)[..size as usize / 8]) {
                self.machine.write_u64(QUEUE + at + place, *word);
            }
            at = (at + size) % 0x1000;
        }
        self.machine.write(0, FSTS, Width::Dword, 0x10);
        self.machine.write(0, IQT, Width::Qword, self.tail);
        self.machine.settle(4);
    }

    fn dma(&mut self, device: Device, write: bool, address: u64) -> Told {
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

    fn interrupt(&mut self, device: Device, address: u64, data: u32) -> Told {
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

    /// An entry that may be cached: the entry in memory is one of them, and the only one whose
    /// other fields are known.
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
                let low = crate::entries::InterruptLow::from(entry?[0]);
                (low.vector() == vector).then_some(Answer::Delivered(Message {
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
    let address = crate::entries::MessageAddress::from(address as u32);
    let handle = address.handle() | u16::from(address.handle_high()) << 15;
    if address.subhandle_valid() {
        handle.wrapping_add(data as u16)
    } else {
        handle
    }
}

/// Global invalidation of all that a unit caches.
pub(crate) fn forget_all(rig: Rig) -> Vec<Descriptor> {
    const CONTEXT: Descriptor = [0x11, 0, 0, 0];
    const PASID: Descriptor = [0x37, 0, 0, 0];
    const IOTLB: Descriptor = [0x12, 0, 0, 0];
    const ENTRIES: Descriptor = [0x04, 0, 0, 0];
    if rig.is_scalable() {
        vec![CONTEXT, PASID, IOTLB, ENTRIES]
    } else {
        vec![CONTEXT, IOTLB, ENTRIES]
    }
}

/// A fenced wait that reports `number`.
pub(crate) fn wait(number: u32) -> Descriptor {
    [u64::from(number) << 32 | 0x65, STATUS, 0, 0]
}
