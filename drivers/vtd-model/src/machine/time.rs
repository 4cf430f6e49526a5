//! What happens while time passes: commands complete, descriptors run, devices answer.

use super::Machine;
use crate::registers::{Happening, Removal};

impl Machine {
    /// Lets time pass: what a driver's waiting loop calls on every turn.
    pub fn tick(&mut self) {
        self.world.time += 1;
        for unit in 0..self.units.len() {
            self.units[unit].count(&mut self.world, &[Happening::CLOCK]);
            self.advance(unit, self.world.pessimist);
            self.land_at_random(unit);
            self.units[unit].age_invalidations(&mut self.world, self.patience);
        }
        self.devices_answer();
        self.maybe_prefetch();
    }

    /// Random mode: now and then something is cached that nobody asked for.
    pub(crate) fn maybe_prefetch(&mut self) {
        if self.units.is_empty() || self.world.pessimist || self.world.random.u8(..8) != 0 {
            return;
        }
        let unit = self.world.random.usize(..self.units.len());
        self.prefetch_at_random(unit);
    }

    /// Lets time pass until nothing is left to do, at most `ticks` ticks.
    pub fn settle(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// The model's clock, in ticks.
    pub fn now(&self) -> u64 {
        self.world.time
    }

    /// Work of one unit: all that is due, or (`all` false) a random part.
    pub(crate) fn advance(&mut self, unit: usize, all: bool) {
        self.complete_commands(unit, all);
        let most = if all {
            usize::MAX
        } else {
            self.world.random.usize(..4)
        };
        self.units[unit].fetch(&mut self.world, most);
        self.run_queue(unit, all);
        let requests = if all {
            self.units[unit].due_page_requests(&self.world)
        } else {
            self.world.random.usize(..2)
        };
        self.units[unit].deliver_page_requests(&mut self.world, requests);
    }

    fn complete_commands(&mut self, unit: usize, all: bool) {
        if all || self.world.random.u8(..4) == 0 {
            let this = &mut self.units[unit];
            this.complete_command(&mut self.world);
            this.complete_context_command(&mut self.world);
            this.complete_iotlb_command(&mut self.world);
            this.complete_protection();
            this.complete_enhanced_command(&mut self.world);
            this.complete_virtual_command(&mut self.world);
        }
        self.land(unit);
        self.after_disturbance(unit);
    }

    /// Runs descriptors. The pessimist takes the worst order that is allowed: what lies
    /// downstream first, so that it may be filled again from what is still stale upstream.
    fn run_queue(&mut self, unit: usize, all: bool) {
        loop {
            let ready = self.units[unit].ready();
            if ready.is_empty() {
                return;
            }
            let worst = ready
                .iter()
                .max_by_key(|at| self.units[unit].downstream(**at))
                .copied();
            let any = ready[self.world.random.usize(..ready.len())];
            let taken = worst.filter(|_| self.world.pessimist).unwrap_or(any);
            let mut outgoing = Vec::new();
            let removal = self.units[unit].execute(&mut self.world, taken, &mut outgoing);
            self.land(unit);
            self.deliver(outgoing);
            self.after_removal(unit, removal);
            if !all && self.world.random.bool() {
                return;
            }
        }
    }

    pub(crate) fn after_removal(&mut self, unit: usize, removal: Removal) {
        if !self.world.pessimist || removal == Removal::Nothing {
            return;
        }
        if removal == Removal::Interrupts {
            self.units[unit].prefetch_interrupts(&self.world, 0, u64::MAX);
        }
        let new = self.prefetch[unit].removed(surroundings!(self, unit), removal);
        self.judge(unit, &new);
        if removal == Removal::Everything {
            self.check_unguarded(unit);
        }
    }

    /// What device-TLBs hold counts again where host permission tables no longer stand
    /// before it.
    fn check_unguarded(&mut self, unit: usize) {
        if self.units[unit].config.host_permissions {
            self.check_frames(0, u64::MAX);
        }
    }

    /// A register command changed what the unit goes by.
    pub(crate) fn after_disturbance(&mut self, unit: usize) {
        if std::mem::take(&mut self.units[unit].disturbed) {
            self.world.step += 1;
            self.rebuild_unit(unit);
        }
    }

    pub(crate) fn rebuild_unit(&mut self, unit: usize) {
        if self.world.pessimist {
            let new = self.prefetch[unit].rebuild(surroundings!(self, unit));
            self.judge(unit, &new);
            self.check_unguarded(unit);
            self.units[unit].prefetch_interrupts(&self.world, 0, u64::MAX);
        }
    }
}
