//! From registers at an address to a unit that only waits for its tables to be put in
//! force: one type for each state, one step between them (§6.6, §6.7, §6.5.2).

use crate::Event;
use crate::abilities::Abilities;
use crate::irq_remap::InterruptTable;
use crate::mode::{ModeChoice, ModeError, ModeRequest};
use crate::page_request::PageRequestQueue;
use crate::queue::{Descriptor, Queue, QueueError, SLOTS};
use crate::registers::{
    Cap, Ecap, Feaddr, Fectl, Fedata, Feuaddr, FrcdHigh, Fsts, Gsts, Iqh, Iqt, Pmen, Registers,
    Rtaddr, TableMode, Ver,
};
use crate::slots::Tables;
use crate::statistics::Counters;
use crate::unit::command::wait_until;
use crate::unit::{Command, Message, Parts, TimeLimits, TimedOut, Unit};
use core::fmt;
use iommu_core::{Hpa, Mmio, Observer, OutOfFrames, Platform, Segment};

/// What the caller knows of a unit before it is looked at: from the DMAR's DRHD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnitDescription {
    /// The caller's number for it; names the unit in events and errors.
    pub index: u16,
    /// The segment of its devices.
    pub segment: Segment,
    /// Where its registers are, for messages; they are reached through [`Mmio`].
    pub register_base: Hpa,
    /// Bits of physical address: the DMAR's host address width.
    pub host_bits: u8,
}

/// Why something is not a unit that can be driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DiscoveryError {
    /// CAP and ECAP read as all ones or all zeroes: nothing answers at this address.
    Silent {
        /// The unit.
        unit: u16,
        /// Where it was looked for.
        register_base: Hpa,
    },
    /// Registers that CAP and ECAP place beyond what is mapped.
    Beyond {
        /// The unit.
        unit: u16,
        /// Bytes that have to be mapped.
        needed: usize,
        /// Bytes that are mapped.
        mapped: usize,
    },
    /// ECAP.QI is 0: the unit has no invalidation queue. Units without one are older than
    /// revision 1.1 of the specification.
    NoQueue {
        /// The unit.
        unit: u16,
    },
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent {
                unit,
                register_base,
            } => write!(f, "unit {unit} at {register_base} does not answer"),
            Self::Beyond {
                unit,
                needed,
                mapped,
            } => write!(
                f,
                "unit {unit} has registers up to {needed:#x}, but {mapped:#x} bytes are mapped"
            ),
            Self::NoQueue { unit } => write!(f, "unit {unit} has no invalidation queue"),
        }
    }
}

/// What firmware, or whoever ran before, left on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FirmwareState {
    /// Translation.
    pub translation: bool,
    /// In scalable mode, if translation is on.
    pub scalable: bool,
    /// In abort-DMA mode, if translation is on.
    pub abort: bool,
    /// The invalidation queue.
    pub queue: bool,
    /// The queue stands still with an error.
    pub queue_error: bool,
    /// Interrupt remapping.
    pub interrupt_remapping: bool,
    /// Protected memory regions.
    pub protected_memory: bool,
    /// Faults are recorded.
    pub faults: bool,
}

/// Why a unit could not be brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BringUpError {
    /// It did not do what it was told.
    TimedOut(TimedOut),
    /// It lacks the mode that was asked for.
    Mode {
        /// The unit.
        unit: u16,
        /// What is missing.
        error: ModeError,
    },
    /// It refused an invalidation, with this IQERCD.IQEI.
    DescriptorRefused {
        /// The unit.
        unit: u16,
        /// Why.
        code: u8,
    },
    /// Interrupt remapping was asked for, and the unit has none (ECAP.IR).
    NoInterruptRemapping {
        /// The unit.
        unit: u16,
    },
    /// 32-bit APIC ids were asked for, and the unit has none (ECAP.EIM).
    NoExtendedInterrupts {
        /// The unit.
        unit: u16,
    },
    /// No memory for tables.
    OutOfFrames(OutOfFrames),
}

