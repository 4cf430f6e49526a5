//! What the driver keeps beside the tables: domains and counters.

use crate::remapping::{Remapping, faults};
use core::fmt::{self, Write};
use vtd::Inspected;

/// Writes what each device, or PASID of it, is attached to.
pub(crate) fn write_domains(remapping: &Remapping, unit: u16, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "unit {unit}: domains")?;
    let mut result = Ok(());
    let mut any = false;
    remapping.driver.inspect(unit, &mut |inspected| {
        if let Inspected::Attachment { .. } = inspected {
            any = true;
            if result.is_ok() {
                result = write_attachment(inspected, out);
            }
        }
    });
    result?;
    if any {
        Ok(())
    } else {
        writeln!(out, "  every device is blocked")
    }
}

fn write_attachment(inspected: &Inspected, out: &mut dyn Write) -> fmt::Result {
    let &Inspected::Attachment {
        slot,
        domain,
        format,
        domain_id,
        leaving,
    } = inspected
    else {
        return Ok(());
    };
    write!(out, "  {}", slot.device)?;
    if let Some(pasid) = slot.pasid {
        write!(out, ", PASID {}", pasid.as_u32())?;
    }
    match (domain, format) {
        (Some(domain), Some(format)) => write!(
            out,
            ": domain {} with tables of {} levels ({} bits)",
            domain.index,
            format.levels(),
            format.input_bits()
        )?,
        (Some(domain), None) => write!(out, ": nested domain {}", domain.index)?,
        (None, _) => write!(out, ": pass-through")?,
    }
    writeln!(
        out,
        ", domain id {domain_id}{}",
        if leaving {
            "; detached, and hardware has not confirmed that it forgot"
        } else {
            ""
        }
    )
}

/// Writes what was counted, and how long waits took.
pub(crate) fn write_counters(remapping: &Remapping, unit: u16, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "unit {unit}: counters")?;
    let Some(counted) = remapping.driver.statistics(unit) else {
        return writeln!(out, "  there is no such unit");
    };
    writeln!(
        out,
        "  queue: {} descriptors, {} doorbells, {} waits, {} refills, {} errors, {} time-outs",
        counted.descriptors,
        counted.doorbells,
        counted.waits,
        counted.refills,
        counted.queue_errors,
        counted.timeouts
    )?;
    let times = counted.wait_times;
    writeln!(
        out,
        "  waits took {} ns at least, {} ns in the median, {} ns at most",
        times.least, times.median, times.most
    )?;
    writeln!(
        out,
        "  faults: {} taken, {} times some were lost, {} interrupts; {} page requests",
        counted.faults,
        counted.fault_overflows,
        faults::interrupts(),
        counted.page_requests
    )
}
