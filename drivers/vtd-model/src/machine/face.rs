//! Registers, requests and interrupts: what drivers and devices do to a machine.

use super::Machine;
use super::drain::{Drain, Drained};
use super::world::Message;
use crate::choice::{Chooser, Explorer};
use crate::faults::{Condition, Status};
use crate::interrupts::{InterruptOutcome, PossibleInterrupt};
use crate::memory::{read_bytes, write_bytes};
use crate::registers::Width;
use crate::remapping::{Access, AddressType, Effects, Outcome, PageAccess, Request};
use crate::violation::Violation;

impl Machine {
    /// Reads a register of a unit, `offset` bytes from its base.
    pub fn read(&mut self, unit: usize, offset: usize, width: Width) -> u64 {
        let Some(this) = self.units.get_mut(unit) else {
            return u64::MAX;
        };
        let value = this.read_register(&mut self.world, offset, width);
        self.land(unit);
        self.after_disturbance(unit);
        value
    }

    /// Writes a register of a unit.
    pub fn write(&mut self, unit: usize, offset: usize, width: Width, value: u64) {
        let Some(this) = self.units.get_mut(unit) else {
            return;
        };
        this.write_register(&mut self.world, offset, width, value);
        self.after_disturbance(unit);
        if !self.world.pessimist && self.world.random.bool() {
            self.advance(unit, false);
        }
    }

    /// Bytes of a unit's register space.
    pub fn register_bytes(&self, unit: usize) -> usize {
        self.units
            .get(unit)
            .map_or(0, |unit| unit.config.register_bytes())
    }

    /// Carries out one request of a device: one of its possible outcomes, with its effects
    /// (flags, caches, fault log). A request of an unknown source goes to unit 0.
    pub fn request(&mut self, request: &Request) -> Outcome {
        let unit = self.unit_of(request.source).unwrap_or(0);
        if self.units.is_empty() {
            return Outcome::Memory {
                address: request.address,
            };
        }
        let outcome = self.units[unit].request(&mut self.world, request);
        for hpa in std::mem::take(&mut self.units[unit].updated) {
            self.after_store(hpa, 8);
        }
        self.guard(unit, outcome)
    }

    /// Protected memory regions: blocked without a fault (§11.4.8).
    fn guard(&self, unit: usize, outcome: Outcome) -> Outcome {
        let protection = &self.units[unit].registers.protection;
        match outcome {
            Outcome::Memory { address } if protection.blocks(address) => {
                Outcome::refused(Status::UnsupportedRequest)
            }
            outcome => outcome,
        }
    }

    /// Every outcome that hardware may give to this request now, without effects. In the
    /// pessimist mode that is the set of all answers; in the random mode those that the
    /// present content of the caches allows.
    pub fn possible(&self, request: &Request) -> Vec<Outcome> {
        let Some(unit) = self.units.get(self.unit_of(request.source).unwrap_or(0)) else {
            return vec![Outcome::Memory {
                address: request.address,
            }];
        };
        let mut explorer = Explorer::default();
        let mut found = Vec::new();
        loop {
            let mut effects = Effects::default();
            let outcome = unit
                .walker(&self.world, Chooser::Explore(&mut explorer), &mut effects)
                .answer(request);
            let outcome = self.guard(unit.index, outcome);
            if !found.contains(&outcome) {
                found.push(outcome);
            }
            if !explorer.advance() {
                return found;
            }
        }
    }

    /// Every way in which an untranslated or translated request may reach memory now, with
    /// snooping and memory type of the page, without effects; empty if it reaches none. Where
    /// caches hold what the entries said before, there is one for each.
    pub fn possible_accesses(&self, request: &Request) -> Vec<PageAccess> {
        let Some(unit) = self.units.get(self.unit_of(request.source).unwrap_or(0)) else {
            return Vec::new();
        };
        let mut explorer = Explorer::default();
        let mut found = Vec::new();
        loop {
            let mut effects = Effects::default();
            let page = unit
                .walker(&self.world, Chooser::Explore(&mut explorer), &mut effects)
                .page(request);
            if let Some((address, forced_snoop, typing)) = page
                && !unit.registers.protection.blocks(address)
            {
                let ranges = || unit.registers.memory_types.of(address);
                let access = PageAccess {
                    address,
                    forced_snoop,
                    memory_type: typing.effective(ranges),
                };
                if !found.contains(&access) {
                    found.push(access);
                }
            }
            if !explorer.advance() {
                return found;
            }
        }
    }