impl fmt::Display for BringUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(error) => write!(f, "{error}"),
            Self::Mode { unit, error } => write!(f, "unit {unit}: {error}"),
            Self::DescriptorRefused { unit, code } => {
                write!(f, "unit {unit} refused an invalidation (IQEI {code})")
            }
            Self::NoInterruptRemapping { unit } => {
                write!(f, "unit {unit} has no interrupt remapping (ECAP.IR = 0)")
            }
            Self::NoExtendedInterrupts { unit } => {
                write!(f, "unit {unit} has no 32-bit APIC ids (ECAP.EIM = 0)")
            }
            Self::OutOfFrames(error) => write!(f, "{error}"),
        }
    }
}

impl From<TimedOut> for BringUpError {
    fn from(error: TimedOut) -> Self {
        Self::TimedOut(error)
    }
}

impl From<OutOfFrames> for BringUpError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

impl BringUpError {
    pub(crate) fn of_queue<M: Mmio>(registers: &Registers<M>, error: QueueError) -> Self {
        let unit = registers.unit();
        match error {
            QueueError::TimedOut(waited) => {
                Self::TimedOut(registers.timed_out(Command::Invalidate, waited))
            }
            QueueError::Refused(code) => Self::DescriptorRefused { unit, code },
            // Nothing was asked of a device, so none can have been silent.
            QueueError::Aborted(_) => Self::DescriptorRefused { unit, code: 0 },
        }
    }
}

/// A unit whose abilities are known. Nothing was written to it.
#[derive(Debug)]
pub struct Discovered<M> {
    description: UnitDescription,
    abilities: Abilities,
    registers: Registers<M>,
}

impl<M: Mmio> Discovered<M> {
    /// Looks at the unit behind `mmio`.
    pub fn open<O: Observer<Event>>(
        description: UnitDescription,
        mmio: M,
        observer: &O,
    ) -> Result<Self, DiscoveryError> {
        let unit = description.index;
        let registers = Registers::new(mmio, unit);
        let abilities = Abilities {
            version: registers.read32::<Ver>(),
            cap: registers.read64::<Cap>(),
            ecap: registers.read64::<Ecap>(),
            host_bits: description.host_bits.min(52),
        };
        let words = [abilities.cap.into_bits(), abilities.ecap.into_bits()];
        if words == [0, 0] || words == [u64::MAX, u64::MAX] {
            return Err(DiscoveryError::Silent {
                unit,
                register_base: description.register_base,
            });
        }
        let needed = bytes_needed(&abilities);
        if needed > registers.size() {
            return Err(DiscoveryError::Beyond {
                unit,
                needed,
                mapped: registers.size(),
            });
        }
        if !abilities.ecap.qi() {
            return Err(DiscoveryError::NoQueue { unit });
        }
        observer.observe(&Event::Discovered {
            unit,
            register_base: description.register_base,
            version: abilities.version,
            capability: abilities.cap,
            extended_capability: abilities.ecap,
        });
        Ok(Self {
            description,
            abilities,
            registers,
        })
    }

    /// What the caller said of it.
    pub fn description(&self) -> &UnitDescription {
        &self.description
    }

    /// What it can do.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// What is on now.
    pub fn firmware_state(&self) -> FirmwareState {
        let gsts = self.registers.read32::<Gsts>();
        let fsts = self.registers.read32::<Fsts>();
        let ttm = self.registers.read64::<Rtaddr>().ttm();
        let has_regions = self.abilities.cap.plmr() || self.abilities.cap.phmr();
        FirmwareState {
            translation: gsts.tes(),
            scalable: gsts.tes() && ttm == TableMode::Scalable,
            abort: gsts.tes() && ttm == TableMode::Abort,
            queue: gsts.qies(),
            queue_error: fsts.iqe() || fsts.ite() || fsts.ice(),
            interrupt_remapping: gsts.ires(),
            protected_memory: has_regions && self.registers.read32::<Pmen>().prs(),
            faults: fsts.ppf() || fsts.pfo(),
        }
    }

