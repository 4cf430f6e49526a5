//! Interrupt remapping and posting (chapter 5).

mod posting;
mod prefetch;

pub use prefetch::PossibleInterrupt;

use crate::caches::Caches;
use crate::choice::Chooser;
use crate::faults::{Condition, Record, RecordKind};
use crate::machine::unit::Unit;
use crate::machine::world::{Message, Origin, World};
use crate::registers::{Happening, IRE};
use crate::tables::interrupt::{Delivery, Irte, SourceCheck};
use crate::tables::{bit, bits, page};

/// What becomes of an interrupt request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InterruptOutcome {
    /// It arrives as this message.
    Delivered(Message),
    /// It was recorded in a posted-interrupt descriptor, with a notification if one is due.
    Posted {
        /// The notification message.
        notification: Option<Message>,
    },
    /// It is blocked.
    Blocked {
        /// Why.
        condition: Condition,
        /// A fault is logged.
        logged: bool,
    },
}

/// The index that a remappable request names (§5.1.3), or what is wrong with it.
pub(crate) fn index(address: u64, data: u32) -> Result<u32, Condition> {
    let handle = (bits(address, 19, 5) | bits(address, 2, 2) << 15) as u32;
    let subhandle_valid = bit(address, 3);
    if subhandle_valid && data >> 16 != 0 {
        return Err(Condition::Irq20);
    }
    Ok(handle + if subhandle_valid { data & 0xffff } else { 0 })
}

impl Unit {
    /// A device or interrupt controller writes `data` to `address` in FEEx_xxxxh.
    pub(crate) fn interrupt(
        &mut self,
        world: &mut World,
        source: u16,
        address: u64,
        data: u32,
    ) -> InterruptOutcome {
        let mut index = None;
        let (result, fpd) = self.remap(world, source, address, data, &mut index);
        match result {
            Ok(outcome) => outcome,
            Err(condition) => {
                let logged = !(fpd && condition.qualified());
                if logged {
                    self.log_interrupt(world, source, index, condition);
                }
                InterruptOutcome::Blocked { condition, logged }
            }
        }
    }

    fn log_interrupt(
        &mut self,
        world: &mut World,
        source: u16,
        index: Option<u32>,
        condition: Condition,
    ) {
        use Condition::{Irq2a, Irq2b, Irq20, Irq25, Irq29};
        // Undefined where the specification says so: rubbish keeps drivers from using it.
        let undefined = matches!(condition, Irq20 | Irq25 | Irq29 | Irq2a | Irq2b);
        let info = if undefined {
            0xdead << 48
        } else {
            u64::from(index.unwrap_or(0)) << 48
        };
        self.log(
            world,
            &Record {
                condition,
                source,
                info,
                pasid: None,
                privileged: false,
                execute: false,
                kind: RecordKind::Write,
                address_type: 0,
            },
        );
    }

    fn remap(
        &mut self,
        world: &mut World,
        source: u16,
        address: u64,
        data: u32,
        found: &mut Option<u32>,
    ) -> (Result<InterruptOutcome, Condition>, bool) {
        let index = match self.gate(address, data) {
            Ok(Some(index)) => index,
            Ok(None) => {
                let origin = Origin::Device(source);
                return (
                    Ok(InterruptOutcome::Delivered(Message {
                        address,
                        data,
                        origin,
                    })),
                    false,
                );
            }
            Err(condition) => return (Err(condition), false),
        };
        *found = Some(index);
        match self.interrupt_entry(world, index) {
            Ok(entry) => (self.deliver(world, source, entry), entry.fpd()),
            Err(condition) => (Err(condition), false),
        }
    }