    /// A device reads memory, split at page boundaries (§3.13). False if any part is
    /// blocked; the rest of the buffer is then as it was.
    pub fn dma_read(
        &mut self,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        bytes: &mut [u8],
    ) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let count = (bytes.len() - done).min((0x1000 - at % 0x1000) as usize);
            let request = Request {
                pasid,
                ..Request::read(source, at)
            };
            let Some(target) = self.request(&request).address() else {
                return false;
            };
            if read_bytes(&*self.world.memory, target, &mut bytes[done..done + count]).is_none() {
                return false;
            }
            done += count;
        }
        true
    }

    /// A device writes memory, split at page boundaries. False if any part is blocked;
    /// parts before it have been written.
    pub fn dma_write(
        &mut self,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        bytes: &[u8],
    ) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let count = (bytes.len() - done).min((0x1000 - at % 0x1000) as usize);
            let request = Request {
                pasid,
                ..Request::write(source, at)
            };
            let Some(target) = self.request(&request).address() else {
                return false;
            };
            if write_bytes(&*self.world.memory, target, &bytes[done..done + count]).is_none() {
                return false;
            }
            self.stored(target, count as u64);
            done += count;
        }
        true
    }

    /// A device or interrupt controller writes an interrupt message.
    pub fn interrupt(&mut self, source: u16, address: u64, data: u32) -> InterruptOutcome {
        let unit = self.unit_of(source).unwrap_or(0);
        let Some(this) = self.units.get_mut(unit) else {
            let origin = super::Origin::Device(source);
            return InterruptOutcome::Delivered(Message {
                address,
                data,
                origin,
            });
        };
        let outcome = this.interrupt(&mut self.world, source, address, data);
        match outcome {
            InterruptOutcome::Delivered(message)
            | InterruptOutcome::Posted {
                notification: Some(message),
            } => {
                self.world.messages.push(message);
            }
            _ => {}
        }
        outcome
    }

    /// Every fate that an interrupt message may have now, without effects; in the pessimist
    /// mode with every entry that may be cached.
    pub fn possible_interrupts(
        &self,
        source: u16,
        address: u64,
        data: u32,
    ) -> Vec<PossibleInterrupt> {
        let Some(unit) = self.units.get(self.unit_of(source).unwrap_or(0)) else {
            return vec![PossibleInterrupt::Unchanged];
        };
        match unit.gate(address, data) {
            Ok(None) => vec![PossibleInterrupt::Unchanged],
            Ok(Some(index)) if unit.interrupt_index_fits(index) => {
                unit.possible_interrupts(&self.world, source, index)
            }
            Ok(Some(_)) => vec![PossibleInterrupt::Blocked(Condition::Irq21)],
            Err(condition) => vec![PossibleInterrupt::Blocked(condition)],
        }
    }

    /// Interrupt messages that reached the processors since the last call.
    pub fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.world.messages)
    }

    /// What was violated so far.
    pub fn violations(&self) -> &[Violation] {
        &self.world.violations
    }

    /// What was violated since the last call.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.world.violations)
    }

    /// Every fault that a unit met and did not silence, recorded or dropped: condition,
    /// source, fault information.
    pub fn faults(&self, unit: usize) -> &[(Condition, u16, u64)] {
        self.units.get(unit).map_or(&[], |unit| &unit.faults.seen)
    }

    /// Forgets what a unit's caches hold, as hardware may at any time (§6.2.4). The
    /// pessimist fills them again at once.
    pub fn forget(&mut self, unit: usize) {
        if let Some(this) = self.units.get_mut(unit) {
            this.caches.drop_all_dma();
            this.invalidated(&self.world, Drained::default(), Drain::ALL);
            this.drains_complete();
            this.caches.drop_interrupts(None);
            this.disturbed = true;
        }
        self.after_disturbance(unit);
    }

    /// All four accesses, for sweeps over what a request could do.
    pub(crate) const ACCESSES: [Access; 2] = [Access::Read, Access::Write];

    /// The request that a device would make of its own.
    pub(crate) fn plain(source: u16, pasid: Option<u32>, address: u64, access: Access) -> Request {
        Request {
            pasid,
            kind: AddressType::Untranslated,
            ..Request::new(source, address, access)
        }
    }
}