    /// Turns off what firmware left on, except translation and protected memory, which
    /// keep protecting until our tables are in force.
    pub fn quiesce<P: Platform + Observer<Event>>(
        self,
        platform: &P,
        limits: TimeLimits,
    ) -> Result<Quiesced<M>, BringUpError> {
        let state = self.firmware_state();
        platform.observe(&Event::Firmware {
            unit: self.description.index,
            state,
        });
        let registers = &self.registers;
        registers.write32(platform, Fectl::new().with_im(true));
        if state.interrupt_remapping {
            registers.command(platform, &limits, Command::DisableInterruptRemapping)?;
        }
        if state.queue {
            self.stop_queue(platform, &limits)?;
        }
        clear_faults(registers, &self.abilities, platform);
        Ok(Quiesced {
            description: self.description,
            abilities: self.abilities,
            registers: self.registers,
            limits,
        })
    }

    /// Lets firmware's queue run empty, if it still runs, and turns it off.
    fn stop_queue<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        limits: &TimeLimits,
    ) -> Result<(), TimedOut> {
        let registers = &self.registers;
        let empty =
            || registers.read64::<Iqh>().into_bits() == registers.read64::<Iqt>().into_bits();
        let stands_still = || {
            let status = registers.read32::<Fsts>();
            status.iqe() || status.ite()
        };
        let waited = wait_until(platform, limits.command, || empty() || stands_still());
        if waited.is_err() || !empty() {
            platform.observe(&Event::FirmwareQueueNotEmpty {
                unit: registers.unit(),
            });
        }
        registers.command(platform, limits, Command::DisableQueue)
    }
}

/// Bytes of registers that the unit has, as far as the driver uses them.
fn bytes_needed(abilities: &Abilities) -> usize {
    let records = abilities.cap.fault_records().saturating_mul(16);
    let faults = abilities.cap.fault_records_at().saturating_add(records);
    faults.max(0x100)
}

/// Clears all fault records, then what FSTS keeps (§7.2).
fn clear_faults<M: Mmio, P: Observer<Event>>(
    registers: &Registers<M>,
    abilities: &Abilities,
    platform: &P,
) {
    for index in 0..abilities.cap.fault_records() {
        crate::fault::clear_record(registers, abilities, platform, index);
    }
    let status = registers.read32::<Fsts>();
    let cleared = status.into_bits() & fsts_write_one_to_clear().into_bits();
    if cleared != 0 {
        registers.write32(platform, Fsts::from_bits(cleared));
    }
}

fn fsts_write_one_to_clear() -> Fsts {
    Fsts::new()
        .with_pfo(true)
        .with_iqe(true)
        .with_ice(true)
        .with_ite(true)
}

/// How interrupts shall be remapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct InterruptConfig {
    /// Log2 of the number of entries, 8 to 16.
    pub entries_log2: u8,
    /// APIC ids have 32 bits (x2APIC mode).
    pub extended: bool,
}

/// What a unit shall be. The default remaps no interrupts and raises none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnitConfig {
    /// The mode.
    pub mode: ModeRequest,
    /// Interrupt remapping; `None` leaves it off.
    pub interrupts: Option<InterruptConfig>,
    /// What the fault event sends; `None` keeps it masked, and faults are found by
    /// asking for them.
    pub fault_message: Option<Message>,
    /// Page requests; `None` leaves them off. Ignored by units that have none.
    pub page_requests: Option<PageRequestConfig>,
}

/// How page requests are received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRequestConfig {
    /// Log2 of the pages of the queue, 0 to 7; each holds 128 requests. Twice what all
    /// devices can have outstanding is enough.
    pub pages_log2: u8,
    /// What the event sends; `None` keeps it masked.
    pub message: Option<Message>,
}

/// A unit that does nothing but what firmware's translation still does.
#[derive(Debug)]
pub struct Quiesced<M> {
    description: UnitDescription,
    abilities: Abilities,
    registers: Registers<M>,
    limits: TimeLimits,
}

impl<M: Mmio> Quiesced<M> {
    /// Turns queue, interrupt remapping and fault event on, and makes empty tables that
    /// are not in force yet. Do this for all units before the first is enabled.
    pub fn prepare<P: Platform + Observer<Event>>(
        self,
        platform: &P,
        config: &UnitConfig,
    ) -> Result<Ready<M>, BringUpError> {
        let unit = self.description.index;
        let choice = self
            .abilities
            .choose(config.mode)
            .map_err(|error| BringUpError::Mode { unit, error })?;
        self.check_interrupts(config.interrupts)?;
        platform.observe(&Event::ModeChosen { unit, choice });
        let memory = Memory::allocate(platform, &self.abilities, choice, config)?;
        let limits = self.limits;
        let unit = self.assemble(choice, memory, config);
        let result = turn_on(&unit, platform, &limits, config);
        match result {
            Ok(()) => Ok(Ready { unit }),
            Err(error) => {
                abandon(unit, platform, &limits);
                Err(error)
            }
        }
    }

