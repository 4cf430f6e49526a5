//! Dumps of the units: everything that hardware has and what the driver keeps beside it,
//! decoded or as words (`docs/inspect.md`).

mod kept;
mod lines;
mod live;

pub(crate) use kept::{write_counters, write_domains};
pub(crate) use lines::Lines;
pub(crate) use live::LiveUnit;

use crate::command_line::DumpForm;
use crate::log::report;
use crate::remapping::Remapping;
use alloc::string::String;
use core::fmt::{self, Write};
use vtd_inspect::{Detail, Recorder, UnitView};

/// Takes no text.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

/// Dumps all units into the report.
pub fn dump(remapping: &Remapping, form: DumpForm) {
    for unit in remapping.driver.units() {
        let Some(live) = LiveUnit::new(remapping, unit) else {
            continue;
        };
        // Nothing that takes the lines can fail.
        let _ = match form {
            DumpForm::Text => {
                let mut tell = |line: &str| report::dump(format_args!("{line}"));
                let mut text = Lines::new(&mut tell);
                view(remapping, unit, &live)
                    .write_all(Detail::Leaves, &mut text)
                    .and_then(|()| notes(remapping, unit, &mut text))
            }
            DumpForm::Raw => raw(remapping, unit, &live, &mut Nowhere),
            DumpForm::Both => {
                let mut tell = |line: &str| report::dump(format_args!("{line}"));
                raw(remapping, unit, &live, &mut Lines::new(&mut tell))
            }
        };
    }
}

/// The decoded dump of all units as one text, for tests. Empty if there is no memory for it.
pub fn text(remapping: &Remapping) -> String {
    let mut text = Growing(String::new());
    for unit in remapping.driver.units() {
        if let Some(live) = LiveUnit::new(remapping, unit) {
            let _ = view(remapping, unit, &live)
                .write_all(Detail::Leaves, &mut text)
                .and_then(|()| notes(remapping, unit, &mut text));
        }
    }
    text.0
}

/// Text that grows as long as there is memory.
struct Growing(String);

impl Write for Growing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
        self.0.push_str(text);
        Ok(())
    }
}

fn view<'a>(remapping: &Remapping, unit: u16, source: &'a dyn vtd_inspect::Source) -> UnitView<'a> {
    UnitView {
        unit,
        host_bits: remapping.host_bits,
        source,
    }
}

/// Writes down all words that the text is made of, and the text.
fn raw(remapping: &Remapping, unit: u16, live: &LiveUnit, text: &mut dyn Write) -> fmt::Result {
    let mut sink = report::raw;
    let recorder = Recorder::new(unit, remapping.host_bits, live, &mut sink);
    view(remapping, unit, &recorder).write_all(Detail::Leaves, text)?;
    notes(remapping, unit, text)?;
    let mut tell = |line: &str| report::raw(format_args!("raw note {line}"));
    notes(remapping, unit, &mut Lines::new(&mut tell))
}

/// What the driver keeps and no register or table shows.
fn notes(remapping: &Remapping, unit: u16, out: &mut dyn Write) -> fmt::Result {
    write_domains(remapping, unit, out)?;
    write_counters(remapping, unit, out)
}
