//! What guests do with rings of operations: several calls at once, each of which could be
//! spoilt, and whose results are held against what may be.

use crate::belief::{Belief, Ring};
use crate::calls::{self, Disturbs, ENTRIES, Prepared, RING_BYTES};
use crate::ram::lock;
use crate::world::{Life, World};
use iommu_abi::{IntoBytes as _, Op, RingSubmission};

/// An operation of a ring that is ready to be done.
struct Submitted {
    call: Prepared,
    operation: u64,
    argument: u64,
    /// No other completion has it.
    token: u64,
}

/// Operations that a guest which makes no mistake puts behind another one: those that no
/// other has an effect on.
const HARMLESS: [Op; 3] = [Op::Info, Op::Probe, Op::DeviceList];

impl World {
    /// Submits a few operations to a ring, enters it, and learns from what was done.
    pub(crate) fn enter_ring(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        known: &Belief,
        random: &mut fastrand::Rng,
    ) -> String {
        let Some(&ring) = random.choice(&known.rings) else {
            let call = calls::plan(Op::RingCreate, known, random);
            return self.make(guest, cpu, life, known, call, random);
        };
        let polite = self.setting.guests[guest].polite;
        let count = random.u64(1..=ENTRIES);
        let page = known.buffer & !0xfff;
        // Arguments lie behind those of calls.
        let arguments = page - 0x1000 * (3 - cpu as u64) + 0x800;
        let batch = !known.tables.is_empty() && random.bool();
        let mut all = Vec::new();
        for place in 0..count {
            let mut known = known.clone();
            known.buffer += 0x100 * place;
            // A ring cannot end itself.
            known.rings.retain(|_| !polite);
            let op = match place {
                _ if batch => Op::Invalidate,
                0 => Op::ALL[random.usize(..Op::ALL.len())],
                _ if polite => HARMLESS[random.usize(..HARMLESS.len())],
                _ => Op::ALL[random.usize(..Op::ALL.len())],
            };
            let op = match calls::possible(op, &known) {
                // What lies upon arguments of others, or is no operation of a ring.
                Op::FaultRead | Op::RingCreate | Op::RingEnter if polite => Op::Info,
                op => op,
            };
            let mut call = calls::plan(op, &known, random);
            let mut operation = u64::from(op.as_u32());
            let mut argument = arguments + 0x100 * place;
            life.ram.write(known.buffer, &call.buffer);
            if !polite && random.u8(..100) < 25 {
                let spoilt = calls::spoil(&mut call, argument, random);
                (operation, argument) = (spoilt.operation, spoilt.address);
            }
            life.ram.write(argument, &call.argument);
            all.push(Submitted {
                call,
                operation,
                argument,
                token: random.u64(..),
            });
        }
        if polite {
            for one in &all {
                self.disturb(life, one.call.disturbs);
            }
        }
        for one in &all {
            lock(&life.belief).before(one.call.op);
        }
        let failures = self.floor.failures();
        submit(life, ring, &all, polite, random);
        let mut enter = calls::enter(ring.handle);
        enter.disturbs = Disturbs::Ring;
        let words = self.make(guest, cpu, life, known, enter, random);
        let done = self.judge_ring(guest, life, ring, &all, failures);
        if polite && words.ends_with("ok") && done < all.len() {
            self.find(format!(
                "guest {guest} submitted {} operations, and {done} were done",
                all.len()
            ));
        }
        if polite {
            self.promise(guest, life);
        }
        format!("ring of {count}, {done} done: {words}")
    }

    /// Looks at the completions, learns from them, and says how many there are.
    fn judge_ring(
        &self,
        guest: usize,
        life: &Life,
        ring: Ring,
        all: &[Submitted],
        failures: u64,
    ) -> usize {
        let bytes = life.ram.read(ring.at, RING_BYTES as usize);
        let word = |at: u64| {
            let at = at as usize;
            let bytes = bytes.get(at..at + 8).unwrap_or(&[0; 8]);
            u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
        };
        let completions = 64 + 32 * ENTRIES;
        let mut done = 0;
        for one in all {
            let mut places = (0..ENTRIES).map(|place| completions + 16 * place);
            let Some(at) = places.find(|&at| word(at) == one.token) else {
                continue;
            };
            done += 1;
            let result = word(at + 8) as i64;
            let op = Op::from_register(one.operation);
            {
                let mut tally = lock(&self.tally);
                tally.ring_operations.0 += 1;
                tally.ring_operations.1 += u64::from(result >= 0);
            }
            self.judge_result(guest, life, op, result, failures);
            if result >= 0 && op == Some(one.call.op) {
                let back = life.ram.read(one.argument, one.call.argument.len());
                self.learn(guest, life, &one.call, &back);
            }
        }
        // All of them are read.
        life.ram.store(ring.at + 8, word(24));
        done
    }
}

/// Writes the submissions where the hypervisor is now, and moves the tail. Who means harm
/// moves it elsewhere now and then, or writes again what was read.
fn submit(life: &Life, ring: Ring, all: &[Submitted], polite: bool, random: &mut fastrand::Rng) {
    let head = life.ram.read(ring.at + 24, 8);
    let head = u64::from_le_bytes(head.try_into().unwrap_or_default()) as u32;
    let mut tail = head;
    for one in all {
        let element = ring.at + 64 + 32 * (u64::from(tail) % ENTRIES);
        let submission = RingSubmission {
            operation: one.operation as u32,
            flags: u32::from(!polite && random.u8(..32) == 0),
            argument: one.argument,
            user_data: one.token,
            reserved: 0,
        };
        life.ram.write(element, submission.as_bytes());
        tail = tail.wrapping_add(1);
    }
    life.ram.store(ring.at + 8, head.into());
    let wild = !polite && random.u8(..12) == 0;
    let tail = if wild {
        random.u64(..) >> random.u32(..64)
    } else {
        tail.into()
    };
    life.ram.store(ring.at, tail);
}