    fn check_interrupts(&self, wanted: Option<InterruptConfig>) -> Result<(), BringUpError> {
        let unit = self.description.index;
        let Some(wanted) = wanted else {
            return Ok(());
        };
        if !self.abilities.ecap.ir() {
            return Err(BringUpError::NoInterruptRemapping { unit });
        }
        if wanted.extended && !self.abilities.ecap.eim() {
            return Err(BringUpError::NoExtendedInterrupts { unit });
        }
        Ok(())
    }

    fn assemble(self, choice: ModeChoice, memory: Memory, config: &UnitConfig) -> Unit<M> {
        Unit::new(Parts {
            segment: self.description.segment,
            abilities: self.abilities,
            choice,
            limits: self.limits,
            registers: self.registers,
            queue: memory.queue,
            tables: memory.tables,
            interrupts: memory.interrupts,
            page_requests: memory.page_requests,
            counters: Counters::default(),
            fault_message: config.fault_message,
            page_request_message: config.page_requests.and_then(|wanted| wanted.message),
        })
    }
}

/// All that a unit needs, allocated before it is told anything.
struct Memory {
    queue: Queue,
    tables: Tables,
    interrupts: Option<InterruptTable>,
    page_requests: Option<PageRequestQueue>,
}

impl Memory {
    fn allocate<P: Platform>(
        platform: &P,
        abilities: &Abilities,
        choice: ModeChoice,
        config: &UnitConfig,
    ) -> Result<Self, OutOfFrames> {
        let queue = Queue::new(platform, abilities.wide_descriptors())?;
        let tables = match Tables::new(platform, *abilities, choice.mode().is_scalable()) {
            Ok(tables) => tables,
            Err(error) => {
                queue.dispose(platform);
                return Err(error);
            }
        };
        let mut memory = Self {
            queue,
            tables,
            interrupts: None,
            page_requests: None,
        };
        match memory.allocate_rest(platform, abilities, choice, config) {
            Ok(()) => Ok(memory),
            Err(error) => {
                memory.dispose(platform);
                Err(error)
            }
        }
    }

    fn allocate_rest<P: Platform>(
        &mut self,
        platform: &P,
        abilities: &Abilities,
        choice: ModeChoice,
        config: &UnitConfig,
    ) -> Result<(), OutOfFrames> {
        if let Some(wanted) = config.interrupts {
            self.interrupts = Some(InterruptTable::new(
                platform,
                wanted.entries_log2,
                wanted.extended,
                abilities.table_coherence(),
            )?);
        }
        let can_ask = choice.mode().is_scalable() && abilities.ecap.prs();
        if let Some(wanted) = config.page_requests.filter(|_| can_ask) {
            self.page_requests = Some(PageRequestQueue::new(platform, wanted.pages_log2)?);
        }
        Ok(())
    }

    fn dispose<P: Platform>(self, platform: &P) {
        self.queue.dispose(platform);
        self.tables.dispose(platform);
        if let Some(interrupts) = self.interrupts {
            interrupts.dispose(platform);
        }
        if let Some(page_requests) = self.page_requests {
            page_requests.dispose(platform);
        }
    }
}

fn turn_on<M: Mmio, P: Platform + Observer<Event>>(
    unit: &Unit<M>,
    platform: &P,
    limits: &TimeLimits,
    config: &UnitConfig,
) -> Result<(), BringUpError> {
    unit.queue.program(platform, &unit.registers);
    unit.registers
        .command(platform, limits, Command::EnableQueue)?;
    platform.observe(&Event::QueueOn {
        unit: unit.index(),
        slots: SLOTS,
    });
    if let Some(table) = &unit.interrupts {
        remap_interrupts(unit, table, platform, limits)?;
    }
    if let (Some(queue), Some(wanted)) = (&unit.page_requests, config.page_requests) {
        queue.program(&unit.registers, platform, wanted.message);
    }
    if let Some(message) = config.fault_message {
        program_fault_event(&unit.registers, platform, message);
    }
    Ok(())
}

