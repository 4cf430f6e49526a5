//! One remapping unit: its registers, caches and queues.

use super::world::World;
use crate::caches::Caches;
use crate::choice::Chooser;
use crate::config::Config;
use crate::faults::{Condition, FaultLog, Record, RecordKind};
use crate::queue::Queue;
use crate::registers::{Counters, Happening, Registers};
use crate::remapping::{
    Access, AddressType, Effects, Fill, Latched, Mode, Outcome, Request, Walker,
};

/// A unit.
pub(crate) struct Unit {
    pub(crate) index: usize,
    pub(crate) config: Config,
    pub(crate) latched: Latched,
    /// IRTA as the last SIRTP took it over.
    pub(crate) interrupt_table: u64,
    pub(crate) registers: Registers,
    pub(crate) caches: Caches,
    pub(crate) queue: Queue,
    pub(crate) faults: FaultLog,
    /// Counts everything that made entries disappear or memory change, for the pessimist's
    /// bookkeeping.
    pub(crate) disturbed: bool,
    /// Pessimist: requests that were translated and have not arrived.
    pub(crate) underway: Vec<super::drain::Underway>,
    /// Writes that were translated and have not landed.
    pub(crate) posted: Vec<super::posted::Posted>,
    /// Those that land with the step that is going on.
    pub(crate) landing: Vec<super::posted::Posted>,
    /// Paging entries whose flags were set since the machine last looked.
    pub(crate) updated: Vec<u64>,
}

/// Entries of the IOTLB, and host permissions, that the random mode keeps; beyond it forgets them all now and then, as
/// hardware may.
const MOST_TRANSLATIONS: usize = 1 << 16;

