//! Calls of guests: made, spoilt, and held against what any guest may see and a well-behaved
//! one must.

use super::table::{scribble, weave};
use super::{BASE, Life, World};
use crate::belief::Belief;
use crate::calls::{self, Disturbs, Prepared};
use crate::outline::Deed;
use crate::ram::lock;
use crate::stage;
use iommu_abi::{Errno, Op};
use iommu_core::Gpa;

impl World {
    pub(super) fn guest_acts(
        &self,
        guest: usize,
        cpu: usize,
        deed: Deed,
        random: &mut fastrand::Rng,
    ) -> String {
        let Some(life) = self.life(guest) else {
            return self.call_of_the_dead(guest, random);
        };
        match deed {
            Deed::Map => self.map_page(guest, cpu, &life, random),
            Deed::Unmap => self.unmap_page(guest, cpu, &life, random),
            Deed::Weave => weave(&life, random),
            Deed::Scribble => scribble(&life, random),
            Deed::Call(op) => {
                let known = lock(&life.belief).clone();
                let polite = self.setting.guests[guest].polite;
                // Who was asked does not let its devices wait for long.
                let op = match known.told.is_empty() || random.u8(..3) == 0 {
                    true => op,
                    false => [Op::PageResponse, Op::LinuxPageResponse][random.usize(..2)],
                };
                // Now and then without what must come before it.
                let op = match polite || random.u8(..64) != 0 {
                    true => calls::possible(op, &known),
                    false => op,
                };
                self.call(guest, cpu, &life, op, random)
            }
            _ => String::new(),
        }
    }

    /// A virtual CPU that has not noticed yet.
    fn call_of_the_dead(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        if random.u8(..8) != 0 {
            return "dead".to_owned();
        }
        let op = Op::ALL[random.usize(..Op::ALL.len())];
        let vm = self.guests[guest].vm;
        let result = self.iommu.call(vm, op.as_u32().into(), Gpa::new(BASE));
        lock(&self.tally).call(None, result);
        format!("dead, {} → {result}", op.name())
    }

    pub(super) fn call(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        op: Op,
        random: &mut fastrand::Rng,
    ) -> String {
        let mut known = lock(&life.belief).clone();
        known.buffer += 0x400 * cpu as u64;
        if op == Op::RingEnter && random.u8(..8) != 0 {
            return self.enter_ring(guest, cpu, life, &known, random);
        }
        let prepared = calls::plan(op, &known, random);
        self.make(guest, cpu, life, &known, prepared, random)
    }

    /// Makes a call that was prepared, spoilt perhaps, and learns from it.
    pub(crate) fn make(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        known: &Belief,
        mut call: Prepared,
        random: &mut fastrand::Rng,
    ) -> String {
        let polite = self.setting.guests[guest].polite;
        let mut address = BASE + 0x1000 * cpu as u64 + 8 * random.u64(..64);
        let mut operation = u64::from(call.op.as_u32());
        let good = polite || random.u8(..100) < 65;
        if !good {
            let spoilt = calls::spoil(&mut call, address, random);
            (address, operation) = (spoilt.address, spoilt.operation);
        }
        life.ram.write(address, &call.argument);
        life.ram.write(known.buffer, &call.buffer);
        let disturbs = call.disturbs;
        let before = polite.then(|| self.disturb(life, disturbs));
        lock(&life.belief).before(call.op);
        let failures = self.floor.failures();
        stage::call_for(life.number());
        let result = self
            .iommu
            .call(self.guests[guest].vm, operation, Gpa::new(address));
        stage::call_for(None);
        let nobody = result == Errno::EPERM.to_register();
        if nobody && !is_same(&lock(&self.guests[guest].life), life) {
            stage::orphan();
        }
        let back = life.ram.read(address, call.argument.len());
        let op = Op::from_register(operation);
        lock(&self.tally).call(op, result);
        self.judge_result(guest, life, op, result, failures);
        let mut words = format!("{} → {}", call.op.name(), result_words(result));
        if !good {
            words = format!(
                "{words} (spoilt: {operation:#x} at {address:#x}, {:02x?})",
                call.argument
            );
        }
        if result >= 0 && op == Some(call.op) {
            self.count_rebind(guest, call.op, &call.argument);
            self.learn(guest, life, &call, &back);
        }
        if op == Some(call.op) && calls::found_nobody(call.op, result) {
            lock(&life.belief).told.clear();
        }
        if before.is_some() && disturbs != Disturbs::Ring {
            self.promise(guest, life);
        }
        words
    }

