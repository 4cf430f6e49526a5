//! Fetching and executing descriptors: when the model likes, in any order that §6.5.2.12
//! allows, with the errors of §6.5.2.11.

use super::descriptor::{decode, drain};
use super::order::must_follow;
use super::{Command, DeviceInvalidation, Invalid, Pending, Stage, Wait};
use crate::faults::page_request::PageResponse;
use crate::machine::drain::{Drain, Drained};
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::registers::{Removal, Source};
use crate::remapping::in_interrupt_range;
use crate::violation::Rule;

/// Messages that leave the unit for a device, in order (§7.8).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outgoing {
    Invalidate(DeviceInvalidation),
    Respond(PageResponse),
}

impl Unit {
    /// Fetches up to `most` descriptors.
    pub(crate) fn fetch(&mut self, world: &mut World, most: usize) {
        for _ in 0..most {
            let stopped = self.queue.error.is_some() || self.queue.timeout.is_some();
            if !self.queue.enabled || stopped || self.queue.is_empty() {
                return;
            }
            match self.fetch_one(world) {
                Ok((command, drain)) => {
                    let slot = self.queue.head;
                    self.check_command_values(world, &command);
                    self.queue.pending.push(Pending {
                        command,
                        drain,
                        stage: Stage::Fetched,
                    });
                    self.queue.head = (slot + self.queue.slot()) % self.queue.bytes();
                }
                Err(error) => self.queue_error(world, error),
            }
        }
    }

    fn fetch_one(&self, world: &World) -> Result<(Command, Drain), Invalid> {
        let queue = &self.queue;
        let wide = queue.wide();
        if queue.tail >= queue.bytes() {
            return Err(Invalid::Tail);
        }
        if wide && queue.tail & 0x10 != 0 {
            return Err(Invalid::TailAlignment);
        }
        if wide && !(self.config.scalable_mode || self.config.abort_dma) {
            return Err(Invalid::Width);
        }
        let at = queue.base() + queue.head;
        let mut words = [0; 4];
        let count = if wide { 4 } else { 2 };
        if at & self.config.above_host() != 0 {
            return Err(Invalid::Fetch);
        }
        for (address, word) in (at..).step_by(8).zip(&mut words[..count]) {
            *word = world.memory.load(address).ok_or(Invalid::Fetch)?;
        }
        let command = decode(words, wide, self.mode(), &self.config)?;
        Ok((command, drain(words, &self.config)))
    }

    fn queue_error(&mut self, world: &mut World, error: Invalid) {
        let before = self.fault_conditions();
        self.queue.error = Some(error as u8);
        let message = format!(
            "invalidation queue error {error:?} (IQEI {}) at offset {:#x}",
            error as u8, self.queue.head
        );
        world.violate(Rule::Queue, "§6.5.2.11", message);
        self.fault_event(world, before);
    }

    /// Rules about values that hardware does not check.
    fn check_command_values(&self, world: &mut World, command: &Command) {
        match command {
            Command::Interrupts(Some((_, mask))) if *mask > self.config.max_handle_mask => {
                world.violate(
                    Rule::Value,
                    "§6.5.2.8",
                    format!("index mask {mask} beyond MHMV"),
                );
            }
            Command::DeviceTlb(_) if !self.latched.enabled => {
                world.violate(Rule::Order, "§4.2.1", "device-TLB invalidation while translation is off: its completion would be refused");
            }
            Command::Wait(Wait {
                status: Some((address, _)),
                ..
            }) if in_interrupt_range(*address) => {
                world.violate(
                    Rule::Value,
                    "§6.5.2.9",
                    "status address in the interrupt range",
                );
            }
            _ => {}
        }
    }

    /// Indices of the descriptors that may run now.
    pub(crate) fn ready(&self) -> Vec<usize> {
        let pending = &self.queue.pending;
        (0..pending.len())
            .filter(|at| pending[*at].stage == Stage::Fetched && self.may_run(*at))
            .collect()
    }