impl Unit {
    /// `buffered`: its write buffer (CAP.RWBF) is modelled.
    pub(crate) fn new(index: usize, config: Config, buffered: bool) -> Self {
        let faults = FaultLog::new(
            config.fault_records,
            config.fault_compression,
            config.device_tlb,
        );
        Self {
            index,
            latched: Latched {
                buffered,
                ..Latched::default()
            },
            interrupt_table: 0,
            registers: Registers {
                counters: Counters::new(config.perfmon),
                ..Registers::default()
            },
            caches: Caches::default(),
            queue: Queue::default(),
            faults,
            disturbed: true,
            underway: Vec::new(),
            posted: Vec::new(),
            landing: Vec::new(),
            updated: Vec::new(),
            config,
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.latched.mode()
    }

    /// Whether table reads of root, context, PASID and interrupt entries see caches.
    pub(crate) fn snoops(&self) -> bool {
        self.config.coherent && !self.latched.buffered
    }

    /// A walker with the given choices.
    pub(crate) fn walker<'a>(
        &'a self,
        world: &'a World,
        choose: Chooser<'a>,
        effects: &'a mut Effects,
    ) -> Walker<'a> {
        Walker {
            config: &self.config,
            latched: self.latched,
            caches: &self.caches,
            memory: &*world.memory,
            image: &world.image,
            choose,
            effects,
            now: world.step,
            fpd: false,
        }
    }

    /// Answers one request in the random mode, with all its effects.
    pub(crate) fn request(&mut self, world: &mut World, request: &Request) -> Outcome {
        let mut random = std::mem::take(&mut world.random);
        let mut outcome = Outcome::NoTranslation;
        let mut also = None;
        // A flag update that finds a changed entry makes the walk start over; software that
        // changes entries for ever does not make us wait for ever.
        for _ in 0..16 {
            let mut effects = Effects {
                happenings: self.happenings(),
                ..Effects::default()
            };
            outcome = self
                .walker(world, Chooser::Random(&mut random), &mut effects)
                .answer(request);
            also = effects.logged;
            if let Some(mut happenings) = effects.happenings.take() {
                let updates = effects.updates.len();
                happenings.extend(std::iter::repeat_n(Happening::FLAG_UPDATE, updates));
                self.count(world, &happenings);
            }
            if effects.updates.is_empty() && effects.fills.is_empty() {
                break;
            }
            if self.apply(world, &mut random, &effects) {
                break;
            }
        }
        world.random = random;
        self.report(world, request, &outcome);
        if let Some(condition) = also {
            self.report_condition(world, request, condition);
        }
        outcome
    }

    /// Sets flags and fills caches; false if an entry changed under the walk.
    fn apply(&mut self, world: &mut World, random: &mut fastrand::Rng, effects: &Effects) -> bool {
        for update in &effects.updates {
            self.updated.push(update.hpa);
            match world
                .memory
                .compare_exchange(update.hpa, update.seen, update.seen | update.set)
            {
                Some(Ok(_)) => world.image.stored(&*world.memory, update.hpa, 8),
                // The flag that we set a moment ago, for the same entry.
                Some(Err(found)) if found & !update.set == update.seen & !update.set => {
                    crate::memory::modify(&*world.memory, update.hpa, |cell| cell | update.set);
                }
                _ => return false,
            }
        }
        if self.caches.iotlb.len() > MOST_TRANSLATIONS {
            self.caches.iotlb.clear();
        }
        if self.caches.permissions.pages.len() > MOST_TRANSLATIONS {
            self.caches.permissions.clear();
        }
        for fill in &effects.fills {
            if random.u8(..) < 230 {
                self.fill(fill);
            }
        }
        true
    }

    /// Caches one entry; says whether it was new.
    pub(crate) fn fill(&mut self, fill: &Fill) -> bool {
        match *fill {
            Fill::Context(source, value) => {
                Caches::add(self.caches.contexts.entry(source).or_default(), value)
            }
            Fill::Pasid(source, pasid, value) => Caches::add(
                self.caches.pasids.entry((source, pasid)).or_default(),
                value,
            ),
            Fill::Second(pages, level, address, node) => {
                self.caches.second.add(pages, level, address, node)
            }
            Fill::First(pages, level, address, node) => {
                self.caches.first.add(pages, level, address, node)
            }
            Fill::Translation(source, pasid, address, entry) => {
                self.caches.iotlb.add(source, pasid, address, entry)
            }
            Fill::Permission(source, pasid, address, page) => {
                let pages = &mut self.caches.permissions.pages;
                pages.add(source, pasid, address, page)
            }
            Fill::PermissionTable(domain, level, address, table) => {
                let permissions = &mut self.caches.permissions;
                permissions.add_table(domain, level, address, table)
            }
        }
    }

    /// Logs the fault of an outcome, if it has one to log.
    pub(crate) fn report(&mut self, world: &mut World, request: &Request, outcome: &Outcome) {
        let Outcome::Blocked {
            condition: Some(condition),
            logged: true,
            ..
        } = *outcome
        else {
            return;
        };
        self.report_condition(world, request, condition);
    }

    fn report_condition(&mut self, world: &mut World, request: &Request, condition: Condition) {
        let kind = match (request.kind, request.access) {
            (AddressType::Translation { .. }, _) => RecordKind::Read,
            (_, Access::Write) => RecordKind::Write,
            (_, Access::Atomic) => RecordKind::Atomic,
            (_, Access::Read | Access::ZeroLengthRead) => RecordKind::Read,
        };
        self.log(
            world,
            &Record {
                condition,
                source: request.source,
                info: request.address & self.fault_address_bits(),
                pasid: request.pasid,
                privileged: request.privileged,
                execute: request.execute && kind == RecordKind::Read,
                kind,
                address_type: match request.kind {
                    AddressType::Untranslated => 0,
                    AddressType::Translation { .. } => 1,
                    AddressType::Translated => 2,
                },
            },
        );
    }

    /// Address bits that a record holds: below the largest supported input width
    /// (§11.4.7.6). First-stage addresses are canonical: their upper bits are kept.
    fn fault_address_bits(&self) -> u64 {
        if self.config.first_stage {
            u64::MAX
        } else {
            !crate::config::above(self.config.guest_bits)
        }
    }

    /// Logs a fault and raises the event that is due (§7.3).
    pub(crate) fn log(&mut self, world: &mut World, record: &Record) {
        let before = self.fault_conditions();
        self.faults.log(record);
        self.fault_event(world, before);
    }
}