    /// What the guest makes of a call that succeeded.
    pub(crate) fn learn(&self, guest: usize, life: &Life, call: &Prepared, back: &[u8]) {
        self.read_events(guest, life, call.op, back);
        call.learn(&mut lock(&life.belief), back);
        lock(&self.tally).answered_by_guests += calls::answers(call.op, back);
    }

    fn count_rebind(&self, guest: usize, op: Op, argument: &[u8]) {
        use iommu_abi::{Bind, FromBytes};
        if op != Op::Bind {
            return;
        }
        if let Ok((bind, _)) = Bind::read_from_prefix(argument) {
            let pasid = (bind.flags & Bind::PASID != 0).then_some(bind.pasid);
            let mut before = lock(&self.guests[guest].bound_before);
            if before.contains(&(bind.device_id, pasid)) {
                lock(&self.tally).rebinds += 1;
            } else {
                before.push((bind.device_id, pasid));
            }
        }
    }

    /// What any guest may see, and what a well-behaved one must.
    pub(crate) fn judge_result(
        &self,
        guest: usize,
        life: &Life,
        op: Option<Op>,
        result: i64,
        failures: u64,
    ) {
        let Ok(number) = u32::try_from(result.unsigned_abs()) else {
            self.find(format!(
                "guest {guest}: the result register holds {result:#x}"
            ));
            return;
        };
        if result >= 0 {
            return;
        }
        let Some(errno) = Errno::from_u32(number) else {
            self.find(format!(
                "guest {guest}: error {number} is not of the interface"
            ));
            return;
        };
        if !self.setting.sick && matches!(errno, Errno::EIO | Errno::ETIMEDOUT) {
            self.find(format!(
                "guest {guest}: {op:?} failed with {errno:?}, and hardware did as it was told"
            ));
        }
        let excused = match errno {
            Errno::ENOMEM => self.floor.failures() > failures,
            // Numbers of PASIDs and domains are shared by all.
            Errno::ENOSPC => matches!(
                op,
                Some(
                    Op::PasidAllocate
                        | Op::IoasAllocate
                        | Op::Bind
                        | Op::LinuxBindGpasid
                        | Op::PasidTableBind
                        | Op::PasidTableInvalidate
                )
            ),
            // It does not know what its table asks for: whatever lies in its pages.
            Errno::EDQUOT => {
                matches!(op, Some(Op::PasidTableBind | Op::PasidTableInvalidate))
            }
            // It read of a group that was answered when its slot was unbound.
            Errno::ENOENT if matches!(op, Some(Op::PageResponse | Op::LinuxPageResponse)) => true,
            // It was ended, and may have begun again.
            _ => !is_same(&lock(&self.guests[guest].life), life),
        };
        if self.setting.guests[guest].polite && !excused {
            self.find(format!(
                "guest {guest} makes no mistake, and its {op:?} failed with {errno:?}"
            ));
        }
    }
}

pub(super) fn is_same(alive: &Option<Life>, life: &Life) -> bool {
    alive
        .as_ref()
        .is_some_and(|alive| alive.owner == life.owner)
}

pub(super) fn result_words(result: i64) -> String {
    if result >= 0 {
        return "ok".to_owned();
    }
    let number = u32::try_from(result.unsigned_abs()).unwrap_or(u32::MAX);
    Errno::from_u32(number).map_or_else(|| format!("{result}"), |errno| errno.name().to_owned())
}