    fn may_run(&self, at: usize) -> bool {
        let pending = &self.queue.pending;
        let this = &pending[at].command;
        if let Command::Wait(_) = this {
            let since = pending[..at]
                .iter()
                .rposition(|other| matches!(other.command, Command::Wait(_)));
            let behind_previous = &pending[since.map_or(0, |wait| wait + 1)..at];
            let fenced = pending[..at].iter().any(is_fence);
            return self.queue.timeout.is_none() && !fenced && behind_previous.is_empty();
        }
        pending[..at].iter().all(|earlier| {
            let sent_in_order = matches!(earlier.stage, Stage::Sent { .. }) && posts(this);
            !is_fence(earlier) && (sent_in_order || !must_follow(&earlier.command, this))
        })
    }

    /// How far down the chain of caches a descriptor works: context, PASID, IOTLB, device,
    /// host permissions.
    /// Waits come before everything.
    pub(crate) fn downstream(&self, at: usize) -> u8 {
        match self.queue.pending[at].command {
            Command::Contexts { .. } => 0,
            Command::Pasids { .. } => 1,
            Command::Iotlb { .. } | Command::PasidIotlb { .. } | Command::Interrupts(_) => 2,
            Command::DeviceTlb(_) | Command::PageResponse { .. } => 3,
            Command::Permissions { .. } => 4,
            Command::Wait(_) => 5,
        }
    }

    /// Runs one descriptor; says what it removed from the caches.
    pub(crate) fn execute(
        &mut self,
        world: &mut World,
        at: usize,
        outgoing: &mut Vec<Outgoing>,
    ) -> Removal {
        let Pending { command, drain, .. } = self.queue.pending[at];
        if let Command::DeviceTlb(range) = command {
            let tag = self.queue.next_tag;
            self.queue.next_tag += 1;
            self.queue.pending[at].stage = Stage::Sent { tag };
            let invalidation = DeviceInvalidation { tag, range, age: 0 };
            self.queue.sent.push(invalidation);
            outgoing.push(Outgoing::Invalidate(invalidation));
            return Removal::Nothing;
        }
        self.queue.pending.remove(at);
        self.queue.quiet = matches!(command, Command::Wait(_)) && self.queue.pending.is_empty();
        let removal = self.carry_out(world, command, outgoing);
        self.drain_with(world, &command, drain);
        if removal != Removal::Nothing {
            world
                .image
                .flushed_by(&*world.memory, self.config.write_buffer_flush);
            world.step += 1;
        }
        removal
    }

    /// What an IOTLB invalidation drains before the next wait completes (§6.5.4).
    fn drain_with(&mut self, world: &World, command: &Command, drain: Drain) {
        let whose = match *command {
            Command::Iotlb { domain, pages } => Drained {
                domain,
                pasid: None,
                range: pages.map(|(range, _)| range),
            },
            Command::PasidIotlb {
                domain,
                pasid,
                pages,
            } => Drained {
                domain: Some(domain),
                pasid: Some(pasid),
                range: pages.map(|(range, _)| range),
            },
            _ => return,
        };
        self.invalidated(world, whose, drain);
    }