    /// What is decided before the table: the index to look at, or that the request passes as
    /// it is (§5.1.4).
    pub(crate) fn gate(&self, address: u64, data: u32) -> Result<Option<u32>, Condition> {
        let x2apic = bit(self.interrupt_table, 11);
        if !self.is_set(IRE) {
            return if self.config.remapping_required {
                Err(Condition::Irq2b)
            } else {
                Ok(None)
            };
        }
        if self.config.x2apic_required && !x2apic {
            return Err(Condition::Irq2a);
        }
        if !bit(address, 4) {
            let passes = !x2apic && self.compatibility_format();
            return if passes {
                Ok(None)
            } else {
                Err(Condition::Irq25)
            };
        }
        index(address, data).map(Some)
    }

    /// Whether the table has this entry, below the host address width.
    pub(crate) fn interrupt_index_fits(&self, index: u32) -> bool {
        let at = page(self.interrupt_table) + 16 * u64::from(index);
        index < 2 << bits(self.interrupt_table, 3, 0) && at & self.config.above_host() == 0
    }

    /// The entry, cached or read in one piece (§5.1.4).
    fn interrupt_entry(&mut self, world: &mut World, index: u32) -> Result<Irte, Condition> {
        if !self.interrupt_index_fits(index) {
            return Err(Condition::Irq21);
        }
        let at = page(self.interrupt_table) + 16 * u64::from(index);
        let cached = self
            .caches
            .interrupts
            .get(&index)
            .map_or(0, |values| values.len());
        self.count(world, &[Happening::INTERRUPT_LOOKUP]);
        if cached > 0 && (world.pessimist || world.random.u8(..) < 250) {
            let taken = world.random.usize(..cached);
            let entry = self.caches.interrupts[&index][taken];
            let posted = bit(entry.0[0], 15);
            self.count(
                world,
                &[if posted {
                    Happening::INTERRUPT_HIT_POSTED
                } else {
                    Happening::INTERRUPT_HIT_REMAPPED
                }],
            );
            return Ok(entry);
        }
        let snooped = self.snoops();
        let World {
            memory,
            image,
            random,
            ..
        } = world;
        let words = image.read::<2>(&**memory, at, snooped, &mut Chooser::Random(random));
        let entry = Irte(words.ok_or(Condition::Irq23)?);
        let valid = entry.present()
            && entry
                .delivery(bit(self.interrupt_table, 11), &self.config)
                .is_some();
        if valid || self.config.caching_mode {
            Caches::add(self.caches.interrupts.entry(index).or_default(), entry);
        }
        Ok(entry)
    }

    fn deliver(
        &mut self,
        world: &mut World,
        source: u16,
        entry: Irte,
    ) -> Result<InterruptOutcome, Condition> {
        if !entry.present() {
            return Err(Condition::Irq22);
        }
        let x2apic = bit(self.interrupt_table, 11);
        // §5.1.4 checks the requester first; SVT 11 is a reserved field.
        if let Some(check) = entry.source_check()
            && !accepts(check, source)
        {
            return Err(Condition::Irq26);
        }
        match entry
            .delivery(x2apic, &self.config)
            .ok_or(Condition::Irq24)?
        {
            Delivery::Remapped {
                vector,
                mode,
                level,
                logical,
                hint,
                destination,
            } => {
                let address = 0xfee0_0000
                    | u64::from(destination & 0xff) << 12
                    | u64::from(destination & !0xff) << 32
                    | u64::from(hint) << 3
                    | u64::from(logical) << 2;
                // The level of a remapped message is always "asserted".
                let data =
                    u32::from(vector) | u32::from(mode) << 8 | 1 << 14 | u32::from(level) << 15;
                let message = Message {
                    address,
                    data,
                    origin: Origin::Remapped(source),
                };
                Ok(InterruptOutcome::Delivered(message))
            }
            Delivery::Posted {
                vector,
                urgent,
                descriptor,
            } => self.post(world, source, vector, urgent, descriptor),
        }
    }
}

fn accepts(check: SourceCheck, source: u16) -> bool {
    match check {
        SourceCheck::None => true,
        SourceCheck::Id {
            source: wanted,
            ignored,
        } => (source ^ wanted) & !ignored == 0,
        SourceCheck::Bus { first, last } => (first..=last).contains(&((source >> 8) as u8)),
    }
}