/// §6.7: table, pointer, entry cache, then on, and compatibility format blocked.
pub(crate) fn remap_interrupts<M: Mmio, P: Platform + Observer<Event>>(
    unit: &Unit<M>,
    table: &InterruptTable,
    platform: &P,
    limits: &TimeLimits,
) -> Result<(), BringUpError> {
    let registers = &unit.registers;
    unit.flush_write_buffer(platform)?;
    registers.write64(platform, table.register());
    registers.command(platform, limits, Command::SetInterruptTable)?;
    if !unit.abilities.interrupt_table_change_invalidates() {
        unit.invalidate(platform, &[Descriptor::InterruptCache(None)])
            .map_err(|error| BringUpError::of_queue(registers, error))?;
    }
    if registers.read32::<Gsts>().cfis() {
        registers.command(platform, limits, Command::BlockCompatibilityFormat)?;
    }
    registers.command(platform, limits, Command::EnableInterruptRemapping)?;
    platform.observe(&Event::InterruptRemappingOn {
        unit: registers.unit(),
        entries: table.entries(),
        extended: table.is_extended(),
    });
    Ok(())
}

/// 32-bit accesses only, control last: clearing IM may send a pending message at once.
pub(crate) fn program_fault_event<M: Mmio, O: Observer<Event>>(
    registers: &Registers<M>,
    observer: &O,
    message: Message,
) {
    registers.write32(observer, Fedata::new().with_imd(message.data));
    registers.write32(observer, Feaddr::from_bits(message.address as u32 & !3));
    registers.write32(
        observer,
        Feuaddr::new().with_mua((message.address >> 32) as u32),
    );
    registers.write32(observer, Fectl::new());
}

/// Undoes what [`turn_on`] may have done. Memory that the unit will not let go of is kept.
fn abandon<M: Mmio, P: Platform + Observer<Event>>(
    unit: Unit<M>,
    platform: &P,
    limits: &TimeLimits,
) {
    let registers = &unit.registers;
    registers.write32(platform, Fectl::new().with_im(true));
    let status = registers.read32::<Gsts>();
    let remapping_off = !status.ires()
        || registers
            .command(platform, limits, Command::DisableInterruptRemapping)
            .is_ok();
    let queue_off = !status.qies()
        || registers
            .command(platform, limits, Command::DisableQueue)
            .is_ok();
    if let Some(table) = unit.interrupts.filter(|_| remapping_off) {
        table.dispose(platform);
    }
    if queue_off {
        unit.queue.dispose(platform);
    }
    if let Some(page_requests) = unit.page_requests {
        // No context entry lets a device ask, so nothing is written there.
        page_requests.dispose(platform);
    }
    unit.tables.into_inner().dispose(platform);
}

/// A unit whose queue, interrupt remapping and fault event work. Its tables are ours to
/// fill through [`Driver`](crate::Driver), and not in force.
#[derive(Debug)]
pub struct Ready<M> {
    pub(crate) unit: Unit<M>,
}

impl<M: Mmio> Ready<M> {
    /// The caller's number for it.
    pub fn index(&self) -> u16 {
        self.unit.index()
    }

    /// What it can do.
    pub fn abilities(&self) -> &Abilities {
        &self.unit.abilities
    }

    /// Its mode, and why.
    pub fn mode(&self) -> ModeChoice {
        self.unit.choice
    }

    /// Whether enabling it needs translation, which firmware left on, to be off for a
    /// moment, because the table mode changes and the unit cannot do that live. The caller
    /// then keeps other bus masters from doing DMA meanwhile.
    pub fn needs_translation_window(&self) -> bool {
        self.unit.needs_translation_window()
    }
}

impl FrcdHigh {
    /// A write that clears F, as the 32-bit word at offset 12.
    pub(crate) const CLEAR: u32 = 1 << 31;
}
