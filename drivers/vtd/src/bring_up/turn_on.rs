//! Queue, interrupt remapping and events: on, and off again where a step failed.

use super::{BringUpError, UnitConfig};
use crate::Event;
use crate::irq_remap::InterruptTable;
use crate::queue::{Descriptor, SLOTS};
use crate::registers::{Feaddr, Fectl, Fedata, Feuaddr, Gsts, Registers};
use crate::unit::{Command, Message, TimeLimits, Unit};
use iommu_core::{Mmio, Observer, Platform};

pub(super) fn turn_on<M: Mmio, P: Platform + Observer<Event>>(
    unit: &Unit<M>,
    platform: &P,
    limits: &TimeLimits,
    config: &UnitConfig,
) -> Result<(), BringUpError> {
    match &unit.queue {
        Some(queue) => {
            queue.program(platform, &unit.registers);
            unit.registers
                .command(platform, limits, Command::EnableQueue)?;
            platform.observe(&Event::QueueOn {
                unit: unit.index(),
                slots: SLOTS,
            });
        }
        None => platform.observe(&Event::NoQueue { unit: unit.index() }),
    }
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
pub(super) fn abandon<M: Mmio, P: Platform + Observer<Event>>(
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
    if let Some(queue) = unit.queue.filter(|_| queue_off) {
        queue.dispose(platform);
    }
    if let Some(page_requests) = unit.page_requests {
        // No context entry lets a device ask, so nothing is written there.
        page_requests.dispose(platform);
    }
    unit.tables.into_inner().dispose(platform);
}