    fn carry_out(
        &mut self,
        world: &mut World,
        command: Command,
        outgoing: &mut Vec<Outgoing>,
    ) -> Removal {
        let caches = &mut self.caches;
        match command {
            Command::Contexts { source, domain } => {
                caches.drop_contexts(source, domain);
                Removal::Everything
            }
            Command::Pasids { domain, pasid } => {
                caches.drop_pasids(domain, pasid);
                Removal::Everything
            }
            Command::Iotlb { domain: None, .. } => {
                caches.drop_translations();
                Removal::Everything
            }
            Command::Iotlb {
                domain: Some(domain),
                pages: None,
            } => {
                caches.drop_domain(domain);
                Removal::Domain {
                    domain,
                    range: None,
                    first: false,
                }
            }
            Command::Iotlb {
                domain: Some(domain),
                pages: Some((range, leaf_only)),
            } => {
                caches.drop_domain_pages(domain, range, leaf_only);
                Removal::Domain {
                    domain,
                    range: Some(range),
                    first: false,
                }
            }
            Command::PasidIotlb {
                domain,
                pasid,
                pages: None,
            } => {
                caches.drop_pasid(domain, pasid);
                Removal::Domain {
                    domain,
                    range: None,
                    first: true,
                }
            }
            Command::PasidIotlb {
                domain,
                pasid,
                pages: Some((range, leaf_only)),
            } => {
                caches.drop_pasid_pages(domain, pasid, range, leaf_only);
                Removal::Domain {
                    domain,
                    range: Some(range),
                    first: true,
                }
            }
            Command::Permissions {
                domain,
                range,
                level,
            } => {
                caches.permissions.drop(domain, range, level);
                Removal::Permissions(domain)
            }
            Command::Interrupts(index) => {
                caches.drop_interrupts(index);
                Removal::Interrupts
            }
            Command::PageResponse {
                source,
                pasid,
                group,
                code,
            } => {
                outgoing.push(Outgoing::Respond(PageResponse {
                    source,
                    pasid,
                    group,
                    code,
                    automatic: false,
                }));
                Removal::Nothing
            }
            Command::Wait(wait) => {
                self.complete_wait(world, &wait);
                Removal::Nothing
            }
            Command::DeviceTlb(_) => Removal::Nothing,
        }
    }

    fn complete_wait(&mut self, world: &mut World, wait: &Wait) {
        self.drains_complete();
        if wait.drain_page_requests {
            self.deliver_page_requests(world, usize::MAX);
        }
        if let Some((address, data)) = wait.status
            && world.hardware_store(address, &data.to_le_bytes()).is_none()
        {
            world.violate(
                Rule::Value,
                "§6.5.2.9",
                format!("status address {address:#x} is no memory"),
            );
        }
        if wait.interrupt && !std::mem::replace(&mut self.registers.wait_completed, true) {
            self.raise(world, Source::Invalidation);
        }
    }

    /// A device answers an invalidation request. A tag that is not in use, or that belongs
    /// to another device, is an error (ICE).
    pub(crate) fn device_answers(&mut self, world: &mut World, source: u16, tag: u64) {
        let sent = &mut self.queue.sent;
        let Some(at) = sent
            .iter()
            .position(|sent| sent.tag == tag && sent.range.source == source)
        else {
            let before = self.fault_conditions();
            self.queue.completion_error.get_or_insert(source);
            self.fault_event(world, before);
            return;
        };
        sent.remove(at);
        self.queue
            .pending
            .retain(|pending| pending.stage != Stage::Sent { tag });
    }

    /// Time passes for invalidation requests; after `limit` ticks one times out (ITE).
    pub(crate) fn age_invalidations(&mut self, world: &mut World, limit: u64) {
        for sent in &mut self.queue.sent {
            sent.age += 1;
        }
        let Some(at) = self.queue.sent.iter().position(|sent| sent.age > limit) else {
            return;
        };
        let late = self.queue.sent.remove(at);
        let before = self.fault_conditions();
        self.queue.timeout.get_or_insert(late.range.source);
        let oldest = self
            .queue
            .pending
            .iter()
            .position(|pending| matches!(pending.stage, Stage::Sent { .. }));
        if let Some(oldest) = oldest {
            // Nothing from the oldest device-TLB invalidation on is sure to be executed.
            self.queue.pending.truncate(oldest);
        }
        self.queue
            .pending
            .retain(|pending| !matches!(pending.command, Command::Wait(_)));
        self.fault_event(world, before);
    }
}

fn is_fence(pending: &Pending) -> bool {
    matches!(pending.command, Command::Wait(Wait { fence: true, .. }))
}

/// Goes out to the link: order of sending is enough for these.
fn posts(command: &Command) -> bool {
    matches!(
        command,
        Command::DeviceTlb(_) | Command::PageResponse { .. }
    )
}
